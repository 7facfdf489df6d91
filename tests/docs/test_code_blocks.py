"""Every block of code of the pages is run: here, or by the test that the table below names."""

from __future__ import annotations

import doctest
import re
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from dask_workers import two_workers
from page_examples import blocks, check_examples, commands, shell
from paths import ROOT
from processes import pip_install, run_python

import normcore as nc

PAGES = [
    *("README.md", "CONTRIBUTING.md", "examples/plugin/README.md", "examples/backend/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*/*.md")),
]
HERE, DOCS = "tests/docs/test_code_blocks.py", "tests/docs"

#: What runs blocks that are no sessions of Python.
RUN_BY = {
    ("README.md", "console"): f"{DOCS}/test_readme.py",
    ("README.md", "python"): f"{DOCS}/test_readme.py",
    ("README.md", "sh"): f"{DOCS}/test_readme.py",
    ("README.md", "toml"): f"{DOCS}/test_readme.py",
    ("CONTRIBUTING.md", "sh"): f"{DOCS}/test_pages.py",
    ("docs/backends.md", "python"): HERE,
    ("docs/c-api.md", "c"): f"{DOCS}/test_c_api_page.py",
    ("docs/conformance.md", "python"): HERE,
    ("docs/export.md", "sh"): HERE,
    ("docs/extending.md", "python"): HERE,
    ("docs/index.md", "python"): f"{DOCS}/test_site_pages.py",
    ("docs/keras.md", "python"): f"{DOCS}/test_keras_page.py",
    ("docs/plugins.md", "python"): HERE,
    ("docs/plugins.md", "sh"): HERE,
    ("docs/plugins.md", "toml"): HERE,
    ("docs/report.md", "console"): HERE,
    ("docs/scale.md", "sh"): HERE,
    ("docs/scalers.md", "python"): f"{DOCS}/test_scalers_page.py",
    ("docs/start.md", "console"): HERE,
    ("docs/streams.md", "console"): HERE,
    ("docs/tables.md", "console"): f"{DOCS}/test_tables_page.py",
    ("docs/torch.md", "python"): HERE,
    ("examples/backend/README.md", "sh"): "tests/examples/test_backend_example.py",
    ("examples/plugin/README.md", "sh"): "tests/examples/test_plugin.py",
}
#: And why nothing does.
NOT_RUN = {
    ("docs/gpu.md", "python"): "takes a GPU: benchmarks/gpu",
    ("docs/gpu.md", "sh"): "takes an index and a GPU",
    ("docs/install.md", "sh"): "takes an index: tox -e wheels builds and installs without one",
}
#: Pictures, and what generates pages.
NO_CODE = {"mermaid", "text", "{eval-rst}", "{toctree}", ""}

needs_sh = pytest.mark.skipif(sys.platform == "win32", reason="the examples are for sh")


def test_every_block_is_run():
    found = {
        (page, language)
        for page in PAGES
        for language in re.findall(
            r"^```([^\n`]*)\n.*?^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S
        )
        if language not in NO_CODE
    }
    sessions = {page for page, language in found if language == "pycon"}
    assert found - {(page, "pycon") for page in sessions} == RUN_BY.keys() | NOT_RUN.keys()
    for test in set(RUN_BY.values()):
        assert (ROOT / test).exists()
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / DOCS).glob("test_*.py"))
    migration = set((ROOT / "docs" / "migration").glob("*.md"))
    for page in sessions:
        name = (ROOT / page).stem if ROOT / page in migration else (ROOT / page).name
        assert f'"{name}"' in tests or f"'{name}'" in tests, (
            f"{page} has examples that no test runs"
        )


def run_commands(lines, folder, *sites):
    """Run commands of sh, each of which is to succeed; return what they print."""
    printed = []
    for line in lines:
        status, shown = shell(line, folder, *sites)
        assert status == 0, (line, shown)
        printed += shown
    return printed


@pytest.fixture
def folder(tmp_path):
    for library in ("click", "rich", "pyarrow"):
        pytest.importorskip(library)
    for place in (tmp_path, tmp_path / "examples" / "data"):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "examples" / "data" / "breast_cancer.csv", place)
    return tmp_path


@needs_sh
def test_commands_of_the_start_page(folder):
    install, *rest = (
        line for block in blocks("docs/start.md", "console") for line, _ in commands(block)
    )
    assert install == 'pip install "normcore-arrays[cli,report,sklearn]"'
    run_commands(rest, folder)
    raw = np.genfromtxt(folder / "raw.csv", delimiter=",", skip_header=1)[:, :-1]
    given = np.genfromtxt(folder / "breast_cancer.csv", delimiter=",", skip_header=1)[:, :-1]
    np.testing.assert_allclose(raw, given, rtol=1e-13, atol=1e-13)


@needs_sh
def test_commands_of_the_page_on_reports(folder):
    pytest.importorskip("jinja2")
    (block,) = blocks("docs/report.md", "console")
    run_commands([line for line, _ in commands(block)], folder)
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "report.json").exists()


@needs_sh
def test_commands_of_the_page_on_exports(folder):
    pytest.importorskip("onnx")
    nc.StandardScaler().fit([[1.0, 2.0], [3.0, 5.0]]).save(folder / "scaler.json")
    (block,) = blocks("docs/export.md", "sh")
    printed = "\n".join(run_commands(block.splitlines(), folder))
    assert 'FROM "customers"' in printed
    assert "polars" in printed
    assert (folder / "scaler.onnx").exists()


@needs_sh
def test_commands_of_the_page_on_many_machines(folder):
    (folder / "data").mkdir()
    for name in ("one", "two"):
        shutil.copy(folder / "breast_cancer.csv", folder / "data" / f"{name}.csv")
    (block,) = blocks("docs/scale.md", "sh")
    with two_workers(processes=False, protocol="tcp", silence_logs=60) as client:
        address = client.scheduler.address
        lines = block.replace("tcp://host:8786", address).replace(" data/", f" {folder}/data")
        assert address in lines
        run_commands(lines.splitlines(), folder)
    assert nc.load(folder / "scaler.json").quantile_error_ <= 0.001


def test_the_hook_of_a_backend_is_that_of_the_example():
    hook, kit = blocks("docs/backends.md")
    registered = []
    recorder = SimpleNamespace(backend=lambda *names, **options: registered.append(names))
    for code in (hook, (ROOT / "examples/backend/normcore_tensors/plugin.py").read_text()):
        names = {}
        exec(compile(code, "plugin.py", "exec"), names)
        names["normcore_register"](recorder)
    assert registered[0] == registered[1]
    names = {}
    exec(compile(kit, "docs/backends.md", "exec"), names)
    assert names["TestTensors"].backend == registered[0][0]


def test_the_kit_is_inherited_as_it_is_shown(monkeypatch):
    package = ModuleType("my_package")
    package.MyScaler, package.MyBackend = nc.MinMaxScaler, type(nc.get_backend("reference"))
    monkeypatch.setitem(sys.modules, "my_package", package)
    for page in ("docs/conformance.md", "docs/extending.md"):
        names = {}
        for code in blocks(page):
            exec(compile(code, page, "exec"), names)
        made = [each for name, each in names.items() if name.startswith("Test")]
        assert made
        for kind in made:
            assert any(name.startswith("test_") for name in dir(kind))


def sources(page, *names):
    """Return the definitions of classes and functions in the sessions of a page."""
    text = "".join(blocks(page, "pycon"))
    parts = {}
    for example in doctest.DocTestParser().get_examples(text):
        found = re.match(r"(?:class|def) (\w+)", example.source)
        if found:
            parts[found[1]] = example.source
    return "\n\n".join(parts[name] for name in names)


@needs_sh
def test_the_plugin_of_the_page(folder):
    """Its files, written as the page says, installed, used and tested as it says."""
    page = "docs/plugins.md"
    hook, kit = (code for code in blocks(page) if code.startswith("# "))
    (project,) = blocks(page, "toml")
    package = folder / "my_package"
    code = sources(page, "ParetoScaler", "pareto_scale", "RawDoubles")
    head = "import numpy as np\n\nimport normcore as nc\nfrom normcore import io\n\n"
    files = {"__init__.py": head + code, "plugin.py": hook}
    for path, text in {
        folder / "pyproject.toml": project,
        **{package / name: text for name, text in files.items()},
        folder / "tests" / "test_my_package.py": kit,
    }.items():
        assert path.name == "__init__.py" or text.startswith(f"# {path.relative_to(folder)}\n")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    use, ask, test = (block.splitlines() for block in blocks(page, "sh"))
    assert use[0] == "pip install -e ."
    site = pip_install(folder / "site", folder)
    shutil.rmtree(package)  # what is found is installed
    shutil.copy(folder / "breast_cancer.csv", folder / "data.csv")
    printed = run_commands([*use[1:], *ask], folder, site)
    assert any("ParetoScaler" in line for line in printed)
    assert not any("wrong" in line for line in printed)
    assert test == ['pip install "normcore-arrays[testing]"', "pytest tests -rs"]
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", folder, "-c", "/dev/null")
    few = "its_plugin or saved or one_row or exports"  # the README's runs all of the kit
    done = run_python("-m", "pytest", *options, "-k", few, folder / "tests", cwd=folder, site=site)
    assert re.search(r"^\d passed", done.stdout, re.M)


def test_sessions_of_the_page_on_streams(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    check_examples("streams.md")


@needs_sh
def test_commands_of_the_page_on_streams(folder):
    for block in blocks("docs/streams.md", "console"):
        for line, shown in commands(block):
            assert run_commands([line], folder) == shown, line


class Alone:
    """A communicator of one process."""

    rank, size = 0, 1

    def allreduce(self, array):
        """Return the sum over all ranks."""
        return array


def test_sessions_of_the_page_on_pytorch():
    pytest.importorskip("torch")
    check_examples("torch.md")


def test_several_processes_of_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    import normcore.torch as nt

    # Port 0: any that is free.
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    code, _ = blocks("docs/torch.md")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    names = {"torch": torch, "nt": nt, "model": model}
    try:
        exec(compile(code, "docs/torch.md", "exec"), names)
        assert type(names["model"].module[1]) is nt.SyncBatchNorm
        names["model"](torch.randn(5, 3)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()


def test_several_processes_without_modules():
    pytest.importorskip("torch")
    _, code = blocks("docs/torch.md")
    x = np.random.default_rng(0).normal(size=(6, 3))
    names = {
        "normcore": SimpleNamespace(mpi=SimpleNamespace(MPICommunicator=Alone)),
        **{"nc": nc, "x": x, "dy": x[::-1].copy(), "gamma": np.ones(3), "beta": np.zeros(3)},
    }
    exec(compile(code, "docs/torch.md", "exec"), names)
    np.testing.assert_allclose(names["y"].mean(axis=0), 0, atol=1e-15)
    assert names["dx"].shape == x.shape
