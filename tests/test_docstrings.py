"""Everything public says what it does, what it takes, and shows it."""

import importlib
import inspect
import re

MODULES = ["pycomp", "pycomp.dense", "pycomp.sparse", "pycomp.quantization", "pycomp.quantization.onnx_ops",
           "pycomp.pruning", "pycomp.pruning.schedules", "pycomp.distillation", "pycomp.testing", "pycomp.compare"]
SECTION = re.compile(r"^(Parameters|Attributes|Examples)\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.DOTALL | re.MULTILINE)


def public():
    """Name and object of every function and class in an ``__all__``, once."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.setdefault(value, f"{module.__name__}.{name}")
    return [(name, value) for value, name in found.items()]


def members(kind):
    """Name and object of a class's public methods and properties, of those that it inherits from one of ours too."""
    for owner in kind.__mro__:
        for name, value in vars(owner).items():
            if name.startswith("_") or not owner.__module__.startswith("pycomp"):
                continue
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            if isinstance(value, property) or inspect.isfunction(value):
                yield name, value


def arguments(value):
    """Those of a function; of a class those of its constructor, which takes ``*args`` where it is not its own."""
    if isinstance(value, property):
        return []
    of_class = inspect.isclass(value)
    taken = inspect.signature(value.__init__ if of_class else value).parameters.values()
    return [p.name for p in taken if p.name not in {"self", "cls"}
            and not (of_class and p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD})]


def lacks(value, example):
    """What a docstring does not have."""
    text = inspect.getdoc(value) or ""
    if not text or text.startswith(f"{getattr(value, '__name__', None)}("):  # @dataclass writes one of these itself
        yield "a docstring"
        return
    sections = dict(SECTION.findall(text))
    named = {name.strip() for title in ("Parameters", "Attributes")
             for line in re.findall(r"^\S.*", sections.get(title, ""), re.MULTILINE)
             for name in line.partition(" :")[0].replace("*", "").split(",")}
    if missing := [name for name in arguments(value) if name not in named]:
        yield f"Parameters: {', '.join(missing)}"
    if example and ">>> " not in sections.get("Examples", ""):
        yield "Examples"


def test_everything_public_has_a_docstring_with_its_parameters_and_an_example():
    found = public()
    assert len(found) > 80
    lacking = []
    for name, value in found:
        lacking += [f"{name} lacks {what}" for what in lacks(value, example=True)]
        if inspect.isclass(value):
            lacking += [f"{name}.{member} lacks {what}" for member, of_class in members(value)
                        for what in lacks(of_class, example=False)]
    assert not lacking, "\n".join(lacking)
