"""PyTorch: a module that keeps its numbers in float64, and goes through the tools of modules."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
from exported import dataset, same_bits

import normcore as nc

torch = pytest.importorskip("torch")

X = dataset("wine")


def scaler(**options):
    return nc.MinMaxScaler((-1.1, 1.3), clip=True, **options).fit(X[:100])


def scripted(module):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is deprecated", DeprecationWarning)
        return torch.jit.script(module)


@pytest.mark.parametrize(
    "made",
    [
        scripted,
        lambda module: torch.compile(module, backend="eager", fullgraph=True),
        copy.deepcopy,
        lambda module: pickle.loads(pickle.dumps(module)),
        lambda module: torch.nn.Sequential(module).half()[0],
        lambda module: module.to(torch.bfloat16).float(),
    ],
    ids=["script", "compile", "deepcopy", "pickle", "half", "bfloat16"],
)
def test_tools_of_modules(made):
    fitted = scaler()
    module = made(fitted.export("torch"))
    for dtype in (np.float64, np.float32):
        given = X.astype(dtype)
        same_bits(module(torch.tensor(given)).numpy(), fitted.transform(given))
    if hasattr(module, "inverse"):
        Y = fitted.transform(X)
        same_bits(module.inverse(torch.tensor(Y)).numpy(), fitted.inverse_transform(Y))


def test_other_dtypes():
    fitted = nc.StandardScaler().fit(np.array([[1.0], [2.0], [4.0]]))
    module = fitted.export("torch")
    given = np.array([[1.5], [np.nan], [3.0]])
    same_bits(module(torch.tensor(given).half()).numpy(), fitted.transform(given.astype("f2")))
    assert torch.equal(
        module(torch.tensor(given).bfloat16()).nan_to_num(9.0),
        fitted.transform(torch.tensor(given).bfloat16()).nan_to_num(9.0),
    )
    whole = np.array([[1], [2], [3]])
    same_bits(module(torch.tensor(whole)).numpy(), fitted.transform(whole))


def test_any_dimensions_before_the_columns():
    rows = X[30:]  # beyond those with NaN
    fitted = nc.StandardScaler().fit(rows)
    module = fitted.export("torch")
    table = torch.tensor(fitted.transform(rows))
    assert torch.equal(module(torch.tensor(rows[0])), table[0])
    assert torch.equal(module(torch.tensor(rows[:6].reshape(2, 3, -1)))[1, 1], table[4])


def test_another_number_of_columns_is_refused():
    module = nc.StandardScaler().fit(X[:, :1]).export("torch")
    with pytest.raises(ValueError, match=r"x must have 1 columns, got shape \[2, 3\]"):
        module(torch.zeros(2, 3))


def test_complex_numbers_are_refused():
    module = scaler().export("torch")
    x = torch.ones(2, X.shape[1], dtype=torch.complex64)
    for run in (module, module.inverse):
        with pytest.raises(ValueError, match="must hold real numbers, and is complex"):
            run(x)


def test_gradients_pass():
    module = nc.StandardScaler.from_statistics(mean=[1.0, 2.0], std=[4.0, 0.5]).export("torch")
    x = torch.zeros(3, 2, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.tolist() == [[0.25, 2.0]] * 3
    assert list(module.parameters()) == []


def test_a_checkpoint_takes_the_numbers_elsewhere():
    first, second = scaler().export("torch"), nc.StandardScaler().fit(X).export("torch")
    held = io.BytesIO()
    torch.save(first.state_dict(), held)
    held.seek(0)
    other = nc.MinMaxScaler((-1.1, 1.3), clip=True).fit(X[60:]).export("torch")
    other.load_state_dict(torch.load(held))
    assert torch.equal(other(torch.ones(1, 13)), first(torch.ones(1, 13)))
    assert second.state_dict().keys() == first.state_dict().keys()


def test_a_file_needs_no_normcore():
    from normcore.export.torch import to_bytes

    fitted = scaler()
    program = torch.export.load(io.BytesIO(to_bytes(fitted.export("torch", dtype="float32"))))
    given = X.astype(np.float32)
    for rows in (given, given[:1]):
        same_bits(program.module()(torch.tensor(rows)).numpy(), fitted.transform(rows))


def test_a_map_without_an_inverse():
    class Flat(nc.AffineScaler):
        statistic = nc.Moments

        def affine(self, moments):
            return nc.Affine(center=moments.mean, gamma=0.0, beta=1.0)

    module = Flat().fit(np.array([[1.0], [2.0]])).export("torch")
    assert module(torch.ones(1, 1)).tolist() == [[1.0]]
    with pytest.raises(ValueError, match="cannot invert: gamma is 0 in every channel"):
        module.inverse(torch.ones(1, 1))
    with pytest.raises(ValueError, match="cannot invert: gamma is 0 in every channel"):
        Flat().fit(np.array([[1.0], [2.0]])).export("sql", inverse=True)


def test_batch_norm_becomes_the_module_of_pytorch():
    bn = nc.BatchNorm(3)
    bn(np.random.default_rng(0).normal(size=(50, 3, 2, 2)) + 5)
    bn.eval()
    module = bn.export("torch", dims=2, dtype="float64")
    assert type(module) is torch.nn.BatchNorm2d
    x = np.random.default_rng(1).normal(size=(4, 3, 2, 2))
    np.testing.assert_allclose(module(torch.tensor(x)).detach().numpy(), bn(x), rtol=1e-14)
    with pytest.raises(ValueError, match="a BatchNorm needs dims=1, 2 or 3"):
        bn.export("torch")
    with pytest.raises(ValueError, match="dims=2 is for layers: a scaler takes tables"):
        scaler().export("torch", dims=2)


@pytest.mark.parametrize(
    "layer",
    [
        nc.LayerNorm((3, 4)),
        nc.LayerNorm((3, 4), bias=False, gamma_offset=1.0),
        nc.LayerNorm((3, 4), affine=False, eps=1e-2),
        nc.RMSNorm((3, 4)),
        nc.RMSNorm((3, 4), affine=False),
        nc.GroupNorm(2, 6, eps=1e-3),
        nc.GroupNorm(2, 6, affine=False),
    ],
    ids=repr,
)
def test_norms_of_samples_become_those_of_pytorch(layer):
    rng = np.random.default_rng(4)
    for name in ("gamma", "beta"):
        if getattr(layer, name) is not None:
            setattr(layer, name, rng.normal(size=getattr(layer, name).shape))
    module = layer.export("torch", dtype="float64")
    assert type(module) is getattr(torch.nn, type(layer).__name__)
    x = rng.normal(size=(2, 6, 3, 4))
    np.testing.assert_allclose(
        module(torch.tensor(x)).detach().numpy(), layer(x), rtol=1e-12, atol=1e-13
    )
    with pytest.raises(ValueError, match="dims=2 is for a BatchNorm, not for a"):
        layer.export("torch", dims=2)


def test_layers_that_pytorch_does_not_have():
    with pytest.raises(ValueError, match="PyTorch's GroupNorm has axis=1, and this one axis=-1"):
        nc.GroupNorm(2, 4, axis=-1).export("torch")
    with pytest.raises(TypeError, match="takes a scaler of a table, not a InstanceNorm"):
        nc.InstanceNorm(4).export("torch")
