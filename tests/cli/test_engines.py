"""How a fit finds quantiles, and who reads the data: what the command line refuses."""

import numpy as np
import pytest
from command_line import bad, good

import normcore as nc

pytestmark = pytest.mark.usefixtures("in_folder")


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(20_000, 2)))


def test_quantiles_by_a_sketch():
    words = ("fit", "x.npy", "--scaler", "robust", "--save", "s.json")
    good(*words, "--quantiles", "sketch", "--error", "0.02")
    scaler = nc.load("s.json")
    assert (scaler.quantiles, scaler.quantile_error) == ("sketch", 0.02)
    assert 0 < scaler.quantile_error_ <= 0.02
    good(*words, "--quantiles", "exact")
    assert nc.load("s.json").quantile_error_ == 0
    good(
        "fit-transform", "x.npy", "-o", "y.npy", "--scaler", "quantile",
        "--quantiles", "sketch", "--param", "n_quantiles=10",
    )  # fmt: skip
    assert np.load("y.npy").max() == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["standard", "--quantiles", "sketch"], "'standard' learns no quantiles: leave --quant"),
        (["robust", "--error", "0.1"], "--error is that of a sketch: add --quantiles sketch"),
        (["robust", "--quantiles", "exact", "--error", "0.1"], "add --quantiles sketch"),
        (["robust", "--quantiles", "sketch", "--error", "7"], "quantile_error must be a number"),
        (
            ["robust", "--quantiles", "sketch", "--param", "quantiles=exact"],
            "--param quantiles is given twice",
        ),
        (["robust", "--engine", "dosk"], "there is no engine 'dosk'; did you mean 'dask'?"),
        (["robust", "--scheduler", "tcp://a:1"], "--scheduler is that of an engine"),
        (["robust", "--engine", "dask", "--backend", "cpu"], "--backend is for this process"),
    ],
)
def test_words_that_make_no_sense(words, message):
    status, line = bad("fit", "x.npy", "--save", "s.json", "--scaler", *words)
    assert status == 2
    assert message in line


def test_engines_are_listed():
    assert "normcore.engines.dask:DaskEngine" in good("engines")
