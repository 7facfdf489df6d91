"""What the tests share that the conformance kit can fail."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase, given, settings

from normcore.array_backend.reference import ReferenceBackend
from normcore.testing.backend import laws


class Faulty(ReferenceBackend):
    name = "faulty"


def check(kit: Any, name: str, *arguments: Any) -> None:
    """Run one law as it is, without time spent on making a failing example small."""
    law = getattr(type(kit), name)
    if hasattr(law, "hypothesis"):
        inner = given(**law.hypothesis._given_kwargs)(law.hypothesis.inner_test)
        law = settings(laws, phases=[Phase.generate], derandomize=True, database=None)(inner)
    law(kit, *arguments)
