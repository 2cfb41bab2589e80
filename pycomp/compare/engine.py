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
    """What a comparison tells while it runs."""

    def begin(self, steps: int) -> None: ...

    def stage(self, name: str) -> None: ...

    def step(self) -> None: ...


class Silent:
    def begin(self, steps: int) -> None: ...

    def stage(self, name: str) -> None: ...

    def step(self) -> None: ...


@dataclass(frozen=True)
class Row:
    """What was found about one variant. All but ``latency`` is the same on every run and machine, ``zlib_bytes`` where
    zlib is of the same build."""

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
    settings: Settings
    data: dict[str, Any]
    rows: tuple[Row, ...]
    sweep: tuple[tuple[float, Proportion], ...]
    """Accuracy of the student distilled at each temperature."""
    seconds: float

    @property
    def baseline(self) -> Row:
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
