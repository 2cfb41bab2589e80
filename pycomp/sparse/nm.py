"""The matrix with N entries in every M columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, INT32, as_array, frozen, given, integer, shown
from pycomp.kernels import layouts

from .csr import CSRMatrix, check_scipy, matrix_shape
from .matrix import SparseMatrix, check_matrix

if TYPE_CHECKING:
    from .forms import Form

UINT8 = np.dtype(np.uint8)
WIDEST = 16
"""Columns of a group: those of a register."""


@dataclass(frozen=True, eq=False, repr=False)
class NMMatrix(SparseMatrix):
    """A sparse matrix with ``n`` stored elements in every group of ``m`` columns of a row: 2:4, 1:4, 4:8, ...

    Attributes
    ----------
    data : array of float32, shape (N, K / m * n)
        Values by rows, groups and columns. A group with fewer than ``n`` others stores zeros, which follow IEEE.
    places : array of uint8, shape (N, ceil(K / m * n / 2))
        Column of each value within its group, two a byte: bits 0 to 3 of ``places[i, j]`` are of ``data[i, 2*j]``, bits
        4 to 7 of ``data[i, 2*j + 1]``, 0 past the last. Within a group they ascend, each at most once.
    n, m : int
        ``1 <= n <= m <= 16``; m divides K.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If the arrays are not such a matrix. The message says where.

    Notes
    -----
    4.5 bytes an entry. A product with one row of x takes its elements inside a register; with more rows it runs in
    ``format="windows"`` or ``"tiles"``. Each is packed at the first product.

    Examples
    --------
    >>> import numpy as np
    >>> a = NMMatrix.from_dense(np.array([[0, 1, 0, 2, 3, 0, 0, 0]], np.float32), 2, 4)
    >>> a.data, a.unpacked_places()
    (array([[1., 2., 3., 0.]], dtype=float32), array([[1, 3, 0, 1]], dtype=uint8))
    >>> a @ np.ones((8, 1), np.float32)
    array([[6.]], dtype=float32)
    """

    data: NDArray[np.float32]
    places: NDArray[np.uint8]
    n: int
    m: int

    _arrays = ("data", "places")

    def __post_init__(self) -> None:
        n, m = _pattern(self.n, self.m)
        data = frozen(as_array(self.data, "data", FLOAT32, 2))
        places = frozen(as_array(self.places, "places", UINT8, 2))
        rows, steps = data.shape
        if places.shape != (expected := (rows, -(-steps // 2))):
            raise ValueError(f"places has shape {places.shape}, expected {expected} for data {data.shape}; "
                             "NMMatrix.from_places takes a byte each")
        if steps % n:
            raise ValueError(f"data has {steps} elements a row, expected a multiple of n = {n}")
        if steps % 2 and (past := np.flatnonzero(places[:, -1] >> 4)).size:
            raise ValueError(f"places has a place past the last in row {past[0]}, expected 0")
        groups = layouts.halves(places, steps).reshape(rows, steps // n, n)
        bad = np.zeros(groups.shape, np.bool_)
        bad[..., 1:] = groups[..., 1:] <= groups[..., :-1]
        bad |= groups >= m
        if bad.any():
            row, group = (int(i) for i in np.argwhere(bad)[0][:2])
            raise ValueError(f"places of row {row}, group {group} are {groups[row, group].tolist()}, "
                             f"expected {n} ascending numbers below {m}")
        shape = matrix_shape((rows, steps // n * m))
        self._fill(data=data, places=places, n=n, m=m, shape=shape)

    @classmethod
    def from_places(cls, data: Any, places: Any, n: int, m: int) -> NMMatrix:
        """A matrix from its values and a byte for the place of each.

        Parameters
        ----------
        data : array of float32, shape (N, K / m * n)
        places : array of uint8, shape (N, K / m * n)
            Column of each value within its group, ascending.
        n, m : int

        Raises
        ------
        TypeError
            If an array has another dtype.
        ValueError
            If the arrays are not such a matrix. The message says where.

        Examples
        --------
        >>> import numpy as np
        >>> NMMatrix.from_places(np.ones((1, 2), np.float32), np.array([[0, 3]], np.uint8), 1, 4).to_dense()
        array([[1., 0., 0., 0., 0., 0., 0., 1.]], dtype=float32)
        """
        data, places = as_array(data, "data", FLOAT32, 2), as_array(places, "places", UINT8, 2)
        if places.shape != data.shape:
            raise ValueError(f"places has shape {places.shape}, data has {data.shape}")
        if (places > 15).any():
            raise ValueError(f"places holds {places[places > 15][0]}, expected numbers below m = {shown(m)}")
        return cls(data, given(layouts.paired(places)), n, m)

    def unpacked_places(self) -> NDArray[np.uint8]:
        """A byte for the place of each value, shape (N, K / m * n)."""
        return layouts.halves(self.places, self.data.shape[1])

    @classmethod
    def from_dense(cls, w: Any, n: int, m: int) -> NMMatrix:
        """A matrix with at most ``n`` non-zeros in every ``m`` columns, as :func:`pycomp.pruning.nm_mask` leaves it.

        Parameters
        ----------
        w : array of float32, shape (N, K)
        n, m : int

        Raises
        ------
        TypeError
            If ``w`` is not a float32 array.
        ValueError
            If a group has more non-zeros, or m does not divide K. The message says where.

        Examples
        --------
        >>> import numpy as np
        >>> NMMatrix.from_dense(np.eye(4, dtype=np.float32), 1, 4)
        NMMatrix(shape=(4, 4), pattern='1:4')
        """
        w = as_array(w, "w", FLOAT32, 2)
        return cls._of_dense(w, w != 0, "w", "non-zeros", n, m)

    @classmethod
    def _of_dense(
        cls, w: NDArray[np.float32], stored: NDArray[np.bool_], name: str, entries: str, n: int, m: int
    ) -> NMMatrix:
        """From what the caller knows by that name, and what its entries are called."""
        n, m = _pattern(n, m)
        if w.shape[1] % m:
            raise ValueError(f"{name} has {w.shape[1]} columns, expected a multiple of m = {m}")
        taken = stored.reshape(w.shape[0], w.shape[1] // m, m)
        count = np.count_nonzero(taken, axis=2)
        if count.size and count.max() > n:
            row, group = (int(i) for i in np.argwhere(count > n)[0])
            raise ValueError(f"group {group} of row {row} has {count[row, group]} {entries} in columns {group * m} to "
                             f"{group * m + m - 1}, expected at most {n}")
        if (count < n).any():  # the first free places are taken too
            before = np.cumsum(~taken, axis=2, dtype=UINT8)
            taken = taken | (before <= (n - count)[:, :, None])
        kept, flat = np.flatnonzero(taken), (w.shape[0], taken.shape[1] * n)
        places = (kept % m).astype(UINT8).reshape(flat)
        return cls(given(w.reshape(-1)[kept].reshape(flat)), given(layouts.paired(places)), n, m)

    @classmethod
    def from_csr(cls, a: CSRMatrix, n: int, m: int) -> NMMatrix:
        """A matrix whose entries fit the pattern; stored zeros stay stored, in their places.

        A group with fewer than ``n`` entries gets zeros at its first free places.

        Parameters
        ----------
        a : CSRMatrix of float32, shape (N, K)
        n, m : int

        Raises
        ------
        TypeError
            If ``a`` is not a CSRMatrix of float32.
        ValueError
            If a group has more than ``n`` entries, or m does not divide K. The message says where.
            :meth:`CSRMatrix.without_zeros` leaves out entries that are zero.

        Examples
        --------
        >>> import numpy as np
        >>> NMMatrix.from_csr(CSRMatrix.from_dense(np.eye(4, dtype=np.float32)), 2, 4).nnz
        8
        """
        check_matrix(a, "a", (CSRMatrix,), (FLOAT32,))
        stored = np.zeros(a.shape, np.bool_)
        stored[a._entry_rows(), a.indices] = True
        return cls._of_dense(a.to_dense(), stored, "a", "entries", n, m)

    @classmethod
    def from_scipy(cls, a: Any, n: int, m: int) -> NMMatrix:
        """A SciPy sparse matrix in any of its formats whose entries fit the pattern, as :meth:`from_csr`.

        Parameters
        ----------
        a : scipy.sparse array or matrix of float32, shape (N, K)
            It is not changed, and nothing of it is kept: values and places are new arrays, also where
            :meth:`CSRMatrix.from_scipy` would take its arrays as they are.
        n, m : int

        Raises
        ------
        TypeError
            If ``a`` is not a SciPy sparse matrix of float32.
        ValueError
            If it does not have two dimensions or is malformed, and as :meth:`from_csr`.

        Examples
        --------
        >>> import numpy as np, scipy.sparse
        >>> NMMatrix.from_scipy(scipy.sparse.csr_array(np.eye(4, dtype=np.float32)), 1, 4)
        NMMatrix(shape=(4, 4), pattern='1:4')
        """
        check_scipy(a, ("float32",))
        return cls.from_csr(CSRMatrix.from_scipy(a), n, m)

    def to_csr(self) -> CSRMatrix:
        """Every stored element as an entry, zeros included."""
        rows, steps = self.data.shape
        columns = np.arange(steps) // self.n * self.m + self.unpacked_places()
        indptr = np.arange(rows + 1, dtype=np.int64) * steps
        return CSRMatrix._made(given(self.data.reshape(-1).copy()), given(columns.reshape(-1).astype(INT32)),
                               given(indptr), self.shape)

    def __repr__(self) -> str:
        return f"NMMatrix(shape={self.shape}, pattern='{self.n}:{self.m}')"

    def _packed(self, name: str) -> Form:
        if name != "nm":
            return super()._packed(name)
        from .forms import Nm

        return Nm(self)

    def _format(self, batch: int) -> str:
        return "nm" if batch == 1 else super()._format(batch)


def _pattern(n: Any, m: Any) -> tuple[int, int]:
    m = integer(m, "m", 1, WIDEST)
    return integer(n, "n", 1, m), m
