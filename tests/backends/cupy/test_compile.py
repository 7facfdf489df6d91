"""Every kernel becomes machine code for real GPUs, in the registers that the table allows.

``python tests/helpers/kernel_registers.py`` writes the table anew.
"""

from __future__ import annotations

import pytest
from cuda_host import nvrtc
from cuda_host.build import kernel_names
from kernel_registers import ARCHITECTURES, PAIRS, TABLE, compiled, found, table
from normcore_cupy.compiler import OPTIONS
from normcore_cupy.device import source

#: Pairs that kernels of results are launched with too: an ``out`` of another dtype, and planes.
OTHERS = (
    ("float64", "bfloat16"), ("float32", "float16"), ("float16", "float64"),
    ("bfloat16", "float32"), ("int64", "float16"), ("int8", "bool"), ("float32", "bool"),
)  # fmt: skip

RESULTS, WALKS = (
    ("rescale", "rescale_given", "backward_elemt"),
    ("", "_single", "_along", "_across"),
)


@pytest.mark.parametrize(("architecture", "dtype"), PAIRS)
def test_registers_and_spills(architecture: str, dtype: str) -> None:
    usage = compiled(dtype, architecture)
    assert sorted(usage) == sorted(kernel_names(source()))
    spilled = {name: each for name, each in usage.items() if each.spilled_bytes or each.stack_bytes}
    assert not spilled, f"{dtype} for {architecture}: kernels spill {spilled}"
    if table()["nvrtc"] != found().version:
        pytest.skip(f"the table of registers is of NVRTC {table()['nvrtc']}: {nvrtc.WHEELS}")
    allowed = table()["registers"][architecture][dtype]
    grown = {
        name: f"{each.registers} registers, {allowed.get(name)} in {TABLE.name}"
        for name, each in usage.items()
        if each.registers > allowed.get(name, 0)
    }
    assert not grown, f"{dtype} for {architecture}: {grown}"
    assert sorted(allowed) == sorted(usage), f"{TABLE.name} names other kernels; write it anew"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "out"), OTHERS)
def test_results_of_another_dtype_do_not_spill(dtype: str, out: str, architecture: str) -> None:
    for kernel in ("convert", *(name + walk for name in RESULTS for walk in WALKS)):
        usage = compiled(dtype, architecture, out, kernel)
        assert set(usage) == {kernel}
        assert not any(each.spilled_bytes or each.stack_bytes for each in usage.values()), usage


def test_an_error_comes_with_the_log() -> None:
    compiler = found()
    with pytest.raises(RuntimeError, match='identifier "no_such_name" is undefined'):
        compiler.compile('extern "C" __global__ void f() { no_such_name(); }', "sm_80", OPTIONS)


def test_a_spill_is_seen() -> None:
    """With 32 registers at most, the kernels of float64 must spill."""
    spills = """
    extern "C" __global__ void __launch_bounds__(1024, 2) spills(double* x)
    {
        double kept[48];
        for (int i = 0; i < 48; ++i) kept[i] = x[i * 64 + threadIdx.x];
        for (int j = 0; j < 9; ++j)
            for (int i = 0; i < 48; ++i) kept[i] = kept[i] * kept[(i + j) % 48] + kept[47 - i];
        for (int i = 0; i < 48; ++i) x[i * 64 + threadIdx.x] = kept[i];
    }"""
    assert found().compile(spills, "sm_80", OPTIONS)["spills"].spilled_bytes > 0
