"""What docs/gpu_counts.json says of launches, machine code and Python does not get worse."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from cuda_host import build
from paths import ROOT
from processes import environment

pytestmark = build.needs_compiler

#: The tree comes last, so that the normcore which this process has is the one that counts.
COMMAND = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("benchmarks.gpu.count", run_name="__main__", alter_sys=True)
"""


def module(name):
    spec = importlib.util.spec_from_file_location(
        "benchmarks",
        ROOT / "benchmarks" / "__init__.py",
        submodule_search_locations=[str(ROOT / "benchmarks")],
    )
    sys.modules.setdefault("benchmarks", importlib.util.module_from_spec(spec))
    return importlib.import_module(f"benchmarks.gpu.{name}")


count, machine_code, page = module("count"), module("machine_code"), module("page")


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Counts of now, and those that are written down."""
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("counts") / "counts.json"
    command = [sys.executable, "-P", "-W", "ignore", "-c", COMMAND, str(ROOT), "--write", str(path)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(path.read_text()), json.loads(count.PAGE.read_text())


@pytest.mark.parametrize("title", ["launches", "Python"])
def test_no_more_is_launched_and_called(counted, title):
    now, before = counted
    assert set(now[title]) == set(before[title])
    assert count.grown({title: now[title]}, {title: before[title]}) == []


def test_machine_code_does_no_more(counted):
    now, before = counted
    if not now["machine code"]:
        pytest.skip("NVRTC or NVIDIA's disassembler is missing")
    worse = count.grown({"": now["machine code"]}, {"": before["machine code"]})
    assert worse == [], "`python -m benchmarks.gpu.count --write` writes the table anew"
    assert not any(each["spilled bytes"] for each in now["machine code"].values())


def test_the_page_shows_what_is_written_down():
    text = page.PAGE.read_text(encoding="utf-8")
    written = json.loads(count.PAGE.read_text())
    assert count.table(written) in text


def test_what_grows_is_named():
    was = {"moments": {"nvrtc": "13.0", "launches": 2, "registers": 40, "KB in flight": 32.0}}
    better = {"moments": {"nvrtc": "13.0", "launches": 1, "registers": 40, "KB in flight": 33.0}}
    worse = {"moments": {"nvrtc": "13.0", "launches": 3, "registers": 41, "KB in flight": 31.0}}
    assert count.grown({"": better}, {"": was}) == []
    assert count.grown({"": worse}, {"": was}) == [
        "moments: 3 launches, not 2", "moments: 41 registers, not 40",
        "moments: 31.0 KB in flight, not 32.0",
    ]  # fmt: skip
    other = {"moments": worse["moments"] | {"nvrtc": "13.1"}}
    assert count.grown({"": other}, {"": was}) == []
    assert count.grown({"": {"extrema": {}}}, {"": was}) == ["moments is not counted any more"]


# -- machine code, of which nothing is needed here but its text ----------------------------

LOOP = """
.text.one:
        /*0000*/                   S2R R8, SR_TID.X ;
        /*0010*/                   LDG.E R9, desc[UR4][R2.64] ;
.L_x_1:
        /*0020*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0030*/                   LDG.E.128 R12, desc[UR4][R2.64+0x10] ;
        /*0040*/                   IADD3 R2, P0, R2, 0x20, RZ ;
        /*0050*/                   FADD R20, R20, R4 ;
        /*0060*/                   FADD R20, R20, R12 ;
        /*0070*/               @P0 BRA `(.L_x_1) ;
.L_x_2:
        /*0080*/                   LDG.E R4, desc[UR4][R2.64] ;
        /*0090*/                   FADD R20, R20, R4 ;
        /*00a0*/              @!P0 BRA `(.L_x_2) ;
        /*00b0*/                   EXIT ;
"""


def test_inner_loops_are_those_with_the_widest_loads(monkeypatch):
    monkeypatch.setattr(machine_code, "_run", lambda *_: LOOP)
    (instructions,) = machine_code.disassembled(b"").values()
    assert len(instructions) == 12
    loops = machine_code.inner_loops(instructions, itemsize=4, inputs=1)
    assert loops == [machine_code.Loop(instructions=6, elements=8, in_flight=32, width=16)]
    assert machine_code.inner_loops(instructions, itemsize=4, inputs=2)[0].elements == 4
    assert machine_code.inner_loops(instructions[:4], itemsize=4, inputs=1) == []


def test_loops_of_options_come_by_their_length(monkeypatch):
    """A byte of a mask beside each wide load makes no loop wider, and is no element."""
    masked = LOOP[LOOP.index(".L_x_1:") : LOOP.index(".L_x_2:")].replace("L_x_1", "L_x_3")
    first, rest = masked.split("IADD3", 1)
    first = first[: first.rindex("/*0040*/")] + "/*0038*/ LDG.E.U8 R24, desc[UR4][R6.64] ;\n"
    text = LOOP.replace(".L_x_1:", f"{first}        /*0040*/ IADD3{rest}.L_x_1:")
    monkeypatch.setattr(machine_code, "_run", lambda *_: text)
    (instructions,) = machine_code.disassembled(b"").values()
    loops = machine_code.inner_loops(instructions, itemsize=4, inputs=1)
    assert [(each.instructions, each.elements) for each in loops] == [(6, 8), (7, 8)]


def test_a_multiprocessor_holds_what_registers_and_shared_memory_allow():
    def blocks(registers, shared=0, threads=256):
        return machine_code.Usage(registers, 0, shared).blocks(threads)

    assert [blocks(each) for each in (32, 33, 64, 128, 255)] == [8, 6, 4, 2, 1]
    assert blocks(32, shared=100_000) == 2
    assert blocks(16, threads=32) == 32
