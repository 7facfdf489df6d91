"""The hook and discovery, with distributions that are really installed, whole and broken."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sysconfig

import plugin_wheels as wheels
import pytest
from paths import HELPERS
from processes import evaluate, pip_install, run_python

from normcore.registration import builtin, hookspecs

OUTSIDE = HELPERS / "outside"


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """Site of the distribution normcore-outside."""
    source = tmp_path_factory.mktemp("source") / "outside"
    shutil.copytree(OUTSIDE, source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    return pip_install(tmp_path_factory.mktemp("outside"), source)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Site of all the plugins of plugin_wheels.py."""
    built = wheels.build(tmp_path_factory.mktemp("wheels"))
    return pip_install(tmp_path_factory.mktemp("broken"), *built)


@pytest.fixture(scope="module")
def among_broken(broken):
    """What works, and what is said, where all the plugins of plugin_wheels.py are installed."""
    return evaluate(
        """
        import numpy as np
        from normcore import registration
        from normcore.array_backend import selection
        result = {
            "rows": registration.registrations(),
            "scalers": {name: each.__module__ for name, each in nc.scalers().items()},
            "backends": dict(nc.backends()),
            "selected": selection.select_backend(np.ones(3)).name,
        }
        """,
        site=broken,
    )


# -- distributions that work ------------------------------------------------------------


def test_hook_normcore_register(outside):
    """What an installed plugin registers is there, under its names, with its distribution."""
    (rows, scaled, module, listed), said = evaluate(
        """
        from normcore import UnitRangeScaler, unit_range_scale
        from normcore import registration
        rows = [r[:3] for r in registration.registrations() if r[3:] == ("normcore-outside", "1.2")]
        scaled = UnitRangeScaler().fit_transform([[0.0], [1.0], [4.0]]).tolist()
        result = rows, scaled, nc.scalers()["unit-range"].__module__, "unit_range_scale" in dir(nc)
        """,
        site=outside,
    )
    assert rows == [
        ["scaler", "unit-range", "normcore_outside.scaler:UnitRangeScaler"],
        ["function", "unit_range_scale", "normcore_outside.scaler:unit_range_scale"],
        ["backend", "outside", "normcore_outside.backend:OutsideBackend"],
    ]
    assert scaled == [[-1.0], [-0.5], [1.0]]
    assert (module, listed) == ("normcore_outside.scaler", True)
    assert said == []


def test_outside_backend_is_used_by_name(outside):
    (status, chosen, means), said = evaluate(
        """
        import numpy as np
        from normcore.array_backend import selection
        X = np.array([[1.0, 2.0], [3.0, 6.0]])
        with nc.use_backend("outside"):
            chosen = [selection.select_backend(X).name]
        chosen.append(selection.select_backend(X).name)
        scaler = nc.StandardScaler(backend="outside").fit(X)
        result = nc.backends()["outside"], chosen, scaler.mean_.tolist()
        """,
        site=outside,
    )
    assert status[:2] == [True, ""]
    assert chosen[0] == "outside"
    assert chosen[1] != "outside"  # it names no device, so nothing is given to it unasked
    assert means == [2.0, 4.0]
    assert said == []


@pytest.mark.parametrize(("command", "name"), [("scalers", "unit-range"), ("backends", "outside")])
def test_outside_appears_on_the_command_line(outside, command, name):
    pytest.importorskip("click")
    without = run_python("-m", "normcore", command).stdout
    assert name not in without
    with_it = run_python("-m", "normcore", command, site=outside).stdout
    assert re.search(rf"\b{name}\b.*normcore-outside", with_it)


def test_outside_conforms(outside, tmp_path):
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", os.devnull)
    mode = "--import-mode=importlib"  # or tests/torch would stand for a PyTorch that is missing
    done = run_python("-m", "pytest", *options, mode, OUTSIDE / "conformance.py", site=outside)
    assert re.search(r"\d\d passed", done.stdout)


@pytest.mark.parametrize("disabled", ["outside", "maxabs, Normcore_Outside"])
def test_disabled_plugins_are_not_loaded(outside, disabled):
    (scalers, backends), said = evaluate(
        """
        result = sorted(nc.scalers()), sorted(nc.backends())
        """,
        site=outside,
        disabled=disabled,
    )
    assert "unit-range" not in scalers
    assert "outside" not in backends
    assert ("maxabs" in scalers) == ("maxabs" not in disabled)
    assert "standard" in scalers
    assert said == []


# -- distributions that do not work -----------------------------------------------------


@pytest.mark.parametrize("name", wheels.BROKEN)
def test_broken_plugin_is_named_and_left_out(among_broken, name):
    result, said = among_broken
    distribution = f"normcore-{name}".replace("_", "-")
    about = [each for each in said if each.startswith(f"PluginWarning: plugin '{name}' of ")]
    assert len(about) == 1
    assert f"of {distribution} 0.1: " in about[0]
    assert wheels.BROKEN[name][1] in about[0]
    assert not [row for row in result["rows"] if row[3] == distribution]


def test_broken_plugins_leave_the_others_working(among_broken, broken):
    result, _ = among_broken
    first_party = {"standard", "minmax", "robust", "maxabs"}
    assert first_party | {"twin"} <= set(result["scalers"])
    assert result["scalers"]["maxabs"] == "normcore_maxabs.scaler"
    assert result["backends"]["reference"][0]
    assert result["selected"] in ("cpu", "reference")


def test_importing_normcore_says_nothing_of_broken_plugins(broken):
    done = run_python("-W", "error", "-c", "import normcore; normcore.StandardScaler", site=broken)
    assert done.stderr == ""


def test_command_line_works_among_broken_plugins(broken):
    pytest.importorskip("click")
    done = run_python("-m", "normcore", "scalers", site=broken)
    assert "maxabs" in done.stdout
    assert "plugin 'raising' of normcore-raising 0.1: its hook failed" in done.stderr


def test_targets_that_do_not_import(among_broken, broken):
    """They are left out of the whole, with a warning, and raise where they are asked for."""
    _, said = among_broken
    for message in (
        "scaler 'lost' does not import: AttributeError",
        "scaler 'no-class' is not a class but <module 'normcore'",
        "scaler 'no-scaler' is not a subclass of normcore.AffineScaler, ",
        "scaler 'no-affine' lacks affine",
    ):
        assert len([each for each in said if message in each and "normcore-lost 0.1" in each]) == 1
    (raised, kernel, engines, fitted), said = evaluate(
        """
        from normcore import registration
        raised = []
        for ask in (
            lambda: nc.LostScaler,
            lambda: registration.scaler("lost"),
            lambda: registration.source(".lost"),
            lambda: registration.source(".nosource"),
            lambda: registration.engine("no-engine"),
            lambda: registration.supplied("no_function"),
        ):
            try:
                ask()
            except nc.PluginError as error:
                raised.append(str(error))
        warnings.simplefilter("ignore")
        nc.scalers()
        warnings.simplefilter("always")
        fitted = nc.StandardScaler().fit([[1.0], [3.0]]).mean_.tolist()
        left = registration.kernel("lost", "cpu"), registration.engines_of("numpy")
        result = raised, *left, fitted
        """,
        site=broken,
    )
    assert len(raised) == 6
    assert all("plugin 'lost' of normcore-lost 0.1" in each for each in raised)
    assert "ModuleNotFoundError: No module named 'no_such_module'" in raised[2]
    assert (kernel, engines, fitted) == (None, [], [2.0])
    assert [each for each in said if "kernel 'lost' does not import" in each]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "does not import: KeyError: 'Absent'"),
        ("no-backend", "'normcore_sick:NoBackend' of backend 'no-backend' is not a subclass"),
        ("partial", "backend 'partial' lacks adopt, backward_elemt, "),
        ("probing", "its probe failed: OSError: the driver is on fire"),
        ("waiting", "no device"),
    ],
)
def test_backends_that_are_not_ready_say_why(among_broken, name, reason):
    ready, said, _ = among_broken[0]["backends"][name]
    assert not ready
    assert reason in said
    assert "normcore-sick 0.1" in said or name == "waiting"


def test_asking_for_a_backend_that_is_not_ready(broken):
    (unready, unknown), _ = evaluate(
        """
        def message(error, name):
            try:
                nc.get_backend(name)
            except error as raised:
                return str(raised)
        result = message(RuntimeError, "waiting"), message(ValueError, "cupid")
        """,
        site=broken,
    )
    assert unready == "backend 'waiting' is not ready: no device"
    assert unknown.startswith("there is no backend 'cupid'; known: ")
    assert "reference" in unknown
    assert "waiting (not ready: no device)" in unknown


def test_unreadable_metadata(tmp_path):
    """Metadata that cannot be read is named if it is about us, and passed over otherwise."""
    for name, text in {"ours": "[normcore]\nno value\n", "theirs": "[other]\nno value\n"}.items():
        info = tmp_path / f"{name}-3.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 3.0\n")
        (info / "entry_points.txt").write_text(text)
    nameless = tmp_path / "nameless-1.dist-info"
    nameless.mkdir()
    (nameless / "entry_points.txt").write_text("[normcore]\na = b\n")
    scalers, said = evaluate("result = sorted(nc.scalers())", site=tmp_path)
    assert "standard" in scalers
    assert len(said) == 1
    assert "ours 3.0: its entry_points.txt cannot be read" in said[0]


def test_shadowed_distribution_is_not_asked(tmp_path):
    """Of two versions of a distribution on the path, only the first one's entry points count."""
    old, new = tmp_path / "old", tmp_path / "new"
    for site, version, text in ((old, "1", "[normcore]\ngone = no_module\n"), (new, "2", "")):
        info = site / f"someone-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: someone\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(text)
    assert evaluate("nc.scalers(); result = None", site=f"{new}{os.pathsep}{old}")[1] == []
    assert len(evaluate("nc.scalers(); result = None", site=f"{old}{os.pathsep}{new}")[1]) == 1


def test_compiled_hook_is_refused(tmp_path):
    """Pluggy may pass over hooks that Cython compiled; such a plugin must not pass in silence."""
    pytest.importorskip("Cython")
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['setuptools', 'cython']\n"
        "build-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'normcore-compiled'\nversion = '0.1'\n"
        "[project.entry-points.normcore]\ncompiled = 'normcore_compiled'\n"
        "[tool.setuptools]\npy-modules = []\n"
    )
    (source / "setup.py").write_text(
        "from Cython.Build import cythonize\nfrom setuptools import setup\n"
        "setup(ext_modules=cythonize('normcore_compiled.pyx', language_level=3))\n"
    )
    (source / "normcore_compiled.pyx").write_text(
        wheels.hook("registry.scaler('c', 'normcore_compiled:Compiled')")
        + "\nclass Compiled(normcore.MinMaxScaler):\n    pass\n"
    )
    site = pip_install(tmp_path / "site", source)
    assert list(site.glob(f"normcore_compiled*{sysconfig.get_config_var('EXT_SUFFIX')}"))
    result, said = evaluate("result = sorted(nc.scalers())", site=site)
    if "c" not in result:  # some versions of pluggy call compiled hooks
        assert [each for each in said if "normcore-compiled 0.1" in each and "pluggy" in each]
        assert "a hook must be a plain Python function" in said[0]


def test_hooks_have_documentation_and_tests():
    """Every hook is documented, and tested here by name."""
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "normcore_spec")}
    assert hooks == {"normcore_register"}
    for name in hooks:
        assert len(inspect.getdoc(getattr(hookspecs, name)) or "") > 40, name
        assert f"test_hook_{name}" in globals(), name
        assert getattr(getattr(builtin, name), "normcore_impl", None) is not None
