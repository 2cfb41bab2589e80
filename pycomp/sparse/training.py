"""Training under a mask: products where a pattern asks for them, and the gradients of a sparse layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._sums import total
from pycomp._validate import FLOAT32, as_array, as_matrix, given, of_shape, rows
from pycomp.kernels import dispatch

from .csr import CSRMatrix
from .matrix import batch_for, check_matrix
from .products import linear


def sddmm(pattern: CSRMatrix, a: Any, b: Any) -> CSRMatrix:
    """Elements of a dense product where a matrix has entries: ``values[p] = a[i] @ b[:, j]`` for each entry (i, j).

    Parameters
    ----------
    pattern : CSRMatrix, shape (N, K)
        Its values do not matter.
    a : array of float32, shape (N, M)
        Any strides.
    b : array of float32, shape (M, K)
        Any strides.

    Returns
    -------
    CSRMatrix of float32, shape (N, K)
        With the pattern's entries.

    Raises
    ------
    TypeError
        If ``pattern`` is not a CSRMatrix, or an array is not float32 in native byte order.
    ValueError
        If shapes do not fit.

    Notes
    -----
    Each value is one fma chain over M, ascending, from +0: the bits of that element of
    :func:`pycomp.dense.matmul`, and its bound ``γ(M)·Σ|a||b|``. A pattern that has many of its elements, from one in
    eight or (AMD) one in three on, is picked out of the dense product, some rows at a time: that takes a copy of ``b``
    and 1 MB a thread, or sixteen rows of the product if they are more.

    Examples
    --------
    >>> import numpy as np
    >>> pattern = CSRMatrix.from_dense(np.eye(2, dtype=np.float32))
    >>> sddmm(pattern, np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)).data
    array([19., 50.], dtype=float32)
    """
    check_matrix(pattern, "pattern", (CSRMatrix,))
    a, b = as_array(a, "a", FLOAT32, 2), as_array(b, "b", FLOAT32, 2)
    n, k = pattern.shape
    if a.shape[0] != n or b.shape != (a.shape[1], k):
        raise ValueError(f"a has shape {a.shape} and b {b.shape}, expected ({n}, M) and (M, {k})")
    values = np.empty(pattern.nnz, FLOAT32)
    dispatch.sddmm_csr_f32(rows(a), rows(b.T), pattern.indices, pattern.indptr, values)
    return pattern.with_data(given(values))


def linear_backward(grad: Any, x: Any, a: CSRMatrix) -> tuple[NDArray[np.float32], CSRMatrix, NDArray[np.float32]]:
    """Gradients of ``y = x @ a.T + bias`` for all three, the weights' only where the matrix has entries.

    ``dx = grad @ a``, ``da = (grad.T @ x) ⊙ pattern``, ``dbias = Σ_i grad[i]``, i over rows of a batch in any shape.

    Parameters
    ----------
    grad : array of float32, shape (..., N)
        Gradient of the loss for y, before the activation.
    x : array of float32, shape (..., K)
    a : CSRMatrix of float32, shape (N, K)

    Returns
    -------
    dx : array of float32, the shape of ``x``
    da : CSRMatrix of float32, the pattern of ``a``
    dbias : array of float32, shape (N,)

    Raises
    ------
    TypeError
        If ``a`` is not a CSRMatrix of float32, or an array is not float32 in native byte order.
    ValueError
        If shapes do not fit.

    Notes
    -----
    Bounds: those of :func:`linear` with the transpose, of :func:`sddmm`, and of a sum in float64 rounded once. The
    transpose's order is found once for a pattern: ``a.with_data`` keeps it.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[2, 0], [0, 3]], np.float32))
    >>> dx, da, dbias = linear_backward(np.ones((1, 2), np.float32), np.array([[5, 7]], np.float32), a)
    >>> dx, da.data, dbias
    (array([[2., 3.]], dtype=float32), array([5., 7.], dtype=float32), array([1., 1.], dtype=float32))
    """
    check_matrix(a, "a", (CSRMatrix,), (FLOAT32,))
    x = batch_for(a, x, FLOAT32)
    grad = of_shape(grad, "grad", FLOAT32, (*x.shape[:-1], a.shape[0]))
    by_output = as_matrix(grad)
    with np.errstate(all="ignore"):
        dbias = total(by_output.astype(np.float64), axis=0).astype(FLOAT32)
    return linear(grad, a.T), sddmm(a, by_output.T, as_matrix(x)), dbias
