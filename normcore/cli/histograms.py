"""Histograms of a line of text, from what a statistic knows of a distribution and no more."""

from __future__ import annotations

import numpy as np

__all__ = ["histogram", "levels_for"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = ".:-=+*#@"


def levels_for(encoding: str | None) -> str:
    """Return the characters for rising bars, of those that an encoding has."""
    try:
        _BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _ASCII
    return _BLOCKS


def histogram(q: np.ndarray, values: np.ndarray, width: int, levels: str = _BLOCKS) -> str:
    """Draw how the values between the outermost known quantiles are distributed.

    Each part between two quantiles next to each other has its share, spread evenly over it, since
    no more is known.

    Parameters
    ----------
    q : float array of shape (R,)
        In [0, 1].
    values : float array of shape (R,)
        The quantiles at ``q``.
    width : int
        Number of bars, which divide the range of ``values`` evenly.
    levels : str
        Characters for bars of rising height, a full one for the highest.

    Returns
    -------
    str
        Empty where there is nothing to draw: no two quantiles, or NaN.
    """
    order = np.argsort(q, kind="stable")
    q, values = q[order], values[order]
    if len(q) < 2 or q[0] == q[-1] or not np.isfinite(values).all():
        return ""
    values = values / max(np.abs(values).max(), np.finfo(np.float64).tiny)  # the range may overflow
    low, high = values[0], values[-1]
    bars = np.zeros(width)
    if not low < high:
        bars[width // 2] = 1.0
    else:
        places = np.clip((values - low) / (high - low), 0.0, 1.0) * width
        for share, start, stop in zip(np.diff(q), places[:-1], places[1:], strict=True):
            if stop > start:
                edges = np.clip(np.arange(width + 1), start, stop)
                bars += share * np.diff(edges) / (stop - start)
            else:
                bars[min(int(start), width - 1)] += share
    heights = np.ceil(bars / bars.max() * len(levels)).astype(int)
    return "".join(levels[max(height, 1) - 1] for height in heights)
