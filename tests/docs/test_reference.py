"""The reference has every public name, and each has an example that is run."""

import ast
import doctest
import importlib
import io
import re
import warnings

import pytest
from paths import ROOT
from processes import run_python

from normcore.package.public_names import ALL

#: Names that cannot have a docstring of ours, and those of functions that are tried elsewhere.
WITHOUT_EXAMPLE = {
    "normcore.functional": "a module, whose functions have examples",
    "normcore.hookimpl": "an object of pluggy's",
    "normcore.engines.State": "another name of dict",
    "normcore.io.fit_source": "normcore.fit_source",
    "normcore.io.transform_source": "normcore.transform_source",
    "normcore.torch.functional": "a module, whose functions have examples",
}
#: Examples that leave something behind in their process.
ALONE = {"normcore.register"}
RUN = "doctest.run_docstring_examples({}, {{}})"
MODULES = ("functional", "io", "engines", "testing", "mpi", "torch", "torch.functional")


def names_of_plugins():
    """Return the names that first-party plugins add to the package, as its stub has them."""
    stub = ast.parse((ROOT / "normcore" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return [
        each.name for node in imports if node.module.startswith("normcore_") for each in node.names
    ]


def all_of(module):
    """Return `__all__` of a public submodule, from its source: its library may be missing."""
    path = ROOT / "normcore" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no __all__")


def public_names():
    """Return every public name with its module in front."""
    names = [f"normcore.{name}" for name in (*ALL, *names_of_plugins())]
    return names + [f"normcore.{each}.{name}" for each in MODULES for name in all_of(each)]


def listed_names():
    """Return the names that pages of the reference list, with their modules in front."""
    listed = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            found = re.match(r"\.\. (currentmodule|py:data):: (\S+)", line)
            if found and found[1] == "currentmodule":
                module = found[2]
            elif found:
                listed.append(found[2])
            elif re.match(r"   \w+$", line):
                listed.append(f"{module}.{line.strip()}")
    return listed


def attribute(name):
    """Return the object of a public name; a missing library skips the test."""
    module, _, attribute = name.rpartition(".")
    library = {"normcore.torch": "torch", "normcore.mpi": "mpi4py"}
    for beginning, needed in library.items():
        if module.startswith(beginning):
            pytest.importorskip(needed)
    return getattr(importlib.import_module(module), attribute)


def test_every_public_name_is_listed_once():
    listed = listed_names()
    assert len(listed) == len(set(listed))
    modules = {"normcore.functional", "normcore.torch.functional"}  # pages of their own
    twice = {"normcore.io.fit_source", "normcore.io.transform_source"}  # names of normcore, too
    missing = set(public_names()) - set(listed) - modules - twice
    assert not missing, f"list in docs/reference: {sorted(missing)}"
    assert set(listed) <= set(public_names())


@pytest.mark.parametrize("name", sorted(set(public_names()) - WITHOUT_EXAMPLE.keys()))
def test_every_public_name_has_an_example(name):
    docstring = attribute(name).__doc__ or ""
    assert "Examples\n" in docstring, f"{name} has no section Examples in its docstring"
    examples = docstring.split("Examples\n", 1)[1]
    if name in ALONE:
        run_python("-c", f"import doctest, normcore\n{RUN.format(name)}")
        return
    parsed = doctest.DocTestParser().get_doctest(examples, {}, name, None, None)
    assert parsed.examples, name
    printed = io.StringIO()
    with warnings.catch_warnings():
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        result = runner.run(parsed, out=printed.write)
    assert result.failed == 0, printed.getvalue()
