"""Which scaler a column should have, and why."""

from __future__ import annotations

from typing import NamedTuple

from normcore.reporting.column import Recommendation
from normcore.reporting.maps import PARAMS

__all__ = ["FEW", "HEAVY_SKEWNESS", "SYMMETRIC", "Findings", "recommended"]

#: Fewer values than this say little of a distribution.
FEW = 20

#: A skewness of the bulk of a column from which on an affine map leaves it lopsided, and one below
#: which a power is said to have mended that.
HEAVY_SKEWNESS, SYMMETRIC = 1.0, 0.75
# Share of the variance beyond the outer fences that makes the standard deviation one of outliers.
_CARRIED = 0.2


class Findings(NamedTuple):
    """What decides; NaN where it is not known.

    Attributes
    ----------
    passes : str or None
        Why the column passes through, in a sentence.
    number : int
        Of values.
    skewness, far_variance : float
        As of :class:`~normcore.reporting.shapes.Shapes`.
    outlier_share : float
        Beyond the inner fences.
    zero_iqr : bool
    curve : str or None
        "power" or "quantile", where one of them suits a column that is heavily skewed.
    curved_skewness : float
        What the power leaves of the skewness.
    beside_one_hot : bool
        Whether the table has one-hot columns.
    keep_zeros : bool
        Whether zeros are to stay zeros, as in a sparse matrix.
    """

    passes: str | None = None
    number: int = FEW
    skewness: float = float("nan")
    far_variance: float = float("nan")
    outlier_share: float = float("nan")
    zero_iqr: bool = False
    curve: str | None = None
    curved_skewness: float = float("nan")
    beside_one_hot: bool = False
    keep_zeros: bool = False


def recommended(found: Findings) -> Recommendation:
    """Return the scaler for a column, with the reason in a sentence."""
    if found.passes is not None:
        return Recommendation(None, found.passes)
    if found.keep_zeros:
        return Recommendation(
            "maxabs", "The table is sparse: divided by its largest magnitude, zeros stay zeros."
        )
    if found.number < FEW:
        return Recommendation(
            "standard", f"Fewer than {FEW} values tell no more than their mean and deviation."
        )
    if found.curve is not None:
        return Recommendation(found.curve, _curved(found), PARAMS.get(found.curve, {}))
    if found.far_variance >= _CARRIED:
        share = f"{found.outlier_share:.2g}" if found.outlier_share < 1e-4 else (
            f"{found.outlier_share:.1%}"
        )  # fmt: skip
        return Recommendation(
            "robust",
            f"Outliers ({share} of the values) carry {found.far_variance:.0%} of the variance; "
            "median and quartile range do not see them.",
        )
    if found.beside_one_hot and not found.zero_iqr:
        return Recommendation(
            "minmax",
            "One-hot columns stand beside it: in [0, 1] all columns have the same range.",
        )
    if found.zero_iqr:
        return Recommendation(
            "standard",
            "At least half of its values are alike, so that the quartile range is 0 and only the "
            "standard deviation tells its scale.",
        )
    return Recommendation(
        "standard", f"Roughly symmetric (skewness {found.skewness:.2f}), no outliers that matter."
    )


def _curved(found: Findings) -> str:
    side = "right" if found.skewness > 0 else "left"
    skewed = f"Heavily skewed to the {side} (skewness {found.skewness:.1f})"
    if found.curve == "power":
        return f"{skewed}; a power leaves a skewness of {abs(found.curved_skewness):.1f}."
    return f"{skewed}, and no power mends it: its ranks make it normal."
