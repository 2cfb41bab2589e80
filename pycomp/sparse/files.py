"""Sparse matrices in files: ``.npz`` as SciPy writes and reads it, and ``.safetensors``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pycomp._errors import FormatError
from pycomp._files import Arrays, read_arrays, write_arrays

from .bsr import BSRMatrix
from .csr import CSRMatrix, integers, used
from .matrix import check_matrix

NAMES = {"data", "indices", "indptr", "shape", "format"}


def save(path: str | os.PathLike[str], a: CSRMatrix | BSRMatrix) -> None:
    """Write a matrix as ``.npz``, which :func:`scipy.sparse.load_npz` reads but for float16, which SciPy does not have,
    or ``.safetensors``, as the name says.

    The arrays are ``data``, ``indices``, ``indptr``, ``shape`` and, in ``.npz``, ``format``. They go into a file beside
    the target that then takes its name, so an interruption leaves what was there before.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.
    a : CSRMatrix or BSRMatrix
        Other matrices have ``to_csr()``.

    Raises
    ------
    TypeError
        If ``a`` is something else, or its values are bfloat16 and the file ``.npz``, from which NumPy does not read it.
    ValueError
        If the name ends otherwise.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.
    """
    check_matrix(a, "a", (CSRMatrix, BSRMatrix))
    target = Path(path)
    arrays: Arrays = {"data": a.data, "indices": a.indices, "indptr": a.indptr, "shape": np.array(a.shape, np.int64)}
    if target.suffix == ".npz":
        if a.dtype.name == "bfloat16":
            raise TypeError("a has values of bfloat16, which NumPy does not read from .npz; save a.astype(np.float32), "
                            "or as .safetensors")
        arrays["format"] = np.array(b"csr" if isinstance(a, CSRMatrix) else b"bsr")
    write_arrays(target, arrays)


def load(path: str | os.PathLike[str]) -> CSRMatrix | BSRMatrix:
    """Read a matrix that :func:`save` wrote, or :func:`scipy.sparse.save_npz` of an array or matrix in CSR or BSR.

    Rows of CSR are sorted and duplicates summed; blocks must be in order. Values are of the types that
    :class:`CSRMatrix` and :class:`BSRMatrix` take. SciPy's other formats have ``tocsr()``.

    Raises
    ------
    pycomp.FormatError
        If the file is cut short, of another format (COO, CSC, DIA), or holds arrays that do not make such a matrix.
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
    source = Path(path)
    arrays = read_arrays(source)
    kind = None
    if "format" in arrays:
        found = arrays["format"]
        kind = found.item() if found.size == 1 else found.tolist()
        kind = kind.decode(errors="replace") if isinstance(kind, bytes) else kind  # SciPy wrote it as text once
        if kind not in ("csr", "bsr"):
            raise FormatError(f"{source} is of format {kind!r}, expected csr or bsr")
    if missing := sorted({"data", "indices", "indptr", "shape"} - set(arrays)):
        raise FormatError(f"{source} lacks {', '.join(missing)}")
    if unknown := sorted(set(arrays) - NAMES - {"_is_array"}):  # SciPy's mark of an array
        raise FormatError(f"{source} holds {', '.join(unknown)}, which such a matrix does not have")
    shape = arrays["shape"]
    if shape.dtype.kind not in "iu" or shape.shape != (2,):
        raise FormatError(f"{source}: shape is an array {shape.dtype.name} {shape.shape}, expected two integers")
    whole = int(shape[0]), int(shape[1])
    try:
        data, indices, indptr = used(arrays["data"], arrays["indices"], arrays["indptr"])
        if kind == "bsr" or (kind is None and data.ndim == 3):
            return BSRMatrix(data, indices, integers(indptr, "indptr"), whole)
        return CSRMatrix.from_arrays(data, indices, indptr, whole)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: {error}") from None
