"""The reference has every public name, and each has an example that is run."""

import doctest
import importlib
import io
import warnings

import pytest
from processes import run_python
from reference_names import listed_names, names_in_two_modules, public_names

#: Names that cannot have a docstring of ours, and those of functions that are tried elsewhere.
WITHOUT_EXAMPLE = {
    "normcore.functional": "a module, whose functions have examples",
    "normcore.hookimpl": "an object of pluggy's",
    "normcore.engines.State": "another name of dict",
    "normcore.torch.functional": "a module, whose functions have examples",
}
#: Examples that leave something behind in their process.
ALONE = {"normcore.register"}
RUN = "doctest.run_docstring_examples({}, {{}})"


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
    missing = set(public_names()) - set(listed) - modules - names_in_two_modules()
    assert not missing, f"list in docs/reference: {sorted(missing)}"
    assert set(listed) <= set(public_names())


@pytest.mark.parametrize("name", sorted(set(public_names()) - WITHOUT_EXAMPLE.keys()))
def test_every_public_name_has_an_example(name):
    docstring = attribute(name).__doc__ or ""
    assert "Examples\n" in docstring, f"{name} has no section Examples in its docstring"
    examples = docstring.split("Examples\n", 1)[1]
    if name in ALONE:
        failures = run_python("-c", f"import doctest, normcore\n{RUN.format(name)}").stdout
        assert failures == ""
        return
    parsed = doctest.DocTestParser().get_doctest(examples, {}, name, None, None)
    assert parsed.examples, name
    printed = io.StringIO()
    with warnings.catch_warnings():
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        result = runner.run(parsed, out=printed.write)
    assert result.failed == 0, printed.getvalue()
