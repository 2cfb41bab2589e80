"""Losses on the distances and the angles between the examples of a batch, with exact gradients.

Features are taken, and bits kept, as in ``_features.py``.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np

from pycomp import dense
from pycomp.dense import LANES
from pycomp.kernels import dispatch

from .._sums import total
from .._validate import contiguous, fresh
from ._double import Doubles
from ._features import FeatureLoss, Floats, Graded, at_least, pair


def _inverses(lengths: Doubles) -> Doubles:
    """1/length, 0 for a length of 0."""
    return np.where(lengths > 0, 1.0 / np.where(lengths > 0, lengths, 1.0), 0.0)


def _huber(x: Doubles) -> tuple[Doubles, Doubles]:
    """x²/2 within 1, |x| - 1/2 beyond; its slope."""
    near = np.abs(x) <= 1
    return np.where(near, 0.5 * x * x, np.abs(x) - 0.5), np.clip(x, -1.0, 1.0)


def _distances(x: Floats) -> Doubles:
    """[B, B]; from differences, so that neighbours keep their distance."""
    d = np.empty((len(x), len(x)))
    dispatch.row_distances_f32(x, dense.panels(x.T), d)
    return d


def _pulled(x: Floats, pull: Doubles) -> Floats:
    """Σ_j pull[i, j]·(x_i - x_j): the gradient of what sees distances alone."""
    grad = fresh(x.shape, x.dtype)
    dispatch.row_pulls_f32(contiguous(x), contiguous(pull), grad)
    return grad


@overload
def relational_distance_loss(student: Any, teacher: Any, *, return_grad: Literal[False] = ...) -> float: ...
@overload
def relational_distance_loss(student: Any, teacher: Any, *, return_grad: Literal[True]) -> Graded: ...
def relational_distance_loss(student: Any, teacher: Any, *, return_grad: bool = False) -> FeatureLoss:
    """Distance of the distances between examples (Park et al., Relational Knowledge Distillation, 2019, RKD-D).

    With ψ_ij = |x_i - x_j| over its mean: the mean over pairs i ≠ j of ``huber(ψ_s - ψ_t)``, ``x²/2`` within 1 and
    ``|x| - 1/2`` beyond.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, ...)
        Features of the same examples, at least two. Taken as float32: what is beyond its range is refused.
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If the batches differ or hold fewer than two examples, or a value is not finite.

    Notes
    -----
    With e = (D_s + D_t + B + 32)·2⁻⁵¹ and Ψ the root mean square of ψ_s + ψ_t over pairs, the loss is within
    e·Ψ·√loss + (e·Ψ)². The gradient of an example is within 8e·Ψ·(√B + Ψ)/(B·m) in norm, m the mean distance of two
    students, and rounded once to float32.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    >>> relational_distance_loss(x, 4 * x)
    0.0
    """
    s, t = pair(student, teacher, return_grad)
    at_least(s, 2)
    pairs = float(len(s) * (len(s) - 1))

    def relative(a: Floats) -> tuple[Doubles, Doubles, float]:
        d = _distances(contiguous(a))
        mean = float(total(total(d))) / pairs
        return d, d / mean if mean > 0 else d, mean

    (d, near, mean), (_, far, _) = relative(s), relative(t)
    value, slope = _huber(near - far)
    loss = total(total(value)) / pairs
    if not return_grad:
        return float(loss)
    slope = slope / pairs
    by_distance = (slope - total(total(slope * near)) / pairs) / mean if mean > 0 else np.zeros_like(d)
    pull = np.where(d > 0, (by_distance + by_distance.T) / np.where(d > 0, d, 1.0), 0.0)
    return float(loss), _pulled(s, pull).reshape(np.shape(student))


@overload
def relational_angle_loss(student: Any, teacher: Any, *, return_grad: Literal[False] = ...) -> float: ...
@overload
def relational_angle_loss(student: Any, teacher: Any, *, return_grad: Literal[True]) -> Graded: ...
def relational_angle_loss(student: Any, teacher: Any, *, return_grad: bool = False) -> FeatureLoss:
    """Distance of the angles between examples (Park et al., Relational Knowledge Distillation, 2019, RKD-A).

    With e_ij = (x_i - x_j)/|x_i - x_j|: the mean over triples of three examples of ``huber(<e_ij, e_kj>_s -
    <e_ij, e_kj>_t)``.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, ...)
        Features of the same examples, at least three. Taken as float32: what is beyond its range is refused.
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If the batches differ or hold fewer than three examples, or a value is not finite.

    Notes
    -----
    With d the distances, σ = (d_ij² + d_kj² + d_ik²)/(d_ij·d_kj) of the student plus that of the teacher, S its root
    mean square over triples and e = (D_s + D_t + B² + 16)·2⁻⁵¹, the loss is within e·S·√loss + (e·S)². The gradient of
    an example is within 32e·max σ/(B·min d_ij) in norm, over the student's d_ij > 0, and rounded once to float32.

    An angle is told by the three distances, in float64: ``B²·D + B³`` operations, where products of the directions take
    ``B³·D``; the gradient is one pull for each pair of examples.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0, 0], [1, 0], [0, 2]], np.float32)
    >>> relational_angle_loss(x, 4 * x + 1)
    0.0
    """
    s, t = pair(student, teacher, return_grad)
    at_least(s, 3)
    count = len(s)
    triples = float(count * (count - 1) * (count - 2))

    def sides(a: Floats) -> tuple[Doubles, Doubles]:
        """Distances and their inverses, as the kernel reads them."""
        distances = np.zeros((count, -(-count // LANES), LANES))
        distances.reshape(count, -1)[:, :count] = _distances(contiguous(a))
        return distances, _inverses(distances)

    value, by_arm, by_opposite = np.empty(count), np.empty((count, count)), np.empty((count, -(-count // LANES), LANES))
    dispatch.triple_angles_f64(*sides(s), *sides(t), value, by_arm, by_opposite)
    loss = float(total(value)) / triples
    if not return_grad:
        return loss
    opposite = by_opposite.reshape(count, -1)[:, :count]
    pull = (2.0 * (by_arm + by_arm.T) - (opposite + opposite.T)) / triples
    return loss, _pulled(s, pull).reshape(np.shape(student))
