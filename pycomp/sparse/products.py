"""Products of dense and sparse matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, activation_code, as_array, contiguous, delivered, optional_vector, result
from pycomp.kernels import dispatch, layouts

from .bsr import BSRMatrix
from .csr import INT8, CSRMatrix
from .forms import BATCH
from .matrix import SparseMatrix

FLOAT64, INT32, UINT8 = np.dtype(np.float64), np.dtype(np.int32), np.dtype(np.uint8)


def linear(
    x: Any, a: Any, bias: Any = None, *, activation: str | None = None, residual: Any = None,
    format: str | None = None, out: Any = None,
) -> NDArray[Any]:
    """Product of rows with a sparse weight matrix: ``y = activation(x @ a.T + bias + residual)``.

    Parameters
    ----------
    x : array of float32, shape (M, K)
        Any strides. float64 where a's values are.
    a : CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix, shape (N, K)
        Weights as frameworks store them: one row an output.
    bias : array of x's dtype, shape (N,), optional
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
        As :func:`pycomp.dense.activate` computes it; the first three for float64.
    residual : array of x's dtype, shape (M, N), optional
        Added before the activation.
    format : None, "auto", "csr", "tiles", "slices", "bitmap", "blocks", "nm" or "dense"
        How the matrix runs. None: as its class does. "auto": in the form that :func:`advise` finds to be the fastest
        here, measured at the first call; for values of other types than float32 as None. A form is packed at its first
        use and kept with the matrix. "dense" runs the entries alone where x is not finite, since zeros that are not
        stored contribute nothing. ``pycomp.info(last=True)`` says which kernel ran.
    out : array of x's dtype, shape (M, N), optional
        Takes the result; any strides, though other than contiguous rows cost a copy. May not overlap an input.

    Returns
    -------
    array of x's dtype, shape (M, N)

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
    1 ulp. The bits do not depend on the format. Row i of a batch has the bits of row i alone, and those of
    :func:`pycomp.dense.linear` with ``a.to_dense()``. Workspace: for M > 1, up to 256 rows of x, packed.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[3, 0], [-5, -6]], np.float32))
    >>> linear(np.array([[1, 2]], np.float32), a, activation="relu")
    array([[3., 0.]], dtype=float32)
    """
    a = matrix(a)
    dtype = FLOAT64 if a.dtype == FLOAT64 else FLOAT32
    x = as_array(x, "x", dtype, 2)
    n, k = a.shape
    if x.shape[1] != k:
        raise ValueError(f"x has {x.shape[1]} columns, a has {k}")
    bias = optional_vector(bias, "bias", n, dtype)
    code = activation_code(activation)
    shape = x.shape[0], n
    if residual is not None:
        residual = as_array(residual, "residual", dtype, 2)
        if residual.shape != shape:
            raise ValueError(f"residual has shape {residual.shape}, expected {shape}")
    form = a._form(_chosen(a, shape[0], format))
    y = result(out, shape, dtype, (x, bias, residual, *(getattr(a, name) for name in a._arrays)))
    if dtype == FLOAT32:
        form.run(x, bias, None if residual is None else contiguous(residual), code, y)
    else:
        _run_double(form, x, bias, residual, code, y)
    return delivered(y, out)


def matmul(a: Any, b: Any, *, format: str | None = None, out: Any = None) -> NDArray[Any]:
    """Matrix product ``a @ b`` of a sparse and a dense matrix, by the chain of :func:`linear`.

    Parameters
    ----------
    a : CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix, shape (N, K)
    b : array of float32, shape (K, M)
        Any strides. float64 where a's values are.
    format : as for :func:`linear`, optional
    out : array of b's dtype, shape (N, M), optional
        Takes the result; any strides, though other than contiguous rows cost a copy. May not overlap an input.

    Returns
    -------
    array of b's dtype, shape (N, M)

    Raises
    ------
    TypeError
        If ``b`` has another dtype, or ``a`` is not a sparse matrix.
    ValueError
        If shapes do not fit, the matrix does not have the format, or ``out`` cannot take the result.

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
    a = matrix(a)
    dtype = FLOAT64 if a.dtype == FLOAT64 else FLOAT32
    b = as_array(b, "b", dtype, 2)
    n, k = a.shape
    if b.shape[0] != k:
        raise ValueError(f"b has {b.shape[0]} rows, a has {k} columns")
    form = a._form(_chosen(a, b.shape[1], format))
    y = result(out, (n, b.shape[1]), dtype, (b, *(getattr(a, name) for name in a._arrays)))
    form.run(b.T, None, None, 0, y.T)
    return delivered(y, out)


def matmul_int8(x: Any, a: Any, *, out: Any = None) -> NDArray[np.int32]:
    """Exact product of codes, ``x @ a.T`` in int32, with the dot-product instruction on blocks of 1×4.

    Parameters
    ----------
    x : array of int8 or uint8, shape (M, K)
        Any strides.
    a : BSRMatrix or CSRMatrix of int8, shape (N, K)
        Entries are taken four columns at a time: fast where they come in blocks of 1×4, as
        ``pruning.block_mask(scores, sparsity, (1, 4))`` leaves them.
    out : array of int32, shape (M, N), optional

    Returns
    -------
    array of int32, shape (M, N)

    Raises
    ------
    TypeError
        If an array has another dtype, or ``a`` is not such a matrix.
    ValueError
        If shapes do not fit, K is above 262140, or ``out`` cannot take the result.
    OverflowError
        If a row of ``a`` is so heavy that some x of its type would leave int32.

    Notes
    -----
    Exact. The packed form is made at the first call and kept with the matrix.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[1, 0, 0, -2]], np.int8))
    >>> matmul_int8(np.array([[100, 1, 1, 100]], np.uint8), a)
    array([[-100]], dtype=int32)
    """
    if not isinstance(a, (BSRMatrix, CSRMatrix)) or a.dtype != INT8:
        raise TypeError(f"a is {a!r}, expected a BSRMatrix or CSRMatrix of int8")
    signed = getattr(x, "dtype", None) == INT8
    x = as_array(x, "x", INT8 if signed else UINT8, 2)
    n, k = a.shape
    if x.shape[1] != k:
        raise ValueError(f"x has {x.shape[1]} columns, a has {k}")
    codes = _Codes.of(a)
    heaviest = int(codes.weight.max(initial=0)) * (128 if signed else 255)
    if heaviest > 2**31 - 1:
        raise OverflowError(f"row {int(codes.weight.argmax())} of a can reach {heaviest}, which int32 cannot hold")
    y = result(out, (x.shape[0], n), INT32, (x, *(getattr(a, name) for name in a._arrays)), whole=True)
    codes.run(x, codes.moved if signed else None, y)
    return delivered(y, out)


class _Codes:
    """A matrix of int8 as the kernels of dot products read it."""

    def __init__(self, a: BSRMatrix | CSRMatrix) -> None:
        csr = a.to_csr()
        self.width = -(-a.shape[1] // 4)
        if self.width > layouts.MOST_COLUMNS:
            raise ValueError(f"a has {a.shape[1]} columns, expected at most {4 * layouts.MOST_COLUMNS}")
        padded = CSRMatrix._made(csr.data, csr.indices, csr.indptr, (a.shape[0], 4 * self.width))
        blocks = BSRMatrix.from_csr(padded, (1, 4))
        self.blocks, self.packed = blocks, dict[Any, tuple[Any, ...]]()
        row = np.repeat(np.arange(a.shape[0]), np.diff(csr.indptr))
        sums = [np.bincount(row, v, a.shape[0]).astype(np.int64) for v in (np.abs(csr.data.astype(int)), csr.data)]
        self.weight, self.moved = sums[0], (-128 * sums[1]).astype(INT32)
        """Sum of magnitudes of a row, and what must be added for an x that was moved by 128."""

    @staticmethod
    def of(a: BSRMatrix | CSRMatrix) -> _Codes:
        found: _Codes = a.__dict__.setdefault("_codes", None) or _Codes(a)
        a.__dict__["_codes"] = found
        return found

    def form(self, layout: Any) -> tuple[Any, ...]:
        """What a kernel reads, packed at its first use."""
        if layout not in self.packed:
            t = layout(self.blocks.indices, self.blocks.indptr, self.width)
            tail = (t.begins, t.firsts) if layout is layouts.tiles else ()
            values = t.values(self.blocks.data[:, 0], 0)
            self.packed[layout] = (values, t.columns, t.rows, t.starts, *tail)
        return self.packed[layout]

    def run(self, x: NDArray[Any], offset: NDArray[np.int32] | None, y: NDArray[np.int32]) -> None:
        """y = x @ a.T + offset; x of int8 is moved to uint8."""
        m, k = x.shape
        for i in range(0, m, BATCH):
            rows = np.zeros((-(-min(BATCH, m - i) // 16) * 16, 4 * (self.width + 1)), UINT8)
            part = x[i : i + BATCH]
            rows[: len(part), :k] = part if offset is None else part.view(UINT8) ^ np.uint8(128)
            if m == 1:
                dispatch.spmv_sell_u8s8(rows[0].reshape(-1, 4), *self.form(layouts.slices), offset, y[0])
            else:
                panels = np.ascontiguousarray(rows.reshape(-1, 16, self.width + 1, 4).transpose(0, 2, 1, 3))
                dispatch.spmm_tiles_u8s8(panels, *self.form(layouts.tiles), offset, y[i : i + BATCH])


def matrix(a: Any) -> SparseMatrix:
    """``a`` if it is a sparse matrix."""
    if not isinstance(a, SparseMatrix):
        raise TypeError(f"a is a {type(a).__name__}, expected a sparse matrix such as a CSRMatrix; "
                        "CSRMatrix.from_dense(a) makes one")
    return a


def _chosen(a: SparseMatrix, batch: int, format: str | None) -> str:
    if format is None:
        return a._format(batch)
    if format != "auto":
        return format
    if a.dtype != FLOAT32:
        return a._format(batch)
    from .advice import advise

    return advise(a, batch=max(batch, 1)).recommendation


def _run_double(form: Any, x: Any, bias: Any, residual: Any, code: int, y: Any) -> None:
    if code > 1:
        raise ValueError("activation is smooth, expected None, 'identity' or 'relu' for float64")
    form.run(x, None, None, 0, y)
    for term in (bias, residual):
        if term is not None:
            y += term
    if code == 1:
        np.copyto(y, 0, where=y <= 0)
