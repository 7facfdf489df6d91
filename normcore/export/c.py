"""A fitted scaler as one C99 file, which needs nothing but the standard headers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from normcore.export.column_map import ColumnMap, column_map, column_names
from normcore.package.public_names import __version__
from normcore.scaling.scaler import Scaler

__all__ = ["to_c"]

_DTYPES = {"double": np.float64, "float": np.float32}

# What would give other bits: optimizations that IEEE 754 does not allow, and wider registers.
_GUARDS = """\
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) \\
    || defined(__NO_SIGNED_ZEROS__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile without -ffast-math and its parts: they change results, and NaN among them"
#endif
/* 1, 16, 32 and 64 widen only what is narrower than a double. */
#if FLT_EVAL_METHOD < 0 || FLT_EVAL_METHOD == 2 || FLT_EVAL_METHOD > 64
#error "doubles would be computed in wider registers: compile for SSE2, as with -msse2 -mfpmath=sse"
#endif
/* No product and sum in one rounding. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize ("fp-contract=off")
#elif defined(_MSC_VER)
#pragma fp_contract (off)
#else
#pragma STDC FP_CONTRACT OFF
#endif
"""

_MAP = """\
static double {prefix}_map(double x, const double map[4][{width}], size_t j)
{{
    const double centered = x - map[0][j];
    const double normalized = centered / map[1][j];
    const double scaled = normalized * map[2][j];
    return scaled + map[3][j];
}}
"""

_FUNCTION = """\
void {function}(const {type} *x, {type} *y, size_t rows)
{{
    for (size_t i = 0; i < rows; ++i) {{
        for (size_t j = 0; j < {width}; ++j) {{
            {qualifier}double value = {prefix}_map(x[i * {width} + j], {table}, j);
{clip}            y[i * {width} + j] = ({type})value;
        }}
    }}
}}
"""

_CLIP = """\
            if (value < {low}) value = {low};
            else if (value > {high}) value = {high};
"""


def to_c(scaler: Scaler, *, name: str = "scaler", inverse: bool = False) -> str:
    """Return the source of functions that scale tables in row-major order.

    Parameters
    ----------
    scaler : AffineScaler
        Fitted to a table.
    name : str
        With which all names in the file begin; what C does not allow becomes ``_``.
    inverse : bool
        Whether there are functions of the inverse, too.

    Returns
    -------
    str
        ``<name>_transform(const double *x, double *y, size_t rows)`` and
        ``<name>_transform_float`` of floats, ``<name>_inverse`` and ``<name>_inverse_float``;
        ``y`` may be ``x``. ``<name>_num_features`` is a constant, ``<name>_feature_names`` an
        array of UTF-8 text.

    Raises
    ------
    ValueError
        If the name of a column holds a null character, with which text in C ends.
    """
    prefix = _identifier(name)
    owner, width = type(scaler).__name__, f"{prefix}_num_features"
    parts, prototypes = [], []
    tables: dict[bytes, str] = {}  # the names of those that are written
    for suffix, back in (("transform", False), ("inverse", True))[: 2 if inverse else 1]:
        for kind, dtype in _DTYPES.items():
            maps = column_map(scaler, "c", dtype=dtype, inverse=back)
            function = f"{prefix}_{suffix}" + ("" if kind == "double" else f"_{kind}")
            numbers = maps.coefficients.tobytes()
            if numbers not in tables:
                tables[numbers] = f"{function}_numbers"
                parts.append(_table(tables[numbers], width, maps.coefficients))
            prototypes.append(f"void {function}(const {kind} *x, {kind} *y, size_t rows);")
            parts.append(_function(prefix, function, kind, tables[numbers], maps))
    names = column_names(scaler)
    label = re.sub(r"\W", "_", owner, flags=re.ASCII)
    head = (
        f"/* {label} of {len(names)} features, exported by normcore {__version__}:\n"
        "   ((x - center) / scale) * gamma + beta in doubles. Bits are those of transform. */\n"
        "#include <float.h>\n#include <math.h>\n#include <stddef.h>\n\n"
        f"{_GUARDS}\n"
        f"enum {{ {width} = {len(names)} }};\n"
        f"extern const char *const {prefix}_feature_names[{width}];\n" + "\n".join(prototypes)
    )
    listed = ",\n".join(f"    {_text(each)}" for each in names)
    features = f"const char *const {prefix}_feature_names[{width}] = {{\n{listed}\n}};\n"
    return "\n".join([head, "", features, _MAP.format(prefix=prefix, width=width), *parts])


def _function(prefix: str, function: str, kind: str, table: str, maps: ColumnMap) -> str:
    clip = ""
    if maps.bounds is not None:
        low, high = map(_number, maps.bounds)
        clip = _CLIP.format(low=low, high=high)
    return _FUNCTION.format(
        prefix=prefix, function=function, type=kind, table=table,
        width=f"{prefix}_num_features", clip=clip, qualifier="" if clip else "const ",
    )  # fmt: skip


def _table(table: str, width: str, coefficients: np.ndarray) -> str:
    """Return center, scale, gamma and beta of all features."""
    rows = ",\n".join(
        "    {" + _wrapped([_number(float(each)) for each in row]) + "}" for row in coefficients
    )
    return f"static const double {table}[4][{width}] = {{\n{rows}\n}};\n"


def _wrapped(numbers: Iterable[str]) -> str:
    lines, line = [], ""
    for number in numbers:
        if line and len(line) + len(number) > 88:
            lines.append(line)
            line = ""
        line += number + ", "
    return "\n     ".join([*lines, line]).rstrip(", ")


def _number(value: float) -> str:
    """Return a literal that has every bit."""
    if math.isfinite(value):
        return value.hex()
    return "NAN" if math.isnan(value) else ("INFINITY" if value > 0 else "-INFINITY")


def _text(text: str) -> str:
    """Return a literal of the bytes of a name; none of them can end it, or begin a trigraph."""
    if "\0" in text:
        raise ValueError(f"text in C ends where the name {text!r} has a null character: rename it")
    data = text.encode("utf-8", "surrogatepass")
    plain = re.compile(rb"[A-Za-z0-9 _.,:;/()+*=<>!#$%&@\[\]{}^|~'`-]")
    return '"' + "".join(chr(b) if plain.match(bytes([b])) else f"\\{b:03o}" for b in data) + '"'


def _identifier(name: str) -> str:
    """Return the beginning of C identifiers for a name."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    made = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not made.strip("_"):
        raise ValueError(f"name={name!r} has no letter or digit that a C identifier can have")
    return made if made[0].isalpha() else f"f{made}"  # those that begin with _ are reserved
