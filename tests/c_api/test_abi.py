"""Clients that were compiled against older or newer headers than the library's."""

from __future__ import annotations

import ctypes as c
import os
import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from c_door import API, FUNCTIONS, Call, array, table
from processes import run_python

import normcore as nc
from normcore import c_api

OLDER = {version: Path(__file__).with_name(f"normcore_{version}.h") for version in (1, 2)}
CURRENT = Path(nc.get_include(), "normcore.h")
VERSION = 3

CLIENT = r"""
#include "normcore.h"
int version(void) { return NORMCORE_VERSION; }
size_t size(void) { return sizeof(normcore_api); }
int check(const normcore_api *api, normcore_call *call) { return normcore_check(api, call); }
int norm(const normcore_api *api, const normcore_array *x, const normcore_array *y, double *states,
         normcore_call *call)
{
    return api->batch_norm(x, 1, NULL, NULL, 1e-5, y, states, call);
}
int rows(const normcore_api *api, const normcore_array *x, const normcore_array *y, double *states,
         normcore_call *call)
{
    return api->row_norm(x, 1, 1, NULL, NULL, 1e-5, y, states, call);
}
"""


def newer():
    """Return the header that a later version would have: one function more."""
    text = CURRENT.read_text(encoding="utf-8")
    text = text.replace(
        f"#define NORMCORE_VERSION {VERSION}\n", f"#define NORMCORE_VERSION {VERSION + 1}\n"
    )
    text = text.replace(
        "} normcore_api;", "    int (*later)(normcore_call *call);\n} normcore_api;"
    )
    assert text.count("(*later)") == 1
    return text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return folders with the older headers, the current one, and a newer one, by version."""
    found = {}
    texts = {version: path.read_text(encoding="utf-8") for version, path in OLDER.items()}
    texts |= {VERSION: CURRENT.read_text(encoding="utf-8"), VERSION + 1: newer()}
    for version, text in texts.items():
        found[version] = tmp_path_factory.mktemp(f"version_{version}_")
        (found[version] / "normcore.h").write_text(text, encoding="utf-8")
    return found


def test_the_table_says_what_it_is():
    assert table().size == c.sizeof(API) == 16 + 8 * len(FUNCTIONS)
    assert table().version == VERSION
    assert f"#define NORMCORE_VERSION {VERSION}\n" in CURRENT.read_text(encoding="utf-8")
    with pytest.raises(AttributeError, match="capsules"):
        c_api.capsules  # noqa: B018


@pytest.mark.parametrize("version", [*OLDER, VERSION])
@pytest.mark.parametrize("cplusplus", [False, True])
def test_clients_no_newer_than_the_library_work(compiled, folders, version, cplusplus):
    source = f'extern "C" {{{CLIENT}}}' if cplusplus else CLIENT
    name = f"version{version}{cplusplus}"
    client = c.CDLL(str(compiled(name, source, f"-I{folders[version]}", cplusplus=cplusplus)))
    assert client.version() == version
    known = prototypes((folders[version] / "normcore.h").read_text(encoding="utf-8"))
    assert client.size() == 16 + 8 * len(known)
    api, call = c.byref(table()), Call()
    assert client.check(api, c.byref(call)) == 0
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    for function, expected, channels in (
        (client.norm, nc.functional.batch_norm(x), 6),
        (client.rows, nc.functional.layer_norm(x), 20),
    ):
        y, states = np.empty_like(x), np.empty((7, channels))
        given = array(x), array(y)
        arrays = map(c.byref, given)
        assert function(api, *arrays, c.c_void_p(states.ctypes.data), c.byref(call)) == 0
        assert y.tobytes() == expected[0].tobytes()
        assert states.tobytes() == expected[1].parts.tobytes()


def test_a_client_newer_than_the_library_sees_a_status(compiled, folders):
    has = "int has(const normcore_api *api) { return NORMCORE_HAS(api, later); }\n"
    has += "int had(const normcore_api *api) { return NORMCORE_HAS(api, group_norm); }\n"
    include = f"-I{folders[VERSION + 1]}"
    client = c.CDLL(str(compiled("newer", CLIENT + has, include)))
    api, call = c.byref(table()), Call()
    assert client.check(api, c.byref(call)) == 9
    assert (
        call.message
        == (
            f"normcore has version {VERSION} of its table of functions, and this program needs "
            f"version {VERSION + 1}: install a newer normcore-arrays"
        ).encode()
    )
    assert client.check(api, None) == 9
    assert client.check(None, c.byref(call)) == 1
    assert (client.has(api), client.had(api)) == (0, 1)
    lower = f"-DNORMCORE_MIN_VERSION={VERSION}"
    client = c.CDLL(str(compiled("lower", CLIENT + has, include, lower)))
    assert client.check(api, c.byref(call)) == 0
    assert client.has(api) == 0


MODULE = """
#include <Python.h>
#include "normcore.h"
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "client", .m_size = -1};
PyMODINIT_FUNC PyInit_client(void)
{
    return normcore_import() ? PyModule_Create(&definition) : NULL;
}
"""


@pytest.mark.parametrize("version", [*OLDER, VERSION, VERSION + 1])
def test_import_of_a_module(compiled, folders, tmp_path, version):
    python = f"-isystem{sysconfig.get_path('include')}"
    unset = "-Wno-missing-field-initializers"
    built = compiled(f"module_{version}", MODULE, f"-I{folders[version]}", python, unset)
    (tmp_path / f"client{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(built.read_bytes())
    done = run_python("-c", "import client", site=tmp_path, check=False)
    if version > VERSION:
        assert done.returncode == 1
        assert "ImportError: normcore has version" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def prototypes(text):
    """Return the functions of a header's table, or of Cython's declaration of it, in order."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).replace("\n", " ")
    found = re.findall(r"int \(\*(\w+)\)\s*\(([^()]*)\)", text)
    return [(name, [*map(spelt, filter(str.strip, each.split(",")))]) for name, each in found]


def spelt(argument):
    return re.sub(r"\s*\*\s*", "* ", " ".join(argument.split()))


def test_versions_only_add_functions():
    *older, current = (
        prototypes(path.read_text(encoding="utf-8")) for path in (*OLDER.values(), CURRENT)
    )
    for functions in older:
        assert functions == current[: len(functions)]
    assert [*map(len, older)] == [10, 11]
    assert [name for name, _ in current] == list(FUNCTIONS)


def test_cython_sees_the_header():
    declared = CURRENT.with_name("__init__.pxd").read_text(encoding="utf-8")
    assert prototypes(declared) == prototypes(CURRENT.read_text(encoding="utf-8"))
    names = set(re.findall(r"\bNORMCORE_\w+", declared))
    in_header = set(re.findall(r"\bNORMCORE_\w+", CURRENT.read_text(encoding="utf-8")))
    assert in_header - names == {"NORMCORE_H", "NORMCORE_HAS", "NORMCORE_MIN_VERSION"}


def test_a_context_that_names_another_backend_does_not_matter():
    code = (
        "import normcore as nc\n"
        "with nc.use_backend('reference'):\n"
        "    from normcore.c_api import capsule\n"
        "print(capsule)"
    )
    assert "normcore.c_api.capsule" in run_python("-c", code).stdout


def test_threads_of_the_process():
    """Callers that name none have as many as the process says, also where that changes."""
    code = """
import os
import numpy as np
import normcore as nc
from c_door import call
x, states = np.ones((64, 64, 4096), np.float32), np.empty((7, 64))
for number in (1, 3, 2):
    nc.set_num_threads(number)
    call("batch_norm", x, 1, None, None, 1e-5, x, states)
    print(len(os.listdir("/proc/self/task")))
with nc.use_num_threads(5):  # of Python's calls
    call("batch_norm", x, 1, None, None, 1e-5, x, states)
call("batch_norm", x, 1, None, None, 1e-5, x, states, threads=4)
print(len(os.listdir("/proc/self/task")))
"""
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("there is no list of this process's threads")
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    printed = run_python("-c", code, site=Path(__file__).parents[1] / "helpers", **one).stdout
    assert printed.split() == ["1", "3", "3", "4"]
