import numpy as np
import pytest

from segkit.imaging.tiles import Axis

AXES = [(1, 8, 2), (7, 8, 2), (8, 8, 2), (9, 8, 2), (100, 8, 0), (100, 8, 2), (101, 8, 4), (1000, 64, 16), (50, 8, 7)]


@pytest.mark.parametrize(("length", "window", "overlap"), AXES)
def test_every_pixel_is_in_a_window_and_the_last_one_ends_with_the_image(
    length: int, window: int, overlap: int
) -> None:
    axis = Axis.cover(length, window, overlap=overlap)
    seen = np.zeros(length, int)
    for span in axis.spans:
        assert 0 <= span.start < span.stop <= length
        seen[span] += 1
    assert seen.min() >= 1
    assert axis.spans[-1].stop == length
    assert len(set(axis.starts)) == len(axis.starts)


@pytest.mark.parametrize(("length", "window", "overlap"), AXES)
def test_the_weights_of_all_windows_sum_to_1_at_each_pixel(length: int, window: int, overlap: int) -> None:
    axis = Axis.cover(length, window, overlap=overlap)
    total = np.zeros(length)
    for span, weights in zip(axis.spans, axis.weights(), strict=True):
        assert weights.dtype == np.float32
        assert weights.min() >= 0
        total[span] += weights
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_neighbours_overlap_by_what_was_asked_for_or_evenly_by_a_little_more() -> None:
    assert Axis.cover(28, 10, overlap=4).starts == (0, 6, 12, 18)
    axis = Axis.cover(25, 10, overlap=4)
    assert axis.starts == (0, 5, 10, 15)
    assert axis.tallest_overlap == 5


@pytest.mark.parametrize(("length", "window", "overlap"), AXES)
def test_no_two_neighbours_overlap_by_less_and_one_window_fewer_would_not_do(
    length: int, window: int, overlap: int
) -> None:
    axis = Axis.cover(length, window, overlap=overlap)
    steps = np.diff(axis.starts)
    assert (axis.window - steps >= overlap).all()
    assert axis.window + (len(steps) - 1) * (window - overlap) < length or len(steps) == 0


@pytest.mark.parametrize(("length", "window", "overlap"), AXES)
def test_new_and_finished_pixels_make_up_the_axis(length: int, window: int, overlap: int) -> None:
    axis = Axis.cover(length, window, overlap=overlap)
    for parts in (axis.new, axis.finished):
        assert [k for part in parts for k in range(part.start, part.stop)] == list(range(length))
    for number, part in enumerate(axis.finished):
        assert all(part.stop <= later.start for later in axis.spans[number + 1 :])


def test_an_axis_shorter_than_a_window_is_one_window_that_counts_in_full() -> None:
    axis = Axis.cover(5, 8, overlap=2)
    assert (axis.window, axis.starts) == (5, (0,))
    np.testing.assert_array_equal(axis.weights()[0], np.ones(5, np.float32))


def test_a_window_counts_next_to_nothing_at_an_edge_inside_the_image_and_most_in_its_middle() -> None:
    first, second, _ = Axis.cover(160, 64, overlap=16).weights()
    assert (second[:4] == 0).all()  # a quarter of the overlap
    assert 0 < second[4] < 0.01
    assert (np.diff(second[4:12]) > 0).all()
    assert second[12:52].min() == pytest.approx(1)
    assert first[0] == 1  # nothing else sees the image's edge


@pytest.mark.parametrize(("length", "window", "overlap"), [(0, 8, 2), (10, 8, 8), (10, 8, -1), (10, 0, 0)])
def test_what_covers_nothing_is_refused(length: int, window: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= overlap < window"):
        Axis.cover(length, window, overlap=overlap)
