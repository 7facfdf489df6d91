"""docs/scalers.md is true: its code runs, and it names every scaler with its parameters."""

import re

from paths import ROOT

import normcore as nc
from normcore import registration

PAGE = (ROOT / "docs" / "scalers.md").read_text(encoding="utf-8")
OWN = {
    row.target.partition(":")[2]
    for row in registration.registrations()
    if row.kind == "scaler" and row.distribution == "normcore-arrays"
}


def rows(start):
    lines = PAGE.split(f"| scaler | {start}")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {first.strip(" |`"): rest for first, *rest in cells}


def test_every_scaler_is_in_both_tables():
    assert rows("what").keys() == rows("parameters").keys() == OWN


def test_parameters_are_those_of_the_classes():
    for name, (parameters, streams, sparse, *_) in rows("parameters").items():
        scaler = getattr(nc, name)()
        named = set(re.findall(r"`(\w+)`", parameters))
        assert named <= scaler.get_params().keys(), name
        assert scaler.__sklearn_tags__().input_tags.sparse or sparse != "yes", name
        if streams.startswith("exactly"):
            assert hasattr(scaler, "partial_fit"), name
        if streams == "by a sketch":
            assert hasattr(type(scaler)(quantiles="sketch"), "partial_fit"), name


def test_code_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    exec(compile(code, "docs/scalers.md", "exec"), {})
