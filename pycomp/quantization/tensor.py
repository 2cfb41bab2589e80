"""Arrays of 8-bit codes with their scales and zero points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, as_array, contiguous, integer, real, rows
from pycomp.kernels import dispatch

INT8 = np.dtype(np.int8)
UINT8 = np.dtype(np.uint8)
INT32 = np.dtype(np.int32)
DTYPES = {"int8": INT8, "uint8": UINT8}
ANY_NDIM = tuple(range(65))


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """Codes that stand for ``(data - zero_point)·scale``; made by :func:`quantize`.

    Attributes
    ----------
    data : array of int8 or uint8
    scale : array of float32, shape () or (C,)
        Finite and above 0; one for the tensor, or one for each index along ``axis``.
    zero_point : array of int32, the shape of ``scale``
        The code of 0, in the range of ``data``.
    axis : int or None
    group_size : None
        Groups within a channel are not supported for 8-bit codes.
    bits : int
        8.
    """

    data: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    axis: int | None = None
    group_size: int | None = None
    bits: int = 8

    def __post_init__(self) -> None:
        codes(self.data, "data")
        axis = self.axis
        if axis is not None:
            axis = integer(axis, "axis", 0, self.data.ndim - 1)
        if self.group_size is not None or self.bits != 8:
            raise ValueError(f"group_size is {self.group_size} and bits is {self.bits}, expected None and 8")
        shape = () if axis is None else (self.data.shape[axis],)
        for name, dtype in (("scale", FLOAT32), ("zero_point", INT32)):
            if as_array(getattr(self, name), name, dtype, len(shape)).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, expected {shape}")
        check_scale(self.scale, "scale")
        check_zero_point(self.zero_point, "zero_point", self.data.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and zero points."""
        return self.data.nbytes + self.scale.nbytes + self.zero_point.nbytes

    def dequantize(self) -> NDArray[np.float32]:
        """The values that the codes stand for; see :func:`dequantize`."""
        return dequantize(self)


def codes(a: Any, name: str, ndim: int | tuple[int, ...] = ANY_NDIM) -> NDArray[Any]:
    """``a`` as an array of int8 or uint8."""
    dtype = UINT8 if getattr(a, "dtype", None) == UINT8 else INT8
    try:
        return as_array(a, name, dtype, ndim)
    except TypeError as error:
        raise TypeError(str(error).partition(";")[0].replace("int8", "int8 or uint8")) from None


def code_dtype(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """int8 or uint8, given by name."""
    try:
        return DTYPES[dtype]
    except (KeyError, TypeError):
        raise ValueError(f"{name} is {dtype!r}, expected 'int8' or 'uint8'") from None


def check_scale(scale: NDArray[np.float32], name: str) -> None:
    if not (np.isfinite(scale) & (scale > 0)).all():
        bad = scale[~(np.isfinite(scale) & (scale > 0))].flat[0]
        raise ValueError(f"{name} holds {bad}, expected finite numbers above 0")


def check_zero_point(zero_point: NDArray[Any], name: str, dtype: np.dtype[Any]) -> None:
    limits = np.iinfo(dtype)
    outside = zero_point[(zero_point < limits.min) | (zero_point > limits.max)]
    if outside.size:
        raise ValueError(f"{name} holds {outside.flat[0]}, expected {limits.min} to {limits.max} ({dtype.name})")


def as_scale(scale: Any, name: str, length: int | None) -> NDArray[np.float32]:
    """A number or an array of float32 as an array of shape () or, if a length is given, (length,)."""
    if isinstance(scale, (int, float, np.integer, np.floating)) and not isinstance(scale, (bool, np.bool_)):
        with np.errstate(over="ignore", under="ignore"):
            scale = np.float32(real(scale, name))
    array = _spread(as_array(np.asarray(scale), name, FLOAT32, (0, 1)), name, length)
    check_scale(array, name)
    return array


def as_zero_point(zero_point: Any, name: str, length: int | None, dtype: np.dtype[Any]) -> NDArray[np.int32]:
    """An integer or an array of integers as int32 of shape () or (length,), in the range of a code's dtype."""
    array = np.asarray(zero_point)
    if array.dtype.kind not in "iu" or isinstance(zero_point, np.ma.MaskedArray):
        raise TypeError(f"{name} is {zero_point!r}, expected integers")
    check_zero_point(array, name, dtype)
    return _spread(array.astype(np.int32), name, length)


def _spread(array: NDArray[Any], name: str, length: int | None) -> NDArray[Any]:
    if array.ndim and array.shape != (() if length is None else (length,)):
        raise ValueError(f"{name} has shape {array.shape}, expected {'()' if length is None else f'() or ({length},)'}")
    return contiguous(array if length is None else np.broadcast_to(array, (length,)))


def _by_channel(a: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """[channels, the rest], in C order; one channel where axis is None."""
    if axis is None:
        return contiguous(a).reshape(1, a.size)
    channels = a.shape[axis]
    return contiguous(np.moveaxis(a, axis, 0)).reshape(channels, a.size // channels if channels else 0)


def _from_channels(a: NDArray[Any], shape: tuple[int, ...], axis: int | None) -> NDArray[Any]:
    if axis is None:
        return a.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(a.reshape(moved), 0, axis))


def quantize(
    x: Any,
    *,
    scale: Any = None,
    zero_point: Any = None,
    axis: int | None = None,
    symmetric: bool = True,
    dtype: str = "int8",
) -> QuantizedTensor:
    """Replace floats by 8-bit codes: ``saturate(rint(x / scale) + zero_point)``.

    Parameters
    ----------
    x : array of float32
        Any shape and strides; other than C order with ``axis`` None or 0 costs a copy.
    scale : number or array of float32, shape (C,), optional
        By default from x: symmetric, ``max(max|x| / 127, 2⁻¹²⁶)``; else, with lo = min(x, 0) and hi = max(x, 0),
        ``max((hi/2 - lo/2) / 127.5, 2⁻¹²⁶)``. A group of zeros has scale 1.
    zero_point : integer or array of integers, shape (C,), optional
        Only with ``scale``. By default the middle of the range (0 for int8, 128 for uint8) if symmetric or if a scale
        is given, else ``rint(-lo / scale)`` above the smallest code.
    axis : int, optional
        One scale for each index along this axis; None: one for the tensor.
    symmetric : bool
    dtype : "int8" or "uint8"

    Returns
    -------
    QuantizedTensor

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If x holds NaN, or infinity and no scale is given; if a scale is not finite and above 0, a zero point is outside
        the range of the codes, or shapes do not fit.

    Notes
    -----
    The division is a true division, rounded half to even; infinity saturates. For values inside the range,
    ``|dequantize(quantize(x)) - x| <= scale/2·(1 + 2⁻¹⁴)``.

    Examples
    --------
    >>> import numpy as np
    >>> q = quantize(np.array([[-1, 0.5], [0, 4]], np.float32), axis=0)
    >>> q.data
    array([[-127,   64],
           [   0,  127]], dtype=int8)
    >>> q.scale * 127
    array([1., 4.], dtype=float32)
    """
    x = as_array(x, "x", FLOAT32, ANY_NDIM)
    kind = code_dtype(dtype)
    if axis is not None:
        axis = integer(axis, "axis", -x.ndim, x.ndim - 1) % x.ndim
    channels = _by_channel(x, axis)
    given = None
    if scale is not None:
        length = None if axis is None else x.shape[axis]
        given = as_scale(scale, "scale", length)
        middle = 0 if kind == INT8 else 128
        zero = as_zero_point(middle if zero_point is None else zero_point, "zero_point", length, kind)
    elif zero_point is not None:
        raise ValueError("zero_point is given without scale")
    if given is not None:
        data = np.empty(channels.shape, kind)
        kernel = dispatch.quantize_s8 if kind == INT8 else dispatch.quantize_u8
        try:
            kernel(channels, given.reshape(-1), zero.reshape(-1), data)
        except ValueError:
            raise ValueError("x holds NaN") from None
    else:
        data, given, zero = _chosen(channels, bool(symmetric), kind)
        if axis is None:
            given, zero = given.reshape(()), zero.reshape(())
    return QuantizedTensor(_from_channels(data, x.shape, axis), given, zero, axis)


def _chosen(
    x: NDArray[np.float32], symmetric: bool, kind: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]:
    """Codes, scales and zero points of rows, chosen from their values."""
    data, scale, zero = quantize_rows(x, symmetric=symmetric)
    if np.isnan(scale).any():
        raise ValueError("x holds NaN" if np.isnan(x).any() else "x holds infinity, which needs a scale")
    if data.dtype != kind:  # flipping the top bit moves codes and zero point by 128
        data = (data.view(np.uint8) ^ np.uint8(128)).view(kind)
        zero += 128 if kind == UINT8 else -128
    return data, scale, zero


def dequantize(q: QuantizedTensor) -> NDArray[np.float32]:
    """The values that codes stand for: ``float(code - zero_point)·scale``, one rounding.

    Parameters
    ----------
    q : QuantizedTensor

    Returns
    -------
    array of float32, the shape of ``q.data``

    Notes
    -----
    Bound: half a unit in the last place.

    Examples
    --------
    >>> import numpy as np
    >>> dequantize(quantize(np.array([-2, 0, 1], np.float32), scale=0.5))
    array([-2.,  0.,  1.], dtype=float32)
    """
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"q is a {type(q).__name__}, expected a QuantizedTensor")
    data = _by_channel(q.data, q.axis)
    y = np.empty(data.shape, np.float32)
    kernel = dispatch.dequantize_s8 if data.dtype == INT8 else dispatch.dequantize_u8
    kernel(data, q.scale.reshape(-1), q.zero_point.reshape(-1), y)
    return _from_channels(y, q.data.shape, q.axis)


def quantize_rows(
    x: Any, *, symmetric: bool = True
) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]:
    """Quantize activations, each row with a scale of its own.

    Parameters
    ----------
    x : array of float32, shape (M, K)
        Rows may be any distance apart.
    symmetric : bool
        True: int8 codes from -127 to 127, zero points 0. False: uint8 codes over the range of the row and 0.

    Returns
    -------
    codes : array of int8 or uint8, shape (M, K)
    scale : array of float32, shape (M,)
    zero_point : array of int32, shape (M,)

    Raises
    ------
    TypeError
        If ``x`` is not float32.
    ValueError
        If ``x`` does not have two dimensions.

    Notes
    -----
    Scales and zero points as in :func:`quantize`. A row that holds NaN or infinity has scale NaN and codes 0, so that
    its products are NaN and other rows are not affected.

    Examples
    --------
    >>> import numpy as np
    >>> quantize_rows(np.array([[0, 51, 255]], np.float32), symmetric=False)
    (array([[  0,  51, 255]], dtype=uint8), array([1.], dtype=float32), array([0], dtype=int32))
    """
    x = rows(as_array(x, "x", FLOAT32, 2))
    m = x.shape[0]
    scale = np.empty(m, np.float32)
    if symmetric:
        data, zero = np.empty(x.shape, np.int8), np.zeros(m, np.int32)
        dispatch.quantize_rows_s8(x, data, scale)
        return data, scale, zero
    data, zero = np.empty(x.shape, np.uint8), np.empty(m, np.int32)
    dispatch.quantize_rows_u8(x, data, scale, zero)
    return data, scale, zero
