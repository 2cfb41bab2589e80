"""Products with sparse matrices: the chains of csrc/kernels/spmm*.c."""

import numpy as np
from numba import njit

from .activations import activate
from .arithmetic import FAST, bits_float, fma, with_terms


@njit(**FAST)
def _ended(v, j, bias, residual, activation):  # type: ignore[no-untyped-def]
    if bias.size:
        v += bias[j]
    if residual.size:
        v += residual[j]
    return activate(v, activation)


@with_terms
@njit(**FAST)
def spmm_csr_f32(x, data, indices, indptr, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    m, n = y.shape
    columns = np.ascontiguousarray(x.T)
    acc = np.empty(m, np.float32)
    for j in range(n):
        acc[:] = 0
        for p in range(indptr[j], indptr[j + 1]):
            w, column = data[p], columns[indices[p]]
            for i in range(m):
                acc[i] = fma(column[i], w, acc[i])
        for i in range(m):
            y[i, j] = _ended(acc[i], j, bias, residual[i], activation)


@with_terms
@njit(**FAST)
def spmv_csr_f32(x, data, indices, indptr, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    for j in range(y.shape[0]):
        acc = np.float32(0)
        for p in range(indptr[j], indptr[j + 1]):
            acc = fma(x[indices[p]], data[p], acc)
        y[j] = _ended(acc, j, bias, residual, activation)


@njit(**FAST)
def spmm_csr_f64(x, data, indices, indptr, y):  # type: ignore[no-untyped-def]
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            acc = 0.0
            for p in range(indptr[j], indptr[j + 1]):
                acc = fma(x[i // 16, indices[p], i % 16], data[p], acc)
            y[i, j] = acc


@njit(**FAST)
def spmv_csr_f64(x, data, indices, indptr, y):  # type: ignore[no-untyped-def]
    for j in range(y.shape[0]):
        acc = 0.0
        for p in range(indptr[j], indptr[j + 1]):
            acc = fma(x[indices[p]], data[p], acc)
        y[j] = acc


AS_THEY_ARE, BFLOAT, HALF, NIBBLES = range(4)
"""What values are: an argument, since what is made for each of them could not be cached."""


@njit(**FAST)
def _half(v):  # type: ignore[no-untyped-def]
    size, sign = np.int32(v) & 0x7FFF, np.float32(-1 if np.int32(v) & 0x8000 else 1)
    if size < 0x400:
        return sign * np.float32(size) * np.float32(2.0**-24)
    bits = (size << 13) + 0x38000000 if size < 0x7C00 else 0x7F800000 | size << 13
    return sign * bits_float(np.int32(bits))


@njit(**FAST)
def _nibble(values, s, r):  # type: ignore[no-untyped-def]
    neighbours = values.shape[1] == 2  # of tiles; else they lie eight rows apart
    place, half = (r // 2, r % 2) if neighbours else (r % 8, r // 8)
    return ((np.int32(values[s, place]) >> 4 * half) & 15 ^ 8) - 8


@njit(**FAST)
def _value(kind, values, s, r):  # type: ignore[no-untyped-def]
    """The value of row r in step s, as a float."""
    if kind == BFLOAT:
        return bits_float(np.int32(np.uint32(values[s, r]) << np.uint32(16)))
    if kind == HALF:
        return _half(values[s, r])
    if kind == NIBBLES:
        return np.float32(_nibble(values, s, r))
    return np.float32(values[s, r])


@with_terms
@njit(**FAST)
def _tiles(kind, x, values, columns, rows, starts, begins, firsts, scale, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    for g in range(len(begins) - 1):
        first, count = firsts[g], firsts[g + 1] - firsts[g]
        chains = np.zeros((y.shape[0], count + 1), np.float32)
        for t in range(begins[g], begins[g + 1]):
            for s in range(starts[t], starts[t + 1]):
                for r in range(4):
                    w, row, c = _value(kind, values, s, r), rows[t, r], columns[s, r]
                    for i in range(y.shape[0] if c < x.shape[1] else 0):  # the column after the last is of padding
                        chains[i, row] = fma(x[i, c], w, chains[i, row])
        for i in range(y.shape[0]):
            for row in range(count):
                j = first + row
                v = chains[i, row] if scale is None else chains[i, row] * scale[j]
                y[i, j] = _ended(v, j, bias, residual[i], activation)


@with_terms
@njit(**FAST)
def _slices(kind, x, values, columns, rows, starts, scale, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    for t in range(len(starts) - 1):
        for r in range(16):
            j = rows[t, r]
            if j < 0:
                continue
            acc = np.float32(0)
            for s in range(starts[t], starts[t + 1]):
                if columns[s, r] < len(x):  # the column after the last is of padding
                    acc = fma(x[columns[s, r]], _value(kind, values, s, r), acc)
            v = acc if scale is None else acc * scale[j]
            y[j] = _ended(v, j, bias, residual, activation)


@njit(**FAST)
def _column(begin, places, step):  # type: ignore[no-untyped-def]
    """The column of x that a step of a lane takes in its window; -1 for none."""
    place = np.int64(places >> 5 * step & 31)
    return -1 if place == 16 else begin + place - (place > 16)


@with_terms
@njit(**FAST)
def _windows(kind, x, values, places, begins, rows, starts, scale, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    steps, turns = values.reshape(-1, values.shape[4]), values.shape[2]
    for g in range(len(starts) - 1):
        for s in range(4):
            for r in range(16):
                j = rows[g, s, r]
                for i in range(y.shape[0] if j >= 0 else 0):
                    acc = np.float32(0)
                    for w in range(starts[g], starts[g + 1]):
                        for e in range(3 * turns):
                            c = _column(begins[w, s], places[w, s, r, e // 3], e % 3)
                            if c >= 0:
                                acc = fma(x[i, c], _value(kind, steps, (4 * w + s) * 3 * turns + e, r), acc)
                    v = acc if scale is None else acc * scale[j]
                    y[i, j] = _ended(v, j, bias, residual[i], activation)


def _scaled(function, kind):  # type: ignore[no-untyped-def]
    return lambda *operands: function(kind, *operands)


def _unscaled(function, kind, before):  # type: ignore[no-untyped-def]
    return lambda *operands: function(kind, *operands[:before], None, *operands[before:])


spmm_tiles_f32, spmm_tiles_bf16, spmm_tiles_f16 = (_unscaled(_tiles, k, 7) for k in (AS_THEY_ARE, BFLOAT, HALF))
spmv_sell_f32, spmv_sell_bf16, spmv_sell_f16 = (_unscaled(_slices, k, 5) for k in (AS_THEY_ARE, BFLOAT, HALF))
spmm_windows_f32, spmm_windows_bf16, spmm_windows_f16 = (_unscaled(_windows, k, 6) for k in (AS_THEY_ARE, BFLOAT, HALF))
spmm_tiles_s8, spmm_tiles_s4 = (_scaled(_tiles, k) for k in (AS_THEY_ARE, NIBBLES))
spmv_sell_s8, spmv_sell_s4 = (_scaled(_slices, k) for k in (AS_THEY_ARE, NIBBLES))
spmm_windows_s8, spmm_windows_s4 = (_scaled(_windows, k) for k in (AS_THEY_ARE, NIBBLES))


@njit(**FAST)
def _dot(x, w, acc):  # type: ignore[no-untyped-def]
    for b in range(4):
        acc += np.int64(x[b]) * np.int64(w[b])
    return acc


@njit(**FAST)
def _moved(acc, j, offset):  # type: ignore[no-untyped-def]
    return np.int32(np.int64(acc if offset is None else acc + offset[j]) & 0xFFFFFFFF)


@njit(**FAST)
def spmm_tiles_u8s8(x, values, columns, rows, starts, begins, firsts, offset, y):  # type: ignore[no-untyped-def]
    for g in range(len(begins) - 1):
        first, count = firsts[g], firsts[g + 1] - firsts[g]
        sums = np.zeros((y.shape[0], count + 1), np.int64)
        for t in range(begins[g], begins[g + 1]):
            for s in range(starts[t], starts[t + 1]):
                for r in range(4):
                    for i in range(y.shape[0]):
                        sums[i, rows[t, r]] = _dot(x[i // 16, columns[s, r], i % 16], values[s, r], sums[i, rows[t, r]])
        for i in range(y.shape[0]):
            for row in range(count):
                y[i, first + row] = _moved(sums[i, row], first + row, offset)


@njit(**FAST)
def spmv_sell_u8s8(x, values, columns, rows, starts, offset, y):  # type: ignore[no-untyped-def]
    for t in range(len(starts) - 1):
        for r in range(16):
            if rows[t, r] >= 0:
                acc = np.int64(0)
                for s in range(starts[t], starts[t + 1]):
                    acc = _dot(x[columns[s, r]], values[s, r], acc)
                y[rows[t, r]] = _moved(acc, rows[t, r], offset)


@njit(**FAST)
def spmv_windows_u8s8(x, values, places, begins, rows, starts, offset, y):  # type: ignore[no-untyped-def]
    for g in range(len(starts) - 1):
        for s in range(4):
            for r in range(16):
                acc = np.int64(0)
                for w in range(starts[g], starts[g + 1]):
                    for e in range(3 * values.shape[2]):
                        c = _column(begins[w, s], places[w, s, r, e // 3], e % 3)
                        if c >= 0:
                            acc = _dot(x[c], values[w, s, e // 3, e % 3, r], acc)
                if rows[g, s, r] >= 0:
                    y[rows[g, s, r]] = _moved(acc, rows[g, s, r], offset)


@with_terms
@njit(**FAST)
def spmm_bitmap_f32(x, values, bits, starts, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    m, n = y.shape
    acc = np.empty((m, 16), np.float32)
    for s in range(bits.shape[0]):
        acc[:] = 0
        p = starts[s]
        for c in range(bits.shape[1]):
            for r in range(16):
                if bits[s, c] >> r & 1:
                    for i in range(m):
                        acc[i, r] = fma(x[i, c], values[p], acc[i, r])
                    p += 1
        for i in range(m):
            for r in range(min(16, n - 16 * s)):
                y[i, 16 * s + r] = _ended(acc[i, r], 16 * s + r, bias, residual[i], activation)


@with_terms
@njit(**FAST)
def spmv_nm_f32(x, values, at, keep, group, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    for j in range(len(y)):
        acc = np.float32(0)
        for e in range(values.shape[1]):
            place = at[j // 16, e // 2, j % 16] >> 4 * (e % 2) & 15
            acc = fma(x[e // keep * group + place], values[j // 16, e, j % 16], acc)
        y[j] = _ended(acc, j, bias, residual, activation)


@with_terms
@njit(**FAST)
def spmm_bsr_f32(x, data, indices, indptr, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    h, w = data.shape[1:]
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            acc = np.float32(0)
            for p in range(indptr[j // h], indptr[j // h + 1]):
                for c in range(w):
                    acc = fma(x[i, indices[p] * w + c], data[p, j % h, c], acc)
            y[i, j] = _ended(acc, j, bias, residual[i], activation)


@with_terms
@njit(**FAST)
def spmv_bsr_f32(x, data, indices, indptr, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    w = data.shape[1]
    for j in range(len(y)):
        acc = np.float32(0)
        for p in range(indptr[j // 16], indptr[j // 16 + 1]):
            for c in range(w):
                acc = fma(x[indices[p] * w + c], data[p, c, j % 16], acc)
        y[j] = _ended(acc, j, bias, residual, activation)


@njit(**FAST)
def sddmm_csr_f32(a, b, indices, indptr, values):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        for p in range(indptr[i], indptr[i + 1]):
            acc = np.float32(0)
            for step in range(a.shape[1]):
                acc = fma(a[i, step], b[indices[p], step], acc)
            values[p] = acc
