"""Products of dense and sparse matrices."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import (
    ACTIVATIONS,
    FLOAT32,
    activation_code,
    as_array,
    as_matrix,
    contiguous,
    delivered,
    of_shape,
    optional_vector,
    result,
    shown,
)

from .matrix import SparseMatrix, batch_for, check_matrix

FLOAT64 = np.dtype(np.float64)


def linear(
    x: Any, a: Any, bias: Any = None, *, activation: str | None = None, residual: Any = None,
    format: str | None = None, out: Any = None,
) -> NDArray[Any]:
    """Product of rows with a sparse weight matrix: ``y = activation(x @ a.T + bias + residual)``.

    Parameters
    ----------
    x : array of float32, shape (..., K)
        Any strides. float64 where a's values are.
    a : CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix, shape (N, K)
        Weights as frameworks store them: one row an output.
    bias : array of x's dtype, shape (N,), optional
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
        As :func:`pycomp.dense.activate` computes it; the first three for float64.
    residual : array of x's dtype, shape (..., N), optional
        Added before the activation.
    format : None, "auto", "csr", "tiles", "slices", "windows", "bitmap", "blocks", "nm" or "dense"
        How the matrix runs. None: as its class does, a CSRMatrix of float32 by its rows, not packed. "auto": in the
        form that :func:`advise` finds to be the fastest here, measured at the first call, which is often twice as fast;
        for values of other types than float32 as None. A form is packed at its first use and kept with the matrix. Of
        float32, "tiles" and "slices" take 6 bytes an entry and some padding, and of a CSRMatrix 8 more for where new
        values go; "windows" about 5.3 an entry at half zeros, 6.4 at 80 %, 12 at 95 %, many more where few rows are
        full, and those 8; "bitmap" 4 an entry and an eighth an element; "nm" 4.5 an entry; "blocks" 4 an entry if they
        have 16 rows, else none; "csr" none of a CSRMatrix, up to 8 an entry of others; "dense" 4 an element, and as
        "csr". "tiles" has rows in fours, "slices", "bitmap", "nm" and "dense" in sixteens, "windows" in 64s: fewer take
        as much room as so many of their length. "dense" runs the entries alone where x is not finite, since zeros that
        are not stored contribute nothing.
        ``pycomp.info(last=True)`` says which kernel ran last.
    out : array of x's dtype, shape (..., N), optional
        Takes the result; any strides, though other than contiguous rows, and of more than two dimensions other than C
        order, cost a copy. May not overlap an input.

    Returns
    -------
    array of x's dtype, shape (..., N)

    Raises
    ------
    TypeError
        If an array has another dtype, or ``a`` is not a sparse matrix.
    ValueError
        If shapes do not fit, the activation is unknown, the matrix does not have the format, or ``out`` cannot take
        the result.

    Notes
    -----
    Bound: ``|y - exact| <= γ(e)·Σ|x||a| + u·|y|``, e the entries of the row of ``a``, ``u = 2⁻²⁴`` and
    ``γ(n) = n·u/(1 - n·u)`` (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, §3.1), and as much as
    the second term again for a residual and for the scale of a CodedMatrix; through gelu or silu 1.13 times that and
    1 ulp. The bits do not depend on the format, but for the sign of a zero that underflow left, to which "dense" adds
    the zeros that are not stored. Row i of a batch has the bits of row i alone, and those of
    :func:`pycomp.dense.linear` with ``a.to_dense()`` in x's dtype, float32 or float64; but a CodedMatrix multiplies its
    codes, then by the scale. Workspace: for more than one row of x, up to 256 at a time packed, in sixteens: by
    each thread if that is 768 KB or less, else once, or up to 64 of them by each thread; up to four rows, but
    of "blocks", in fours, by each thread if that is 68 KB or less, else once; so for one where "tiles" is asked for;
    for "slices" and "nm" a row of x, of "slices" by each thread if that is 68 KB or less, and one of y; all of x in
    float64, where its axes but the last do not follow each other in memory, and where it is not aligned. For format
    "dense" a byte for each element of x, and y twice with a residual; for "dense", "bitmap" and "windows" also x, and
    y, where their rows are not contiguous, and for "windows" x of less than 31 columns.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.sparse import CSRMatrix
    >>> a = CSRMatrix.from_dense(np.array([[3, 0], [-5, -6]], np.float32))
    >>> linear(np.array([[1, 2]], np.float32), a, activation="relu")
    array([[3., 0.]], dtype=float32)
    """
    check_matrix(a, "a")
    dtype = _dtype_beside(a)
    x, n = batch_for(a, x, dtype), a.shape[0]
    vector = optional_vector(bias, "bias", n, dtype)
    code = activation_code(activation)
    if dtype is FLOAT64 and code > ACTIVATIONS["relu"]:
        raise ValueError(f"activation is {activation!r}, expected None, 'identity' or 'relu' for float64")
    shape = (len(x), n) if x.ndim == 2 else (*x.shape[:-1], n)
    if residual is not None:
        residual = of_shape(residual, "residual", dtype, shape)
    batch = as_matrix(x)
    form = a._form(_chosen(a, batch.shape[0], format))
    y = result(out, shape, dtype, (x, bias, residual, a))
    form.run(batch, vector, None if residual is None else as_matrix(contiguous(residual)), code, as_matrix(y))
    return delivered(y, out)


def matmul(a: Any, b: Any, *, format: str | None = None, out: Any = None) -> NDArray[Any]:
    """Matrix product ``a @ b`` of a sparse and a dense matrix, by the chain of :func:`linear`.

    Parameters
    ----------
    a : CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix, shape (N, K)
    b : array of float32, shape (K, M), or (K,)
        Any strides. float64 where a's values are. A vector is one column.
    format : as for :func:`linear`, optional
    out : array of b's dtype, shape (N, M), or (N,), optional
        Takes the result; any strides, though other than contiguous rows cost a copy. May not overlap an input.

    Returns
    -------
    array of b's dtype, shape (N, M), or (N,)

    Raises
    ------
    TypeError
        If ``b`` has another dtype, or ``a`` is not a sparse matrix.
    ValueError
        If shapes do not fit, the matrix does not have the format, or ``out`` cannot take the result.

    Notes
    -----
    Bound, bits and workspace as for :func:`linear`, with columns of b in the place of rows of x, and of the result in
    that of rows of y: in C order their elements are not contiguous.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.sparse import CSRMatrix
    >>> a = CSRMatrix.from_dense(np.array([[0, 2], [1, 0]], np.float32))
    >>> matmul(a, np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    array([[ 8., 10., 12.],
           [ 1.,  2.,  3.]], dtype=float32)
    """
    check_matrix(a, "a")
    dtype = _dtype_beside(a)
    b = as_array(b, "b", dtype, (1, 2))
    n, k = a.shape
    if b.shape[0] != k:
        raise ValueError(f"b has {b.shape[0]} {'rows' if b.ndim == 2 else 'elements'}, a has {k} columns")
    columns = b if b.ndim == 2 else b[:, None]
    form = a._form(_chosen(a, columns.shape[1], format))
    y = result(out, (n, *b.shape[1:]), dtype, (b, a))
    form.run(columns.T, None, None, 0, y.T if y.ndim == 2 else y[None])
    return delivered(y, out)


def _dtype_beside(a: SparseMatrix) -> np.dtype[Any]:
    """That of what a matrix is multiplied with."""
    kind = a.dtype
    return FLOAT64 if kind is not FLOAT32 and kind == FLOAT64 else FLOAT32


def _chosen(a: SparseMatrix, batch: int, format: str | None) -> str:
    if format is None:
        return a._format(batch)
    if not isinstance(format, str):
        raise TypeError(f"format is {shown(format)}, expected a name or None")
    if format != "auto":
        return format
    if a.dtype != FLOAT32:
        return a._format(batch)
    return _advice().known_advice(a, max(batch, 1)).recommendation  # type: ignore[no-any-return]


@functools.cache  # an import that has been made takes a microsecond
def _advice() -> Any:
    from . import advice

    return advice
