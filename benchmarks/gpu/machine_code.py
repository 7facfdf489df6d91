"""What a kernel's inner loop costs, read off its machine code; needs no device."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Instruction", "Loop", "disassembled", "disassembler", "inner_loops", "usage"]

_LABEL = re.compile(r"^(\.L_x_\d+|\w+):$")
_LINE = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_REGISTER = re.compile(r"\bR(\d+)\b")
_USAGE = re.compile(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")

#: Of one multiprocessor of compute capability 8.0 and 9.0.
REGISTERS, THREADS, SHARED = 65_536, 2048, 228 << 10


class Instruction(NamedTuple):
    """One instruction of a kernel, and the labels that stand before it."""

    operation: str
    operands: str
    labels: tuple[str, ...]

    @property
    def loaded(self) -> int:
        """Bytes that it reads from global memory; 0 for all others."""
        return _width(self.operation) if self.operation.startswith("LDG") else 0

    @property
    def stored(self) -> int:
        """Bytes that it writes to global memory; 0 for all others."""
        return _width(self.operation) if self.operation.startswith("STG") else 0

    def writes(self) -> set[int]:
        """The registers that a load fills."""
        first = _REGISTER.search(self.operands)
        if first is None:
            return set()
        return {int(first[1]) + i for i in range(-(-max(self.loaded, 4) // 4))}

    def reads(self) -> set[int]:
        """The registers of its operands; of pairs the first, which is enough to see a use."""
        given = self.operands if self.stored else self.operands.partition(",")[2]
        return {int(each) for each in _REGISTER.findall(given)}


class Loop(NamedTuple):
    """An innermost loop over global memory."""

    instructions: int
    elements: int
    #: Bytes of loads that a thread has under way at a time.
    in_flight: int
    #: Bytes of one load or store.
    width: int

    @property
    def per_element(self) -> float:
        return self.instructions / self.elements


class Usage(NamedTuple):
    """What a kernel takes of a multiprocessor."""

    registers: int
    stack_bytes: int
    shared_bytes: int

    def blocks(self, threads: int) -> int:
        """Return how many blocks of so many threads a multiprocessor holds."""
        warps = -(-threads // 32)
        registers = -(-self.registers // 8) * 8 * 32 * warps
        shared = SHARED // (self.shared_bytes + 1024)
        return min(REGISTERS // registers, THREADS // (warps * 32), shared, 32)


def disassembler() -> Path | None:
    """Return where cuobjdump and nvdisasm are: on the path, a toolkit's, or NVIDIA's wheels."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else [Path(each) for each in spec.submodule_search_locations or ()]
    named = os.environ.get("NORMCORE_CUDA_TOOLS")
    found = shutil.which("nvdisasm")
    candidates = [
        *([Path(named)] if named else []),
        *([Path(found).parent] if found else []),
        Path("/usr/local/cuda/bin"),
        *(path.parent for root in roots for path in root.glob("*/bin/nvdisasm")),
    ]
    return next(
        (each for each in candidates
         if all((each / name).is_file() for name in ("nvdisasm", "cuobjdump"))),
        None,
    )  # fmt: skip


def usage(cubin: bytes) -> dict[str, Usage]:
    """Return what each kernel takes."""
    text = _run("cuobjdump", cubin, "-res-usage")
    return {
        name: Usage(int(registers), int(stack) + int(local), int(shared))
        for name, registers, stack, shared, local in _USAGE.findall(text)
    }


def disassembled(cubin: bytes) -> dict[str, list[Instruction]]:
    """Return the instructions of each kernel."""
    kernels: dict[str, list[Instruction]] = {}
    labels: list[str] = []
    for line in _run("nvdisasm", cubin, "-c").splitlines():
        if line.startswith(".text."):
            instructions = kernels.setdefault(line[len(".text.") :].rstrip(":"), [])
            labels = []
        elif label := _LABEL.match(line):
            labels.append(label[1])
        elif match := _LINE.match(line):
            instructions.append(Instruction(match[2], match[3], tuple(labels)))
            labels = []
    return kernels


def _run(tool: str, cubin: bytes, option: str) -> str:
    directory = disassembler()
    if directory is None:
        raise FileNotFoundError(
            "there is no nvdisasm: pip install nvidia-cuda-nvdisasm "
            "nvidia-cuda-cuobjdump, or name its directory NORMCORE_CUDA_TOOLS"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        done = subprocess.run(
            [str(directory / tool), option, str(path)], capture_output=True, text=True, check=True
        )
    return done.stdout


def inner_loops(
    instructions: Sequence[Instruction], itemsize: int, inputs: int, stores: bool | None = None
) -> list[Loop]:
    """Return the loops in which a kernel spends its time on contiguous memory, the leanest first.

    Of the innermost loops that read global memory they are those with the widest loads, and of
    these those with the most bytes of such loads a turn: one for each option, such as a mask.

    Parameters
    ----------
    itemsize : int
        Bytes of an element.
    inputs : int
        Arrays that are read element by element, by the widest loads.
    stores : bool, optional
        Look only at loops that write, or that do not.
    """
    found: dict[tuple[int, int], list[Loop]] = {}
    for loop in _innermost(instructions):
        if stores is not None and any(each.stored for each in loop) != stores:
            continue
        width = max(max(each.loaded, each.stored) for each in loop)
        loaded = sum(each.loaded for each in loop if each.loaded == width)
        if loaded >= itemsize * inputs:
            elements = loaded // itemsize // inputs
            found.setdefault((width, loaded), []).append(
                Loop(len(loop), elements, _in_flight(loop), width)
            )
    return sorted(found[max(found)]) if found else []


def _innermost(instructions: Sequence[Instruction]) -> Iterator[Sequence[Instruction]]:
    """Yield the loops that read global memory and have no such loop inside."""
    places = {label: i for i, each in enumerate(instructions) for label in each.labels}
    spans = set()
    for end, each in enumerate(instructions):
        target = _TARGET.search(each.operands)
        if each.operation.startswith("BRA") and target is not None:
            start = places.get(target[1], end + 1)
            if start <= end and any(one.loaded for one in instructions[start : end + 1]):
                spans.add((start, end + 1))
    for start, end in spans:
        inside = any(start <= a and b <= end and (a, b) != (start, end) for a, b in spans)
        if not inside:
            yield instructions[start:end]


def _in_flight(loop: Sequence[Instruction]) -> int:
    """Return the most bytes of loads that are under way before one of them is used."""
    waiting: list[tuple[set[int], int]] = []
    most = 0
    for each in [*loop, *loop]:
        used = each.reads()
        waiting = [(registers, size) for registers, size in waiting if not registers & used]
        if each.loaded:
            waiting.append((each.writes(), each.loaded))
            most = max(most, sum(size for _, size in waiting))
    return most


def _width(operation: str) -> int:
    for mark, size in ((".256", 32), (".128", 16), (".64", 8), (".U8", 1), (".S8", 1), (".U16", 2)):
        if mark in operation:
            return size
    return 2 if ".S16" in operation else 4
