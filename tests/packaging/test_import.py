"""What importing normcore costs, loads and offers."""

from __future__ import annotations

import ast
import pickle
import statistics
from importlib import metadata
from pathlib import Path

import pytest
from processes import printed_json

import normcore as nc
from normcore import registration

FIXED = """
    StandardScaler MinMaxScaler RobustScaler AffineScaler PointwiseScaler scalers load
    BatchNorm functional Affine Moments Extrema
    Backend backends get_backend use_backend set_num_threads hookimpl register
"""


def test_import_loads_nothing_that_is_not_needed():
    loaded = printed_json(  # the import system is Python's own; not every NumPy has loaded it
        "import numpy, importlib.machinery; before = set(sys.modules)\nimport normcore\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    strangers = [name for name in loaded if name.split(".")[0] != "normcore"]
    assert "normcore" in loaded
    assert strangers == []


def test_using_the_core_loads_no_plugin_and_no_host_library():
    loaded = printed_json(
        "import normcore\nfrom normcore import *\nprint(json.dumps(sorted(sys.modules)))"
    )
    packages = {name.split(".")[0] for name in loaded}
    assert {"normcore", "numpy", "pluggy"} <= packages
    assert packages.isdisjoint(
        {"pandas", "sklearn", "scipy", "polars", "torch", "click", "rich", "hypothesis", "pytest"}
    )
    assert not [name for name in packages if name.startswith("normcore_")]
    assert "importlib.metadata" not in loaded


def seconds(code):
    return printed_json(
        f"import time; start = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    )


def test_import_takes_less_than_half_of_numpys_time_more():
    """The median of interleaved runs: numpy alone, and normcore, which imports numpy too."""
    pairs = [(seconds("import numpy"), seconds("import normcore, numpy")) for _ in range(7)]
    ratio = statistics.median(ours / numpys for numpys, ours in pairs)
    assert ratio < 1.5


def test_fixed_names_are_there():
    assert set(FIXED.split()) <= set(nc.__all__)
    for name in nc.__all__:
        assert getattr(nc, name) is not None, name
    assert nc.functional.batch_norm is not None
    assert callable(nc.scalers)


def test_version_is_the_distributions():
    assert nc.__version__ == metadata.version("normcore-arrays")


def test_all_is_the_cores():
    """What plugins supply resolves, but a star import does not depend on what is installed."""
    from normcore import MaxAbsScaler

    assert MaxAbsScaler.__module__ == "normcore_maxabs.scaler"
    assert nc.MaxAbsScaler is MaxAbsScaler
    assert "MaxAbsScaler" not in nc.__all__
    assert "MaxAbsScaler" in dir(nc)


@pytest.mark.parametrize("name", ["_hidden", "__wrapped__", "testing", "cli"])
def test_names_that_never_look_for_plugins(name):
    """Underscored names and submodules: what tools and ``from normcore import x`` probe."""
    found, looked = printed_json(
        f"import normcore\nfound = hasattr(normcore, {name!r})\n"
        "discovery = sys.modules.get('normcore.registration.discovery')\n"
        "print(json.dumps([found, getattr(discovery, '_discovered', False)]))"
    )
    assert not found
    assert not looked


def test_unknown_name():
    with pytest.raises(
        AttributeError, match="'normcore' has no attribute 'MaxAbzScaler', and no p"
    ):
        _ = nc.MaxAbzScaler
    with pytest.raises(ImportError, match="cannot import name 'MaxAbzScaler' from 'normcore'"):
        from normcore import MaxAbzScaler  # noqa: F401


def test_submodules_can_be_imported_from_the_package():
    assert printed_json(
        "from normcore import layout, testing\nimport normcore.scaling.standard\n"
        "import normcore\n"
        "print(json.dumps([layout.__name__, testing.__name__, 'standard' in normcore.scalers()]))"
    ) == ["normcore.layout", "normcore.testing", True]


def test_pickles_name_the_package_or_the_plugins_module():
    for name, module in (
        ("StandardScaler", b"normcore"),
        ("MaxAbsScaler", b"normcore_maxabs.scaler"),
    ):
        data = pickle.dumps(getattr(nc, name), protocol=2)
        assert data.split(b"\n")[0].endswith(b"c" + module)
        assert pickle.loads(data) is getattr(nc, name)


def test_stub_lists_the_core_and_the_first_party_plugins():
    """So that a misspelt name is a type error, though names resolve when the program runs."""
    stub = ast.parse(Path(nc.__file__).with_name("__init__.pyi").read_text())
    listed, exported = set(), None
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            listed |= {alias.asname for alias in node.names if alias.asname}
        elif isinstance(node, ast.AnnAssign):
            listed.add(node.target.id)
        elif isinstance(node, ast.Assign):
            exported = set(ast.literal_eval(node.value))
    supplied = {
        row.target.partition(":")[2] if row.kind == "scaler" else row.name
        for row in registration.registrations()
        if row.kind in ("scaler", "function") and row.distribution == "normcore-arrays"
    }
    of_functional = {name for name in supplied if name.startswith("functional.")}
    assert exported == set(nc.__all__)
    assert listed == {*nc.__all__, *supplied - of_functional, "__version__"}
    source = Path(nc.__file__).with_name("functional.py").read_text()
    imports = [
        each
        for block in ast.parse(source).body
        if isinstance(block, ast.If)
        for each in block.body
        if isinstance(each, ast.ImportFrom)
    ]
    listed = {alias.asname for each in imports for alias in each.names}
    assert {f"functional.{name}" for name in listed} == of_functional


# What belongs to the process, and so to the host.
OF_THE_PROCESS = """
import os, signal, sys, warnings

def of_the_process():
    handlers = [signal.getsignal(each) for each in sorted(signal.valid_signals())]
    tasks = os.listdir("/proc/self/task") if os.path.isdir("/proc/self/task") else []
    return {
        "meta_path": list(sys.meta_path),
        "path_hooks": list(sys.path_hooks),
        "path": list(sys.path),
        "handlers": [each if isinstance(each, int) else id(each) for each in handlers],
        "affinity": {tuple(sorted(os.sched_getaffinity(int(each)))) for each in tasks},
        "filters": list(warnings.filters),
        "showwarning": id(warnings.showwarning),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "excepthook": id(sys.excepthook),
        "recursion": sys.getrecursionlimit(),
        "interval": sys.getswitchinterval(),
        "errors": numpy.geterr(),
    }
"""


def test_what_belongs_to_the_process_stays_as_it_is():
    """By an import, a fit, a transform and a batch norm, all with threads, under other settings."""
    changed = printed_json(
        OF_THE_PROCESS + "import numpy\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "warnings.simplefilter('always', UserWarning)\n"
        "numpy.seterr(over='raise')\n"
        "os.environ['OMP_NUM_THREADS'] = '3'\n"
        "x = numpy.random.default_rng(0).normal(size=(300_000, 8))\n"
        "states = [of_the_process()]\n"
        "import normcore as nc; states.append(of_the_process())\n"
        "nc.StandardScaler().fit_transform(x); states.append(of_the_process())\n"
        "nc.RobustScaler().fit_transform(x); states.append(of_the_process())\n"
        "nc.BatchNorm(8)(x); states.append(of_the_process())\n"
        "nc.LayerNorm(8)(x); states.append(of_the_process())\n"
        "with nc.use_num_threads(2): nc.BatchNorm(8)(x); states.append(of_the_process())\n"
        "print(json.dumps([[i, name] for i, state in enumerate(states) for name in state\n"
        "                  if state[name] != states[0][name]]))"
    )
    assert changed == []
