"""A sparse matrix whose values are codes of 8 or 4 bits, for float activations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, as_array, frozen, given, integer
from pycomp.kernels import layouts

from .csr import INT8, CSRMatrix
from .matrix import SparseMatrix, check_matrix

if TYPE_CHECKING:
    from .forms import Form

LARGEST = {8: 127, 4: 7}


@dataclass(frozen=True, eq=False, repr=False)
class CodedMatrix(SparseMatrix):
    """Entries ``code * scale[row]``; made by :func:`quantize`.

    Attributes
    ----------
    codes : CSRMatrix of int8
        From -127 to 127 or, of 4 bits, from -8 to 7; of at most 65535 columns.
    scale : array of float32, shape (N,)
        Finite and above 0.
    bits : 8 or 4
        A product's form stores so many bits an entry, 16 for its column, or by windows 5, and some padding; there is
        one for few rows of x and one for more, packed at the first product of the kind. ``codes``, 5 bytes an entry,
        stays beside them.

    Raises
    ------
    TypeError
        If ``codes`` is not a CSRMatrix of int8, or ``scale`` not an array of float32.
    ValueError
        If a code, a scale or the number of columns is outside these, or the number of scales is not that of rows.

    Examples
    --------
    >>> import numpy as np
    >>> codes = CSRMatrix.from_dense(np.array([[0, 100, -50]], np.int8))
    >>> CodedMatrix(codes, np.array([0.5], np.float32)).to_dense()
    array([[  0.,  50., -25.]], dtype=float32)
    """

    codes: CSRMatrix
    scale: NDArray[np.float32]
    bits: int = 8

    _arrays = ("scale",)

    def __post_init__(self) -> None:
        _check_codable(self.codes, "codes", INT8)
        _check_bits(self.bits)
        scale = frozen(as_array(self.scale, "scale", FLOAT32, 1))
        if scale.shape[0] != self.codes.shape[0]:
            raise ValueError(f"scale has {scale.shape[0]} elements, codes has {self.codes.shape[0]} rows")
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            bad = scale[~(np.isfinite(scale) & (scale > 0))][0]
            raise ValueError(f"scale holds {bad}, expected finite numbers above 0")
        low = -8 if self.bits == 4 else -127
        if self.codes.nnz and (self.codes.data.min() < low or self.codes.data.max() > LARGEST[self.bits]):
            raise ValueError(f"codes hold {self.codes.data.min()} to {self.codes.data.max()}, "
                             f"expected {low} to {LARGEST[self.bits]}")
        self._fill(scale=scale, shape=self.codes.shape)

    @property
    def nnz(self) -> int:
        """Number of stored entries."""
        return self.codes.nnz

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the codes."""
        return self.codes.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of codes, columns, rows and scales as they are held here."""
        return self.codes.nbytes + super().nbytes

    def to_csr(self) -> CSRMatrix:
        """``code * scale[row]``, each product rounded once to float32."""
        scale = self.scale[self.codes._entry_rows()]
        with np.errstate(all="ignore"):
            return self.codes.with_data(given(self.codes.data.astype(FLOAT32) * scale))

    def _packed(self, name: str) -> Form:
        from .forms import INTERLEAVED, interleaved

        if name not in INTERLEAVED:
            known = ", ".join(map(repr, INTERLEAVED))
            raise ValueError(f"format is {name!r}, expected one of {known} for a CodedMatrix")
        return interleaved(name, self.codes, "s4" if self.bits == 4 else "s8", self.scale)


def _check_codable(a: Any, name: str, values: np.dtype[Any]) -> None:
    """A CSRMatrix of such values whose columns 16 bits can say."""
    check_matrix(a, name, (CSRMatrix,), (values,))
    if a.shape[1] > layouts.MOST_COLUMNS:
        raise ValueError(f"{name} has {a.shape[1]} columns, expected at most {layouts.MOST_COLUMNS}")


def _check_bits(bits: Any) -> int:
    bits = integer(bits, "bits", 0)
    if bits not in LARGEST:
        raise ValueError(f"bits is {bits}, expected 8 or 4")
    return bits  # type: ignore[no-any-return]


def quantize(a: CSRMatrix, *, bits: int = 8) -> CodedMatrix:
    """Round the values of a matrix to codes with a scale for each row: ``code = rint(value / scale[row])``.

    ``scale`` is the largest magnitude of the row over 127, or over 7 of 4 bits, but at least 2⁻¹²⁶; 1 for a row without
    one.

    Parameters
    ----------
    a : CSRMatrix of float32
    bits : 8 or 4

    Returns
    -------
    CodedMatrix

    Raises
    ------
    TypeError
        If ``a`` is not a CSRMatrix of float32.
    ValueError
        If ``bits`` is something else, a value is NaN or infinite, or there are more than 65535 columns.

    Notes
    -----
    Bound of an entry: half of its row's scale, and a rounding; but next to the largest float32, a code may stand for a
    value beyond it, which ``to_csr`` makes ±∞. A product of the result is within
    ``γ(e)·|scale|·Σ|x||code|`` and a rounding each for scale, bias and residual of that with exactly these entries.

    Examples
    --------
    >>> import numpy as np
    >>> q = quantize(CSRMatrix.from_dense(np.array([[0, 1.27, -0.5]], np.float32)))
    >>> q.codes.data, q.scale
    (array([127, -50], dtype=int8), array([0.01], dtype=float32))
    """
    _check_codable(a, "a", FLOAT32)
    bits = _check_bits(bits)
    if not np.isfinite(a.data).all():
        raise ValueError(f"a holds {a.data[~np.isfinite(a.data)][0]}, expected finite values")
    largest = np.zeros(a.shape[0], FLOAT32)
    row = a._entry_rows()
    np.maximum.at(largest, row, np.abs(a.data))
    with np.errstate(all="ignore"):
        scale = np.maximum(largest / np.float32(LARGEST[bits]), np.float32(2.0**-126))
        scale[largest == 0] = 1
        codes = np.rint(a.data / scale[row])
    limit = LARGEST[bits]
    return CodedMatrix(a.with_data(given(np.clip(codes, -limit, limit).astype(np.int8))), given(scale), bits)
