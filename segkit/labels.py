"""Class ids of scores: the argmax over classes, at the scores' own size or interpolated to another.

Bilinear interpolation is a convex combination of four neighbours. Where all four have the same largest class, the
interpolated scores have it too; so only the pixels between neighbours that differ are interpolated, a few percent of a
picture. The result is that of interpolating everything, up to rounding between tied classes. On a GPU, where
interpolating everything takes no time, that is done.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

PIXELS_AT_A_TIME = 2**14  # their scores stay in the processor's cache


def argmax(scores: torch.Tensor) -> np.ndarray:
    """Return the class of the largest score for each pixel, the first of equals: float [C, h, w] -> uint8 [h, w]."""
    if scores.device.type != "cpu" or _is_channels_last(scores):
        labels: np.ndarray = scores.permute(1, 2, 0).argmax(dim=2).to(torch.uint8).cpu().numpy()
        return labels
    return _argmax_of_planes(scores.float().numpy())


def resized_argmax(scores: torch.Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the class of the largest score at another size: float [C, H, W] -> uint8 [h, w].

    As `argmax(F.interpolate(scores, size_hw, mode="bilinear", align_corners=False))`.
    """
    if scores.shape[1:] == size_hw:
        return argmax(scores)
    if scores.device.type != "cpu":
        return argmax(F.interpolate(scores[None].float(), size_hw, mode="bilinear", align_corners=False)[0])
    scores = scores.float()
    cells = _unanimous_cells(argmax(scores), undecided=255)
    rows, columns = (_neighbours(length, given) for length, given in zip(size_hw, scores.shape[1:], strict=True))
    labels: np.ndarray = cells.take(rows[0], axis=0).take(columns[0], axis=1)
    flat = labels.reshape(-1)
    undecided = np.flatnonzero(flat == 255)
    for start in range(0, len(undecided), PIXELS_AT_A_TIME):
        places = undecided[start : start + PIXELS_AT_A_TIME]
        y, x = np.divmod(places, size_hw[1])
        flat[places] = _interpolated_argmax(scores, [axis[y] for axis in rows], [axis[x] for axis in columns])
    return labels


def _is_channels_last(scores: torch.Tensor) -> bool:
    return scores.stride(0) == 1


def _argmax_of_planes(planes: np.ndarray) -> np.ndarray:
    """float32 [C, ...] -> uint8 [...]: a running maximum, class by class, which reads each plane once."""
    largest = planes[0].copy()
    labels = np.zeros(largest.shape, np.uint8)
    for k in range(1, len(planes)):
        better = cv2.compare(planes[k], largest, cv2.CMP_GT)  # 255 or 0
        cv2.max(planes[k], largest, dst=largest)
        cv2.max(labels, cv2.min(better, k), dst=labels)  # type: ignore[call-overload]
    return labels


def _unanimous_cells(labels: np.ndarray, *, undecided: int) -> np.ndarray:
    """Return for each pixel the label that it shares with its neighbours to the right, below and diagonal."""
    differs = np.zeros(labels.shape, bool)
    beside, below = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    differs[:, :-1] |= beside
    differs[:-1, :-1] |= beside[1:]
    differs[:-1] |= below
    differs[:-1, :-1] |= below[:, 1:]
    return np.where(differs, np.uint8(undecided), labels)


def _neighbours(length: int, given: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `length` pixels its two neighbours among `given` ones, and how far the second's weight goes.

    The arithmetic is that of F.interpolate with align_corners=False, in float32.
    """
    place = (np.arange(length, dtype=np.float32) + np.float32(0.5)) * np.float32(given / length) - np.float32(0.5)
    place = place.clip(min=0)
    first = np.minimum(place.astype(np.int64), given - 1)
    return first, np.minimum(first + 1, given - 1), place - first.astype(np.float32)


def _interpolated_argmax(scores: torch.Tensor, rows: list[np.ndarray], columns: list[np.ndarray]) -> np.ndarray:
    """Return uint8 [n] for scores float32 [C, H, W] at n places; `rows` and `columns` are their `_neighbours`."""
    width = scores.shape[2]
    corners = [y * width + x for y in rows[:2] for x in columns[:2]]
    down, right = rows[2], columns[2]
    if _is_channels_last(scores):
        by_pixel = scores.permute(1, 2, 0).reshape(-1, len(scores))  # [HW, C]
        a, b, c, d = (by_pixel.index_select(0, torch.from_numpy(corner)) for corner in corners)
        to_right, to_down = torch.from_numpy(right)[:, None], torch.from_numpy(down)[:, None]
        mixed = torch.lerp(torch.lerp(a, b, to_right), torch.lerp(c, d, to_right), to_down)
        labels: np.ndarray = mixed.argmax(dim=1).to(torch.uint8).numpy()
        return labels
    planes = scores.reshape(len(scores), -1).numpy()
    mixed_planes = np.empty((len(planes), 1, len(right)), np.float32)
    for plane, mixed_plane in zip(planes, mixed_planes[:, 0], strict=True):
        a, b, c, d = (plane.take(corner) for corner in corners)
        top, bottom = a + (b - a) * right, c + (d - c) * right
        np.add(top, (bottom - top) * down, out=mixed_plane)
    return _argmax_of_planes(mixed_planes)[0]
