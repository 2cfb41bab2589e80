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
from pycomp.kernels.dispatch import Holding

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
    """A form that has values of each type."""
    form = INTERLEAVED[name]
    if a.shape[1] > form.most_columns:
        raise ValueError(f"format is {name!r}, expected at most {form.most_columns} columns for it, "
                         f"the matrix has {a.shape[1]}")
    return form(a, kind, scale)


def _into(y: Array, kernel: Callable[..., None], *operands: Any) -> None:
    """``kernel(*operands, y)`` of a row y [N], or of a contiguous one in its place."""
    flags = y.flags
    if flags.c_contiguous and flags.aligned:
        kernel(*operands, y)
        return
    line = np.empty(y.shape, y.dtype)
    kernel(*operands, line)
    y[...] = line


def _add(residual: Array, sums: Array) -> None:
    """sums += residual, both contiguous, as fma(1, residual, sums): NumPy's sum depends on the caller's rounding mode.

    It is not the start of the product's chain, to which it is added last.
    """
    flat = sums.reshape(1, -1)
    dispatch.gemm_add_f32(np.ones((1, 1), np.float32), panels(residual.reshape(1, -1)), flat, flat)


class _ByRows(Form):
    """One kernel for one row of x, if there is one, another for many."""

    one: Holding | None = None
    many: Holding

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        x = x if x.flags.aligned else x.copy()
        if x.shape[0] == 1 and (one := self.one):
            _into(y[0], one, contiguous(x[0]), bias, None if residual is None else residual[0], code)
            return
        if x.shape[0] <= BATCH:
            self.many(x, bias, residual, code, y)
            return
        for i in range(0, x.shape[0], BATCH):
            part = slice(i, i + BATCH)
            self.many(x[part], bias, None if residual is None else residual[part], code, y[part])


class Csr(_ByRows):
    """The matrix as it is."""

    name = "csr"

    def __init__(self, a: CSRMatrix) -> None:
        arrays = {"data": a.data, "indices": a.indices, "indptr": a.indptr}
        self.one, self.many = Holding("spmv_csr_f32", **arrays), Holding("spmm_csr_f32", **arrays)


class Tiles(_ByRows):
    """For many rows: four rows of the matrix interleaved, columns in blocks that L1 holds."""

    name, most_columns = "tiles", layouts.MOST_COLUMNS

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        self.many = _packed("spmm_tiles", layouts.tiles, a, kind, scale)


class Blocks(_ByRows):
    """Dense blocks, whose rows share each load of x; of sixteen rows, also for one row of x."""

    name = "blocks"

    def __init__(self, a: BSRMatrix) -> None:
        pattern = {"indices": a.indices, "indptr": a.indptr}
        self.many = Holding("spmm_bsr_f32", data=a.data, **pattern)
        if a.block[0] == LANES:
            self.one = Holding("spmv_bsr_f32", data=np.ascontiguousarray(a.data.transpose(0, 2, 1)), **pattern)


class _One(Form):
    """A kernel for one row of x; several rows come one after the other."""

    least = 0
    """Elements of a row of x that the kernel reads at least: zeros after its last."""
    one: Holding

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        for i in range(x.shape[0]):
            row = contiguous(x[i]) if x.shape[1] >= self.least else _with_zeros(x[i], self.least)
            _into(y[i], self.one, row, bias, None if residual is None else residual[i], code)


class Slices(_One):
    """For one row: sixteen rows of the matrix interleaved, a lane each (SELL)."""

    name, most_columns = "slices", layouts.MOST_COLUMNS

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        self.one = _packed("spmv_sell", layouts.slices, a, kind, scale)


class Nm(_One):
    """For one row: N of every M columns, taken inside a register."""

    name = "nm"

    def __init__(self, a: NMMatrix) -> None:
        values, at = layouts.nm(a.data, a.places)
        self.least = max(a.shape[1], (a.shape[1] // a.m - 1) * a.m + LANES)
        self.one = Holding("spmv_nm_f32", values=values, at=at, keep=a.n, group=a.m)


class _Few(Form):
    """A kernel for a few rows of x, contiguous ones."""

    least = 0
    """Elements of a row of x that the kernel reads at least: zeros after its last."""
    few: Holding

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        x = rows(x) if x.shape[1] >= self.least else _with_zeros(x, self.least)
        if has_rows(y):
            self.few(x, bias, residual, code, y)
            return
        sums = np.empty(y.shape, FLOAT32)
        self.few(x, bias, residual, code, sums)
        y[...] = sums


class Windows(_Few):
    """Sixteen rows of the matrix interleaved; every few steps take their columns inside registers."""

    name, most_columns, least = "windows", 2**31, layouts.WINDOW

    def __init__(self, a: CSRMatrix, kind: str, scale: Array | None) -> None:
        self.few = _packed("spmm_windows", layouts.windows, a, kind, scale)


class Bitmap(_Few):
    """Sixteen rows of the matrix, a bit an element and the values beside each other."""

    name = "bitmap"

    def __init__(self, a: CSRMatrix) -> None:
        values, bits, starts = layouts.bitmap(a.data, a.indices, a.indptr, a.shape[1])
        self.few = Holding("spmm_bitmap_f32", values=values, bits=bits, starts=starts)


def _with_zeros(x: Array, width: int) -> Array:
    """x with so many columns."""
    wide = np.zeros((*x.shape[:-1], width), FLOAT32)
    wide[..., : x.shape[-1]] = x
    return wide


def _packed(family: str, layout: Any, a: CSRMatrix, kind: str, scale: Array | None) -> Holding:
    """A kernel and the matrix as it reads it."""
    made = a._layout(layout.__name__, layout, keep=scale is None)  # codes are not trained
    scales = {} if scale is None else {"scale": scale}
    return Holding(f"{family}_{kind}", values=_stored(made, a.data, kind), **made.read, **scales)


def _stored(made: layouts.Tiles | layouts.Windows, data: Array, kind: str) -> Array:
    """Values in their places, as a kernel of that kind reads them, on a cache line."""
    if kind in ("s8", "s4"):
        values = made.values(data, 0)
        values = values if kind == "s8" else layouts.nibbles(values)
    elif kind == "f32":
        values = made.values(data)
    else:
        values = made.values(data.view(np.uint16), 0x8000)
    placed = aligned(values.shape, values.dtype)
    placed[...] = values
    return placed


class Dense(Form):
    """The matrix with its zeros. Where x is not finite they would have an effect: then the entries alone run."""

    name = "dense"

    def __init__(self, a: CSRMatrix) -> None:
        self.sparse = Csr(a)
        self.packed = panels(a.to_dense().T)
        self.product = Holding("gemm_f32", w=self.packed)

    def run(self, x: Array, bias: Array | None, residual: Array | None, code: int, y: Array) -> None:
        if not np.isfinite(x).all():
            self.sparse.run(x, bias, residual, code, y)
            return
        x = rows(x)
        if residual is None and has_rows(y):
            self.product(x, bias, code, y)
            return
        sums = np.empty(y.shape, FLOAT32)
        self.product(x, bias, 0 if residual is not None else code, sums)
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
            _into(y[0], dispatch.spmv_csr_f64, contiguous(x[0]), *self.arrays)
            return
        m, k = x.shape
        whole = m // LANES
        panels = np.zeros((-(-m // LANES), k, LANES))
        panels[:whole] = x[: whole * LANES].reshape(whole, LANES, k).transpose(0, 2, 1)
        if rest := m % LANES:
            panels[whole, :, :rest] = x[whole * LANES :].T
        dispatch.spmm_csr_f64(panels, *self.arrays, y)


INTERLEAVED: dict[str, type[Tiles | Slices | Windows]] = {"tiles": Tiles, "slices": Slices, "windows": Windows}
"""Forms for values of every type but float64."""
OWN = {"blocks": "a BSRMatrix", "nm": "an NMMatrix"}
"""Forms that one class of matrices has."""
FORMATS = ("csr", "tiles", "slices", "windows", "bitmap", "nm", "blocks", "dense")
"""Every form that a product can be told to run in."""
