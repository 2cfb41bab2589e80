"""The border: checks that public functions share. Messages say which argument, what was given, what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from ctypes import addressof, c_char
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray

from ._holder import ArrayHolder, owner_of

FLOAT32, INT32, INT64 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64)
ANY_NDIM = tuple(range(65))
BATCH_NDIM = ANY_NDIM[1:]
"""At least one, as of a batch in any shape, whose rows are along the last axis."""
LARGE = 1 << 14
"""Elements of a result for which finding a cache line, some microseconds, pays."""
OVERLAP_WORK = 1000
"""Steps that the search for an element that two strided arrays share may take; for slices of one it takes a few."""
LONGEST = 200
"""Characters of a value in an error."""
ACTIVATIONS: dict[str | None, int] = {None: 0, "identity": 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "silu": 4}


def as_array(a: Any, name: str, dtype: np.dtype[Any], ndim: int | tuple[int, ...]) -> NDArray[Any]:
    """``a`` as an ndarray of exactly this dtype, native byte order, and dimension; never a copy."""
    if type(a) is not ndarray:
        a = plain(a, name, dtype.name)
    if a.dtype is not dtype and a.dtype != dtype:  # a byte-swapped dtype differs too
        kind = "bool" if dtype.kind == "b" else f"np.{dtype.name}"  # np.bool came with NumPy 2
        raise TypeError(f"{name} has dtype {called(a.dtype)}, expected {dtype.name}; "
                        f"convert it with {name if name.isidentifier() else ''}.astype({kind})")
    if a.ndim != ndim and (isinstance(ndim, int) or a.ndim not in ndim):
        expected = "at least 1" if ndim is BATCH_NDIM else ndim
        raise ValueError(f"{name} has {a.ndim} dimensions {a.shape}, expected {expected}")
    return a  # type: ignore[no-any-return]


def shown(value: Any) -> str:
    """A value in an error: on one line that is not too long."""
    try:
        text = on_one_line(repr(value))
    except ValueError:  # of an integer with more digits than Python writes
        text = "a number too long to write"
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 3]}..."


def on_one_line(text: Any) -> str:
    """A message of somebody else's as a part of an error."""
    return " ".join(str(text).split())


def called(dtype: np.dtype[Any]) -> str:
    """A dtype in an error, where its name alone would hide the order of its bytes."""
    return dtype.name if dtype.isnative else f"{dtype.name} (byte-swapped)"


def of_shape(a: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """``a`` as an ndarray of this dtype and shape; never a copy."""
    array = as_array(a, name, dtype, len(shape))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array


def plain(a: Any, name: str, expected: str) -> NDArray[Any]:
    """What says that it is an array as an ndarray that shares its memory, if it can."""
    if isinstance(a, (np.ma.MaskedArray, np.matrix)):
        raise TypeError(f"{name} is a {type(a).__name__}, expected a plain array of {expected}")
    if isinstance(a, ndarray):
        return a.view(ndarray)
    if not of_another_library(a):
        raise TypeError(f"{name} is a {type(a).__name__}, expected an array of {expected}")
    try:
        return as_ndarray(a)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # of another device, or a type that NumPy lacks
        raise TypeError(f"{name} is a {type(a).__name__} that NumPy cannot read ({on_one_line(error)}), "
                        f"expected an array of {expected}") from None


def of_another_library(a: Any) -> bool:
    return hasattr(a, "__array__") or hasattr(a, "__dlpack__")


def as_ndarray(a: Any) -> NDArray[Any]:
    """What NumPy makes of an object, also where DLPack is all that it has."""
    return np.from_dlpack(a) if hasattr(a, "__dlpack__") and not hasattr(a, "__array__") else np.asarray(a)


def from_lists(a: Any, name: str, expected: str) -> NDArray[Any]:
    """An array, or numbers in lists, as an ndarray."""
    if of_another_library(a):
        return plain(a, name, expected)
    try:
        return np.asarray(a)
    except ValueError:  # NumPy's does not say which
        raise ValueError(f"{name} is a {type(a).__name__} of unequal parts, expected {expected}") from None


def contiguous(a: NDArray[Any]) -> NDArray[Any]:
    """``a`` in C order and aligned, copied if it must be."""
    flags = a.flags
    return a if flags.c_contiguous and flags.aligned else np.require(a, requirements=("C", "A"))


def rows(a: NDArray[Any]) -> NDArray[Any]:
    """``a`` with contiguous, aligned rows at any distance ahead; copied if it must be."""
    return a if has_rows(a) else np.require(a, requirements=("C", "A"))


def as_matrix(a: NDArray[Any]) -> NDArray[Any]:
    """A batch in any shape as its rows, one after the other; copied where its strides allow no view."""
    return a if a.ndim == 2 else a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def has_rows(a: NDArray[Any]) -> bool:
    """Whether the rows of a matrix are contiguous and aligned, at any distance ahead."""
    flags = a.flags
    if flags.c_contiguous:
        return flags.aligned
    apart, step = a.strides
    return step == a.itemsize and apart % step == 0 and apart >= a.shape[1] * step and flags.aligned


def result(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], overlap: tuple[Any, ...] = (), *,
    whole: bool = False, late: bool = False,
) -> NDArray[Any]:
    """An array for the result, with contiguous rows or, ``whole``, in C order: ``out`` if laid out so, else a new one.
    A new one also if ``late``: what fails on the way then leaves ``out`` as it was.

    ``out`` is checked: dtype, shape, writable, apart from itself and from ``overlap``, the inputs as the caller gave
    them: a copy made since would hide an overlap. :func:`delivered` ends the call.
    """
    if out is None:
        return fresh(shape, dtype)
    if type(out) is not ndarray:
        subclass = isinstance(out, ndarray) and not isinstance(out, np.ma.MaskedArray)  # a view would ignore its mask
        raise TypeError(f"out is a {type(out).__name__}, expected a plain numpy.ndarray"
                        f"{'; out.view(np.ndarray) is one' if subclass else ''}")
    if out.dtype is not dtype and out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype.str}, expected {dtype.str}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    flags = out.flags
    if not flags.writeable:
        raise ValueError("out is read-only")
    # Two arrays that own their memory are apart, and so are their views: asking that is cheap.
    owner = (out if flags.owndata else None) if out.base is None else owner_of(out)
    for a in overlap:
        if a is None or (owner is not None and _known_apart(a, owner)):
            continue
        for part in a._held() if isinstance(a, ArrayHolder) else (a,):
            if part is None or isinstance(part, (int, float)):
                continue
            part = as_ndarray(part)
            if np.may_share_memory(out, part) and _share(out, part):
                raise ValueError("out overlaps an input")
    if not (flags.c_contiguous and flags.aligned):
        _check_apart_from_itself(out)
        late = late or whole or out.ndim != 2 or not has_rows(out)
    return fresh(shape, dtype) if late else out


def _known_apart(a: Any, owner: NDArray[Any]) -> bool:
    """Whether ``a``, an array or a holder of arrays, is in memory that other arrays own."""
    if type(a) is ndarray:
        base = a.base
        other = a if base is None else base  # as in owner_of, without a call
        return other is not owner and type(other) is ndarray and other.flags.owndata
    return isinstance(a, ArrayHolder) and a._is_apart(owner)


def _share(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether an element lies in both; so too where finding out takes long."""
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_WORK)  # type: ignore[arg-type, unused-ignore]
    except np.exceptions.TooHardError:
        return True


def _check_apart_from_itself(out: NDArray[Any]) -> None:
    """No two elements of ``out`` are in the same place: each stride, from the smallest, passes all that lies below."""
    reach = out.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(out.strides, out.shape, strict=True) if n > 1):
        if stride < reach:
            raise ValueError(f"out has strides {out.strides}, which put several elements in one place")
        reach += stride * (length - 1)


def delivered(y: NDArray[Any], out: Any) -> NDArray[Any]:
    """The result of a call that wrote ``y``: :func:`result` may have made it in the place of ``out``."""
    if out is None or y is out:
        return y
    out[...] = y
    return out  # type: ignore[no-any-return]


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array that starts on a cache line, as packed weights should."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + 64, np.uint8)
    address = addressof(c_char.from_buffer(buffer))  # type: ignore[arg-type]  # .ctypes.data makes objects
    placed: NDArray[Any] = np.ndarray(shape, dtype, buffer, -address % 64)
    return placed


def fresh(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An uninitialised array for a result. A large one starts on a cache line, as NumPy's do not: storing is faster."""
    return aligned(shape, dtype) if math.prod(shape) >= LARGE else np.empty(shape, dtype)


def first(bad: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first of some bad elements."""
    return tuple(map(int, np.unravel_index(int(bad.argmax()), bad.shape)))


def check_finite(a: NDArray[Any], name: str) -> None:
    bad = ~np.isfinite(a)
    if bad.any():
        at = first(bad)
        raise ValueError(f"{name} holds NaN or infinity, first {a[at]} at {at}")


def given(a: NDArray[Any]) -> NDArray[Any]:
    """A new array, made ready to be taken without a copy: nobody can write to it, nor to the buffer that it lies in."""
    a.flags.writeable = False
    if isinstance(a.base, ndarray):
        a.base.flags.writeable = False
    return a


def frozen(a: NDArray[Any]) -> NDArray[Any]:
    """A view of ``a`` if it is read-only, as is what owns its memory, else a copy of that kind; contiguous and aligned.
    Not ``a`` itself: whoever has it may set its shape and dtype."""
    flags, owner = a.flags, a if a.base is None else a.base
    read_only = not flags.writeable and isinstance(owner, ndarray) and not owner.flags.writeable
    if read_only and owner.flags.owndata and flags.c_contiguous and flags.aligned:
        return a.view(ndarray)
    copy = fresh(a.shape, a.dtype)
    copy[...] = a
    return given(copy)


def one_integer(a: Any, name: str) -> int:
    """The integer of an array of one."""
    a = np.asarray(a)
    if a.ndim or a.dtype.kind not in "iu":
        raise ValueError(f"{name} is an array {a.dtype.name} {a.shape}, expected one integer")
    return int(a)


def block_shape(block: Any) -> tuple[int, int]:
    """Rows and columns of a block."""
    if not isinstance(block, (tuple, list)) or len(block) != 2:
        raise TypeError(f"block is {shown(block)}, expected a tuple (rows, columns)")
    return integer(block[0], "block[0]", 1), integer(block[1], "block[1]", 1)


def optional_vector(a: Any, name: str, length: int, dtype: np.dtype[Any] = FLOAT32) -> NDArray[Any] | None:
    """None, or a contiguous vector of this length."""
    if a is None:
        return None
    a = as_array(a, name, dtype, 1)
    if a.shape[0] != length:
        raise ValueError(f"{name} has {a.shape[0]} elements, expected {length}")
    return contiguous(a)


def choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}, expected one of {', '.join(map(repr, choices))}")
    return str(value)


def dtype_name(value: Any, name: str, names: Iterable[str]) -> str:
    """One of some names of dtypes, given as that, as a type or as an np.dtype; what is none of these is a TypeError."""
    known = tuple(names)
    if isinstance(value, str):
        return choice(value, name, known)
    if not isinstance(value, (type, np.dtype)):
        raise TypeError(f"{name} is {shown(value)}, expected one of {', '.join(map(repr, known))}")
    try:
        dtype = np.dtype(value)
    except TypeError:  # an abstract class, as np.integer
        dtype = None
    if dtype is None or dtype.name not in known or not dtype.isnative:
        raise ValueError(f"{name} is {shown(value)}, expected one of {', '.join(map(repr, known))}")
    return str(dtype.name)


def sum_dtype(dtype: Any, out: Any) -> np.dtype[Any]:
    """That of exact sums, int32 or int64: as asked for, else that of ``out``, else int32."""
    if dtype is None:
        return INT64 if out is not None and getattr(out, "dtype", None) == INT64 else INT32
    return np.dtype(dtype_name(dtype, "dtype", ("int32", "int64")))


def activation_code(activation: Any) -> int:
    try:
        return ACTIVATIONS[activation]
    except (KeyError, TypeError):
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation is {shown(activation)}, expected one of {known}") from None


def positive(value: Any, name: str) -> float:
    """A finite number above zero."""
    if type(value) is float and 0.0 < value < math.inf:
        return value
    number = real(value, name)
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"{name} is {shown(value)}, expected a finite number above 0")
    return number


def not_negative(value: Any, name: str) -> float:
    number = real(value, name)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} is {shown(value)}, expected a finite number of at least 0")
    return number


def fraction(value: Any, name: str) -> float:
    """A number in [0, 1]."""
    number = real(value, name)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} is {shown(value)}, expected a number from 0 to 1")
    return number


def real(value: Any, name: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {shown(value)}, expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is an integer that no float holds, expected a number") from None


def flag(value: Any, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {shown(value)}, expected True or False")
    return bool(value)


def integer(value: Any, name: str, low: int, high: int | None = None) -> int:
    """An integer of at least ``low`` and, if given, at most ``high``."""
    if type(value) is int and low <= value and (high is None or value <= high):
        return value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {shown(value)}, expected an integer")
    if value < low or (high is not None and value > high):
        limit = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} is {shown(value)}, expected {limit}")
    return int(value)
