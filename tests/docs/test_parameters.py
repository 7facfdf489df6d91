"""The docstrings of public callables describe every parameter, or say where it is described."""

import re
from importlib.util import find_spec

import pytest
from docstring_parameters import Docstring, undocumented
from processes import printed_json
from reference_names import public_names

#: Definitions whose parameters are not the caller's.
WITHOUT_ENTRIES = {
    r"\w+\.test_\w+": "laws, which pytest calls",
    r"ScalerUnderTest\.pytest_generate_tests": "a hook, which pytest calls",
}
#: Of Keras, which has one backend in a process.
LAYERS = sorted(each for each in public_names() if each.startswith("normcore.keras."))
LIBRARIES = {"normcore.jax": "jax", "normcore.torch": "torch"}


def left_out(label):
    return any(re.fullmatch(rf"{each}\(\w+\)", label) for each in WITHOUT_ENTRIES)


@pytest.mark.parametrize("name", sorted(set(public_names()) - set(LAYERS)))
def test_every_parameter_is_described(name):
    for beginning, library in LIBRARIES.items():
        if name.startswith(beginning):
            pytest.importorskip(library)
    missing = [each for each in undocumented(name) if not left_out(each)]
    assert not missing, f"describe in a section Parameters: {', '.join(missing)}"


def test_every_parameter_of_layers_of_keras_is_described():
    if find_spec("keras") is None:
        pytest.skip("needs Keras")
    code = f"""
from docstring_parameters import undocumented
print(json.dumps([each for name in {LAYERS} for each in undocumented(name)]))
"""
    assert printed_json(code, KERAS_BACKEND="numpy") == []


def test_what_is_left_out_is_there():
    labels = undocumented("normcore.testing.ScalerConformance")
    for each in WITHOUT_ENTRIES:
        assert any(re.fullmatch(rf"{each}\(\w+\)", label) for label in labels), each


def of_ours(function):
    function.__module__ = "normcore"
    return function


@of_ours
def described(x, first, second, *others, **options):
    """Do something.

    Parameters
    ----------
    x : array
    first, second : int
        Of shape ``(*others)``.
    *others, **options
        More.

    Returns
    -------
    y : array
    """


@of_ours
def half_described(x, y):
    """Do something with y, as :func:`normcore.functional.moments` does.

    Parameters
    ----------
    x : array

    Returns
    -------
    y : array
        As for :func:`normcore.functional.batch_norm_inference`.
    """


@of_ours
def refers(x, weights, other):
    """Do something; other parameters are those of :func:`moments`."""


@of_ours
def refers_wrongly(x, channels):
    """Do something.

    Parameters
    ----------
    x, channels
        As for :func:`moments`.
    """


@of_ours
def refers_outside(array, axis, sequence):
    """Do something; see :func:`json.dumps`, and as for :func:`textwrap.indent`.

    Parameters
    ----------
    array, axis : object
    """


@pytest.mark.parametrize(
    ("function", "missing"),
    [
        (described, []),
        (half_described, ["y"]),
        (refers, ["other"]),
        (refers_wrongly, ["channels"]),
        (refers_outside, ["sequence"]),
    ],
)
def test_what_is_not_described_is_found(function, missing):
    assert Docstring(function).undocumented() == missing
