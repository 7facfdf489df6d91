"""normcore.torch over two processes: each module in DistributedDataParallel."""

import json
import os
import tempfile
from pathlib import Path

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from support_matrix.on_torch import MODULES, REFUSALS, TOOLED, close, of_parameters, pair
from support_matrix.scalers import NO, YES

__all__ = ["in_processes"]

SIZE = 2


def of_all(layer: nn.Module, x: torch.Tensor, rank: int) -> object:
    """Return what a rank has of the joined batch, and the mean of the gradients over ranks."""
    y, dx, of_weights = of_parameters(layer, x)
    return y.chunk(SIZE)[rank], dx.chunk(SIZE)[rank], [each / SIZE for each in of_weights]


def module_on(rank: int, name: str) -> str:
    """Return whether a rank's results are right."""
    ours, theirs = pair(name)
    x = MODULES[name].input()
    part = x.chunk(SIZE)[rank]
    if name.startswith("SyncBatchNorm"):
        right = of_all(theirs, x, rank)
    else:
        right = of_parameters(DistributedDataParallel(theirs), part)
    try:
        found = of_parameters(DistributedDataParallel(ours), part)
    except REFUSALS:
        return NO
    close(found, right, f"{name}, rank {rank}")
    return YES


def work(rank: int, folder: str) -> None:
    """Try every module on one rank, and leave what was found in a file."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=SIZE
    )
    found = {name: module_on(rank, name) for name in TOOLED}
    Path(folder, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


def in_processes() -> dict[str, str]:
    """Return for each module whether it works; ranks that differ are an error.

    To be called before anything else is tried.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Forked, which saves a start: nothing of this process has started a thread.
        torch.multiprocessing.start_processes(work, (folder,), nprocs=SIZE, start_method="fork")
        found = [
            json.loads(Path(folder, f"{rank}.json").read_text(encoding="utf-8"))
            for rank in range(SIZE)
        ]
    if found[0] != found[1]:
        raise AssertionError(f"ranks differ: {found}")
    return found[0]
