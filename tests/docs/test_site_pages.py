"""Pages that the site adds are true: their examples run, also those of other libraries."""

import importlib
import re

import numpy as np
import pytest
from page_examples import check_examples
from paths import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("page", ["start.md", "layers.md", "numerics.md", "extending.md"])
def test_examples_of_pages(page):
    if page == "start.md":
        pytest.importorskip("sklearn")
    check_examples(page)


@pytest.mark.parametrize(
    ("page", "library"),
    [
        ("scikit-learn", "sklearn"),
        ("pytorch", "torch"),
        ("keras", "keras"),
        ("dask-ml", "dask_ml"),
        ("stable-baselines3", "stable_baselines3"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # those of the other libraries
def test_examples_of_migration(page, library):
    pytest.importorskip(library)
    check_examples(f"migration/{page}.md")


def test_every_library_to_come_from_is_tried():
    pages = {path.stem for path in (DOCS / "migration").glob("*.md")}
    assert pages == {"scikit-learn", "pytorch", "keras", "dask-ml", "stable-baselines3"}


def test_names_of_migration_exist():
    """Whatever stands in a table as ours is a name that there is."""
    for path in (DOCS / "migration").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for name in set(re.findall(r"\bnc\.([A-Za-z]\w*(?:\.[A-Za-z]\w*)?)", text)):
            found = importlib.import_module("normcore")
            for part in name.split("."):
                found = getattr(found, part)


def test_first_code_of_the_start_page():
    (code,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "index.md").read_text(), re.M | re.S)
    names = {}
    exec(compile(code, "index.md", "exec"), names)
    assert names["Y"].dtype == np.float32
    assert np.abs(names["y"].mean(axis=0)).max() < 1e-6


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in DOCS.rglob("*.md"):
        for entries in re.findall(r"^```{toctree}\n(.*?)^```$", path.read_text(), re.M | re.S):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            targets = [re.sub(r".*<(.*)>", r"\1", name) for name in names]
            listed |= {(path.parent / target).resolve() for target in targets}
    pages = {path.with_suffix("") for path in DOCS.rglob("*.md")} - {DOCS / "index"}
    generated = {path for path in pages if "generated" in path.parts or "gallery" in path.parts}
    missing = [path.relative_to(DOCS).as_posix() for path in pages - generated - listed]
    assert not missing, f"add to a toctree, as that of docs/guide.md: {missing}"
