"""The entries of the contract for conversions between types of floats; contract.py joins them to the rest."""

from __future__ import annotations

from .entry import DTYPES, In, Out, chained
from .reference import convert

ENTRIES = (
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
)
