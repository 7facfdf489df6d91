"""Wheels of small plugins, most of them broken in one way, for the tests of discovery to install.

Each is a distribution ``normcore-NAME`` with the module ``normcore_NAME``, whose source is here.
"""

from __future__ import annotations

import textwrap
import zipfile
from pathlib import Path

HOOK = """
import normcore

@normcore.hookimpl
def normcore_register(registry):
"""


def hook(*lines: str) -> str:
    """Return the source of a module whose hook has these lines."""
    return HOOK + "".join(f"    {line}\n" for line in lines)


#: Plugins that cannot be used: the source, and what the warning about them must say.
BROKEN = {
    "absent": (None, "does not import: ModuleNotFoundError: No module named 'normcore_absent'"),
    "importing": ("import no_such_module", "No module named 'no_such_module'"),
    "exiting": ("raise SystemExit(3)", "does not import: SystemExit: 3"),
    "greedy": ("from normcore import MaxAbsScaler", "while plugins are being looked for"),
    "hookless": ("answer = 42", "'normcore_hookless' has no function normcore_register"),
    "unmarked": (
        "def normcore_register(registry): pass",
        "not marked with @normcore.hookimpl",
    ),
    "callable": (
        """
        class Hook:
            normcore_impl = {}
            def __call__(self, registry): pass

        normcore_register = Hook()
        """,
        "is a Hook, which pluggy does not call",
    ),
    "misspelt": (
        """
        import normcore

        @normcore.hookimpl
        def normcore_regsiter(registry): pass
        """,
        "there is no hook 'normcore_regsiter'",
    ),
    "arguments": (
        """
        import normcore

        @normcore.hookimpl
        def normcore_register(registry, config): pass
        """,
        "its hook is normcore_register(registry, config), but takes one argument",
    ),
    "argumentless": (
        """
        import normcore

        @normcore.hookimpl
        def normcore_register(): pass
        """,
        "its hook is normcore_register(), but takes one argument: normcore_register(registry)",
    ),
    "misnamed": (
        """
        import normcore

        @normcore.hookimpl
        def normcore_register(register): pass
        """,
        "its hook is normcore_register(register), but takes one argument",
    ),
    "defaulted": (
        """
        import normcore

        @normcore.hookimpl
        def normcore_register(registry=None): pass
        """,
        "its hook is normcore_register(registry=None), but takes one argument",
    ),
    "elsewhere": (
        """
        import normcore

        @normcore.hookimpl(specname="normcore_register")
        def offer(): pass
        """,
        "its hook is offer(), but takes one argument: normcore_register(registry)",
    ),
    "yielding": (
        hook("yield registry.scaler('yielded', 'a:B')"),
        "its hook normcore_register is a generator or a coroutine",
    ),
    "awaiting": (
        """
        import normcore

        @normcore.hookimpl
        async def normcore_register(registry): pass
        """,
        "its hook normcore_register is a generator or a coroutine",
    ),
    "raising": (
        hook("registry.scaler('raised', 'a:B')", "raise LookupError('no licence')"),
        "its hook failed: LookupError: no licence",
    ),
    "malformed": (
        hook("registry.scaler('good', 'a:B')", "registry.scaler('bad', 'no target')"),
        "the target 'no target' of scaler 'bad' is not of the form 'module:attribute'",
    ),
    "duplicate": (
        hook("registry.function('duplicated', 'a:b')", "registry.scaler('maxabs', 'a:B')"),
        "scaler 'maxabs' is already registered by plugin 'maxabs' of normcore-arrays",
    ),
    "namesake": (
        hook("registry.scaler('namesake', 'a:MaxAbsScaler')"),
        "would be normcore.MaxAbsScaler, which is already supplied by plugin 'maxabs' of "
        "normcore-arrays",
    ),
    "usurping": (
        hook("registry.scaler('usurping', 'a:StandardScaler')"),
        "normcore.StandardScaler, which is a name of normcore itself",
    ),
    "shadowing": (
        hook("registry.function('layout', 'a:b')"),
        "normcore.layout, which is a name of normcore itself",
    ),
    "scalerless": (
        hook("registry.scaler('good', 'a:B')", "registry.scaler('none', 'normcore_scalerless:No')")
        + "\nclass No:\n    pass\n",
        "the target 'normcore_scalerless:No' of scaler 'none' is not a subclass of "
        "normcore.AffineScaler, normcore.PointwiseScaler or normcore.RowScaler",
    ),
    "sourceless": (
        hook("registry.source('.none', 'normcore_sourceless:normcore_register')"),
        "the target 'normcore_sourceless:normcore_register' of source '.none' is not a class but",
    ),
    "uncallable": (
        hook("registry.exporter('none', 'normcore_uncallable:__name__')"),
        "of exporter 'none' is not a callable but 'normcore_uncallable'",
    ),
    "unfinished": (
        hook("registry.scaler('none', 'normcore_unfinished:Unfinished')")
        + "\nclass Unfinished(normcore.AffineScaler):\n    pass\n",
        "of scaler 'none' lacks affine",
    ),
    "twin_b": (
        hook("registry.scaler('twin', 'a:B')", "registry.scaler('twin-b', 'a:C')"),
        "scaler 'twin' is already registered by plugin 'twin_a' of normcore-twin-a 0.1",
    ),
}

#: Plugins whose registrations are taken, though some of what they name cannot be used.
TAKEN = {
    "twin_a": hook("registry.scaler('twin', 'normcore_maxabs:MaxAbsScaler')"),
    "lost": hook(
        "registry.scaler('lost', 'normcore_lost:LostScaler')",
        "registry.scaler('no-class', 'normcore_lost:Module')",
        "registry.kernel('lost', 'normcore_lost:nothing', backend='cpu')",
        "registry.source('.lost', 'no_such_module:Lost')",
        "registry.engine('lost', 'no_such_module:Lost', libraries=['numpy'])",
        "registry.scaler('no-scaler', 'normcore_lost:Number')",
        "registry.source('.nosource', 'normcore_lost:Number')",
        "registry.engine('no-engine', 'normcore_lost:Number', libraries=['numpy'])",
        "registry.function('no_function', 'normcore_lost:text')",
        "registry.scaler('no-affine', 'normcore_lost:Unfinished')",
    )
    + """
def __getattr__(name):
    class Unfinished(normcore.AffineScaler):
        pass

    found = {"Module": normcore, "Number": int, "text": "text", "Unfinished": Unfinished}
    if name not in found:
        raise AttributeError(name)
    return found[name]
""",
    "sick": HOOK
    + """
    registry.backend('absent', 'normcore_sick:Absent')
    registry.backend('no-backend', 'normcore_sick:NoBackend', devices=['*'], priority=9)
    registry.backend('partial', 'normcore_sick:Partial', devices=['*'], priority=9)
    registry.backend('probing', 'normcore_sick:Probing', devices=['*'], priority=9)
    registry.backend('waiting', 'normcore_sick:Waiting', devices=['*'], priority=9)

def __getattr__(name):
    from normcore.array_backend.reference import ReferenceBackend

    class Partial(normcore.Backend):
        pass

    class Probing(ReferenceBackend):
        @classmethod
        def probe(cls):
            raise OSError("the driver is on fire")

    class Waiting(ReferenceBackend):
        @classmethod
        def probe(cls):
            return normcore.BackendStatus(False, "no device")

    return {"NoBackend": int, "Partial": Partial, "Probing": Probing, "Waiting": Waiting}[name]
""",
}


def build(directory: Path) -> list[Path]:
    """Write a wheel of each plugin."""
    sources = {name: source for name, (source, _) in BROKEN.items()} | TAKEN
    return [_wheel(directory, name, source) for name, source in sources.items()]


def _wheel(directory: Path, name: str, source: str | None) -> Path:
    path = directory / f"normcore_{name}-0.1-py3-none-any.whl"
    info = f"normcore_{name}-0.1.dist-info"
    distribution = f"normcore-{name}".replace("_", "-")
    with zipfile.ZipFile(path, "w") as wheel:
        if source is not None:
            wheel.writestr(f"normcore_{name}.py", textwrap.dedent(source))
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", f"[normcore]\n{name} = normcore_{name}\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path
