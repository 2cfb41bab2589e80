"""The entries of the contract for products of float32 matrices, and activations; contract.py joins them to the rest."""

from __future__ import annotations

from .entry import In, Opt, Out, Scalar, chained
from .reference import dense

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

ENTRIES = (
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
        sizes=("k", "n"),
        operands=(In("w", "f32", "k,n", strides=2), Out("packed", "f32", "ceil16(n),k,16")),
        flops=lambda k, n: 0,
        bytes=lambda k, n: 8 * k * n,
        edges={"k": (0, 1, 15, 16, 17, 33), "n": (0, 1, 15, 16, 17, 47, 49, 145)},
        shapes=(("a 7B model's square", {"k": 4096, "n": 4096}),),
        batch=None,
    ),
)
