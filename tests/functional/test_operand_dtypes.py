"""Weights, masks and vectors of any dtype and memory give what plain float64 ones give."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional

# Exact in every dtype, and different from what their bytes in another order would be.
VALUES = np.array([1.0, 100.0, 3.0, 0.0, 7.0, 64.0])
X = np.array([[1.0, -4.0], [2.0, 8.0], [3.0, 5.0], [1e6, -1e6], [7.0, 0.5], [0.25, 9.0]])


class OfDLPack:
    """An array of which nothing is known but its DLPack."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


def unaligned(values):
    memory = np.zeros(values.nbytes + 1, np.uint8)
    found = memory[1:].view(values.dtype).reshape(values.shape)
    found[...] = values
    assert not found.flags.aligned
    return found


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def tensor(values):
    return pytest.importorskip("torch").tensor(values)


DTYPES = ["f2", "f4", "f8", "g", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FORMS = {
    **{name: lambda v, name=name: v.astype(name) for name in DTYPES},
    **{
        f"swapped {name}": lambda v, name=name: v.astype(np.dtype(name).newbyteorder("S"))
        for name in ("f2", "f4", "f8", "g", "i2", "i4", "i8", "u4")
    },
    **{f"unaligned {t}": lambda v, t=t: unaligned(v.astype(t)) for t in ("f4", "f8", "i8", "g")},
    "unaligned swapped": lambda v: unaligned(v.astype(">f8")),
    "strided": lambda v: np.repeat(v, 3)[::3],
    "reversed": lambda v: v[::-1].copy()[::-1],
    "swapped and strided": lambda v: np.repeat(v, 2).astype(">f4")[::2],
    "field": lambda v: np.rec.fromarrays([v.astype("i1"), v], names="a,b")["b"],
    "read-only": read_only,
    "list": lambda v: v.tolist(),
    "integers": lambda v: v.astype(int).tolist(),
    "DLPack": OfDLPack,
    "tensor": tensor,
    "half tensor": lambda v: tensor(v).half(),
    "bfloat16": lambda v: v.astype(pytest.importorskip("ml_dtypes").bfloat16),
    "bfloat16 tensor": lambda v: tensor(v).bfloat16(),
    "integer tensor": lambda v: tensor(v).int(),
    "expanded tensor": lambda v: tensor(v)[:, None].expand(len(v), 2)[:, 1],
}


@pytest.fixture(params=FORMS)
def form(request):
    if request.param.endswith("g") and np.dtype("g").itemsize == 8:
        pytest.skip("longdouble is float64 here")
    return FORMS[request.param]


def assert_weighted(moments, x, weights):
    """Compare with NumPy; of each channel of (N, C) with weights (N,)."""
    mean = np.average(x, axis=0, weights=weights)
    assert_allclose(moments.mean, mean, rtol=1e-14)
    assert_allclose(moments.var(), np.average((x - mean) ** 2, axis=0, weights=weights), rtol=1e-13)
    assert_array_equal(moments.count, weights.sum())


def test_weights_of_samples(backend, form):
    assert_weighted(functional.moments(X, channel_axis=1, weights=form(VALUES)), X, VALUES)
    found = functional.quantiles(X, [0.2, 0.5, 0.9], channel_axis=1, weights=form(VALUES))
    right = np.quantile(X, [0.2, 0.5, 0.9], axis=0, weights=VALUES, method="inverted_cdf")
    assert_array_equal(found.values, right)
    scaler = nc.StandardScaler().fit(X, sample_weight=form(VALUES))
    assert_allclose(scaler.mean_, np.average(X, axis=0, weights=VALUES), rtol=1e-14)
    halves = nc.StandardScaler().fit(X[:3], sample_weight=form(VALUES[:3]))
    halves.partial_fit(X[3:], sample_weight=form(VALUES[3:]))
    assert_allclose(halves.var_, scaler.var_, rtol=1e-13)


def test_weights_of_positions(backend, form):
    x = X.reshape(2, 3, 2)  # channels last
    weights = form(VALUES)
    if not hasattr(weights, "reshape"):
        weights = np.asarray(weights) if isinstance(weights, list) else np.from_dlpack(weights)
    moments = functional.moments(x, channel_axis=2, weights=weights.reshape(2, 3))
    assert_weighted(moments, X, VALUES)


@pytest.mark.parametrize("kind", ["strided", "broadcast", "read-only", "list", "tensor", "DLPack"])
def test_masks(backend, kind):
    plane = np.array([[True, False, True], [True, True, True]])
    mask = {
        "strided": lambda: np.repeat(plane, 2, axis=1)[:, ::2],
        "broadcast": lambda: np.broadcast_to(plane[:1], (2, 3)),
        "read-only": lambda: read_only(plane),
        "list": plane.tolist,
        "tensor": lambda: tensor(plane),
        "DLPack": lambda: OfDLPack(plane),
    }[kind]()
    kept = plane[:1].repeat(2, 0) if kind == "broadcast" else plane
    x = X.reshape(2, 3, 2)
    y, moments = functional.batch_norm(x, axis=2, mask=mask)
    inside = X[kept.reshape(-1)]
    assert_allclose(moments.mean, inside.mean(0), rtol=1e-14)
    right = (inside - inside.mean(0)) / np.sqrt(inside.var(0) + 1e-5)
    assert_allclose(y[kept], right, rtol=1e-12)
    assert not y[~kept].any()


def test_vectors(backend, form):
    x = np.arange(18.0).reshape(3, 6) ** 2
    gamma, beta, mean, var = VALUES + 1, VALUES, VALUES + 2, VALUES + 3
    plain = functional.batch_norm_inference(x, mean, var, gamma, beta, eps=0.5)
    assert_allclose(plain, (x - mean) / np.sqrt(var + 0.5) * gamma + beta, rtol=1e-13)
    vectors = [form(each) for each in (mean, var, gamma, beta)]
    assert_array_equal(functional.batch_norm_inference(x, *vectors, eps=0.5), plain)
    mean, var, gamma, beta = vectors
    y, moments = functional.batch_norm(x, gamma, beta)
    right, _ = functional.batch_norm(x, VALUES + 1, VALUES)
    assert_array_equal(y, right)
    for found, right in zip(
        functional.batch_norm_backward(y, x, moments, gamma, beta, activation="relu"),
        functional.batch_norm_backward(y, x, moments, VALUES + 1, VALUES, activation="relu"),
        strict=True,
    ):
        assert_array_equal(found, right)
    limits = {"r_max": 3.0, "d_max": 2.0}
    assert_array_equal(
        functional.batch_renorm(x, mean, var, gamma, beta, **limits)[0],
        functional.batch_renorm(x, VALUES + 2, VALUES + 3, VALUES + 1, VALUES, **limits)[0],
    )


def test_parameters_of_samples(backend, form):
    x = np.arange(18.0).reshape(3, 6) ** 2
    gamma, beta = form(VALUES + 1), form(VALUES)
    for function, count in ((functional.layer_norm, 2), (functional.rms_norm, 1)):
        found, _ = function(x, *(gamma, beta)[:count])
        assert_array_equal(found, function(x, *(VALUES + 1, VALUES)[:count])[0])
    found, moments = functional.group_norm(x, 2, gamma, beta)
    assert_array_equal(found, functional.group_norm(x, 2, VALUES + 1, VALUES)[0])
    for found, right in zip(
        functional.group_norm_backward(x, x, moments, 2, gamma),
        functional.group_norm_backward(x, x, moments, 2, VALUES + 1),
        strict=True,
    ):
        assert_array_equal(found, right)


@pytest.mark.parametrize("name", ["swapped f8", "swapped i4", "g", "swapped g", "unaligned f8"])
def test_numpy_operands_of_tensors(name):
    torch = pytest.importorskip("torch")
    form, x = FORMS[name], torch.tensor(X)
    for backend in ("cpu", "reference"):
        moments = functional.moments(x, channel_axis=1, weights=form(VALUES), backend=backend)
        assert_weighted(moments.to_host(), X, VALUES)
        scaler = nc.StandardScaler(backend=backend).fit(x, sample_weight=form(VALUES))
        assert_allclose(np.asarray(scaler.mean_), np.average(X, axis=0, weights=VALUES), rtol=1e-14)
        y, _ = functional.batch_norm(x.T, form(VALUES), form(VALUES), backend=backend)
        assert_array_equal(y, functional.batch_norm(X.T, VALUES, VALUES, backend=backend)[0])


@pytest.mark.parametrize("order", ["<", ">"])
def test_brackets(backend, order):
    q = np.array([0.1, 0.5]).astype(f"{order}f8")
    assert_array_equal(
        functional.quantiles(X, q, channel_axis=1).values, np.quantile(X, [0.1, 0.5], axis=0)
    )
    ends = np.array([[1.0, -4.0]]).astype(f"{order}f8"), np.array([[3.0, 8.0]], f"{order}f4")
    found = nc.get_backend(backend).brackets(X[:, :, None], *map(unaligned, ends))
    assert_array_equal(found.inside_count, [[1.0, 2.0]])
    assert_array_equal(found.below, [[1.0, 1.0]])


def test_masked_arrays_are_refused_by_name(backend):
    hidden = np.ma.MaskedArray(VALUES, VALUES == 0)
    x = np.arange(18.0).reshape(3, 6)
    for name, call in {
        "gamma": lambda: functional.batch_norm(x, hidden),
        "beta": lambda: functional.batch_norm(x, None, hidden),
        "mean": lambda: functional.batch_norm_inference(x, hidden, VALUES),
        "var": lambda: functional.batch_norm_inference(x, VALUES, hidden),
        "weights": lambda: functional.moments(X, channel_axis=1, weights=hidden),
        "sample_weight": lambda: nc.StandardScaler().fit(X, sample_weight=hidden),
        "x": lambda: functional.batch_norm(np.ma.MaskedArray(x)),
    }.items():
        with pytest.raises(TypeError, match=f"^{name} is a masked array"):
            call()
