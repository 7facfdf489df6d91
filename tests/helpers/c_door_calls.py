"""Calls of the functions of normcore.h with arguments that are good; tests spoil some."""

from __future__ import annotations

import numpy as np
from c_door import status

__all__ = ["POINTERS", "Batch"]


class Batch:
    """Arguments of each function, over memory that is watched."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x, self.dy, self.y = rng.normal(size=(3, 6, 4)).astype(np.float32)
        self.states = np.zeros((7, 4))
        self.states[0] = 6.0
        self.rows = np.zeros((7, 6))
        self.rows[0] = 4.0
        self.groups = np.zeros((7, 12))
        self.groups[0] = 2.0
        self.vectors = rng.uniform(1.0, 2.0, (6, 4))
        a, b, mean, var, dgamma, dbeta = self.vectors
        x, dy, y, states = self.x, self.dy, self.y, self.states
        self.arguments = {
            "moments": {"x": x, "axis": 1, "skipna": 0, "states": states},
            "merge": {"channels": 4, "states": states, "others": states.copy()},
            "summarize": {
                "channels": 4, "states": states, "ddof": 0.0, "count": a, "mean": mean, "var": var,
            },
            "given": {"channels": 4, "mean": mean, "var": var, "states": states},
            "rescale": {
                "x": x, "axis": 1, "center": mean, "scale": var, "gamma": a, "beta": b, "y": y,
            },
            "batch_norm": {
                "x": x, "axis": 1, "gamma": a, "beta": b, "eps": 1e-5, "y": y, "states": states,
            },
            "batch_norm_backward": {
                "dy": dy, "x": x, "axis": 1, "states": states, "training": 1, "gamma": a,
                "eps": 1e-5, "dx": y, "dgamma": dgamma, "dbeta": dbeta,
            },
            "batch_norm_inference": {
                "x": x, "axis": 1, "mean": mean, "var": var, "gamma": a, "beta": b, "eps": 1e-5,
                "y": y,
            },
            "row_norm": {
                "x": x, "num_axes": 1, "centered": 1, "gamma": a, "beta": b, "eps": 1e-5, "y": y,
                "states": self.rows,
            },
            "row_norm_backward": {
                "dy": dy, "x": x, "num_axes": 1, "centered": 1, "states": self.rows, "gamma": a,
                "eps": 1e-5, "dx": y, "dgamma": dgamma, "dbeta": dbeta,
            },
            "running": {
                "channels": 4, "states": states, "weight": 0.1, "ddof": 1.0, "mean": mean,
                "var": var,
            },
            "weighted_moments": {
                "x": x, "axis": 1, "weights": np.arange(6.0), "skipna": 0, "states": states,
            },
            "group_norm": {
                "x": x, "axis": 1, "num_groups": 2, "gamma": a, "beta": b, "eps": 1e-5, "y": y,
                "states": self.groups,
            },
            "group_norm_backward": {
                "dy": dy, "x": x, "axis": 1, "num_groups": 2, "states": self.groups, "gamma": a,
                "eps": 1e-5, "dx": y, "dgamma": dgamma, "dbeta": dbeta,
            },
        }  # fmt: skip

    def bytes(self):
        arrays = self.x, self.dy, self.y, self.vectors, self.states, self.rows, self.groups
        return [each.tobytes() for each in arrays]

    def refused(self, name, threads=0, **changed):
        """Return the status and message of a call with some arguments changed."""
        arguments = self.arguments[name] | changed
        assert arguments.keys() == self.arguments[name].keys()
        before = self.bytes()
        found = status(name, *arguments.values(), threads=threads)
        if found[0]:
            assert self.bytes() == before
        return found


#: The arrays of each function.
POINTERS = [
    (name, argument)
    for name, arguments in Batch().arguments.items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray)
]
