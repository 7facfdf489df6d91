"""Handwritten digits: split, scaled, and dealt out in mini-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import normcore as nc

__all__ = ["SCALERS", "Digits", "Split", "load_digits", "mini_batches", "split"]

#: Scalers of the input, by the names of the report.
SCALERS = {
    "none": None,
    "standard": nc.StandardScaler,
    "minmax": nc.MinMaxScaler,
    "robust": nc.RobustScaler,
    "maxabs": nc.MaxAbsScaler,
}


class Split(NamedTuple):
    """Scaled images of shape (images, 64), float32, and their digits."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


class Digits(NamedTuple):
    """Images of 8 x 8 pixels in 0 to 16, of shape (images, 64), and which digits they show."""

    images: np.ndarray
    labels: np.ndarray


def load_digits() -> Digits:
    """Return scikit-learn's 1797 digits."""
    from sklearn import datasets  # takes seconds to import

    return Digits(*datasets.load_digits(return_X_y=True))


def split(digits: Digits, seed: int, scaler: str, num_train: int) -> Split:
    """Shuffle, hold images out, and scale all by what the training images are like."""
    order = np.random.default_rng([seed, 0]).permutation(len(digits.images))
    train, test = order[:num_train], order[num_train:]
    images, labels = digits
    kind = SCALERS[scaler]
    scaled = images if kind is None else kind().fit(images[train]).transform(images)
    scaled = scaled.astype(np.float32)
    return Split(scaled[train], labels[train], scaled[test], labels[test])


def mini_batches(seed: int, num_train: int, size: int) -> Iterator[np.ndarray]:
    """Yield the positions of mini-batches without end, all of one size; each epoch is shuffled."""
    rng = np.random.default_rng([seed, 1])
    while True:
        order = rng.permutation(num_train)
        yield from order[: num_train - num_train % size].reshape(-1, size)
