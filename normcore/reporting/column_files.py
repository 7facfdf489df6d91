"""A fitted ColumnScaler as values that files hold, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from normcore import registration
from normcore.scaling.fitted_description import restored_features
from normcore.scaling.scaler import Scaler

__all__ = ["NAME", "Restored", "described", "restored"]

#: What files call the class.
NAME = "columns"


class Restored(NamedTuple):
    """What a file holds: the scalers, where their columns are, and what is known of all columns."""

    parts: list[tuple[str, Scaler, np.ndarray]]
    num_features: int
    names: list[str] | None


def described(
    parts: list[tuple[str, Scaler, np.ndarray]], num_features: int, names: np.ndarray | None
) -> dict[str, object]:
    """Return fitted scalers and the places of their columns as JSON-able values and arrays."""
    return {
        "scaler": NAME,
        "class": "normcore:ColumnScaler",
        "n_features_in": num_features,
        "feature_names_in": None if names is None else list(names),
        "transformers": [
            {"name": name, "columns": places.tolist(), **scaler.to_dict()}
            for name, scaler, places in parts
        ],
    }


def restored(saved: Mapping[str, Any]) -> Restored:
    """Return what was described.

    Raises
    ------
    ValueError
        If it is incomplete, or states what no fit has learned.
    """
    try:
        num_features, names = restored_features(saved)
        steps = saved["transformers"]
    except KeyError as error:
        raise ValueError(f"the saved ColumnScaler lacks {error}") from None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise ValueError("transformers must be a list of objects")
    parts: list[tuple[str, Scaler, np.ndarray]] = []
    taken: set[int] = set()
    for step in steps:
        name, places, kind = step.get("name"), step.get("columns"), step.get("scaler")
        if not isinstance(name, str) or not isinstance(kind, str):
            raise ValueError("a transformer lacks its name, or that of its scaler")
        if not isinstance(places, list) or not all(
            type(place) is int and 0 <= place < num_features for place in places
        ):
            raise ValueError(f"the columns of {name!r} are not places below {num_features}")
        if len(set(places)) < len(places) or not taken.isdisjoint(places):
            raise ValueError(f"{name!r} has a column that is taken twice")
        taken |= set(places)
        cls: type[Scaler] = registration.scaler(kind)
        scaler = cls.from_dict(step)
        if scaler.n_features_in_ != len(places):
            raise ValueError(
                f"{name!r} has {len(places)} columns and a scaler of {scaler.n_features_in_}"
            )
        parts.append((name, scaler, np.array(places, dtype=np.intp)))
    return Restored(parts, num_features, names)
