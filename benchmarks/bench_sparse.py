"""Products with a sparse matrix, and the dense product that must be beaten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def operands(case: Case) -> tuple[object, np.ndarray]:
    """A SciPy matrix [n, k] and a dense right operand [k, m]."""
    import scipy.sparse

    data, indices, indptr = case.inputs[1:4]
    sizes = case.sizes
    matrix = scipy.sparse.csr_matrix((data, indices, indptr.astype(np.int32)), shape=(sizes["n"], sizes["k"]))
    return matrix, np.random.default_rng(0).standard_normal((sizes["k"], sizes.get("m", 1)), dtype=np.float32)


def dense(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    w = matrix.toarray()  # type: ignore[attr-defined]
    return lambda: w @ x


def scipy(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    return lambda: matrix @ x  # type: ignore[operator]


def mkl(case: Case) -> Callable[[], object]:
    from sparse_dot_mkl import dot_product_mkl

    matrix, x = operands(case)
    return lambda: dot_product_mkl(matrix, x)


def torch(case: Case) -> Callable[[], object]:
    import torch

    matrix, x = operands(case)
    parts = (torch.from_numpy(a) for a in (matrix.indptr, matrix.indices, matrix.data))  # type: ignore[attr-defined]
    a = torch.sparse_csr_tensor(*parts, size=matrix.shape)  # type: ignore[attr-defined]
    b = torch.from_numpy(x)
    return lambda: a @ b


ALL: dict[str, Make] = {"dense (OpenBLAS)": dense, "SciPy": scipy, "MKL": mkl, "PyTorch": torch}
PEERS = {"spmm_csr_f32": ALL, "spmv_csr_f32": ALL}
