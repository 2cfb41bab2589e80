"""Products with sparse matrices. In CSR row j holds the entries indptr[j] <= p < indptr[j + 1]; the packed forms
(kernels/layouts.py) are read back into CSR, so that one product, one bound and one chain serve them all."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layouts
from . import activations
from .arithmetic import LANES, TINY, U, fma, fma64, gamma, unpack


def to_dense(data, indices, indptr, k):
    """The matrix [n, k] in float64."""
    w = np.zeros((len(indptr) - 1, k))
    for j in range(len(w)):
        row = slice(indptr[j], indptr[j + 1])
        w[j, indices[row]] = data[row]
    return w


def _end(y, scale, bias, residual):
    """scale·y + bias + residual, of those that are there."""
    y = y if scale is None else y * scale
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


def product(x, w, end, y):
    """y[i, j] = activation(scale[j]·Σ_l x[i, l]·w[j, l] + bias[j] + residual[i, j])."""
    data, indices, indptr = w
    scale, bias, residual, activation = end
    sums = x.astype(np.float64) @ to_dense(data, indices, indptr, x.shape[1]).T
    y[...] = activations.exact(_end(sums, scale, bias, residual), activation)


def product_bound(x, w, end, y):
    """γ(entries of the row)·Σ|x||w| for the chain, U of each further sum for its rounding; then the activation."""
    data, indices, indptr = w
    scale, bias, residual, activation = end
    entries = np.diff(indptr)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(to_dense(data, indices, indptr, x.shape[1])).T
    error = gamma(entries) * magnitude + entries * TINY
    magnitude = magnitude * (1 + gamma(entries))
    if scale is not None:
        magnitude = magnitude * np.abs(scale)
        error = error * np.abs(scale) + U * magnitude + TINY
    for term in (bias, residual):
        if term is not None:
            magnitude = magnitude + np.abs(term)
            error = error + U * magnitude + TINY
            magnitude = magnitude * (1 + U)
    return activations.bound(error, y, activation)


def product_chain(x, w, end, y):
    """The three-line rule: one fma chain over the entries in order, from +0; scale, bias, residual; the activation."""
    data, indices, indptr = w
    scale, bias, residual, activation = end
    y[...] = 0
    for q in range(np.diff(indptr).max(initial=0)):
        rows = np.flatnonzero(np.diff(indptr) > q)
        p = indptr[rows] + q
        y[:, rows] = fma(x[:, indices[p]], data[p], y[:, rows])
    y[...] = activations.chain(_end(y, scale, bias, residual), activation)


READERS: dict[str, Callable[..., Any]] = {}
"""Of a kernel: its x [m, k], its matrix in CSR and what it ends in, from its operands."""


def _chained(name, read, sample):
    """A kernel's reference, bound, chain and sample, under their names; ``read`` makes of its inputs x, matrix, end."""

    def kernel(function):
        def call(*operands):
            x, w, end = read(*operands[:-1], operands[-1])
            y = operands[-1]
            result = function(x, w, end, y if y.ndim == 2 else y[None])
            return result if y.ndim == 2 or result is None else result[0]

        call.__doc__ = function.__doc__
        return call

    READERS[name] = read
    globals().update({name: kernel(product), f"{name}_bound": kernel(product_bound),
                      f"{name}_chain": kernel(product_chain), f"{name}_sample": sample})


def end_sample(rng, m, n):
    """bias, residual and activation; each of the first two may be None. m None: for one row."""
    bias = rng.standard_normal(n).astype(np.float32) if rng.random() < 0.7 else None
    residual = rng.standard_normal(n if m is None else (m, n)).astype(np.float32) if rng.random() < 0.5 else None
    return bias, residual, int(rng.integers(activations.KINDS))


def panel_sample(rng, m, k):
    """Rows of x as pack_f32 lays out their transpose."""
    x = np.zeros((-(-m // LANES), k, LANES), np.float32)
    for row in range(m):
        x[row // LANES, :k, row % LANES] = rng.standard_normal(k)
    return x


def csr_sample(rng, n, k, nnz=None):
    """data, indices, indptr: rows of unequal length, some empty, some full; or nnz entries spread evenly."""
    if nnz is None:
        filled = rng.random((n, k)) < rng.choice([0.0, 0.1, 0.5, 1.0], size=(n, 1), p=[0.2, 0.4, 0.3, 0.1])
    else:
        drawn = rng.random((n, k))
        filled = drawn <= np.partition(drawn, nnz - 1, axis=None)[nnz - 1] if nnz else np.zeros((n, k), np.bool_)
    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(filled.sum(axis=1), out=indptr[1:])
    indices = np.nonzero(filled)[1].astype(np.int32)
    return rng.standard_normal(len(indices)).astype(np.float32), indices, indptr


def _read_csr(x, data, indices, indptr, bias, residual, activation, y):
    return np.atleast_2d(x), (data, indices, indptr), (None, bias, residual, activation)


def _spmm_csr_sample(rng, m, k, n, nnz=None):
    x = rng.standard_normal((m, k)).astype(np.float32)
    return x, *csr_sample(rng, n, k, nnz), *end_sample(rng, m, n)


def _spmv_csr_sample(rng, k, n, nnz=None):
    x = rng.standard_normal(k).astype(np.float32)
    return x, *csr_sample(rng, n, k, nnz), *end_sample(rng, None, n)


_chained("spmm_csr_f32", _read_csr, _spmm_csr_sample)
_chained("spmv_csr_f32", _read_csr, _spmv_csr_sample)


# -- float64
def spmm_csr_f64(x, data, indices, indptr, y):
    """y[i, j] = Σ_l x[i, l]·w[j, l]; x packed as [m/16, k, 16]."""
    y[...] = unpack(x, y.shape[0]).T @ to_dense(data, indices, indptr, x.shape[1]).T


def spmm_csr_f64_bound(x, data, indices, indptr, y):
    """γ(entries)·Σ|x||w| in the unit roundoff of float64, twice: the reference rounds as well."""
    entries, u = np.diff(indptr), 2.0**-53
    magnitude = np.abs(unpack(x, y.shape[0]).T) @ np.abs(to_dense(data, indices, indptr, x.shape[1])).T
    return 2 * (entries * u / (1 - entries * u)) * magnitude


def spmm_csr_f64_chain(x, data, indices, indptr, y):
    """One fma chain over the entries in order, from +0."""
    x = unpack(x, y.shape[0]).T
    y[...] = 0
    for q in range(np.diff(indptr).max(initial=0)):
        rows = np.flatnonzero(np.diff(indptr) > q)
        p = indptr[rows] + q
        y[:, rows] = fma64(x[:, indices[p]], data[p], y[:, rows])


def spmm_csr_f64_sample(rng, m, k, n, nnz=None):
    x = panel_sample(rng, m, k)
    data, indices, indptr = csr_sample(rng, n, k, nnz)
    return x * np.float64(1 / 3), data / np.float64(7), indices, indptr


def _as_panel(x):
    """One row as pack_f32 lays it out."""
    panel = np.zeros((1, len(x), LANES), x.dtype)
    panel[0, :, 0] = x
    return panel


def spmv_csr_f64(x, data, indices, indptr, y):
    """y[j] = Σ_l x[l]·w[j, l]."""
    spmm_csr_f64(_as_panel(x), data, indices, indptr, y[None])


def spmv_csr_f64_bound(x, data, indices, indptr, y):
    return spmm_csr_f64_bound(_as_panel(x), data, indices, indptr, y[None])[0]


def spmv_csr_f64_chain(x, data, indices, indptr, y):
    """As spmm_csr_f64_chain on one row."""
    spmm_csr_f64_chain(_as_panel(x), data, indices, indptr, y[None])


def spmv_csr_f64_sample(rng, k, n, nnz=None):
    x, *rest = spmm_csr_f64_sample(rng, 1, k, n, nnz)
    return x[0, :, 0].copy(), *rest


def _by_rows(data, row, column, n):
    """Entries in any order as CSR."""
    order = np.lexsort((column, row))
    return data[order], column[order], layouts.starts_of(np.bincount(row, minlength=n)[:n])


# -- tiles and slices: the same layout, of 4 and of 16 rows
def _entries(columns, rows, starts, begins, firsts, k, pad):
    """Row, column and place of each entry, by rows and columns; the column k - 1 is that of padding."""
    height = columns.shape[1]
    group = np.repeat(np.arange(len(begins) - 1), np.diff(begins))
    row = firsts[group][:, None] + rows
    row = np.repeat(row, np.diff(starts), axis=0).reshape(-1)
    padding = np.repeat(rows == pad(group)[:, None], np.diff(starts), axis=0).reshape(-1)
    place = np.flatnonzero(~padding & (columns.reshape(-1) != k - 1))
    order = np.lexsort((columns.reshape(-1)[place], row[place]))
    place = place[order]
    assert height in (layouts.TILE, layouts.SLICE)
    return row[place], columns.reshape(-1)[place].astype(np.int64), place


def _as_csr(values, columns, rows, starts, begins, firsts, k, pad):
    n = firsts[-1] if len(firsts) else 0
    row, column, place = _entries(columns, rows, starts, begins, firsts, k, pad)
    indptr = layouts.starts_of(np.bincount(row, minlength=n)[:n])
    return values.reshape(columns.size, *values.shape[2:])[place], column, indptr


def _decoded(kind, values, height):
    """Stored values as float32, (steps, height)."""
    if kind == "bf16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if kind == "f16":
        return values.view(np.float16).astype(np.float32)
    if kind == "s4":
        low, high = (((values << s).view(np.int8) >> 4) for s in (4, 0))
        pairs = [low, high] if height == layouts.SLICE else [np.stack([low, high], 2).reshape(len(values), height)]
        return np.concatenate(pairs, axis=1).astype(np.float32)
    return values.astype(np.float32)


KINDS = ("f32", "bf16", "f16", "s8", "s4")


def _encoded(kind, rng, tiles, data, n):
    """Values of entries in their places as the kernels store them, and their scale where they are codes."""
    if kind == "f32":
        return tiles.values(data), ()
    if kind == "bf16":
        return tiles.values((data.view(np.uint32) >> 16).astype(np.uint16), 0x8000), ()
    if kind == "f16":
        return tiles.values(data.astype(np.float16), np.float16(-0.0)).view(np.uint16), ()
    scale = rng.uniform(0.01, 0.1, n).astype(np.float32)
    low, high = (-127, 127) if kind == "s8" else (-8, 7)
    codes = tiles.values(rng.integers(low, high + 1, len(data)).astype(np.int8), 0)
    return codes if kind == "s8" else layouts.nibbles(codes), (scale,)


def _packed_kernels(kind):
    coded = kind in ("s8", "s4")

    def split(tail):
        return tail if coded else (None, *tail)

    def read_tiles(x, values, columns, rows, starts, begins, firsts, *tail):
        *end, _ = tail
        values = _decoded(kind, values, layouts.TILE)
        pad = lambda group: np.diff(firsts)[group]  # noqa: E731
        return x, _as_csr(values, columns, rows, starts, begins, firsts, x.shape[1] + 1, pad), split(end)

    def read_slices(x, values, columns, rows, starts, *tail):
        *end, y = tail
        values = _decoded(kind, values, layouts.SLICE)
        begins, firsts = np.array([0, len(rows)]), np.array([0, len(y)])
        pad = lambda group: np.full(len(group), -1)  # noqa: E731
        return x[None], _as_csr(values, columns, rows, starts, begins, firsts, len(x) + 1, pad), split(end)

    def tiles_sample(rng, m, k, n, nnz=None):
        data, indices, indptr = csr_sample(rng, n, k, nnz)
        made = layouts.tiles(indices, indptr, k)
        values, scale = _encoded(kind, rng, made, data, n)
        x = rng.standard_normal((m, k)).astype(np.float32)
        return x, values, *made.read.values(), *scale, *end_sample(rng, m, n)

    def slices_sample(rng, k, n, nnz=None):
        data, indices, indptr = csr_sample(rng, n, k, nnz)
        made = layouts.slices(indices, indptr, k)
        values, scale = _encoded(kind, rng, made, data, n)
        x = rng.standard_normal(k).astype(np.float32)
        return x, values, *made.read.values(), *scale, *end_sample(rng, None, n)

    _chained(f"spmm_tiles_{kind}", read_tiles, tiles_sample)
    _chained(f"spmv_sell_{kind}", read_slices, slices_sample)


for _kind in KINDS:
    _packed_kernels(_kind)


# -- windows
def _csr_of_windows(values, places, begins, rows, starts, n):
    """The entries, by rows and columns; values [windows, SLICES, turns, STEPS, SLICE] and the shape of an entry."""
    of_turns = np.moveaxis(places, 3, 2)
    slot = np.stack([of_turns >> layouts.PLACE * e & 31 for e in range(layouts.STEPS)], axis=3).astype(np.int64)
    window, piece, turn, step, lane = np.nonzero(slot != layouts.ZERO)
    slot = slot[window, piece, turn, step, lane]
    column = begins[window, piece] + slot - (slot > layouts.ZERO)
    group = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    row = rows[group[window], piece, lane]
    return _by_rows(values[window, piece, turn, step, lane], row, column, n)


def _windows_kernel(kind):
    def read(x, values, places, begins, rows, starts, *tail):
        *end, y = tail
        steps = _decoded(kind, values.reshape(-1, values.shape[-1]), layouts.SLICE)
        steps = steps.reshape(*values.shape[:-1], layouts.SLICE)
        matrix = _csr_of_windows(steps, places, begins, rows, starts, y.shape[1])
        return x, matrix, end if kind in ("s8", "s4") else (None, *end)

    def sample(rng, m, k, n, nnz=None):
        k = max(k, layouts.WINDOW)
        data, indices, indptr = csr_sample(rng, n, k, nnz)
        made = layouts.windows(indices, indptr, k)
        values, scale = _encoded(kind, rng, made, data, n)
        x = rng.standard_normal((m, k)).astype(np.float32)
        return x, values, *made.read.values(), *scale, *end_sample(rng, m, n)

    _chained(f"spmm_windows_{kind}", read, sample)


for _kind in KINDS:
    _windows_kernel(_kind)


def _code_product(x, w, offset):
    """Σ x·w + offset of codes, exactly; entries are four codes wide."""
    data, indices, indptr = w
    blocks = np.zeros((len(indptr) - 1, x.shape[1], 4), np.int64)
    for j in range(len(blocks)):
        row = slice(indptr[j], indptr[j + 1])
        blocks[j, indices[row]] = data[row]
    sums = np.einsum("mkb,nkb->mn", x.astype(np.int64), blocks)
    return sums if offset is None else sums + offset


def spmm_tiles_u8s8(x, values, columns, rows, starts, begins, firsts, offset, y):
    """y[i, j] = Σ_l x[i, l]·w[j, l] + offset[j], exactly; x packed as [m/16, k, 16, 4]."""
    pad = lambda group: np.diff(firsts)[group]  # noqa: E731
    w = _as_csr(values, columns, rows, starts, begins, firsts, x.shape[1], pad)
    flat = x.transpose(0, 2, 1, 3).reshape(len(x) * LANES, x.shape[1], 4)[: y.shape[0]]
    y[...] = _code_product(flat, w, offset)


def spmv_sell_u8s8(x, values, columns, rows, starts, offset, y):
    """The same for one row, x [k, 4]."""
    begins, firsts = np.array([0, len(rows)]), np.array([0, len(y)])
    w = _as_csr(values, columns, rows, starts, begins, firsts, len(x), lambda group: np.full(len(group), -1))
    y[...] = _code_product(x[None], w, offset)[0]


def exact(*operands):
    """No error at all."""
    return np.zeros(operands[-1].shape)


def _code_sample(rng, n, k, nnz, layout):
    _, indices, indptr = csr_sample(rng, n, k, nnz)
    made = layout(indices, indptr, k)
    offset = rng.integers(-(2**20), 2**20, n).astype(np.int32) if rng.random() < 0.5 else None
    return made, made.values(rng.integers(-128, 128, (len(indices), 4)).astype(np.int8), 0), offset


def spmv_windows_u8s8(x, values, places, begins, rows, starts, offset, y):
    """The same from windows."""
    y[...] = _code_product(x[None], _csr_of_windows(values, places, begins, rows, starts, len(y)), offset)[0]


def spmm_tiles_u8s8_sample(rng, m, k, n, nnz=None):
    made, values, offset = _code_sample(rng, n, k, nnz, layouts.tiles)
    x = np.zeros((-(-m // LANES), k + 1, LANES, 4), np.uint8)
    for row in range(m):
        x[row // LANES, :k, row % LANES] = rng.integers(0, 256, (k, 4))
    return x, values, *made.read.values(), offset


def spmv_sell_u8s8_sample(rng, k, n, nnz=None):
    made, values, offset = _code_sample(rng, n, k, nnz, layouts.slices)
    x = np.zeros((k + 1, 4), np.uint8)
    x[:k] = rng.integers(0, 256, (k, 4))
    return x, values, *made.read.values(), offset


def spmv_windows_u8s8_sample(rng, k, n, nnz=None):
    k = max(k, layouts.WINDOW)
    made, values, offset = _code_sample(rng, n, k, nnz, layouts.windows)
    x = rng.integers(0, 256, (k, 4)).astype(np.uint8)
    return x, values, *made.read.values(), offset


# -- bitmaps
def _read_bitmap(x, values, bits, starts, bias, residual, activation, y):
    n = y.shape[1]
    stored = (bits[:, :, None] >> np.arange(LANES) & 1).astype(np.bool_)  # slice, column, lane: the order of values
    piece, column, lane = np.nonzero(stored)
    row = piece * LANES + lane
    return x, _by_rows(values, row, column, n), (None, bias, residual, activation)


def _bitmap_sample(rng, m, k, n, nnz=None):
    x = rng.standard_normal((m, k)).astype(np.float32)
    data, indices, indptr = csr_sample(rng, n, k, nnz)
    return x, *layouts.bitmap(data, indices, indptr, k), *end_sample(rng, m, n)


_chained("spmm_bitmap_f32", _read_bitmap, _bitmap_sample)


# -- N:M
def _read_nm(x, values, at, keep, group, bias, residual, activation, y):
    steps, n = values.shape[1], len(y)
    place = np.stack([at & 15, at >> 4], 2).reshape(len(at), 2 * at.shape[1], LANES)[:, :steps]
    column = (np.arange(steps) // keep * group)[None, :, None] + place
    data, column = (v.transpose(0, 2, 1).reshape(len(at) * LANES, steps)[:n].reshape(-1) for v in (values, column))
    return x[None], (data, column, np.arange(n + 1) * steps), (None, bias, residual, activation)


def _nm_sample(rng, n, groups, keep, group):
    group = min(max(group, 1), LANES)
    keep = min(max(keep, 1), group)
    place = np.sort(np.argsort(rng.random((n, groups, group)), axis=2)[:, :, :keep], axis=2).reshape(n, groups * keep)
    pairs = layouts.paired(place.astype(np.uint8))
    values, at = layouts.nm(rng.standard_normal(place.shape).astype(np.float32), pairs)
    x = np.zeros(max(groups - 1, 0) * group + LANES, np.float32)
    x[: groups * group] = rng.standard_normal(groups * group)
    return x, values, at, keep, group, *end_sample(rng, None, n)


_chained("spmv_nm_f32", _read_nm, _nm_sample)


# -- blocks
def _csr_of_blocks(data, indices, indptr):
    """The entries of blocks [nnz, h, w], by rows."""
    h, w = data.shape[1:]
    block_row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    row = (block_row[:, None] * h + np.arange(h))[:, :, None] + np.zeros(w, np.int64)
    column = (indices.astype(np.int64)[:, None] * w + np.arange(w))[:, None, :] + np.zeros((h, 1), np.int64)
    order = np.lexsort((column.reshape(-1), row.reshape(-1)))
    starts = np.concatenate([[0], np.cumsum(np.repeat(np.diff(indptr), h) * w)])
    return data.reshape(-1)[order], column.reshape(-1)[order], starts


def _read_bsr(x, data, indices, indptr, bias, residual, activation, y):
    return x, _csr_of_blocks(data, indices, indptr), (None, bias, residual, activation)


def _read_bsr_columns(x, data, indices, indptr, bias, residual, activation, y):
    blocks = _csr_of_blocks(data.transpose(0, 2, 1), indices, indptr)
    return x[None], blocks, (None, bias, residual, activation)


def _blocks_sample(rng, k, n, nnz, h, w):
    data, indices, indptr = csr_sample(rng, n, k, nnz)
    return rng.standard_normal((len(data), h, w)).astype(np.float32), indices, indptr


def _spmm_bsr_sample(rng, m, k, n, h, w, nnz=None):
    x = rng.standard_normal((m, k * w)).astype(np.float32)
    return x, *_blocks_sample(rng, k, n, nnz, h, w), *end_sample(rng, m, n * h)


def _spmv_bsr_sample(rng, k, n, w, nnz=None):
    x = rng.standard_normal(k * w).astype(np.float32)
    return x, *_blocks_sample(rng, k, n, nnz, w, LANES), *end_sample(rng, None, n * LANES)


_chained("spmm_bsr_f32", _read_bsr, _spmm_bsr_sample)
_chained("spmv_bsr_f32", _read_bsr_columns, _spmv_bsr_sample)


# -- a product where a pattern asks for it
def sddmm_csr_f32(a, b, indices, indptr, values):
    """values[p] = Σ_l a[i, l]·b[indices[p], l] for each entry p of row i."""
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    values[...] = np.einsum("pl,pl->p", a.astype(np.float64)[row], b.astype(np.float64)[indices])


def sddmm_csr_f32_bound(a, b, indices, indptr, values):
    row, m = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), a.shape[1]
    return gamma(m) * np.einsum("pl,pl->p", np.abs(a.astype(np.float64))[row],
                                np.abs(b.astype(np.float64))[indices]) + m * TINY


def sddmm_csr_f32_chain(a, b, indices, indptr, values):
    """One fma chain over l, from +0."""
    row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    values[...] = 0
    for step in range(a.shape[1]):
        values[...] = fma(a[row, step], b[indices, step], values)


def sddmm_csr_f32_sample(rng, m, k, n, nnz=None):
    _, indices, indptr = csr_sample(rng, n, k, nnz)
    return (rng.standard_normal((n, m)).astype(np.float32), rng.standard_normal((k, m)).astype(np.float32), indices,
            indptr)
