"""Products with a sparse matrix, and the dense products that must be beaten."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import own

from pycomp.kernels import dispatch
from pycomp.kernels.contract import KERNELS
from pycomp.kernels.reference import sparse
from pycomp.kernels.reference.quantization import packed_shape
from pycomp.testing import Case, nudged

Make = Callable[[Case], Callable[[], object]]


def operands(case: Case) -> tuple[Any, np.ndarray]:
    """A SciPy matrix [n, k] and a dense right operand [k, m], or [k] where m is 1, of whatever form the kernel reads.

    That starts on a cache line: from any other place vectors of 64 bytes take the peers up to twice as long; PyTorch
    takes three times as long for a matrix of one column as for a vector.
    """
    import scipy.sparse

    _, (data, indices, indptr), _ = sparse.READERS[case.kernel.name](*case.inputs, case.outputs()[0])
    k, m = case.sizes["k"], case.sizes.get("m", 1)
    matrix = scipy.sparse.csr_matrix((data.astype(np.float32), indices.astype(np.int32), indptr.astype(np.int32)),
                                     shape=(len(indptr) - 1, k))
    x = np.random.default_rng(0).standard_normal((k, m) if m > 1 else k, dtype=np.float32)
    return matrix, nudged(x, 0)


def dense(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    w = matrix.toarray()
    return lambda: w @ x


def own_dense(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    n, k = matrix.shape
    packed = nudged(np.zeros((-(-n // 16), k, 16), np.float32), 0)
    dispatch.pack_f32(matrix.toarray().T, packed)
    rows = nudged(np.ascontiguousarray(x.reshape(k, -1).T), 0)
    y = np.empty((len(rows), n), np.float32)
    return lambda: dispatch.gemm_f32(rows, packed, None, 0, y)


def on_the_right(case: Case) -> Callable[[], object]:
    """pycomp with x and the result as the peers have them, where rows of x are columns: ``sparse.matmul(a, b)``."""
    return own.call(case, own.turned)


def scipy(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    return lambda: matrix @ x


def mkl(case: Case) -> Callable[[], object]:
    from sparse_dot_mkl import dot_product_mkl

    matrix, x = operands(case)
    return lambda: dot_product_mkl(matrix, x)


def torch(case: Case) -> Callable[[], object]:
    import torch

    matrix, x = operands(case)
    parts = (torch.from_numpy(a) for a in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its sparse tensors are in beta
        a = torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)
    b = torch.from_numpy(x)
    return lambda: a @ b


def torch_dense(case: Case) -> Callable[[], object]:
    import torch

    matrix, x = operands(case)
    w, rows = torch.from_numpy(matrix.toarray()), torch.from_numpy(np.ascontiguousarray(x.T))
    return lambda: torch.nn.functional.linear(rows, w)


def scipy_blocks(case: Case) -> Callable[[], object]:
    matrix, x = operands(case)
    blocks = matrix.tobsr((case.sizes["h"], case.sizes["w"]))
    return lambda: blocks @ x


def dense_codes(case: Case) -> Callable[[], object]:
    """The dense product of codes of the same shape."""
    k, n, m = 4 * (case.sizes["k"] - 1), case.sizes["n"], case.sizes.get("m", 1)
    rng = np.random.default_rng(0)
    w = rng.integers(-127, 128, (k, n), dtype=np.int8)
    packed, sums = nudged(np.zeros(packed_shape(k, n), np.int8), 0), np.zeros(n, np.int32)
    dispatch.pack_s8(w, packed, sums)
    x, y = nudged(rng.integers(0, 256, (m, k), dtype=np.uint8), 0), np.empty((m, n), np.int32)
    return lambda: dispatch.gemm_u8s8(x, packed, sums, None, None, y)


DENSE: dict[str, Make] = {"pycomp dense": own_dense, "NumPy dense (OpenBLAS)": dense, "PyTorch dense": torch_dense}
ALL: dict[str, Make] = {**DENSE, "SciPy": scipy, "MKL": mkl, "PyTorch": torch}
PEERS: dict[str, dict[str, Make]] = {name: ALL for name in sparse.READERS}
PEERS["spmm_bsr_f32"] = {**ALL, "SciPy blocks": scipy_blocks}
for kernel in ("spmm_csr_f32", "spmm_tiles_f32", "spmm_bsr_f32"):
    PEERS[kernel] = {"pycomp, a @ b": on_the_right, **PEERS[kernel]}
PEERS |= {name: {"pycomp dense int8": dense_codes} for name in ("spmm_tiles_u8s8", "spmv_sell_u8s8")}
assert set(PEERS) <= set(KERNELS)
