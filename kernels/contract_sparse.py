"""The entries of the contract for sparse matrices; contract.py joins them to the rest."""

from __future__ import annotations

from typing import Any

from .entry import In, Kernel, Opt, Out, Scalar, chained
from .reference import sparse

SHAPES = tuple(
    (f"{what}, {zeros} % zeros", {"m": m, "k": size, "n": size, "nnz": size * size * (100 - zeros) // 100})
    for what, m, size in (("one row, a 7B model's square", 1, 4096), ("sixteen rows", 16, 4096),
                          ("a prompt", 128, 4096), ("BERT-base square, in cache", 128, 768), ("four rows", 4, 4096))
    for zeros in (50, 70, 80, 90, 95, 99)
)
MANY = tuple(shape for shape in SHAPES if shape[1]["m"] > 1)
ONE = tuple((why, {s: sizes[s] for s in ("k", "n", "nnz")}) for why, sizes in SHAPES if sizes["m"] == 1)
MANY_EDGES = {
    "m": (0, 1, 2, 3, 4, 5, 15, 16, 17, 18, 32, 33, 49, 64, 65, 81),  # the middle one, beside other edges: two slices
    "k": (0, 1, 2, 17, 95, 96, 97, 193, 385),
    "n": (0, 1, 2, 3, 15, 17, 127, 129),
}
ONE_EDGES = {"k": (0, 1, 2, 16, 17, 300), "n": (0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 130)}
WINDOW_EDGES = {"m": (0, 1, 2, 3, 4, 5, 7), "k": (0, 1, 2, 30, 31, 32, 33, 62, 300),
                "n": (0, 1, 2, 16, 17, 63, 64, 65, 130)}
FEW_EDGES = {"m": (0, 1, 4, 16, 17, 65), "k": (0, 1, 2, 127, 129), "n": (0, 1, 3, 5, 63, 65)}
"""For kernels that share their loop with one that is tried at every edge."""

_CSR = (In("indices", "i32", "nnz"), In("indptr", "i64", "n+1"))
_END = (Opt("bias", "f32", "n"), Opt("residual", "f32", "m,n"), Scalar("activation", "i32"))
_END_OF_ONE = (Opt("bias", "f32", "n"), Opt("residual", "f32", "n"), Scalar("activation", "i32"))
_TILES = (
    In("columns", "u16", "steps,4"),
    In("rows", "i32", "tiles,4"),
    In("starts", "i64", "tiles+1"),
    In("begins", "i64", "groups+1"),
    In("firsts", "i64", "groups+1"),
)
_SLICES = (In("columns", "u16", "steps,16"), In("rows", "i32", "slices,16"), In("starts", "i64", "slices+1"))
_WINDOWS = (
    In("places", "u16", "windows,4,16,turns"),
    In("begins", "i32", "windows,4"),
    In("rows", "i32", "groups,4,16"),
    In("starts", "i64", "groups+1"),
)
_STORED = {"f32": ("f32", 1, 4), "bf16": ("bf16", 1, 2), "f16": ("f16", 1, 2), "s8": ("i8", 1, 1), "s4": ("u8", 2, 0.5)}
"""Of a kind of values: the dtype, values in an element, bytes of a value."""


def _sparse(name: str, **entry: Any) -> Kernel:
    return chained(sparse, name, bound=getattr(sparse, f"{name}_bound", sparse.exact), batch=None, **entry)


def _many(m: int, nnz: int, **_: int) -> int:
    return 2 * m * nnz


def _one(nnz: int, **_: int) -> int:
    return 2 * nnz


def _few(shapes: Any) -> Any:
    """Shapes for one row of x, with one and with four."""
    return tuple((why.replace("one row", rows), {"m": m, **sizes}) for m, rows in ((1, "one row"), (4, "four rows"))
                 for why, sizes in shapes)


def _of_fours(shapes: Any) -> Any:
    """Those of entries that are four codes wide."""
    return tuple((why, {**sizes, "k": sizes["k"] // 4, "nnz": sizes["nnz"] // 4}) for why, sizes in shapes)


def _scale(kind: str) -> tuple[Any, ...]:
    return (In("scale", "f32", "n"),) if kind in ("s8", "s4") else ()


ENTRIES = (
    _sparse(
        "spmm_csr_f32",
        sizes=("m", "k", "n", "nnz"),
        operands=(In("x", "f32", "m,k", strides=2), In("data", "f32", "nnz"), *_CSR, *_END,
                  Out("y", "f32", "m,n", strides=2)),
        flops=_many,
        bytes=lambda m, k, n, nnz: 4 * (m * k + m * n) + 8 * nnz + 8 * n,
        edges=MANY_EDGES,
        shapes=MANY,
    ),
    _sparse(
        "spmv_csr_f32",
        sizes=("k", "n", "nnz"),
        operands=(In("x", "f32", "k"), In("data", "f32", "nnz"), *_CSR, *_END_OF_ONE, Out("y", "f32", "n")),
        flops=_one,
        bytes=lambda k, n, nnz: 4 * (k + n) + 8 * nnz + 8 * n,
        edges=ONE_EDGES,
        shapes=ONE,
    ),
    _sparse(
        "spmm_csr_f64",
        sizes=("m", "k", "n", "nnz"),
        operands=(In("x", "f64", "ceil16(m),k,16"), In("data", "f64", "nnz"), *_CSR,
                  Out("y", "f64", "m,n", strides=2)),
        flops=_many,
        bytes=lambda m, k, n, nnz: 8 * (m * k + m * n) + 12 * nnz + 8 * n,
        edges=FEW_EDGES,
        shapes=MANY[:1],
    ),
    _sparse(
        "spmv_csr_f64",
        sizes=("k", "n", "nnz"),
        operands=(In("x", "f64", "k"), In("data", "f64", "nnz"), *_CSR, Out("y", "f64", "n")),
        flops=_one,
        bytes=lambda k, n, nnz: 8 * (k + n) + 12 * nnz + 8 * n,
        edges=ONE_EDGES,
        shapes=ONE[:1],
    ),
    *(
        _sparse(
            f"spmm_tiles_{kind}",
            sizes=("m", "k", "n", "steps", "tiles", "groups"),
            operands=(In("x", "f32", "m,k", strides=2), In("values", dtype, f"steps,{4 // per}"), *_TILES,
                      *_scale(kind), *_END, Out("y", "f32", "m,n", strides=2)),
            flops=_many,
            bytes=lambda m, k, n, nnz, size=size, **_: 4 * (m * k + m * n) + (2 + size) * nnz,
            edges=MANY_EDGES if kind == "f32" else FEW_EDGES,
            shapes=MANY if kind == "f32" else MANY[6:13:6],
        )
        for kind, (dtype, per, size) in _STORED.items()
    ),
    *(
        _sparse(
            f"spmv_sell_{kind}",
            sizes=("k", "n", "steps", "slices"),
            operands=(In("x", "f32", "k"), In("values", dtype, f"steps,{16 // per}"), *_SLICES, *_scale(kind),
                      *_END_OF_ONE, Out("y", "f32", "n")),
            flops=_one,
            bytes=lambda k, n, nnz, size=size, **_: 4 * (k + n) + (2 + size) * nnz,
            edges=ONE_EDGES,
            shapes=ONE if kind == "f32" else ONE[2:4],
        )
        for kind, (dtype, per, size) in _STORED.items()
    ),
    *(
        _sparse(
            f"spmm_windows_{kind}",
            sizes=("m", "k", "n", "windows", "turns", "groups"),
            operands=(In("x", "f32", "m,k", strides=1), In("values", dtype, f"windows,4,turns,3,{16 // per}"),
                      *_WINDOWS, *_scale(kind), *_END, Out("y", "f32", "m,n", strides=1)),
            flops=_many,
            bytes=lambda m, k, n, nnz, size=size, **_: 4 * m * (k + n) + (2 / 3 + size) * nnz,
            edges=WINDOW_EDGES,
            shapes=_few(ONE if kind == "f32" else ONE[2:4]),
        )
        for kind, (dtype, per, size) in _STORED.items()
    ),
    _sparse(
        "spmm_tiles_u8s8",
        sizes=("m", "k", "n", "steps", "tiles", "groups"),
        operands=(In("x", "u8", "ceil16(m),k,16,4"), In("values", "i8", "steps,4,4"), *_TILES,
                  Opt("offset", "i32", "n"), Out("y", "i32", "m,n", strides=2)),
        flops=lambda m, nnz, **_: 8 * m * nnz,
        bytes=lambda m, k, n, nnz, **_: m * k + 4 * m * n + 6 * nnz,
        edges=FEW_EDGES,
        shapes=_of_fours(MANY),
    ),
    _sparse(
        "spmv_sell_u8s8",
        sizes=("k", "n", "steps", "slices"),
        operands=(In("x", "u8", "k,4"), In("values", "i8", "steps,16,4"), *_SLICES, Opt("offset", "i32", "n"),
                  Out("y", "i32", "n")),
        flops=lambda nnz, **_: 8 * nnz,
        bytes=lambda k, n, nnz, **_: k + 4 * n + 6 * nnz,
        edges=ONE_EDGES,
        shapes=_of_fours(ONE),
    ),
    _sparse(
        "spmv_windows_u8s8",
        sizes=("k", "n", "windows", "turns", "groups"),
        operands=(In("x", "u8", "k,4"), In("values", "i8", "windows,4,turns,3,16,4"), *_WINDOWS,
                  Opt("offset", "i32", "n"), Out("y", "i32", "n")),
        flops=lambda nnz, **_: 8 * nnz,
        bytes=lambda k, n, nnz, **_: k + 4 * n + 14 * nnz // 3,
        edges=ONE_EDGES,
        shapes=_of_fours(ONE),
    ),
    _sparse(
        "spmm_bitmap_f32",
        sizes=("m", "k", "n", "stored"),
        operands=(In("x", "f32", "m,k", strides=1), In("values", "f32", "stored"), In("bits", "u16", "ceil16(n),k"),
                  In("starts", "i64", "ceil16(n)+1"), *_END, Out("y", "f32", "m,n", strides=1)),
        flops=_many,
        bytes=lambda m, k, n, nnz, **_: 4 * m * (k + n) + 4 * nnz + k * n // 8,
        edges={"m": (0, 1, 2, 3, 4, 5, 7), "k": (0, 1, 2, 16, 17, 130), "n": (0, 1, 2, 15, 16, 17, 63, 64, 65, 130)},
        shapes=_few(ONE),
    ),
    _sparse(
        "spmv_nm_f32",
        sizes=("k", "n", "steps"),
        operands=(In("x", "f32", "k"), In("values", "f32", "ceil16(n),steps,16"),
                  In("at", "u8", "ceil16(n),(steps+1)//2,16"), Scalar("keep", "i32"), Scalar("group", "i32"),
                  *_END_OF_ONE, Out("y", "f32", "n")),
        flops=lambda n, steps, **_: 2 * n * steps,
        bytes=lambda k, n, steps, **_: 4 * (k + n) + 9 * n * steps // 2,
        edges={"n": (0, 1, 15, 16, 17, 33), "groups": (0, 1, 2, 3, 9, 40), "keep": (1, 2, 3, 4),
               "group": (1, 4, 5, 8, 16)},
        shapes=(("2:4, one row, a 7B model's square", {"k": 4096, "n": 4096, "steps": 2048, "groups": 1024, "keep": 2,
                                                       "group": 4}),),
    ),
    _sparse(
        "spmm_bsr_f32",
        sizes=("m", "k", "n", "nnz", "h", "w"),
        operands=(In("x", "f32", "m,k", strides=2), In("data", "f32", "nnz,h,w"), *_CSR, Opt("bias", "f32", "n*h"),
                  Opt("residual", "f32", "m,n*h"), Scalar("activation", "i32"), Out("y", "f32", "m,n*h", strides=2)),
        flops=lambda m, nnz, h, w, **_: 2 * m * nnz * h * w,
        bytes=lambda m, k, n, nnz, h, w: 4 * (m * k + m * n * h + nnz * h * w) + 4 * nnz,
        edges={"m": (0, 1, 16, 17, 49, 130), "k": (0, 1, 2, 9), "n": (0, 1, 2, 5), "h": (1, 2, 3, 4, 7, 8, 16, 19),
               "w": (1, 2, 4, 16)},
        shapes=tuple(
            (f"{h}x{w} blocks, {what}, 80 % zeros",
             {"m": 128, "k": size // w, "n": size // h, "nnz": size * size // (5 * h * w), "h": h, "w": w})
            for what, size in (("a 7B model's square", 4096), ("BERT-base square", 768))
            for h, w in ((16, 16), (4, 4), (4, 1), (16, 1))
        ),
    ),
    _sparse(
        "spmv_bsr_f32",
        sizes=("k", "n", "nnz", "w"),
        operands=(In("x", "f32", "k"), In("data", "f32", "nnz,w,16"), *_CSR, Opt("bias", "f32", "n*16"),
                  Opt("residual", "f32", "n*16"), Scalar("activation", "i32"), Out("y", "f32", "n*16")),
        flops=lambda nnz, w, **_: 32 * nnz * w,
        bytes=lambda k, n, nnz, w: 4 * (k + 16 * n + 16 * nnz * w) + 4 * nnz,
        edges={"k": (0, 1, 2, 9), "n": (0, 1, 2, 5), "w": (1, 2, 4, 16)},
        shapes=tuple((f"16x{w} blocks, one row, a 7B model's square, 80 % zeros",
                      {"k": 4096 // w, "n": 256, "nnz": 4096 * 4096 // (80 * w), "w": w}) for w in (16, 1)),
    ),
    _sparse(
        "sddmm_csr_f32",
        sizes=("m", "k", "n", "nnz"),
        operands=(In("a", "f32", "n,m", strides=1), In("b", "f32", "k,m", strides=1), *_CSR,
                  Out("values", "f32", "nnz")),
        flops=_many,
        bytes=lambda m, k, n, nnz: 4 * (m * k + m * n) + 8 * nnz + 8 * n,
        edges={"m": (0, 1, 2, 17, 33), "k": (0, 1, 2, 17, 130), "n": (0, 1, 3, 33)},
        shapes=tuple(shape for shape in MANY if shape[1]["m"] == 128),
    ),
)
