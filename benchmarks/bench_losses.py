"""Losses as users call them, with their gradient: the public functions beside the same formulas in PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_layers import Layer, Make

from pycomp import distillation
from pycomp.kernels.contract_distillation import LOGITS_SHAPES

TEMPERATURE, BETA, GAMMA, TOP, SMOOTHING = 2.0, 0.5, 1.5, 64, 0.1


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


Given = tuple[np.ndarray, ...]
"""What a loss takes after the student."""
Pick = Callable[[np.ndarray], Given]


def teacher_alone(teacher: np.ndarray) -> Given:
    return (teacher,)


def with_labels(teacher: np.ndarray) -> Given:
    return teacher, np.random.default_rng(1).integers(0, teacher.shape[1], len(teacher))


def two_teachers(teacher: np.ndarray) -> Given:
    return teacher, teacher[::-1].copy()


def top_classes(teacher: np.ndarray) -> Given:
    classes = np.argsort(-teacher, axis=1)[:, :TOP].copy()
    return np.take_along_axis(distillation.softmax(teacher, temperature=TEMPERATURE), classes, axis=1), classes


def probabilities(teacher: np.ndarray) -> Given:
    return (distillation.softmax(teacher, temperature=TEMPERATURE),)


def ours(name: str, pick: Pick, **options: Any) -> Make:
    loss = getattr(distillation, name)
    if "temperature" in inspect.signature(loss).parameters:
        options = {"temperature": TEMPERATURE} | options

    def make(student: np.ndarray, teacher: np.ndarray) -> Callable[[], object]:
        given = pick(teacher)
        operands, named = (given,) if pick is two_teachers else given, options
        if pick is with_labels:
            operands, named = given[:1], options | {"labels": given[1]}
        return lambda: loss(student, *operands, return_grad=True, **named)

    return make


def torch_gradient(
    loss: Callable[..., Any], student: np.ndarray, given: Given, compiled: bool
) -> Callable[[], object]:
    """A call of a loss in PyTorch and of its gradient by the student."""
    import torch

    torch.compiler.reset()  # it gives up on a function after eight shapes
    run = torch.compile(loss, dynamic=False) if compiled else loss
    s, others = torch.from_numpy(student.copy()).requires_grad_(True), [torch.from_numpy(a.copy()) for a in given]
    return lambda: torch.autograd.grad(run(s, *others), s)


def torch_loss(loss: Callable[..., Any], pick: Pick, compiled: bool) -> Make:
    return lambda student, teacher: torch_gradient(loss, student, pick(teacher), compiled)


def mean(each: Any) -> Any:
    return TEMPERATURE**2 * each.sum(-1).mean()


def by_logarithms(formula: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The loss whose terms are ``formula`` of the logarithms of q and p."""

    def loss(s: Any, t: Any) -> Any:
        from torch.nn.functional import log_softmax

        return mean(formula(log_softmax(s / TEMPERATURE, -1), log_softmax(t / TEMPERATURE, -1)))

    return loss


def forward_kl(log_q: Any, log_p: Any) -> Any:
    return log_p.exp() * (log_p - log_q)


def reverse_kl(log_q: Any, log_p: Any) -> Any:
    return log_q.exp() * (log_q - log_p)


def smoothed(s: Any, t: Any, labels: Any) -> Any:
    """Half of the teacher, half of labels that are smoothed."""
    from torch.nn.functional import cross_entropy

    return 0.5 * by_logarithms(forward_kl)(s, t) + 0.5 * cross_entropy(s, labels, label_smoothing=SMOOTHING)


def jsd(log_q: Any, log_p: Any) -> Any:
    import torch

    log_m = torch.logaddexp(log_p + float(np.log(BETA)), log_q + float(np.log(1 - BETA)))
    return BETA * log_p.exp() * (log_p - log_m) + (1 - BETA) * log_q.exp() * (log_q - log_m)


def total_variation(log_q: Any, log_p: Any) -> Any:
    return 0.5 * (log_q.exp() - log_p.exp()).abs()


def decoupled(s: Any, t: Any, labels: Any) -> Any:
    """As its authors' code has it: the label is moved out of the softmax by a logit 1000 lower."""
    import torch
    from torch.nn.functional import log_softmax, one_hot, softmax

    own = one_hot(labels, s.shape[1])

    def answers(p: Any) -> Any:
        return torch.stack([(p * own).sum(1), (p * (1 - own)).sum(1)], 1)

    yes_t, yes_s = answers(softmax(t / TEMPERATURE, 1)), answers(softmax(s / TEMPERATURE, 1))
    log_p, log_q = (log_softmax(x / TEMPERATURE - 1000.0 * own, 1) for x in (t, s))
    return mean(yes_t * (yes_t.log() - yes_s.log())) + 8.0 * mean(log_p.exp() * (log_p - log_q))


def standardized(s: Any, t: Any) -> Any:
    def z(x: Any) -> Any:
        return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, unbiased=False)

    return by_logarithms(forward_kl)(z(s), z(t))


def normalized(s: Any, t: Any, labels: Any) -> Any:
    """As its authors' code has it: the other classes are taken out of the rows."""
    import torch
    from torch.nn.functional import log_softmax, softmax

    others = torch.ones_like(s, dtype=torch.bool).scatter_(1, labels[:, None], False)
    hard = softmax(t, 1).gather(1, labels[:, None]) * log_softmax(s, 1).gather(1, labels[:, None])
    log_p, log_q = (log_softmax(x[others].reshape(len(x), -1) / TEMPERATURE, 1) for x in (t, s))
    return -hard.mean() - GAMMA * mean(log_p.exp() * log_q)


def ensemble(s: Any, *teachers: Any) -> Any:
    from torch.nn.functional import log_softmax, softmax

    p = sum(softmax(t / TEMPERATURE, 1) for t in teachers) / len(teachers)
    return mean(p * (p.log() - log_softmax(s / TEMPERATURE, 1)))


def top_k(s: Any, p: Any, classes: Any) -> Any:
    from torch.nn.functional import log_softmax

    log_q = log_softmax(s / TEMPERATURE, -1).gather(1, classes)
    rest, left = 1 - p.sum(1), 1 - log_q.exp().sum(1)
    return mean(p * (p.log() - log_q)) + TEMPERATURE**2 * (rest * (rest.log() - left.log())).mean()


def relations(s: Any, t: Any) -> Any:
    from torch.nn.functional import cosine_similarity, softmax

    def apart(p: Any, q: Any) -> Any:
        return (1 - cosine_similarity(p - p.mean(1, keepdim=True), q - q.mean(1, keepdim=True), 1)).mean()

    p, q = softmax(t / TEMPERATURE, 1), softmax(s / TEMPERATURE, 1)
    return TEMPERATURE**2 * (apart(p, q) + apart(p.T, q.T))


def soft_cross_entropy(s: Any, p: Any) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(s / TEMPERATURE, p)


def squares(s: Any, t: Any) -> Any:
    return (s - t).pow(2).mean()


def binary(s: Any, t: Any) -> Any:
    """KL of a yes and a no for each class, but for what depends on the teacher alone: less than ours does."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    each = binary_cross_entropy_with_logits(s / TEMPERATURE, torch.sigmoid(t / TEMPERATURE), reduction="none")
    return mean(each)


LOSSES = {
    name: Loss(name, ours(name, pick, **options), {"PyTorch": torch_loss(loss, pick, False),
                                                   "PyTorch, compiled": torch_loss(loss, pick, True)}, LOGITS_SHAPES)
    for name, loss, pick, options in (
        ("kd_loss", smoothed, with_labels, {"alpha": 0.5, "label_smoothing": SMOOTHING}),
        ("forward_kl_loss", by_logarithms(forward_kl), teacher_alone, {}),
        ("reverse_kl_loss", by_logarithms(reverse_kl), teacher_alone, {}),
        ("jsd_loss", by_logarithms(jsd), teacher_alone, {"beta": BETA}),
        ("total_variation_loss", by_logarithms(total_variation), teacher_alone, {}),
        ("soft_cross_entropy", soft_cross_entropy, probabilities, {}),
        ("logit_mse_loss", squares, teacher_alone, {}),
        ("binary_kd_loss", binary, teacher_alone, {}),
        ("dkd_loss", decoupled, with_labels, {}),
        ("standardized_kd_loss", standardized, teacher_alone, {}),
        ("nkd_loss", normalized, with_labels, {"gamma": GAMMA}),
        ("ensemble_kd_loss", ensemble, two_teachers, {}),
        ("top_k_kd_loss", top_k, top_classes, {}),
        ("dist_loss", relations, teacher_alone, {}),
    )
}
