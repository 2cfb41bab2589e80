"""The compressed sparse row matrix."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pycomp._floats import bfloat16, narrowed
from pycomp._validate import (
    FLOAT32,
    INT32,
    INT64,
    as_array,
    called,
    flag,
    from_lists,
    frozen,
    given,
    integer,
    of_shape,
    plain,
    shown,
)
from pycomp.kernels import layouts

from .matrix import SparseMatrix

if TYPE_CHECKING:
    import scipy.sparse

Layout = TypeVar("Layout")
INT8 = np.dtype(np.int8)
VALUES = ("float32", "float64", "float16", "bfloat16", "int8")
"""Types of values."""
LINES = {"row": "rows", "column": "columns", "row of blocks": "rows of blocks"}
"""What indptr has an element for."""
CONVERTED = ("coo", "csc", "bsr")
"""What SciPy itself makes CSR of, sorted, in a fraction of the time; but it adds up repeated entries in any order."""


class Pattern(dict[str, Any]):
    """What is made of a pattern once, whatever the values. That of a transpose knows its ``origin`` for as long as this
    is used, by a weak reference, which a dict itself does not allow."""


@dataclass(frozen=True, eq=False, repr=False)
class CSRMatrix(SparseMatrix):
    """A sparse matrix by rows: row i is the entries ``indptr[i] <= p < indptr[i + 1]``, columns ascending.

    Attributes
    ----------
    data : array of float32, float64, float16, bfloat16 or int8, shape (nnz,)
        Values, in the order of rows and columns. Zeros may be stored. Products widen float16, bfloat16 and int8 exactly
        and compute in float32; float64 stays float64.
    indices : array of int32, shape (nnz,)
        Columns; within a row they ascend, each at most once. int64 is converted.
    indptr : array of int64, shape (N + 1,)
        int32 is converted.
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
    already read-only is taken as it is: this is how to hand over a large array without a copy, if no view of it that
    can be written to was made before, and its flag is never set again.

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

    data: NDArray[Any]
    indices: NDArray[np.int32]
    indptr: NDArray[np.int64]
    shape: tuple[int, int]
    _pattern: Pattern = field(init=False)
    """What follows from the pattern alone, shared by matrices that have it."""

    _arrays = ("data", "indices", "indptr")

    def __post_init__(self) -> None:
        shape = matrix_shape(self.shape)
        data = frozen(as_values(self.data, "data", 1))
        indices, indptr = checked_places(self.indices, self.indptr, data.shape[0], shape)
        self._fill(data=data, indices=indices, indptr=indptr, shape=shape, _pattern=Pattern())

    @classmethod
    def from_dense(cls, w: Any, mask: Any = None) -> CSRMatrix:
        """The entries of a dense matrix that are not zero, NaN among them, or those that a mask keeps.

        Parameters
        ----------
        w : array of float32, float64, float16, bfloat16 or int8, shape (N, K)
        mask : array of bool, shape (N, K), optional
            As :mod:`pycomp.pruning` makes them. What it keeps is an entry even where it is zero: the pattern of weights
            that are trained under a mask.

        Raises
        ------
        TypeError
            If ``w`` is not an array of one of these, or ``mask`` none of bool.
        ValueError
            If ``w`` does not have two dimensions, or ``mask`` another shape.

        Examples
        --------
        >>> import numpy as np
        >>> CSRMatrix.from_dense(np.eye(3, dtype=np.float32)).nnz
        3
        >>> CSRMatrix.from_dense(np.zeros((2, 2), np.float32), mask=np.array([[True, False], [True, True]])).indices
        array([0, 0, 1], dtype=int32)
        """
        w = as_values(w, "w", 2)
        with np.errstate(invalid="ignore"):  # a signaling NaN of bfloat16
            stored = w != 0 if mask is None else of_shape(mask, "mask", np.dtype(np.bool_), w.shape)
        indptr = layouts.starts_of(np.count_nonzero(stored, axis=1))
        indices = (np.flatnonzero(stored) % max(w.shape[1], 1)).astype(INT32)
        return cls(given(w[stored]), given(indices), given(indptr), w.shape)

    @classmethod
    def from_arrays(cls, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> CSRMatrix:
        """A matrix from arrays as others make them: indices of any integer type, rows unsorted, entries repeated.

        Parameters
        ----------
        data : array of float32, float64, float16, bfloat16 or int8, shape (nnz,)
        indices : array of integers, shape (nnz,)
            Columns, in any order; entries of the same place are added in the order given, each sum rounded. A sum of
            int8 that is none is an error.
        indptr : array of integers, shape (N + 1,)
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
        >>> a = CSRMatrix.from_arrays(np.array([1, 2, 4], np.float32), [2, 0, 2], [0, 3], (1, 3))
        >>> a.data, a.indices
        (array([2., 5.], dtype=float32), array([0, 2], dtype=int32))
        """
        data = as_values(data, "data", 1)
        shape = matrix_shape(shape)
        return cls._of_entries(data, *unsorted_places(indices, indptr, data.shape[0], shape), shape)

    @classmethod
    def _of_entries(
        cls, data: NDArray[Any], row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, int]
    ) -> CSRMatrix:
        """From entries in any order, whose places are checked; those of one place add up, one after the other."""
        return cls(*summed(data, row, column, shape[0]), shape)

    @classmethod
    def _made(cls, data: Any, indices: Any, indptr: Any, shape: tuple[int, int]) -> CSRMatrix:
        """From arrays that are right because they come out of a CSRMatrix: they are not checked."""
        made = object.__new__(cls)
        made._fill(data=data, indices=indices, indptr=indptr, shape=shape, _pattern=Pattern())
        return made

    def _layout(self, name: str, make: Callable[..., Layout], keep: bool) -> Layout:
        """Where the entries go in a packed form; kept, it serves whatever values the pattern gets."""
        layout: Layout | None = self._pattern.get(name)  # another thread may drop it: see advise
        if layout is None:
            layout = make(self.indices, self.indptr, self.shape[1])
            if keep:
                self._pattern[name] = layout
        return layout

    def _entry_rows(self) -> NDArray[np.int64]:
        """The row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))

    def with_data(self, data: Any) -> CSRMatrix:
        """The same pattern with other values, which is not checked and not packed anew.

        This is how weights are updated under a mask: ``a = a.with_data(a.data - rate * gradient.data)``.

        Parameters
        ----------
        data : array of float32, float64, float16, bfloat16 or int8, shape (nnz,)

        Raises
        ------
        TypeError
            If ``data`` is not an array of one of these.
        ValueError
            If its shape is another.

        Examples
        --------
        >>> import numpy as np
        >>> a = CSRMatrix.from_dense(np.eye(2, dtype=np.float32))
        >>> a.with_data(2 * a.data).to_dense()
        array([[2., 0.],
               [0., 2.]], dtype=float32)
        """
        data = as_values(data, "data", 1)
        if data.shape != self.data.shape:
            raise ValueError(f"data has {data.shape[0]} elements, expected {self.nnz}, one an entry")
        made = self._made(frozen(data), self.indices, self.indptr, self.shape)
        made._fill(_pattern=self._pattern)
        return made

    def astype(self, dtype: Any) -> CSRMatrix:
        """The same entries with values of another type, rounded half to even.

        Parameters
        ----------
        dtype : float32, float64, float16 or bfloat16
            bfloat16 is ``ml_dtypes.bfloat16``.

        Raises
        ------
        TypeError
            If ``dtype`` is another.

        Examples
        --------
        >>> import numpy as np
        >>> CSRMatrix.from_dense(np.eye(2, dtype=np.float32)).astype(np.float16).dtype
        dtype('float16')
        """
        kind = _value_type(dtype)
        if kind == self.dtype:
            return self
        with np.errstate(all="ignore"):
            return self.with_data(given(narrowed(self.data, kind)))

    def without_zeros(self) -> CSRMatrix:
        """The entries that are not zero, NaN among them; the matrix itself if all are.

        Stored zeros are entries: of a pattern that is trained, or what fills the blocks of a BSRMatrix. In a product
        they follow IEEE, where what is not stored contributes nothing to NaN or infinity either.

        Examples
        --------
        >>> import numpy as np
        >>> a = CSRMatrix(np.array([0, 2], np.float32), np.array([0, 1]), np.array([0, 2]), (1, 2))
        >>> a.without_zeros()
        CSRMatrix(shape=(1, 2), nnz=1)
        """
        kept = self.data != 0
        if kept.all():
            return self
        before = np.concatenate([np.zeros(1, INT64), np.cumsum(kept)])
        return self._made(given(self.data[kept]), given(self.indices[kept]), given(before[self.indptr]), self.shape)

    def to_csr(self) -> CSRMatrix:
        """The matrix itself."""
        return self

    def _format(self, batch: int) -> str:
        return "csr" if self.dtype in (FLOAT32, np.float64) else self._packed_format(batch)

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
            raise TypeError(f"rows is {shown(rows)}, expected a slice such as 2:5")
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"rows has step {step}, expected 1")
        stop = max(start, stop)
        begin, end = self.indptr[start], self.indptr[stop]
        indptr = given(self.indptr[start : stop + 1] - begin)
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
        order, indices, indptr, pattern = self._transposed()
        made = self._made(given(self.data[order]), indices, indptr, self.shape[::-1])
        made._fill(_pattern=pattern)
        return made

    def _transposed(self) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64], Pattern]:
        """Where the transpose has its entries from, its indices and indptr, and its pattern."""
        known = self._pattern
        origin = known["origin"]() if "origin" in known else None
        if origin is not None:
            if "inverse" not in origin:
                order = origin["transpose"][0]
                inverse = np.empty_like(order)
                inverse[order] = np.arange(len(order))
                origin["inverse"] = inverse  # whole: other threads see it from here on
            return origin["inverse"], *origin["arrays"], origin
        if "transpose" not in known:
            order = stable_order(self.indices)  # within a column, rows keep their order
            row = self._entry_rows().astype(INT32)
            indptr = layouts.starts_of(np.bincount(self.indices, minlength=self.shape[1]))
            known["arrays"] = self.indices, self.indptr
            known["transpose"] = order, given(row[order]), given(indptr), Pattern(origin=weakref.ref(known))
        return known["transpose"]  # type: ignore[no-any-return]

    @classmethod
    def from_scipy(cls, a: Any) -> CSRMatrix:
        """A SciPy sparse matrix in any of its formats. Rows are sorted; entries of one place add up in their order.

        Parameters
        ----------
        a : scipy.sparse array or matrix of float32, float64 or int8, shape (N, K)
            It is not changed. Where it is in CSR and sorted, data and int32 indices that are read-only, as is what owns
            their memory, are taken as they are, so no view of them that can be written to may have been made before
            (see the Notes of the class); the rest is copied.

        Raises
        ------
        TypeError
            If ``a`` is not a SciPy sparse matrix of one of these.
        ValueError
            If it does not have two dimensions, or is malformed.

        Examples
        --------
        >>> import numpy as np, scipy.sparse
        >>> a = scipy.sparse.coo_array((np.ones(2, np.float32), ([0, 0], [1, 1])), shape=(1, 3))
        >>> CSRMatrix.from_scipy(a).to_dense()
        array([[0., 2., 0.]], dtype=float32)
        """
        check_scipy(a, ("float32", "float64", "int8"))
        if len(a.shape) != 2:
            raise ValueError(f"a has {len(a.shape)} dimensions {a.shape}, expected 2")
        shape = int(a.shape[0]), int(a.shape[1])
        if a.format == "csr":
            data, indices, indptr = used(a.data, a.indices, a.indptr)
            with contextlib.suppress(ValueError, TypeError):  # unsorted or repeated, or indices of another type
                return cls(data, indices, integers(indptr, "indptr"), shape)
            return cls.from_arrays(data, indices, indptr, shape)
        entries = _entries_of(a, shape)
        if a.format in CONVERTED:
            with contextlib.suppress(ValueError, TypeError):  # repeated, or indices that SciPy does not convert
                made = a.tocsr()
                if made.nnz == len(entries[0]):
                    return cls(made.data, made.indices, integers(made.indptr, "indptr"), shape)
        return cls._of_entries(*entries, shape)

    def to_scipy(self, *, copy: bool = True) -> scipy.sparse.csr_array:
        """The matrix in SciPy's class.

        Parameters
        ----------
        copy : bool
            True: with its own copy of the entries. False: with these, read-only. Of 2³¹ entries and more, SciPy copies
            the columns to int64 in either case.

        Returns
        -------
        scipy.sparse.csr_array, shape (N, K)

        Raises
        ------
        TypeError
            If the values are float16 or bfloat16, which SciPy does not have, or ``copy`` is not a bool.

        Examples
        --------
        >>> import numpy as np
        >>> CSRMatrix.from_dense(np.eye(2, dtype=np.float32)).to_scipy(copy=False).data.flags.writeable
        False
        """
        import scipy.sparse

        copy = flag(copy, "copy")
        if self.dtype.name in ("float16", "bfloat16"):
            raise TypeError(f"the values are {self.dtype.name}, which SciPy does not have; see astype")
        indptr = self.indptr.astype(INT32) if self.nnz < 2**31 else self.indptr
        return scipy.sparse.csr_array((self.data, self.indices, indptr), shape=self.shape, copy=copy)

    def to_dense(self) -> NDArray[Any]:
        """The matrix with its zeros, shape (N, K)."""
        w = np.zeros(self.shape, self.dtype)
        w[self._entry_rows(), self.indices] = self.data
        return w


def matrix_shape(shape: Any) -> tuple[int, int]:
    """``(N, K)`` if it is the shape of a matrix."""
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise TypeError(f"shape is {shown(shape)}, expected a tuple (N, K)")
    return integer(shape[0], "shape[0]", 0), integer(shape[1], "shape[1]", 0, 2**31 - 1)


def as_values(a: Any, name: str, ndim: int, values: tuple[str, ...] = VALUES) -> NDArray[Any]:
    """``a`` as an array of one of these types, in native byte order."""
    array = a if type(a) is np.ndarray else plain(a, name, "float32")
    kind = array.dtype
    if kind.name in values and kind.isnative:
        return as_array(array, name, kind, ndim)
    raise TypeError(f"{name} has dtype {called(kind)}, expected {', '.join(values[:-1])} or {values[-1]}; "
                    f"convert it with {name}.astype(np.float32)")


def _value_type(dtype: Any) -> np.dtype[Any]:
    """What ``astype`` was asked for."""
    found = repr(dtype)
    if dtype is not None:  # NumPy's name for float64
        if isinstance(dtype, str) and dtype == "bfloat16":
            with contextlib.suppress(ImportError):
                bfloat16()  # NumPy knows the name from now on
        with contextlib.suppress(TypeError, ValueError):
            kind: np.dtype[Any] = np.dtype(dtype)
            if kind.name in VALUES[:-1] and kind.isnative:
                return kind
            found = called(kind)
    raise TypeError(f"dtype is {found}, expected one of {', '.join(VALUES[:-1])}, in native byte order")


def check_scipy(a: Any, values: tuple[str, ...]) -> None:
    """``a`` is a SciPy sparse matrix with values of one of these types."""
    if isinstance(a, type) or not all(hasattr(a, name) for name in ("tocsr", "dtype", "shape", "format")):
        raise TypeError(f"a is a {type(a).__name__}, expected a SciPy sparse array")
    if a.dtype.name not in values:
        raise TypeError(f"a has dtype {a.dtype}, expected {', '.join(values[:-1])}{' or ' * (len(values) > 1)}"
                        f"{values[-1]}; convert it with a.astype(np.float32)")


def checked_places(
    indices: Any, indptr: Any, count: int, shape: tuple[int, int], line: str = "row"
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Those of so many entries. Copied first, checked then: nobody else can change what was checked."""
    found, starts = _copied(indices, "indices", INT32, INT64), _copied(indptr, "indptr", INT64, INT32)
    _check_rows(found, starts, count, shape[0], line)
    _check_columns(found, starts, shape[1], line)
    _check_order(found, starts, line)
    return found if found.dtype == INT32 else given(found.astype(INT32)), starts


def _copied(a: Any, name: str, kind: np.dtype[Any], other: np.dtype[Any]) -> NDArray[Any]:
    """Integers of that type, or of the other as int64, which nobody can write to."""
    a = a if type(a) is np.ndarray else plain(a, name, "int32 or int64")
    if a.dtype == other:
        return given(integers(a, name))
    if a.dtype != kind:  # of int32, which may be what others need, NumPy would keep the lowest bits
        raise TypeError(f"{name} has dtype {called(a.dtype)}, expected int32 or int64; "
                        f"convert it with {name}.astype(np.int64)")
    return frozen(as_array(a, name, kind, 1))


def unsorted_places(
    indices: Any, indptr: Any, count: int, shape: tuple[int, int], line: str = "row"
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each of so many entries, from integers of any type; rows may be unsorted and repeat columns."""
    found, starts = integers(indices, "indices"), integers(indptr, "indptr")
    _check_rows(found, starts, count, shape[0], line)
    _check_columns(found, starts, shape[1], line)
    return np.repeat(np.arange(shape[0]), np.diff(starts)), found


def summed(
    data: NDArray[Any], row: NDArray[np.int64], column: NDArray[np.int64], n: int, line: str = "row"
) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int64]]:
    """Data, indices and indptr of entries (or blocks) in any order: sorted, those of a place added one by one."""
    order = stable_order(column, row)  # entries of one place keep their order
    row, column, values = row[order], column[order], data[order]
    first = np.ones(len(row), np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
    sums = values[first].astype(INT64 if data.dtype == INT8 else data.dtype)
    if len(sums) < len(values):
        with np.errstate(all="ignore"):
            np.add.at(sums, (np.cumsum(first) - 1)[~first], values[~first])
    row, column = row[first], column[first]
    if data.dtype == INT8:
        if (bad := np.argwhere((sums < -128) | (sums > 127))).size:
            at = tuple(bad[0])
            raise ValueError(f"the entries of {line} {row[at[0]]}, column {column[at[0]]} add up to {sums[at]}, "
                             "expected an int8")
        sums = sums.astype(INT8)
    return given(sums), given(column.astype(INT32)), given(layouts.starts_of(np.bincount(row, minlength=n)))


def integers(a: Any, name: str) -> NDArray[np.int64]:
    """One-dimensional integers as int64; what does not fit is an error."""
    array = from_lists(a, name, "integers")
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} has dtype {array.dtype.name}, expected integers")
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions {array.shape}, expected 1")
    if array.dtype == np.uint64 and array.size and array.max() > np.uint64(2**63 - 1):
        raise ValueError(f"{name} holds {array.max()}, expected at most {2**63 - 1}")
    return array.astype(INT64)


def used(data: Any, indices: Any, indptr: Any) -> tuple[Any, Any, Any]:
    """The arrays of SciPy's compressed formats, which may have room at their end."""
    indptr, room = np.asarray(indptr), np.shape(indices)
    compressed = indptr.dtype.kind in "iu" and indptr.ndim == len(room) == 1 and np.shape(data)[:1] == room
    if compressed and len(indptr) and 0 <= indptr[-1] < room[0]:
        return data[: indptr[-1]], indices[: indptr[-1]], indptr
    return data, indices, indptr


def _entries_of(a: Any, shape: tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Values, rows and columns of a SciPy matrix that is not CSR, checked: SciPy's own conversions trust them."""
    n, k = shape
    if a.format == "lil":
        return _entries_of_lists(a, n, k)
    if a.format in ("csc", "bsr"):
        as_values(a.data, "data", 3 if a.format == "bsr" else 1)
        values, indices, indptr = used(a.data, a.indices, a.indptr)
        found, starts = integers(indices, "indices"), integers(indptr, "indptr")
        if a.format == "csc":
            _check_rows(found, starts, values.shape[0], k, "column")
            _check_columns(found, starts, n, "column")
            return values, found, np.repeat(np.arange(k), np.diff(starts))
        _, h, w = values.shape
        check_divides(shape, (h, w))
        _check_rows(found, starts, values.shape[0], n // h, "row of blocks")
        _check_columns(found, starts, k // w, "row of blocks")
        block_rows = np.repeat(np.arange(n // h), np.diff(starts))
        row = (block_rows * h)[:, None, None] + np.arange(h)[:, None]
        column = (found * w)[:, None, None] + np.arange(w)
        return values.reshape(-1), *(np.broadcast_to(x, values.shape).reshape(-1) for x in (row, column))
    if a.format == "dia" and len(a.offsets) != len(as_values(a.data, "data", 2)):
        raise ValueError(f"offsets has {len(a.offsets)} elements, data {len(a.data)} rows, expected the same")
    a = a.tocoo()
    values, row, column = as_values(a.data, "data", 1), integers(a.row, "row"), integers(a.col, "col")
    if not len(row) == len(column) == len(values):
        raise ValueError(f"row has {len(row)} elements, col {len(column)}, data {len(values)}, expected the same")
    for found, name, count in ((row, "row", n), (column, "col", k)):
        if (at := _first((found < 0) | (found >= count))) is not None:
            raise ValueError(f"{name}[{at}] is {found[at]}, expected {_below(count)}")
    return values, row, column


def _entries_of_lists(a: Any, n: int, k: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Those of SciPy's lists of rows, whose conversion writes past its arrays where the lists differ in length."""
    if not len(a.rows) == len(a.data) == n:
        raise ValueError(f"rows has {len(a.rows)} lists, data {len(a.data)}, expected {n}")
    column, values = _numbers(a.rows, "rows", INT64), _numbers(a.data, "data", a.dtype)
    lengths = [len(columns) for columns in a.rows]
    for i, (count, line) in enumerate(zip(lengths, a.data, strict=True)):
        if count != len(line):
            raise ValueError(f"rows[{i}] has {count} elements, data[{i}] {len(line)}, expected the same")
    _check_columns(column, layouts.starts_of(np.array(lengths, INT64)), k)
    return values, np.repeat(np.arange(n), lengths), column


def _numbers(lines: Any, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
    """What is in lists, one after the other; the error names the list that holds something else."""
    with contextlib.suppress(ValueError, TypeError):
        return _line(list(itertools.chain.from_iterable(lines)), name, kind)
    return np.concatenate([_line(line, f"{name}[{i}]", kind) for i, line in enumerate(lines)])


def _line(line: Any, name: str, kind: np.dtype[Any]) -> NDArray[Any]:
    """A list of numbers as an array of that type; no other number is made an integer of it."""
    whole, found = kind.kind == "i", from_lists(line, name, kind.name)
    if found.size and found.dtype.kind not in ("iu" if whole else "iuf"):
        raise TypeError(f"{name} has dtype {found.dtype.name}, expected numbers of type {kind.name}")
    with np.errstate(all="ignore"):
        values = as_array(found.astype(kind), name, kind, 1)
    if whole and (at := _first(values != found)) is not None:
        raise ValueError(f"{name} holds {found[at]}, expected numbers of type {kind.name}")
    return values


def stable_order(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """``np.lexsort`` of keys of at least 0: by the last, ties by the one before. NumPy sorts such digits by radix."""
    order = np.arange(len(keys[0]))
    for key in keys:
        for shift in range(0, int(key.max(initial=0)).bit_length(), 16):
            digit = (key >> shift).astype(np.uint16)[order]
            if not (digit[1:] >= digit[:-1]).all():
                order = order[np.argsort(digit, kind="stable")]
    return order


def check_divides(shape: tuple[int, ...], block: tuple[int, int]) -> None:
    if min(block) < 1 or shape[0] % block[0] or shape[1] % block[1]:
        raise ValueError(f"a matrix {tuple(shape)} does not divide into blocks {block}")


def _below(count: int) -> str:
    return f"0 to {count - 1}" if count else "none, as there are none"


def _check_rows(indices: NDArray[Any], indptr: NDArray[Any], nnz: int, n: int, line: str = "row") -> None:
    if indices.shape[0] != nnz:
        raise ValueError(f"indices has {indices.shape[0]} elements, data has {nnz}")
    if indptr.shape[0] != n + 1:
        raise ValueError(f"indptr has {indptr.shape[0]} elements, expected {n + 1} for {n} {LINES[line]}")
    if indptr[0] != 0:
        raise ValueError(f"indptr[0] is {indptr[0]}, expected 0")
    if (i := _first(indptr[1:] < indptr[:-1])) is not None:
        raise ValueError(f"indptr decreases at position {i + 1}: {indptr[i + 1]} after {indptr[i]}")
    if indptr[-1] != nnz:
        raise ValueError(f"indptr[{n}] is {indptr[-1]}, expected the number of entries {nnz}")


def _check_columns(indices: NDArray[Any], indptr: NDArray[Any], k: int, line: str = "row") -> None:
    if indices.size == 0:
        return
    if indices.min() < 0 or indices.max() >= k:
        p = int(np.argmax((indices < 0) | (indices >= k)))
        raise ValueError(f"indices[{p}] in {line} {_row(indptr, p)} is {indices[p]}, expected {_below(k)}")


def _check_order(indices: NDArray[Any], indptr: NDArray[Any], line: str) -> None:
    nnz = indices.shape[0]
    if nnz == 0:
        return
    falls = indices[1:] <= indices[:-1]
    starts = indptr[1:-1]
    falls[starts[(starts > 0) & (starts < nnz)] - 1] = False  # a row's first column may be any
    if (i := _first(falls)) is not None:
        row, before, column = _row(indptr, i), indices[i], indices[i + 1]
        if before == column:
            raise ValueError(f"{line} {row} has column {column} twice, at indices[{i}] and indices[{i + 1}]")
        raise ValueError(f"{line} {row} is not sorted: indices[{i + 1}] is {column} after {before}")


def _first(bad: NDArray[np.bool_]) -> int | None:
    """Where the first True is."""
    at = int(bad.argmax()) if bad.size else 0
    return at if bad.size and bad[at] else None


def _row(indptr: NDArray[Any], p: int) -> int:
    """The row of entry p."""
    return int(np.searchsorted(indptr, p, side="right")) - 1
