"""Which parameters of public callables their docstrings do not name."""

import importlib
import inspect
import re
import textwrap

__all__ = ["attribute", "undocumented"]

#: What a docstring, or an entry of it, says of parameters that another one describes.
REFERENCE = re.compile(r"\b(?:as for|as in|see|those of)\s+:(?:func|meth|class):`~?([\w.]+)`", re.I)
HEADING = re.compile(r"^([A-Z][\w ]+)\n-{3,}$", re.M)
#: Sections that describe what a caller gives; the fields of records are attributes as well.
OF_PARAMETERS = ("Parameters", "Attributes")


def attribute(name):
    """Return the object of a dotted name that begins with a package."""
    first, *rest = name.split(".")
    value, path = importlib.import_module(first), first
    for each in rest:
        path = f"{path}.{each}"
        value = getattr(value, each) if hasattr(value, each) else importlib.import_module(path)
    return value


def sections(docstring):
    """Return what precedes the sections of a docstring, as that of "", and each section."""
    before, *rest = HEADING.split(docstring)
    return {"": before, **dict(zip(rest[::2], rest[1::2], strict=True))}


def entries(section):
    """Return the names and the description of each entry of a section of parameters."""
    for entry in re.split(r"^(?=\S)", section, flags=re.M):
        head, _, description = entry.strip().partition("\n")
        names = re.split(r", *", head.split(" : ")[0])
        yield {each.lstrip("*") for each in names if each}, textwrap.dedent(description)


def is_ours(value):
    return (getattr(value, "__module__", None) or "").startswith("normcore")


def is_function(value):
    return inspect.isfunction(value) or type(value).__name__ == "cython_function_or_method"


class Docstring:
    """What the docstring of a public callable says of its parameters.

    Parameters
    ----------
    value : callable
        A function or a class.
    owner : type, optional
        The class whose method `value` is.
    """

    def __init__(self, value, owner=None):
        self.owner, self.name = owner, value.__name__
        if owner is not None:
            self.value = vars(definer(owner, self.name))[self.name]
            self.value = getattr(self.value, "__func__", self.value)
        elif inspect.isclass(value):
            self.value = self.owner = value
        else:
            self.value = inspect.unwrap(value)
        parts = sections(inspect.cleandoc(self.written()))
        self.entries = [each for part in OF_PARAMETERS for each in entries(parts.get(part, ""))]
        self.text = "".join(parts.get(part, "") for part in ("", *OF_PARAMETERS))

    def written(self):
        """Return the docstring, of a method without one that of the method it overrides."""
        if self.owner in (None, self.value):
            return vars(self.value).get("__doc__") or self.value.__doc__ or ""
        found = (vars(each).get(self.name) for each in self.owner.__mro__)
        written = (getattr(each, "__func__", each).__doc__ for each in found if each is not None)
        return next(filter(None, written), "")

    def parameters(self):
        """Return the names of the parameters that a caller gives."""
        names = list(self.signature())
        is_method = self.owner not in (None, self.value)
        static = is_method and isinstance(
            vars(definer(self.owner, self.name))[self.name], staticmethod
        )
        return names[1:] if is_method and not static else names

    def signature(self):
        """Return the parameters, of the definition, by name."""
        try:
            return inspect.signature(self.value).parameters
        except ValueError:  # of C, such as those of exceptions
            return {}

    @property
    def several(self):
        """The names of ``*arguments`` and ``**options``, which stand for more."""
        kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
        return {name for name, each in self.signature().items() if each.kind in kinds}

    def of(self, target):
        """Return what a reference in this docstring leads to."""
        *outer, last = target.removeprefix("normcore.").split(".")
        modules = [self.value.__module__, "normcore", "normcore.functional"]
        for scope in (self.owner, *map(attribute, modules)):
            for each in outer:
                scope = getattr(scope, each, None)
            if hasattr(scope, last):
                owner = scope if inspect.isclass(scope) else None
                return Docstring(getattr(scope, last), owner)
        return Docstring(attribute(target))

    def documented(self, name):
        """Whether this docstring, or one that it refers to, has an entry of the parameter."""
        if not is_ours(self.value):  # in the style of its library
            return name in self.parameters()
        for names, description in self.entries:
            if name in names:
                found = REFERENCE.match(description)
                whole = found and description[found.end() : found.end() + 1] in ".;,"
                return not whole or name in self.several or self.of(found[1]).documented(name)
        return any(self.of(target).documented(name) for target in REFERENCE.findall(self.text))

    def undocumented(self):
        return [each for each in self.parameters() if not self.documented(each)]


def definer(owner, name):
    """Return the class that defines what a class has by this name."""
    return next(each for each in owner.__mro__ if name in vars(each))


def methods(owner):
    """Yield `class.method` and the docstring of each public method of a class that is ours."""
    for name in dir(owner):
        if name.startswith("_"):
            continue
        value = vars(definer(owner, name))[name]
        value = getattr(value, "__func__", value)
        if is_function(value) and is_ours(value) and value.__name__ == name:
            yield f"{definer(owner, name).__name__}.{name}", Docstring(value, owner)


def undocumented(name):
    """Return `callable(parameter)` for each parameter of a public name that nothing describes."""
    value = attribute(name)
    if not callable(value) or not is_ours(value):
        return []
    found = [(name.rpartition(".")[2], Docstring(value))]
    if inspect.isclass(value):
        found += methods(value)
    return [f"{label}({each})" for label, docstring in found for each in docstring.undocumented()]
