"""Exact products of 8-bit codes, and their weights laid out ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, aligned, as_array, delivered, integer, result, rows
from pycomp.dense import LANES
from pycomp.kernels import dispatch

from .tensor import INT8, INT32, UINT8, QuantizedTensor, as_zero_point, check_scale, check_zero_point, codes

GROUP = 4


@dataclass(frozen=True, eq=False)
class PackedInt8Matrix:
    """Weights of 8-bit codes laid out for products; made by :func:`pack`.

    Attributes
    ----------
    data : array of int8, shape (ceil(N / 16), ceil(K / 4), 16, 4)
        ``data[s, g, j, i]`` is the code from input ``4*g + i`` to output ``16*s + j``; zero past the last input and
        output. The layout does not depend on the machine.
    column_sums : array of int32, shape (N,)
        Sum of each output's codes, modulo 2³².
    scale : array of float32, shape (N,)
    zero_point : array of int32, shape (N,), or None
        None where all are 0.
    in_features : int
        K.
    """

    data: NDArray[np.int8]
    column_sums: NDArray[np.int32]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32] | None
    in_features: int

    def __post_init__(self) -> None:
        as_array(self.data, "data", INT8, 4)
        k = integer(self.in_features, "in_features", 0)
        n = as_array(self.column_sums, "column_sums", INT32, 1).shape[0]
        expected = (-(-n // LANES), -(-k // GROUP), LANES, GROUP)
        if self.data.shape != expected or not self.data.flags.c_contiguous:
            raise ValueError(f"data has shape {self.data.shape}, expected {expected} in C order")
        _vector(self.column_sums, "column_sums", n, INT32)
        check_scale(_vector(self.scale, "scale", n, FLOAT32), "scale")
        if self.zero_point is not None:
            check_zero_point(_vector(self.zero_point, "zero_point", n, INT32), "zero_point", INT8)

    @property
    def out_features(self) -> int:
        return len(self.column_sums)

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``, as the matrix that was packed."""
        return self.out_features, self.in_features

    @property
    def nbytes(self) -> int:
        zero = 0 if self.zero_point is None else self.zero_point.nbytes
        return self.data.nbytes + self.column_sums.nbytes + self.scale.nbytes + zero

    def unpack(self) -> NDArray[np.int8]:
        """The codes again, int8, shape (out_features, in_features)."""
        slices, groups = self.data.shape[:2]
        columns = self.data.transpose(0, 2, 1, 3).reshape(slices * LANES, groups * GROUP)
        return np.ascontiguousarray(columns[: self.out_features, : self.in_features])


def _vector(a: Any, name: str, length: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if as_array(a, name, dtype, 1).shape[0] != length or not a.flags.c_contiguous:
        raise ValueError(f"{name} has shape {a.shape}, expected ({length},), contiguous")
    return a  # type: ignore[no-any-return]


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

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.quantization import quantize
    >>> packed = pack(quantize(np.eye(3, dtype=np.float32), axis=0))
    >>> packed.data.shape, packed.shape
    ((1, 1, 16, 4), (3, 3))
    """
    if not isinstance(q, QuantizedTensor):
        data = codes(q, "q", 2)
        q = QuantizedTensor(data, np.ones((), np.float32), np.zeros((), np.int32))
    if q.group_size is not None:
        raise ValueError(f"q has group_size {q.group_size}, expected one scale for the tensor or one an output")
    if q.data.ndim != 2 or q.axis not in (None, 0):
        raise ValueError(f"q has shape {q.data.shape} and axis {q.axis}, expected two dimensions and axis None or 0")
    n, k = q.data.shape
    scale = np.ascontiguousarray(np.broadcast_to(q.scale, (n,)))
    zero = np.ascontiguousarray(np.broadcast_to(q.zero_point, (n,)))
    data, sums, shift = _pack_columns(q.data.T)
    zero = zero - np.int32(shift)
    return PackedInt8Matrix(data, sums, scale, zero if zero.any() else None, k)


def _pack_columns(w: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.int32], int]:
    """The layout of [K, N] codes, their sums, and by how much the codes moved down to be signed."""
    shift = 0
    if w.dtype == UINT8:
        w, shift = (w ^ np.uint8(128)).view(np.int8), 128
    k, n = w.shape
    data, sums = aligned((-(-n // LANES), -(-k // GROUP), LANES, GROUP), INT8), np.empty(n, np.int32)
    dispatch.pack_s8(w, data, sums)
    return data, sums, shift


def matmul_int8(
    a: Any, b: Any, *, a_zero_point: Any = 0, b_zero_point: Any = 0, out: Any = None
) -> NDArray[np.int32]:
    """Exact product of 8-bit codes: ``(a - a_zero_point) @ (b - b_zero_point)``, as int32.

    Parameters
    ----------
    a : array of int8 or uint8, shape (M, K)
    b : array of int8 or uint8, shape (K, N), or PackedInt8Matrix of shape (N, K)
        An array is packed on every call. A packed matrix stands for its transpose and brings its own zero points;
        its scales are not applied.
    a_zero_point : integer or array of integers, shape (M,)
        In the range of ``a``'s dtype.
    b_zero_point : integer or array of integers, shape (N,)
        In the range of ``b``'s dtype.
    out : array of int32, shape (M, N), optional
        Any strides, though other than contiguous rows cost a copy.

    Returns
    -------
    array of int32, shape (M, N)

    Raises
    ------
    TypeError
        If a dtype is not as above.
    ValueError
        If shapes do not fit, a zero point is out of range, or ``out`` cannot take the result.
    OverflowError
        If an exact result is outside int32, which takes K above 33025. ``out`` is then undefined.

    Notes
    -----
    Exact on every machine: no saturation of partial sums. Workspace: ``b`` packed, N rounded up to 16, K to 4.

    Examples
    --------
    >>> import numpy as np
    >>> matmul_int8(np.array([[255, 1]], np.uint8), np.array([[-128], [3]], np.int8))
    array([[-32637]], dtype=int32)
    """
    a = rows(codes(a, "a", 2))
    packed = b if isinstance(b, PackedInt8Matrix) else None
    k, n = (packed.in_features, packed.out_features) if packed else codes(b, "b", 2).shape
    if a.shape[1] != k:
        raise ValueError(f"a has {a.shape[1]} columns, b has {k} rows")
    a_zero = _zero_points(a_zero_point, "a_zero_point", a.shape[0], a.dtype, 0)
    if packed:
        if np.any(b_zero_point):
            raise ValueError("b_zero_point is given, but b is packed and has its own")
        y = result(out, (a.shape[0], n), INT32, (a, packed.data, packed.column_sums))
        data, sums, b_zero = packed.data, packed.column_sums, packed.zero_point
    else:
        b = codes(b, "b", 2)
        y = result(out, (a.shape[0], n), INT32, (a, b))
        data, sums, shift = _pack_columns(b)
        b_zero = _zero_points(b_zero_point, "b_zero_point", n, b.dtype, shift)
    kernel = dispatch.gemm_s8s8 if a.dtype == INT8 else dispatch.gemm_u8s8
    kernel(a, data, sums, a_zero, b_zero, y)
    return delivered(y, out)


def _zero_points(value: Any, name: str, length: int, dtype: np.dtype[Any], shift: int) -> NDArray[np.int32] | None:
    """Zero points less a shift; None where all are 0."""
    if type(value) is int and value == shift:
        return None
    zero = as_zero_point(value, name, length, dtype) - np.int32(shift)
    return zero if zero.any() else None
