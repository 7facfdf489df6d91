"""Puts together what two passes found of each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from normcore.array_backend.abstract import Backend
from normcore.io.batch import Field
from normcore.reporting.column import ColumnReport, Histogram, Quartile, Recommendation
from normcore.reporting.first_look import FirstLook
from normcore.reporting.flags import NEAR_CONSTANT, Facts, flags_of, type_flag, why_not_scaled
from normcore.reporting.histograms import bins_for, shown_counts
from normcore.reporting.maps import Curved, affine_ends, curved_map, is_registered
from normcore.reporting.one_hot import candidate_groups
from normcore.reporting.recommending import FEW, HEAVY_SKEWNESS, SYMMETRIC, Findings, recommended
from normcore.reporting.second_look import SecondLook
from normcore.reporting.shapes import shapes_of

__all__ = ["Description"]

_Q = (0.25, 0.5, 0.75)
_FENCE = 1.5
_MEDIAN, _LOW_FENCE, _HIGH_FENCE = 1, 3, 4


class Description:
    """What the first pass found, what the second is to count, and what follows from both.

    Parameters
    ----------
    names : sequence of str
        The columns of numbers.
    first : FirstLook
    num_rows : int
    backend : str or Backend, optional
    keep_zeros : bool
        Whether zeros are to stay zeros, if there is a scaler for that.

    Attributes
    ----------
    second : SecondLook
        Takes the rows of the second pass.
    num_rows : int
    """

    def __init__(
        self,
        names: Sequence[str],
        first: FirstLook,
        num_rows: int,
        backend: str | Backend | None,
        *,
        keep_zeros: bool = False,
    ) -> None:
        self._keep_zeros = keep_zeros and is_registered("maxabs")
        self._names, self._first, self.num_rows = tuple(names), first, num_rows
        tally, traits = first.tally, first.traits
        self._count = np.asarray(tally.count)
        there = self._count > 0
        self._low = np.where(there, tally.extrema.min, 0.0)
        self._high = np.where(there, tally.extrema.max, 0.0)
        self._mean = np.where(there, tally.moments.mean, 0.0)
        self._std = np.where(there, tally.moments.std(), 0.0)
        self._shapes = shapes_of(first.sketch, self._mean, self._std)
        quartiles = np.where(there, self._shapes.quartiles, 0.0)
        with np.errstate(over="ignore"):
            reach = _FENCE * (quartiles[2] - quartiles[0])
            fences = np.stack([quartiles[0] - reach, quartiles[2] + reach])
        self._zero_iqr = there & (quartiles[0] == quartiles[2])
        self._pivots = np.vstack([quartiles, fences])
        self._bins = bins_for(self._low, self._high, quartiles[0], quartiles[2], traits.whole)
        self._curves = self._fitted_curves()
        self._groups = self._candidates()
        self.second = SecondLook(
            self._bins,
            self._pivots,
            list(self._curves.values()),
            self._groups,
            bool(first.positive.any() or first.negative.any()),
            backend,
        )

    def _candidates(self) -> list[np.ndarray]:
        complete = self._count == self.num_rows
        two_valued = self._first.traits.two_valued
        truth = two_valued & (self._low == 0) & (self._high == 1) & complete
        ones = np.rint(np.where(truth, self._mean, 0.0) * self._count)
        return candidate_groups(self._names, ones, self.num_rows, truth)

    def _fitted_curves(self) -> dict[str, tuple[np.ndarray, Curved]]:
        """Return for each curved map the columns that need it, and how it divides them."""
        with np.errstate(invalid="ignore"):
            skewed = np.abs(self._shapes.skewness) >= HEAVY_SKEWNESS
        alike = (self._shapes.grid == self._shapes.quartiles[1]).mean(axis=0)
        skewed &= (self._count >= FEW) & (not self._keep_zeros)
        skewed &= ~self._first.traits.two_valued & (alike < NEAR_CONSTANT)
        columns = np.flatnonzero(skewed)
        columns = np.array([c for c in columns.tolist() if self._passes(c) is None], dtype=np.intp)
        found: dict[str, tuple[np.ndarray, Curved]] = {}
        for name in ("power", "quantile"):
            if not columns.size or not is_registered(name):
                continue
            curve = curved_map(name, columns, self._first, self._shapes)
            suits = np.ones(len(columns), dtype=bool)
            if name == "power" and is_registered("quantile"):
                suits = np.abs(curve.skewness) < SYMMETRIC
            if suits.any():
                part = Curved(*(each[..., suits] for each in curve))
                found[name] = columns[suits], part
            columns = columns[~suits]
        return found

    def _facts(self, column: int, *, one_hot: bool = False, alike: float = 0.0) -> Facts:
        first = self._first
        return Facts(
            name=self._names[column],
            count=int(self._count[column]),
            infinity=int(first.positive[column] + first.negative[column]),
            low=float(self._low[column]),
            high=float(self._high[column]),
            mean=float(self._mean[column]),
            std=float(self._std[column]),
            zero_iqr=bool(self._zero_iqr[column]),
            alike=alike,
            skewness=float(self._shapes.skewness[column]),
            tail_weight=float(self._shapes.tail_weight[column]),
            whole=bool(first.traits.whole[column]),
            two_valued=bool(first.traits.two_valued[column]),
            ascending=bool(first.traits.ascending[column]),
            one_hot=one_hot,
        )

    def _passes(self, column: int) -> str | None:
        return why_not_scaled(flags_of(self._facts(column)))

    def columns(self, fields: Mapping[int, Field], lost: Mapping[str, str]) -> list[ColumnReport]:
        """Return what there is to say of columns, in their order.

        Parameters
        ----------
        fields : mapping of int to Field
            By their places in the table.
        lost : mapping of names to str
            Columns whose whole numbers are none of float64, and what was said of them.
        """
        place = {name: number for number, name in enumerate(self._names)}
        missing = self.num_rows - self._count
        shown_counts(self.second.counts, self._bins, missing.astype(np.int64), self._high)
        confirmed = [g for g, there in zip(self._groups, self.second.one_hot, strict=True) if there]
        one_hot = {int(column) for group in confirmed for column in group}
        reports = []
        for number, field in fields.items():
            if field.name in place:
                reports.append(self._report(place[field.name], number, field, one_hot))
                continue
            flags = type_flag(field.kind)
            if field.name in lost:
                flags = {"identifier": "Whole numbers beyond 2**53, which float64 would round."}
            reason = why_not_scaled(flags) or ""
            reports.append(
                ColumnReport(
                    field.name, number, field.kind, Recommendation(None, reason), flags=flags
                )
            )
        return self._with_histograms(reports, place)

    def _report(self, column: int, place: int, field: Field, one_hot: set[int]) -> ColumnReport:
        first, count = self._first, int(self._count[column])
        second = self.second
        alike = float(second.equal[:3, column].max()) / count if count else 0.0
        facts = self._facts(column, one_hot=column in one_hot, alike=alike)
        flags = flags_of(facts)
        outliers = second.below[_LOW_FENCE, column] + count - (
            second.below[_HIGH_FENCE, column] + second.equal[_HIGH_FENCE, column]
        )  # fmt: skip
        curve, curved_skewness = self._curve_of(column)
        advice = recommended(
            Findings(
                passes=why_not_scaled(flags),
                number=count,
                skewness=facts.skewness,
                far_variance=float(self._shapes.far_variance[column]),
                outlier_share=outliers / count if count else 0.0,
                zero_iqr=facts.zero_iqr,
                curve=curve,
                curved_skewness=curved_skewness,
                beside_one_hot=bool(one_hot),
                keep_zeros=self._keep_zeros,
            )
        )
        infinity = facts.infinity
        nulls = int(first.nulls[column])
        return ColumnReport(
            name=field.name,
            place=place,
            type=field.kind,
            recommendation=advice,
            numeric=True,
            count=count,
            nulls=nulls,
            nan=self.num_rows - count - infinity - nulls,
            infinity=infinity,
            min=facts.low if count else None,
            max=facts.high if count else None,
            mean=facts.mean if count else None,
            std=facts.std if count else None,
            quartiles=self._quartiles(column, count),
            outliers=int(outliers) if count else None,
            flags=flags,
        )

    def _curve_of(self, column: int) -> tuple[str | None, float]:
        for name, (columns, curve) in self._curves.items():
            where = np.flatnonzero(columns == column)
            if where.size:
                return name, float(curve.skewness[where[0]])
        return None, float("nan")

    def _quartiles(self, column: int, count: int) -> tuple[Quartile, ...]:
        if not count:
            return ()
        found = []
        for number, q in enumerate(_Q):
            # What is at a rank is between the neighbours of q * (count - 1).
            below = self.second.below[number, column]
            upto = below + self.second.equal[number, column]
            least, most = np.floor(q * (count - 1)) + 1, np.ceil(q * (count - 1))
            error = max(below - most, least - upto, 0.0) / count
            found.append(Quartile(q, float(self._pivots[number, column]), float(error)))
        return tuple(found)

    def _with_histograms(
        self, reports: list[ColumnReport], place: Mapping[str, int]
    ) -> list[ColumnReport]:
        """Return the reports with what the columns hold, and would hold when mapped."""
        drawn: dict[int, tuple[Histogram, Histogram | None]] = {}
        by_scaler: dict[str | None, list[int]] = {}
        for report in reports:
            if report.numeric and report.count:
                column = place[report.name]
                by_scaler.setdefault(report.recommendation.scaler, []).append(column)
        for name, chosen in by_scaler.items():
            if name in self._curves:
                continue
            columns = np.array(chosen)
            ends = np.stack([self._bins.low[columns], self._bins.high[columns]])
            mapped = None if name is None else affine_ends(name, columns, self._first, ends)
            for number, column in enumerate(chosen):
                before = self._histogram(column, *ends[:, number])
                after = None if mapped is None else self._histogram(column, *mapped[:, number])
                drawn[column] = before, after
        for (columns, curve), below in zip(
            self._curves.values(), self.second.below_edges, strict=True
        ):
            for number, column in enumerate(columns.tolist()):
                before = self._histogram(column, self._bins.low[column], self._bins.high[column])
                drawn[column] = before, self._curved(column, curve, number, below[:, number])
        return [
            replace(each, before=drawn[place[each.name]][0], after=drawn[place[each.name]][1])
            if each.numeric and each.count
            else each
            for each in reports
        ]

    def _histogram(self, column: int, low: float, high: float) -> Histogram:
        number = int(self._bins.number[column])
        below, *counts = self.second.counts[column, : number + 2].tolist()
        return Histogram(
            float(low),
            float(high),
            tuple(counts[:-1]),
            below,
            counts[-1],
            bool(self._bins.discrete[column]),
        )

    def _curved(self, column: int, curve: Curved, number: int, below: np.ndarray) -> Histogram:
        counts = np.diff(below)
        above = self._count[column] - below[-1]
        if curve.edges[-1, number] >= self._high[column]:
            counts[-1] += above
            above = 0.0
        return Histogram(
            float(curve.low[number]),
            float(curve.high[number]),
            tuple(int(n) for n in counts),
            int(below[0]),
            int(above),
        )
