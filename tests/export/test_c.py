"""C: the same bits whatever the compiler is told, names of any kind, and guards."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
from exported import WARNINGS, arrow, called, compiled, same_bits
from hostile_names import HOSTILE

import normcore as nc

if shutil.which("cc") is None:
    pytest.skip("there is no C compiler", allow_module_level=True)

ROWS = np.random.default_rng(0).normal(size=(3000, 3)) * [1, 3, 1e-5] + [1e6, -3, 0]


def machine(*flags):
    """Return flags if the compiler and this machine take them."""
    asked = subprocess.run(
        ["cc", *flags, "-E", "-dM", "-x", "c", "/dev/null"], capture_output=True, check=False
    )
    return list(flags) if asked.returncode == 0 else []


@pytest.mark.parametrize(
    "flags",
    [
        ["-std=c99", "-pedantic", "-O0"],
        ["-std=gnu17", "-O3", *machine("-march=native"), "-ffp-contract=fast"],
    ],
    ids=lambda flags: flags[0],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_the_compiler(flags, dtype):
    """Fused products and sums would round otherwise: this range has a gamma and a beta."""
    scaler = nc.MinMaxScaler((-1.1, 1.3), clip=True).fit(ROWS[:100])
    X = ROWS.astype(dtype)
    library = compiled(scaler.export("c", inverse=True), *flags, *WARNINGS)
    suffix = "" if dtype == np.float64 else "_float"
    Y = scaler.transform(X)
    same_bits(called(library, f"scaler_transform{suffix}", X), Y)
    same_bits(called(library, f"scaler_inverse{suffix}", Y), scaler.inverse_transform(Y))


def test_in_place():
    scaler = nc.StandardScaler().fit(ROWS)
    library = compiled(scaler.export("c"), "-std=c99")
    x = np.array(ROWS)
    library.scaler_transform(
        ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(x.ctypes.data), ctypes.c_size_t(len(x))
    )
    same_bits(x, scaler.transform(ROWS))


def test_hostile_names_of_features_are_data():
    X = np.random.default_rng(1).normal(size=(5, len(HOSTILE)))
    scaler = nc.StandardScaler().fit(arrow(X, HOSTILE))
    source = scaler.export("c")
    assert source.isascii()
    library = compiled(source, "-std=c99", "-trigraphs", "-pedantic", "-O1", *WARNINGS[:-1])
    count = ctypes.c_char_p * len(HOSTILE)
    found = count.in_dll(library, "scaler_feature_names")
    assert [each.decode() for each in found] == HOSTILE
    same_bits(called(library, "scaler_transform", X), scaler.transform(arrow(X, HOSTILE)))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("age model", "age_model"),
        ("a; int main(void) {}", "a__int_main_void____"),
        ("1st", "f1st"),
        ("_x", "f_x"),
        ("größe", "gr__e"),
        ("double", "double"),
        ("while", "while"),
    ],
)
def test_any_name_becomes_an_identifier(name, prefix):
    scaler = nc.StandardScaler().fit(ROWS)
    source = scaler.export("c", name=name, inverse=True)
    assert f"void {prefix}_transform(const double *x" in source
    library = compiled(source, "-std=c99", *WARNINGS)
    assert getattr(library, f"{prefix}_inverse_float")


@pytest.mark.parametrize("name", ["", "___", "数量"])
def test_names_without_a_letter_are_refused(name):
    with pytest.raises(ValueError, match="has no letter or digit that a C identifier can have"):
        nc.StandardScaler().fit(ROWS).export("c", name=name)


def test_a_name_that_would_end_early_is_refused():
    known = nc.StandardScaler.from_statistics(mean=[0.0], std=[1.0], feature_names=["a\0b"])
    with pytest.raises(ValueError, match=r"the name 'a\\x00b' has a null character: rename it"):
        known.export("c")


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match="name must be a string, not 3"):
        nc.StandardScaler().fit(ROWS).export("c", name=3)


@pytest.mark.parametrize(
    ("method", "refused"),
    [(-1, True), (0, False), (1, False), (2, True), (16, False), (32, False), (64, False)],
)
def test_doubles_in_wider_registers_are_refused(method, refused, tmp_path):
    """Processors that compute with halves, as by AVX512-FP16, have the method 16."""
    path = tmp_path / "scaler.c"
    path.write_text(nc.StandardScaler().fit(ROWS).export("c"))
    set_method = ["-U__FLT_EVAL_METHOD__", f"-D__FLT_EVAL_METHOD__={method}"]
    command = ["cc", "-std=gnu17", "-w", *set_method, "-fsyntax-only", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is refused, done.stderr
    assert ("doubles would be computed in wider registers" in done.stderr) is refused


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
def test_optimizations_that_change_results_are_refused(flag, tmp_path):
    file = tmp_path / "scaler.c"
    file.write_text(nc.StandardScaler().fit(ROWS).export("c"))
    done = subprocess.run(
        ["cc", flag, "-c", file, "-o", tmp_path / "scaler.o"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "compile without -ffast-math and its parts" in done.stderr


def test_numbers_are_written_once_where_both_dtypes_have_them():
    tables = r"static const double (\w+)\["
    source = nc.StandardScaler().fit(ROWS).export("c", inverse=True)
    assert re.findall(tables, source) == ["scaler_transform_numbers", "scaler_inverse_numbers"]
    assert len(re.findall(tables, nc.MinMaxScaler((-1.1, 1.3)).fit(ROWS).export("c"))) == 2
