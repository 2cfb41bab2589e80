"""The entries of the contract for masks and sums of scores; contract.py joins them to the rest."""

from __future__ import annotations

from .entry import In, Out, Scalar, chained, found
from .reference import pruning

ENTRIES = (
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
        edges={"r": (0, 1, 3), "h": (0, 1, 2, 16, 33), "c": (0, 1, 2, 19), "w": (0, 1, 3, 4, 15, 16, 17, 48, 1030)},
        shapes=(("16x16 blocks of an MLP matrix of a 7B model", {"r": 256, "h": 16, "c": 688, "w": 16}),
                ("its 4x4 blocks", {"r": 1024, "h": 4, "c": 2752, "w": 4}),
                ("its rows", {"r": 4096, "h": 1, "c": 1, "w": 11008})),
        batch="r",
    ),
)
