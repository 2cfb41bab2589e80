"""Losses as users call them, with their gradient: the public functions beside the same formulas in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bench_layers import Layer, Make

from pycomp import distillation
from pycomp.kernels.contract import LOGITS_SHAPES

TEMPERATURE, BETA = 2.0, 0.5


class Loss(Layer):
    @staticmethod
    def flops(m: int, n: int) -> float:  # type: ignore[override]
        return 100 * m * n

    @staticmethod
    def bytes(m: int, n: int) -> float:  # type: ignore[override]
        return 12 * m * n

    @staticmethod
    def operands(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        """A student on its way to its teacher."""
        rng = np.random.default_rng(0)
        teacher = 3 * rng.standard_normal((m, n), np.float32)
        return teacher + rng.standard_normal((m, n), np.float32), teacher


def ours(name: str, **options: Any) -> Make:
    def make(student: np.ndarray, teacher: np.ndarray) -> Callable[[], object]:
        loss = getattr(distillation, name)
        return lambda: loss(student, teacher, temperature=TEMPERATURE, return_grad=True, **options)

    return make


def torch_gradient(
    loss: Callable[[Any, Any], Any], student: np.ndarray, teacher: np.ndarray, compiled: bool
) -> Callable[[], object]:
    """A call of a loss in PyTorch and of its gradient by the student."""
    import torch

    torch.compiler.reset()  # it gives up on a function after eight shapes
    run = torch.compile(loss, dynamic=False) if compiled else loss
    s, t = torch.from_numpy(student.copy()).requires_grad_(True), torch.from_numpy(teacher.copy())
    return lambda: torch.autograd.grad(run(s, t), s)


def torch_loss(formula: Callable[[Any, Any], Any], compiled: bool) -> Make:
    """``formula`` of the logarithms of q and p, T² times its mean over rows, and the gradient by the student."""

    def make(student: np.ndarray, teacher: np.ndarray) -> Callable[[], object]:
        from torch.nn.functional import log_softmax

        def loss(s: Any, t: Any) -> Any:
            each = formula(log_softmax(s / TEMPERATURE, -1), log_softmax(t / TEMPERATURE, -1))
            return TEMPERATURE**2 * each.sum(-1).mean()

        return torch_gradient(loss, student, teacher, compiled)

    return make


def forward_kl(log_q: Any, log_p: Any) -> Any:
    return log_p.exp() * (log_p - log_q)


def reverse_kl(log_q: Any, log_p: Any) -> Any:
    return log_q.exp() * (log_q - log_p)


def jsd(log_q: Any, log_p: Any) -> Any:
    import torch

    log_m = torch.logaddexp(log_p + float(np.log(BETA)), log_q + float(np.log(1 - BETA)))
    return BETA * log_p.exp() * (log_p - log_m) + (1 - BETA) * log_q.exp() * (log_q - log_m)


def total_variation(log_q: Any, log_p: Any) -> Any:
    return 0.5 * (log_q.exp() - log_p.exp()).abs()


LOSSES = {
    name: Loss(name, ours(name, **options), {"PyTorch": torch_loss(formula, False),
                                             "PyTorch, compiled": torch_loss(formula, True)}, LOGITS_SHAPES)
    for name, formula, options in (
        ("forward_kl_loss", forward_kl, {}),
        ("reverse_kl_loss", reverse_kl, {}),
        ("jsd_loss", jsd, {"beta": BETA}),
        ("total_variation_loss", total_variation, {}),
    )
}
