"""The binding to the C core: arrays become pointers, a status an exception, what runs is noted, and nothing else.

Only validated arrays reach it: ``from_buffer`` does not look at the dtype. One function a kernel is written from the
contract, with flat arguments and no loop over operands, since a loop would cost more than a small kernel.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..contract import DTYPES, KERNELS, Kernel, Operand
from ..dispatch import latest
from ..entry import NanError

ffi: Any
lib: Any
try:
    from ._core import ffi, lib
except ImportError as error:
    ffi = lib = None
    _missing: str | None = f"the C core does not load ({error})"
    if isinstance(error, ModuleNotFoundError):
        _missing = "the C core was not built; install a C compiler and install pycomp again, `pip install -v` shows why"
else:
    _missing = None

_CTYPES = {"f16": "uint16_t", "bf16": "uint16_t", "f32": "float", "f64": "double", "i8": "int8_t", "u8": "uint8_t",
           "u16": "uint16_t", "i32": "int32_t", "i64": "int64_t", "bool": "uint8_t"}


def missing() -> str | None:
    return _missing


def level() -> str:
    return _text(lib.pc_level())


def register_bytes() -> int:
    """Bytes of a vector register at the active level; 0 without the C core."""
    return lib.pc_register_bytes() if lib is not None else 0


def levels() -> dict[str, bool]:
    """Every level compiled in, lowest first, and whether this machine can run it."""
    names: list[str] = []
    while pointer := lib.pc_level_name(len(names)):
        names.append(_text(pointer))
    return {name: bool(lib.pc_level_supported(name.encode())) for name in names}


def set_level(name: str | None) -> None:
    """Force an instruction-set level; None chooses the highest.

    Raises
    ------
    ValueError
        If it is unknown or this machine lacks it; the message lists the choices.
    """
    if lib is None:
        if name is not None:
            raise ValueError(f"instruction-set level {name!r} cannot be chosen: {_missing}")
        return
    if lib.pc_set_level(ffi.NULL if name is None else str(name).encode()) != lib.PC_OK:
        known = levels()
        problem = "is not supported by this machine" if name in known else "is unknown"
        raise ValueError(f"instruction-set level {name!r} {problem}; choose one of "
                         f"{', '.join(n for n, usable in known.items() if usable)}")


requested_threads = 0
"""The limit that was asked for; 0 follows OpenMP."""


def set_num_threads(n: int) -> None:
    global requested_threads
    requested_threads = n
    if lib is not None:
        lib.pc_set_num_threads(n)


_names: dict[Any, str] = {}


def _text(pointer: Any) -> str:
    """The string at a static pointer, decoded once."""
    try:
        return _names[pointer]
    except KeyError:
        return _names.setdefault(pointer, ffi.string(pointer).decode())


def fail(kernel: str, status: int) -> None:
    if status == lib.PC_ENAN:
        raise NanError(f"{kernel}: an operand holds NaN")
    if status == lib.PC_EOVERFLOW:
        raise OverflowError(f"{kernel}: a result is outside int32")
    if status == lib.PC_ENOMEM:
        raise MemoryError(f"{kernel}: no memory for its own use")
    raise ValueError(f"{kernel}: the C core refused an argument (status {status})")


def apart(array: Any, pointer: Any, a: np.ndarray, writable: bool) -> tuple[Any, int, int]:
    """Pointer and strides in elements of an array that is not contiguous; the caller keeps it alive."""
    turned = a.T
    if turned.flags.c_contiguous:
        at = ffi.from_buffer(array, turned, writable)
    elif a.flags.c_contiguous or (writable and not a.flags.writeable):
        raise ValueError(f"an operand of shape {a.shape} is read-only or no buffer")
    else:
        at = ffi.cast(pointer, a.ctypes.data)  # which makes objects
    down, along = a.strides
    return at, down // a.itemsize, along // a.itemsize


def _size(kernel: Kernel, symbol: str, held: tuple[str, ...]) -> tuple[str, str]:
    """An operand that has a size, of those that are held if one does, and where: ``x.shape[1]``."""
    for operand in sorted(kernel.operands, key=lambda o: o.name not in held):
        for less, found in ((0, symbol), (1, f"{symbol}+1")):
            if operand.kind in ("in", "out") and operand.shape and found in operand.shape:
                at = f"{operand.name}.shape[{operand.shape.index(found)}]"
                return operand.name, at + (f" - {less}" if less else "")
    raise LookupError(f"{kernel.name}: no operand has the size {symbol}")


def _pass(operand: Operand) -> tuple[list[str], list[str]]:
    """Statements that make an operand's C arguments, and the arguments."""
    name, ctype = operand.name, f"{operand.dtype}_"
    writable = ", True" if operand.kind == "out" else ""
    buffer = f"from_buffer({ctype}, {name}{writable})"
    if operand.shape is None:
        return [], [name]
    if operand.kind == "opt":
        return [], [f"NULL if {name} is None else {buffer}"]
    if not operand.strides:
        return [], [buffer]
    columns = operand.shape[1]
    contiguous = f"{name}_p, {name}_s, {name}_t = {buffer}, {columns}, 1"
    strided = f"{name}_p, {name}_s, {name}_t = apart({ctype}, {ctype}p, {name}, {operand.kind == 'out'})"
    if operand.strides == 1:  # most are contiguous
        lines = [f"try: {contiguous}", f"except ValueError: {strided}"]
    else:  # an error would cost more than asking
        lines = [f"if {name}.flags.c_contiguous: {contiguous}", f"else: {strided}"]
    return lines, [f"{name}_p", f"{name}_s", f"{name}_t"][: 1 + operand.strides]


def _function(name: str, parameters: list[str], lines: list[str]) -> str:
    return f"def {name}({', '.join(parameters)}):\n" + "".join(f"    {line}\n" for line in lines)


def source(kernel: Kernel, held: tuple[str, ...] = ()) -> str:
    """The text of a function that makes a kernel's binding, from the record of what runs and the operands that are
    held, which the binding does not take."""
    once: list[str] = []
    always, arguments = ["latest[0] = record"], list(kernel.sizes)
    for symbol in kernel.sizes:
        owner, found = _size(kernel, symbol, held)
        (once if owner in held else always).append(f"{symbol} = {found}")
    for operand in kernel.operands:
        before, passed = _pass(operand)
        if operand.name in held:
            names = [f"{operand.name}_{i}" for i in range(len(passed))]
            once += [*before, *(f"{name} = {argument}" for name, argument in zip(names, passed, strict=True))]
            arguments += names
        else:
            always += before
            arguments += passed
    always += [f"status = function({', '.join(arguments)})", "if status:", f"    fail({kernel.name!r}, status)"]
    binding = _function(kernel.name, [o.name for o in kernel.operands if o.name not in held], always)
    return _function("bind", ["record", *held], [*once, *binding.splitlines(), f"return {kernel.name}"])


@functools.cache
def _bind(name: str, held: tuple[str, ...]) -> Callable[..., Callable[..., None]]:
    """:func:`source`, compiled: that takes as long as a small product takes a hundred times."""
    scope: dict[str, Any] = {"function": getattr(lib, f"pc_{name}"), "from_buffer": ffi.from_buffer, "NULL": ffi.NULL,
                             "fail": fail, "apart": apart, "latest": latest}
    for dtype in DTYPES:
        scope[f"{dtype}_"] = ffi.typeof(f"{_CTYPES[dtype]}[]")
        scope[f"{dtype}_p"] = ffi.typeof(f"{_CTYPES[dtype]} *")
    exec(source(KERNELS[name], held), scope)
    return scope["bind"]  # type: ignore[no-any-return]


def implementation(name: str, **held: Any) -> Callable[..., None] | None:
    """A kernel's binding, which notes itself as the latest, at the level that is active now.

    It takes the operands but those in ``held``: what passing these costs is paid once. The caller keeps them alive.
    """
    if getattr(lib, f"pc_{name}", None) is None:
        return None
    return _bind(name, tuple(held))((name, "native", level()), *held.values())


def _from_environment() -> None:
    """PYCOMP_ISA and PYCOMP_NUM_THREADS; the C core itself reads no environment."""
    wanted = os.environ.get("PYCOMP_ISA")
    if wanted:
        try:
            set_level(wanted)
        except ValueError as error:
            raise ValueError(f"PYCOMP_ISA: {error}") from None
    threads = os.environ.get("PYCOMP_NUM_THREADS")
    if threads:
        if not threads.isdecimal() or not 1 <= int(threads) <= 4096:
            raise ValueError(f"PYCOMP_NUM_THREADS is {threads!r}, expected an integer from 1 to 4096")
        set_num_threads(int(threads))


_from_environment()
