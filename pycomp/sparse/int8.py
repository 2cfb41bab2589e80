"""Exact products of codes with a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import INT32, as_matrix, called, delivered, first, plain, result, sum_dtype
from pycomp.kernels import layouts
from pycomp.kernels.dispatch import Holding

from .bsr import BSRMatrix
from .csr import INT8, CSRMatrix
from .forms import BATCH
from .matrix import batch_for, check_matrix, windows_pay
from .products import linear

UINT8 = np.dtype(np.uint8)
WIDEST = 4 * layouts.MOST_COLUMNS
"""Columns of a matrix whose blocks of 1×4 have 16-bit indices."""


def matmul_int8(x: Any, a: Any, *, dtype: Any = None, out: Any = None) -> NDArray[Any]:
    """Exact product of codes, ``x @ a.T`` as int32 or int64, with the dot-product instruction on blocks of 1×4.

    Parameters
    ----------
    x : array of int8 or uint8, shape (..., K)
        Any strides.
    a : BSRMatrix or CSRMatrix of int8, shape (N, K)
        Entries are taken four columns at a time: fast where they come in blocks of 1×4, as
        ``pruning.block_mask(scores, sparsity, (1, 4))`` leaves them.
    dtype : np.int32 or np.int64, optional
        Of the result, also by name; by default that of ``out``, or int32.
    out : array of int32 or int64, shape (..., N), optional

    Returns
    -------
    array of int32 or int64, shape (..., N)

    Raises
    ------
    TypeError
        If an array has another dtype, or ``a`` is not such a matrix.
    ValueError
        If shapes do not fit, ``dtype`` is another, or ``out`` cannot take the result.
    OverflowError
        If an exact result is outside int32, and the dtype is int32. ``out`` is then as it was.

    Notes
    -----
    Exact. Packed forms are made at the first call with one row of x and with more, and kept with the matrix: 6 bytes
    for each block of 1×4 that holds an entry, or up to 10 by windows for one row, some padding, and 8 for the block.
    Where some x of its type would leave int32, as more than 65793 entries in a row may, or K is above 262140, the sums
    are made in float64, which holds them exactly, of copies of x and the entries in float64.

    Examples
    --------
    >>> import numpy as np
    >>> a = CSRMatrix.from_dense(np.array([[1, 0, 0, -2]], np.int8))
    >>> matmul_int8(np.array([[100, 1, 1, 100]], np.uint8), a)
    array([[-100]], dtype=int32)
    """
    check_matrix(a, "a", (BSRMatrix, CSRMatrix), (INT8,))
    x = x if type(x) is np.ndarray else plain(x, "x", "int8 or uint8")
    if x.dtype not in (INT8, UINT8):
        raise TypeError(f"x has dtype {called(x.dtype)}, expected int8 or uint8")
    x, signed = batch_for(a, x, x.dtype), x.dtype == INT8
    dtype = sum_dtype(dtype, out)
    codes = _Codes.of(a) if a.shape[1] <= WIDEST else None
    fits = codes is not None and codes.heaviest * (128 if signed else 255) < 2**31
    y = result(out, (*x.shape[:-1], a.shape[0]), dtype, (x, a), whole=True, late=not fits)
    if codes is None or not fits:
        _fill_long_sums(x, a, y)
        return delivered(y, out)
    sums = y if dtype == INT32 else np.empty(y.shape, INT32)
    codes.run(as_matrix(x), codes.moved if signed else None, as_matrix(sums))
    if sums is not y:
        y[...] = sums
    return delivered(y, out)


def _fill_long_sums(x: NDArray[Any], a: BSRMatrix | CSRMatrix, y: NDArray[Any]) -> None:
    """Those that int32 may not hold: fewer than 2³¹ products of at most 2¹⁵ each, so that float64 holds their sum."""
    sums = linear(x.astype(np.float64), a.to_csr().astype(np.float64))
    if y.dtype == INT32 and (outside := (sums < -(2**31)) | (sums >= 2**31)).any():
        at = first(outside)
        raise OverflowError(f"the result at {at} is {int(sums[at])}, which int32 cannot hold; "
                            "ask matmul_int8 for dtype=np.int64")
    y[...] = sums


class _Codes:
    """A matrix of int8 as the kernels of dot products read it."""

    def __init__(self, a: BSRMatrix | CSRMatrix) -> None:
        csr = a.to_csr()
        row = csr._entry_rows()
        sums = [np.bincount(row, v, a.shape[0]).astype(np.int64) for v in (np.abs(csr.data.astype(int)), csr.data)]
        self.heaviest, self.moved = int(sums[0].max(initial=0)), (-128 * sums[1]).astype(INT32)
        """Largest sum of magnitudes of a row, and what must be added for an x that was moved by 128."""
        self.width = -(-a.shape[1] // 4)
        if self.heaviest * 128 < 2**31:  # else no x that may come is multiplied by them
            padded = CSRMatrix._made(csr.data, csr.indices, csr.indptr, (a.shape[0], 4 * self.width))
            self.blocks = BSRMatrix.from_csr(padded, (1, 4))
        self.products = dict[str, Holding]()

    @staticmethod
    def of(a: BSRMatrix | CSRMatrix) -> _Codes:
        """Those of a matrix, made at the first call."""
        if "_codes" not in a.__dict__:
            a.__dict__["_codes"] = _Codes(a)
        return a.__dict__["_codes"]  # type: ignore[no-any-return]

    def product(self, kernel: str, layout: Any) -> Holding:
        """A kernel and the matrix as it reads it, packed at its first use."""
        if kernel not in self.products:
            made = layout(self.blocks.indices, self.blocks.indptr, self.width)
            self.products[kernel] = Holding(kernel, values=made.values(self.blocks.data[:, 0], 0), **made.read)
        return self.products[kernel]

    def run(self, x: NDArray[Any], offset: NDArray[np.int32] | None, y: NDArray[np.int32]) -> None:
        """y = x @ a.T + offset; x of int8 is moved to uint8."""
        m, k = x.shape

        def codes(rows: NDArray[Any]) -> NDArray[Any]:
            return rows if offset is None else rows.view(UINT8) ^ np.uint8(128)

        if m == 1:
            row = np.zeros((max(self.width + 1, layouts.WINDOW), 4), UINT8)
            row.reshape(-1)[:k] = codes(x[0])
            if windows_pay(len(self.blocks.data), (y.shape[1], self.width)):
                self.product("spmv_windows_u8s8", layouts.windows)(row, offset, y[0])
            else:
                self.product("spmv_sell_u8s8", layouts.slices)(row[: self.width + 1], offset, y[0])
            return
        for i in range(0, m, BATCH):
            part = x[i : i + BATCH]
            rows = np.zeros((-(-len(part) // 16) * 16, 4 * (self.width + 1)), UINT8)
            rows[: len(part), :k] = codes(part)
            panels = np.ascontiguousarray(rows.reshape(-1, 16, self.width + 1, 4).transpose(0, 2, 1, 3))
            self.product("spmm_tiles_u8s8", layouts.tiles)(panels, offset, y[i : i + BATCH])
