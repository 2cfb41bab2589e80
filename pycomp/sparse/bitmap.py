"""The matrix with a bit for each element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, INT32, as_array, frozen, given, integer
from pycomp.kernels import layouts

from .csr import CSRMatrix, check_scipy
from .matrix import SparseMatrix, check_matrix

UINT8 = np.dtype(np.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class BitmapMatrix(SparseMatrix):
    """A sparse matrix that says of each element, in a bit, whether it is stored: for 40 to 85 % zeros.

    Attributes
    ----------
    data : array of float32, shape (nnz,)
        Values, in the order of rows and columns.
    bits : array of uint8, shape (N, ceil(K / 8))
        Bit ``j % 8`` of ``bits[i, j // 8]``, the lowest being 0, is of element (i, j); none is set past the last.
    columns : int
        K.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If the arrays are not such a matrix.

    Notes
    -----
    4 bytes an entry and an eighth an element, against 8 an entry in CSR. A product with up to four rows of x
    reads this; with more it runs in ``format="tiles"``. Both are packed at the first product.

    Examples
    --------
    >>> import numpy as np
    >>> a = BitmapMatrix.from_dense(np.array([[0, 2, 3]], np.float32))
    >>> a.data, a.bits
    (array([2., 3.], dtype=float32), array([[6]], dtype=uint8))
    """

    data: NDArray[np.float32]
    bits: NDArray[np.uint8]
    columns: int

    _arrays = ("data", "bits")

    def __post_init__(self) -> None:
        k = integer(self.columns, "columns", 0, 2**31 - 1)
        data = frozen(as_array(self.data, "data", FLOAT32, 1))
        bits = frozen(as_array(self.bits, "bits", UINT8, 2))
        if bits.shape[1] != -(-k // 8):
            raise ValueError(f"bits has {bits.shape[1]} bytes a row, expected {-(-k // 8)} for {k} columns")
        stored = np.unpackbits(bits, axis=1, bitorder="little")
        if stored[:, k:].any():
            row, column = np.argwhere(stored[:, k:])[0]
            raise ValueError(f"bits has one set past the last of {k} columns, in row {row}: column {k + column}")
        if (count := int(np.count_nonzero(stored))) != data.shape[0]:
            raise ValueError(f"data has {data.shape[0]} elements, bits has {count} set")
        self._fill(data=data, bits=bits, columns=k, shape=(bits.shape[0], k))

    @classmethod
    def from_dense(cls, w: Any) -> BitmapMatrix:
        """The entries of a dense matrix that are not zero; NaN is kept.

        Parameters
        ----------
        w : array of float32, shape (N, K)

        Raises
        ------
        TypeError
            If ``w`` is not a float32 array.
        ValueError
            If ``w`` does not have two dimensions.

        Examples
        --------
        >>> import numpy as np
        >>> BitmapMatrix.from_dense(np.eye(3, dtype=np.float32)).bits.tolist()
        [[1], [2], [4]]
        """
        w = as_array(w, "w", FLOAT32, 2)
        stored = w != 0
        return cls(given(w[stored]), given(np.packbits(stored, axis=1, bitorder="little")), w.shape[1])

    @classmethod
    def from_csr(cls, a: CSRMatrix) -> BitmapMatrix:
        """The entries of a matrix; stored zeros stay stored.

        Parameters
        ----------
        a : CSRMatrix of float32, shape (N, K)

        Raises
        ------
        TypeError
            If ``a`` is not a CSRMatrix of float32.

        Examples
        --------
        >>> import numpy as np
        >>> BitmapMatrix.from_csr(CSRMatrix.from_dense(np.eye(3, dtype=np.float32)))
        BitmapMatrix(shape=(3, 3), nnz=3)
        """
        check_matrix(a, "a", (CSRMatrix,), (FLOAT32,))
        stored = np.zeros(a.shape, np.bool_)
        stored[a._entry_rows(), a.indices] = True
        return cls(a.data, given(np.packbits(stored, axis=1, bitorder="little")), a.shape[1])

    @classmethod
    def from_scipy(cls, a: Any) -> BitmapMatrix:
        """The entries of a SciPy sparse matrix in any of its formats, as :meth:`CSRMatrix.from_scipy` reads it.

        Parameters
        ----------
        a : scipy.sparse array or matrix of float32, shape (N, K)
            It is not changed. Where it is in CSR and sorted, data that are read-only, as is what owns their memory, are
            taken as they are, so no view of them that can be written to may have been made before (see the Notes of
            :class:`CSRMatrix`); the rest is copied.

        Raises
        ------
        TypeError
            If ``a`` is not a SciPy sparse matrix of float32.
        ValueError
            If it does not have two dimensions, or is malformed.

        Examples
        --------
        >>> import numpy as np, scipy.sparse
        >>> BitmapMatrix.from_scipy(scipy.sparse.csr_array(np.eye(3, dtype=np.float32)))
        BitmapMatrix(shape=(3, 3), nnz=3)
        """
        check_scipy(a, ("float32",))
        return cls.from_csr(CSRMatrix.from_scipy(a))

    def to_csr(self) -> CSRMatrix:
        """The same entries."""
        stored = np.unpackbits(self.bits, axis=1, count=self.shape[1], bitorder="little").view(np.bool_)
        indptr = layouts.starts_of(np.count_nonzero(stored, axis=1))
        indices = np.nonzero(stored)[1].astype(INT32)
        return CSRMatrix._made(self.data, given(indices), given(indptr), self.shape)

    def _format(self, batch: int) -> str:
        return "bitmap" if batch <= 4 else super()._format(batch)
