"""The reference has every public name, and each has an example that is run."""

import doctest
import importlib
import io
import re
import warnings
from importlib.util import find_spec

import pytest
from processes import run_python
from reference_names import listed_names, names_to_list, public_names

#: Names that cannot have a docstring of ours, and those of functions that are tried elsewhere.
WITHOUT_EXAMPLE = {
    "normcore.functional": "a module, whose functions have examples",
    "normcore.hookimpl": "an object of pluggy's",
    "normcore.engines.State": "another name of dict",
    "normcore.torch.functional": "a module, whose functions have examples",
}
#: Examples that leave something behind in their process.
ALONE = {"normcore.register"}
#: Of Keras, which has one backend in a process.
LAYERS = {each for each in public_names() if each.startswith("normcore.keras.")}
RUN = "doctest.run_docstring_examples({}, {{}})"


def attribute(name):
    """Return the object of a public name; a missing library skips the test."""
    module, _, attribute = name.rpartition(".")
    library = {"normcore.jax": "jax", "normcore.torch": "torch", "normcore.mpi": "mpi4py"}
    for beginning, needed in library.items():
        if module.startswith(beginning):
            pytest.importorskip(needed)
    return getattr(importlib.import_module(module), attribute)


def test_every_public_name_is_listed_once():
    listed = listed_names()
    assert len(listed) == len(set(listed))
    missing = names_to_list() - set(listed)
    assert not missing, f"list in docs/reference: {sorted(missing)}"
    assert set(listed) <= set(public_names())


@pytest.mark.parametrize("name", sorted(set(public_names()) - WITHOUT_EXAMPLE.keys() - LAYERS))
def test_every_public_name_has_an_example(name):
    docstring = attribute(name).__doc__ or ""
    assert "Examples\n" in docstring, f"{name} has no section Examples in its docstring"
    examples = docstring.split("Examples\n", 1)[1]
    for library in re.findall(r"^ *(?:>>>|\.\.\.) +(?:import|from) (\w+)", examples, re.M):
        pytest.importorskip(library)
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


def test_layers_of_keras_have_examples():
    if find_spec("keras") is None:
        pytest.skip("needs Keras")
    code = f"""
import doctest, normcore.keras
for name in {sorted(LAYERS)}:
    docstring = eval(name).__doc__
    parsed = doctest.DocTestParser().get_doctest(
        docstring.split("Examples\\n", 1)[1], {{}}, name, None, None
    )
    assert parsed.examples, name
    doctest.DocTestRunner(verbose=False).run(parsed)
"""
    assert run_python("-c", code, KERAS_BACKEND="numpy").stdout == ""
