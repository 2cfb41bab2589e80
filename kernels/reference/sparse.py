"""Products with a sparse matrix in CSR: row j holds the entries indptr[j] <= p < indptr[j + 1]."""

import numpy as np

from . import activations
from .arithmetic import LANES, TINY, U, fma, gamma, unpack


def to_dense(data, indices, indptr, k):
    """The matrix [n, k] in float64."""
    w = np.zeros((len(indptr) - 1, k))
    for j in range(len(w)):
        row = slice(indptr[j], indptr[j + 1])
        w[j, indices[row]] = data[row]
    return w


def spmm_csr_f32(x, data, indices, indptr, bias, activation, y):
    """y[i, j] = activation(Σ_l x[i, l]·w[j, l] + bias[j]); x packed as [m/16, k, 16]."""
    product = unpack(x, y.shape[0]).T.astype(np.float64) @ to_dense(data, indices, indptr, x.shape[1]).T
    y[...] = activations.exact(product + (0.0 if bias is None else bias), activation)


def spmm_csr_f32_bound(x, data, indices, indptr, bias, activation, y):
    """γ(entries of the row)·Σ|x||w| for the chain, U·|sum + bias| for the bias; then the activation."""
    entries = np.diff(indptr)
    weights = np.abs(to_dense(data, indices, indptr, x.shape[1]))
    magnitude = np.abs(unpack(x, y.shape[0]).T.astype(np.float64)) @ weights.T
    chain = gamma(entries) * magnitude + entries * TINY
    error = chain if bias is None else chain + U * (magnitude * (1 + gamma(entries)) + np.abs(bias)) + TINY
    return activations.bound(error, y, activation)


def spmm_csr_f32_chain(x, data, indices, indptr, bias, activation, y):
    """The three-line rule: one fma chain over the stored entries in order, from +0; the bias; the activation."""
    x = unpack(x, y.shape[0])
    y[...] = 0
    for q in range(np.diff(indptr).max(initial=0)):
        rows = np.flatnonzero(np.diff(indptr) > q)
        p = indptr[rows] + q
        y[:, rows] = fma(x[indices[p]].T, data[p], y[:, rows])
    if bias is not None:
        y += bias
    y[...] = activations.chain(y, activation)


def csr_sample(rng, n, k, nnz=None):
    """data, indices, indptr: rows of unequal length, some empty, some full; or nnz entries spread evenly."""
    if nnz is None:
        filled = rng.random((n, k)) < rng.choice([0.0, 0.1, 0.5, 1.0], size=(n, 1), p=[0.2, 0.4, 0.3, 0.1])
    else:
        filled = rng.random((n, k)) < nnz / (n * k)
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(filled.sum(axis=1), out=indptr[1:])
    indices = np.nonzero(filled)[1].astype(np.int32)
    return rng.standard_normal(len(indices)).astype(np.float32), indices, indptr


def spmm_csr_f32_sample(rng, m, k, n, nnz=None):
    x = np.zeros((-(-m // LANES), k, LANES), np.float32)
    for row in range(m):
        x[row // LANES, :, row % LANES] = rng.standard_normal(k)
    bias = rng.standard_normal(n).astype(np.float32) if rng.random() < 0.7 else None
    return x, *csr_sample(rng, n, k, nnz), bias, int(rng.integers(activations.KINDS))


def spmv_csr_f32(x, data, indices, indptr, bias, activation, y):
    """y[j] = activation(Σ_l x[l]·w[j, l] + bias[j])."""
    spmm_csr_f32(_as_panel(x), data, indices, indptr, bias, activation, y[None])


def spmv_csr_f32_bound(x, data, indices, indptr, bias, activation, y):
    return spmm_csr_f32_bound(_as_panel(x), data, indices, indptr, bias, activation, y[None])[0]


def spmv_csr_f32_chain(x, data, indices, indptr, bias, activation, y):
    """As spmm_csr_f32_chain on one row."""
    spmm_csr_f32_chain(_as_panel(x), data, indices, indptr, bias, activation, y[None])


def spmv_csr_f32_sample(rng, k, n, nnz=None):
    x, *rest = spmm_csr_f32_sample(rng, 1, k, n, nnz)
    return x[0, :, 0].copy(), *rest


def _as_panel(x):
    """One row as pack_f32 lays it out."""
    panel = np.zeros((1, len(x), LANES), x.dtype)
    panel[0, :, 0] = x
    return panel
