"""Dense float32 products with the same bits whatever the batch, the threads and the machine.

Each output is one chain, ``acc = fma(x[k], w[k], acc)`` for k ascending from +0, then the bias, then the activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch

from ._holder import ArrayHolder
from ._validate import (
    ANY_NDIM,
    BATCH_NDIM,
    FLOAT32,
    activation_code,
    aligned,
    as_array,
    as_matrix,
    contiguous,
    delivered,
    integer,
    optional_vector,
    result,
    rows,
)

__all__ = ["PackedMatrix", "activate", "linear", "matmul", "pack"]

LANES = 16


@dataclass(frozen=True, eq=False)
class PackedMatrix(ArrayHolder):
    """A weight matrix laid out for :func:`linear`; made by :func:`pack`.

    Attributes
    ----------
    data : array of float32, shape (ceil(N / 16), K, 16)
        ``data[s, k, j]`` is the weight from input k to output ``16*s + j``; zero past the last output. The layout does
        not depend on the machine.
    out_features : int
        N.

    Raises
    ------
    TypeError
        If ``data`` is not a float32 array, or ``out_features`` not an integer.
    ValueError
        If ``data`` has another shape or is not in C order, or ``out_features`` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> packed = pack(np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    >>> packed.shape, packed.data.shape
    ((3, 2), (1, 2, 16))
    >>> packed.unpack()
    array([[1., 2.],
           [3., 4.],
           [5., 6.]], dtype=float32)
    """

    data: NDArray[np.float32]
    out_features: int

    _arrays = ("data",)

    def __post_init__(self) -> None:
        data = as_array(self.data, "data", FLOAT32, 3)
        slices = -(-integer(self.out_features, "out_features", 0) // LANES)
        if data.shape[0] != slices or data.shape[2] != LANES or not data.flags.c_contiguous:
            raise ValueError(f"data has shape {data.shape}, expected ({slices}, K, {LANES}) in C order")
        object.__setattr__(self, "data", data)

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``, as the matrix that was packed."""
        return self.out_features, self.data.shape[1]

    def unpack(self) -> NDArray[np.float32]:
        """The weights again, shape (out_features, in_features)."""
        slices, k, _ = self.data.shape
        columns = self.data.transpose(0, 2, 1).reshape(slices * LANES, k)
        return np.ascontiguousarray(columns[: self.out_features])


def pack(w: Any) -> PackedMatrix:
    """Lay out weights once, for many calls of :func:`linear`.

    Parameters
    ----------
    w : array of float32, shape (N, K)
        Weights as frameworks store them: one row an output. Any strides.

    Returns
    -------
    PackedMatrix

    Raises
    ------
    TypeError
        If ``w`` is not a float32 array.
    ValueError
        If ``w`` does not have two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> packed = pack(np.eye(3, dtype=np.float32))
    >>> packed.data.shape, packed.shape
    ((1, 3, 16), (3, 3))
    """
    w = as_array(w, "w", FLOAT32, 2)
    return PackedMatrix(panels(w.T), w.shape[0])


def panels(w: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns of ``w`` [K, N] as kernels read them: [ceil(N / 16), K, 16]."""
    k, n = w.shape
    if not w.flags.aligned:
        w = w.copy()
    packed = aligned((-(-n // LANES), k, LANES), FLOAT32)
    dispatch.pack_f32(w, packed)
    return packed


def linear(x: Any, w: Any, bias: Any = None, *, activation: str | None = None, out: Any = None) -> NDArray[np.float32]:
    """Product of rows with a weight matrix: ``y = activation(x @ w.T + bias)``.

    Parameters
    ----------
    x : array of float32, shape (..., K)
        Rows may be any distance apart; other strides cost a copy.
    w : PackedMatrix or array of float32, shape (N, K)
        An array is packed on every call: :func:`pack` it once where it is used again.
    bias : array of float32, shape (N,), optional
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
        As :func:`activate` computes it.
    out : array of float32, shape (..., N), optional
        Takes the result; any strides, though other than contiguous rows, and of more than two dimensions other than C
        order, cost a copy. May not overlap an input.

    Returns
    -------
    array of float32, shape (..., N)

    Raises
    ------
    TypeError
        If an array is not float32 in native byte order.
    ValueError
        If shapes do not fit, the activation is unknown, or ``out`` cannot take the result.

    Notes
    -----
    Bound: ``|y - exact| <= γ(K)·Σ|x||w| + u·|y|`` with ``u = 2⁻²⁴`` and ``γ(n) = n·u/(1 - n·u)`` (Higham, *Accuracy
    and Stability of Numerical Algorithms*, 2002, §3.1); through gelu or silu 1.13 times that and 1 ulp. Row i of a
    batch has the bits of row i alone. K = 0 gives ``activation(bias)``. Workspace: at most 0.6 MB a thread.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2]], np.float32)
    >>> w = np.array([[3, 4], [-5, -6]], np.float32)
    >>> linear(x, w, activation="relu")
    array([[11.,  0.]], dtype=float32)
    """
    packed = w if type(w) is PackedMatrix else pack(w)
    x = as_array(x, "x", FLOAT32, BATCH_NDIM)
    (data,), n = packed._held(), packed.out_features
    if x.shape[-1] != data.shape[1]:
        raise ValueError(f"x has {x.shape[-1]} columns, w has {data.shape[1]}")
    vector = optional_vector(bias, "bias", n)
    code = activation_code(activation)
    y = result(out, (*x.shape[:-1], n), FLOAT32, (x, data if packed is w else w, bias))
    dispatch.gemm_f32(rows(as_matrix(x)), data, vector, code, as_matrix(y))
    return delivered(y, out)


def matmul(a: Any, b: Any, *, out: Any = None) -> NDArray[np.float32]:
    """Matrix product ``a @ b`` by the chain of :func:`linear`.

    Parameters
    ----------
    a : array of float32, shape (M, K)
    b : array of float32, shape (K, N)
        Any strides, so ``b.T`` costs nothing extra.
    out : array of float32, shape (M, N), optional

    Returns
    -------
    array of float32, shape (M, N)

    Raises
    ------
    TypeError
        If an array is not float32 in native byte order.
    ValueError
        If shapes do not fit or ``out`` cannot take the result.

    Notes
    -----
    Bound as for :func:`linear`. Workspace: ``b`` packed, N rounded up to 16.

    Examples
    --------
    >>> import numpy as np
    >>> matmul(np.array([[1, 2]], np.float32), np.array([[3], [4]], np.float32))
    array([[11.]], dtype=float32)
    """
    a = as_array(a, "a", FLOAT32, 2)
    b = as_array(b, "b", FLOAT32, 2)
    if a.shape[1] != b.shape[0]:
        raise ValueError(f"a has {a.shape[1]} columns, b has {b.shape[0]} rows")
    y = result(out, (a.shape[0], b.shape[1]), FLOAT32, (a, b))
    dispatch.gemm_f32(rows(a), panels(b), None, 0, y)
    return delivered(y, out)


def activate(x: Any, activation: str | None, *, out: Any = None) -> NDArray[np.float32]:
    """An activation alone, with the bits that a product fused with it gives.

    relu is ``max(x, 0)``; gelu ``x·Φ(x)``, Φ the normal distribution; gelu_tanh
    ``x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2`` (Hendrycks and Gimpel, 2016); silu ``x/(1 + exp(-x))`` (Elfwing et al.,
    2018).

    Parameters
    ----------
    x : array of float32, any shape
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
    out : array of float32, the shape of ``x``, optional
        Any strides. May not overlap ``x``.

    Returns
    -------
    array of float32, the shape of ``x``

    Raises
    ------
    TypeError
        If ``x`` is not float32 in native byte order.
    ValueError
        If the activation is unknown, or ``out`` cannot take the result.

    Notes
    -----
    Within 1 ulp of the exact value on every float32, the tails of negative results included. NaN stays NaN; relu(-0) is
    +0; gelu, gelu_tanh and silu of -0 and -∞ are -0.

    Examples
    --------
    >>> import numpy as np
    >>> activate(np.array([-1, 0, 1], np.float32), "gelu")
    array([-0.15865526,  0.        ,  0.8413448 ], dtype=float32)
    """
    x = as_array(x, "x", FLOAT32, ANY_NDIM)
    code = activation_code(activation)
    y = result(out, x.shape, FLOAT32, (x,), whole=True)
    dispatch.activate_f32(contiguous(x).reshape(-1), code, y.reshape(-1))
    return delivered(y, out)
