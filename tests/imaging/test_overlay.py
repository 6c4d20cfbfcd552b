import numpy as np

from segkit.classes import Classes
from segkit.imaging.overlay import colorize, overlay, panel, sheet

CLASSES = Classes.build(["background", "disc"], colors=[(0, 0, 0), (200, 0, 100)])


def test_colors_are_those_of_the_classes() -> None:
    assert colorize(np.array([[0, 1]], np.uint8), CLASSES)[0].tolist() == [[0, 0, 0], [200, 0, 100]]


def test_an_overlay_blends_classes_keeps_background_and_draws_borders() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 1
    blended = overlay(image, mask, CLASSES)
    assert blended[0, 0].tolist() == [100, 100, 100]
    assert blended[0, 7].tolist() == [160, 40, 100]
    assert blended[0, 4].tolist() == [255, 255, 255]
    assert image.min() == image.max() == 100  # the input is left alone


def test_a_panel_stands_side_by_side() -> None:
    image, mask = np.zeros((6, 10, 3), np.uint8), np.zeros((6, 10), np.uint8)
    assert panel(image, [mask, mask], CLASSES).shape == (6, 38, 3)


def test_a_sheet_holds_every_panel_in_rows_under_titles() -> None:
    panels = [np.full((6, 10, 3), k, np.uint8) for k in (10, 20, 30)]
    page = sheet(panels, columns=2, titles=["a"])
    assert page.shape == (24 + 2 * (6 + 8) + 8, 2 * (10 + 8) + 8, 3)
    for value in (10, 20, 30):
        assert (page == value).all(axis=2).sum() >= 60
