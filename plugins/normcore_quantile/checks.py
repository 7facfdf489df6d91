"""Parameters and landmarks that are none."""

from __future__ import annotations

from numbers import Integral

import numpy as np

__all__ = ["check_count", "check_landmarks"]


def check_count(name: str, value: object) -> None:
    """Refuse what is no positive integer; ValueError names it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def check_landmarks(values: np.ndarray, references: np.ndarray, num_features: int) -> None:
    """Refuse landmarks that were assigned, if they are none of so many features."""
    count = len(references) if references.ndim == 1 else 0
    if not count:
        raise ValueError(f"references_ must have one dimension, got shape {references.shape}")
    if values.ndim < 2 or len(values) != count or values.size != count * num_features:
        raise ValueError(
            f"quantiles_ must have shape ({count}, {num_features}): as many landmarks as "
            f"references_ of each feature; got shape {values.shape}"
        )
    for name, landmarks_ in (("references_", references), ("quantiles_", values)):
        if bool(np.isinf(landmarks_).any()):
            raise ValueError(f"{name} must be finite")
        if bool((landmarks_[1:] < landmarks_[:-1]).any()):
            raise ValueError(f"{name} must not decrease from one landmark to the next")
