"""The page of a report: what the template is given, and how numbers and charts are written.

The template escapes all text; style and script are files beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

from normcore.io.missing_library import MissingLibrary
from normcore.package.public_names import __version__
from normcore.reporting.column import ColumnReport, Histogram, Quartile
from normcore.reporting.flags import FLAGS

if TYPE_CHECKING:
    import jinja2

    from normcore.reporting.data_report import DataReport

__all__ = ["rendered"]

_HEIGHT = 24
_NOTHING = "\N{EN DASH}"
_HEADERS = (
    "Column", "Missing", "Min", "Q1", "Median", "Q3", "Max", "Mean", "Std", "Outliers",
    "Before", "After", "Recommended",
)  # fmt: skip
_CHARTS = ("Before", "After")  # which have no order
_TITLES = {
    "standard": "Standard",
    "minmax": "Min-max",
    "maxabs": "Max-abs",
    "robust": "Robust",
    "power": "Power",
    "quantile": "Quantile",
    "pass": "Pass through",
}


def rendered(report: DataReport, python: str, commands: Iterable[str]) -> str:
    """Return the page of a report.

    Raises
    ------
    MissingLibrary
        If Jinja2 is not installed.
    """
    chosen = Counter(column.recommendation.scaler or "pass" for column in report.columns)
    flags = Counter(flag for column in report.columns for flag in column.flags)
    page: str = (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            tiles=_tiles(report),
            scalers=[(name, chosen[name]) for name in _TITLES if chosen[name]],
            titles=_TITLES,
            flags=[(flag, flags[flag]) for flag in FLAGS if flags[flag]],
            flag_names=FLAGS,
            headers=_HEADERS,
            charts=_CHARTS,
            applies=chosen.keys() - {"pass"},
            python=python,
            commands=list(commands),
            height=_HEIGHT,
            version=__version__,
        )
    )
    return page


@cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingLibrary(
            "Jinja2", "the page of a report", '"normcore-arrays[report]"'
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("normcore.reporting"),
        autoescape=lambda name: name is None or name.endswith(".j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        number=_number, short=_short, bars=_bars, beyond=_beyond, missing=_missing,
        share=_share, error=_error,
    )  # fmt: skip
    return environment


def _tiles(report: DataReport) -> list[tuple[str, str, str]]:
    """Return what there is to say of the whole table: a name, a number and a remark."""
    numeric = [column for column in report.columns if column.numeric]
    others = len(report.columns) - len(numeric)
    cells = len(numeric) * report.num_rows
    missing = sum(column.nulls + column.nan for column in numeric)
    infinite = sum(column.infinity > 0 for column in numeric)
    scaled = sum(column.recommendation.scaler is not None for column in numeric)
    return [
        ("Rows", f"{report.num_rows:,}", ""),
        ("Columns", f"{len(report.columns):,}", f"{others:,} not numeric" if others else ""),
        ("To scale", f"{scaled:,}", f"{len(report.columns) - scaled:,} pass through"),
        ("Missing", _share(missing / cells) if cells else "0", f"{missing:,} cells"),
        ("Infinite", f"{infinite:,}", "columns, which scalers refuse" if infinite else "columns"),
    ]


def _number(value: float | None, spread: float | None = None) -> str:
    """Return a number in 4 digits, or as many more as tell values apart that have this spread."""
    if value is None:
        return _NOTHING
    digits = 4
    if spread and value and abs(value) > spread:
        digits = min(max(digits, math.ceil(math.log10(abs(value)) - math.log10(spread)) + 2), 15)
    if value and not 1e-4 <= abs(value) < 10.0 ** max(digits, 6):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    places = max(digits - 1 - (math.floor(math.log10(abs(value))) if value else 0), 0)
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _short(value: float) -> str:
    return f"{value:.6g}"


def _share(value: float | None) -> str:
    if value is None:
        return _NOTHING
    if value == 0:
        return "0"
    return f"{value:.1%}" if value >= 0.001 else "<0.1%"


def _missing(column: ColumnReport, num_rows: int) -> str:
    missing = column.nulls + column.nan
    return _share(missing / num_rows) if num_rows else _NOTHING


def _error(quartile: Quartile) -> str:
    """Return the rank error of a quartile, nothing where it does not show."""
    return f"{quartile.error:.2%}" if quartile.error >= 0.00005 else ""


def _bars(drawn: Histogram) -> str:
    """Return the outline of a histogram as the path of an SVG, one unit wide a bin."""
    heights = _heights(drawn)[1:-1]
    steps, last = [f"M0 {_HEIGHT}"], 0
    for height in heights:
        steps.append("h1" if height == last else f"v{last - height}h1")
        last = height
    return "".join(steps) + f"V{_HEIGHT}z"


def _beyond(drawn: Histogram) -> str:
    """Return bars for what lies below the first bin and above the last one."""
    below, *_, above = _heights(drawn)
    width = len(drawn.counts) / 32
    bars = ((-2 * width, below), (len(drawn.counts) + width, above))
    return "".join(
        f"M{left:g} {_HEIGHT}v-{height}h{width:g}V{_HEIGHT}z" for left, height in bars if height
    )


def _heights(drawn: Histogram) -> list[int]:
    counts = (drawn.below, *drawn.counts, drawn.above)
    largest = max(counts) or 1
    return [math.ceil(_HEIGHT * count / largest) for count in counts]
