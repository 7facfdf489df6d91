"""Arguments of kernels, drawn for a given view."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
from hypothesis import strategies as st

from normcore.affine import Affine
from normcore.layout.namespace import Array
from normcore.testing.strategies import ORDINARY, arrange, planes, views

__all__ = [
    "draw_affine", "draw_backward", "draw_ends", "draw_mask", "draw_plane", "draw_rescale_options"
]  # fmt: skip


class RescaleOptions(TypedDict):
    """All that rescale takes besides x and out."""

    affine: Affine
    clip: tuple[float, float] | None
    activation: str | None
    mask: Array


class BackwardOptions(TypedDict):
    """What the backward kernels take by keyword, besides out."""

    relu_mask: Affine | None
    mask: Array


def draw_plane(data: st.DataObject, x: np.ndarray, *, mask: bool = False) -> np.ndarray | None:
    """Draw weights, or a mask, of the positions of x; or None."""
    drawn = st.one_of(st.none(), planes(x.shape[0], x.shape[2], mask=mask))
    return data.draw(drawn)


def draw_mask(data: st.DataObject, shape: tuple[int, ...]) -> np.ndarray:
    """Draw bools of a shape that broadcasts to this one, of as many dimensions."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    own = tuple(size if data.draw(st.booleans()) else 1 for size in shape)
    share = data.draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return rng.random(own) < share


def draw_ends(data: st.DataObject, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw ends of brackets among the values themselves, apart from them, and infinite."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)
    choices = [-np.inf, np.inf, 0.0, 1.0]
    ends = np.empty((2, data.draw(st.integers(1, 3)), x.shape[1]))
    for channel, column in enumerate(columns):
        present = column[~np.isnan(column)]
        pool = np.concatenate([choices, present, present])
        ends[:, :, channel] = rng.choice(pool, ends.shape[:2])
    ends.sort(axis=0)
    return ends[0], ends[1]


def draw_affine(data: st.DataObject, num_channels: int) -> Affine:
    """Draw the coefficients of each channel, none of them extreme; scale and gamma positive."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    coefficients = rng.standard_normal((4, num_channels))
    coefficients += 3.0 * (rng.random((4, num_channels)) < 0.3)
    if data.draw(st.booleans()):
        return Affine(center=coefficients[0], scale=np.abs(coefficients[1]) + 0.1)
    return Affine(
        center=float(coefficients[0, 0]),
        scale=np.abs(coefficients[1]) + 0.1,
        gamma=np.abs(coefficients[2]) + 0.1,
        beta=coefficients[3],
    )


def draw_rescale_options(data: st.DataObject, x: np.ndarray) -> RescaleOptions:
    """Draw all that rescale takes besides x and out."""
    return {
        "affine": draw_affine(data, x.shape[1]),
        "clip": data.draw(st.sampled_from([None, (0.0, 1.0), (-0.5, np.inf)])),
        "activation": data.draw(st.sampled_from([None, "relu"])),
        "mask": draw_plane(data, x, mask=True),
    }


def draw_backward(
    data: st.DataObject, dtypes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, BackwardOptions]:
    """Draw x, dy, mean and the ReLU mask and the mask of the backward kernels."""
    x = data.draw(views(dtypes=dtypes, recipes=ORDINARY))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    layout = data.draw(st.sampled_from(["C", "F", "sliced", "read-only"]))
    dy = arrange(rng.standard_normal(x.shape).astype(x.dtype), layout)
    relu_mask = draw_affine(data, x.shape[1]) if data.draw(st.booleans()) else None
    mask = draw_plane(data, x, mask=True)
    return x, dy, rng.standard_normal(x.shape[1]), {"relu_mask": relu_mask, "mask": mask}
