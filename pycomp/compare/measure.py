"""Measurement: accuracy counted in integers, time by interleaved rounds."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Normal quantile of a two-sided 95 % interval.
Z95 = 1.959963984540054


@dataclass(frozen=True)
class Proportion:
    """``hits`` of ``total`` with Wilson's 95 % interval (Wilson, 1927): right also near 0 and 1."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        n, p, z = self.total, self.value, Z95
        centre = p + z * z / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        # The interval surrounds p; only rounding could say otherwise, at 0 and 1.
        return max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))


def matches(a: NDArray[np.int64], b: NDArray[np.int64]) -> Proportion:
    return Proportion(int(np.count_nonzero(a == b)), len(a))


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True)
class Latency:
    """Seconds a call, and how many times as fast as the baseline, both over the rounds."""

    seconds: Spread
    speedup: Spread


def interleaved(
    calls: Sequence[Callable[[], object]], rounds: int, *, sample: float = 1e-3, step: Callable[[], None] = lambda: None
) -> list[Latency]:
    """Times of several calls, the first being the baseline.

    Every round times each call once, in an order that rotates, so that a slow moment of the machine meets all of them;
    a speed-up compares times of one round. A call is repeated to last about ``sample`` seconds.
    """
    repeats = [_repeats(call, sample) for call in calls]
    times = np.empty((rounds, len(calls)))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i in range(rounds):
            for j in range(len(calls)):
                which = (i + j) % len(calls)
                times[i, which] = _time(calls[which], repeats[which])
            step()
    finally:
        if collecting:
            gc.enable()
    columns = times.T
    return [Latency(Spread.of(column), Spread.of(columns[0] / column)) for column in columns]


def _time(call: Callable[[], object], repeats: int) -> float:
    # The first call brings the weights into the caches that they would be in when one network runs alone.
    call()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object], sample: float) -> int:
    call()
    once = min(_time(call, 1) for _ in range(3))
    return max(1, math.ceil(sample / max(once, 1e-7)))
