"""Each line of the tables of migration pages runs: theirs, and ours beside it.

What a line speaks of without making it, as `x` or `scaler`, is made here.
"""

from __future__ import annotations

import re
import shlex
from functools import partial

import numpy as np
import pytest
from paths import ROOT
from processes import run_python

import normcore as nc

PAGES = ROOT / "docs" / "migration"
#: Where the names of a page are, and the library without which its lines do not run.
MODULES = {
    "scikit-learn": ("sklearn.preprocessing", "sklearn.compose", "joblib"),
    "pytorch": ("torch", "torch.nn", "torch.optim.swa_utils"),
    "keras": ("keras",),
    "dask-ml": ("dask_ml.preprocessing", "dask.dataframe", "distributed"),
    "stable-baselines3": ("stable_baselines3", "stable_baselines3.common.running_mean_std"),
}


def lines(page):
    """Return the rows of a page's table: theirs and ours."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", text, re.MULTILINE)
    assert rows[0] == ("theirs", "ours")
    return rows[2:]


def things(page, folder, ours=False):
    """Return what the lines of a page speak of."""
    rng = np.random.default_rng(0)
    x = rng.normal(5.0, 2.0, (32, 64)).astype(np.float32)
    names = {"np": np, "nc": nc, "n": 64, "channels": 64, "x": x, "X": x, "m": x.mean(0),
             "v": x.var(0), "scaler": nc.StandardScaler().fit(x)}  # fmt: skip
    if page == "scikit-learn":
        from scipy import sparse

        frame = pytest.importorskip("pandas").DataFrame({"x": x[:, 0], "y": x[:, 1]})
        names |= {"sparse": sparse.csr_array(np.round(x)), "path": folder / "s", "X": frame,
                  "scaler": nc.StandardScaler().fit(x)}  # fmt: skip
    elif page == "pytorch":
        import torch

        import normcore
        import normcore.torch

        x, images = torch.randn(8, 64), torch.randn(8, 64, 2, 2)
        model = torch.nn.Sequential(torch.nn.BatchNorm2d(64))
        names |= {"torch": torch, "normcore": normcore, "x": x, "loader": [images, images],
                  "shape": (64,), "w": torch.ones(64), "b": torch.zeros(64),
                  "model": normcore.torch.convert(model) if ours else model,
                  "module": torch.nn.BatchNorm2d(64)}  # fmt: skip
    elif page == "keras":
        import keras

        import normcore
        import normcore.keras

        layer = keras.layers.BatchNormalization()
        layer(x)
        names |= {"keras": keras, "normcore": normcore, "layer": layer, "shape": (64,)}
    elif page == "dask-ml":
        import dask.array
        import dask.dataframe
        import distributed

        names |= {"dd": dask.dataframe, "X": dask.array.from_array(x, chunks=(8, 64)),
                  "Client": partial(distributed.Client, processes=False, dashboard_address=None),
                  "address": None}  # fmt: skip
    else:
        import gymnasium
        from stable_baselines3.common.running_mean_std import RunningMeanStd
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        other = RunningMeanStd(shape=(64,))
        other.update(x)

        class Still(gymnasium.Env):
            observation_space = action_space = gymnasium.spaces.Box(-np.inf, np.inf, (64,))

        names |= {"rms": RunningMeanStd(shape=(64,)), "obs": x, "batch": x,
                  "venv": VecNormalize(DummyVecEnv([Still])),
                  "other": nc.StandardScaler().fit(x) if ours else other}  # fmt: skip
    return names


def spans(cell):
    """Return the pieces of code of a cell."""
    return re.findall(r"`([^`]+)`", cell)


def run(code, names, modules):
    """Run one piece of code; a name alone must be there."""
    if code.startswith("normcore "):
        run_python("-m", *shlex.split(code))
    elif re.fullmatch(r"\w+", code) and code not in names:
        assert any(hasattr(each, code) for each in modules), code
    elif code.startswith("."):
        names["last"] = eval(f"last{code}", names)
    elif re.match(r"(from|import) |[\w.]+ = ", code):
        exec(code, names)
    else:
        names["last"] = eval(code, names)


LINES = [
    pytest.param(page, number, id=f"{page} {number}")
    for page in MODULES
    for number in range(len(lines(page)))
]


@pytest.mark.parametrize(("page", "number"), LINES)
@pytest.mark.filterwarnings("ignore")  # those of the other libraries
def test_lines_run(page, number, tmp_path, monkeypatch):
    modules = [pytest.importorskip(each) for each in MODULES[page]]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a,b\n1,2\n3,5\n4,4\n")
    theirs, ours = lines(page)[number]
    names = things(page, tmp_path)
    for module in modules:
        names |= {each: getattr(module, each) for each in dir(module) if each not in names}
        names.setdefault(module.__name__, module)
    for code in spans(theirs):
        run(code, names, modules)
    getattr(names.get("last"), "close", int)()  # clients have threads
    names = things(page, tmp_path, ours=True)
    if ours.startswith("the same"):
        names |= {each: getattr(nc, each) for each in nc.__all__}
        ours = f"{ours} {theirs}"
    modules = [nc, nc.BatchNorm, nc.StandardScaler, *([nc.torch] if page == "pytorch" else [])]
    for code in spans(ours):
        run(code, names, modules)
