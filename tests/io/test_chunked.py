"""HDF5 files and Zarr stores: what a plugin with the public names alone makes of them."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from command_line import bad, good
from processes import environment

import normcore as nc
from normcore.io import fit_file, fit_transform_file, open_table, transform_file

RNG = np.random.default_rng(0)
DTYPES = ["f8", "f4", "f2", ">f8", "i4", "u1", "?"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=[".h5", ".zarr"])
def make(request):
    """Write arrays by their paths, with the library itself; the value is the table's path."""
    library = pytest.importorskip({".h5": "h5py", ".zarr": "zarr"}[request.param])

    def write(name="x", *, chunks=None, **arrays):
        path = f"{name}{request.param}"
        group = (
            library.File(path, "w")
            if request.param == ".h5"
            else library.open_group(path, mode="w")
        )
        for key, array in arrays.items():
            place, own_chunks = key.replace("__", "/"), chunks or "auto"
            if request.param == ".h5":
                group.create_dataset(place, data=array, chunks=chunks)
            else:
                group.create_array(place, data=array, chunks=own_chunks)
        if request.param == ".h5":
            group.close()
        return path

    return write


def read_h5(path, place="data"):
    with pytest.importorskip("h5py").File(path) as file:
        return file[place][()]


def rows_of(table, **options):
    names = [field.name for field in table.fields]
    return [batch.matrix(names) for batch in table.batches(names, **options)]


# -- what comes is what is there ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_rows", [None, 7, 64])
@pytest.mark.parametrize("chunks", [(10, 4), (33, 2), (1000, 4)])
def test_a_fit_and_a_transform_are_those_in_memory(make, dtype, batch_rows, chunks):
    x = RNG.normal(50, 20, (1000, 4)).astype(dtype)
    x[0] = 0
    path = make(group__x=x, chunks=chunks)
    # Moments of several batches are those of one to the last bit but one.
    scaler = nc.StandardScaler() if batch_rows is None else nc.RobustScaler()
    report = fit_transform_file(path, "y.npy", scaler, batch_rows=batch_rows)
    assert report.columns == ("x0", "x1", "x2", "x3")
    expected = type(scaler)().fit(x)
    assert scaler.scale_.tobytes() == expected.scale_.tobytes()
    result = np.load("y.npy")
    assert result.dtype == (np.dtype(dtype).newbyteorder("=") if "f" in dtype else np.float64)
    assert np.array_equal(result, expected.transform(x))
    assert not hasattr(scaler, "feature_names_in_")


@pytest.mark.parametrize("chunks", [(10, 4), (300, 1), (1000, 4)])
@pytest.mark.parametrize("batch_rows", [None, 7, 301])
def test_batches_are_bounded_and_all_rows_come(make, chunks, batch_rows):
    x = RNG.normal(size=(1000, 4))
    with open_table(make(x=x, chunks=chunks)) as table:
        table.batch_bytes = 50 * 4 * 8
        parts = rows_of(table, batch_rows=batch_rows)
        assert table.num_rows == 1000
        assert table.bytes_read == table.num_bytes
    assert np.array_equal(np.concatenate(parts), x)
    assert max(map(len, parts)) <= (batch_rows or 50)


def test_chunks_are_read_once(make, monkeypatch):
    """Those that a few batches hold; what is larger is read in parts, within the limit."""
    from normcore_chunked.source import ArraySource

    asked = []
    read = ArraySource._read
    monkeypatch.setattr(ArraySource, "_read", lambda *args: asked.append(args[2:]) or read(*args))
    with open_table(make(x=np.ones((1000, 4)), chunks=(150, 4))) as table:
        table.batch_bytes = 50 * 4 * 8
        rows_of(table)
    assert asked == [(start, min(start + 150, 1000)) for start in range(0, 1000, 150)]
    asked.clear()
    with open_table(make("y", x=np.ones((1000, 4)), chunks=(300, 4))) as table:
        table.batch_bytes = 50 * 4 * 8
        rows_of(table)
    assert {stop - start for start, stop in asked} == {50}


def test_columns_that_are_not_chosen(make):
    x = RNG.integers(0, 9, (20, 3)).astype(float)
    fit_transform_file(make(x=x), "y.npy", nc.MinMaxScaler(), columns=["x2", "x0"])
    result = np.load("y.npy")
    assert np.array_equal(result[:, 1], x[:, 1])
    assert np.array_equal(result[:, [0, 2]], nc.MinMaxScaler().fit_transform(x)[:, [0, 2]])


def test_integers_that_are_not_chosen_keep_every_digit(make):
    pq = pytest.importorskip("pyarrow.parquet")
    x = np.array([[1, 2**62 + 1], [3, 5]])
    fit_transform_file(make(x=x), "y.parquet", nc.MinMaxScaler(), columns=["x0"])
    assert pq.read_table("y.parquet").to_pydict() == {"x0": [0, 1], "x1": [2**62 + 1, 5]}


def test_without_rows_and_without_columns(make):
    scaler = nc.StandardScaler().fit([[1.0, 2.0]])
    transform_file(make(x=np.empty((0, 2))), "y.npy", scaler)
    assert np.load("y.npy").shape == (0, 2)
    with pytest.raises(ValueError, match="no numeric column; it has no column at all"):
        fit_file(make("z", x=np.empty((3, 0))), nc.StandardScaler())


def test_other_arrays_are_left_alone_and_a_note_says_so(make):
    x = RNG.normal(size=(5, 2))
    with open_table(make(x=x, labels=np.arange(5))) as table:
        assert table.notes == ("x is read; left alone: labels (shape (5,), int64)",)
        assert np.array_equal(np.concatenate(rows_of(table)), x)


# -- what is no table --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a__x": np.ones((2, 3)), "b": np.ones((4, 1), "i2")},
         r"2 tables: a/x \(shape \(2, 3\), float64\), b \(shape \(4, 1\), int16\); save the one"),
        ({"x": np.ones(5)}, r"no table.*two dimensions.*: x \(shape \(5,\), float64\)"),
        ({"x": np.ones((2, 2, 2))}, r"no table.*\(2, 2, 2\)"),
        ({"x": np.ones((2, 2), complex)}, r"no table, .*real numbers.*complex128"),
        ({}, "no table.*no array at all"),
    ],
)  # fmt: skip
def test_no_table_or_several(make, arrays, message):
    path = make(**arrays)
    with pytest.raises(ValueError, match=rf"{path} holds {message}"):
        open_table(path)


def test_a_table_that_was_changed_while_it_was_read(make):
    path = make(x=np.ones((10, 2)))
    table = open_table(path)
    shutil.rmtree(path, ignore_errors=True)
    make(x=np.ones((11, 2)))
    with pytest.raises(ValueError, match=rf"{path} was changed while it was read"):
        list(table.batches(["x0", "x1"]))


def test_one_line_on_the_command_line(make):
    path = make(x=np.ones((4, 2)), y=np.ones((3, 3)))
    status, line = bad("fit", path, "--scaler", "standard", "--save", "s.json")
    assert status == 1
    assert line.startswith(f"{path} holds 2 tables: ")
    path = make("good", x=np.array([[1.0, 5.0], [3.0, 6.0]]))
    good("fit-transform", path, "--scaler", "minmax", "-o", "y.csv", "-q")
    with open("y.csv") as file:
        assert file.read() == "x0,x1\n0,0\n1,1\n"
    status, line = bad("fit", path, "--scaler", "standard", "--save", "s.json", "--no-header")
    assert status in (1, 2)
    assert path in line
    assert "for CSV files alone" in line


@pytest.mark.parametrize(("library", "path"), [("h5py", "x.h5"), ("zarr", "x.zarr")])
def test_a_library_that_is_missing(library, path):
    if path == "x.zarr":
        os.mkdir(path)
    else:
        with open(path, "w") as file:
            file.write("?")
    code = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from normcore.cli import main\n"
        f"sys.argv = ['normcore', 'fit', {path!r}, '--scaler', 'minmax', '--save', 's.json']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"needs {library}: pip install " in line


# -- HDF5 --------------------------------------------------------------------------------------


def test_hdf5_keeps_path_dtype_and_compression():
    h5py = pytest.importorskip("h5py")
    x = RNG.normal(size=(5000, 3)).astype("f4")
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("deep/down", data=x, compression="gzip", chunks=(100, 3))
    scaler = nc.StandardScaler()
    fit_transform_file("x.h5", "y.hdf5", scaler, batch_rows=333)
    with h5py.File("y.hdf5") as file:
        assert (file["deep/down"].compression, file["deep/down"].dtype) == ("gzip", np.float32)
    expected = nc.StandardScaler().fit_transform(x)
    assert np.array_equal(read_h5("y.hdf5", "deep/down"), expected)
    transform_file("y.hdf5", "z.h5", scaler, inverse=True)
    np.testing.assert_allclose(read_h5("z.h5", "deep/down"), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("word", "kept"), [("lzf", "lzf"), ("none", None)])
def test_hdf5_is_compressed_as_the_command_line_says(word, kept):
    h5py = pytest.importorskip("h5py")
    with open("x.csv", "w") as file:
        file.write("a,b\n1,5\n3,6\n")
    words = ("fit-transform", "x.csv", "--scaler", "minmax", "-q", "--compression")
    good(*words, word, "-o", "y.h5")
    assert read_h5("y.h5").tolist() == [[0, 0], [1, 1]]
    with h5py.File("y.h5") as file:
        assert file["data"].compression == kept
    status, line = bad(*words, "zstd", "-o", "z.h5")
    assert (status, "no compression 'zstd'; it has none, gzip, lzf" in line) == (1, True)
    status, line = bad(*words[:-1], "--output-format", "h5", "-o", "-")
    assert (status, "HDF5 cannot be written to a stream" in line) == (1, True)


def test_hdf5_that_is_damaged():
    h5py = pytest.importorskip("h5py")
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", data=RNG.normal(size=(1000, 3)), compression="gzip")
    with open("x.h5", "rb") as file:
        data = file.read()
    cases = {"cut": data[:-100], "none": b"PK\3\4", "empty": b""}
    cases["bits"] = data[: len(data) // 2] + bytes(50) + data[len(data) // 2 + 50 :]
    for name, content in cases.items():
        with open(f"{name}.h5", "wb") as file:
            file.write(content)
        with pytest.raises(ValueError, match=rf"{name}\.h5"):
            fit_transform_file(f"{name}.h5", "out.h5", nc.MinMaxScaler())
        assert not os.path.exists("out.h5")


MUTATIONS = """
import io
import h5py, numpy as np
import normcore as nc, normcore.io
from mutations import complaint, mutated, run

kinds = {}, {"chunks": (30, 2)}, {"compression": "gzip"}, {"chunks": (9, 4), "fletcher32": True}
x = np.random.default_rng(4).normal(size=(100, 4))
for number in range(100):
    sink = io.BytesIO()
    with h5py.File(sink, "w", libver=("earliest", "latest")[number % 2]) as file:
        file.create_dataset("g/x", data=x.astype("f4"), **kinds[number // 2 % 4])
    with open("bad.h5", "wb") as file:
        file.write(mutated(sink.getvalue(), number))
    status, said = run("fit", "bad.h5", "--scaler", "minmax", "--save", "s.json")
    assert not complaint(status, said, "bad.h5"), (number, said)
    if status == 0:
        with h5py.File("bad.h5") as file:
            found = file[nc.io.open_table("bad.h5").array_path][()]
        nans = np.isnan(found)  # some signal, which confuses np.nanmax
        scaler = nc.load("s.json")
        assert np.array_equal(scaler.data_min_, np.where(nans, np.inf, found).min(axis=0)), number
        assert np.array_equal(scaler.data_max_, np.where(nans, -np.inf, found).max(axis=0)), number
        print("read")
"""


def test_a_hundred_mutations_of_hdf5():
    """In a process of their own, which a fault of the library would end."""
    pytest.importorskip("h5py")
    pytest.importorskip("resource")
    command = [sys.executable, "-c", MUTATIONS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert 5 < len(done.stdout.splitlines()) < 95


def test_hdf5_whose_values_are_in_other_files():
    """HDF5 reads fill values where such a file is missing."""
    h5py = pytest.importorskip("h5py")
    with h5py.File("part.h5", "w") as file:
        file["x"] = np.ones((4, 2))
    layout = h5py.VirtualLayout((4, 2), dtype="f8")
    layout[:] = h5py.VirtualSource("part.h5", "x", shape=(4, 2))
    with h5py.File("virtual.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    with h5py.File("raw.h5", "w") as file:
        raw = [("raw.bin", 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("v", shape=(4, 2), dtype="f8", external=raw)
    for name in ("virtual.h5", "raw.h5"):
        with pytest.raises(ValueError, match=f"{name}: the values of v are in other files"):
            open_table(name)


def test_a_full_disk_ends_in_an_error():
    """HDF5 itself ends the process at its exit when it has met one."""
    pytest.importorskip("h5py")
    pytest.importorskip("resource")
    np.save("x.npy", RNG.normal(size=(20_000, 10)))
    code = (
        "import resource, signal, sys\n"
        "from normcore.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "sys.argv = 'normcore fit-transform x.npy --scaler minmax -o y.h5 -q'.split()\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1, "normcore: error: y.h5: cannot write: File too large\n"
    )  # fmt: skip
    assert os.listdir() == ["x.npy"]


# -- Zarr --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_is_one_array(zarr_format):
    zarr = pytest.importorskip("zarr")
    x = RNG.normal(size=(50, 3))
    zarr.create_array("x.zarr", data=x, chunks=(20, 2), zarr_format=zarr_format)
    for path in ("x.zarr", f"{os.getcwd()}/x.zarr/"):
        with open_table(path) as table:
            assert np.array_equal(np.concatenate(rows_of(table)), x)


def test_a_store_is_not_written():
    pytest.importorskip("zarr")
    np.save("x.npy", np.ones((2, 2)))
    status, line = bad("fit-transform", "x.npy", "--scaler", "minmax", "-o", "y.zarr")
    assert (status, "Zarr stores are read only" in line) == (1, True)
    with open("z.zarr", "w") as file:
        file.write("?")
    status, line = bad("fit", "z.zarr", "--scaler", "minmax", "--save", "s.json")
    assert (status, line) == (1, "z.zarr is a file; a Zarr store is a directory")


def test_stores_that_are_damaged():
    zarr = pytest.importorskip("zarr")
    zarr.create_array("x.zarr", data=RNG.normal(size=(50, 3)), chunks=(20, 3))
    os.mkdir("empty.zarr")
    shutil.copytree("x.zarr", "cut.zarr")
    os.truncate("cut.zarr/c/1/0", 30)
    shutil.copytree("x.zarr", "meta.zarr")
    os.truncate("meta.zarr/zarr.json", 30)
    for name, message in (("empty", "not a readable Zarr store"), ("cut", "rows 1 to 50 of the"),
                          ("meta", "not a readable Zarr store")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{name}\.zarr.*{message}"):
            fit_file(f"{name}.zarr", nc.MinMaxScaler())


def test_a_store_that_grew_after_its_metadata_was_consolidated():
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group("x.zarr", mode="w", zarr_format=2)
    array = group.create_array("x", data=np.ones((5, 2)))
    zarr.consolidate_metadata("x.zarr")
    array.append(np.zeros((3, 2)))
    with open_table("x.zarr") as table:
        assert table.num_rows == 8
        assert len(np.concatenate(rows_of(table))) == 8


def test_an_output_is_no_part_of_a_store_that_is_read():
    zarr = pytest.importorskip("zarr")
    zarr.create_array("x.zarr", data=np.ones((5, 3)))
    status, line = bad("fit-transform", "x.zarr", "--scaler", "minmax", "-o", "x.zarr/y.csv")
    assert (status, "is part of the input too" in line) == (1, True)


def test_directories_of_files_stay_what_they_are():
    """Spark calls a directory of Parquet files ``name.parquet``."""
    pytest.importorskip("pyarrow")
    os.mkdir("x.csv")
    with open("x.csv/part.csv", "w") as file:
        file.write("a\n1\n2\n")
    with open_table("x.csv") as table:
        assert [field.name for field in table.fields] == ["a"]
