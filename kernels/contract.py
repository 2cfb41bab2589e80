"""The table of all kernels. Everything else is checked against it or made from it.

An implementation of a kernel, on any backend, is a function of the operands below in this order: inputs and scalars,
then outputs, which it fills. Sizes are read off the operands' shapes. The C function takes the sizes first and, where
an operand has explicit strides, these after its pointer; a test compares the two.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from .contract_sparse import ENTRIES as SPARSE
from .entry import DTYPES, In, Kernel, Operand, Opt, Out, Scalar, chained, found
from .reference import convert, dense, distillation, features, pruning, quantization

__all__ = ["DTYPES", "KERNELS", "Kernel", "Operand"]

LINEAR_SHAPES = (
    ("one row, weights in L2", {"m": 1, "k": 768, "n": 768}),
    ("one row, weights in L3", {"m": 1, "k": 768, "n": 3072}),
    ("a few rows", {"m": 4, "k": 768, "n": 3072}),
    ("a small batch", {"m": 16, "k": 768, "n": 3072}),
    ("BERT-base feed-forward", {"m": 128, "k": 768, "n": 3072}),
    ("the same, a long sequence", {"m": 512, "k": 768, "n": 3072}),
    ("one row, weights in memory", {"m": 1, "k": 4096, "n": 4096}),
    ("decoding four sequences of a 7B model", {"m": 4, "k": 4096, "n": 4096}),
    ("decoding sixteen", {"m": 16, "k": 4096, "n": 4096}),
    ("a prompt; the rows' stride is a power of two", {"m": 128, "k": 4096, "n": 4096}),
    ("square, fits L2 by blocks", {"m": 1024, "k": 1024, "n": 1024}),
)
LINEAR_EDGES = {
    "m": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17),
    "k": (0, 1, 2, 3, 15, 16, 17, 64, 513, 1100),
    "n": (0, 1, 15, 16, 17, 47, 48, 49, 97, 130, 250),
}

INT8_EDGES = {
    "m": (0, 1, 2, 3, 4, 5, 7, 8, 9, 17, 33, 50),
    "k": (0, 1, 2, 3, 4, 5, 63, 64, 65, 127, 2047, 2049, 4300),
    "n": (0, 1, 15, 16, 17, 47, 48, 49, 97, 130, 250),
}
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
COLUMN_EDGES = {**ROW_EDGES, "g": (1, 2, 3)}
COLUMN_SHAPES = (
    ("a prompt", {"m": 128, "k": 4096, "g": 1}),
    ("a 7B model's feed-forward, in memory", {"m": 4096, "k": 11008, "g": 1}),
    ("the same in groups of 32 rows", {"m": 4096, "k": 11008, "g": 128}),
)
SUM_EDGES = {"m": (0, 1, 2, 5), "n": (0, 1, 15, 16, 17, 33, 100)}
SUM_SHAPES = tuple((why, {"m": sizes["m"], "n": sizes["k"]}) for why, sizes in ROW_SHAPES)
LOGITS_SHAPES = (
    ("ImageNet's classes", {"m": 256, "n": 1000}),
    ("a vocabulary of 32 000", {"m": 64, "n": 32000}),
    ("a vocabulary of 128 256", {"m": 16, "n": 128256}),
)
LOGITS_EDGES = {
    "m": (0, 1, 2, 3, 9, 17, 67),
    "n": (0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100, 1023, 1024, 1025, 1040, 2100),
}
LOGITS = "as the logits"
MAPS: dict[str, Any] = {
    "sizes": ("m", "c", "n"),
    "edges": {"m": (0, 1, 2, 5), "c": (0, 1, 2, 7), "n": (0, 1, 15, 16, 17, 100, 1024, 1030)},
    "shapes": (("a stage of a ResNet-50", {"m": 32, "c": 256, "n": 28 * 28}),),
}
PIXELS: dict[str, Any] = {
    "sizes": ("m", "c", "n"),
    "edges": {"m": (0, 1, 2, 5), "c": (0, 1, 2, 15, 16, 17, 33, 100), "n": (0, 1, 15, 16, 17, 47, 48, 49, 64, 65, 130)},
    "shapes": (
        ("classes of pixels", {"m": 8, "c": 21, "n": 128 * 128}),
        ("heads that attend to 128", {"m": 192, "c": 128, "n": 128}),
        ("a vocabulary down a column", {"m": 1, "c": 32000, "n": 64}),
    ),
}
EXAMPLES: dict[str, Any] = {
    "sizes": ("m", "k"),
    "edges": {"m": (0, 1, 2, 3, 4, 5, 15, 16, 17, 33, 50), "k": (0, 1, 15, 16, 17, 33, 100)},
    "shapes": (("a batch of features", {"m": 256, "k": 512}),),
    "batch": None,
}
FEATURES: dict[str, Any] = {
    "sizes": ("m", "n"),
    "edges": {"m": (0, 1, 2, 5), "n": (0, 1, 15, 16, 17, 33, 100, 1025)},
    "shapes": (("a batch of features", {"m": 256, "n": 768}), ("maps of 56x56", {"m": 64, "n": 3136})),
}
DISTILLATION_OPERANDS = (
    In("student", "f32", "m,n", strides=1),
    In("teacher", "f32", "m,n", strides=1),
    Opt("labels", "i64", "m"),
    In("temperature", "f64", "m"),
    In("soft", "f64", "m"),
    In("hard", "f64", "m"),
    Scalar("smoothing", "f64"),
)


def _quantization(name: str, **entry: Any) -> Kernel:
    return chained(quantization, name, **entry)


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


def _int8_product(name: str, to: str, *x: Operand) -> Kernel:
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
        edges=INT8_EDGES,
        shapes=LINEAR_SHAPES,
    )


def _distillation(name: str, **entry: Any) -> Kernel:
    """A kernel on rows of logits."""
    return found(distillation, name, **{"sizes": ("m", "n"), "edges": LOGITS_EDGES, "shapes": LOGITS_SHAPES} | entry)


def _row_loss(stem: str, *given: Operand, flops: float, teacher: bool = True, **entry: Any) -> list[Kernel]:
    """A loss of rows in float64 arithmetic: of float32 and of float64 logits, alone and with its gradient.

    ``given`` stands between the logits and the temperature, of dtype LOGITS where it has theirs; ``flops`` are those of
    an element.
    """
    kernels = []
    for grad, width in itertools.product((False, True), ("f32", "f64")):
        logits = [In(side, width, "m,n", strides=1) for side in ("student", "teacher")[: 1 + teacher]]
        between = [replace(o, dtype=width) if o.dtype == LOGITS else o for o in given]
        outputs = [Out("loss", "f64", "m"), *([Out("grad", width, "m,n", strides=1)] if grad else [])]
        size = (len(logits) + grad) * DTYPES[width].itemsize
        kernels.append(_distillation(
            f"{stem}_{'grad_' if grad else ''}{width}",
            operands=(*logits, *between, In("temperature", "f64", "m"), In("scale", "f64", "m"), *outputs),
            flops=lambda m, n, k=0, e=0: flops * m * n,
            bytes=lambda m, n, k=0, e=0, size=size, word=DTYPES[width].itemsize: (size + e * word) * m * n,
            **entry,
        ))
    return kernels


def _feature(name: str, *operands: Operand, **entry: Any) -> Kernel:
    return found(features, name, family="distillation", operands=operands, **entry)


def _dist_loss(grad: bool, width: str) -> Kernel:
    return _distillation(
        f"dist_loss_{'grad_' if grad else ''}{width}",
        operands=(
            In("student", width, "m,n", strides=1),
            In("teacher", width, "m,n", strides=1),
            Scalar("temperature", "f64"),
            *([Scalar("row_scale", "f64"), Scalar("class_scale", "f64")] if grad else []),
            Out("row_loss", "f64", "m"),
            Out("class_loss", "f64", "n"),
            *([Out("grad", width, "m,n", strides=1)] if grad else []),
        ),
        flops=lambda m, n: (170 if grad else 110) * m * n,
        bytes=lambda m, n: (2 + grad) * DTYPES[width].itemsize * m * n,
        batch=None,
    )


_ALL = (
    chained(
        dense,
        "gemm_f32",
        sizes=("m", "k", "n"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            In("w", "f32", "ceil16(n),k,16"),
            Opt("bias", "f32", "n"),
            Scalar("activation", "i32"),
            Out("y", "f32", "m,n", strides=1),
        ),
        flops=lambda m, k, n: 2 * m * k * n,
        bytes=lambda m, k, n: 4 * (m * k + k * n + m * n),
        edges=LINEAR_EDGES,
        shapes=LINEAR_SHAPES,
    ),
    chained(
        dense,
        "gemm_add_f32",
        sizes=("m", "k", "n"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            In("w", "f32", "ceil16(n),k,16"),
            In("start", "f32", "m,n", strides=1),
            Out("y", "f32", "m,n", strides=1),
        ),
        flops=lambda m, k, n: 2 * m * k * n,
        bytes=lambda m, k, n: 4 * (m * k + k * n + 2 * m * n),
        edges=LINEAR_EDGES,
        shapes=LINEAR_SHAPES,
    ),
    chained(
        dense,
        "activate_f32",
        sizes=("n",),
        operands=(In("x", "f32", "n"), Scalar("activation", "i32"), Out("y", "f32", "n")),
        flops=lambda n: 80 * n,
        bytes=lambda n: 8 * n,
        edges={"n": (0, 1, 2, 15, 16, 17, 31, 32, 33, 1000)},
        shapes=(("a feed-forward layer's activations", {"n": 128 * 3072}),),
        batch="n",
    ),
    chained(
        dense,
        "pack_f32",
        sizes=("k", "n", "padded"),
        operands=(In("w", "f32", "k,n", strides=2), Out("packed", "f32", "ceil16(n),padded,16")),
        flops=lambda k, n, padded: 0,
        bytes=lambda k, n, padded: 8 * k * n,
        edges={"k": (0, 1, 15, 16, 17, 33), "n": (0, 1, 15, 16, 17, 47, 49, 145), "padded": (0, 1, 33, 40)},
        shapes=(("a 7B model's square", {"k": 4096, "n": 4096, "padded": 4096}),),
        batch=None,
    ),
    *(
        chained(
            convert,
            f"{x}_to_{y}",
            sizes=("n",),
            operands=(In("x", x, "n"), Out("y", y, "n")),
            flops=lambda n: 0,
            bytes=lambda n, size=DTYPES[x].itemsize + DTYPES[y].itemsize: size * n,
            edges={"n": (0, 1, 2, 15, 16, 17, 33, 1000)},
            shapes=(("logits of a vocabulary", {"n": 64 * 32000}),),
            batch="n",
        )
        for x, y in (("f16", "f32"), ("f32", "f16"), ("f32", "bf16"), ("f64", "f16"), ("f64", "bf16"))
    ),
    *SPARSE,
    found(
        pruning,
        "topk_mask_f32",
        sizes=("n",),
        operands=(In("scores", "f32", "n"), Scalar("magnitude", "i32"), Scalar("k", "i64"), Out("mask", "bool", "n")),
        bound=pruning.exact,
        flops=lambda n: 0,
        bytes=lambda n: 13 * n,
        edges={"n": (0, 1, 2, 15, 16, 17, 33, 4095, 4096, 16385, 70001)},
        shapes=(("an MLP matrix of a 7B model", {"n": 4096 * 11008}), ("BERT-base feed-forward", {"n": 768 * 3072})),
        batch=None,
    ),
    found(
        pruning,
        "nm_mask_f32",
        sizes=("g", "m"),
        operands=(
            In("scores", "f32", "g,m"),
            Scalar("magnitude", "i32"),
            Scalar("keep", "i32"),
            Out("mask", "bool", "g,m"),
        ),
        bound=pruning.exact,
        flops=lambda g, m: 0,
        bytes=lambda g, m: 5 * g * m,
        edges={"g": (0, 1, 2, 3, 4, 5, 9, 17), "m": (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 32, 64, 65, 100)},
        shapes=(("2:4 of an MLP matrix of a 7B model", {"g": 4096 * 2752, "m": 4}),
                ("4:8 of the same", {"g": 4096 * 1376, "m": 8})),
        batch="g",
    ),
    chained(
        pruning,
        "block_sum_f32",
        sizes=("r", "h", "c", "w"),
        operands=(In("scores", "f32", "r,h,c,w"), Scalar("norm", "i32"), Out("sums", "f32", "r,c")),
        flops=lambda r, h, c, w: r * h * c * w,
        bytes=lambda r, h, c, w: 4 * (r * h * c * w + r * c),
        edges={"r": (0, 1, 3), "h": (0, 1, 2, 16, 33), "c": (0, 1, 2, 5), "w": (0, 1, 3, 4, 15, 16, 17, 48, 1030)},
        shapes=(("16x16 blocks of an MLP matrix of a 7B model", {"r": 256, "h": 16, "c": 688, "w": 16}),
                ("its rows", {"r": 4096, "h": 1, "c": 1, "w": 11008})),
        batch="r",
    ),
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
        edges={"m": (0, 1, 2, 5, 64, 130), "k": (0, 1, 15, 16, 17, 33, 1025), "g": (1, 2, 3)},
        shapes=COLUMN_SHAPES,
        batch=None,
    ),
    *(
        _quantization(
            name,
            sizes=("m", "k"),
            operands=(
                In("x", "f32", "m,k", strides=1),
                In("scale", "f32", "m"),
                Opt("zero", "i32", "m"),
                Out("codes", code, "m,k"),
            ),
            flops=lambda m, k: 0,
            bytes=lambda m, k: 5 * m * k,
            edges=ROW_EDGES,
            shapes=TENSOR_SHAPES,
        )
        for name, code in (("quantize_s8", "i8"), ("quantize_u8", "u8"))
    ),
    *(
        _quantization(
            name,
            sizes=("m", "k"),
            operands=(
                In("codes", code, "m,k"),
                In("scale", "f32", "m"),
                Opt("zero", "i32", "m"),
                Out("y", "f32", "m,k"),
            ),
            flops=lambda m, k: 0,
            bytes=lambda m, k: 5 * m * k,
            edges=ROW_EDGES,
            shapes=TENSOR_SHAPES,
        )
        for name, code in (("dequantize_s8", "i8"), ("dequantize_u8", "u8"))
    ),
    *(
        _quantization(
            name,
            sizes=("m", "k", "g"),
            operands=(
                In("x", "f32", "m,k", strides=1),
                In("scale", "f32", "g,k"),
                Opt("zero", "i32", "g,k"),
                Out("codes", code, "m,k"),
            ),
            flops=lambda m, k, g: 0,
            bytes=lambda m, k, g: 5 * m * k + 8 * g * k,
            edges=COLUMN_EDGES,
            shapes=COLUMN_SHAPES,
            batch=None,
        )
        for name, code in (("quantize_columns_s8", "i8"), ("quantize_columns_u8", "u8"))
    ),
    *(
        _quantization(
            name,
            sizes=("m", "k", "g"),
            operands=(
                In("codes", code, "m,k"),
                In("scale", "f32", "g,k"),
                Opt("zero", "i32", "g,k"),
                Out("y", "f32", "m,k"),
            ),
            flops=lambda m, k, g: 0,
            bytes=lambda m, k, g: 5 * m * k + 8 * g * k,
            edges=COLUMN_EDGES,
            shapes=COLUMN_SHAPES,
            batch=None,
        )
        for name, code in (("dequantize_columns_s8", "i8"), ("dequantize_columns_u8", "u8"))
    ),
    _quantization(
        "fake_quantize_f32",
        sizes=("m", "k"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            In("scale", "f32", "m"),
            Opt("zero", "i32", "m"),
            Scalar("low", "i32"),
            Scalar("high", "i32"),
            Out("y", "f32", "m,k"),
        ),
        flops=lambda m, k: 0,
        bytes=lambda m, k: 8 * m * k,
        edges=ROW_EDGES,
        shapes=TENSOR_SHAPES,
    ),
    _quantization(
        "fake_quantize_columns_f32",
        sizes=("m", "k", "g"),
        operands=(
            In("x", "f32", "m,k", strides=1),
            In("scale", "f32", "g,k"),
            Opt("zero", "i32", "g,k"),
            Scalar("low", "i32"),
            Scalar("high", "i32"),
            Out("y", "f32", "m,k"),
        ),
        flops=lambda m, k, g: 0,
        bytes=lambda m, k, g: 8 * m * k + 8 * g * k,
        edges=COLUMN_EDGES,
        shapes=COLUMN_SHAPES,
        batch=None,
    ),
    _quantization(
        "fake_quantize_backward_f32",
        sizes=("m", "k"),
        operands=(
            In("grad", "f32", "m,k", strides=1),
            In("x", "f32", "m,k", strides=1),
            In("scale", "f32", "m"),
            Opt("zero", "i32", "m"),
            Scalar("low", "i32"),
            Scalar("high", "i32"),
            Out("dx", "f32", "m,k"),
            Out("dscale", "f64", "m,ceil16384(k)"),
            Out("dzero", "f64", "m,ceil16384(k)"),
        ),
        flops=lambda m, k: 0,
        bytes=lambda m, k: 12 * m * k,
        edges={**ROW_EDGES, "k": (0, 1, 15, 16, 17, 33, 100, 16384, 16385)},
        shapes=TENSOR_SHAPES,
    ),
    *(
        _quantization(
            name,
            sizes=("m", "n"),
            operands=(
                In("acc", "i32", "m,n", strides=1),
                In("scale", "f32", "n"),
                Opt("zero", "i32", "n"),
                Out("codes", code, "m,n"),
            ),
            flops=lambda m, n: 0,
            bytes=lambda m, n: 5 * m * n,
            edges=SUM_EDGES,
            shapes=SUM_SHAPES,
        )
        for name, code in (("requantize_s8", "i8"), ("requantize_u8", "u8"))
    ),
    *(
        _quantization(
            name,
            sizes=("m", "n"),
            operands=(
                In("acc", "i32", "m,n", strides=1),
                In("multiplier", "i32", "n"),
                In("shift", "i32", "n"),
                Opt("zero", "i32", "n"),
                Out("codes", code, "m,n"),
            ),
            flops=lambda m, n: 0,
            bytes=lambda m, n: 5 * m * n,
            edges=SUM_EDGES,
            shapes=SUM_SHAPES,
        )
        for name, code in (("requantize_fixed_s8", "i8"), ("requantize_fixed_u8", "u8"))
    ),
    *(
        _distillation(
            name,
            sizes=("n",),
            operands=(In("x", "f32", "n"), Out("y", "f32", "n")),
            flops=lambda n: 20 * n,
            bytes=lambda n: 8 * n,
            edges={"n": (0, 1, 2, 15, 16, 17, 31, 32, 33, 1000)},
            shapes=(("a feed-forward layer's activations", {"n": 128 * 3072}),),
            batch="n",
        )
        for name in ("exp_f32", "log_f32")
    ),
    *(
        _distillation(
            name,
            operands=(
                In("x", "f32", "m,n", strides=1),
                Scalar("temperature", "f64"),
                Out("y", "f32", "m,n", strides=1),
            ),
            flops=lambda m, n: 30 * m * n,
            bytes=lambda m, n: 8 * m * n,
        )
        for name in ("softmax_f32", "log_softmax_f32")
    ),
    _distillation(
        "logsumexp_f32",
        operands=(In("x", "f32", "m,n", strides=1), Scalar("temperature", "f64"), Out("y", "f32", "m")),
        flops=lambda m, n: 20 * m * n,
        bytes=lambda m, n: 4 * m * n,
    ),
    *(
        _distillation(
            f"{name}_columns_f32",
            operands=(
                In("x", "f32", "m,c,n"),
                Scalar("temperature", "f64"),
                Out("y", "f32", "m,n" if name == "logsumexp" else "m,c,n"),
            ),
            flops=lambda m, c, n: 30 * m * c * n,
            bytes=lambda m, c, n: 8 * m * c * n,
            **PIXELS,
        )
        for name in ("softmax", "log_softmax", "logsumexp")
    ),
    _distillation(
        "kd_loss_f32",
        operands=(*DISTILLATION_OPERANDS, Out("loss", "f64", "m")),
        flops=lambda m, n: 140 * m * n,
        bytes=lambda m, n: 8 * m * n,
    ),
    _distillation(
        "kd_loss_grad_f32",
        operands=(
            *DISTILLATION_OPERANDS,
            Out("loss", "f64", "m"),
            Out("grad", "f32", "m,n", strides=1),
        ),
        flops=lambda m, n: 120 * m * n,
        bytes=lambda m, n: 12 * m * n,
    ),
    *_row_loss("divergence", Scalar("kind", "i32"), Scalar("share", "f64"), flops=250),
    *_row_loss("decoupled_kl", In("labels", "i64", "m"), Scalar("alpha", "f64"), Scalar("beta", "f64"), flops=110),
    *_row_loss("standardized_kl", flops=120),
    *_row_loss(
        "ensemble_kl",
        In("teachers", LOGITS, "m,e,n"),
        In("shares", "f64", "e"),
        teacher=False,
        flops=240,
        sizes=("m", "n", "e"),
        edges=LOGITS_EDGES | {"e": (1, 2, 3, 5)},
        shapes=tuple((why, sizes | {"e": 2}) for why, sizes in LOGITS_SHAPES),
    ),
    *_row_loss(
        "top_k_kl",
        In("probabilities", "f64", "m,k"),
        In("classes", "i64", "m,k"),
        teacher=False,
        flops=45,
        sizes=("m", "n", "k"),
        edges=LOGITS_EDGES | {"k": (0, 1, 2, 15, 16, 17, 33)},
        shapes=tuple((why, sizes | {"k": 50}) for why, sizes in LOGITS_SHAPES),
    ),
    _feature(
        "attention_map_f32",
        In("x", "f32", "m,c,n"),
        Scalar("power", "i32"),
        Out("y", "f64", "m,n"),
        flops=lambda m, c, n: 4 * m * c * n,
        bytes=lambda m, c, n: 4 * m * c * n,
        **MAPS,
    ),
    _feature(
        "attention_map_grad_f32",
        In("x", "f32", "m,c,n"),
        Scalar("power", "i32"),
        In("slope", "f64", "m,n"),
        Out("grad", "f32", "m,c,n"),
        flops=lambda m, c, n: 4 * m * c * n,
        bytes=lambda m, c, n: 8 * m * c * n,
        **MAPS,
    ),
    _feature(
        "row_distances_f32",
        In("x", "f32", "m,k"),
        In("panels", "f32", "ceil16(m),k,16"),
        Out("d", "f64", "m,m"),
        flops=lambda m, k: 3 * m * m * k,
        bytes=lambda m, k: 8 * m * m,
        **EXAMPLES,
    ),
    _feature(
        "row_pulls_f32",
        In("x", "f32", "m,k"),
        In("pull", "f64", "m,m"),
        Out("y", "f32", "m,k"),
        flops=lambda m, k: 3 * m * m * k,
        bytes=lambda m, k: 8 * m * m,
        **EXAMPLES,
    ),
    _feature(
        "triple_angles_f64",
        *(In(name, "f64", "m,ceil16(m),16") for name in ("student", "student_inverse", "teacher", "teacher_inverse")),
        Out("value", "f64", "m"),
        Out("by_arm", "f64", "m,m"),
        Out("by_opposite", "f64", "m,ceil16(m),16"),
        sizes=("m",),
        edges={"m": EXAMPLES["edges"]["m"]},
        shapes=(("a batch of features", {"m": 256}),),
        batch=None,
        flops=lambda m: 30 * m * m * m,
        bytes=lambda m: 56 * m * m,
    ),
    _feature(
        "unit_rows_f32",
        In("x", "f32", "m,n"),
        Out("inverse", "f64", "m"),
        Out("unit", "f32", "m,n"),
        flops=lambda m, n: 3 * m * n,
        bytes=lambda m, n: 8 * m * n,
        **FEATURES,
    ),
    _feature(
        "unit_rows_grad_f32",
        In("unit", "f32", "m,n"),
        In("inverse", "f64", "m"),
        In("by_unit", "f32", "m,n"),
        Out("grad", "f32", "m,n"),
        flops=lambda m, n: 5 * m * n,
        bytes=lambda m, n: 12 * m * n,
        **FEATURES,
    ),
    *(
        _feature(
            f"units_apart_{'grad_' if grad else ''}{width}",
            In("student", width, "m,n"),
            In("teacher", width, "m,n"),
            *([Scalar("scale", "f64")] if grad else []),
            Out("loss", "f64", "m"),
            *([Out("grad", width, "m,n")] if grad else []),
            flops=lambda m, n, grad=grad: (24 if grad else 13) * m * n,
            bytes=lambda m, n, size=(2 + grad) * DTYPES[width].itemsize: size * m * n,
            **FEATURES,
        )
        for grad, width in itertools.product((False, True), ("f32", "f64"))
    ),
    *(_dist_loss(grad, width) for grad, width in itertools.product((False, True), ("f32", "f64"))),
    *(
        _distillation(
            name,
            operands=(
                In("x", "f64", "m,n", strides=1),
                In("temperature", "f64", "m"),
                Out("y", "f64", "m") if name == "logsumexp_f64" else Out("y", "f64", "m,n", strides=1),
            ),
            flops=lambda m, n: 80 * m * n,
            bytes=lambda m, n: 16 * m * n,
        )
        for name in ("softmax_f64", "log_softmax_f64", "logsumexp_f64")
    ),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _ALL}
