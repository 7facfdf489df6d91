"""docs/gpu.md, of which parts are written by commands."""

from __future__ import annotations

import re

from benchmarks.gpu.emulation import ROOT

__all__ = ["PAGE", "put"]

PAGE = ROOT / "docs" / "gpu.md"


def put(name: str, text: str) -> None:
    """Replace the part of the page between the comments that name it.

    Raises
    ------
    ValueError
        If the page has no such part.
    """
    old = PAGE.read_text(encoding="utf-8")
    start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if old.count(start) != 1 or old.count(stop) != 1:
        raise ValueError(f"{PAGE.name} has no part between {start} and {stop}")
    part = re.compile(f"{re.escape(start)}.*{re.escape(stop)}", re.S)
    new = part.sub(lambda found: f"{start}\n{text.strip()}\n{stop}", old)
    PAGE.write_text(new, encoding="utf-8")
