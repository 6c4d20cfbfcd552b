import numpy as np
import pytest
import torch

from segkit.losses.boundary import boundary, signed_distances


def test_distances_are_whole_squares_and_the_same_wherever_the_mask_lies_in_memory() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random((9, 11)) < 0.4).astype(np.uint8).repeat(7, 0).repeat(7, 1)
    classes = np.array([0, 1], np.uint8)
    first = signed_distances(truth, classes, ignore_index=255)
    for size in range(30):
        kept = np.ones(size * 100 + 1, np.float32)  # moves what is allocated next
        assert np.array_equal(signed_distances(truth, classes, ignore_index=255), first)
        del kept
    outside = np.square(first[first > 0].astype(np.float64))
    assert np.abs(outside - np.rint(outside)).max() < 1e-4


def test_distances_are_exact_up_to_512_pixels_where_they_end() -> None:
    truth = np.ones((700, 600), np.uint8)
    truth[0, 0] = 0
    distances = signed_distances(truth, np.array([0], np.uint8), ignore_index=255)[0]
    rows, columns = np.mgrid[:700, :600]
    expected = np.minimum(np.sqrt(rows**2 + columns**2), 512).astype(np.float32)
    assert np.array_equal(distances, expected)


def test_an_ignored_region_is_no_edge() -> None:
    truth = np.zeros((1, 9), np.uint8)
    truth[0, 5:] = 1
    truth[0, 3:6] = 255
    distances = signed_distances(truth, np.array([0, 1], np.uint8), ignore_index=255)
    assert distances[0, 0].tolist() == [1 - 6, 1 - 5, 1 - 4, 0, 0, 0, 4, 5, 6]
    assert distances[1, 0].tolist() == [6, 5, 4, 0, 0, 0, 1 - 4, 1 - 5, 1 - 6]


def test_an_image_of_one_class_has_no_edge_and_costs_nothing() -> None:
    logits = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = boundary(logits, torch.ones(1, 5, 6, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_far_mistakes_cost_in_proportion_to_their_distance() -> None:
    target = torch.zeros(1, 1, 40, dtype=torch.uint8)
    target[..., 20:] = 1
    costs = []
    for mistake in (10, 0):
        logits = 50 * torch.nn.functional.one_hot(target.long(), 2).movedim(3, 1).float()
        logits[..., mistake] = logits[..., mistake].flip(1)
        costs.append(boundary(logits, target).item())
    # class 0: (d - 1) lost inside; class 1: d gained outside; d is 10 and 20; over 40 pixels and 2 classes
    assert costs == pytest.approx([19 / 80, 39 / 80])
