from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import DataError
from segkit.formats.annotations.cvat import read
from segkit.formats.options import ReadOptions

META = """<meta><task><labels>
<label><name>dog</name><color>#ff0010</color><type>any</type></label>
<label><name>cat</name><color>#00ff00</color><type>any</type></label>
<label><name>paw</name><color>#00ff00</color><type>points</type><parent>dog</parent></label>
</labels></task></meta>"""


def export(root: Path, *images: str, meta: str = META, folder: str = "images") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(root / folder / f"{name}.png")
    body = f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"
    (root / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{body}')
    return root


def image(*shapes: str, name: str = "a.png", rest: str = "", size: str = 'width="8" height="6"') -> str:
    return f'<image id="0" name="{name}" {size} {rest}>{"".join(shapes)}</image>'


def mask_of(root: Path, options: ReadOptions | None = None) -> np.ndarray:
    (samples,) = read(root, options or ReadOptions()).splits.values()
    return samples[0].read_mask()


def test_classes_and_colors_are_the_tasks_without_parts_of_skeletons(tmp_path: Path) -> None:
    classes = read(export(tmp_path, image()), ReadOptions()).classes
    assert classes.names == ("background", "dog", "cat")
    assert classes.colors == ((0, 0, 0), (255, 0, 16), (0, 255, 0))


def test_every_shape_with_an_area_is_drawn(tmp_path: Path) -> None:
    mask = mask_of(
        export(
            tmp_path,
            image(
                '<polygon label="dog" points="0,0;2,0;2,2;0,2" z_order="0"/>',
                '<box label="cat" xtl="3" ytl="0" xbr="5" ybr="1"/>',
                '<ellipse label="dog" cx="6.5" cy="4.5" rx="0.9" ry="0.4" rotation="90"/>',
                '<mask label="cat" rle="1, 2, 1" left="0" top="4" width="2" height="2"/>',
            ),
        )
    )
    assert mask.tolist() == [
        [1, 1, 0, 2, 2, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 0, 0, 0, 0, 1, 0],
        [2, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_a_mask_may_begin_inside(tmp_path: Path) -> None:
    shape = '<mask label="dog" rle="0, 3, 1" left="1" top="2" width="2" height="2"/>'
    assert mask_of(export(tmp_path, image(shape)))[2:4, 1:3].tolist() == [[1, 1], [1, 0]]


def test_a_box_turns_about_its_centre(tmp_path: Path) -> None:
    shape = '<box label="dog" xtl="1" ytl="2" xbr="5" ybr="4" rotation="90"/>'
    mask = mask_of(export(tmp_path, image(shape)))
    assert mask[1:5, 2:4].all()
    assert mask.sum() == 8


def test_z_order_goes_before_the_order_of_the_file(tmp_path: Path) -> None:
    top = '<box label="dog" xtl="0" ytl="0" xbr="2" ybr="1" z_order="1"/>'
    low = '<box label="cat" xtl="1" ytl="0" xbr="3" ybr="1" z_order="-2"/>'
    same = '<box label="cat" xtl="0" ytl="0" xbr="1" ybr="1" z_order="1"/>'
    assert mask_of(export(tmp_path, image(top, low)))[0, :3].tolist() == [1, 1, 2]
    assert mask_of(export(tmp_path, image(top, same)))[0, :3].tolist() == [2, 1, 0]


def test_shapes_without_area_and_images_without_shapes_are_said(tmp_path: Path) -> None:
    line = (
        '<polyline label="dog" points="0,0;5,5"/><points label="dog" points="1,1"/><points label="cat" points="1,1"/>'
    )
    samples = read(export(tmp_path, image(line), image(name="b.png")), ReadOptions())
    assert "skipped, since they have no area: 2 points, 1 polyline" in samples.notes
    assert any("2 images without a shape" in note for note in samples.notes)
    assert not samples.splits["all"][0].read_mask().any()


def test_unlabelled_pixels_are_ignored_if_asked(tmp_path: Path) -> None:
    shape = '<box label="dog" xtl="0" ytl="0" xbr="8" ybr="1"/>'
    mask = mask_of(export(tmp_path, image(shape)), ReadOptions(unlabeled="ignore"))
    assert mask[0].tolist() == [0] * 8
    assert (mask[1:] == 255).all()


def test_subsets_are_splits(tmp_path: Path) -> None:
    root = export(tmp_path, image(rest='subset="Train"'), image(name="b.png", rest='subset="Validation"'))
    assert list(read(root, ReadOptions()).splits) == ["train", "val"]


def test_images_are_looked_up_by_name_wherever_they_lie(tmp_path: Path) -> None:
    root = export(tmp_path / "xml", image(name="upload/day 1/a.png"), folder="other")
    assert [p.name for p in read(root / "annotations.xml", ReadOptions(images=root / "other")).splits["all"]] == ["a"]
    with pytest.raises(DataError, match=r"no image 'c.png'"):
        read(export(tmp_path / "two", image(name="c.png")), ReadOptions())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<polygon label="dog" points="0,0;2,0"/>', "three or more"),
        ('<polygon label="dog" points="0,0;2,x;3,3"/>', "three or more"),
        ('<polygon label="dog" points="0,0;nan,1;3,3"/>', "three or more"),
        ('<polygon label="dog"/>', "three or more"),
        ('<polygon points="0,0;2,0;3,3"/>', "found no label"),
        ('<box label="dog" xtl="1" ytl="1" xbr="inf" ybr="2"/>', "xbr='inf'"),
        ('<box label="dog" xtl="1" ytl="1" xbr="2"/>', "ybr='None'"),
        ('<box label="dog" xtl="1" ytl="1" xbr="2" ybr="2" z_order="1.5"/>', "whole number"),
        ('<mask label="dog" rle="1, 2" left="0" top="4" width="2" height="2"/>', "the sum 3, .* the sum 4"),
        ('<mask label="dog" rle="1, x, 3" left="0" top="4" width="2" height="2"/>', "found run lengths"),
        ('<mask label="dog" rle="4" top="4" width="2" height="2"/>', "left='None'"),
    ],
)
def test_a_malformed_shape_is_named(tmp_path: Path, shape: str, message: str) -> None:
    with pytest.raises(DataError, match=f"annotations.xml image 'a.png'.*{message}"):
        read(export(tmp_path, image(shape)), ReadOptions())


def test_a_mask_that_leaves_the_image_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    shape = '<mask label="dog" rle="0, 9999800001" left="0" top="0" width="99999" height="99999"/>'
    with pytest.raises(DataError, match="leaves the image"):
        mask_of(export(tmp_path, image(shape)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><annotations>&c;</annotations>', "a DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><annotations/>', "a DOCTYPE"),
        ("<annotations><image>", "no XML"),
        ("", "no XML"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "no XML"),
        ("<annotations><track id='0'/></annotations>", "CVAT for video"),
        ("<coco/>", "found <coco>"),
    ],
)
def test_what_is_no_export_is_refused(tmp_path: Path, text: str, message: str) -> None:
    root = export(tmp_path)
    (root / "annotations.xml").write_text(text)
    with pytest.raises(DataError, match=f"annotations.xml: .*{message}"):
        read(root, ReadOptions())


def test_another_size_than_the_labelled_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="made for 9x6 pixels"):
        mask_of(export(tmp_path, image(size='width="9" height="6"')))
    with pytest.raises(DataError, match="height='None'"):
        read(export(tmp_path, image(size='width="9"')), ReadOptions())


def test_a_image_twice_and_no_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is listed twice"):
        read(export(tmp_path, image(), image()), ReadOptions())
    with pytest.raises(DataError, match="found no <image>"):
        read(export(tmp_path), ReadOptions())


def test_segmentation_masks_are_read_by_their_labelmap(tmp_path: Path) -> None:
    (tmp_path / "export" / "SegmentationClass").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "export" / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:128,0,0::\ncat:0,128,0::\n"
    )
    label = np.array([[(0, 0, 0), (128, 0, 0), (0, 128, 0)]], np.uint8)
    Image.fromarray(label).save(tmp_path / "export" / "SegmentationClass" / "a.png")
    Image.new("RGB", (3, 1)).save(tmp_path / "photos" / "a.jpg")
    samples = read(tmp_path / "export", ReadOptions(images=tmp_path / "photos"))
    assert samples.classes.names == ("background", "dog", "cat")
    assert samples.splits["all"][0].read_mask().tolist() == [[0, 1, 2]]


def test_a_folder_without_either_export_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither labelmap.txt .* nor annotations.xml"):
        read(tmp_path, ReadOptions())
