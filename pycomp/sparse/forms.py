"""The forms in which a matrix runs: what each kernel reads, packed once.

All of them compute the same chains, so a product has the same bits in whichever form it runs; they differ in speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import FLOAT32, aligned, contiguous, has_rows, rows
from pycomp.dense import LANES, panels
from pycomp.kernels import dispatch, layouts

if TYPE_CHECKING:
    from .bsr import BSRMatrix
    from .csr import CSRMatrix
    from .nm import NMMatrix

BATCH = 256
"""Rows of x that are packed at once: enough that reading the matrix again costs nothing beside the product."""
KINDS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "s8"}
"""Values as the names of kernels say them."""

Array = NDArray[Any]


class Form:
    """A matrix as some kernels read it."""

    name: str

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        """y [M, N] = activation(x [M, K] @ a.T + bias + residual); x and y at any strides, residual contiguous."""
        raise NotImplementedError


def of_entries(name: str, a: CSRMatrix) -> Form:
    """A form by name, of any matrix's entries."""
    if name not in FORMATS:
        raise ValueError(f"format is {name!r}, expected one of {', '.join(map(repr, ('auto', *FORMATS)))}")
    if name in OWN:
        raise ValueError(f"format is {name!r}, expected {OWN[name]} of float32, which its from_csr makes")
    if a.dtype == np.float64:
        if name != "csr":
            raise ValueError(f"format is {name!r}, expected 'csr' for a matrix of float64")
        return Double(a)
    if name in INTERLEAVED:
        scale = np.ones(a.shape[0], np.float32) if a.dtype == np.int8 else None
        return interleaved(name, a, KINDS[a.dtype.name], scale)
    return {"csr": Csr, "bitmap": Bitmap, "dense": Dense}[name](a.astype(FLOAT32))


def interleaved(name: str, a: CSRMatrix, kind: str, scale: Array | None) -> Form:
    """Tiles or slices, whose columns have 16 bits, or windows."""
    if name != "windows" and a.shape[1] > layouts.MOST_COLUMNS:
        raise ValueError(f"format is {name!r}, expected at most {layouts.MOST_COLUMNS} columns for it, "
                         f"the matrix has {a.shape[1]}")
    return INTERLEAVED[name](a, kind, scale)


def _into(y: Array, write: Callable[[Array], None]) -> None:
    """Lets ``write`` fill a row y [N], or a contiguous one in its place."""
    if y.flags.c_contiguous and y.flags.aligned:
        write(y)
        return
    line = np.empty(y.shape, y.dtype)
    write(line)
    y[...] = line


def _add(residual: Array, sums: Array) -> None:
    """sums += residual, both contiguous, as fma(1, residual, sums): NumPy's sum depends on the caller's rounding mode.

    It is not the start of the product's chain, to which it is added last.
    """
    flat = sums.reshape(1, -1)
    dispatch.gemm_add_f32(np.ones((1, 1), np.float32), panels(residual.reshape(1, -1)), flat, flat)


class _ByRows(Form):
    """One kernel for one row of x, another for many."""

    beyond = 0
    """Columns of zeros that the kernel of many rows reads after the last."""

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        raise NotImplementedError

    def many(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        raise NotImplementedError

    single = True
    """Whether there is a kernel for one row."""

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        x = x if x.flags.aligned else x.copy()
        if x.shape[0] == 1 and self.single:
            row, term = np.ascontiguousarray(x[0]), None if residual is None else residual[0]
            _into(y[0], lambda line: self.one(row, bias, term, code, line))
            return
        for i in range(0, x.shape[0], BATCH):
            part = slice(i, i + BATCH)
            term = None if residual is None else residual[part]
            self.many(panels(x[part].T, self.beyond), bias, term, code, y[part])


class Csr(_ByRows):
    """The matrix as it is."""

    name = "csr"

    def __init__(self, a: CSRMatrix) -> None:
        self.arrays = a.data, a.indices, a.indptr

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmv_csr_f32(x, *self.arrays, bias, residual, code, y)

    def many(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmm_csr_f32(x, *self.arrays, bias, residual, code, y)


class Tiles(_ByRows):
    """For many rows: four rows of the matrix interleaved, columns in blocks that L1 holds."""

    name, beyond, single = "tiles", 1, False

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        t = a._layout("tiles", layouts.tiles, keep=scale is None)  # codes are not trained
        self.matrix = _stored(t, a.data, kind), *t.read
        self.scale = () if scale is None else (scale,)
        self.kernel = f"spmm_tiles_{kind}"

    def many(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        getattr(dispatch, self.kernel)(x, *self.matrix, *self.scale, bias, residual, code, y)


class _One(Form):
    """A kernel for one row of x; several rows come one after the other."""

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        raise NotImplementedError

    def widened(self, row: Array) -> Array:
        """A row of x, contiguous, and what the kernel reads beyond it."""
        raise NotImplementedError

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        for i in range(x.shape[0]):
            row, term = self.widened(x[i]), None if residual is None else residual[i]
            _into(y[i], lambda line, row=row, term=term: self.one(row, bias, term, code, line))  # type: ignore[misc]


class Slices(_One):
    """For one row: sixteen rows of the matrix interleaved, a lane each (SELL)."""

    name = "slices"

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        t = a._layout("slices", layouts.slices, keep=scale is None)
        self.matrix = _stored(t, a.data, kind), *t.read
        self.scale = () if scale is None else (scale,)
        self.kernel = f"spmv_sell_{kind}"

    def widened(self, row: Array) -> Array:
        wide = np.empty(len(row) + 1, FLOAT32)
        wide[:-1], wide[-1] = row, 0
        return wide

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        getattr(dispatch, self.kernel)(x, *self.matrix, *self.scale, bias, residual, code, y)


def _stored(tiles: layouts.Tiles | layouts.Windows, data: Array, kind: str) -> Array:
    """Values in their places, as a kernel of that kind reads them, on a cache line."""
    if kind in ("s8", "s4"):
        values = tiles.values(data, 0)
        values = values if kind == "s8" else layouts.nibbles(values)
    elif kind == "f32":
        values = tiles.values(data)
    else:
        values = tiles.values(data.view(np.uint16), 0x8000)
    placed = aligned(values.shape, values.dtype)
    placed[...] = values
    return placed


class _Few(Form):
    """A kernel for a few rows of x, contiguous ones."""

    def few(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        raise NotImplementedError

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        sums = y if has_rows(y) else np.empty(y.shape, FLOAT32)
        self.few(rows(x), bias, residual, code, sums)
        if sums is not y:
            y[...] = sums


class Windows(_Few):
    """Sixteen rows of the matrix interleaved, a lane each; every three steps take their columns inside registers."""

    name = "windows"

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        t = a._layout("windows", layouts.windows, keep=scale is None)
        self.matrix = _stored(t, a.data, kind), *t.read
        self.scale = () if scale is None else (scale,)
        self.kernel = f"spmm_windows_{kind}"

    def few(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        if x.shape[1] < layouts.WINDOW:
            wide = np.zeros((x.shape[0], layouts.WINDOW), FLOAT32)
            wide[:, : x.shape[1]] = x
            x = wide
        getattr(dispatch, self.kernel)(x, *self.matrix, *self.scale, bias, residual, code, y)


class Bitmap(_Few):
    """Sixteen rows of the matrix, a bit an element and the values beside each other."""

    name = "bitmap"

    def __init__(self, a: CSRMatrix) -> None:
        self.matrix = layouts.bitmap(a.data, a.indices, a.indptr, a.shape[1])

    def few(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmm_bitmap_f32(x, *self.matrix, bias, residual, code, y)


class Nm(_One):
    """For one row: N of every M columns, taken inside a register."""

    name = "nm"

    def __init__(self, a: NMMatrix) -> None:
        self.matrix = (*layouts.nm(a.data, a.places), a.n, a.m)
        self.width = max(a.shape[1], (a.shape[1] // a.m - 1) * a.m + LANES)

    def widened(self, row: Array) -> Array:
        wide = np.zeros(self.width, FLOAT32)
        wide[: len(row)] = row
        return wide

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmv_nm_f32(x, *self.matrix, bias, residual, code, y)


class Blocks(_ByRows):
    """Dense blocks, whose rows share each load of x; of sixteen rows, also for one row of x."""

    name = "blocks"

    def __init__(self, a: BSRMatrix) -> None:
        self.matrix = a.data, a.indices, a.indptr
        self.single = a.block[0] == LANES
        self.columns = np.ascontiguousarray(a.data.transpose(0, 2, 1)) if self.single else None

    def one(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmv_bsr_f32(x, self.columns, *self.matrix[1:], bias, residual, code, y)

    def many(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        dispatch.spmm_bsr_f32(x, *self.matrix, bias, residual, code, y)


class Dense(Form):
    """The matrix with its zeros. Where x is not finite they would have an effect: then the entries alone run."""

    name = "dense"

    def __init__(self, a: CSRMatrix) -> None:
        self.sparse = Csr(a)
        self.packed = panels(a.to_dense().T)

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        if not np.isfinite(x).all():
            self.sparse.run(x, bias, residual, code, y)
            return
        x = rows(x)
        if residual is None and has_rows(y):
            dispatch.gemm_f32(x, self.packed, bias, code, y)
            return
        sums = np.empty(y.shape, FLOAT32)
        dispatch.gemm_f32(x, self.packed, bias, 0 if residual is not None else code, sums)
        if residual is not None:
            with dispatch.aside():
                _add(residual, sums)
                if code:
                    dispatch.activate_f32(sums.reshape(-1), code, sums.reshape(-1))  # in place
        y[...] = sums


class Double(Form):
    """CSR in float64, whose kernels give the product alone."""

    name = "csr"

    def __init__(self, a: CSRMatrix) -> None:
        self.arrays = a.data, a.indices, a.indptr

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        self._multiply(x, y)
        with np.errstate(all="ignore"):
            for term in (bias, residual):
                if term is not None:
                    y += term
        if code == 1:
            np.copyto(y, 0, where=y <= 0)

    def _multiply(self, x: Array, y: Array) -> None:
        if x.shape[0] == 1:
            row = contiguous(x[0])
            _into(y[0], lambda line: dispatch.spmv_csr_f64(row, *self.arrays, line))
            return
        m, k = x.shape
        whole = m // LANES
        panels = np.zeros((-(-m // LANES), k, LANES))
        panels[:whole] = x[: whole * LANES].reshape(whole, LANES, k).transpose(0, 2, 1)
        if rest := m % LANES:
            panels[whole, :, :rest] = x[whole * LANES :].T
        dispatch.spmm_csr_f64(panels, *self.arrays, y)


INTERLEAVED = {"tiles": Tiles, "slices": Slices, "windows": Windows}
"""Forms for values of every type but float64."""
OWN = {"blocks": "a BSRMatrix", "nm": "an NMMatrix"}
"""Forms that one class of matrices has."""
FORMATS = ("csr", "tiles", "slices", "windows", "bitmap", "nm", "blocks", "dense")
"""Every form that a product can be told to run in."""
