"""What every sparse matrix has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import pycomp.sparse
from pycomp._holder import ArrayHolder
from pycomp._validate import BATCH_NDIM, as_array
from pycomp.kernels import dispatch, layouts

if TYPE_CHECKING:
    import scipy.sparse

    from .csr import CSRMatrix
    from .forms import Form


FEW, MOST_PLACES = 4, 10
"""Rows of x that one pass over windows serves, and elements an entry up to which windows are full enough."""
WIDE = 64
"""Bytes of the registers inside which lanes take elements of a window by one instruction."""


def windows_pay(entries: int, shape: tuple[int, int]) -> bool:
    """Whether few rows of x are faster by windows than by slices and tiles, on this machine. (Rows come in groups.)"""
    rows = -(-shape[0] // layouts.GROUP) * layouts.GROUP
    return dispatch.register_bytes() == WIDE and rows * shape[1] <= MOST_PLACES * entries


class SparseMatrix(ArrayHolder):
    """A matrix ``[N, K]`` that does not store its zeros. Its arrays are checked once and never change.

    ``==`` is true of a matrix and itself alone; what two matrices hold is compared through their arrays.
    """

    shape: tuple[int, int]
    data: NDArray[Any]
    __array_ufunc__ = None  # ndarray @ SparseMatrix comes to __rmatmul__, not to an array of objects

    def to_csr(self) -> CSRMatrix:
        """The same entries as a :class:`CSRMatrix`, stored zeros included."""
        raise NotImplementedError

    @property
    def nnz(self) -> int:
        """Number of stored elements."""
        return int(self.__dict__["data"].size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        kind: np.dtype[Any] = self.__dict__["data"].dtype
        return kind

    __iter__ = None  # by __getitem__, which takes slices alone, Python would try numbers

    def __getitem__(self, rows: Any) -> CSRMatrix:
        """Rows of a :class:`CSRMatrix`; of others a TypeError."""
        raise TypeError(f"no {type(self).__name__} can be sliced; to_csr() makes a CSRMatrix, which can")

    @property
    def T(self) -> CSRMatrix:  # noqa: N802
        """The transpose of a :class:`CSRMatrix`; others have none."""
        raise AttributeError(f"no {type(self).__name__} has a transpose; to_csr() makes a CSRMatrix, which does")

    def to_dense(self) -> NDArray[Any]:
        """The matrix with its zeros, shape (N, K)."""
        return self.to_csr().to_dense()

    def to_scipy(self, *, copy: bool = True) -> scipy.sparse.csr_array | scipy.sparse.bsr_array:
        """The matrix in SciPy's class.

        Parameters
        ----------
        copy : bool
            True: with its own copy of the entries. False: with those of :meth:`to_csr`, read-only.

        Returns
        -------
        scipy.sparse.csr_array, shape (N, K)

        Raises
        ------
        TypeError
            If ``copy`` is not a bool.

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.sparse import BitmapMatrix
        >>> BitmapMatrix.from_dense(np.eye(2, dtype=np.float32)).to_scipy().toarray()
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        """
        return self.to_csr().to_scipy(copy=copy)

    @property
    def sparsity(self) -> float:
        """The part of the matrix that is not stored; 0 for a matrix without elements."""
        size = self.shape[0] * self.shape[1]
        return 1 - self.nnz / size if size else 0.0

    def __matmul__(self, b: Any) -> NDArray[Any]:
        """:func:`pycomp.sparse.matmul`."""
        return pycomp.sparse.matmul(self, b)

    def __rmatmul__(self, x: Any) -> NDArray[Any]:
        """Refused: it would take the transpose of the matrix at every call."""
        raise TypeError(f"dense @ {type(self).__name__} is not computed; sparse.linear(x, a) is x @ a.T, "
                        "as layers need it, and sparse.linear(x, a.T) of a CSRMatrix x @ a")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, nnz={self.nnz})"

    def _format(self, batch: int) -> str:
        """The form that a product with so many rows takes unless it is told otherwise."""
        return self._packed_format(batch)

    def _packed_format(self, batch: int) -> str:
        """A fast form of entries for so many rows."""
        if self.shape[1] > layouts.MOST_COLUMNS:
            return "csr"
        if batch <= FEW and windows_pay(self.nnz, self.shape):
            return "windows"
        return "slices" if batch == 1 else "tiles"

    def _form(self, name: str) -> Form:
        """A form by name, packed at its first use."""
        forms: dict[str, Form] = self.__dict__.setdefault("_forms", {})
        form = forms.get(name)
        if form is None:
            form = forms[name] = self._packed(name)
        return form

    def _packed(self, name: str) -> Form:
        """A form by name, made of the matrix's entries; classes with a form of their own add it.

        Raises
        ------
        ValueError
            If there is no such form, or the matrix does not have it.
        """
        from .forms import of_entries

        return of_entries(name, self.to_csr())


def check_matrix(
    a: Any, name: str, kinds: tuple[type[SparseMatrix], ...] = (), values: tuple[np.dtype[Any], ...] = ()
) -> None:
    """``a`` is a sparse matrix: of one of these classes, if any are named, and with values of one of these types."""
    if isinstance(a, kinds or SparseMatrix) and (not values or a.dtype in values):
        return
    found = type(a).__name__ + (f" of {a.dtype.name}" if values and isinstance(a, SparseMatrix) else "")
    expected = " or ".join(k.__name__ for k in kinds) or "sparse matrix"
    if values:
        expected += f" of {' or '.join(v.name for v in values)}"
    door = "from_scipy" if hasattr(a, "tocsr") else "from_dense" if getattr(a, "ndim", None) == 2 else None
    hint = f"; CSRMatrix.{door}({name}) makes one" if door else ""
    if kinds and isinstance(a, SparseMatrix) and not isinstance(a, kinds):
        hint = f"; {name}.to_csr() makes a CSRMatrix"
    elif values and hasattr(a, "astype") and isinstance(a, SparseMatrix):
        hint = f"; convert it with {name}.astype(np.{values[0].name})"
    raise TypeError(f"{name} is a {found}, expected a {expected}{hint}")


def batch_for(a: SparseMatrix, x: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """x [..., K] of this dtype, as the other operand of a matrix [N, K]."""
    x = as_array(x, "x", dtype, BATCH_NDIM)
    if x.shape[-1] != a.shape[1]:
        raise ValueError(f"x has {x.shape[-1]} columns, a has {a.shape[1]}")
    return x  # type: ignore[no-any-return]
