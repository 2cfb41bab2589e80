"""The compressed sparse row matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, as_array, integer

if TYPE_CHECKING:
    import scipy.sparse

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)


@dataclass(frozen=True, eq=False)
class CSRMatrix:
    """A sparse float32 matrix by rows: row i is the entries ``indptr[i] <= p < indptr[i + 1]``, columns ascending.

    Attributes
    ----------
    data : array of float32, shape (nnz,)
        Values, in the order of rows and columns. Zeros may be stored.
    indices : array of int32, shape (nnz,)
        Columns; within a row they ascend, each at most once.
    indptr : array of int64, shape (N + 1,)
    shape : tuple of int
        ``(N, K)``.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If the arrays are not such a matrix. The message says where.

    Notes
    -----
    Everything is checked once, here, so the arrays must not change afterwards: a column out of range would make a
    product read foreign memory. They are copied, and the copies are read-only. An array that owns its memory and is
    already read-only is taken as it is: this is how to hand over a large array without a copy.

    Examples
    --------
    >>> import numpy as np
    >>> w = CSRMatrix.from_dense(np.array([[0, 2, 0], [3, 0, 4]], np.float32))
    >>> w.data, w.indices, w.indptr
    (array([2., 3., 4.], dtype=float32), array([1, 0, 2], dtype=int32), array([0, 1, 3]))
    >>> w @ np.ones((3, 1), np.float32)
    array([[2.],
           [7.]], dtype=float32)
    """

    data: NDArray[np.float32]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    shape: tuple[int, int]

    __array_ufunc__ = None  # ndarray @ CSRMatrix is a TypeError, not an array of objects

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple) or len(self.shape) != 2:
            raise TypeError(f"shape is {self.shape!r}, expected a tuple (N, K)")
        shape = integer(self.shape[0], "shape[0]", 0), integer(self.shape[1], "shape[1]", 0, 2**31 - 1)
        data = _frozen(as_array(self.data, "data", FLOAT32, 1))
        indices = _frozen(as_array(self.indices, "indices", INT32, 1))
        indptr = _frozen(as_array(self.indptr, "indptr", INT64, 1))
        _check(data, indices, indptr, *shape)
        for name, value in (("data", data), ("indices", indices), ("indptr", indptr), ("shape", shape)):
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or an unpickled matrix is checked and frozen again."""
        return CSRMatrix, (self.data, self.indices, self.indptr, self.shape)

    @classmethod
    def from_dense(cls, w: Any) -> CSRMatrix:
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
        >>> CSRMatrix.from_dense(np.eye(3, dtype=np.float32)).nnz
        3
        """
        w = as_array(w, "w", FLOAT32, 2)
        stored = w != 0
        indptr = np.zeros(w.shape[0] + 1, INT64)
        np.cumsum(np.count_nonzero(stored, axis=1), out=indptr[1:])
        indices = (np.flatnonzero(stored) % max(w.shape[1], 1)).astype(INT32)
        return cls(_given(w[stored]), _given(indices), _given(indptr), w.shape)

    @classmethod
    def from_arrays(cls, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> CSRMatrix:
        """A matrix from arrays as others make them: indices of any integer type, rows unsorted, entries repeated.

        Parameters
        ----------
        data : array of float32, shape (nnz,)
        indices : array of integers, shape (nnz,)
            Columns, in any order; entries of the same place are added in the order given, each sum rounded.
        indptr : array of integers, shape (N + 1,)
        shape : tuple of int
            ``(N, K)``.

        Raises
        ------
        TypeError
            If an array has another kind of dtype.
        ValueError
            If the arrays are not such a matrix. The message says where.

        Examples
        --------
        >>> import numpy as np
        >>> a = CSRMatrix.from_arrays(np.array([1, 2, 4], np.float32), [2, 0, 2], [0, 3], (1, 3))
        >>> a.data, a.indices
        (array([2., 5.], dtype=float32), array([0, 2], dtype=int32))
        """
        data = as_array(data, "data", FLOAT32, 1)
        found, starts = _integers(indices, "indices"), _integers(indptr, "indptr")
        if not isinstance(shape, tuple) or len(shape) != 2:
            raise TypeError(f"shape is {shape!r}, expected a tuple (N, K)")
        n, k = integer(shape[0], "shape[0]", 0), integer(shape[1], "shape[1]", 0, 2**31 - 1)
        _check_rows(found, starts, data.shape[0], n)
        _check_columns(found, starts, k)
        row = np.repeat(np.arange(n), np.diff(starts))
        order = np.lexsort((found, row))  # stable: entries of one place keep their order
        row, column, values = row[order], found[order], data[order]
        first = np.ones(len(row), np.bool_)
        first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
        place = np.cumsum(first) - 1
        rank = np.arange(len(row)) - np.flatnonzero(first)[place] if len(row) else place
        sums = values[first].copy()
        for r in range(1, int(rank.max(initial=0)) + 1):
            again = rank == r
            sums[place[again]] += values[again]
        counts = np.zeros(n + 1, INT64)
        np.cumsum(np.bincount(row[first], minlength=n)[:n], out=counts[1:])
        return cls(_given(sums), _given(column[first].astype(INT32)), _given(counts), (n, k))

    @classmethod
    def _made(cls, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> CSRMatrix:
        """From arrays that are right because they come out of a CSRMatrix: they are not checked."""
        made = object.__new__(cls)
        for name, value in (("data", data), ("indices", indices), ("indptr", indptr), ("shape", shape)):
            object.__setattr__(made, name, value)
        return made

    def __getitem__(self, rows: Any) -> CSRMatrix:
        """Rows ``a[i:j]``, without a copy of their entries.

        Raises
        ------
        TypeError
            If ``rows`` is not a slice.
        ValueError
            If its step is not 1.

        Examples
        --------
        >>> import numpy as np
        >>> CSRMatrix.from_dense(np.eye(3, dtype=np.float32))[1:].to_dense()
        array([[0., 1., 0.],
               [0., 0., 1.]], dtype=float32)
        """
        if not isinstance(rows, slice):
            raise TypeError(f"rows is {rows!r}, expected a slice such as 2:5")
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"rows has step {step}, expected 1")
        stop = max(start, stop)
        begin, end = self.indptr[start], self.indptr[stop]
        indptr = _given(self.indptr[start : stop + 1] - begin)
        return self._made(self.data[begin:end], self.indices[begin:end], indptr, (stop - start, self.shape[1]))

    @property
    def T(self) -> CSRMatrix:  # noqa: N802
        """The transpose, a new matrix.

        Examples
        --------
        >>> import numpy as np
        >>> CSRMatrix.from_dense(np.array([[1, 2]], np.float32)).T.to_dense()
        array([[1.],
               [2.]], dtype=float32)
        """
        n, k = self.shape
        order = np.argsort(self.indices, kind="stable")  # within a column, rows keep their order
        row = np.repeat(np.arange(n, dtype=INT32), np.diff(self.indptr))
        indptr = np.zeros(k + 1, INT64)
        np.cumsum(np.bincount(self.indices, minlength=k), out=indptr[1:])
        return self._made(_given(self.data[order]), _given(row[order]), _given(indptr), (k, n))

    @classmethod
    def from_scipy(cls, a: Any) -> CSRMatrix:
        """A SciPy sparse matrix of float32 in any of its formats. Rows are sorted, duplicate entries summed by SciPy.

        Parameters
        ----------
        a : scipy.sparse array or matrix of float32, shape (N, K)
            It is not changed.

        Raises
        ------
        TypeError
            If ``a`` is not a SciPy sparse matrix of float32.
        ValueError
            If it does not have two dimensions, or is malformed.

        Examples
        --------
        >>> import numpy as np, scipy.sparse
        >>> a = scipy.sparse.coo_array((np.ones(2, np.float32), ([0, 0], [1, 1])), shape=(1, 3))
        >>> CSRMatrix.from_scipy(a).to_dense()
        array([[0., 2., 0.]], dtype=float32)
        """
        if not hasattr(a, "tocsr"):
            raise TypeError(f"a is a {type(a).__name__}, expected a SciPy sparse array")
        if a.dtype != FLOAT32:
            raise TypeError(f"a has dtype {a.dtype}, expected float32; convert it with a.astype(np.float32)")
        if len(a.shape) != 2:
            raise ValueError(f"a has {len(a.shape)} dimensions {a.shape}, expected 2")
        import scipy.sparse

        a = a.tocsr()
        # A new object, since the flags that say what was checked and sorted may be out of date in the old one.
        csr = scipy.sparse.csr_array((a.data, a.indices, a.indptr), shape=a.shape, copy=True)
        csr.check_format(full_check=True)
        csr.sum_duplicates()
        data, indices, indptr = csr.data[: csr.nnz], csr.indices[: csr.nnz], csr.indptr
        n, k = map(int, a.shape)
        return cls(_given(data.copy()), _given(indices.astype(INT32)), _given(indptr.astype(INT64)), (n, k))

    def to_scipy(self) -> scipy.sparse.csr_array:
        """A ``scipy.sparse.csr_array`` with its own copy of the entries."""
        import scipy.sparse

        return scipy.sparse.csr_array((self.data, self.indices, self.indptr), shape=self.shape, copy=True)

    def to_dense(self) -> NDArray[np.float32]:
        """The matrix with its zeros, shape (N, K)."""
        w = np.zeros(self.shape, FLOAT32)
        w[np.repeat(np.arange(self.shape[0]), np.diff(self.indptr)), self.indices] = self.data
        return w

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return int(self.data.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.data.nbytes + self.indices.nbytes + self.indptr.nbytes

    @property
    def sparsity(self) -> float:
        """The part of the matrix that is not stored; 0 for a matrix without elements."""
        size = self.shape[0] * self.shape[1]
        return 1 - self.nnz / size if size else 0.0

    def __matmul__(self, b: Any) -> NDArray[np.float32]:
        """:func:`pycomp.sparse.matmul`."""
        from .products import matmul

        return matmul(self, b)

    def __repr__(self) -> str:
        return f"CSRMatrix(shape={self.shape}, nnz={self.nnz})"


def _given(a: NDArray[Any]) -> NDArray[Any]:
    """A new array, made ready to be taken without a copy."""
    a.flags.writeable = False
    return a


def _frozen(a: NDArray[Any]) -> NDArray[Any]:
    """``a`` if nobody can write to it, else a copy of that kind; contiguous and aligned."""
    flags = a.flags
    if flags.owndata and not flags.writeable and flags.c_contiguous and flags.aligned:
        return a
    return _given(np.array(a))


def _integers(a: Any, name: str) -> NDArray[np.int64]:
    """One-dimensional integers as int64; what does not fit is an error."""
    array = np.asarray(a)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} has dtype {array.dtype.name}, expected integers")
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions {array.shape}, expected 1")
    if array.dtype == np.uint64 and array.size and array.max() > np.uint64(2**63 - 1):
        raise ValueError(f"{name} holds {array.max()}, expected at most {2**63 - 1}")
    return array.astype(INT64)


def _check(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], n: int, k: int) -> None:
    _check_rows(indices, indptr, data.shape[0], n)
    _check_columns(indices, indptr, k)
    _check_order(indices, indptr)


def _check_rows(indices: NDArray[Any], indptr: NDArray[Any], nnz: int, n: int) -> None:
    if indices.shape[0] != nnz:
        raise ValueError(f"indices has {indices.shape[0]} elements, data has {nnz}")
    if indptr.shape[0] != n + 1:
        raise ValueError(f"indptr has {indptr.shape[0]} elements, expected {n + 1} for {n} rows")
    if indptr[0] != 0:
        raise ValueError(f"indptr[0] is {indptr[0]}, expected 0")
    if (i := _first(indptr[1:] < indptr[:-1])) is not None:
        raise ValueError(f"indptr decreases at position {i + 1}: {indptr[i + 1]} after {indptr[i]}")
    if indptr[-1] != nnz:
        raise ValueError(f"indptr[{n}] is {indptr[-1]}, expected the number of entries {nnz}")


def _check_columns(indices: NDArray[Any], indptr: NDArray[Any], k: int) -> None:
    if indices.size == 0:
        return
    if indices.min() < 0 or indices.max() >= k:
        p = int(np.argmax((indices < 0) | (indices >= k)))
        raise ValueError(f"indices[{p}] in row {_row(indptr, p)} is {indices[p]}, expected 0 to {k - 1}")


def _check_order(indices: NDArray[Any], indptr: NDArray[Any]) -> None:
    nnz = indices.shape[0]
    if nnz == 0:
        return
    falls = indices[1:] <= indices[:-1]
    starts = indptr[1:-1]
    falls[starts[(starts > 0) & (starts < nnz)] - 1] = False  # a row's first column may be any
    if (i := _first(falls)) is not None:
        row, before, column = _row(indptr, i), indices[i], indices[i + 1]
        if before == column:
            raise ValueError(f"row {row} has column {column} twice, at indices[{i}] and indices[{i + 1}]")
        raise ValueError(f"row {row} is not sorted: indices[{i + 1}] is {column} after {before}")


def _first(bad: NDArray[np.bool_]) -> int | None:
    """Where the first True is."""
    at = int(bad.argmax()) if bad.size else 0
    return at if bad.size and bad[at] else None


def _row(indptr: NDArray[Any], p: int) -> int:
    """The row of entry p."""
    return int(np.searchsorted(indptr, p, side="right")) - 1
