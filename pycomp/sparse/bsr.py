"""The matrix of dense blocks."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, INT32, block_shape, flag, frozen, given
from pycomp.kernels import layouts

from .csr import (
    INT8,
    CSRMatrix,
    as_values,
    check_divides,
    check_scipy,
    checked_places,
    integers,
    matrix_shape,
    stable_order,
    summed,
    unsorted_places,
    used,
)
from .matrix import SparseMatrix, check_matrix

if TYPE_CHECKING:
    import scipy.sparse

    from .forms import Form

VALUES = ("float32", "int8")
"""Types of values."""


@dataclass(frozen=True, eq=False, repr=False)
class BSRMatrix(SparseMatrix):
    """A sparse matrix of dense blocks ``[h, w]``: block row i is the blocks ``indptr[i] <= p < indptr[i + 1]``.

    Attributes
    ----------
    data : array of float32 or int8, shape (blocks, h, w)
        Zeros inside a block are stored and follow IEEE.
    indices : array of int32, shape (blocks,)
        Block columns; within a block row they ascend, each at most once. int64 is converted.
    indptr : array of int64, shape (N / h + 1,)
        int32 is converted.
    shape : tuple of int
        ``(N, K)``, of which h and w are divisors.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If the arrays are not such a matrix. The message says where.

    Notes
    -----
    Blocks of 4 and more rows have a kernel whose rows share each load of x; of 16 rows, also for one row of x. Others
    run as their entries do (``format="tiles"``, ``"slices"`` or ``"windows"``), packed at the first product.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.kron(np.array([[1, 0], [0, 2]], np.float32), np.ones((4, 4), np.float32))
    >>> a = BSRMatrix.from_dense(w, (4, 4))
    >>> a
    BSRMatrix(shape=(8, 8), block=(4, 4), blocks=2)
    >>> (a @ np.ones((8, 1), np.float32))[:, 0]
    array([4., 4., 4., 4., 8., 8., 8., 8.], dtype=float32)
    """

    data: NDArray[Any]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    shape: tuple[int, int]

    _arrays = ("data", "indices", "indptr")

    def __post_init__(self) -> None:
        n, k = matrix_shape(self.shape)
        data = frozen(as_values(self.data, "data", 3, VALUES))
        h, w = data.shape[1:]
        check_divides((n, k), (h, w))
        indices, indptr = checked_places(self.indices, self.indptr, data.shape[0], (n // h, k // w), "row of blocks")
        self._fill(data=data, indices=indices, indptr=indptr, shape=(n, k))

    @classmethod
    def from_dense(cls, w: Any, block: tuple[int, int]) -> BSRMatrix:
        """The blocks of a dense matrix that hold anything but zeros.

        Parameters
        ----------
        w : array of float32 or int8, shape (N, K)
        block : tuple of int
            ``(h, w)``, divisors of N and K.

        Raises
        ------
        TypeError
            If ``w`` is not an array of one of these.
        ValueError
            If the block does not divide the shape.

        Examples
        --------
        >>> import numpy as np
        >>> BSRMatrix.from_dense(np.eye(4, dtype=np.float32), (2, 2)).data.shape
        (2, 2, 2)
        """
        w = as_values(w, "w", 2, VALUES)
        h, b = block_shape(block)
        check_divides(w.shape, (h, b))
        blocks = w.reshape(w.shape[0] // h, h, w.shape[1] // b, b).transpose(0, 2, 1, 3)
        stored = (blocks != 0).any(axis=(2, 3))
        indptr = layouts.starts_of(np.count_nonzero(stored, axis=1))
        return cls(given(np.ascontiguousarray(blocks[stored])), given(np.nonzero(stored)[1].astype(INT32)),
                   given(indptr), w.shape)

    @classmethod
    def from_arrays(cls, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> BSRMatrix:
        """A matrix from arrays as others make them: indices of any integer type, rows unsorted, blocks repeated.

        Parameters
        ----------
        data : array of float32 or int8, shape (blocks, h, w)
        indices : array of integers, shape (blocks,)
            Block columns, in any order; blocks of the same place are added in the order given, as
            :meth:`CSRMatrix.from_arrays` adds entries.
        indptr : array of integers, shape (N / h + 1,)
        shape : tuple of int
            ``(N, K)``.

        Raises
        ------
        TypeError
            If an array has another kind of dtype, or is masked.
        ValueError
            If the arrays are not such a matrix. The message says where.

        Examples
        --------
        >>> import numpy as np
        >>> BSRMatrix.from_arrays(np.ones((3, 1, 2), np.float32), [1, 0, 1], [0, 3], (1, 4)).data.tolist()
        [[[1.0, 1.0]], [[2.0, 2.0]]]
        """
        data, (n, k) = as_values(data, "data", 3, VALUES), matrix_shape(shape)
        h, w = data.shape[1:]
        check_divides((n, k), (h, w))
        blocks, line = (n // h, k // w), "row of blocks"
        return cls(*summed(data, *unsorted_places(indices, indptr, len(data), blocks, line), blocks[0], line), (n, k))

    @classmethod
    def from_csr(cls, a: CSRMatrix, block: tuple[int, int]) -> BSRMatrix:
        """The blocks that hold an entry of a matrix; zeros fill them up.

        Parameters
        ----------
        a : CSRMatrix of float32 or int8, shape (N, K)
        block : tuple of int
            ``(h, w)``, divisors of N and K.

        Raises
        ------
        TypeError
            If ``a`` is not a CSRMatrix of float32 or int8.
        ValueError
            If the block does not divide the shape.

        Examples
        --------
        >>> import numpy as np
        >>> BSRMatrix.from_csr(CSRMatrix.from_dense(np.eye(4, dtype=np.float32)), (1, 2)).data.tolist()
        [[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]]
        """
        check_matrix(a, "a", (CSRMatrix,), (FLOAT32, INT8))
        h, w = block_shape(block)
        check_divides(a.shape, (h, w))
        row, wide = a._entry_rows(), a.shape[1] // w
        place = row // h * wide + a.indices // w
        blocks, which = _distinct(place, a.shape[0] // h * wide)
        data = np.zeros((len(blocks), h, w), a.dtype)
        data[which, row % h, a.indices % w] = a.data
        indptr = layouts.starts_of(np.bincount(blocks // max(wide, 1), minlength=a.shape[0] // h))
        return cls(given(data), given((blocks % max(wide, 1)).astype(INT32)), given(indptr), a.shape)

    @classmethod
    def from_scipy(cls, a: Any, block: tuple[int, int] | None = None) -> BSRMatrix:
        """A SciPy sparse matrix; one in BSR keeps its blocks if no others are asked for.

        Parameters
        ----------
        a : scipy.sparse array or matrix of float32 or int8, shape (N, K)
            It is not changed. Where it is in BSR with these blocks and sorted, data and int32 indices that are
            read-only, as is what owns their memory, are taken as they are, so no view of them that can be written to
            may have been made before (see the Notes of :class:`CSRMatrix`); the rest is copied.
        block : tuple of int, optional
            ``(h, w)``, divisors of N and K.

        Raises
        ------
        TypeError
            If ``a`` is not a SciPy sparse matrix of float32 or int8.
        ValueError
            If it is malformed, or the block is missing or does not divide its shape.

        Examples
        --------
        >>> import numpy as np, scipy.sparse
        >>> a = scipy.sparse.bsr_array(np.ones((4, 4), np.float32), blocksize=(2, 2))
        >>> BSRMatrix.from_scipy(a)
        BSRMatrix(shape=(4, 4), block=(2, 2), blocks=4)
        """
        check_scipy(a, VALUES)
        own = getattr(a, "blocksize", None) if getattr(a, "format", None) == "bsr" else None
        block = own if block is None else block
        if block is None:
            raise ValueError("block is None, expected (h, w): the matrix does not say it")
        if own is not None and (block is own or block_shape(block) == own):
            data, indices, indptr = used(a.data, a.indices, a.indptr)
            with contextlib.suppress(ValueError, TypeError):  # unsorted or repeated, or indices of another type
                return cls(data, indices, integers(indptr, "indptr"), a.shape)
            return cls.from_arrays(data, indices, indptr, (int(a.shape[0]), int(a.shape[1])))
        return cls.from_csr(CSRMatrix.from_scipy(a), block)

    def to_csr(self) -> CSRMatrix:
        """Every element of the blocks as an entry, zeros included."""
        (h, w), k = self.block, self.shape[1]
        blocks = np.diff(self.indptr)
        rows = np.repeat(np.arange(len(blocks)), blocks)
        columns = (self.indices[:, None].astype(np.int64) * w + np.arange(w))[:, None, :].repeat(h, 1)
        order = stable_order((rows[:, None] * h + np.arange(h)).reshape(-1))  # (block, row of it)
        indptr = layouts.starts_of(np.repeat(blocks, h) * w)
        count = len(self.indices) * h
        return CSRMatrix._made(given(self.data.reshape(count, w)[order].reshape(-1)),
                               given(columns.reshape(count, w)[order].reshape(-1).astype(INT32)), given(indptr),
                               (self.shape[0], k))

    def to_scipy(self, *, copy: bool = True) -> scipy.sparse.bsr_array:
        """The matrix in SciPy's class of the same blocks.

        Parameters
        ----------
        copy : bool
            True: with its own copy of the blocks. False: with these, read-only. Of 2³¹ blocks and more, SciPy copies
            their columns to int64 in either case.

        Returns
        -------
        scipy.sparse.bsr_array, shape (N, K)

        Raises
        ------
        TypeError
            If ``copy`` is not a bool.

        Examples
        --------
        >>> import numpy as np
        >>> BSRMatrix.from_dense(np.eye(4, dtype=np.float32), (2, 2)).to_scipy().blocksize
        (2, 2)
        """
        import scipy.sparse

        copy = flag(copy, "copy")
        indptr = self.indptr.astype(INT32) if len(self.indices) < 2**31 else self.indptr
        return scipy.sparse.bsr_array((self.data, self.indices, indptr), shape=self.shape, copy=copy)

    @property
    def block(self) -> tuple[int, int]:
        """``(h, w)``."""
        _, h, w = self.__dict__["data"].shape
        return h, w

    def __repr__(self) -> str:
        return f"BSRMatrix(shape={self.shape}, block={self.block}, blocks={len(self.indices)})"

    def _packed(self, name: str) -> Form:
        if name != "blocks" or self.dtype != FLOAT32:
            return super()._packed(name)
        from .forms import Blocks

        return Blocks(self)

    def _format(self, batch: int) -> str:
        high = self.block[0]
        narrow = self.shape[1] <= layouts.MOST_COLUMNS
        if self.dtype == FLOAT32 and (high == layouts.SLICE or (high >= 4 and (batch > 1 or not narrow))):
            return "blocks"
        return super()._format(batch)


def _distinct(numbers: NDArray[np.int64], below: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers that occur, ascending, and where each stands among them."""
    if below > 16 * len(numbers):
        return np.unique(numbers, return_inverse=True)
    occurs = np.zeros(below, np.bool_)
    occurs[numbers] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[numbers]
