"""Losses on features as users call them, with their gradient: the public functions beside the same formulas in PyTorch.

A formula whose cost depends on how it is written has a contender for each way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bench_layers import Layer, Make
from bench_losses import ours, teacher_alone, torch_loss

Shapes = tuple[tuple[str, dict[str, int]], ...]
Formula = Callable[[Any, Any], Any]
FEATURES: Shapes = (("a small batch", {"b": 128, "d": 512}), ("a transformer's width", {"b": 256, "d": 768}),
                    ("more examples than features", {"b": 1024, "d": 256}))
PAIRS: Shapes = (("a batch of tokens", {"b": 32, "d": 128}), ("a small batch", {"b": 64, "d": 512}),
                 ("a batch", {"b": 128, "d": 256}))
MAPS: Shapes = (("early maps of a ResNet", {"b": 64, "c": 64, "h": 56, "w": 56}),
                ("its last", {"b": 32, "c": 512, "h": 7, "w": 7}))
TEMPERATURE = 0.1


class FeatureLoss(Layer):
    @staticmethod
    def flops(**sizes: int) -> float:  # type: ignore[override]
        """Of features, the student's, the teacher's and the gradient's; what pairs take is not counted."""
        return 9 * float(np.prod(list(sizes.values())))

    @staticmethod
    def bytes(**sizes: int) -> float:  # type: ignore[override]
        return 12 * float(np.prod(list(sizes.values())))

    @staticmethod
    def operands(**sizes: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[override]
        """A student on its way to its teacher."""
        rng, shape = np.random.default_rng(0), tuple(sizes.values())
        teacher = rng.standard_normal(shape, np.float32)
        return teacher + 0.3 * rng.standard_normal(shape, np.float32), teacher


def peers(formulas: dict[str, Formula]) -> dict[str, Make]:
    return {name + way: torch_loss(formula, teacher_alone, compiled)
            for name, formula in formulas.items() for way, compiled in (("", False), (", compiled", True))}


def hint(s: Any, t: Any) -> Any:
    return ((s - t) ** 2).sum() / (2 * len(s))


def attention(s: Any, t: Any) -> Any:
    from torch.nn.functional import normalize

    def maps(x: Any) -> Any:
        return normalize(x.pow(2).sum(1).flatten(1), dim=1)

    return (maps(s) - maps(t)).pow(2).sum() / len(s)


def similarity(s: Any, t: Any) -> Any:
    from torch.nn.functional import normalize

    return (normalize(s @ s.T, dim=1) - normalize(t @ t.T, dim=1)).pow(2).sum() / len(s) ** 2


def distances(s: Any, t: Any) -> Any:
    """From differences, as ours; from products of rows distances of neighbours are noise."""
    import torch

    def relative(x: Any) -> Any:
        d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return d / d[d > 0].mean()

    return torch.nn.functional.smooth_l1_loss(relative(s), relative(t))


def angles(s: Any, t: Any) -> Any:
    import torch
    from torch.nn.functional import normalize, smooth_l1_loss

    def cosines(x: Any) -> Any:
        e = normalize(x[:, None] - x[None], dim=2)
        return torch.bmm(e, e.transpose(1, 2))

    return smooth_l1_loss(cosines(s), cosines(t))


def cka_of_examples(s: Any, t: Any) -> Any:
    """By Gram matrices of examples, as ours."""
    import torch

    x, y = s - s.mean(0), t - t.mean(0)
    k, l = x @ x.T, y @ y.T
    return 1 - (k * l).sum() / (torch.linalg.norm(k) * torch.linalg.norm(l))


def cka_of_features(s: Any, t: Any) -> Any:
    """By products of features: less work where they are fewer than examples; near 0 the loss is noise."""
    import torch

    x, y = s - s.mean(0), t - t.mean(0)
    return 1 - torch.linalg.norm(y.T @ x) ** 2 / (torch.linalg.norm(x.T @ x) * torch.linalg.norm(y.T @ y))


def contrastive(s: Any, t: Any) -> Any:
    import torch
    from torch.nn.functional import cross_entropy, normalize

    return cross_entropy(normalize(s, dim=1) @ normalize(t, dim=1).T / TEMPERATURE, torch.arange(len(s)))


FEATURE_LOSSES = {
    name: FeatureLoss(name, ours(name, teacher_alone, **options), peers(formulas), shapes)
    for name, options, formulas, shapes in (
        ("hint_loss", {}, {"PyTorch": hint}, FEATURES),
        ("attention_loss", {}, {"PyTorch": attention}, MAPS),
        ("similarity_loss", {}, {"PyTorch": similarity}, FEATURES),
        ("relational_distance_loss", {}, {"PyTorch": distances}, PAIRS),
        ("relational_angle_loss", {}, {"PyTorch": angles}, PAIRS),
        ("cka_loss", {}, {"PyTorch, B x B": cka_of_examples, "PyTorch, D x D": cka_of_features}, FEATURES),
        ("contrastive_loss", {"temperature": TEMPERATURE}, {"PyTorch": contrastive}, FEATURES),
    )
}
