"""Products with a sparse matrix in CSR: the chains of csrc/kernels/spmm.c."""

import numpy as np
from numba import njit

from .activations import activate
from .arithmetic import FAST, fma


@njit(**FAST)
def spmm_csr_f32(x, data, indices, indptr, bias, activation, y):  # type: ignore[no-untyped-def]
    m, n = y.shape
    acc = np.empty(16, np.float32)
    for j in range(n):
        for s in range(x.shape[0]):
            acc[:] = 0
            for p in range(indptr[j], indptr[j + 1]):
                w, row = data[p], x[s, indices[p]]
                for i in range(16):
                    acc[i] = fma(row[i], w, acc[i])
            for i in range(min(16, m - 16 * s)):
                v = acc[i]
                if bias is not None:
                    v += bias[j]
                y[16 * s + i, j] = activate(v, activation)


@njit(**FAST)
def spmv_csr_f32(x, data, indices, indptr, bias, activation, y):  # type: ignore[no-untyped-def]
    for j in range(y.shape[0]):
        acc = np.float32(0)
        for p in range(indptr[j], indptr[j + 1]):
            acc = fma(x[indices[p]], data[p], acc)
        if bias is not None:
            acc += bias[j]
        y[j] = activate(acc, activation)
