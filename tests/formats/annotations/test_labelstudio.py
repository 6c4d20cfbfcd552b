import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.labelstudio import decode_brush, read
from segkit.formats.options import ReadOptions

SIZE = {"original_width": 10, "original_height": 8}


def encode_brush(alpha: np.ndarray, *, sizes: Sequence[int] = (3, 4, 8, 16), shortest: int = 2) -> list[int]:
    """The stream that `decode_brush` documents, written the other way: RGBA with colour 9, 8, 7 below the stroke.

    Equal bytes from `shortest` on are a run, all others single words.
    """
    values = np.stack([np.full_like(alpha, 9), np.full_like(alpha, 8), np.full_like(alpha, 7), alpha], axis=2)
    values[alpha == 0] = 0
    flat = values.reshape(-1).tolist()
    bits = f"{len(flat):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)

    def head(run: bool, length: int) -> str:
        place = next(k for k, size in enumerate(sizes) if length <= 2**size)
        return f"{run:b}{place:02b}{length - 1:0{sizes[place]}b}"

    singles: list[int] = []

    def flush() -> str:
        text = ""
        while singles:
            block = [singles.pop(0) for _ in range(min(len(singles), 2 ** sizes[-1]))]
            text += head(False, len(block)) + "".join(f"{value:08b}" for value in block)
        return text

    start = 0
    while start < len(flat):
        end = start
        while end < len(flat) and flat[end] == flat[start] and end - start < 2 ** sizes[-1]:
            end += 1
        if end - start >= shortest:
            bits += flush() + head(True, end - start) + f"{flat[start]:08b}"
        else:
            singles += flat[start:end]
        start = end
    bits += flush()
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def brush(alpha: np.ndarray, label: str = "dog", **more: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(alpha), "brushlabels": [label]}
    return {"type": "brushlabels", "value": value, **SIZE, **more}


def polygon(points: list[list[float]], label: str = "dog", **more: Any) -> dict[str, Any]:
    return {"type": "polygonlabels", "value": {"points": points, "polygonlabels": [label]}, **SIZE, **more}


def rectangle(x: float, y: float, width: float, height: float, label: str = "dog", **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [label], **more}
    return {"type": "rectanglelabels", "value": value, **SIZE}


def task(*results: dict[str, Any], image: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(results)}], **more}


def export(root: Path, *tasks: Any) -> Path:
    for name in ("a", "b"):
        Image.new("RGB", (10, 8)).save(root / f"{name}.png")
    (root / "export.json").write_text(json.dumps(tasks))
    return root


def mask_of(root: Path, *results: dict[str, Any]) -> np.ndarray:
    return read(export(root, task(*results)), ReadOptions()).splits["all"][0].read_mask()


def area(top: int, bottom: int, left: int, right: int, value: int = 255) -> np.ndarray:
    alpha = np.zeros((8, 10), np.uint8)
    alpha[top:bottom, left:right] = value
    return alpha


# ---- strokes


@pytest.mark.parametrize("sizes", [(3, 4, 8, 16), (1, 2, 3, 4), (16, 16, 16, 16)])
@pytest.mark.parametrize("shortest", [1, 2, 5])
def test_strokes_survive_the_round_trip(sizes: Sequence[int], shortest: int) -> None:
    rng = np.random.default_rng(0)
    for density in (0.0, 0.1, 0.5, 1.0):
        alpha = (rng.random((23, 31)) < density).astype(np.uint8) * 255
        encoded = encode_brush(alpha, sizes=sizes, shortest=shortest)
        assert (decode_brush(encoded, (23, 31), where="x") == (alpha > 0)).all()


def test_a_stroke_written_by_hand() -> None:
    """One pixel, opaque red: 4 bytes; word size 8; sizes 3, 4, 8, 16; singles: 255, then a run of two 0, then 255."""
    bits = f"{4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "0" + "00" + "000" + "11111111" + "1" + "00" + "001" + "00000000" + "0" + "00" + "000" + "11111111"
    bits += "0" * (-len(bits) % 8)
    stream = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert decode_brush(stream, (1, 1), where="x").tolist() == [[True]]


def test_a_pixel_counts_from_half_opacity_on() -> None:
    alpha = np.array([[0, 127, 128, 255]], np.uint8)
    assert decode_brush(encode_brush(alpha), (1, 4), where="x").tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rle: rle[:-3], "ends after"),
        (lambda rle: rle[:5], "isn't RGBA of 10x8"),
        (lambda rle: [], "isn't RGBA"),
        (lambda rle: [0, 0, 1, 0, *rle[4:]], "isn't RGBA"),
        (lambda rle: [*rle[:10], 256, *rle[11:]], "outside 0..255"),
        (lambda rle: [*rle[:7], *[255] * 40], "ends after"),
    ],
)
def test_a_broken_stroke_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    result = brush(area(2, 5, 3, 7))
    result["value"]["rle"] = change(result["value"]["rle"])
    with pytest.raises(DataError, match=f"task 1 brush: .*{message}"):
        mask_of(tmp_path, result)


# ---- shapes


def test_a_stroke_is_drawn_at_its_place(tmp_path: Path) -> None:
    assert (mask_of(tmp_path, brush(area(2, 5, 3, 7))) == area(2, 5, 3, 7, 1)).all()


def test_polygons_and_rectangles_are_in_percent(tmp_path: Path) -> None:
    mask = mask_of(tmp_path, polygon([[0, 0], [50, 0], [50, 25], [0, 25]]), rectangle(60, 50, 20, 25, "cat"))
    assert (mask == area(0, 2, 0, 5, 2) + area(4, 6, 6, 8, 1)).all()


def test_a_rectangle_turns_about_its_top_left_corner(tmp_path: Path) -> None:
    """In pixels, though its numbers are percent: from (5, 1), 3 wide and 2 high, to the lower left."""
    mask = mask_of(tmp_path, rectangle(50, 12.5, 30, 25, rotation=90))
    assert (mask == area(1, 4, 3, 5, 1)).all()


def test_an_ellipses_numbers_are_its_centre_and_radii(tmp_path: Path) -> None:
    value = {"x": 50, "y": 50, "radiusX": 30, "radiusY": 12.5, "ellipselabels": ["dog"]}
    mask = mask_of(tmp_path, {"type": "ellipselabels", "value": value, **SIZE})
    assert mask.sum() == mask[3:5, 2:8].sum() == 12  # 6 by 2 pixels about (5, 4)


def test_later_results_cover_earlier_ones(tmp_path: Path) -> None:
    mask = mask_of(tmp_path, brush(area(0, 4, 0, 4), "dog"), brush(area(2, 6, 2, 6), "cat"))
    assert (mask[0, 0], mask[3, 3]) == (2, 1)


def test_labels_in_a_result_of_their_own_belong_to_the_region_with_their_id(tmp_path: Path) -> None:
    shape = {"id": "r1", "type": "rectangle", "value": {"x": 0, "y": 0, "width": 50, "height": 50}, **SIZE}
    label = {"id": "r1", "type": "labels", "value": {"labels": ["cow"]}, **SIZE}
    samples = read(export(tmp_path, task(shape, label)), ReadOptions())
    assert samples.classes.names == ("background", "cow")
    assert (samples.splits["all"][0].read_mask() == area(0, 4, 0, 5, 1)).all()


# ---- tasks


def test_ground_truth_counts_then_the_last_update_never_what_was_cancelled(tmp_path: Path) -> None:
    def annotation(label: str, **more: Any) -> dict[str, Any]:
        return {"result": [rectangle(0, 0, 100, 100, label)], **more}

    def label_of(*annotations: dict[str, Any]) -> str:
        given = {"id": 1, "data": {"image": "a.png"}, "annotations": list(annotations)}
        samples = read(export(tmp_path, given), ReadOptions())
        assert samples.splits["all"][0].read_mask().all()
        return samples.classes.names[1]

    early = annotation("early", updated_at="2024-01-02T10:00:00Z")
    late = annotation("late", updated_at="2024-03-01T10:00:00Z")
    skipped = annotation("skipped", updated_at="2025-01-01T10:00:00Z", was_cancelled=True)
    assert label_of(late, early, skipped) == "late"
    assert label_of({**early, "ground_truth": True}, late) == "early"
    given = {"id": 1, "data": {"image": "a.png"}, "annotations": [early, late]}
    assert "1 image with several annotations" in read(export(tmp_path, given), ReadOptions()).notes[0]


def test_tasks_without_an_annotation_are_left_out_and_older_exports_are_read(tmp_path: Path) -> None:
    old = {"id": 2, "data": {"image": "b.png"}, "completions": [{"result": [rectangle(0, 0, 10, 10)]}]}
    skipped = task(image="a.png", annotations=[{"result": [], "was_cancelled": True}])
    samples = read(export(tmp_path, skipped, old), ReadOptions())
    assert [sample.name for sample in samples.splits["all"]] == ["b"]
    assert "1 task without an annotation left out" in samples.notes


def test_an_empty_annotation_is_a_image_without_objects(tmp_path: Path) -> None:
    samples = read(export(tmp_path, task(), task(rectangle(0, 0, 10, 10), image="b.png")), ReadOptions())
    assert not samples.splits["all"][0].read_mask().any()


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/a.png",
        "/data/upload/3/0123abcd-a.png",
        "/data/local-files/?d=photos/day%201/a.png",
        "s3://bucket/photos/a.png",
        "https://example.org/x/a.png?token=1",
        "C:\\photos\\a.png",
    ],
)
def test_a_image_is_looked_up_by_its_name(tmp_path: Path, address: str) -> None:
    samples = read(export(tmp_path, task(rectangle(0, 0, 10, 10), image=address)), ReadOptions())
    assert samples.splits["all"][0].image == tmp_path / "a.png"


def test_results_without_area_and_regions_without_a_label_are_said(tmp_path: Path) -> None:
    choice = {"type": "choices", "value": {"choices": ["good"]}}
    point = {"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["eye"]}, **SIZE}
    bare = polygon([[0, 0], [9, 0], [9, 9]])
    bare["value"]["polygonlabels"] = []
    samples = read(export(tmp_path, task(choice, point, bare, rectangle(0, 0, 9, 9))), ReadOptions())
    assert "skipped: 1 choices, 1 keypointlabels, 1 polygon without a label" in samples.notes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"not": "a list"}, "its top"),
        ([{"id": 1}], "0.data"),
        ([{"id": 1, "image": "a.png", "data": {"image": "a.png"}}], "JSON-MIN"),
        ([task(rectangle(0, 0, 9, 9), image="c.png")], "no image 'c.png'"),
        ([task(rectangle(0, 0, 9, 9)), task(rectangle(0, 0, 9, 9))], "another task's too"),
        ([{"id": 1, "data": {"text": "hello"}, "annotations": [{"result": []}]}], "no image in its data"),
        (
            [task({"type": "brushlabels", "value": {"brushlabels": ["a", "b"]}, **SIZE})],
            "result 0: found the labels a, b",
        ),
        ([task({"type": "brushlabels", "value": {"brushlabels": "a"}, **SIZE})], "result 0"),
        ([task(polygon([[0, 0], [9, 0], [9, 9]], image_rotation=90))], "rotated by 90 degrees"),
        ([task({"type": "polygonlabels", "value": {"polygonlabels": ["a"]}})], "no original_width"),
        ([task({"value": {}})], "annotations.0.result.0.type"),
    ],
)
def test_a_malformed_export_is_named_by_its_place(tmp_path: Path, given: Any, message: str) -> None:
    export(tmp_path)
    (tmp_path / "export.json").write_text(json.dumps(given))
    with pytest.raises(DataError, match=f"export.json(.|\n)*{message}"):
        read(tmp_path, ReadOptions())


@pytest.mark.parametrize(
    "shape",
    [
        {"type": "polygonlabels", "value": {"polygonlabels": ["a"], "points": [[0, 0], [1]]}, **SIZE},
        {"type": "polygonlabels", "value": {"polygonlabels": ["a"], "points": [[0, 0], [1, "x"]]}, **SIZE},
        {
            "type": "rectanglelabels",
            "value": {"rectanglelabels": ["a"], "x": 1e300, "y": 0, "width": 1, "height": 1},
            **SIZE,
        },
        {"type": "ellipselabels", "value": {"ellipselabels": ["a"], "x": 1}, **SIZE},
        {"type": "brushlabels", "value": {"brushlabels": ["a"], "rle": "AAA"}, **SIZE},
    ],
)
def test_a_malformed_shape_is_named_on_reading(tmp_path: Path, shape: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"export.json task 1 (polygon|rectangle|ellipse|brush): "):
        mask_of(tmp_path, shape)


@pytest.mark.parametrize("text", ["", "[", "\x00", "[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(DataError, match=r"export.json: broken JSON"):
        read(tmp_path / "export.json", ReadOptions())


def test_another_size_than_the_labelled_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="made for 11x8 pixels"):
        mask_of(tmp_path, {**polygon([[0, 0], [9, 0], [9, 9]]), "original_width": 11})
