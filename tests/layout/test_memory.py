"""Arrays of other libraries, told by where their memory lies."""

from __future__ import annotations

import numpy as np
import pytest

from normcore.layout.memory import are_host_memory, are_of_one_dtype, is_batch

torch = pytest.importorskip("torch")

KINDS, OTHERS = frozenset({torch.Tensor, torch.nn.Parameter}), frozenset({float, type(None)})


def with_memory():
    x = torch.randn(4, 3)
    yield from (x, x.requires_grad_(), torch.nn.Parameter(torch.ones(3)), x.detach()[1:, ::2])
    yield from (torch.tensor(1.0), torch.ones(2, dtype=torch.bfloat16), torch.ones(1).expand(5))
    with torch.inference_mode():
        yield torch.ones(2)


def without_memory():
    """Tensors whose elements are not what lies in memory of the host, or that have none."""
    x = torch.randn(4, 3)
    freed = torch.ones(3)
    freed.untyped_storage().resize_(0)
    leaked = []
    torch.func.vmap(lambda each: leaked.append(each) or each)(x)
    yield from (freed, leaked[0], torch.empty(3, device="meta"), torch._efficientzerotensor(3))
    yield from (torch._to_functional_tensor(x), x.to_sparse(), torch._neg_view(x))
    yield torch.ones(2, dtype=torch.complex64).conj().imag
    yield torch.empty(0, 3)  # a pointer to nothing is not told from none


@pytest.mark.parametrize("tensor", list(with_memory()))
def test_what_has_memory(tensor):
    assert are_host_memory((tensor, 1.0, None), KINDS, OTHERS)
    assert are_of_one_dtype(tensor, tensor)


@pytest.mark.parametrize("tensor", list(without_memory()))
def test_what_has_none(tensor):
    assert not are_host_memory((tensor,), KINDS, OTHERS)
    assert not are_host_memory((torch.ones(3), tensor), KINDS, OTHERS)


def test_types_that_are_not_named():
    class Wrapper(torch.Tensor):
        pass

    for each in (Wrapper(3), np.ones(3), "name", 1):
        assert not are_host_memory((each,), KINDS, OTHERS)
    assert are_host_memory((), KINDS, OTHERS)


def test_dtypes():
    single, double = torch.ones(2), torch.ones(2, dtype=torch.float64)
    assert are_of_one_dtype(single, None)
    assert are_of_one_dtype(double, double)
    assert not are_of_one_dtype(single, double)
    assert not are_of_one_dtype(single.half(), single.bfloat16())
    assert not are_of_one_dtype(torch.ones(2, dtype=torch.int32), None)
    for other in (np.ones(2), [1.0], None, 3):
        assert not are_of_one_dtype(other, None)


def test_batches():
    x, weight, running = torch.ones(4, 3, 2), torch.ones(3), torch.zeros(3)
    assert is_batch(x, weight, None, running)
    assert is_batch(x, None)
    assert is_batch(x.transpose(0, 1), torch.ones(4))
    for wrong in (torch.ones(2), torch.ones(3, 1), 1.0, running[:2], running.double()):
        assert not is_batch(x, weight, wrong)
    for others in ((x, torch.ones(4)), (x, running.double()), (torch.ones(3), None)):
        assert not is_batch(*others)
    for alone in (torch.ones(1, 3), torch.ones(1, 3, 1), torch.ones(0, 3)):
        assert not is_batch(alone, weight)
    assert is_batch(torch.ones(1, 3, 2), weight)


class Unlisted:
    """A tensor of a library without DLPack's C functions."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __getattr__(self, name):
        return getattr(self.tensor, name)


def test_arrays_that_are_asked_by_methods():
    assert are_of_one_dtype(Unlisted(torch.ones(2)), torch.ones(3))
    assert are_of_one_dtype(Unlisted(torch.ones(2).bfloat16()), torch.ones(3).bfloat16())
    assert is_batch(Unlisted(torch.ones(4, 3)[:, ::2]), Unlisted(torch.ones(2)))
    assert not are_of_one_dtype(Unlisted(torch.ones(2).int()), None)
    assert not are_of_one_dtype(Unlisted(torch.empty(2, device="meta")), None)
    assert not are_of_one_dtype(Unlisted(torch.eye(2).to_sparse()), None)
