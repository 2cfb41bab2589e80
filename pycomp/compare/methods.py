"""The methods compared: each function turns the teacher into one variant that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pycomp import pruning, quantization

from . import network, training
from .data import CLASSES, Dataset
from .network import Affine, Floats, Model, Network
from .settings import Plan, Settings
from .training import Constraint, FakeQuantization, Gradient

# Gradual pruning reaches its sparsity at this part of the fine-tuning; the rest trains under the final mask.
PRUNED_BY = 0.6
# Steps between two masks on the way.
MASK_EVERY = 10


@dataclass(frozen=True, eq=False)
class Variant:
    """A network made by one method. ``family`` groups it in the report; ``how`` says what was done and what runs it."""

    name: str
    family: str
    how: str
    network: Network


@dataclass(frozen=True, eq=False)
class Study:
    """What every method starts from."""

    settings: Settings
    data: Dataset
    stage: Callable[[str], None] = lambda name: None
    step: Callable[[], None] = lambda: None
    by_labels: Gradient = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_labels", training.cross_entropy(self.data.train_y, CLASSES))

    def train(
        self, name: str, model: Model, plan: Plan, *,
        gradient: Gradient | None = None, constraint: Constraint | None = None, fake: FakeQuantization | None = None,
        hidden: Gradient | None = None,
    ) -> Model:
        """A trained copy of ``model``. Batches come in an order fixed by the seed and the length of the training."""
        self.stage(name)
        rng = np.random.default_rng((self.settings.seed, plan.epochs))
        return training.train(model, self.data.train_x, gradient or self.by_labels, plan, rng, constraint=constraint,
                              fake=fake, hidden=hidden, epoch_done=self.step)

    def initial(self, hidden: tuple[int, ...]) -> Model:
        return training.initial((self.data.features, *hidden, CLASSES), np.random.default_rng(self.settings.seed))


def percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def train_teacher(study: Study) -> Model:
    return study.train("teacher", study.initial(study.settings.hidden), study.settings.teacher_plan)


def variants(study: Study, teacher: Model) -> Iterator[Variant]:
    """Every variant, the float teacher first."""
    settings = study.settings
    yield Variant("teacher", "baseline", "float32, as trained; dense.linear", network.dense_network(teacher))

    pruned = {sparsity: unstructured(study, teacher, sparsity) for sparsity in settings.sparsities}
    for sparsity, model in pruned.items():
        yield Variant(f"pruned {percent(sparsity)}", "pruning",
                      "smallest weights removed step by step, fine-tuned under the mask; CSR, sparse.linear",
                      network.sparse_network(model))
    yield Variant("pruned 2:4", "pruning",
                  "2 of every 4 weights kept, fine-tuned under the mask; NMMatrix, sparse.linear",
                  network.sparse_network(two_of_four(study, teacher), (2, 4)))
    slim = units_removed(study, teacher)
    yield Variant(f"{percent(settings.removed_units)} of units removed", "pruning",
                  "weakest units removed with their consumers' inputs, fine-tuned; smaller dense layers, dense.linear",
                  network.dense_network(slim))

    yield Variant("int8 dynamic", "quantization",
                  "weights int8, inputs quantized row by row as they come; quantization.Linear",
                  network.int8_network(teacher))
    yield Variant("int8 static", "quantization",
                  f"weights int8, input ranges fixed from {settings.calibration} training images; quantization.Linear",
                  network.int8_network(teacher, ranges(study, teacher)))
    yield Variant("int8 QAT", "quantization",
                  "int8 static, after training further with weights and inputs rounded so; quantization.Linear",
                  quantization_aware(study, teacher))

    taught = distilled(study, teacher, settings.temperature)
    yield Variant("student alone", "distillation",
                  f"a network of {'-'.join(map(str, settings.student))} hidden units trained on labels; dense.linear",
                  network.dense_network(student(study, "student alone")))
    yield Variant("student smoothed", "distillation",
                  f"the same student, start and batches, on labels smoothed by {settings.smoothing}; dense.linear",
                  network.dense_network(smoothed(study)))
    yield Variant("student distilled", "distillation",
                  f"the same, taught by kd_loss at temperature {settings.temperature:g}; dense.linear",
                  network.dense_network(taught))
    yield Variant("student DKD", "distillation", "the same, taught by dkd_loss; dense.linear",
                  network.dense_network(by_dkd(study, teacher)))
    yield Variant("student by features", "distillation",
                  "the same, on labels and similarity_loss between the last hidden layers; dense.linear",
                  network.dense_network(by_features(study, teacher)))
    yield Variant("self-distilled", "distillation",
                  "a network of the teacher's own shape and start, taught by it; dense.linear",
                  network.dense_network(by_itself(study, teacher)))

    both = pruned[settings.combined_sparsity]
    yield Variant(f"pruned {percent(settings.combined_sparsity)} + int8", "combination",
                  "the pruned weights as int8 static; runs dense: the zeros shrink the file (zlib), not the time",
                  network.int8_network(both, ranges(study, both)))
    yield Variant("units removed + int8", "combination", "the smaller layers as int8 static; quantization.Linear",
                  network.int8_network(slim, ranges(study, slim)))
    yield Variant("distilled + int8", "combination", "the distilled student as int8 static; quantization.Linear",
                  network.int8_network(taught, ranges(study, taught)))


def unstructured(study: Study, teacher: Model, sparsity: float) -> Model:
    """Weights of hidden layers removed by magnitude, more and more of them (Zhu and Gupta, 2017), while training."""
    masks: list[NDArray[np.bool_]] = []

    def constraint(step: int, steps: int, weights: list[Affine]) -> None:
        last_change = max(1, int(PRUNED_BY * steps))
        if step <= last_change and (step % MASK_EVERY == 0 or step == last_change):
            now = pruning.cubic(step, last_change, sparsity)
            masks[:] = [pruning.unstructured_mask(pruning.magnitude(a.weight), now) for a in weights[:-1]]
        apply(masks, weights)

    return study.train(f"pruning {percent(sparsity)}", teacher, study.settings.tune_plan, constraint=constraint)


def two_of_four(study: Study, teacher: Model) -> Model:
    """The two largest of every four weights along the inputs of hidden layers kept."""
    masks = [pruning.nm_mask(pruning.magnitude(a.weight), 2, 4) for a in teacher[:-1]]
    return study.train("pruning 2:4", teacher, study.settings.tune_plan,
                       constraint=lambda step, steps, weights: apply(masks, weights))


def apply(masks: list[NDArray[np.bool_]], weights: list[Affine]) -> None:
    for mask, affine in zip(masks, weights[:-1], strict=True):
        np.multiply(affine.weight, mask, out=affine.weight)


def units_removed(study: Study, teacher: Model) -> Model:
    slim = without_units(teacher, study.settings.removed_units)
    return study.train("removing units", slim, study.settings.tune_plan)


def without_units(model: Model, fraction: float) -> Model:
    """Hidden units with the smallest incoming weights removed: their rows here, their columns in the next layer."""
    layers = list(model)
    for i in range(len(layers) - 1):
        here, after = layers[i], layers[i + 1]
        kept = pruning.channel_mask(pruning.magnitude(here.weight), fraction, axis=0)
        layers[i] = Affine(here.weight[kept], here.bias[kept])
        layers[i + 1] = Affine(np.ascontiguousarray(after.weight[:, kept]), after.bias)
    return tuple(layers)


def student(study: Study, name: str, gradient: Gradient | None = None, hidden: Gradient | None = None) -> Model:
    """The small network, from the same start on the same batches whatever teaches it; labels by default."""
    return study.train(name, study.initial(study.settings.student), study.settings.student_plan, gradient=gradient,
                       hidden=hidden)


def smoothed(study: Study) -> Model:
    return student(study, "student, label smoothing",
                   training.smoothed_cross_entropy(study.data.train_y, study.settings.smoothing))


def distilled(study: Study, teacher: Model, temperature: float) -> Model:
    """On labels and the teacher's logits (Hinton et al., 2015)."""
    return student(study, f"student, temperature {temperature:g}", _taught(study, teacher, temperature))


def _taught(study: Study, teacher: Model, temperature: float) -> Gradient:
    logits = training.logits(teacher, study.data.train_x)
    return training.distilling(study.data.train_y, logits, temperature, study.settings.alpha)


def by_dkd(study: Study, teacher: Model) -> Model:
    settings, data = study.settings, study.data
    return student(study, "student, DKD", training.decoupled(
        data.train_y, training.logits(teacher, data.train_x), settings.temperature, settings.alpha, settings.dkd_beta))


def by_features(study: Study, teacher: Model) -> Model:
    hidden = training.activations(teacher, study.data.train_x)[-2]
    return student(study, "student, features", hidden=training.alike(hidden, study.settings.similarity))


def by_itself(study: Study, teacher: Model) -> Model:
    """A student of the teacher's own size (Furlanello et al., Born-Again Neural Networks, 2018)."""
    settings = study.settings
    return study.train("self-distillation", study.initial(settings.hidden), settings.teacher_plan,
                       gradient=_taught(study, teacher, settings.temperature))


def sweep(study: Study, teacher: Model) -> Iterator[tuple[float, Network]]:
    """The student distilled at each temperature."""
    for temperature in study.settings.temperatures:
        yield temperature, network.dense_network(distilled(study, teacher, temperature))


def ranges(study: Study, model: Model) -> list[quantization.MinMax]:
    """The range of every layer's input over the calibration images."""
    inputs = training.activations(model, study.data.train_x[: study.settings.calibration])[:-1]
    observers = []
    for values in inputs:
        observer = quantization.MinMax()
        observer.update(values)
        observers.append(observer)
    return observers


def quantization_aware(study: Study, teacher: Model) -> Network:
    """Trained further with the rounding that int8 static does, over the teacher's input ranges, and then run so."""
    seen = ranges(study, teacher)
    grids = tuple(r.scale_and_zero_point(symmetric=False) for r in seen)
    aware = study.train("quantization-aware training", teacher, study.settings.tune_plan, fake=FakeQuantization(grids))
    return network.int8_network(aware, seen)


def epochs(settings: Settings) -> int:
    """All epochs of a comparison, for its progress bar."""
    tuned = len(settings.sparsities) + 3
    students = 5 + len(settings.temperatures)
    return (2 * settings.teacher_plan.epochs + tuned * settings.tune_plan.epochs
            + students * settings.student_plan.epochs)


def predictions(network: Network, x: Floats) -> NDArray[np.int64]:
    """The class of the largest logit, the first if several are equal."""
    classes: NDArray[np.int64] = np.argmax(network(x), axis=1)
    return classes
