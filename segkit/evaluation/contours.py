"""Figures of contours: boundary F-score and normalised surface distance, within a tolerance in pixels.

Boundary F: Perazzi et al. 2016, "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR,
as in the code of the DAVIS challenge: precision and recall of contour pixels that lie within the tolerance of the other
contour; the figure of an image, then the mean over the images that show the class in truth or prediction.
Normalised surface distance (surface Dice): Nikolov et al. 2018, arXiv:1809.04430: the share of both contours, by
length, that lies within the tolerance of the other; lengths of all images are added up before the division. The contour
runs between pixels: through each 2 x 2 of them whose pixels differ, as long as the line that parts them.

The tolerance of both is 0.8 % of the image's diagonal, rounded up, as for DAVIS; distances are Euclidean. Ignored
pixels are of no class, in truth and prediction.

Each class is a bit of an integer per pixel, so one pass over the image finds and widens the contours of all classes.
"""

import math

import numpy as np

from segkit.evaluation.judged import Judged

SHARE_OF_DIAGONAL = 0.008
WIDTHS = (np.uint8, np.uint16, np.uint32, np.uint64)  # of codes, the narrowest that has a bit for each class
LENGTHS = (1.0, math.sqrt(0.5), math.sqrt(2))  # of a contour through 2 x 2 pixels: straight, round a corner, twice


class Contours:
    """boundary_f and surface_dice by class; an image adds float64 [4, C]: its F, whether it has one, the length of
    both contours within the tolerance, and their length.
    """

    needs_probabilities, per_image = False, True

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes

    def count(self, image: Judged) -> np.ndarray:
        counted = np.zeros((4, self.num_classes))
        tolerance = math.ceil(SHARE_OF_DIAGONAL * image.diagonal)
        for start in range(0, len(image.present), 64):
            classes = image.present[start : start + 64]
            truth, prediction = (codes(ids, classes) for ids in (image.truth, image.prediction))
            counted[0, classes] = _boundary_f(truth, prediction, len(classes), tolerance)
            counted[1, classes] = 1
            counted[2:, classes] = _surfaces(truth, prediction, len(classes), tolerance)
        return counted

    def figures(self, total: np.ndarray) -> dict[str, np.ndarray]:
        f_score, images, within, length = np.moveaxis(np.asarray(total, np.float64), -2, 0)
        return {"boundary_f": _ratio(f_score, images), "surface_dice": _ratio(within, length)}


def codes(ids: np.ndarray, classes: list[int]) -> np.ndarray:
    """Return ids uint8 [h, w] as unsigned integers whose bit k is set where the class is classes[k]; others are 0."""
    width = next(width for width in WIDTHS if len(classes) <= 8 * width().itemsize)
    table = np.zeros(256, width)
    for bit, class_id in enumerate(classes):
        table[class_id] = 1 << bit
    return table[ids]


def _boundary_f(truth: np.ndarray, prediction: np.ndarray, num_bits: int, tolerance: int) -> np.ndarray:
    """Return the F of one image by class, float64 [bits], of codes [h, w]."""
    true, predicted = _contour_pixels(truth), _contour_pixels(prediction)
    near_true, near_predicted = widened(true, tolerance), widened(predicted, tolerance)
    some = np.flatnonzero(true | predicted)  # few: what follows is done there alone
    true, predicted, near_true, near_predicted = (
        each.ravel()[some] for each in (true, predicted, near_true, near_predicted)
    )
    counts = [_count_bits(found, num_bits) for found in (true, predicted, true & near_predicted, predicted & near_true)]
    num_true, num_predicted, recalled, precise = counts
    # without any contour there is nothing to be wrong about: 1; with one on one side alone the other figure is 0
    recall = np.where(num_true > 0, recalled / np.maximum(num_true, 1), 1.0)
    precision = np.where(num_predicted > 0, precise / np.maximum(num_predicted, 1), 1.0)
    recall[(num_true > 0) & (num_predicted == 0)] = 0
    precision[(num_predicted > 0) & (num_true == 0)] = 0
    one_sided = (num_true > 0) != (num_predicted > 0)
    total = precision + recall
    f_score = np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1), 0.0)
    f_score[one_sided] = 0
    return f_score


def _contour_pixels(code: np.ndarray) -> np.ndarray:
    """Return the bits of pixels that differ from the one to the right, below, or right below, as DAVIS does."""
    contour = np.zeros_like(code)
    contour[:-1, :-1] = (
        (code[:-1, :-1] ^ code[:-1, 1:]) | (code[:-1, :-1] ^ code[1:, :-1]) | (code[:-1, :-1] ^ code[1:, 1:])
    )
    contour[-1, :-1] = code[-1, :-1] ^ code[-1, 1:]
    contour[:-1, -1] = code[:-1, -1] ^ code[1:, -1]
    return contour


def _surfaces(truth: np.ndarray, prediction: np.ndarray, num_bits: int, tolerance: int) -> np.ndarray:
    """Return the length of both contours within the tolerance, and in all: float64 [2, bits]."""
    corners = [_corners(code) for code in (truth, prediction)]
    passed = [(a | b | c | d) & ~(a & b & c & d) for a, b, c, d in corners]
    near = [widened(each, tolerance) for each in passed[::-1]]  # of each the other
    lengths = np.zeros((2, num_bits))
    for four, here, close in zip(corners, passed, near, strict=True):
        some = np.flatnonzero(here)
        a, b, c, d, here, close = (each.ravel()[some] for each in (*four, here, close))
        corner = a ^ b ^ c ^ d  # one or three of the four
        twice = (a & d & ~(b | c)) | (b & c & ~(a | d))
        for kind, length in zip((here & ~corner & ~twice, corner, twice), LENGTHS, strict=True):
            lengths[0] += length * _count_bits(kind & close, num_bits)
            lengths[1] += length * _count_bits(kind, num_bits)
    return lengths


def _corners(code: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the four pixels around each point between pixels, codes [h + 1, w + 1] each; outside is 0."""
    code = np.pad(code, 1)
    parts = (code[:-1, :-1], code[:-1, 1:], code[1:, :-1], code[1:, 1:])
    a, b, c, d = (np.ascontiguousarray(part) for part in parts)
    return a, b, c, d


def widened(code: np.ndarray, radius: int) -> np.ndarray:
    """Return codes [h, w] with each bit also wherever it is set at most `radius` pixels away (a disk, Euclidean)."""
    height, width = code.shape
    stride = width + radius  # zeros behind each row keep it from running into the next: all is one line
    line = np.pad(code, ((0, 0), (0, radius))).ravel()
    result, row = line.copy(), line.copy()
    reached = 0
    for down in range(radius, -1, -1):  # widest row last: each row of the disk goes on from the one before
        wanted = math.isqrt(radius**2 - down**2)
        for right in range(reached + 1, wanted + 1):
            row[right:] |= line[:-right]
            row[:-right] |= line[right:]
        reached = max(reached, wanted)
        result[down * stride :] |= row[: len(row) - down * stride]
        result[: len(row) - down * stride] |= row[down * stride :]
    return result.reshape(height, stride)[:, :width]


def _count_bits(code: np.ndarray, num_bits: int) -> np.ndarray:
    """Return how often each bit is set in codes [N]: int64 [bits]."""
    octets = code.astype(code.dtype.newbyteorder("<"), copy=False).view(np.uint8).reshape(len(code), -1)
    return np.unpackbits(octets, axis=1, count=num_bits, bitorder="little").sum(axis=0, dtype=np.int64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(denominator.shape, math.nan), where=denominator > 0)
