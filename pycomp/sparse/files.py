"""Sparse matrices in files: ``.npz`` as SciPy writes and reads it, and ``.safetensors``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from pycomp._errors import FormatError
from pycomp._files import Arrays, as_path, printable, read_arrays, write_arrays
from pycomp._validate import one_integer, shown

from .bitmap import BitmapMatrix
from .bsr import BSRMatrix
from .coded import CodedMatrix
from .csr import CSRMatrix, used
from .matrix import SparseMatrix, check_matrix
from .nm import NMMatrix

COMPRESSED = ("data", "indices", "indptr", "shape")
OWN: dict[type[SparseMatrix], tuple[tuple[str, ...], tuple[str, ...]]] = {
    NMMatrix: (("data", "places"), ("n", "m")),
    BitmapMatrix: (("data", "bits"), ("columns",)),
    CodedMatrix: ((*COMPRESSED, "scale"), ("bits",)),
}
"""Arrays, and arrays of one integer, of the matrices that SciPy does not have."""


def save(path: str | os.PathLike[str], a: SparseMatrix) -> None:
    """Write a matrix as ``.npz`` or ``.safetensors``, as the name says.

    The arrays of CSR and BSR are ``data``, ``indices``, ``indptr``, ``shape`` and, in ``.npz``, ``format``:
    :func:`scipy.sparse.load_npz` reads them, but for float16, which SciPy does not have. Other matrices have arrays of
    their attributes' names; of a CodedMatrix, those of its codes beside ``scale`` and ``bits``. They go into a file
    beside the target that then takes its name, so an interruption leaves what was there before.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.
    a : CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix

    Raises
    ------
    TypeError
        If ``a`` or ``path`` is something else, or the values are bfloat16 and the file ``.npz``, from which NumPy does
        not read it.
    ValueError
        If the name ends otherwise.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", BitmapMatrix.from_dense(np.eye(2, dtype=np.float32)))
    ...     sorted(np.load(f"{folder}/a.npz"))
    ['bits', 'columns', 'data']
    """
    check_matrix(a, "a")
    target = as_path(path)
    if target.suffix == ".npz" and a.dtype.name == "bfloat16":
        raise TypeError("a has values of bfloat16, which NumPy does not read from .npz; save a.astype(np.float32), "
                        "or as .safetensors")
    if isinstance(a, CodedMatrix):
        arrays = _arrays(a.codes) | {"scale": a.scale, "bits": np.array(a.bits)}
    else:
        arrays = _arrays(a)
        if target.suffix == ".npz" and isinstance(a, (CSRMatrix, BSRMatrix)):
            arrays["format"] = np.array(b"csr" if isinstance(a, CSRMatrix) else b"bsr")
    write_arrays(target, arrays)


def _arrays(a: SparseMatrix) -> Arrays:
    names, numbers = OWN.get(type(a), (COMPRESSED, ()))
    return {name: np.asarray(getattr(a, name)) for name in names + numbers}


def load(path: str | os.PathLike[str]) -> SparseMatrix:
    """Read a matrix that :func:`save` wrote, or :func:`scipy.sparse.save_npz` of an array or matrix in CSR or BSR.

    Rows are sorted and duplicates summed. Values are of the types that the classes take. SciPy's other formats have
    ``tocsr()``.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.

    Returns
    -------
    CSRMatrix, BSRMatrix, NMMatrix, BitmapMatrix or CodedMatrix
        Of the class that was saved; SciPy's in BSR is a BSRMatrix.

    Raises
    ------
    pycomp.FormatError
        If the file is cut short, of another format (COO, CSC, DIA), or holds arrays that do not make such a matrix.
    TypeError
        If ``path`` is no str or os.PathLike.
    ValueError
        If the name does not end in .npz or .safetensors.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/a.npz", CSRMatrix.from_dense(np.eye(2, dtype=np.float32)))
    ...     load(f"{folder}/a.npz")
    CSRMatrix(shape=(2, 2), nnz=2)
    """
    source = as_path(path)
    arrays = read_arrays(source)
    own = next((kind for kind, (names, numbers) in OWN.items() if {*names, *numbers} == set(arrays)), None)
    kind = None if own else _compressed_kind(source, arrays)
    try:
        if own:
            return _own(own, arrays)
        entries = _entries(arrays)
        blocks = kind == "bsr" or (kind is None and entries[0].ndim == 3)
        return (BSRMatrix if blocks else CSRMatrix).from_arrays(*entries)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: {error}") from None


def _compressed_kind(source: Path, arrays: Arrays) -> str | None:
    """"csr" or "bsr" if the file says it; FormatError if these are not the arrays of such a matrix."""
    kind: str | None = None
    if "format" in arrays:
        found = arrays["format"]
        kind = found.item() if found.size == 1 else found.tolist()
        kind = kind.decode(errors="replace") if isinstance(kind, bytes) else kind  # SciPy wrote it as text once
        if kind not in ("csr", "bsr"):
            raise FormatError(f"{source} is of format {shown(kind)}, expected csr or bsr")
    if missing := sorted(set(COMPRESSED) - set(arrays)):
        raise FormatError(f"{source} lacks {', '.join(missing)}")
    if unknown := sorted(set(arrays) - {*COMPRESSED, "format", "_is_array"}):  # the last is SciPy's mark of an array
        raise FormatError(f"{source} holds {', '.join(map(printable, unknown))}, which such a matrix does not have")
    return kind


def _entries(arrays: Arrays) -> tuple[Any, Any, Any, tuple[int, int]]:
    """What ``from_arrays`` takes."""
    shape = arrays["shape"]
    if shape.dtype.kind not in "iu" or shape.shape != (2,):
        raise ValueError(f"shape is an array {shape.dtype.name} {shape.shape}, expected two integers")
    return *used(arrays["data"], arrays["indices"], arrays["indptr"]), (int(shape[0]), int(shape[1]))


def _own(kind: type[SparseMatrix], arrays: Arrays) -> SparseMatrix:
    """One of a class that SciPy does not have."""
    numbers = OWN[kind][1]
    fields: dict[str, Any] = {name: one_integer(a, name) if name in numbers else a for name, a in arrays.items()}
    if kind is CodedMatrix:
        codes = CSRMatrix.from_arrays(*_entries(fields))
        return CodedMatrix(codes, fields["scale"], fields["bits"])
    return kind(**fields)
