"""Products of dense and sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, activation_code, aligned, as_array, delivered, optional_vector, result
from pycomp.kernels import dispatch

from .csr import CSRMatrix

LANES = 16
BATCH = 256
"""Rows of x that are packed at once: enough that reading the matrix again costs nothing beside the product."""


def linear(x: Any, a: Any, bias: Any = None, *, activation: str | None = None, out: Any = None) -> NDArray[np.float32]:
    """Product of rows with a sparse weight matrix: ``y = activation(x @ a.T + bias)``.

    Parameters
    ----------
    x : array of float32, shape (M, K)
        Any strides.
    a : CSRMatrix, shape (N, K)
        Weights as frameworks store them: one row an output.
    bias : array of float32, shape (N,), optional
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
        As :func:`pycomp.dense.activate` computes it.
    out : array of float32, shape (M, N), optional
        Takes the result; any strides, though other than contiguous rows cost a copy. May not overlap an input.

    Returns
    -------
    array of float32, shape (M, N)

    Raises
    ------
    TypeError
        If an array is not float32 in native byte order, or ``a`` is not a CSRMatrix.
    ValueError
        If shapes do not fit, the activation is unknown, or ``out`` cannot take the result.

    Notes
    -----
    Bound: ``|y - exact| <= γ(e)·Σ|x||a| + u·|y|``, e the entries of the row of ``a``, ``u = 2⁻²⁴`` and
    ``γ(n) = n·u/(1 - n·u)`` (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, §3.1); through gelu or
    silu 1.13 times that and 1 ulp. Row i of a batch has the bits of row i alone, and those of
    :func:`pycomp.dense.linear` with ``a.to_dense()``. Workspace: for M > 1, up to 256 rows of x, packed.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[3, 0], [-5, -6]], np.float32))
    >>> linear(np.array([[1, 2]], np.float32), a, activation="relu")
    array([[3., 0.]], dtype=float32)
    """
    a = _matrix(a)
    x = as_array(x, "x", FLOAT32, 2)
    n, k = a.shape
    if x.shape[1] != k:
        raise ValueError(f"x has {x.shape[1]} columns, a has {k}")
    bias = optional_vector(bias, "bias", n)
    code = activation_code(activation)
    y = result(out, (x.shape[0], n), FLOAT32, (x, bias, a.data, a.indices, a.indptr))
    _product(x, a, bias, code, y)
    return delivered(y, out)


def matmul(a: Any, b: Any, *, out: Any = None) -> NDArray[np.float32]:
    """Matrix product ``a @ b`` of a sparse and a dense matrix, by the chain of :func:`linear`.

    Parameters
    ----------
    a : CSRMatrix, shape (N, K)
    b : array of float32, shape (K, M)
        Any strides.
    out : array of float32, shape (N, M), optional
        Takes the result; any strides, though other than contiguous rows cost a copy. May not overlap an input.

    Returns
    -------
    array of float32, shape (N, M)

    Raises
    ------
    TypeError
        If ``b`` is not a float32 array in native byte order, or ``a`` is not a CSRMatrix.
    ValueError
        If shapes do not fit or ``out`` cannot take the result.

    Notes
    -----
    Bound, bits and workspace as for :func:`linear`, with columns of b in the place of rows of x.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[0, 2], [1, 0]], np.float32))
    >>> matmul(a, np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    array([[ 8., 10., 12.],
           [ 1.,  2.,  3.]], dtype=float32)
    """
    a = _matrix(a)
    b = as_array(b, "b", FLOAT32, 2)
    n, k = a.shape
    if b.shape[0] != k:
        raise ValueError(f"b has {b.shape[0]} rows, a has {k} columns")
    y = result(out, (n, b.shape[1]), FLOAT32, (b, a.data, a.indices, a.indptr))
    _product(b.T, a, None, 0, y.T)
    return delivered(y, out)


def _matrix(a: Any) -> CSRMatrix:
    if not isinstance(a, CSRMatrix):
        raise TypeError(f"a is a {type(a).__name__}, expected a CSRMatrix; CSRMatrix.from_dense(a) makes one")
    return a


def _product(
    x: NDArray[Any], a: CSRMatrix, bias: NDArray[Any] | None, code: int, y: NDArray[Any]
) -> None:
    """y [M, N] = activation(x [M, K] @ a.T + bias); x and y at any strides."""
    if not x.flags.aligned:
        x = x.copy()
    if x.shape[0] == 1 and y[0].flags.c_contiguous:
        dispatch.spmv_csr_f32(np.ascontiguousarray(x[0]), a.data, a.indices, a.indptr, bias, None, code, y[0])
        return
    for i in range(0, x.shape[0], BATCH):
        rows = x[i : i + BATCH]
        packed = aligned((-(-rows.shape[0] // LANES), x.shape[1], LANES), FLOAT32)
        dispatch.pack_f32(rows.T, packed)
        dispatch.spmm_csr_f32(packed, a.data, a.indices, a.indptr, bias, None, code, y[i : i + BATCH])
