"""The entries of the contract for 8-bit codes and their products; contract.py joins them to the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .contract_dense import LINEAR_EDGES, LINEAR_SHAPES
from .entry import DTYPES, In, Kernel, Operand, Opt, Out, Scalar, chained
from .reference import quantization

INT8_EDGES = {
    "m": (0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 50),
    "k": (0, 1, 2, 3, 4, 5, 63, 64, 65, 127, 2047, 2049, 4300),
    "n": (0, 1, 15, 16, 17, 47, 48, 49, 97, 130, 250),
}
FEW_EDGES = {"m": (0, 1, 2, 9), "k": (0, 1, 5, 65, 300), "n": (0, 1, 17, 50)}
"""Of kernels that call two others."""
RESULTS = {"f32": "f32", "f16": "f16", "bf16": "bf16", "s8": "i8", "u8": "u8"}
"""What an 8-bit product may end in, as kernels are named, and its dtype."""
GRIDS = {to: (Scalar("y_scale", "f32"), Scalar("y_zero", "i32")) if to in ("s8", "u8") else () for to in RESULTS}
"""What those that end in codes take more."""
CODES = (("u", "u8"), ("s", "i8"))
"""Signs of codes in names of kernels, and their types."""
STRIPS = "ceil48(n),ceil4(k),3,16,4"
"""Packed 8-bit weights."""
GROUPED_EDGES = {**LINEAR_EDGES, "k": (0, 1, 2, 3, 17, 64, 130, 257, 520, 1100), "groups": (1, 2, 3, 5, 40)}
ROW_EDGES = {"m": (0, 1, 2, 5), "k": (0, 1, 15, 16, 17, 33, 100)}
ROW_SHAPES = (
    ("one row", {"m": 1, "k": 4096}),
    ("a prompt", {"m": 128, "k": 4096}),
    ("a 7B model's feed-forward, in memory", {"m": 4096, "k": 11008}),
)
TENSOR_SHAPES = (*ROW_SHAPES, ("the same, one scale", {"m": 1, "k": 4096 * 11008}))
GROUP_EDGES = {"m": ROW_EDGES["m"], "k": (*ROW_EDGES["k"], 256, 640, 1280), "groups": (1, 2, 3, 5, 16, 20)}
GROUP_SHAPES = (
    *((why, {**sizes, "groups": 1}) for why, sizes in ROW_SHAPES),
    ("the same in groups of 32", {"m": 4096, "k": 11008, "groups": 344}),
)
COLUMN_SHAPES = (
    ("a prompt", {"m": 128, "k": 4096, "g": 1}),
    ("a 7B model's feed-forward, in memory", {"m": 4096, "k": 11008, "g": 1}),
    ("the same in groups of 32 rows", {"m": 4096, "k": 11008, "g": 128}),
)
X = (In("x", "f32", "m,k", strides=1),)
ROW_GRID = In("scale", "f32", "m"), Opt("zero", "i32", "m")
COLUMN_GRID = In("scale", "f32", "g,k"), Opt("zero", "i32", "g,k")
CODE_RANGE = Scalar("low", "i32"), Scalar("high", "i32")
ROWS: dict[str, Any] = {
    "sizes": ("m", "k"),
    "flops": lambda m, k: 0,
    "edges": ROW_EDGES,
    "shapes": TENSOR_SHAPES,
}
COLUMNS: dict[str, Any] = {
    "sizes": ("m", "k", "g"),
    "flops": lambda m, k, g: 0,
    "edges": {**ROW_EDGES, "g": (1, 2, 3)},
    "shapes": COLUMN_SHAPES,
    "batch": None,
}
SUMS: dict[str, Any] = {
    "sizes": ("m", "n"),
    "flops": lambda m, n: 0,
    "bytes": lambda m, n: 5 * m * n,
    "edges": {"m": (0, 1, 2, 5), "n": (0, 1, 15, 16, 17, 33, 100)},
    "shapes": tuple((why, {"m": sizes["m"], "n": sizes["k"]}) for why, sizes in ROW_SHAPES),
}


def _quantization(name: str, **entry: Any) -> Kernel:
    return chained(quantization, name, **entry)


def _both(stem: str, operands: Callable[[str], tuple[Operand, ...]], **entry: Any) -> list[Kernel]:
    """A kernel of signed codes and one of unsigned ones: ``operands`` of the dtype of codes."""
    return [_quantization(f"{stem}_{sign}8", operands=operands(code), **entry) for sign, code in reversed(CODES)]


def _of_sums(code: str, *by: Operand) -> tuple[Operand, ...]:
    """int32 sums to codes by what each column has."""
    return In("acc", "i32", "m,n", strides=1), *by, Opt("zero", "i32", "n"), Out("codes", code, "m,n")


def _int8_sums(name: str, code: str, *w: Operand) -> Kernel:
    """The exact product of codes with weights, as these operands."""
    return _quantization(
        name,
        sizes=("m", "k", "n"),
        operands=(
            In("x", code, "m,k", strides=1),
            *w,
            Opt("x_zero", "i32", "m"),
            Opt("w_zero", "i32", "n"),
            Out("y", "i32", "m,n", strides=1),
        ),
        flops=lambda m, k, n: 2 * m * k * n,
        bytes=lambda m, k, n: m * k + k * n + 4 * m * n,
        edges=INT8_EDGES,
        shapes=LINEAR_SHAPES,
    )


def _int8_product(
    name: str, to: str, *x: Operand, edges: dict[str, tuple[int, ...]] = INT8_EDGES
) -> Kernel:
    """A product of x, as these operands, with packed 8-bit weights, to one of RESULTS."""
    return _quantization(
        name,
        sizes=("m", "k", "n"),
        operands=(
            *x,
            In("w", "i8", STRIPS),
            In("sums", "i32", "n"),
            In("w_scale", "f32", "n"),
            Opt("w_zero", "i32", "n"),
            Opt("bias", "f32", "n"),
            Opt("residual", "f32", "m,n"),
            Scalar("activation", "i32"),
            *GRIDS[to],
            Out("y", RESULTS[to], "m,n", strides=1),
        ),
        flops=lambda m, k, n: 2 * m * k * n,
        bytes=lambda m, k, n: DTYPES[x[0].dtype].itemsize * m * k + k * n + DTYPES[RESULTS[to]].itemsize * m * n,
        edges=edges,
        shapes=LINEAR_SHAPES,
    )


ENTRIES = (
    _quantization(
        "pack_s8",
        sizes=("k", "n"),
        operands=(
            In("w", "i8", "k,n", strides=2),
            Out("packed", "i8", STRIPS),
            Out("sums", "i32", "n"),
        ),
        flops=lambda k, n: 0,
        bytes=lambda k, n: 2 * k * n,
        edges={"k": (0, 1, 3, 4, 5, 33, 64, 67, 130), "n": (0, 1, 15, 16, 17, 47, 48, 49, 97, 430)},
        shapes=(("a 7B model's square", {"k": 4096, "n": 4096}),),
        batch=None,
    ),
    *(_int8_sums(f"gemm_{x}8s8", code, In("w", "i8", STRIPS), In("sums", "i32", "n")) for x, code in CODES),
    *(
        _int8_sums(f"matmul_{x}8{w}8", code, In("w", other, "k,n", strides=2))
        for x, code in CODES
        for w, other in CODES
    ),
    *(
        _int8_product(
            f"gemm_{product}_{to}", to,
            In("x", code, "m,k", strides=1), In("x_scale", "f32", "m"), Opt("x_zero", "i32", "m"),
        )
        for to in RESULTS
        for product, code in (("u8s8", "u8"), ("s8s8", "i8"))
    ),
    *(_int8_product(f"linear_dynamic_{to}", to, In("x", "f32", "m,k", strides=1)) for to in RESULTS),
    *(
        _int8_product(
            f"linear_static_{to}", to, In("x", "f32", "m,k", strides=1),
            Scalar("x_scale", "f32"), Scalar("x_zero", "i32"), Scalar("is_signed", "i32"),
            edges=FEW_EDGES,
        )
        for to in RESULTS
    ),
    _quantization(
        "gemm_f32s8",
        sizes=("m", "k", "n", "groups"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            In("w", "i8", "ceil16(n),k,16"),
            In("scale", "f32", "ceil16(n),groups,16"),
            Opt("zero", "i8", "ceil16(n),groups,16"),
            Opt("bias", "f32", "n"),
            Opt("residual", "f32", "m,n"),
            Scalar("activation", "i32"),
            Out("y", "f32", "m,n", strides=1),
        ),
        flops=lambda m, k, n, groups: 2 * m * k * n,
        bytes=lambda m, k, n, groups: 4 * (m * k + m * n) + k * n + 5 * n * groups,
        edges=GROUPED_EDGES,
        shapes=tuple((why, {**sizes, "groups": sizes["k"] // 128}) for why, sizes in LINEAR_SHAPES),
    ),
    _quantization(
        "quantize_rows_s8",
        sizes=("m", "k", "groups"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            Out("codes", "i8", "m,k"),
            Out("scale", "f32", "m,groups"),
            Out("sums", "i32", "m,groups"),
        ),
        flops=lambda m, k, groups: 0,
        bytes=lambda m, k, groups: 5 * m * k + 8 * m * groups,
        edges=GROUP_EDGES,
        shapes=GROUP_SHAPES,
    ),
    _quantization(
        "quantize_rows_u8",
        sizes=("m", "k", "groups"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            Out("codes", "u8", "m,k"),
            Out("scale", "f32", "m,groups"),
            Out("zero", "i32", "m,groups"),
            Out("sums", "i32", "m,groups"),
        ),
        flops=lambda m, k, groups: 0,
        bytes=lambda m, k, groups: 5 * m * k + 12 * m * groups,
        edges=GROUP_EDGES,
        shapes=GROUP_SHAPES,
    ),
    _quantization(
        "range_f32",
        sizes=("m", "k"),
        operands=(In("x", "f32", "m,k", strides=1), Out("low", "f32", "m"), Out("high", "f32", "m")),
        flops=lambda m, k: 0,
        bytes=lambda m, k: 4 * m * k,
        edges={"m": (0, 1, 2, 5), "k": (0, 1, 15, 16, 17, 33, 70001)},
        shapes=TENSOR_SHAPES,
    ),
    _quantization(
        "range_columns_f32",
        sizes=("m", "k", "g"),
        operands=(In("x", "f32", "m,k", strides=1), Out("low", "f32", "g,k"), Out("high", "f32", "g,k")),
        flops=lambda m, k, g: 0,
        bytes=lambda m, k, g: 4 * m * k + 8 * g * k,
        edges={"m": (0, 1, 2, 5, 64, 514), "k": (0, 1, 15, 16, 17, 33, 1025), "g": (1, 2, 3)},
        shapes=COLUMN_SHAPES,
        batch=None,
    ),
    *_both("quantize", lambda code: (*X, *ROW_GRID, Out("codes", code, "m,k")), **ROWS, bytes=lambda m, k: 5 * m * k),
    *_both("dequantize", lambda code: (In("codes", code, "m,k"), *ROW_GRID, Out("y", "f32", "m,k")), **ROWS,
           bytes=lambda m, k: 5 * m * k),
    *_both("quantize_columns", lambda code: (*X, *COLUMN_GRID, Out("codes", code, "m,k")), **COLUMNS,
           bytes=lambda m, k, g: 5 * m * k + 8 * g * k),
    *_both("dequantize_columns", lambda code: (In("codes", code, "m,k"), *COLUMN_GRID, Out("y", "f32", "m,k")),
           **COLUMNS, bytes=lambda m, k, g: 5 * m * k + 8 * g * k),
    _quantization(
        "fake_quantize_f32",
        operands=(*X, *ROW_GRID, *CODE_RANGE, Out("y", "f32", "m,k")),
        **ROWS,
        bytes=lambda m, k: 8 * m * k,
    ),
    _quantization(
        "fake_quantize_columns_f32",
        operands=(*X, *COLUMN_GRID, *CODE_RANGE, Out("y", "f32", "m,k")),
        **COLUMNS,
        bytes=lambda m, k, g: 8 * m * k + 8 * g * k,
    ),
    _quantization(
        "fake_quantize_backward_f32",
        operands=(
            In("grad", "f32", "m,k", strides=1),
            *X,
            *ROW_GRID,
            *CODE_RANGE,
            Out("dx", "f32", "m,k"),
            Out("dscale", "f64", "m,ceil16384(k)"),
            Out("dzero", "f64", "m,ceil16384(k)"),
        ),
        **ROWS | {"edges": {**ROW_EDGES, "k": (0, 1, 15, 16, 17, 33, 100, 16384, 16385)}},
        bytes=lambda m, k: 12 * m * k,
    ),
    *_both("requantize", lambda code: _of_sums(code, In("scale", "f32", "n")), **SUMS),
    *_both("requantize_fixed", lambda code: _of_sums(code, In("multiplier", "i32", "n"), In("shift", "i32", "n")),
           **SUMS),
)
