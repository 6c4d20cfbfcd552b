"""How unsure a model is of an image, and which images to label when only some can be.

All figures are means over the pixels of an image, 0 for a model that is sure, at most 1.
"""

import math
from collections.abc import Sequence

import numpy as np


def entropy(probabilities: np.ndarray) -> float:
    """Return the mean entropy of class probabilities float32 [C, h, w], over that of an even guess."""
    return float(_entropy(probabilities).mean() / math.log(len(probabilities)))


def margin(probabilities: np.ndarray) -> float:
    """Return the mean of 1 - (p1 - p2), of the two largest probabilities (Scheffer et al. 2001, margin sampling)."""
    first, second = -np.partition(-probabilities, 1, axis=0)[:2]
    return float((1 - (first - second)).mean())


def disagreement(members: Sequence[np.ndarray]) -> float:
    """Return how far several models' probabilities, float32 [C, h, w] each, disagree about what they are sure of.

    The entropy of their mean minus their mean entropy, over that of an even guess: the mutual information of BALD
    (Houlsby et al. 2011, arXiv:1112.5745).
    """
    mean = np.mean(members, axis=0)
    information = _entropy(mean) - np.mean([_entropy(each) for each in members], axis=0)
    return max(0.0, float(information.mean() / math.log(len(mean))))


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=0)


def embedding(probabilities: np.ndarray) -> np.ndarray:
    """Return what an image shows and where: the mean probability of each class in each quarter, float32 [4 C]."""
    height, width = probabilities.shape[1:]
    rows, columns = (
        (slice(0, -(-height // 2)), slice(height // 2, None)),
        (
            slice(0, -(-width // 2)),
            slice(width // 2, None),
        ),
    )
    return np.concatenate([probabilities[:, row, column].mean(axis=(1, 2)) for row in rows for column in columns])


def diverse_order(scores: np.ndarray, embeddings: np.ndarray) -> list[int]:
    """Return the order in which to take images [N]: the most uncertain first, then what is uncertain and unlike all
    that was taken.

    Greedy k-centres (Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR): the image with the largest product of its score and its distance [N, D] to the nearest taken one.
    Of equals the first.
    """
    left = list(range(len(scores)))
    distance = np.full(len(scores), np.inf)
    order: list[int] = []
    while left:
        gains = scores[left] if not order else scores[left] * distance[left]
        chosen = left.pop(int(np.argmax(gains)))
        order.append(chosen)
        distance = np.minimum(distance, np.linalg.norm(embeddings - embeddings[chosen], axis=1))
    return order
