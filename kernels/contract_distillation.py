"""The entries of the contract for softmax and the losses on logits and features; contract.py joins them to the rest."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from .entry import DTYPES, In, Kernel, Operand, Opt, Out, Scalar, found
from .reference import distillation, features

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


ENTRIES = (
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
