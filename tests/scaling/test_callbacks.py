"""scikit-learn's callbacks, called in fit as its own StandardScaler calls them."""

import pickle

import numpy as np
import pytest

import normcore as nc

pytest.importorskip("sklearn.callback")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler as Theirs

SCALERS = [nc.StandardScaler, nc.MinMaxScaler, nc.RobustScaler, nc.MaxAbsScaler]
X = np.random.default_rng(0).normal(3, 2, size=(30, 3))


class Recorder:
    """Notes each call, what it was told, and what it could do with it."""

    def __init__(self):
        self.calls = []

    def setup(self, estimator, context):
        self.calls.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.calls.append(("begin", X.shape, y, metadata))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        mean = abs(float(fitted_estimator.transform(X).mean()))
        self.calls.append(("end", X.shape, y, metadata, round(mean, 6)))


def recorded(scaler, *args, method="fit", **kwargs):
    recorder = Recorder()
    getattr(scaler.set_callbacks(recorder), method)(*args, **kwargs)
    return recorder.calls


@pytest.mark.parametrize("method", ["fit", "partial_fit", "fit_transform"])
def test_called_as_scikit_learn_does(method):
    expected = recorded(Theirs(), X, method=method)
    assert [call[0] for call in expected] == ["setup", "begin", "end", "teardown"]
    assert recorded(nc.StandardScaler(), X, method=method) == expected
    weights = np.arange(30.0)
    args = (X, "y") if method == "fit" else (X,)
    theirs = recorded(Theirs(), *args, method=method, sample_weight=weights)
    assert recorded(nc.StandardScaler(), *args, method=method, sample_weight=weights) == theirs


@pytest.mark.parametrize("cls", SCALERS)
def test_every_scaler_calls_them(cls):
    names = [call[0] for call in recorded(cls(), X)]
    assert names == ["setup", "begin", "end", "teardown"]
    scaler = cls().set_callbacks(Recorder())
    assert scaler.fit(X) is scaler
    assert not hasattr(scaler, "_callback_fit_ctx")
    again = clone(scaler)
    assert again._skl_callbacks is scaler._skl_callbacks  # as scikit-learn's clones share them
    assert pickle.loads(pickle.dumps(scaler)).n_features_in_ == 3
    scaler.set_callbacks()
    assert "_skl_callbacks" not in vars(scaler)


def test_of_sparse_input():
    sp = pytest.importorskip("scipy.sparse")
    calls = recorded(nc.MaxAbsScaler(), sp.csr_array(np.maximum(X, 0)))
    assert [call[0] for call in calls] == ["setup", "begin", "end", "teardown"]


def test_a_failing_fit_tears_them_down_and_leaves_the_scaler():
    class Fails(Recorder):
        def on_fit_task_begin(self, estimator, context):
            raise RuntimeError("no")

    scaler = nc.StandardScaler().fit(X)
    before = scaler.mean_
    callbacks = Fails()
    with pytest.raises(RuntimeError, match="no"):
        scaler.set_callbacks(callbacks).fit(X + 1)
    assert [call[0] for call in callbacks.calls] == ["setup", "teardown"]
    assert scaler.mean_ is before
    assert not hasattr(scaler, "_callback_fit_ctx")
    bad = np.where(X > 3, np.inf, X)
    calls = Recorder()
    with pytest.raises(ValueError, match="infinity"):
        scaler.set_callbacks(calls).fit(bad)
    assert calls.calls[-1][0] == "teardown"
    assert scaler.mean_ is before


def test_in_a_pipeline():
    """A callback of the pipeline reaches the scaler, and the task trees are one."""

    class Propagated(Recorder):
        max_propagation_depth = None

        def on_fit_task_begin(self, estimator, context):
            self.calls.append((type(estimator).__name__, context.source_estimator_name))

        def on_fit_task_end(self, estimator, context):
            pass

    def run(scaler):
        recorder = Propagated()
        pipeline = make_pipeline(scaler, LogisticRegression())
        pipeline.set_callbacks(recorder).fit(X, X[:, 0] > 3)
        assert not hasattr(scaler, "_parent_callback_ctx")
        return recorder.calls

    assert run(nc.StandardScaler()) == run(Theirs())


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="FitCallback protocol"):
        nc.StandardScaler().set_callbacks(print)
