"""The quantization operators of ONNX, operator set 21 and later, on NumPy arrays.

Equal to the specification bit for bit, and to ONNX Runtime where the specification leaves a choice; each function says
which. Supported are the integer types: int8, uint8, int16, uint16, and int4, uint4, int2, uint2 either as arrays of
``ml_dtypes`` or unpacked, one value in an int8 or uint8. Floats are float32, float16, and bfloat16 of ``ml_dtypes``
(``pip install 'pycomp[formats]'``). Float8, float4 and float6 types are not supported, neither are int32 scales, nor a
QLinearMatMul whose result has more than one scale.

8-bit codes and float32 run in the kernels of pycomp, the rest in NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._floats import bfloat16
from pycomp._validate import FLOAT32, INT32, called, contiguous, dtype_name, integer, plain
from pycomp.kernels import dispatch

from .product import fill_stacks, matrices
from .schemes import Layout, layout
from .tensor import INT8, run

__all__ = ["dequantize_linear", "dynamic_quantize_linear", "matmul_integer", "qlinear_matmul", "quantize_linear"]

LIMITS = {f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
          for sign in ("", "u") for bits in (2, 4, 8, 16)}
FLOATS = ("float32", "float16", "bfloat16")
EIGHT_BITS = ("int8", "uint8")
LARGEST = 2**63 - 1
"""The largest integer attribute of an operator."""
FAR = np.float32(2.0**18)
"""A quotient beyond it saturates whatever the zero point."""


def quantize_linear(
    x: Any,
    y_scale: Any,
    y_zero_point: Any = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: DTypeLike | None = None,
    precision: DTypeLike | None = None,
) -> NDArray[Any]:
    """QuantizeLinear: ``y = saturate(rint(x / y_scale) + y_zero_point)``.

    Parameters
    ----------
    x : array of float32, float16, bfloat16 or int32
    y_scale : array of float32, float16 or bfloat16
        Of shape () or (1,) for one scale, (D,) for one an index of ``axis``, or, with ``block_size``, the shape of x
        with ``ceil(D / block_size)`` along ``axis``.
    y_zero_point : array of an integer type, the shape of ``y_scale``, optional
        Its type is the type of y. By default 0.
    axis : int
    block_size : int
        0: no blocks. The last block may be shorter, also where it is the only one.
    output_dtype : dtype or its name, optional
        The type of y; by default that of the zero point, else uint8. ``"int4"`` and the like give unpacked values,
        with a zero point of int8 or uint8, or none; a dtype of ``ml_dtypes``, without a zero point, an array of it.
    precision : dtype or its name, optional
        ``"float32"``, ``"float16"`` or ``"bfloat16"``: the type of the division; by default that of ``y_scale``.

    Returns
    -------
    array, the shape of x

    Raises
    ------
    TypeError
        If an array has the wrong type.
    ValueError
        If x holds NaN, a scale is not finite and above 0, also in ``precision``, a zero point is out of range, or
        shapes do not fit.

    Notes
    -----
    x and scale are converted to ``precision``, the quotient is rounded to it, then half to even; infinity saturates.

    Examples
    --------
    >>> import numpy as np
    >>> quantize_linear(np.array([-1, 0.5, 1.5, 9], np.float32), np.float32(1), np.int8(1))
    array([  0,   1,   3,  10], dtype=int8)
    """
    x = _array(x, "x", (*FLOATS, "int32"))
    y_scale = _array(y_scale, "y_scale", FLOATS)
    kind, dtype, zero = _output(y_zero_point, output_dtype, y_scale.shape)
    _positive(y_scale, "y_scale")
    scale = y_scale if precision is None else _narrowed(y_scale, _float(precision, "precision"), "y_scale")
    spread = _Spread(y_scale.shape, "y_scale", x.shape, axis, block_size)
    with np.errstate(over="ignore", under="ignore"):
        x = x.astype(scale.dtype, copy=False)
    if kind in EIGHT_BITS and scale.dtype == FLOAT32 and spread.parts is not None:
        y = np.empty(x.shape, dtype)
        run("quantize", x, spread.parts, scale, zero, y)
        return y
    with np.errstate(over="ignore", under="ignore"):
        quotient = np.rint(x / spread(scale)).astype(np.float32)
    if np.isnan(quotient).any():
        raise ValueError("x holds NaN")
    code = np.clip(quotient, -FAR, FAR).astype(np.int32) + (0 if zero is None else spread(zero))
    return np.asarray(np.clip(code, *LIMITS[kind]), dtype)


def dequantize_linear(
    x: Any,
    x_scale: Any,
    x_zero_point: Any = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: DTypeLike | None = None,
) -> NDArray[Any]:
    """DequantizeLinear: ``y = (x - x_zero_point)·x_scale``.

    Parameters
    ----------
    x : array of an integer type of the module, or int32
    x_scale, axis, block_size
        As in :func:`quantize_linear`; any values, which follow IEEE.
    x_zero_point : array of the type of x, the shape of ``x_scale``, optional
        For int32 there is none but 0.
    output_dtype : dtype or its name, optional
        ``"float32"``, ``"float16"`` or ``"bfloat16"``; by default the type of ``x_scale``.

    Returns
    -------
    array of floats, the shape of x

    Raises
    ------
    TypeError
        If an array has the wrong type.
    ValueError
        If shapes do not fit, or int32 has a zero point other than 0.

    Notes
    -----
    The difference is exact and becomes float32 (for int32 rounded), and so does the scale; the product of the two is
    computed in float32 and rounded once to the output type, as ONNX's reference implementation does. (By the
    specification the output type is the precision of the product; of its operands it does not speak.)

    Examples
    --------
    >>> import numpy as np
    >>> dequantize_linear(np.array([[0, 3], [128, 255]], np.uint8), np.array([1, 2], np.float32), axis=0)
    array([[  0.,   3.],
           [256., 510.]], dtype=float32)
    """
    x = _array(x, "x", (*LIMITS, "int32"))
    x_scale = _array(x_scale, "x_scale", FLOATS)
    zero = None if x_zero_point is None else _array(x_zero_point, "x_zero_point", (x.dtype.name,))
    if zero is not None:
        _same_shape(zero.shape, "x_zero_point", x_scale.shape, "x_scale")
        zero = zero.astype(np.int32)
        if x.dtype == INT32 and zero.any():
            raise ValueError(f"x_zero_point holds {zero[zero != 0].flat[0]}, expected 0 for int32")
        zero = zero if zero.any() else None
    target = x_scale.dtype if output_dtype is None else _float(output_dtype, "output_dtype")
    spread = _Spread(x_scale.shape, "x_scale", x.shape, axis, block_size)
    scale = x_scale.astype(np.float32, copy=False)
    if x.dtype.name in EIGHT_BITS and target == FLOAT32 and spread.parts is not None:
        y = np.empty(x.shape, np.float32)
        run("dequantize", x, spread.parts, scale, zero, y)
        return y
    difference = x.astype(np.int32) - (0 if zero is None else spread(zero))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.asarray(difference.astype(np.float32) * spread(scale), target)


def dynamic_quantize_linear(x: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """DynamicQuantizeLinear: uint8 codes of x over its own range and 0.

    Parameters
    ----------
    x : array of float32

    Returns
    -------
    y : array of uint8, the shape of x
    y_scale : array of float32, shape ()
    y_zero_point : array of uint8, shape ()

    Raises
    ------
    TypeError
        If x is not float32.
    ValueError
        If x holds NaN or infinity, or float32 does not hold the difference of its ends: the scale would be infinite.

    Notes
    -----
    In float32, lo = min(x, 0), hi = max(x, 0): ``y_scale = (hi - lo) / 255``,
    ``y_zero_point = rint(clip(0 - lo / y_scale, 0, 255))``, ``y = saturate(rint(x / y_scale) + y_zero_point)``. The
    specification leaves open what a scale of 0 gives: for zeros and for no elements it is 1, as in ONNX Runtime, and
    also for a range so small that its scale underflows.

    Examples
    --------
    >>> import numpy as np
    >>> dynamic_quantize_linear(np.array([-51, 0, 204], np.float32))
    (array([  0,  51, 255], dtype=uint8), array(1., dtype=float32), array(51, dtype=uint8))
    """
    x = contiguous(_array(x, "x", ("float32",)))
    parts = layout(x.shape, None, None)
    low, high = parts.ranges(x)
    if x.size and not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("x holds NaN" if np.isnan(low) else "x holds infinity")
    low, high = np.minimum(low, np.float32(0)), np.maximum(high, np.float32(0))
    with np.errstate(over="ignore", under="ignore"):
        scale = np.asarray((high - low) / np.float32(255), np.float32)
    if not np.isfinite(scale):
        raise ValueError(f"x ranges from {low:.4g} to {high:.4g}, expected a difference that float32 holds")
    scale = scale if scale > 0 else np.ones((), np.float32)
    with np.errstate(under="ignore"):
        zero = np.asarray(np.rint(np.clip(np.float32(0) - low / scale, 0, 255)), np.uint8)
    y = np.empty(x.shape, np.uint8)
    dispatch.quantize_u8(x.reshape(parts.matrix), scale.reshape(1), zero.astype(np.int32).reshape(1), y.reshape(1, -1))
    return y, scale, zero


def matmul_integer(a: Any, b: Any, a_zero_point: Any = None, b_zero_point: Any = None) -> NDArray[np.int32]:
    """MatMulInteger: ``(a - a_zero_point) @ (b - b_zero_point)`` exactly, in int32, with the shapes of numpy.matmul.

    Parameters
    ----------
    a : array of int8 or uint8, shape (..., M, K) or (K,)
    b : array of int8 or uint8, shape (..., K, N) or (K,)
    a_zero_point : array of the type of a, optional
        Of shape () or (1,), (M,), or (..., M, 1) against the dimensions of a.
    b_zero_point : array of the type of b, optional
        Of shape () or (1,), (N,), or (..., 1, N) against the dimensions of b.

    Returns
    -------
    array of int32, shape (..., M, N)

    Raises
    ------
    TypeError
        If an array has the wrong type.
    ValueError
        If shapes do not fit.
    OverflowError
        If a result is outside int32, which takes K above 33025; the specification allows any result there.

    Notes
    -----
    Bound: 0. Every result is exact, or an error.

    Examples
    --------
    >>> import numpy as np
    >>> matmul_integer(np.array([[1, 2]], np.uint8), np.array([[3], [4]], np.int8), np.uint8(1))
    array([[4]], dtype=int32)
    """
    a, b = _array(a, "a", EIGHT_BITS), _array(b, "b", EIGHT_BITS)
    left, right, shape = matrices(a, b)
    a_zero = None if a_zero_point is None else _array(a_zero_point, "a_zero_point", (a.dtype.name,))
    b_zero = None if b_zero_point is None else _array(b_zero_point, "b_zero_point", (b.dtype.name,))
    return _product(left, right, _of_rows(a_zero, "a_zero_point", left), _of_columns(b_zero, "b_zero_point", right)
                    ).reshape(shape)


def qlinear_matmul(
    a: Any,
    a_scale: Any,
    a_zero_point: Any,
    b: Any,
    b_scale: Any,
    b_zero_point: Any,
    y_scale: Any,
    y_zero_point: Any,
) -> NDArray[Any]:
    """QLinearMatMul: the product of quantized matrices, quantized again.

    Parameters
    ----------
    a, b, a_zero_point, b_zero_point
        As in :func:`matmul_integer`.
    a_scale, b_scale : array of float32, float16 or bfloat16
        In the shapes of the zero points.
    y_scale : array of float32, float16 or bfloat16, shape () or (1,)
    y_zero_point : array of int8 or uint8, shape () or (1,)
        Its type is the type of the result.

    Returns
    -------
    array of int8 or uint8, shape (..., M, N)

    Raises
    ------
    TypeError
        If an array has the wrong type.
    ValueError
        If a scale is not finite and above 0, or shapes do not fit.
    OverflowError
        If a sum is outside int32, as in :func:`matmul_integer`.

    Notes
    -----
    ``y = saturate(rint(float(sum)·((a_scale·b_scale) / y_scale)) + y_zero_point)``, each operation in float32, half to
    even before the zero point is added: the order and the bits of ONNX Runtime. The specification does not state in
    which precision the scales meet.

    Examples
    --------
    >>> import numpy as np
    >>> one, zero = np.float32(1), np.uint8(0)
    >>> qlinear_matmul(np.array([[1, 2]], np.uint8), one, zero, np.array([[3], [4]], np.uint8), one, zero,
    ...                np.float32(2), np.uint8(100))
    array([[106]], dtype=uint8)
    """
    a, b = _array(a, "a", EIGHT_BITS), _array(b, "b", EIGHT_BITS)
    left, right, shape = matrices(a, b)
    scales = []
    for name, scale in (("a_scale", a_scale), ("b_scale", b_scale), ("y_scale", y_scale)):
        given = _array(scale, name, FLOATS)
        _positive(given, name)
        scales.append(given.astype(np.float32, copy=False))
    zero = _array(y_zero_point, "y_zero_point", EIGHT_BITS)
    for name, value in (("y_scale", scales[2]), ("y_zero_point", zero)):
        if value.size != 1:
            raise ValueError(f"{name} has shape {value.shape}, expected one element")
    a_zero = _array(a_zero_point, "a_zero_point", (a.dtype.name,))
    b_zero = _array(b_zero_point, "b_zero_point", (b.dtype.name,))
    _same_shape(a_zero.shape, "a_zero_point", scales[0].shape, "a_scale")
    _same_shape(b_zero.shape, "b_zero_point", scales[1].shape, "b_scale")
    sums = _product(left, right, _of_rows(a_zero, "a_zero_point", left), _of_columns(b_zero, "b_zero_point", right))
    with np.errstate(over="ignore", under="ignore"):
        rows = _of_rows(scales[0], "a_scale", left)[..., None]  # type: ignore[index]
        columns = _of_columns(scales[1], "b_scale", right)[..., None, :]  # type: ignore[index]
        scale = rows * columns / scales[2].reshape(())
    if (bad := ~np.isfinite(scale)).any():
        a_bad, b_bad = (np.broadcast_to(s, scale.shape)[bad][0] for s in (rows, columns))
        raise ValueError(f"a_scale·b_scale / y_scale is {a_bad!s}·{b_bad!s} / {scales[2].flat[0]!s}, "
                         "expected a quotient that float32 holds")
    y = np.empty(sums.shape, zero.dtype)
    if scale.shape[-2] == 1 and scale.size == scale.shape[-1] and sums.size:
        n = sums.shape[-1]
        kernel = dispatch.requantize_s8 if y.dtype == INT8 else dispatch.requantize_u8
        kernel(sums.reshape(-1, n), contiguous(np.broadcast_to(scale.reshape(-1), (n,))),
               np.full(n, zero.flat[0], np.int32), y.reshape(-1, n))
        return y.reshape(shape)
    with np.errstate(over="ignore", under="ignore"):
        r = np.clip(np.rint(sums.astype(np.float32) * scale), -FAR, FAR).astype(np.int32)
    y[...] = np.clip(r + np.int32(zero.flat[0]), *LIMITS[zero.dtype.name])
    return y.reshape(shape)


# -- types
def _array(a: Any, name: str, allowed: tuple[str, ...]) -> NDArray[Any]:
    """An array, or a NumPy scalar as one, of one of these types."""
    array = a if type(a) is np.ndarray else plain(a, name, " or ".join(allowed))
    if array.dtype.name not in allowed or not array.dtype.isnative:
        raise TypeError(f"{name} has dtype {called(array.dtype)}, expected {' or '.join(allowed)}")
    return array


def _float(dtype: Any, what: str) -> np.dtype[Any]:
    name = dtype_name(dtype, what, FLOATS)
    return bfloat16() if name == "bfloat16" else np.dtype(name)


def _output(
    zero_point: Any, output_dtype: Any, shape: tuple[int, ...]
) -> tuple[str, np.dtype[Any], NDArray[np.int32] | None]:
    """Integer type of the result, the dtype that holds it, and its zero points; None where all are 0."""
    asked = None if output_dtype is None else dtype_name(output_dtype, "output_dtype", LIMITS)
    if zero_point is None:
        kind = asked or "uint8"
        if asked is None or not isinstance(output_dtype, str):
            return kind, np.dtype(output_dtype or np.uint8), None
        return kind, np.dtype(kind if kind[-1] not in "24" else kind[:-1] + "8"), None
    zero = _array(zero_point, "y_zero_point", tuple(LIMITS))
    kind, dtype = asked or zero.dtype.name, zero.dtype
    if kind not in (dtype.name, dtype.name.replace("int8", "int4"), dtype.name.replace("int8", "int2")):
        raise ValueError(f"output_dtype is {kind!r}, but y_zero_point has dtype {dtype.name}")
    _same_shape(zero.shape, "y_zero_point", shape, "y_scale")
    zero = zero.astype(np.int32)
    low, high = LIMITS[kind]
    if (outside := zero[(zero < low) | (zero > high)]).size:
        raise ValueError(f"y_zero_point holds {outside.flat[0]}, expected {low} to {high} ({kind})")
    return kind, dtype, zero if zero.any() else None


def _positive(scale: NDArray[Any], name: str) -> None:
    wide = scale.astype(np.float32)
    if (bad := wide[~(np.isfinite(wide) & (wide > 0))]).size:
        raise ValueError(f"{name} holds {bad.flat[0]}, expected finite numbers above 0")


def _narrowed(scale: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Scales of another type, which they stay finite and above 0 in."""
    with np.errstate(over="ignore", under="ignore"):
        narrow = scale.astype(dtype)
    wide = narrow.astype(np.float32)
    if (bad := scale[~(np.isfinite(wide) & (wide > 0))]).size:
        raise ValueError(f"{name} holds {bad.flat[0]!s}, which {dtype.name} does not hold")
    return narrow


def _same_shape(shape: tuple[int, ...], name: str, other: tuple[int, ...], other_name: str) -> None:
    if shape != other and {shape, other} != {(), (1,)}:
        raise ValueError(f"{name} has shape {shape}, but {other_name} has {other}")


# -- scales of a tensor, an axis or blocks
class _Spread:
    """How scales of a shape lie against x."""

    def __init__(self, scales: tuple[int, ...], name: str, shape: tuple[int, ...], axis: Any, block_size: Any) -> None:
        self.block = integer(block_size, "block_size", 0, LARGEST)
        axis = integer(axis, "axis", -LARGEST - 1, LARGEST)  # unused with one scale, where the default may lie beyond x
        self.shape = shape
        self.parts: Layout | None = None
        """For the kernels; None where the last block is shorter."""
        if scales in ((), (1,)):
            self.axis = None
            self.parts = layout(shape, None, None)
            return
        if not shape:
            raise ValueError(f"{name} has shape {scales}, but x has no dimensions")
        self.axis = integer(axis, "axis", -len(shape), len(shape) - 1) % len(shape)
        length = shape[self.axis]
        expected: tuple[int, ...] = (length,)
        if self.block:
            self.block = min(self.block, max(length, 1))  # a longer one is not to take memory
            expected = (*shape[: self.axis], -(-length // self.block), *shape[self.axis + 1 :])
        if scales != expected:
            raise ValueError(f"{name} has shape {scales}, expected (), (1,) or {expected}")
        if not self.block or length % self.block == 0:
            self.parts = layout(shape, self.axis, self.block or None)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values that broadcast against x."""
        if self.axis is None:
            return values.reshape(())
        if not self.block:
            return values.reshape([-1 if i == self.axis else 1 for i in range(len(self.shape))])
        repeated = np.repeat(values, self.block, axis=self.axis)
        return repeated[(slice(None),) * self.axis + (slice(self.shape[self.axis]),)]


# -- products
def _of_rows(values: NDArray[Any] | None, name: str, a: NDArray[Any]) -> NDArray[Any] | None:
    """Values (..., M, 1), (M,) or one of them as an array that broadcasts to (..., M)."""
    if values is None:
        return None
    if values.size == 1:
        return values.reshape(1)
    if values.ndim > 1 and values.shape[-1] != 1:
        raise ValueError(f"{name} has shape {values.shape}, expected one element in the last dimension")
    return _against(values if values.ndim == 1 else values[..., 0], name, a.shape[:-1])


def _of_columns(values: NDArray[Any] | None, name: str, b: NDArray[Any]) -> NDArray[Any] | None:
    """Values (..., 1, N), (N,) or one of them as an array that broadcasts to (..., N)."""
    if values is None:
        return None
    if values.size == 1:
        return values.reshape(1)
    if values.ndim > 1 and values.shape[-2] != 1:
        raise ValueError(f"{name} has shape {values.shape}, expected one element in the last dimension but one")
    return _against(values if values.ndim == 1 else values[..., 0, :], name, (*b.shape[:-2], b.shape[-1]))


def _against(values: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        fits = np.broadcast_shapes(values.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} has {values.shape} rows or columns, expected {shape}")
    return values


def _product(
    a: NDArray[Any], b: NDArray[Any], a_zero: NDArray[Any] | None, b_zero: NDArray[Any] | None
) -> NDArray[np.int32]:
    """Exact products of stacks of matrices."""
    none = np.zeros(1, np.int32)
    y = np.empty((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), np.int32)
    fill_stacks(a, b, none if a_zero is None else a_zero, none if b_zero is None else b_zero, y)
    return y
