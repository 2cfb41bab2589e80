"""Training on pycomp's kernels, with the same bits on every machine.

Only three kinds of arithmetic are used: pycomp's kernels, NumPy operations that IEEE 754 rounds exactly element by
element (+ - * / and comparisons), and integers. A NumPy sum, product or transcendental function of floats would
depend on the CPU; `tests/compare` compares whole reports over instruction sets, threads and backends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pycomp import dense, distillation, quantization

from .network import Affine, Floats, Model, activation_of
from .settings import Plan

Rows = NDArray[np.int64]
Gradient = Callable[[Floats, Rows], Floats]
"""(logits of a batch, its rows in the training set) -> gradient of the mean loss by the logits."""
Constraint = Callable[[int, int, list[Affine]], None]
"""(step, steps, weights): called after every step, changes the weights in place."""


def initial(sizes: tuple[int, ...], rng: np.random.Generator) -> Model:
    """Weights uniform in ±sqrt(6 / inputs) (He et al., 2015), biases 0."""
    model = []
    for inputs, outputs in itertools.pairwise(sizes):
        limit = np.float32(math.sqrt(6 / inputs))
        weight = (rng.random((outputs, inputs), dtype=np.float32) * np.float32(2) - np.float32(1)) * limit
        model.append(Affine(weight, np.zeros(outputs, np.float32)))
    return tuple(model)


@dataclass(frozen=True)
class FakeQuantization:
    """Weights and inputs of every layer rounded as its int8 form rounds them; gradients go straight through (Jacob et
    al., 2018). ``grids``: scale and zero point of each layer's input; weights follow their own range, so none is
    clipped."""

    grids: tuple[tuple[float, int], ...]

    def inputs(self, layer: int, x: Floats) -> Floats:
        return quantization.fake_quantize(x, *self.grids[layer])

    def weight(self, weight: Floats) -> Floats:
        return quantization.quantize(weight, axis=0).dequantize()

    def through(self, layer: int, by_inputs: Floats, x: Floats) -> Floats:
        return quantization.fake_quantize_backward(by_inputs, x, *self.grids[layer])[0]


def activations(model: Model, x: Floats, fake: FakeQuantization | None = None) -> list[Floats]:
    """The input, the output of every hidden layer, and the logits."""
    values = [x]
    for i, (weight, bias) in enumerate(model):
        inputs = values[-1]
        if fake is not None:
            inputs, weight = fake.inputs(i, inputs), fake.weight(weight)
        values.append(dense.linear(inputs, weight, bias, activation=activation_of(i, len(model))))
    return values


def logits(model: Model, x: Floats) -> Floats:
    return activations(model, x)[-1]


def cross_entropy(labels: Rows, classes: int) -> Gradient:
    """The gradient of the mean cross entropy: (softmax - one-hot) / batch."""
    one_hot = (labels[:, None] == np.arange(classes)).astype(np.float32)

    def gradient(outputs: Floats, rows: Rows) -> Floats:
        by_logits: Floats = (distillation.softmax(outputs) - one_hot[rows]) / np.float32(len(rows))
        return by_logits

    return gradient


def distilling(labels: Rows, teacher: Floats, temperature: float, alpha: float) -> Gradient:
    """The gradient of ``kd_loss`` against the teacher's logits of the training set."""

    def gradient(outputs: Floats, rows: Rows) -> Floats:
        _, by_logits = distillation.kd_loss(outputs, teacher[rows], labels=labels[rows], temperature=temperature,
                                            alpha=alpha, return_grad=True)
        return by_logits

    return gradient


def smoothed_cross_entropy(labels: Rows, smoothing: float) -> Gradient:
    """The gradient of the mean cross entropy with smoothed labels."""

    def gradient(outputs: Floats, rows: Rows) -> Floats:
        _, by_logits = distillation.kd_loss(outputs, outputs, labels=labels[rows], alpha=0.0,
                                            label_smoothing=smoothing, return_grad=True)
        return by_logits

    return gradient


def decoupled(labels: Rows, teacher: Floats, temperature: float, alpha: float, beta: float) -> Gradient:
    """The gradient of alpha ``dkd_loss`` and (1 - alpha) cross entropy."""

    def gradient(outputs: Floats, rows: Rows) -> Floats:
        known = labels[rows]
        _, by_teacher = distillation.dkd_loss(outputs, teacher[rows], known, beta=beta, temperature=temperature,
                                              return_grad=True)
        _, by_labels = distillation.kd_loss(outputs, outputs, labels=known, alpha=0.0, return_grad=True)
        sum_of_both: Floats = np.float32(alpha) * by_teacher + np.float32(1 - alpha) * by_labels
        return sum_of_both

    return gradient


def alike(teacher_hidden: Floats, weight: float) -> Gradient:
    """By the last hidden values instead of the logits: the gradient of ``similarity_loss`` times ``weight``."""

    def gradient(hidden: Floats, rows: Rows) -> Floats:
        _, grad = distillation.similarity_loss(hidden, teacher_hidden[rows], return_grad=True)
        weighted: Floats = np.float32(weight) * grad
        return weighted

    return gradient


def backward(
    model: Model, values: list[Floats], by_output: Floats, fake: FakeQuantization | None = None,
    by_hidden: Floats | None = None,
) -> list[Affine]:
    """Gradients of all weights and biases, from the values of the forward pass. ``by_hidden``: what a loss on the last
    hidden values adds."""
    ones = np.ones((1, len(by_output)), np.float32)
    gradients = []
    for i in reversed(range(len(model))):
        inputs, weight = values[i], model[i].weight
        if fake is not None:
            inputs, weight = fake.inputs(i, inputs), fake.weight(weight)
        gradients.append(Affine(dense.matmul(by_output.T, inputs), dense.matmul(ones, by_output)[0]))
        if i > 0:
            by_output = dense.matmul(by_output, weight)
            if fake is not None:
                by_output = fake.through(i, by_output, values[i])
            if by_hidden is not None and i + 1 == len(model):
                by_output = by_output + by_hidden
            by_output = by_output * (values[i] > 0)
    return gradients[::-1]


def train(
    model: Model, x: Floats, gradient: Gradient, plan: Plan, rng: np.random.Generator, *,
    constraint: Constraint | None = None, fake: FakeQuantization | None = None, hidden: Gradient | None = None,
    epoch_done: Callable[[], None] = lambda: None,
) -> Model:
    """A trained copy of ``model``. ``hidden``: the gradient of a loss on the last hidden values, added to ``gradient``.
    ``epoch_done`` is called after every epoch."""
    weights = [Affine(a.weight.copy(), a.bias.copy()) for a in model]
    velocity = [Affine(np.zeros_like(a.weight), np.zeros_like(a.bias)) for a in model]
    batches = -(-len(x) // plan.batch)
    steps = plan.epochs * batches
    for epoch in range(plan.epochs):
        order = rng.permutation(len(x))
        for batch in range(batches):
            rows = order[batch * plan.batch : (batch + 1) * plan.batch]
            step = epoch * batches + batch
            values = activations(tuple(weights), x[rows], fake)
            gradients = backward(tuple(weights), values, gradient(values[-1], rows), fake,
                                 None if hidden is None else hidden(values[-2], rows))
            rate = plan.rate * (steps - step) / steps
            for kept, moving, new in zip(weights, velocity, gradients, strict=True):
                descend(kept.weight, moving.weight, new.weight, rate, plan.momentum)
                descend(kept.bias, moving.bias, new.bias, rate, plan.momentum)
            if constraint is not None:
                constraint(step, steps, weights)
        epoch_done()
    return tuple(weights)


def descend(value: Floats, velocity: Floats, gradient: Floats, rate: float, momentum: float) -> None:
    """One step, in place: velocity = momentum * velocity + gradient; value -= rate * velocity."""
    velocity *= np.float32(momentum)
    velocity += gradient
    np.multiply(velocity, np.float32(rate), out=gradient)
    value -= gradient
