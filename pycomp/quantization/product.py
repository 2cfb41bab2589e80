"""Exact products of 8-bit codes, and their weights laid out ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._holder import ArrayHolder
from pycomp._validate import (
    FLOAT32,
    INT32,
    aligned,
    contiguous,
    delivered,
    given,
    integer,
    result,
    rows,
    sum_dtype,
)
from pycomp.dense import LANES
from pycomp.kernels import dispatch

from .tensor import (
    INT8,
    UINT8,
    QuantizedTensor,
    as_integers,
    as_zero_point,
    check_scale,
    check_zero_point,
    codes,
    held,
)

GROUP, BESIDE = 4, 3
Zeros = NDArray[np.int32] | None
SAFE = 33025
"""Products whose sum int32 always holds: 255²·33025 < 2³¹."""
BLOCK = SAFE // GROUP * GROUP
SMALL = 8192
"""Products of two numbers in a matrix of a stack up to which NumPy takes less time than the call of a kernel. The sums
are SAFE."""


@dataclass(frozen=True, eq=False)
class PackedInt8Matrix(ArrayHolder):
    """Weights of 8-bit codes laid out for products; made by :func:`pack`.

    Its arrays are read-only: what can be written to is copied. An array that owns its memory and is already read-only
    is taken as it is, so no view of it that can be written to may have been made before.

    Attributes
    ----------
    data : array of int8, shape (ceil(N / 48), ceil(K / 4), 3, 16, 4)
        ``data[p, g, s, j, i]`` is the code from input ``4*g + i`` to output ``48*p + 16*s + j``; zero past the last
        input and output. The layout does not depend on the machine.
    column_sums : array of int32, shape (N,)
        Sum of each output's codes, modulo 2³².
    scale : array of float32, shape (N,)
    zero_point : array of int32, shape (N,), or None
        None where all are 0.
    in_features : int
        K.

    Raises
    ------
    TypeError
        If an array has another dtype, or ``in_features`` is no integer.
    ValueError
        If shapes do not fit, a code past the last input or output is not 0, a scale is not finite or below 2⁻¹²⁶, a
        zero point is out of range, or a sum is not that of its codes.

    Examples
    --------
    >>> import numpy as np
    >>> packed = pack(np.array([[1, 2, 3], [4, 5, 6]], np.int8))
    >>> packed.column_sums, packed.zero_point, packed.nbytes
    (array([ 6, 15], dtype=int32), None, 208)
    >>> matmul_int8(np.ones((1, 3), np.int8), packed)
    array([[ 6, 15]], dtype=int32)
    """

    data: NDArray[np.int8]
    column_sums: NDArray[np.int32]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32] | None
    in_features: int

    _arrays = ("data", "column_sums", "scale", "zero_point")

    def __post_init__(self) -> None:
        held(self, "data", INT8, 5)
        k = integer(self.in_features, "in_features", 0)
        n = held(self, "column_sums", INT32, 1).shape[0]
        expected = _packed_shape(k, n)
        if self.data.shape != expected:
            raise ValueError(f"data has shape {self.data.shape}, expected {expected}")
        check_scale(held(self, "scale", FLOAT32, 1), "scale")
        if self.zero_point is not None:
            check_zero_point(held(self, "zero_point", INT32, 1), "zero_point", INT8)
        for name in ("scale", "zero_point"):
            a = getattr(self, name)
            if a is not None and len(a) != n:
                raise ValueError(f"{name} has shape {a.shape}, expected ({n},)")
        _check_padding(self.data, k, n)
        sums = self.data.sum(axis=(1, 4), dtype=np.int32).reshape(-1)[:n]
        if (wrong := np.flatnonzero(sums != self.column_sums)).size:
            at = wrong[0]
            raise ValueError(f"column_sums[{at}] is {self.column_sums[at]}, expected the sum of its codes {sums[at]}")

    @property
    def out_features(self) -> int:
        """N."""
        return len(self.__dict__["column_sums"])

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``, as the matrix that was packed."""
        return self.out_features, self.in_features

    def unpack(self) -> NDArray[np.int8]:
        """The codes again, int8, shape (out_features, in_features).

        Examples
        --------
        >>> import numpy as np
        >>> pack(np.array([[1, -2], [3, 4]], np.int8)).unpack()
        array([[ 1, -2],
               [ 3,  4]], dtype=int8)
        """
        strips, groups = self.data.shape[:2]
        columns = self.data.transpose(0, 2, 3, 1, 4).reshape(strips * BESIDE * LANES, groups * GROUP)
        return np.ascontiguousarray(columns[: self.out_features, : self.in_features])


def pack(q: Any) -> PackedInt8Matrix:
    """Lay out quantized weights once, for many products.

    Parameters
    ----------
    q : QuantizedTensor or array of int8 or uint8, shape (N, K)
        Weights as frameworks store them: one row an output. One scale for the tensor or one an output (``axis=0``); an
        array has scale 1 and zero point 0. Unsigned codes and their zero points move down by 128.

    Returns
    -------
    PackedInt8Matrix

    Raises
    ------
    TypeError
        If ``q`` is something else.
    ValueError
        If it does not have two dimensions, or has a scale for each input or for each group of them.

    Notes
    -----
    Products are exact whatever the weights. On CPUs whose best level is AVX2, those of 16 rows or more take a tenth
    less time (``python -m benchmarks matmul_7_bits gemm_u8s8``) where int8 weights are from -64 to 63, as
    :func:`quantize` makes them if ``scale`` is the largest magnitude of a row over 63.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.quantization import quantize
    >>> packed = pack(quantize(np.eye(3, dtype=np.float32), axis=0))
    >>> packed.data.shape, packed.shape
    ((1, 1, 3, 16, 4), (3, 3))
    """
    return pack_named(q, "q")


def pack_named(q: Any, name: str) -> PackedInt8Matrix:
    """:func:`pack` of what the caller knows by another name."""
    if not isinstance(q, QuantizedTensor):
        data = codes(q, name, 2)
        q = QuantizedTensor(data, np.ones((), np.float32), np.zeros((), np.int32))
    if q.group_size is not None:
        raise ValueError(f"{name} has group_size {q.group_size}, expected one scale for the tensor or one an output")
    if q.data.ndim != 2 or q.axis not in (None, 0):
        raise ValueError(f"{name} has shape {q.data.shape} and axis {q.axis}, "
                         "expected two dimensions and axis None or 0")
    n, k = q.data.shape
    scale = np.broadcast_to(q.scale, (n,)).copy()  # not q's own
    zero = np.ascontiguousarray(np.broadcast_to(q.zero_point, (n,)))
    signed = q.data
    if signed.dtype == UINT8:
        signed, zero = (signed ^ np.uint8(128)).view(INT8), zero - np.int32(128)
    data, sums = aligned(_packed_shape(k, n), INT8), np.empty(n, np.int32)
    dispatch.pack_s8(signed.T, data, sums)
    packed = object.__new__(PackedInt8Matrix)  # of arrays that are good: to check them would take longer than to pack
    packed._fill(data=given(data), column_sums=given(sums), scale=given(scale),
                 zero_point=given(zero) if zero.any() else None, in_features=k)
    return packed


def _check_padding(data: NDArray[np.int8], k: int, n: int) -> None:
    """Codes past the last input are multiplied too: a signed x is moved by 128, and so are its zeros there."""
    past_inputs = data[:, -1:, :, :, k % GROUP :] if k % GROUP else data[:0]
    outputs = data[-1:].transpose(0, 2, 3, 1, 4).reshape(len(data[-1:]) * BESIDE * LANES, data.shape[1] * GROUP)
    past_outputs = outputs[n % (BESIDE * LANES) :] if n % (BESIDE * LANES) else outputs[:0]
    for past, of in ((past_inputs, f"{k} inputs"), (past_outputs, f"{n} outputs")):
        if past.any():
            raise ValueError(f"data holds {past[past != 0][0]} past the last of {of}, expected 0")


def _packed_shape(k: int, n: int) -> tuple[int, ...]:
    return -(-n // (BESIDE * LANES)), -(-k // GROUP), BESIDE, LANES, GROUP


def matmul_int8(
    a: Any, b: Any, *, a_zero_point: Any = 0, b_zero_point: Any = 0, dtype: Any = None, out: Any = None
) -> NDArray[Any]:
    """Exact product of 8-bit codes: ``(a - a_zero_point) @ (b - b_zero_point)``, as int32 or int64.

    Parameters
    ----------
    a : array of int8 or uint8, shape (..., M, K) or (K,)
    b : array of int8 or uint8, shape (..., K, N) or (K,), or PackedInt8Matrix of shape (N, K)
        Vectors and stacks of matrices are taken as NumPy's ``@`` takes them. ``b`` is read at any strides, ``a`` is
        copied where its rows are not contiguous. A packed matrix stands for its transpose and brings its own zero
        points; its scales are not applied.
    a_zero_point : integer or, where ``a`` is a matrix, array of integers, shape (M,)
        In the range of ``a``'s dtype.
    b_zero_point : integer or, where ``b`` is a matrix, array of integers, shape (N,)
        In the range of ``b``'s dtype.
    dtype : np.int32 or np.int64, optional
        Of the result, also by name; by default that of ``out``, or int32. int64 holds the sums of any K.
    out : array of int32 or int64, the shape of the result, optional
        Any strides, though other than contiguous rows cost a copy, and of stacks other than C order; and so do int32
        sums that may overflow.

    Returns
    -------
    array of int32 or int64, shape (..., M, N)
        Without M where ``a`` is a vector, without N where ``b`` is.

    Raises
    ------
    TypeError
        If an array's dtype is not as above, or ``dtype`` is no dtype.
    ValueError
        If shapes do not fit, a zero point is out of range, ``dtype`` is another, or ``out`` cannot take the result.
    OverflowError
        If an exact result is outside int32, which takes K above 33025, and the dtype is int32. ``out`` is then as it
        was.
    MemoryError
        If the workspace is not to be had. ``out`` is then unspecified.

    Notes
    -----
    Exact on every machine: no saturation of partial sums. int64 results are sums over at most 33024 inputs, which are
    exact in int32, added in int64. Workspace: at most 1.7 MB a thread, of many rows where AVX2 is the best level 17 MB,
    and, where K is above 33025, 48 bytes an input a thread; for int64, (M, N) of int32 and of a packed ``b`` a copy of
    so many inputs, where it has more; for stacks of matrices with ``M·K·N`` of at most 8192, which NumPy multiplies, 4
    bytes an element of ``a`` and ``b``.

    Examples
    --------
    >>> import numpy as np
    >>> matmul_int8(np.array([[255, 1]], np.uint8), np.array([[-128], [3]], np.int8))
    array([[-32637]], dtype=int32)
    >>> matmul_int8(np.full((1, 50000), 255, np.uint8), np.full((50000, 1), 255, np.uint8), dtype=np.int64)
    array([[3251250000]])
    >>> matmul_int8(np.ones((5, 2, 3), np.int8), np.ones(3, np.int8)).shape
    (5, 2)
    """
    a = codes(a, "a")
    packed = b if isinstance(b, PackedInt8Matrix) else None
    if not packed:
        b = codes(b, "b")
    if a.ndim != 2 or not (packed or b.ndim == 2):
        return _matmul_stacks(a, b, a_zero_point, b_zero_point, sum_dtype(dtype, out), out)
    k, n = (packed.in_features, packed.out_features) if packed else b.shape
    if a.shape[1] != k:
        raise ValueError(f"a has {a.shape[1]} columns, b has {k} rows")
    a_zero = _zero_points(a_zero_point, "a_zero_point", a.shape[0], a.dtype)
    if not packed:
        b_zero = _zero_points(b_zero_point, "b_zero_point", n, b.dtype)
    elif not _is_zero(b_zero_point) and as_integers(b_zero_point, "b_zero_point", n, -128, 255).any():
        raise ValueError("b_zero_point is given, but b is packed and has its own")
    else:
        b_zero = packed._held()[-1]
    dtype = sum_dtype(dtype, out)
    y = result(out, (a.shape[0], n), dtype, (a, a_zero_point, b, b_zero_point), late=_may_overflow(k, dtype))
    _fill_sums(a, b, a_zero, b_zero, y)
    return delivered(y, out)


def _fill_sums(a: NDArray[Any], b: Any, a_zero: Zeros, b_zero: Zeros, y: NDArray[Any]) -> None:
    """The product of two matrices; zero points as kernels take them."""
    if y.itemsize == 8:
        fill_long_sums(a, b, a_zero, b_zero, y)
        return
    k = a.shape[1]
    try:
        _multiply(a, b, 0, k, a_zero, b_zero, y)
    except OverflowError:
        raise OverflowError(f"a sum of K = {k} products is outside int32, which K of at most 33025 never is; "
                            "ask matmul_int8 for dtype=np.int64") from None


def fill_long_sums(a: NDArray[Any], b: Any, a_zero: Zeros, b_zero: Zeros, y: NDArray[np.int64]) -> None:
    """The sums of any K in int64: over so many inputs at a time that int32 holds them."""
    if y.size == 0:
        return
    y[...] = 0
    sums = np.empty(y.shape, INT32)
    for first in range(0, a.shape[1], BLOCK):
        last = min(first + BLOCK, a.shape[1])
        _multiply(a[:, first:last], b, first, last, a_zero, b_zero, sums)
        y += sums


def _multiply(
    a: NDArray[Any], b: Any, first: int, last: int, a_zero: Zeros, b_zero: Zeros, y: NDArray[np.int32]
) -> None:
    """y = a @ b[first:last], where the first is a multiple of 4."""
    left = "s8" if a.dtype == INT8 else "u8"
    if isinstance(b, PackedInt8Matrix):
        getattr(dispatch, f"gemm_{left}s8")(rows(a), *_part(b, first, last), a_zero, b_zero, y)  # gemm_u8s8, gemm_s8s8
    else:
        right = "s8" if b.dtype == INT8 else "u8"
        kernel = getattr(dispatch, f"matmul_{left}{right}")  # matmul_u8s8, matmul_s8s8, matmul_u8u8, matmul_s8u8
        kernel(rows(a), b[first:last], a_zero, b_zero, y)


# -- vectors and stacks
def _matmul_stacks(
    a: NDArray[Any], b: Any, a_zero_point: Any, b_zero_point: Any, dtype: np.dtype[Any], out: Any
) -> NDArray[Any]:
    """:func:`matmul_int8` of other than two matrices."""
    if isinstance(b, PackedInt8Matrix):
        if not a.ndim:
            raise ValueError("a has shape (), expected one dimension at least")
        matrix, shape = a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), (*a.shape[:-1], b.out_features)
        y = None if out is None else result(out, shape, dtype, (a, a_zero_point, b), whole=True)
        a_zero = as_zero_point(a_zero_point, "a_zero_point", None, a.dtype)
        made = matmul_int8(matrix, b, a_zero_point=a_zero, b_zero_point=b_zero_point, dtype=dtype,
                           out=None if y is None else y.reshape(len(matrix), b.out_features))
        return made.reshape(shape) if y is None else delivered(y, out)
    left, right, shape = matrices(a, b)
    a_zero = as_zero_point(a_zero_point, "a_zero_point", a.shape[0] if a.ndim == 2 else None, a.dtype)
    b_zero = as_zero_point(b_zero_point, "b_zero_point", b.shape[1] if b.ndim == 2 else None, b.dtype)
    y = result(out, shape, dtype, (a, b, a_zero_point, b_zero_point), whole=True,
               late=_may_overflow(a.shape[-1], dtype))
    fill_stacks(left, right, a_zero, b_zero, y)
    return delivered(y, out)


def matrices(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[int, ...]]:
    """Both with two dimensions at least, and the shape of their product by the rules of numpy.matmul."""
    if not a.ndim or not b.ndim:
        raise ValueError(f"a has shape {a.shape} and b has {b.shape}, expected one dimension at least")
    left, right = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"a has {left.shape[-1]} columns, b has {right.shape[-2]} rows")
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        raise ValueError(f"a has shape {a.shape} and b has {b.shape}, which do not broadcast") from None
    height = () if a.ndim == 1 else (left.shape[-2],)
    width = () if b.ndim == 1 else (right.shape[-1],)
    return left, right, (*batch, *height, *width)


def fill_stacks(
    a: NDArray[Any], b: NDArray[Any], a_zero: NDArray[Any], b_zero: NDArray[Any], y: NDArray[Any]
) -> None:
    """Exact products of stacks of matrices in y, in C order; zero points broadcast to (..., M) and (..., N)."""
    if y.size == 0:
        return
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    a_zero = np.broadcast_to(a_zero.astype(np.int32), a.shape[:-1])
    b_zero = np.broadcast_to(b_zero.astype(np.int32), (*b.shape[:-2], n))
    if all(d == 1 for d in b.shape[:-2]):  # one b for all: the rows of a are one matrix
        height = math.prod(a.shape[:-1])
        _fill_sums(a.reshape(height, k), b.reshape(k, n), _zeros(a_zero), _zeros(b_zero), y.reshape(height, n))
        return
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = y.reshape(*batch, m, n)
    if m * k * n <= SMALL:
        np.matmul(a - a_zero[..., None], b - b_zero[..., None, :], out=y)
        return
    left, right = np.broadcast_to(a, (*batch, m, k)), np.broadcast_to(b, (*batch, k, n))
    of_rows, of_columns = np.broadcast_to(a_zero, (*batch, m)), np.broadcast_to(b_zero, (*batch, n))
    for i in np.ndindex(*batch):
        _fill_sums(left[i], right[i], _zeros(of_rows[i]), _zeros(of_columns[i]), y[i])


def _may_overflow(k: int, dtype: np.dtype[Any]) -> bool:
    return k > SAFE and dtype == INT32


def _part(b: PackedInt8Matrix, first: int, last: int) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """The layout of the codes from some inputs, ``first`` a multiple of 4, and their sums."""
    data, sums, *_ = b._held()
    if last - first == b.in_features:
        return data, sums
    data = np.ascontiguousarray(data[:, first // GROUP : -(-last // GROUP)])
    sums = data.sum(axis=(1, 4), dtype=np.int32).reshape(-1)
    return data, np.ascontiguousarray(sums[: b.out_features])


def _is_zero(value: Any) -> bool:
    """What needs no array to be told."""
    return type(value) is int and value == 0


def _zero_points(value: Any, name: str, length: int, dtype: np.dtype[Any]) -> Zeros:
    """Zero points; None where all are 0."""
    return None if _is_zero(value) else _zeros(as_zero_point(value, name, length, dtype))


def _zeros(zero: NDArray[np.int32]) -> Zeros:
    """Zero points as a vector, None where all are 0."""
    return contiguous(zero.reshape(-1)) if zero.any() else None
