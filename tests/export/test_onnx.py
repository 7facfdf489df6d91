"""ONNX: what the model is made of, batch norm in it, and what is refused."""

import re

import numpy as np
import pytest
from exported import dataset, run_model, same_bits

import normcore as nc

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROWS = np.random.default_rng(0).normal([1e6, 0, 5], size=(100, 3))


def layer(**options):
    rng = np.random.default_rng(1)
    bn = nc.BatchNorm(3, **options)
    x = rng.normal(size=(50, 3)) + 1e6
    bn(x if bn.axis == 1 or bn.axis == -1 else x.T)
    if bn.gamma is not None:
        bn.gamma = rng.normal(size=3)
    if bn.beta is not None:
        bn.beta = rng.normal(size=3)
    bn.eval()
    return bn


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_the_model_computes_in_the_order_of_transform():
    model = nc.StandardScaler().fit(ROWS).export("onnx", dtype="float32", name="mine")
    assert operators(model) == ["Cast", "Sub", "Div", "Mul", "Add", "Cast"]
    assert model.graph.name == "mine"
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    clipped = nc.MinMaxScaler(clip=True).fit(ROWS).export("onnx")
    assert operators(clipped) == ["Sub", "Div", "Mul", "Add", "Clip", "IsNaN", "Where"]
    (given,) = clipped.graph.input
    assert [each.dim_value for each in given.type.tensor_type.shape.dim] == [0, 3]


def test_float32_at_an_offset_keeps_its_digits():
    """A model of float32 alone is off by half a standard deviation here."""
    X = (np.random.default_rng(0).normal(size=(1000, 1)) + 1e6).astype(np.float32)
    scaler = nc.StandardScaler().fit(X)
    same_bits(run_model(scaler.export("onnx", dtype="float32"), X), scaler.transform(X))


def test_it_is_read_from_bytes(tmp_path):
    from normcore.export.onnx import to_bytes

    scaler = nc.RobustScaler().fit(dataset("wine"))
    (tmp_path / "scaler.onnx").write_bytes(to_bytes(scaler.export("onnx")))
    model = onnx.load(tmp_path / "scaler.onnx")
    same_bits(run_model(model, dataset("wine")), scaler.transform(dataset("wine")))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 5), (2, 3, 4, 5)])
def test_batch_norm_in_inference(dtype, shape):
    bn = layer()
    x = (np.random.default_rng(2).normal(size=shape) + 1e6).astype(dtype)
    x.flat[3] = np.nan
    same_bits(run_model(bn.export("onnx", dtype=dtype, ndim=len(shape)), x), bn(x))


@pytest.mark.parametrize(
    "options",
    [
        {"axis": -1},
        {"affine": False},
        {"affine": "beta"},
        {"affine": "gamma", "activation": "relu"},
        {"eps": 1e-2, "momentum": None},
        {"axis": 0},
    ],
)
def test_options_of_batch_norm(options):
    bn = layer(**options)
    x = np.random.default_rng(3).normal(size=(3, 3)) + 1e6
    x[0, 0] = np.nan
    same_bits(run_model(bn.export("onnx"), x), bn(x))
    bn.train()  # the export is that of inference whatever the mode
    model = bn.export("onnx")
    bn.eval()
    same_bits(run_model(model, x), bn(x))


@pytest.mark.parametrize(
    ("bn", "options", "message"),
    [
        (nc.BatchNorm(3, track_running_stats=False), {}, "has no running statistics"),
        (nc.BatchNorm(3), {"inverse": True}, "inverse=True is for scalers, not for a BatchNorm"),
        (nc.RMSNorm(3), {"inverse": True}, "inverse=True is for scalers, not for a RMSNorm"),
        (nc.BatchNorm(3), {"ndim": 1}, "ndim must be an integer of 2 or more, got 1"),
        (nc.BatchNorm(3), {"ndim": 2.0}, "ndim must be an integer of 2 or more, got 2.0"),
        (nc.BatchNorm(3, axis=3), {}, "has axis=3, and batches of ndim=2 do not"),
        (nc.BatchNorm(3, precision="native"), {}, "this BatchNorm has precision='native'"),
        (nc.LayerNorm(3, precision="native"), {}, "this LayerNorm has precision='native'"),
        (nc.LayerNorm((3, 4)), {"ndim": 1}, "ndim must be an integer of 2 or more, got 1"),
    ],
)
def test_layers_that_are_refused(bn, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bn.export("onnx", **options)


def test_batch_norm_is_no_table():
    with pytest.raises(TypeError, match="export to 'sql' takes a scaler of a table, not a Batch"):
        nc.BatchNorm(3).export("sql")


@pytest.mark.parametrize(
    "layer",
    [
        nc.LayerNorm((3, 4)),
        nc.LayerNorm((3, 4), bias=False, eps=1e-2),
        nc.LayerNorm((3, 4), affine=False),
        nc.RMSNorm((3, 4), gamma_offset=1.0),
        nc.RMSNorm((3, 4), affine=False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_norms_of_samples(layer, dtype):
    rng = np.random.default_rng(4)
    if layer.gamma is not None:
        layer.gamma = rng.normal(size=(3, 4))
    if layer.beta is not None:
        layer.beta = rng.normal(size=(3, 4))
    x = (rng.normal(size=(2, 5, 3, 4)) + 1e3).astype(dtype)
    found = run_model(layer.export("onnx", dtype=dtype, ndim=4), x)
    assert found.dtype == dtype
    # A few eps of 1 + the mean / the deviation, before it is rounded to the dtype.
    tolerance = max(8 * np.finfo(np.float64).eps * 1e3, np.finfo(dtype).eps)
    np.testing.assert_allclose(found, layer(x), rtol=tolerance, atol=tolerance)
    assert run_model(layer.export("onnx"), x[0].astype("float64")).shape == (5, 3, 4)


def test_group_norm_is_not_said_in_onnx():
    with pytest.raises(TypeError, match="export to 'onnx' takes a scaler of a table, not a Group"):
        nc.GroupNorm(2, 4).export("onnx")


def test_ndim_is_that_of_layers():
    with pytest.raises(ValueError, match="ndim=4 is for layers: a scaler takes tables"):
        nc.StandardScaler().fit(ROWS).export("onnx", ndim=4)
