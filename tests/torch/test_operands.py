"""Devices and dtypes of weights, biases and statistics: what PyTorch refuses, we do, in words."""

import itertools

import pytest

torch = pytest.importorskip("torch")

import normcore.torch as nt  # noqa: E402

SHAPE = (6, 4, 5)


def calls(functions, x, vectors):
    """Yield calls of every function with vectors in all their places, by its name."""
    weight, bias, mean, var = vectors
    yield "layer_norm", lambda: functions.layer_norm(x.mT, (4,), weight, bias)
    yield "group_norm", lambda: functions.group_norm(x, 2, weight, bias)
    yield "training", lambda: functions.batch_norm(x, mean, var, weight, bias, True)
    yield "inference", lambda: functions.batch_norm(x, mean, var, weight, bias, False)


def vectors_with(place, other, dtype):
    found = [torch.ones(4, dtype=dtype) for _ in range(4)]
    found[place] = other
    return found


OTHERS = {
    "meta": torch.ones(4, device="meta"),
    "double": torch.ones(4, dtype=torch.float64),
    "integers": torch.ones(4, dtype=torch.int64),
    "complex": torch.ones(4, dtype=torch.complex64),
    "half": torch.ones(4, dtype=torch.float16),
}


@pytest.mark.parametrize("place", range(4), ids=["weight", "bias", "mean", "var"])
@pytest.mark.parametrize("other", OTHERS)
def test_vectors_of_another_kind_are_refused_and_left_alone(place, other):
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    label = ("weight", "bias", "running_mean", "running_var")[place]
    vectors = vectors_with(place, OTHERS[other], torch.float32)
    before = [each.clone() for each in vectors]
    seen = 0
    for name, call in calls(nt.functional, x, vectors):
        if place > 1 and name not in ("training", "inference"):
            continue
        with pytest.raises((RuntimeError, TypeError), match=label) as raised:
            call()
        assert isinstance(raised.value, RuntimeError)  # as PyTorch's
        seen += 1
    assert seen == (4 if place < 2 else 2)
    for each, same in zip(vectors, before, strict=True):
        assert each.device.type == "meta" or torch.equal(each, same)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_inputs_go_with_their_dtype_or_float32_throughout(dtype):
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    kinds = (dtype, torch.float32, torch.float64)
    for weight, bias in itertools.product(kinds, kinds):
        vectors = [torch.ones(4, dtype=kind) for kind in (weight, bias, weight, weight)]
        for name, call in calls(nt.functional, x, vectors):
            if weight == bias != torch.float64:
                assert call().dtype == dtype, name
            else:
                with pytest.raises(RuntimeError, match=r"weight|bias|running_mean"):
                    call()


def test_arrays_of_numpy_are_named():
    x, ones = torch.randn(SHAPE), torch.ones(4)
    for place, label in enumerate(("weight", "bias", "running_mean", "running_var")):
        vectors = vectors_with(place, ones.numpy(), torch.float32)
        for name, call in calls(nt.functional, x, vectors):
            if place < 2 or name in ("training", "inference"):
                with pytest.raises(
                    TypeError, match=rf"{label} of \w+ must be a tensor, not ndarray"
                ):
                    call()
