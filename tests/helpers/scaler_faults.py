"""Scalers with one fault each, made of good ones, and the law of the kit that notices."""

from __future__ import annotations

from typing import Any

import numpy as np

import normcore as nc


class Good(nc.AffineScaler):
    """Map the range of each feature to [0, 1]."""

    statistic = nc.Extrema

    def __init__(self, *, clip=False, label="", copy=True, backend=None, axis="columns"):
        super().__init__(copy=copy, backend=backend, axis=axis)
        self.clip, self.label = clip, label

    def affine(self, extrema):
        return nc.Affine(center=extrema.min, scale=extrema.max - extrema.min)

    def bounds(self):
        return (0.0, 1.0) if self.clip else None


class GoodRoot(nc.PointwiseScaler):
    """Map x to the root of its size, with its sign."""

    def forward(self, xp, x):
        return xp.sign(x) * xp.sqrt(xp.abs(x))

    def inverse(self, xp, x):
        return xp.sign(x) * x * x


class FillsNaN(Good):
    def transform(self, X, *, out=None):
        return np.nan_to_num(super().transform(X))


class ForgetsOut(Good):
    def transform(self, X, *, out=None):
        return super().transform(X)


class WritesToItsInput(Good):
    def transform(self, X, *, out=None):
        if X.flags.writeable:
            X[...] = np.nan_to_num(X)
        return super().transform(X, out=out)


class MapsNoRows(Good):
    """Returns nothing for nothing."""

    def transform(self, X, *, out=None):
        return X.copy() if len(X) == 0 else super().transform(X, out=out)


class LearnsNothingFromOthers(Good):
    def merge(self, other):
        return self if self.__sklearn_is_fitted__() else super().merge(other)


class ForgetsTheFirstChunk(Good):
    def partial_fit(self, X, y=None):
        return self.fit(X, y)


class RemembersTheFirstFit(Good):
    def fit(self, X, y=None):
        return self.partial_fit(X, y)


class IgnoresClip(Good):
    def bounds(self):
        return None


class ConvertsAParameter(Good):
    def __init__(self, *, clip=False, label=None, copy=True, backend=None, axis="columns"):
        super().__init__(clip=clip, copy=copy, backend=backend, axis=axis)
        self.label = [label]


class FitsItsParameters(Good):
    def affine(self, extrema):
        self.label = "fitted"
        return super().affine(extrema)


class DividesByTheUnbiasedDeviation(nc.AffineScaler):
    """Has no scale for one row."""

    statistic = nc.Moments

    def affine(self, moments):
        with np.errstate(invalid="ignore", divide="ignore"):
            return nc.Affine(center=moments.mean, scale=moments.std(ddof=1))


class IgnoresWeights(nc.StandardScaler):
    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X, y)


class InvertsSomethingElse(GoodRoot):
    def inverse(self, xp, x):
        return x * x


class SharesScratch(GoodRoot):
    """Keeps the sign in self until it is needed."""

    def forward(self, xp, x):
        self.sign = xp.sign(x)
        root = xp.sqrt(xp.abs(x))
        return self.sign * root


class NeedsNumpy(GoodRoot):
    """Calls methods that only NumPy's arrays have."""

    def forward(self, xp, x):
        return xp.sign(x) * xp.sqrt(x.clip(0.0) - x.clip(None, 0.0))


class LooksAtOtherRows(GoodRoot):
    def forward(self, xp, x):
        return super().forward(xp, x) / x.shape[0]

    def inverse(self, xp, x):
        return super().inverse(xp, x * x.shape[0])


class KeepsStateInTheClass(nc.PointwiseScaler):
    """Has the same numbers for all its instances."""

    statistic = nc.Extrema

    def prepare(self, extrema):
        type(self).offset = float(np.nanmin(extrema.min, initial=0.0))

    def forward(self, xp, x):
        return x - self.offset

    def inverse(self, xp, x):
        return x + self.offset


#: The law that must notice, and its arguments.
FAULTS: dict[type[nc.AffineScaler | nc.PointwiseScaler], tuple[Any, ...]] = {
    FillsNaN: ("test_shape_dtype_and_nan_are_kept",),
    ForgetsOut: ("test_out_is_written_and_returned",),
    WritesToItsInput: ("test_input_is_not_modified",),
    MapsNoRows: ("test_no_rows", "transform"),
    LearnsNothingFromOthers: ("test_chunks_learn_what_the_whole_teaches",),
    ForgetsTheFirstChunk: ("test_chunks_learn_what_the_whole_teaches",),
    RemembersTheFirstFit: ("test_fit_forgets",),
    IgnoresClip: ("test_clip_is_used_where_it_is_a_parameter",),
    ConvertsAParameter: ("test_parameters_make_an_equal_scaler",),
    FitsItsParameters: ("test_fit_leaves_parameters_alone",),
    DividesByTheUnbiasedDeviation: ("test_one_row",),
    IgnoresWeights: ("test_weights_repeat_rows",),
    InvertsSomethingElse: ("test_inverse_restores",),
    SharesScratch: ("test_threads_may_share_a_scaler",),
    NeedsNumpy: ("test_strict_arrays_are_mapped_as_numpys_are",),
    LooksAtOtherRows: ("test_rows_do_not_depend_on_their_neighbours",),
    KeepsStateInTheClass: ("test_chunks_learn_what_the_whole_teaches",),
}
