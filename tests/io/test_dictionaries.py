"""Dictionary columns whose dictionaries change, and batches of any shape, lose nothing."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow")
import pyarrow as pa
import pyarrow.parquet as pq
from arrow_tables import dictionary, store, stored

import normcore as nc
from normcore.io import fit_transform_file

TARGETS = [".arrow", ".arrows", ".parquet"]
INDEX_TYPES = [pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.int64()]


def transformed(path, out, batch_rows=None, **options):
    """Run a map that changes no x between 0 and 1, and return the result."""
    scaler = nc.MinMaxScaler()
    fit_transform_file(path, out, scaler, columns=["x"], batch_rows=batch_rows, **options)
    return stored(out)


def write_stream(batches, path):
    with pa.ipc.new_stream(str(path), batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def batch_of(column):
    return pa.record_batch({"x": np.linspace(0, 1, len(column)), "c": column})


@st.composite
def dictionaries(draw, type_, values):
    """Return a dictionary column of any values in any order, some of them not used."""
    words = draw(st.lists(values, min_size=1, max_size=9, unique=True))
    indices = st.one_of(st.none(), st.integers(0, len(words) - 1))
    column = dictionary(words, type_, draw(st.sampled_from(INDEX_TYPES[:1])), indices=[])
    picked = draw(st.lists(indices, max_size=12))
    return pa.DictionaryArray.from_arrays(pa.array(picked, pa.int8()), column.dictionary)


KINDS = {
    "text": (pa.string(), st.text(alphabet="abü", max_size=3)),
    "binary": (pa.binary(), st.binary(max_size=2)),
    "integers": (pa.int32(), st.integers(-5, 5)),
    "views": (pa.string_view(), st.text(alphabet="abü", max_size=3)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_streams_whose_dictionaries_change(kind, target, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("d")
    columns = data.draw(st.lists(dictionaries(*KINDS[kind]), min_size=1, max_size=4))
    if not sum(map(len, columns)):
        return
    write_stream([batch_of(column) for column in columns], folder / "x.arrows")
    rows = data.draw(st.sampled_from([None, 1, 5]))
    result = transformed(folder / "x.arrows", folder / f"y{target}", batch_rows=rows)
    expected = [value for column in columns for value in column.to_pylist()]
    assert result.column("c").to_pylist() == expected
    for chunk in result.column("c").chunks:
        chunk.validate(full=True)
    if target == ".arrow":
        dictionaries_ = {tuple(c.dictionary.to_pylist()) for c in result.column("c").chunks}
        assert len(dictionaries_) == 1
        assert result.schema.field("c").type == columns[0].type


@pytest.mark.parametrize("index", INDEX_TYPES, ids=str)
@pytest.mark.parametrize("changes", [False, True])
def test_index_types_grow_only_where_they_must(index, changes, tmp_path):
    """Of 100 values a batch, int8 holds one batch's but not those of three."""
    batches = []
    for number in range(3):
        words = [f"{number * changes}-{i}" for i in range(100)]
        wide = dictionary(words, index=index, indices=[99, 0, None])
        same = dictionary(["u", "v"], index=index, ordered=True, indices=[1, 0, None])
        batches.append(pa.record_batch({"x": [0.0, 0.5, 1.0], "wide": wide, "same": same}))
    write_stream(batches, tmp_path / "x.arrows")
    result = transformed(tmp_path / "x.arrows", tmp_path / "y.arrow")
    assert result.to_pydict() == pa.Table.from_batches(batches).to_pydict()
    narrow = index.bit_width == 8 and changes
    expected = pa.int16() if narrow else index
    if index == pa.uint8():
        expected = pa.int16() if changes else index
    assert result.schema.field("wide").type.index_type == expected
    assert result.schema.field("same").type == batches[0].schema.field("same").type
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.arrows", "y.arrow"]
    if index == pa.uint32():  # a reader that knows no deltas
        frame = pytest.importorskip("polars").read_ipc(tmp_path / "y.arrow")
        assert frame["wide"].to_list() == result["wide"].to_pylist()


@pytest.mark.parametrize("target", TARGETS)
def test_categories_in_another_order(target, tmp_path):
    columns = [dictionary(words, ordered=True) for words in (["lo", "hi"], ["hi", "lo"])]
    write_stream([batch_of(column) for column in columns], tmp_path / "x.arrows")
    if target == ".arrow":
        with pytest.raises(ValueError, match=r"column 'c': the order of its categories changes"):
            transformed(tmp_path / "x.arrows", tmp_path / f"y{target}")
        assert [path.name for path in tmp_path.iterdir()] == ["x.arrows"]
        return
    result = transformed(tmp_path / "x.arrows", tmp_path / f"y{target}")
    assert result["c"].type.ordered
    assert [chunk.dictionary.to_pylist() for chunk in result["c"].chunks] == [
        ["lo", "hi"],
        ["hi", "lo"],
    ]
    assert result["c"].to_pylist() == ["lo", "hi", None, "lo", "hi", "lo", None, "hi"]


def test_ordered_categories_may_be_added_at_the_end(tmp_path):
    columns = [dictionary(words, ordered=True) for words in (["a", "b"], ["a", "b", "c"])]
    write_stream([batch_of(column) for column in columns], tmp_path / "x.arrows")
    result = transformed(tmp_path / "x.arrows", tmp_path / "y.arrow")
    assert {tuple(c.dictionary.to_pylist()) for c in result["c"].chunks} == {("a", "b", "c")}


def test_dictionaries_that_pyarrow_would_unify_wrongly(tmp_path):
    columns = [dictionary(pa.array(np.array(values, np.float16))) for values in ([1, 2], [2, 3])]
    write_stream([batch_of(column) for column in columns], tmp_path / "x.arrows")
    with pytest.raises(ValueError, match=r"column 'c': dictionaries of float16"):
        transformed(tmp_path / "x.arrows", tmp_path / "y.arrow")
    result = transformed(tmp_path / "x.arrows", tmp_path / "y.parquet")
    assert [str(value) for value in result["c"].to_pylist()] == [
        *("1.0", "2.0", "None", "1.0"),
        *("2.0", "3.0", "None", "2.0"),
    ]


def test_nested_dictionaries_become_one(tmp_path):
    columns = [
        pa.ListArray.from_arrays([0, 1, 2, 3, 4], dictionary(words))
        for words in (["a", "b"], ["b", "c"])
    ]
    write_stream([batch_of(column) for column in columns], tmp_path / "x.arrows")
    for target in TARGETS:
        result = transformed(tmp_path / "x.arrows", tmp_path / f"y{target}")
        expected = [value for column in columns for value in column.to_pylist()]
        assert result["c"].to_pylist() == expected


def test_a_large_dictionary_stays_one(tmp_path):
    """Larger than a page of a dictionary, with values that are not used."""
    words = [f"{i:06d}" + "z" * 40 for i in range(40_000)][::-1]
    column = pa.DictionaryArray.from_arrays(pa.array(np.arange(0, 40_000, 7, dtype="i4")), words)
    store(pa.table({"x": np.linspace(0, 1, len(column)), "c": column}), tmp_path / "x.parquet", 900)
    for target in TARGETS:
        result = transformed(tmp_path / "x.parquet", tmp_path / f"y{target}", batch_rows=1000)
        assert result["c"].to_pylist() == column.to_pylist()
        assert all(chunk.dictionary.equals(column.dictionary) for chunk in result["c"].chunks)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_slices_of_a_table_keep_their_rows(data, tmp_path_factory):
    """Batches that begin within buffers: validity and offsets are those of the rows."""
    folder = tmp_path_factory.mktemp("s")
    size = data.draw(st.integers(1, 40))
    missing = st.lists(st.booleans(), min_size=size, max_size=size)
    whole = pa.record_batch(
        {
            "x": pa.array(np.arange(size) / 4, mask=np.array(data.draw(missing))),
            "i": pa.array(np.arange(size), mask=np.array(data.draw(missing))),
            "b": pa.array(np.arange(size) % 2 == 0, mask=np.array(data.draw(missing))),
            "d": pa.array([None if i % 5 == 0 else i % 3 for i in range(size)]).dictionary_encode(),
            "t": pa.array([None if i % 4 == 0 else "ü" * i for i in range(size)]),
            "n": pa.array([None if i % 3 == 0 else [i, None] for i in range(size)]),
            "r": pa.RunEndEncodedArray.from_arrays(pa.array([size], pa.int32()), [2.5]),
        }
    )
    start = data.draw(st.integers(0, size - 1))
    part = whole.slice(start, data.draw(st.integers(1, size)))
    suffix = data.draw(st.sampled_from([".arrow", ".arrows"]))
    store(pa.Table.from_batches([part]), folder / f"x{suffix}", data.draw(st.integers(1, size)))
    chosen = [name for name in ("x", "i", "d", "b", "r") if data.draw(st.booleans())] or ["x"]
    scaler = nc.StandardScaler().fit([[-1.0] * len(chosen), [1.0] * len(chosen)])
    scaler.feature_names_in_ = np.array(chosen, dtype=object)
    out = folder / f"y{data.draw(st.sampled_from(TARGETS))}"
    nc.io.transform_file(
        folder / f"x{suffix}", out, scaler, batch_rows=data.draw(st.sampled_from([None, 1, 3]))
    )
    result, expected = stored(out).to_pydict(), part.to_pydict()
    for name in chosen:
        expected[name] = [None if value is None else float(value) for value in expected[name]]
    assert result == expected


def test_row_groups_and_compression_of_the_source_stay(tmp_path):
    rows = 1000
    table = pa.table(
        {
            "x": np.linspace(0, 1, rows),
            "few": np.arange(rows) % 3 / 2,
            "t": [f"v{i}" for i in range(rows)],
        }
    )
    codecs = {"x": "gzip", "few": "zstd", "t": "none"}
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=300, compression=codecs)
    transformed(tmp_path / "x.parquet", tmp_path / "y.parquet", batch_rows=128)
    metadata = pq.read_metadata(tmp_path / "y.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [300, 300, 300, 100]
    chunks = {groups[0].column(i).path_in_schema: groups[0].column(i) for i in range(3)}
    assert {name: chunk.compression for name, chunk in chunks.items()} == {
        "x": "GZIP",
        "few": "ZSTD",
        "t": "UNCOMPRESSED",
    }
    # No dictionary is tried for floats, but where it made the source much smaller.
    assert {name: chunk.has_dictionary_page for name, chunk in chunks.items()} == {
        "x": False,
        "few": True,
        "t": True,
    }


@pytest.mark.parametrize("codec", ["lz4", "zstd", None])
@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_compression_of_arrow_files_stays(codec, make, tmp_path):
    from normcore.io.arrow.ipc_messages import compression

    table = pa.table({"x": np.zeros(1000), "c": dictionary(["u"], indices=[0] * 1000)})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with make(str(tmp_path / "x.arrow"), table.schema, options=options) as writer:
        writer.write_table(table)
    assert compression(tmp_path / "x.arrow") == codec
    nc.io.fit_transform_file(
        tmp_path / "x.arrow", tmp_path / "y.arrow", nc.MinMaxScaler(), columns=["x"]
    )
    assert compression(tmp_path / "y.arrow") == codec
    assert (tmp_path / "y.arrow").stat().st_size < (20_000 if codec is None else 3000)
