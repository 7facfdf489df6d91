"""What the tests of torch.distributed and of MPI run: `ranks.py LIBRARY TASK DIRECTORY ...`.

Each task is a function of a communicator that returns arrays; every rank saves its own.
"""

from __future__ import annotations

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

import normcore as nc
from normcore import functional

#: Seconds after which a process that waits for another gives up.
TIMEOUT = 20
#: Samples of each rank.
SIZES = {2: (7, 4), 3: (7, 0, 4)}


def joined():
    """Return the batch, the gradient and the weights of all ranks together."""
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 11, 3, 4, 4))
    return 5 * x + 100, dy, np.array([0.5, -2.0, 1.0]), np.array([0.1, 0.2, 0.3])


def check_against_one_process(found, prefix="", parameters="sum"):
    """Compare all that ranks returned with what one process gives for the joined batch."""
    x, dy, gamma, beta = joined()
    y, moments = functional.batch_norm(x, gamma, beta)
    dx, dgamma, dbeta = functional.batch_norm_backward(dy, x, moments, gamma)

    def every(key):
        return [each[prefix + key] for each in found]

    assert_allclose(np.concatenate(every("y")), y, rtol=1e-12, atol=1e-12)
    assert_allclose(np.concatenate(every("dx")), dx, rtol=1e-12, atol=1e-12)
    for key, expected in (("dgamma", dgamma), ("dbeta", dbeta)):
        if parameters == "sum":
            assert_allclose(sum(every(key)), expected, rtol=1e-12, atol=1e-12)
        else:
            for each in every(key):
                assert_allclose(each, expected / len(found), rtol=1e-12, atol=1e-12)
    if prefix + "parts" in found[0]:  # of functions; a layer does not give its moments
        for each in every("parts"):
            assert_array_equal(each, found[0][prefix + "parts"])
    return moments


def check_core_layer(found):
    """Compare what the ranks of `core_layer` returned with one layer on the joined batch."""
    x, dy, gamma, beta = joined()
    bn = nc.BatchNorm(3)
    bn.gamma, bn.beta = gamma, beta
    expected = bn(x), *bn.backward(dy)
    close = {"rtol": 1e-12, "atol": 1e-12}
    for key, value in zip(("y", "dx"), expected[:2], strict=True):
        assert_allclose(np.concatenate([each[key] for each in found]), value, **close)
    for key, value in zip(("dgamma", "dbeta"), expected[2:], strict=True):
        assert_allclose(sum(each[key] for each in found), value, **close)
    population = nc.BatchNorm(3)
    with nc.population_statistics([population]):
        population(np.concatenate([x, x + 5]))
    assert str(found[0]["error"]).startswith("RuntimeError: rank 1")
    assert str(found[1]["error"]).startswith("ValueError: x has 2 channels")
    for each in found:
        assert each["num_batches_tracked"] == 1
        for name in ("running_mean", "running_var"):
            assert_array_equal(each[name], found[0][name])
            assert_allclose(each[name], getattr(bn, name), rtol=1e-14)
            kind = name.replace("running", "population")
            assert_allclose(each[kind], getattr(population, name), rtol=1e-13)


def own(communicator, array):
    """Return this rank's samples."""
    sizes = SIZES[communicator.size]
    return np.split(array, np.cumsum(sizes)[:-1])[communicator.rank]


def functions(communicator):
    """Forward and backward, as functions."""
    x, dy, gamma, beta = joined()
    x, dy = own(communicator, x), own(communicator, dy)
    y, moments = functional.batch_norm(x, gamma, beta, communicator=communicator)
    dx, dgamma, dbeta = functional.batch_norm_backward(
        dy, x, moments, gamma, communicator=communicator
    )
    return {"y": y, "parts": moments.parts, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def core_layer(communicator):
    """nc.BatchNorm: a step, a step that one rank refuses, and population statistics."""
    x, dy, gamma, beta = joined()
    x, dy = own(communicator, x), own(communicator, dy)
    bn = nc.BatchNorm(3, communicator=communicator)
    bn.gamma, bn.beta = gamma, beta
    y = bn(x)
    dx, dgamma, dbeta = bn.backward(dy)
    found = {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}
    try:
        bn(x[:, : 3 - communicator.rank])
    except Exception as error:
        found["error"] = np.array(f"{type(error).__name__}: {error}")
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        found[name] = np.array(getattr(bn, name))
    with nc.population_statistics([bn]):
        bn(x)
        bn(x + 5)
    return found | {"population_mean": bn.running_mean, "population_var": bn.running_var}


def errors(communicator):
    """What every rank raises where they disagree, and where one has bad arguments."""
    rank = communicator.rank
    found = {}
    for name, arguments in {
        "channels": (np.ones((4, 3 + rank)),),
        "gamma": (np.ones((4, 3)), np.ones(3 - rank)),
    }.items():
        try:
            functional.batch_norm(*arguments, communicator=communicator)
        except Exception as error:
            found[name] = np.array(f"{type(error).__name__}: {error}")
    return found | functions(communicator)  # and all goes on


def layers(communicator):
    """SyncBatchNorm, plain and in DistributedDataParallel, whose gradients are averages."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    import normcore.torch as nt

    x, dy, gamma, beta = joined()
    found = {}
    for name in ("alone", "DDP"):
        bn = nt.SyncBatchNorm(3, dtype=torch.float64)
        with torch.no_grad():
            bn.weight.copy_(torch.from_numpy(gamma))
            bn.bias.copy_(torch.from_numpy(beta))
        model = DistributedDataParallel(bn) if name == "DDP" else bn
        inputs = torch.from_numpy(own(communicator, x)).requires_grad_()
        y = model(inputs)
        y.backward(torch.from_numpy(own(communicator, dy)))
        arrays = {
            "y": y.detach(),
            "dx": inputs.grad,
            "dgamma": bn.weight.grad,
            "dbeta": bn.bias.grad,
            "running_mean": bn.running_mean,
            "running_var": bn.running_var,
        }
        found |= {f"{name} {key}": value.numpy() for key, value in arrays.items()}
    return found


def layer_errors(communicator):
    """A layer that refuses its input on one rank: an error on both, and nothing has changed."""
    import torch

    import normcore.torch as nt

    bn = nt.SyncBatchNorm(3, affine=False)
    found = {}
    for name, shape in (("channels", (4, 3 + communicator.rank)), ("single", (0, 3))):
        if name == "single" and communicator.rank == 0:
            shape = (1, 3)
        try:
            bn(torch.ones(shape))
        except Exception as error:
            found[name] = np.array(f"{type(error).__name__}: {error}")
    found["count"] = bn.num_batches_tracked.numpy()
    found["running_var"] = bn.running_var.numpy()
    return found


def compiled(communicator):
    """SyncBatchNorm in a graph."""
    import torch

    import normcore.torch as nt

    x, dy, *_ = joined()
    bn = nt.SyncBatchNorm(3, dtype=torch.float64)
    inputs = torch.from_numpy(own(communicator, x)).requires_grad_()
    y = torch.compile(bn, fullgraph=True, backend="aot_eager")(inputs)
    y.backward(torch.from_numpy(own(communicator, dy)))
    return {"y": y.detach().numpy(), "dx": inputs.grad.numpy()}


def death(communicator):
    """The last rank dies between two batches."""
    functional.batch_norm(np.ones((4, 3)), communicator=communicator)
    if communicator.rank == communicator.size - 1:
        os._exit(3)
    try:
        functional.batch_norm(np.ones((4, 3)), communicator=communicator)
    except Exception as error:
        return {"error": np.array(f"{type(error).__name__}: {error}")}
    return {}


def gloo_communicator(directory, rank, size):
    """Join the process group of a file."""
    import torch
    from torch import distributed

    from normcore.torch import TorchCommunicator

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{directory / 'store'}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    return TorchCommunicator()


def mpi_communicator():
    """Join those that mpirun started."""
    from normcore.mpi import MPICommunicator

    return MPICommunicator()


def torch_models(communicator):
    """What :mod:`torch_ranks` does with normcore.torch's layers."""
    import torch_ranks

    return torch_ranks.run(communicator)


def main(library, task, directory, *numbers):
    directory = Path(directory)
    if library == "gloo":
        communicator = gloo_communicator(directory, *map(int, numbers))
    else:
        communicator = mpi_communicator()
    try:
        found = globals()[task](communicator)
        np.savez(directory / f"{communicator.rank}.npz", **found)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # the ways out of libraries wait for other ranks
    sys.stdout.flush()
    if library == "gloo":
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
