"""One comparison from data to results."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from . import methods
from .data import Dataset
from .measure import Latency, Proportion, interleaved, matches
from .methods import Study, Variant
from .settings import Settings


class Progress(Protocol):
    """What a comparison tells while it runs; any class with these methods will do.

    Examples
    --------
    >>> class Printed:
    ...     def begin(self, steps):
    ...         self.done, self.steps = 0, steps
    ...     def stage(self, name):
    ...         print(name)
    ...     def step(self):
    ...         self.done += 1
    ...         print(f"{self.done} of {self.steps}")
    >>> progress: Progress = Printed()
    >>> progress.begin(2)
    >>> progress.stage("teacher")
    teacher
    >>> progress.step()
    1 of 2
    """

    def begin(self, steps: int) -> None:
        """The comparison begins.

        Parameters
        ----------
        steps : int
            How often :meth:`step` will be called.
        """

    def stage(self, name: str) -> None:
        """Another training or timing begins.

        Parameters
        ----------
        name : str
        """

    def step(self) -> None:
        """An epoch of training or a round of timing is done."""


class Silent:
    def begin(self, steps: int) -> None: ...

    def stage(self, name: str) -> None: ...

    def step(self) -> None: ...


@dataclass(frozen=True)
class Row:
    """What was found about one variant. All but ``latency`` is the same on every run and machine, ``zlib_bytes`` where
    zlib is of the same build.

    Attributes
    ----------
    name : str
    family : str
        "baseline", "pruning", "quantization", "distillation" or "combination".
    how : str
        What was done, and what runs it.
    parameters : int
        Weights and biases that are kept.
    dense_bytes : int
        What the same layers take as dense float32.
    stored_bytes : int
        What the arrays take that a file of the network would hold.
    zlib_bytes : int
        The same after zlib at its highest level.
    accuracy, agreement : pycomp.compare.measure.Proportion
        Held-out images that are answered right, and as the teacher answers: ``hits`` of ``total``, their ``value``, and
        its ``interval`` of 95 %.
    latency : dict from int to pycomp.compare.measure.Latency
        At each batch size ``seconds`` a call and the ``speedup`` over the teacher: each the ``median`` of the rounds,
        and as ``low`` and ``high`` their quartiles.

    Examples
    --------
    >>> from pycomp.compare.measure import Latency, Proportion, Spread
    >>> latency = Latency(seconds=Spread(1e-4, 0.9e-4, 1.2e-4), speedup=Spread(2.0, 1.9, 2.1))
    >>> row = Row("int8", "quantization", "weights int8", parameters=1000, dense_bytes=4000, stored_bytes=1000,
    ...           zlib_bytes=900, accuracy=Proportion(97, 100), agreement=Proportion(99, 100), latency={1: latency})
    >>> row.accuracy.value, row.latency[1].speedup.median
    (0.97, 2.0)
    """

    name: str
    family: str
    how: str
    parameters: int
    dense_bytes: int
    stored_bytes: int
    zlib_bytes: int
    accuracy: Proportion
    agreement: Proportion
    latency: dict[int, Latency]


@dataclass(frozen=True)
class Comparison:
    """What :func:`run` found.

    Attributes
    ----------
    settings : Settings
    data : dict
        ``name`` and ``source`` of the data, ``features`` of an image, and numbers of images: ``train``, ``held_out``.
    rows : tuple of Row
        The float teacher first.
    sweep : tuple of (float, pycomp.compare.measure.Proportion)
        Accuracy of the student distilled at each temperature.
    seconds : float
        Of the whole run.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from pycomp.compare import Settings
    >>> from pycomp.compare.measure import Latency, Proportion, Spread
    >>> latency = Latency(seconds=Spread(1e-4, 1e-4, 1e-4), speedup=Spread(1.0, 1.0, 1.0))
    >>> teacher = Row("teacher", "baseline", "as trained", parameters=1000, dense_bytes=4000, stored_bytes=4000,
    ...               zlib_bytes=3600, accuracy=Proportion(97, 100), agreement=Proportion(100, 100),
    ...               latency={1: latency})
    >>> int8 = replace(teacher, name="int8", family="quantization", stored_bytes=1000)
    >>> comparison = Comparison(Settings(batches=(1,)), {"name": "digits"}, (teacher, int8), sweep=(), seconds=0.0)
    >>> comparison.baseline.name
    'teacher'
    """

    settings: Settings
    data: dict[str, Any]
    rows: tuple[Row, ...]
    sweep: tuple[tuple[float, Proportion], ...]
    seconds: float

    @property
    def baseline(self) -> Row:
        """The float teacher."""
        return self.rows[0]


def run(settings: Settings, data: Dataset, progress: Progress | None = None) -> Comparison:
    """Train, compress in every way, measure.

    Parameters
    ----------
    settings : Settings
    data : Dataset
        From :func:`load`.
    progress : Progress, optional
        Told of every stage and step.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        If ``settings`` or ``data`` is something else, such as a name.
    ValueError
        If the settings are for other data, or the first layer cannot be pruned 2:4 as images have another number of
        pixels than a multiple of 4.

    Examples
    --------
    Too few images and epochs to learn anything; how long more take is what :func:`settings_for` says.

    >>> import numpy as np
    >>> from dataclasses import replace
    >>> from pycomp.compare import Plan, settings_for
    >>> x, y = np.random.default_rng(0).random((8, 16), np.float32), np.arange(8) % 2
    >>> plan = Plan(epochs=1, rate=0.1, batch=8)
    >>> settings = replace(settings_for("digits", quick=True), data="mine", hidden=(8,), student=(4,), train=8, test=8,
    ...                    teacher_plan=plan, tune_plan=plan, student_plan=plan, batches=(1,), rounds=1)
    >>> found = run(settings, Dataset("mine", "made by hand", x, y, x, y))
    >>> found.baseline.parameters, [row.name for row in found.rows if row.stored_bytes < 300]
    (226, ['75 % of units removed', 'units removed + int8', 'distilled + int8'])
    """
    for name, given, kind in (("settings", settings, Settings), ("data", data, Dataset)):
        if not isinstance(given, kind):
            raise TypeError(f"{name} is a {type(given).__name__}, expected a {kind.__name__}")
    if settings.data != data.name:
        raise ValueError(f"settings.data is {settings.data!r}, expected {data.name!r}, the name of the data")
    if settings.hidden and data.features % 4:
        raise ValueError(f"data {data.name!r} has images of {data.features} pixels, expected a multiple of 4: the "
                         f"first layer is pruned 2:4")
    began = time.perf_counter()
    progress = progress or Silent()
    data = data.head(settings.train, settings.test)
    progress.begin(methods.epochs(settings) + settings.rounds * len(settings.batches))
    study = Study(settings, data, stage=progress.stage, step=progress.step)
    teacher = methods.train_teacher(study)
    made = list(methods.variants(study, teacher))
    sweep = tuple((temperature, matches(methods.predictions(student, data.test_x), data.test_y))
                  for temperature, student in methods.sweep(study, teacher))
    latencies = {batch: _time(made, data, batch, settings.rounds, progress) for batch in settings.batches}
    predicted = [methods.predictions(variant.network, data.test_x) for variant in made]
    rows = tuple(
        Row(
            name=variant.name,
            family=variant.family,
            how=variant.how,
            parameters=variant.network.parameters,
            dense_bytes=variant.network.dense_bytes,
            stored_bytes=variant.network.stored_bytes,
            zlib_bytes=variant.network.zlib_bytes,
            accuracy=matches(predicted[i], data.test_y),
            agreement=matches(predicted[i], predicted[0]),
            latency={batch: latencies[batch][i] for batch in settings.batches},
        )
        for i, variant in enumerate(made)
    )
    described = {"name": data.name, "source": data.source, "features": data.features,
                 "train": len(data.train_x), "held_out": len(data.test_x)}
    return Comparison(settings, described, rows, sweep, time.perf_counter() - began)


def _time(made: list[Variant], data: Dataset, batch: int, rounds: int, progress: Progress) -> list[Latency]:
    progress.stage(f"timing, batch {batch}")
    rows = np.resize(data.test_x, (batch, data.features))
    return interleaved([functools.partial(variant.network, rows) for variant in made], rounds, step=progress.step)
