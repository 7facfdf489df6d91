"""Counts of values in bins of equal width, with what lies outside of them at either end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["NUM_BINS", "Bins", "bin_counts", "bins_for", "shown_counts"]

NUM_BINS = 24
# Values that are binned at a time, so that they stay in the cache.
_BLOCK = 1 << 16
# Beyond this range, bins of whole numbers are as good as others.
_WHOLE = 2.0**40


class Bins(NamedTuple):
    """Bins of each column, between ``low`` and ``high``; values beyond them are counted too."""

    low: np.ndarray
    high: np.ndarray
    #: Number of bins of each column.
    number: np.ndarray
    #: Whether each bin is one whole number.
    discrete: np.ndarray


def bins_for(
    low: np.ndarray,
    high: np.ndarray,
    q1: np.ndarray,
    q3: np.ndarray,
    whole: np.ndarray,
) -> Bins:
    """Choose bins that show where most values are.

    Parameters
    ----------
    low, high : arrays of shape (C,)
        The extrema. Bins end there, or three quartile ranges beyond the quartiles if that is
        nearer.
    q1, q3 : arrays of shape (C,)
        The quartiles.
    whole : bool array of shape (C,)
        Where values are whole numbers; few of them have a bin each.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reach = 3 * (q3 - q1)
        start = np.where(reach > 0, np.maximum(low, q1 - reach), low)
        stop = np.where(reach > 0, np.minimum(high, q3 + reach), high)
        few = whole & (stop - start < NUM_BINS)
        many = whole & ~few & (stop - start < _WHOLE)
        # As many whole numbers in each bin.
        width = np.ceil((stop - start + 1) / NUM_BINS)
        number = np.where(many, np.ceil((stop - start + 1) / width), NUM_BINS)
        start = np.where(many, np.floor(start), start)
        stop = np.where(many, start + number * width, stop)
        start = np.where(few, np.floor(start) - 0.5, start)
        stop = np.where(few, np.ceil(stop) + 0.5, stop)
        number = np.where(few, stop - start, number)
        alike = ~few & ~(start < stop)
        start, stop = np.where(alike, start - 0.5, start), np.where(alike, stop + 0.5, stop)
        number = np.where(alike, 1, number).astype(np.intp)
    return Bins(start, stop, number, few)


def bin_counts(x: np.ndarray, bins: Bins) -> np.ndarray:
    """Count values in bins, each of which includes its lower end.

    Parameters
    ----------
    x : float array of shape (n, C)
    bins : Bins

    Returns
    -------
    int64 array of shape (C, NUM_BINS + 2)
        What lies below the bins, in each of them, and from the end of the last one on. NaN counts
        as below.
    """
    width = NUM_BINS + 2
    columns, num_columns = x.T, x.shape[1]
    counts = np.empty((num_columns, width), dtype=np.int64)
    step = max(1, _BLOCK // max(len(x), 1))
    for first in range(0, num_columns, step):
        which = slice(first, first + step)
        low, high = bins.low[which, None], bins.high[which, None]
        number = bins.number[which, None]
        index = _places(columns[which], low, high, number).astype(np.intp)
        index += (np.arange(len(index)) * width)[:, None]
        found = np.bincount(index.ravel(), minlength=len(index) * width)
        counts[which] = found.reshape(len(index), width)
    return counts


def _places(x: np.ndarray, low: np.ndarray, high: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Return one more than how many bins lie below each value, from 0 to ``number + 1``."""
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(high - low).all():  # the range of float64 is no float64
            x, low, high = x / 2, low / 2, high / 2
        places = np.subtract(x, low, dtype=np.float64)
        places *= number / (high - low)
        places += 1
        np.fmax(places, 0, out=places)
        np.fmin(places, number + 1, out=places)
    return places


def shown_counts(counts: np.ndarray, bins: Bins, missing: np.ndarray, largest: np.ndarray) -> None:
    """Take out of :func:`bin_counts` what is missing, and put the largest values in their bin.

    Parameters
    ----------
    counts : array of shape (C, NUM_BINS + 2)
        Changed.
    bins : Bins
    missing : array of shape (C,)
        Number of NaN.
    largest : array of shape (C,)
        The maximum, which belongs to the bin that ends there.
    """
    counts[:, 0] -= missing
    rows = np.flatnonzero(bins.high >= largest)
    counts[rows, bins.number[rows]] += counts[rows, bins.number[rows] + 1]
    counts[rows, bins.number[rows] + 1] = 0
