"""Results have the bits of the table that ``helpers/result_hashes.py`` writes."""

from __future__ import annotations

import json

import pytest
from result_hashes import BUILDS, TABLE, available, computed

import normcore as nc


@pytest.mark.parametrize("build", [*BUILDS, "reference"])
def test_results_have_the_bits_they_had(build: str) -> None:
    builds = {"reference": nc.get_backend("reference"), **available()}
    if build not in builds:
        pytest.skip(f"this processor or build lacks {build}")
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    column = "reference" if build == "reference" else "cpu"
    expected = {name: row[column] for name, row in table.items() if column in row}
    found = {name: hashed for name, _, hashed in computed({build: builds[build]})}
    differing = [name for name in expected.keys() | found if expected.get(name) != found.get(name)]
    assert not differing, f"{len(differing)} differ:\n" + "\n".join(sorted(differing))
