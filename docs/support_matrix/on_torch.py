"""normcore.torch: every module in every dtype, and what PyTorch's tools make of it.

Each result is compared with that of PyTorch's module in the same state.
"""

import copy
import io
import pickle
from collections.abc import Callable

import torch
from exported import run_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch_layers import Example

import normcore.torch as nt
from support_matrix.scalers import NO, YES

__all__ = [
    "MODULES", "MODULE_DTYPES", "MODULE_FEATURES", "NARROW", "REFUSALS", "TOOLED",
    "close", "module_feature", "module_row", "of_parameters", "pair",
]  # fmt: skip

SHAPES = {1: (5, 3), 2: (4, 3, 2, 3), 3: (3, 2, 2, 1, 3)}
MODE = {True: "in training", False: "in evaluation"}

#: Each module but the lazy ones, which become one of these at their first batch.
MODULES: dict[str, Example] = {
    f"BatchNorm{dims}d, {MODE[training]}": Example(
        f"BatchNorm{dims}d", (shape[1],), shape, training
    )
    for training in MODE
    for dims, shape in SHAPES.items()
}
MODULES |= {
    f"SyncBatchNorm, {MODE[training]}": Example("SyncBatchNorm", (3,), SHAPES[2], training)
    for training in MODE
}
MODULES |= {
    f"InstanceNorm{dims}d": Example(
        f"InstanceNorm{dims}d", (3,), (2, 3, *(3, 2, 2)[:dims]), True, {"affine": True}
    )
    for dims in SHAPES
}
MODULES |= {
    "LayerNorm": Example("LayerNorm", (4,), (3, 2, 4)),
    "GroupNorm": Example("GroupNorm", (2, 4), (3, 4, 2)),
    "RMSNorm": Example("RMSNorm", (4,), (3, 4)),
}
#: What is tried with tools: of 1, 2 and 3 dimensions one.
TOOLED = [name for name in MODULES if "1d" not in name and "3d" not in name]
MODULE_DTYPES = ("float64", "float32", "float16", "bfloat16")
NARROW = ("float16", "bfloat16", "int32")

#: PyTorch's ways of saying that something is not there; anything else is a fault.
REFUSALS = (TypeError, ValueError, NotImplementedError, RuntimeError)


def pair(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    """Return normcore's module and PyTorch's; its SyncBatchNorm has no results on the host."""
    example = MODULES[name]
    if example.kind != "SyncBatchNorm":
        return example.pair(dtype)
    ours, theirs = example._replace(kind="BatchNorm2d").pair(dtype)
    return nt.SyncBatchNorm.convert_sync_batchnorm(ours), theirs


def close(found: object, right: object, where: str) -> None:
    """Raise an error for results that are not those of PyTorch's module."""
    loose = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
    for one, other in zip(flat(found), flat(right), strict=True):
        bound = loose.get(other.dtype, 1e-9)
        try:
            torch.testing.assert_close(one, other, rtol=bound, atol=bound)
        except AssertionError as error:
            raise AssertionError(f"wrong numbers: {where}: {error}") from error


def flat(results: object) -> list[torch.Tensor]:
    """Return the tensors of a result, in order."""
    if isinstance(results, torch.Tensor):
        return [results]
    return [each for result in results for each in flat(result)]


def module_dtype(name: str, dtype: str, parameters: str) -> str:
    """Return the dtype of a module's results, or that there are none."""
    ours, theirs = pair(name, getattr(torch, parameters))
    x = MODULES[name].input(dtype=getattr(torch, dtype))
    wide = theirs.double()(x.double())
    try:
        found = ours(x)
    except REFUSALS:
        return NO
    close(found, wide.to(found.dtype), f"{name}, {dtype}")
    return str(found.dtype).removeprefix("torch.")


def is_ours(layer: nn.Module) -> bool:
    return type(layer).__module__.startswith("normcore")


def gradients(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> object:
    x = x.detach().requires_grad_()
    y = layer(x)
    y.pow(3).sum().backward()
    return y.detach(), x.grad


def of_parameters(layer: nn.Module, x: torch.Tensor) -> object:
    layer.zero_grad()
    return *gradients(layer, x), [each.grad for each in layer.parameters()]


def twice(layer: nn.Module, x: torch.Tensor) -> object:
    x = x.detach().requires_grad_()
    (dx,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
    return torch.autograd.grad(dx.square().sum(), x)


def pure(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a layer as torch.func takes it."""
    state = {name: each.detach() for name, each in layer.named_parameters()}
    return lambda x: torch.func.functional_call(layer, state, (x,))


def forward_mode(layer: nn.Module, x: torch.Tensor) -> object:
    return torch.func.jvp(pure(layer), (x,), (x.flip(0),))


def mapped(layer: nn.Module, x: torch.Tensor) -> object:
    return torch.func.vmap(pure(layer))(torch.stack([x, 2 * x]))


def compiled(layer: nn.Module, x: torch.Tensor) -> object:
    torch._dynamo.reset()
    return of_parameters(torch.compile(layer, backend="aot_eager", fullgraph=True), x)


def exported(layer: nn.Module, x: torch.Tensor) -> object:
    held = io.BytesIO()
    torch.export.save(torch.export.export(layer, (x,)), held)
    held.seek(0)
    return torch.export.load(held).module()(x)


def traced(layer: nn.Module, x: torch.Tensor) -> object:
    return torch.jit.trace(layer, x, check_trace=False)(x)


def scripted(layer: nn.Module, x: torch.Tensor) -> object:
    return torch.jit.script(layer)(x)


def traced_in_model(layer: nn.Module, x: torch.Tensor) -> object:
    return torch.fx.symbolic_trace(nn.Sequential(layer))(x)


def onnx(layer: nn.Module, x: torch.Tensor) -> object:
    """Of PyTorch's module, its results: not each has a form in ONNX."""
    import onnx

    layer, x, held = layer.float(), x.float(), io.BytesIO()
    with torch.no_grad():
        if not is_ours(layer):
            return layer(x)
        torch.onnx.export(
            layer, (x,), held, dynamo=False, opset_version=20, input_names=["X"],
            training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
    return torch.from_numpy(run_model(onnx.load_from_string(held.getvalue()), x.numpy()))


def autocast(layer: nn.Module, x: torch.Tensor) -> object:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(x.shape[-1], x.shape[-1]), layer.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x.float())
    y.float().square().sum().backward()
    return y.detach()


def checkpointed(layer: nn.Module, x: torch.Tensor) -> object:
    return gradients(lambda x: checkpoint(layer, x, use_reentrant=False), x)


def native(layer: nn.Module, x: torch.Tensor) -> object:
    if is_ours(layer):
        layer.precision = "native"
    return of_parameters(layer.float(), x.float())


def copied(layer: nn.Module, x: torch.Tensor) -> object:
    return copy.deepcopy(pickle.loads(pickle.dumps(layer)))(x)


def converted(layer: nn.Module, x: torch.Tensor) -> object:
    """Of normcore's module, what it becomes; of PyTorch's, itself."""
    other = nt.convert(copy.deepcopy(layer), to="torch")
    if is_ours(other):
        raise TypeError("stays what it is")
    other.load_state_dict(layer.state_dict())
    layer.load_state_dict(other.state_dict())
    return other(x)


#: What is done with each module, and with PyTorch's, which has to give the same.
MODULE_FEATURES: dict[str, Callable[[nn.Module, torch.Tensor], object]] = {
    "gradients": of_parameters,
    "second gradients": twice,
    "`torch.func.jvp`": forward_mode,
    "`torch.func.vmap`": mapped,
    "`torch.compile`": compiled,
    "`torch.export`": exported,
    "`torch.onnx`": onnx,
    "`torch.jit.trace`": traced,
    "`torch.jit.script`": scripted,
    "`torch.fx`, in a model": traced_in_model,
    "autocast": autocast,
    "`checkpoint`": checkpointed,
    "native precision": native,
    "copy, pickle": copied,
    '`convert(to="torch")`': converted,
}


def module_feature(name: str, feature: str) -> str:
    """Return whether a module does something, having compared results."""
    ours, theirs = pair(name)
    x = MODULES[name].input()
    try:
        found = MODULE_FEATURES[feature](ours, x)
    except REFUSALS:
        return NO
    close(found, MODULE_FEATURES[feature](theirs, x), f"{name}, {feature}")
    return YES


def module_row(name: str) -> list[str]:
    """Return one row of dtypes: with parameters of the same dtype, and of float32."""
    same = [module_dtype(name, dtype, dtype) for dtype in MODULE_DTYPES]
    return [*same, *(module_dtype(name, dtype, "float32") for dtype in NARROW)]
