"""Arrays of 8-bit codes with their scales and zero points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._files import printable
from pycomp._holder import ArrayHolder
from pycomp._validate import (
    ANY_NDIM,
    BATCH_NDIM,
    FLOAT32,
    as_array,
    as_matrix,
    called,
    contiguous,
    delivered,
    dtype_name,
    first,
    flag,
    fresh,
    from_lists,
    frozen,
    given,
    integer,
    one_integer,
    plain,
    real,
    result,
    rows,
    shown,
)
from pycomp.kernels import dispatch
from pycomp.kernels.entry import NanError

from .schemes import SMALLEST, Layout, check_axis, choose, layout

INT8 = np.dtype(np.int8)
UINT8 = np.dtype(np.uint8)
DTYPES = {"int8": INT8, "uint8": UINT8}
CODE_LIMITS = {INT8: (-128, 127, "int8"), UINT8: (0, 255, "uint8")}
"""Smallest and largest code of each, and its name, which NumPy makes anew whenever it is asked."""
Rows = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]
RowsAndSums = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
CACHED = 1 << 16
"""Elements of a row that a core's cache holds, to be read a second time; longer rows are shared among threads."""


@dataclass(frozen=True, eq=False)
class QuantizedTensor(ArrayHolder):
    """Codes that stand for ``(data - zero_point)·scale``; made by :func:`quantize`, or from codes that a layer gave.

    Attributes
    ----------
    data : array of int8 or uint8
        A view of the array that was given: what is written to that is written to the tensor.
    scale : array of float32
        Finite and at least 2⁻¹²⁶. Of shape () for the whole tensor, (C,) for each index along ``axis``, or, with
        groups, of the shape of ``data`` with ``shape[axis] / group_size`` along ``axis``. A number stands for all of
        them, an array is copied; read-only.
    zero_point : array of int32, the shape of ``scale``
        The code of 0, in the range of ``data``. Given as integers of any type, or as one for all. Read-only too.
    axis : int or None
        The axis that has scales of its own; a negative one is counted from the last, and held as it is from the first.
    group_size : int or None
        How many neighbours along ``axis`` share a scale; None: all indices along the other axes do.
    bits : int
        8.

    Raises
    ------
    TypeError
        If ``data`` is no array of int8 or uint8, ``scale`` none of float32 and no number, ``zero_point`` does not hold
        integers, or another argument is no integer.
    ValueError
        If a scale is not finite or below 2⁻¹²⁶, a zero point is out of range, ``bits`` is not 8, or shapes, ``axis``
        and ``group_size`` do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> QuantizedTensor(np.array([-128, 0, 3], np.int8), 0.5, -1).dequantize()
    array([-63.5,   0.5,   2. ], dtype=float32)
    """

    data: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int | None = None
    group_size: int | None = None
    bits: int = 8

    _arrays = ("data", "scale", "zero_point")

    if TYPE_CHECKING:  # the one that is made takes fewer types than __post_init__ converts

        def __init__(self, data: Any, scale: Any, zero_point: Any, axis: int | None = None,
                     group_size: int | None = None, bits: int = 8) -> None: ...

    def __post_init__(self) -> None:
        data = codes(self.data, "data")
        shape = data.shape
        if self.axis is None and self.group_size is not None:
            raise ValueError(f"group_size is {self.group_size}, but axis is None")
        axis, group_size = check_axis(self.axis, self.group_size, shape, "data")
        if (bits := integer(self.bits, "bits", 1)) != 8:
            raise ValueError(f"bits is {bits}, expected 8")
        expected = layout(shape, axis, group_size).shape
        scale = as_scale(self.scale, "scale", expected).copy()
        zero = as_zero_point(self.zero_point, "zero_point", expected, data.dtype)
        # Arrays of NumPy and plain integers, where those of another library or numbers were given.
        self._hold(data, scale, zero, axis, group_size)

    def _hold(
        self, data: NDArray[Any], scale: NDArray[np.float32], zero_point: NDArray[np.int32], axis: int | None,
        group_size: int | None,
    ) -> None:
        """The fields, once they are good; so that they stay so, nobody writes to scales and zero points."""
        self._fill(data=data, scale=given(scale), zero_point=given(zero_point), axis=axis, group_size=group_size,
                   bits=8)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of ``data``."""
        shape: tuple[int, ...] = self.__dict__["data"].shape
        return shape

    def dequantize(self) -> NDArray[np.float32]:
        """The values that the codes stand for; see :func:`dequantize`.

        Examples
        --------
        >>> import numpy as np
        >>> quantize(np.array([1, -2, 127], np.float32)).dequantize()
        array([  1.,  -2., 127.], dtype=float32)
        """
        return dequantize(self)

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays: ``data``, ``scale``, ``zero_point``, ``bits``, and ``axis`` and ``group_size`` if any.

        Examples
        --------
        >>> import numpy as np
        >>> sorted(quantize(np.zeros((2, 4), np.float32), group_size=2).to_dict())
        ['axis', 'bits', 'data', 'group_size', 'scale', 'zero_point']
        """
        arrays = {"data": self.data, "scale": self.scale, "zero_point": self.zero_point}
        numbers = {"axis": self.axis, "group_size": self.group_size, "bits": self.bits}
        return arrays | {name: np.array(n, np.int64) for name, n in numbers.items() if n is not None}

    @classmethod
    def from_dict(cls, arrays: Mapping[str, Any]) -> QuantizedTensor:
        """The tensor that :meth:`to_dict` took apart.

        Parameters
        ----------
        arrays : mapping from str to arrays
            ``data``, ``scale``, ``zero_point`` and ``bits``; ``axis`` and ``group_size`` where the tensor has them.

        Raises
        ------
        TypeError, ValueError
            If an array is missing, unknown, of another dtype, or does not fit the others.

        Examples
        --------
        >>> import numpy as np
        >>> q = quantize(np.array([[-1, 0.5], [0, 4]], np.float32), axis=0)
        >>> QuantizedTensor.from_dict(q.to_dict()).axis
        0
        """
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays is a {type(arrays).__name__}, expected a mapping from names to arrays")
        required, optional = {"data", "scale", "zero_point", "bits"}, {"axis", "group_size"}
        names = set(arrays)
        if missing := sorted(required - names):
            raise ValueError(f"arrays lack {', '.join(missing)}")
        if unknown := names - required - optional:
            found = ", ".join(sorted(printable(n) if isinstance(n, str) else shown(n) for n in unknown))
            raise ValueError(f"arrays hold {found}, which a QuantizedTensor does not have")
        numbers = {name: one_integer(arrays[name], name) for name in names & (optional | {"bits"})}
        return cls(*(arrays[name] for name in ("data", "scale", "zero_point")), **numbers)


def codes(a: Any, name: str, ndim: int | tuple[int, ...] = ANY_NDIM) -> NDArray[Any]:
    """``a`` as an array of int8 or uint8."""
    if type(a) is not np.ndarray:
        a = plain(a, name, "int8 or uint8")
    dtype = a.dtype
    if dtype is not INT8 and dtype is not UINT8 and dtype not in (INT8, UINT8):  # to ask for identity is cheap
        raise TypeError(f"{name} has dtype {called(dtype)}, expected int8 or uint8")
    return a if ndim is ANY_NDIM else as_array(a, name, dtype, ndim)


def held(of: Any, name: str, dtype: np.dtype[Any], ndim: int) -> NDArray[Any]:
    """A field of a frozen dataclass, which from now on is an ndarray that nobody writes to, in C order."""
    array = frozen(as_array(getattr(of, name), name, dtype, ndim))
    object.__setattr__(of, name, array)
    return array


def code_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """int8 or uint8, given by name, as a type or as an np.dtype."""
    return DTYPES[dtype_name(dtype, name, DTYPES)]


def middle(dtype: np.dtype[Any]) -> int:
    """The code of 0 where nothing else is said."""
    return 0 if dtype == INT8 else 128


def check_scale(scale: NDArray[np.float32], name: str) -> None:
    good = np.isfinite(scale) & (scale >= SMALLEST)
    if not good.all():
        raise ValueError(f"{name} holds {scale[~good].flat[0]}, expected finite numbers of at least 2⁻¹²⁶")


def check_zero_point(zero_point: NDArray[Any], name: str, dtype: np.dtype[Any]) -> None:
    low, high, label = CODE_LIMITS[dtype]
    _check_range(zero_point, name, low, high, f" ({label})")


def code_range(zero_point: NDArray[np.int32], kind: np.dtype[Any], narrow_range: bool) -> tuple[int, int]:
    """Smallest and largest code; a zero point below the first is an error."""
    low, high, label = CODE_LIMITS[kind]
    low += narrow_range
    _check_range(zero_point, "zero_point", low, high, f" ({label}, narrow range)")
    return low, high


def _check_range(values: NDArray[Any], name: str, low: int, high: int, of: str = "") -> None:
    outside = values[(values < low) | (values > high)]
    if outside.size:
        raise ValueError(f"{name} holds {outside.flat[0]}, expected {low} to {high}{of}")


def _is_number(a: Any) -> bool:
    return isinstance(a, (int, float, np.integer, np.floating)) and not isinstance(a, (bool, np.bool_))


def as_scale(scale: Any, name: str, shape: int | tuple[int, ...] | None) -> NDArray[np.float32]:
    """A number or an array of float32 as an array of shape () or, if a length or shape is given, of that."""
    if _is_number(scale):
        given = real(scale, name)
        with np.errstate(over="ignore", under="ignore"):
            one = np.asarray(given, np.float32)
        if not SMALLEST <= one < np.inf:
            raise ValueError(f"{name} is {given}, expected a finite float32 of at least 2⁻¹²⁶")
        return _spread(one, name, shape)
    if type(scale) is not np.ndarray:
        scale = plain(scale, name, "float32, or a number")
    array = _spread(as_array(scale, name, FLOAT32, ANY_NDIM), name, shape)
    check_scale(array, name)
    return array


def as_zero_point(
    zero_point: Any, name: str, shape: int | tuple[int, ...] | None, dtype: np.dtype[Any]
) -> NDArray[np.int32]:
    """An integer or an array of integers as int32 of shape () or as given, in the range of a code's dtype."""
    low, high, label = CODE_LIMITS[dtype]
    return as_integers(zero_point, name, shape, low, high, f" ({label})")


def as_integers(
    value: Any, name: str, shape: int | tuple[int, ...] | None, low: int, high: int, of: str = ""
) -> NDArray[np.int32]:
    """An integer or an array of integers from low to high, as int32 of shape () or as given. ``of`` ends the error."""
    array = as_numbers(value, name, "iu", f"integers from {low} to {high}{of}")
    _check_range(array, name, low, high, of)
    return _spread(array.astype(np.int32), name, shape)


def as_numbers(value: Any, name: str, kinds: str, expected: str) -> NDArray[Any]:
    """A number, or an array or nested lists of them, as an array whose dtype is of one of these kinds."""
    array = from_lists(value, name, expected)
    if array.dtype.kind not in kinds:
        odd = _odd(array) if array.dtype == object and array.size else array.dtype
        error = ValueError if type(odd) is int else TypeError  # an int that no dtype holds
        found = {"U": "str", "S": "bytes"}.get(array.dtype.kind, array.dtype.name) if odd is array.dtype else shown(odd)
        raise error(f"{name} {f'holds {found}' if array.ndim else f'is {shown(value)}'}, expected {expected}")
    return array


def _odd(objects: NDArray[Any]) -> Any:
    """The first of some objects that is no number, or else the largest if no dtype holds it, or else their dtype."""
    others = [o for o in objects.flat if not isinstance(o, (int, float))]
    largest = others[0] if others else max(objects.flat, key=abs)
    return largest if others or not -(2**63) <= largest < 2**64 else objects.dtype


def _spread(array: NDArray[Any], name: str, shape: int | tuple[int, ...] | None) -> NDArray[Any]:
    wanted = () if shape is None else (shape,) if isinstance(shape, int) else shape
    if array.ndim and array.shape != wanted:
        raise ValueError(f"{name} has shape {array.shape}, expected {f'() or {wanted}' if wanted else '()'}")
    return contiguous(np.broadcast_to(array, wanted)) if wanted else array.reshape(())


def quantize(
    x: Any,
    *,
    scale: Any = None,
    zero_point: Any = None,
    axis: int | None = None,
    group_size: int | None = None,
    symmetric: bool = True,
    narrow_range: bool | None = None,
    power_of_two: bool = False,
    dtype: DTypeLike = "int8",
    out: Any = None,
) -> QuantizedTensor:
    """Replace floats by 8-bit codes: ``saturate(rint(x / scale) + zero_point)``.

    Parameters
    ----------
    x : array of float32
        Any shape and strides; other than C order costs a copy.
    scale : number or array of float32, optional
        A number for all parts, or an array of the shape that :class:`QuantizedTensor` has. By default from x, by the
        table below.
    zero_point : integer or array of integers, optional
        Only with ``scale``. By default the middle of the range (0 for int8, 128 for uint8) if symmetric or if a scale
        is given.
    axis : int, optional
        One scale for each index along this axis: a channel, or a token. None: one for the tensor.
    group_size : int, optional
        One scale for so many neighbours along ``axis``, by default the last, at each index along the other axes. It
        must divide the length of the axis. With the length of the last axis, each token has a scale.
    symmetric : bool
        Zero points in the middle of the range, or where the range of x puts them.
    narrow_range : bool, optional
        Leave out the smallest code: int8 from -127 to 127, uint8 from 1 to 255. By default for a symmetric scale from
        x, which has then as many codes below 0 as above, and else not.
    power_of_two : bool
        Round the chosen scale up to a power of two, so that nothing saturates that did not before.
    dtype : "int8" or "uint8"
        By name, as a type or as an np.dtype.
    out : array of int8 or uint8, the shape of x, optional
        Receives the codes, or stays as it is where an error is raised: x is read once more, before.

    Returns
    -------
    QuantizedTensor

    Raises
    ------
    TypeError
        If an array has the wrong dtype, or a flag is no bool.
    ValueError
        If x holds NaN, or infinity and no scale is given; if a scale is not finite or below 2⁻¹²⁶, a zero point is
        outside the range of the codes (the narrow one, if asked for), shapes do not fit, or ``out`` cannot take the
        codes.

    Notes
    -----
    With lo = min(x, 0) and hi = max(x, 0) of a part, in float32, the scale is at least 2⁻¹²⁶, 1 for zeros alone, and

    ========== ====== ================================ =====================================================
    symmetric  narrow scale                            zero point of int8 (uint8: 128 more)
    ========== ====== ================================ =====================================================
    yes        yes    ``max(hi, -lo) / 127``           0
    yes        no     ``max(hi / 127, -lo / 128)``     0
    no         no     ``(hi/2 - lo/2) / 127.5``        ``-128 + rint(-lo / scale)``
    no         yes    ``(hi/2 - lo/2) / 127``          ``-127 + rint(-lo / scale)``
    ========== ====== ================================ =====================================================

    The division is a true division, rounded half to even; infinity saturates. For values inside the range,
    ``|dequantize(quantize(x)) - x| <= scale/2·(1 + 2⁻¹⁴)``; with a zero point from x, whose rounding may move the last
    value past the last code, ``scale·(1 + 2⁻¹⁴)``. Next to the largest float32, what the codes stand for may be beyond
    it, and :func:`dequantize` gives infinity.

    Workspace: up to 32 bytes a scale. x is read once where a scale is given; so it is for symmetric int8 and for uint8
    with a zero point where parts of at most 65536 elements lie in memory one after the other; else twice, first for its
    ranges; and twice with ``out``, first for what is refused.

    Examples
    --------
    >>> import numpy as np
    >>> q = quantize(np.array([[-1, 0.5], [0, 4]], np.float32), axis=0)
    >>> q.data
    array([[-127,   64],
           [   0,  127]], dtype=int8)
    >>> q.scale * 127
    array([1., 4.], dtype=float32)
    >>> quantize(np.array([[-1, 0.5, 0, 4]], np.float32), group_size=2, power_of_two=True).scale
    array([[0.015625, 0.0625  ]], dtype=float32)
    """
    x = as_array(x, "x", FLOAT32, ANY_NDIM)
    kind = code_dtype(dtype)
    axis, group_size = check_axis(axis, group_size, x.shape, "x")
    parts = layout(x.shape, axis, group_size)
    symmetric, power_of_two = flag(symmetric, "symmetric"), flag(power_of_two, "power_of_two")
    narrow = symmetric if narrow_range is None else flag(narrow_range, "narrow_range")
    if scale is None and zero_point is not None:
        raise ValueError("zero_point is given without scale")
    if scale is not None and power_of_two:
        raise ValueError("power_of_two chooses a scale, but scale is given")
    if scale is not None:
        scales = as_scale(scale, "scale", parts.shape).copy()
        zeros = as_zero_point(middle(kind) if zero_point is None else zero_point, "zero_point", parts.shape, kind)
        lowest = code_range(zeros, kind, True)[0] if narrow_range else None
        data = result(out, x.shape, kind, (x, scale, zero_point), whole=True)
        x = contiguous(x)
        if data is out:
            refuse_nan(x)
        run("quantize", x, parts, scales, zeros, data)
        if lowest is not None:
            np.maximum(data, data.dtype.type(lowest), out=data)
        return _made(delivered(data, out), scales, zeros, axis, group_size)
    data = result(out, x.shape, kind, (x,), whole=True)
    x = contiguous(x)
    if data is not out and _is_fused(parts, symmetric, narrow, power_of_two, kind):
        scales, zeros = np.empty(parts.matrix[0], np.float32), np.zeros(parts.matrix[0], np.int32)
        _quantize_rows(x.reshape(parts.matrix), data.reshape(parts.matrix), scales[:, None], zeros[:, None])
        scales, zeros = scales.reshape(parts.shape), zeros.reshape(parts.shape)
        _refuse(x, np.isnan(scales))
    else:
        low, high = parts.ranges(x)
        _refuse(x, ~((low > -np.inf) & (high < np.inf)))
        scales, zeros = choose(low, high, symmetric=symmetric, narrow_range=narrow, power_of_two=power_of_two,
                               dtype=kind)
        run("quantize", x, parts, scales, zeros, data)
    return _made(delivered(data, out), scales, zeros, axis, group_size)


def _made(
    data: NDArray[Any], scale: NDArray[np.float32], zero_point: NDArray[np.int32], axis: int | None,
    group_size: int | None,
) -> QuantizedTensor:
    """The tensor of new arrays, which are good: neither checked nor copied, as those that a caller gives are."""
    q = object.__new__(QuantizedTensor)
    q._hold(data, scale, zero_point, axis, group_size)
    return q


def _is_fused(parts: Layout, symmetric: bool, narrow: bool, power_of_two: bool, kind: np.dtype[Any]) -> bool:
    """Whether one kernel finds the scales of rows and their codes."""
    scheme = (symmetric, narrow, kind) in ((True, True, INT8), (False, False, UINT8))
    one_after_the_other = not parts.by_column and parts.outer == 1
    return scheme and not power_of_two and one_after_the_other and parts.matrix[1] <= CACHED


def _quantize_rows(
    x: NDArray[np.float32], data: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Fill codes, scales [rows, groups] and, for uint8, zero points; return the sums of the codes."""
    sums = np.empty(scale.shape, np.int32)
    if data.dtype == INT8:
        dispatch.quantize_rows_s8(x, data, scale, sums)
    else:
        dispatch.quantize_rows_u8(x, data, scale, zero, sums)
    return sums


def nan_in(x: NDArray[np.float32]) -> ValueError:
    """That x holds NaN, to be raised."""
    return ValueError(f"x holds NaN, first at {first(np.isnan(x))}")


def _refuse(x: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """An error if any part is bad: it holds NaN or infinity."""
    if bad.any():
        if np.isnan(x).any():
            raise nan_in(x)
        raise ValueError(f"x holds infinity, first at {first(np.isinf(x))}, which needs a scale")


def refuse_nan(x: NDArray[np.float32]) -> None:
    """An error if x, in C order, holds NaN: where the caller's array is to be written, before it is."""
    low, _ = layout(x.shape, None, None).ranges(x)
    _refuse(x, np.isnan(low))


def run(
    what: Literal["quantize", "dequantize", "fake_quantize"],
    x: NDArray[Any],
    parts: Layout,
    scale: NDArray[np.float32],
    zero: NDArray[np.int32] | None,
    y: NDArray[Any],
    limits: tuple[int, ...] = (),
) -> None:
    """Fill y, in C order, from x by given scales and zero points, in the shape of the parts; None is 0.

    ``limits``: smallest and largest code, of what leaves none.
    """
    kind = (x if what == "dequantize" else y).dtype
    where = "columns_" if parts.by_column else ""
    kernel = getattr(dispatch, f"{what}_{where}{'f32' if kind == FLOAT32 else 's8' if kind == INT8 else 'u8'}")
    zeros = None if zero is None or not zero.any() else contiguous(parts.spread(zero))
    try:
        kernel(contiguous(x).reshape(parts.matrix), contiguous(parts.spread(scale)), zeros, *limits,
               y.reshape(parts.matrix))
    except NanError:
        raise nan_in(x) from None


def dequantize(q: QuantizedTensor, *, out: Any = None) -> NDArray[np.float32]:
    """The values that codes stand for: ``float(code - zero_point)·scale``, one rounding.

    Parameters
    ----------
    q : QuantizedTensor
    out : array of float32, the shape of ``q.data``, optional

    Returns
    -------
    array of float32, the shape of ``q.data``

    Raises
    ------
    TypeError
        If ``q`` is something else, or ``out`` not float32.
    ValueError
        If ``out`` cannot take the result.

    Notes
    -----
    Bound: half a unit in the last place; infinity where that is beyond float32.

    Examples
    --------
    >>> import numpy as np
    >>> dequantize(quantize(np.array([-2, 0, 1], np.float32), scale=0.5))
    array([-2.,  0.,  1.], dtype=float32)
    """
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"q is a {type(q).__name__}, expected a QuantizedTensor")
    data, scale, zero = q._held()
    y = result(out, data.shape, FLOAT32, (data, scale, zero), whole=True)
    run("dequantize", data, layout(data.shape, q.axis, q.group_size), scale, zero, y)
    return delivered(y, out)


@overload
def quantize_rows(
    x: Any, *, symmetric: bool = ..., group_size: int | None = ..., return_sums: Literal[False] = ...
) -> Rows: ...
@overload
def quantize_rows(
    x: Any, *, symmetric: bool = ..., group_size: int | None = ..., return_sums: Literal[True]
) -> RowsAndSums: ...
def quantize_rows(
    x: Any, *, symmetric: bool = True, group_size: int | None = None, return_sums: bool = False
) -> Rows | RowsAndSums:
    """Quantize activations, each row, or each group of a row, with a scale of its own.

    Parameters
    ----------
    x : array of float32, shape (..., K)
        Rows may be any distance apart.
    symmetric : bool
        True: int8 codes from -127 to 127, zero points 0. False: uint8 codes over the range of the row and 0.
    group_size : int, optional
        One scale for so many elements of a row; it must divide K.
    return_sums : bool
        Also return the sums of the codes, which products with zero points need.

    Returns
    -------
    codes : array of int8 or uint8, the shape of ``x``
    scale : array of float32, shape (...), or (..., K / group_size)
    zero_point : array of int32, the shape of ``scale``
    sums : array of int32, the shape of ``scale``
        Only with ``return_sums``; modulo 2³².

    Raises
    ------
    TypeError
        If ``x`` is not float32, or ``symmetric`` no bool.
    ValueError
        If ``x`` has no dimensions, or ``group_size`` does not divide K.

    Notes
    -----
    Scales and zero points as in :func:`quantize`. A row or group that holds NaN or infinity has scale NaN and codes 0,
    so that its products are NaN and others are not affected.

    Examples
    --------
    >>> import numpy as np
    >>> quantize_rows(np.array([[0, 51, 255]], np.float32), symmetric=False)
    (array([[  0,  51, 255]], dtype=uint8), array([1.], dtype=float32), array([0], dtype=int32))
    """
    x = as_array(x, "x", FLOAT32, BATCH_NDIM)
    if group_size is not None:
        check_axis(-1, group_size, x.shape, "x")
    batch = rows(as_matrix(x))
    m, k = batch.shape
    groups = (m, 1 if group_size is None else k // group_size)
    data = fresh(batch.shape, INT8 if flag(symmetric, "symmetric") else UINT8)
    scale, zero = np.empty(groups, np.float32), np.zeros(groups, np.int32)
    sums = _quantize_rows(batch, data, scale, zero)
    shape = x.shape[:-1] if group_size is None else (*x.shape[:-1], groups[1])
    made = data.reshape(x.shape), scale.reshape(shape), zero.reshape(shape)
    return (*made, sums.reshape(shape)) if flag(return_sums, "return_sums") else made
