"""normcore.torch's batch norms beside PyTorch's own."""

from __future__ import annotations

import copy
import itertools
import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from processes import printed_json
from torch_examples import normal, run

pytest.importorskip("torch")
import torch

import normcore as nc
import normcore.torch as nt

SHAPES = {"BatchNorm1d": [(7, 3), (5, 3, 4)], "BatchNorm2d": [(4, 3, 5, 2)],
          "BatchNorm3d": [(3, 3, 2, 4, 2)], "SyncBatchNorm": [(7, 3), (4, 3, 5, 2)]}  # fmt: skip
CASES = [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes]


def pair(kind, num_features=3, dtype=torch.float64, seed=0, **options):
    """Return normcore's layer and PyTorch's, in the same state."""
    generator = torch.Generator().manual_seed(seed)
    theirs_of = "BatchNorm2d" if kind == "SyncBatchNorm" else kind
    ours = getattr(nt, kind)(num_features, dtype=dtype, **options)
    theirs = getattr(torch.nn, theirs_of)(num_features, dtype=dtype, **options)
    theirs._check_input_dim = lambda input: None  # PyTorch's synchronized one refuses the host
    with torch.no_grad():
        for name, value in ours.state_dict().items():
            if name != "num_batches_tracked":
                value.copy_(torch.rand(value.shape, generator=generator, dtype=dtype) + 0.5)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def example(shape, seed=0, dtype=torch.float64):
    return normal(shape, seed).mul(3).add(5).to(dtype)


def assert_close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
@pytest.mark.parametrize(
    "parameters", [{}, {"bias": False}, {"affine": False}], ids=["affine", "no bias", "plain"]
)
@pytest.mark.parametrize("tracking", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_every_option_agrees_with_pytorch(kind, shape, momentum, parameters, tracking, eps):
    options = {"momentum": momentum, "track_running_stats": tracking, "eps": eps}
    ours, theirs = pair(kind, **options, **parameters)
    # training, evaluation, training that is frozen half way, and again
    for step, training in enumerate([True, True, False, True, False]):
        ours.train(training)
        theirs.train(training)
        x, dy = example(shape, step), example(shape, 10 + step)
        for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
            assert_close(found, expected)
        states = ours.state_dict(), theirs.state_dict()
        assert list(states[0]) == list(states[1])
        for found, expected in zip(*(each.values() for each in states), strict=True):
            assert_close(found, expected)


def test_running_statistics_present_but_not_tracked():
    """PyTorch looks at the buffers too, which may be there though nothing is tracked any more."""
    ours, theirs = pair("BatchNorm1d")
    ours.track_running_stats = theirs.track_running_stats = False
    untracked = pair("BatchNorm1d", track_running_stats=False)
    for each in untracked:
        each.track_running_stats = True  # and there are none
    for found, expected in zip(
        *(run(each, example((6, 3)), example((6, 3), 1)) for each in untracked), strict=True
    ):
        assert_close(found, expected)
    for training in (True, False):
        x, dy = example((6, 3)), example((6, 3), 1)
        results = (run(each.train(training), x, dy) for each in (ours, theirs))
        for found, expected in zip(*results, strict=True):
            assert_close(found, expected)
        assert_close(ours.running_mean, theirs.running_mean)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_dtypes(dtype, momentum):
    ours, _ = pair("BatchNorm2d", dtype=dtype, momentum=momentum)
    wide, _ = pair("BatchNorm2d", momentum=momentum)
    wide.load_state_dict(ours.state_dict())
    x, dy = example((4, 3, 5, 2), dtype=dtype), example((4, 3, 5, 2), 1, dtype=dtype)
    for found, expected in zip(run(ours, x, dy), run(wide, x.double(), dy.double()), strict=True):
        assert found.dtype == dtype
        unit = torch.finfo(dtype).eps
        torch.testing.assert_close(
            found.double(), expected, rtol=0.51 * unit, atol=1e-3 * unit
        )  # half a unit in the last place, and a little for rounding by way of float32


# -- memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (1, 3, 4, 4), (4, 1, 3, 3), (4, 3, 1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_channels_last_in_and_out(shape, training):
    ours, theirs = (each.train(training) for each in pair("BatchNorm2d", shape[1]))
    x = example(shape).to(memory_format=torch.channels_last)
    dy = example(shape, 1)
    for gradient in (dy, dy.to(memory_format=torch.channels_last), dy[:1, :, :1, :1].expand(shape)):
        results = run(ours, x, gradient), run(theirs, x, gradient)
        for found, expected in zip(*results, strict=True):
            assert_close(found, expected)
        for each in results[0][:2]:
            assert each.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("view", [lambda x: x[:, :, ::2], lambda x: x.transpose(2, 3),
                                  lambda x: x[:, :, :1].expand(-1, -1, 6, -1),
                                  lambda x: x[:0]],
                         ids=["strided", "transposed", "expanded", "empty"])  # fmt: skip
def test_views(view):
    ours, theirs = (each.eval() for each in pair("BatchNorm2d"))
    x = view(example((4, 3, 6, 4)))
    dy = example(x.shape, 1)
    for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
        assert_close(found, expected)


def test_the_kernels_see_the_tensors_memory(monkeypatch):
    """Also those that take arrays."""
    from normcore import functional

    seen = []
    original = functional.batch_norm

    def spy(x, *arguments, **options):
        y, moments = original(x, *arguments, **options)
        seen.append((x.ctypes.data, y.ctypes.data))
        return y, moments

    monkeypatch.setattr(functional, "batch_norm", spy)
    monkeypatch.setattr(nc.get_backend("cpu"), "memory_kernels", None)
    x = example((4, 3), dtype=torch.float32)
    y = nt.BatchNorm1d(3)(x)
    assert seen == [(x.data_ptr(), y.data_ptr())]


def test_output_may_be_changed_in_place():
    ours, theirs = pair("BatchNorm1d")
    models = [torch.nn.Sequential(each, torch.nn.ReLU(inplace=True)) for each in (ours, theirs)]
    x, dy = example((6, 3)), example((6, 3), 1)
    for found, expected in zip(*(run(each, x, dy) for each in models), strict=True):
        assert_close(found, expected)


def test_input_changed_in_place_before_backward():
    bn = nt.BatchNorm1d(3)
    x = example((6, 3), dtype=torch.float32).requires_grad_() * 1
    y = bn(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# -- numerics ------------------------------------------------------------------------------


def test_eight_million_rows():
    """PyTorch's own returns a mean of 9.707 and a standard deviation of 1.037 or so."""
    rows = np.random.default_rng(0).standard_normal((8_000_000, 2), dtype=np.float32)
    rows += 10
    x = torch.from_numpy(rows)
    bn = nt.BatchNorm1d(2, momentum=1.0)
    y = bn(x)
    exact = rows.astype(np.float64)
    mean, var = exact.mean(0), exact.var(0, ddof=1)
    np.testing.assert_allclose(bn.running_mean.numpy(), mean, rtol=2**-24)
    np.testing.assert_allclose(bn.running_var.numpy(), var, rtol=2**-23)
    assert np.abs(mean - 10).max() < 2e-3
    assert np.abs(np.sqrt(var) - 1).max() < 1e-3
    expected = (exact - mean) / np.sqrt(exact.var(0) + bn.eps)
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=2**-23, atol=1e-9)


def test_small_integers_are_exact():
    # mean 0, var 3, eps 1: the scale is 2, and every step is exact
    x = torch.tensor([[-3.0], [1.0], [1.0], [1.0]], requires_grad=True)
    bn = nt.BatchNorm1d(1, eps=1.0, momentum=0.5)
    y = bn(x)
    assert y.tolist() == [[-1.5], [0.5], [0.5], [0.5]]
    assert bn.running_var.item() == 2.5  # (1 + 4) / 2, the unbiased one
    y.backward(torch.tensor([[5.0], [-7.0], [2.0], [8.0]]))
    assert bn.bias.grad.item() == 8
    assert bn.weight.grad.item() == -6
    assert x.grad.tolist() == [[0.375], [-4.125], [0.375], [3.375]]


# -- autocast ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_autocast(dtype, training):
    """The layer before gives the reduced dtype, the parameters stay float32."""
    models = []
    for layer in pair("BatchNorm2d", dtype=torch.float32):
        torch.manual_seed(0)
        models.append(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), layer).train(training))
    x, results = example((4, 2, 6, 6), dtype=torch.float32), []
    for model in models:
        with torch.autocast("cpu", dtype=dtype):
            y = model(x)
        y.float().square().mean().backward()
        results.append((y, *(each.grad for each in model.parameters())))
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    assert results[0][0].dtype == dtype


# -- modes and state -------------------------------------------------------------------------


def test_frozen_survives_train():
    bn = nt.BatchNorm1d(3)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), bn).train()
    assert bn.freeze() is bn
    model.train()
    assert model.training
    assert not bn.training
    before = copy.deepcopy(bn.state_dict())
    model(torch.randn(5, 3)).sum().backward()
    for name, value in bn.state_dict().items():
        assert_array_equal(value, before[name])
    assert bn.weight.grad is not None
    bn.freeze(False)
    model.train()
    assert bn.training


@pytest.mark.parametrize("kind", SHAPES)
def test_copies_and_pickles(kind):
    layer, _ = pair(kind)
    layer.freeze()
    x = example(SHAPES[kind][0])
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer)
        assert other.frozen
        assert_close(other(x), layer(x))
        assert other.weight.data_ptr() != layer.weight.data_ptr()
    assert f"normcore.torch\n{kind}".encode() in pickle.dumps(layer, protocol=0)


@pytest.mark.parametrize("kind", SHAPES)
def test_repr_and_state_names(kind):
    ours, theirs = getattr(nt, kind)(3), getattr(torch.nn, kind)(3)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata


# -- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "x", "error", "message"),
    [
        ("BatchNorm1d", torch.ones(4, 5), ValueError, r"5 channels .* weight has shape \(3,\)"),
        ("BatchNorm1d", torch.ones(1, 3), ValueError, "at least 2 values in each channel"),
        ("BatchNorm2d", torch.ones(1, 3, 1, 1), ValueError, "at least 2 values in each channel"),
        ("BatchNorm1d", torch.ones(4), ValueError, "expected 2D or 3D input"),
        ("BatchNorm2d", torch.ones(4, 3), ValueError, "expected 4D input"),
        ("BatchNorm3d", torch.ones(4, 3), ValueError, "expected 5D input"),
        ("SyncBatchNorm", torch.ones(4), ValueError, "expected at least 2D input"),
        ("BatchNorm1d", torch.ones(4, 3).double(), TypeError, "float64, but the weight .*float32"),
        ("BatchNorm1d", torch.ones(4, 3).int(), TypeError, "floating point, not torch.int32"),
    ],
)
def test_a_refused_input_changes_nothing(kind, x, error, message):
    bn = getattr(nt, kind)(3)
    before = copy.deepcopy(bn.state_dict())
    with pytest.raises(error, match=message):
        bn(x)
    for name, value in bn.state_dict().items():
        assert_array_equal(value, before[name])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parameters", [True, False])
@pytest.mark.parametrize("tracking", [True, False])
def test_the_vectors_decide_how_many_channels_there_are(training, parameters, tracking):
    """Not num_features, which those who prune a layer leave as it was."""
    pruned, layer = pair("BatchNorm1d", 8, affine=parameters, track_running_stats=tracking)
    for each in (pruned, layer):
        for name, tensor in dict(each.named_parameters()).items():
            setattr(each, name, torch.nn.Parameter(tensor.detach()[::2].clone()))
        for name in ("running_mean", "running_var") if tracking else ():
            setattr(each, name, getattr(each, name)[::2].clone())
        each.train(training)
    x, dy = example((5, 4)), normal((5, 4), 1)
    assert_close(run(pruned, x, dy), run(layer, x, dy))
    assert_close(pruned.state_dict(), layer.state_dict())
    if parameters or tracking:
        with pytest.raises(ValueError, match=r"8 channels .* has shape \(4,\)"):
            pruned(example((5, 8)))


def test_state_of_another_layer():
    with pytest.raises(RuntimeError, match="size mismatch for running_mean"):
        nt.BatchNorm1d(3).load_state_dict(nt.BatchNorm1d(4).state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*running_mean"):
        nt.BatchNorm1d(3).load_state_dict(torch.nn.Linear(3, 3).state_dict())


# -- PyTorch's machinery ---------------------------------------------------------------------


def test_fake_and_meta_tensors():
    for device, mode in itertools.product(["meta", "cpu"], [True, False]):
        bn = nt.BatchNorm2d(3, device=device).train(mode)
        if device == "meta":
            y = bn(torch.empty(2, 3, 4, 4, device="meta"))
            assert y.device.type == "meta"
            assert y.shape == (2, 3, 4, 4)
            continue
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fake:
            assert bn(fake.from_tensor(torch.ones(2, 3, 4, 4))).shape == (2, 3, 4, 4)


def test_synchronized_layer_alone_is_a_plain_one():
    ours, theirs = pair("SyncBatchNorm")
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3), nt.BatchNorm2d(3), torch.nn.ReLU())
    first = model[0].weight
    assert nt.SyncBatchNorm.convert_sync_batchnorm(model) is model
    assert [type(each) for each in model] == [nt.SyncBatchNorm, nt.SyncBatchNorm, torch.nn.ReLU]
    assert model[0].weight is first
    x, dy = example((4, 3, 2, 2)), example((4, 3, 2, 2), 1)
    for found, expected in zip(run(ours, x, dy), run(theirs, x, dy), strict=True):
        assert_close(found, expected)


def test_a_communicator_needs_a_process_group():
    with pytest.raises(RuntimeError, match="init_process_group first"):
        nt.TorchCommunicator()


def test_only_normcore_torch_imports_pytorch():
    assert "torch" in sys.modules
    loaded = printed_json(
        "import normcore\nfrom normcore import distributed, functional\nimport normcore.mpi\n"
        "print(json.dumps('torch' in sys.modules or 'mpi4py' in sys.modules))"
    )
    assert loaded is False
