"""Every output, over the table: what it writes, another program reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.classes import Classes
from segkit.formats.annotations import labelme
from segkit.formats.options import ReadOptions
from segkit.imaging.letterbox import LetterBox
from segkit.imaging.overlay import RENDERS, colorize, overlay, render
from segkit.inference.segmentation import Segmentation
from segkit.prediction.outputs import Prediction, Style
from segkit.prediction.pixel_outputs import normalized_entropy
from segkit.prediction.table import OUTPUTS, build_outputs

CLASSES = Classes.build(["background", "road/lane", "=car"], colors=[(0, 0, 0), (250, 0, 0), (0, 0, 250)])


def predict(hw: tuple[int, int], num_classes: int, *, min_confidence: float = 0.0, name: str = "deep/a") -> Prediction:
    """A prediction of blobs, with an image of noise."""
    rng = np.random.default_rng(0)
    small = rng.normal(0, 4, (num_classes, 6, 8)).astype(np.float32)
    box = LetterBox.fit(hw, (6, 8))
    image = rng.integers(0, 256, (*hw, 3), np.uint8)
    return Prediction(name, Path("in") / f"{name}.jpg", image, Segmentation(small, box, None, min_confidence))


def write(
    folder: Path, kinds: list[str], *predictions: Prediction, classes: Classes = CLASSES, **style: object
) -> None:
    outputs = build_outputs(folder, classes, kinds, style=Style(**style))  # type: ignore[arg-type]
    for prediction in predictions:
        for output in outputs:
            output.write(prediction)
    for output in outputs:
        output.finish([(prediction.name, prediction.source) for prediction in predictions])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize(("hw", "num_classes"), [((1, 1), 2), ((7, 9), 3), ((30, 40), 200)])
def test_each_output_writes_whole_files_of_any_size_and_number_of_classes(
    tmp_path: Path, kind: str, hw: tuple[int, int], num_classes: int
) -> None:
    classes = Classes.build([f"class {k}" for k in range(num_classes)])
    write(tmp_path, [kind], predict(hw, num_classes), classes=classes)
    files = [path for path in tmp_path.rglob("*") if (path.is_file() and path.parts[-2] != "masks") or kind == "masks"]
    assert files
    assert not list(tmp_path.rglob(".*"))


def test_masks_are_written_last(tmp_path: Path) -> None:
    assert [type(output).__name__ for output in build_outputs(tmp_path, CLASSES, list(OUTPUTS))][-1] == "Masks"


def test_an_unknown_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="maskz: no such output"):
        build_outputs(tmp_path, CLASSES, ["maskz"])


def test_probabilities_as_an_array_are_those_of_the_segmentation(tmp_path: Path) -> None:
    prediction = predict((30, 40), 3)
    write(tmp_path, ["probabilities_npz"], prediction)
    with np.load(tmp_path / "probabilities" / "deep" / "a.npz", allow_pickle=False) as content:
        assert content["probabilities"].dtype == np.float16
        assert np.abs(content["probabilities"] - prediction.segmentation.probabilities).max() < 1e-3
        assert json.loads(str(content["classes"])) == list(CLASSES.names)


def test_probabilities_as_images_are_rounded_to_255_steps(tmp_path: Path) -> None:
    prediction = predict((30, 40), 3)
    write(tmp_path, ["probabilities_png"], prediction)
    files = sorted((tmp_path / "probabilities" / "deep" / "a").iterdir())
    assert [file.name for file in files] == ["000_background.png", "001_road_lane.png", "002__car.png"]
    for file, plane in zip(files, prediction.segmentation.probabilities, strict=True):
        assert np.abs(pixels(file) / 255 - plane).max() <= 0.5 / 255 + 1e-6


def test_entropy_is_0_for_certainty_and_1_for_a_guess() -> None:
    certain, guess = np.zeros((4, 1, 1), np.float32), np.full((4, 1, 1), 0.25, np.float32)
    certain[2] = 1
    assert normalized_entropy(certain).item() == 0
    assert normalized_entropy(guess).item() == pytest.approx(1)


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools' decode isn't ready for numpy 2
@pytest.mark.parametrize("kind", ["coco_polygons", "coco_runs"])
def test_coco_is_read_by_pycocotools_and_covers_the_mask(tmp_path: Path, kind: str) -> None:
    from pycocotools.coco import COCO

    first, second = predict((30, 40), 3), predict((12, 16), 3, name="b")
    write(tmp_path, [kind], first, second)
    coco = COCO(str(tmp_path / "coco.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == ["in/deep/a.jpg", "in/b.jpg"]
    for image_id, prediction in enumerate((first, second), start=1):
        drawn = np.zeros(prediction.segmentation.mask.shape, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
            assert kind == "coco_polygons" or isinstance(annotation["segmentation"], dict)
            drawn[coco.annToMask(annotation) > 0] = annotation["category_id"]
        assert np.array_equal(drawn, prediction.segmentation.mask)


def test_coco_is_the_same_whoever_wrote_the_masks(tmp_path: Path) -> None:
    predictions = [predict((30, 40), 3), predict((12, 16), 3, name="b")]
    write(tmp_path / "one", ["coco_polygons", "areas"], *predictions)
    for prediction in predictions:
        write(tmp_path / "two", [], prediction)
    for output in build_outputs(tmp_path / "two", CLASSES, ["coco_polygons", "areas"]):
        output.finish([(prediction.name, prediction.source) for prediction in predictions])
    for name in ("coco.json", "areas.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_labelme_reads_back_the_mask(tmp_path: Path) -> None:
    prediction = predict((30, 40), 3, min_confidence=0.6)
    assert (prediction.segmentation.mask == 255).any()
    image = tmp_path / "in" / "deep" / "a.png"
    image.parent.mkdir(parents=True)
    Image.fromarray(prediction.image).save(image)
    prediction = Prediction(prediction.name, image, prediction.image, prediction.segmentation)
    write(tmp_path, ["labelme"], prediction)
    samples = labelme.read(tmp_path / "labelme", ReadOptions(classes=CLASSES.names))
    ((sample,),) = samples.splits.values()
    assert np.array_equal(sample.read_mask(), prediction.segmentation.mask)


def test_geojson_polygons_cover_their_pixels(tmp_path: Path) -> None:
    from rasterio.features import rasterize

    prediction = predict((30, 40), 3)
    write(tmp_path, ["geojson"], prediction)
    content = json.loads((tmp_path / "geojson" / "deep" / "a.geojson").read_text())
    shapes = [(feature["geometry"], feature["properties"]["class_id"]) for feature in content["features"]]
    assert np.array_equal(rasterize(shapes, (30, 40), dtype="uint8"), prediction.segmentation.mask)
    total = sum(feature["properties"]["pixels"] for feature in content["features"])
    assert total == np.count_nonzero(prediction.segmentation.mask)


def test_areas_count_pixels_and_objects_of_each_class(tmp_path: Path) -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = 1  # they share a corner
    mask[4:, 4:] = 1
    mask[5, 0] = 255
    logits = np.stack([(mask == k).astype(np.float32) for k in range(3)])
    segmentation = Segmentation(logits, LetterBox.fit((6, 6), (6, 6)), None, 0.4)  # no class leads where it is 255
    assert np.array_equal(segmentation.mask, mask)
    write(tmp_path, ["areas"], Prediction("a", Path("in/a.jpg"), np.zeros((6, 6, 3), np.uint8), segmentation))
    assert (tmp_path / "areas.csv").read_text().splitlines() == [
        "input,class_id,class,pixels,share,objects,largest_object",
        "in/a.jpg,0,background,29,0.805556,1,29",
        "in/a.jpg,1,road/lane,6,0.166667,2,4",
    ]


@pytest.mark.parametrize("kind", RENDERS)
def test_overlays_look_as_the_render_says(tmp_path: Path, kind: str) -> None:
    prediction = predict((30, 40), 3, min_confidence=0.5)
    mask = prediction.segmentation.mask
    write(tmp_path, ["overlays"], prediction, render=kind)
    (file,) = (tmp_path / "overlays" / "deep").iterdir()
    assert file.suffix == (".png" if kind == "cutout" else ".jpg")
    shown = pixels(file)
    if kind == "cutout":
        kept = (mask != 0) & (mask != 255)
        assert np.array_equal(shown[:, :, 3] > 0, kept)
        assert np.array_equal(shown[kept][:, :3], prediction.image[kept])
    elif kind == "mask":
        assert np.abs(shown.astype(int) - colorize(mask, CLASSES)).mean() < 30  # a JPEG, whose colours are coarser
    elif kind == "contours":
        plain = np.full_like(prediction.image, 90)
        outlined = (render(plain, mask, CLASSES, kind=kind) != plain).any(axis=2)
        assert outlined.any()
        assert not outlined[(mask == 0) | (mask == 255)].any()


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_opacity_goes_from_the_image_to_the_colours(opacity: float) -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    mask = np.ones((4, 4), np.uint8)
    expected = (250, 0, 0) if opacity else (100, 100, 100)
    assert (overlay(image, mask, CLASSES, opacity=opacity) == expected).all()
