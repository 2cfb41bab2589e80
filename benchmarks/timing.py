"""The timing loop that all benchmarks share."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pycomp


@dataclass(frozen=True)
class Contender:
    name: str
    run: Callable[[], Any]
    level: str | None = None
    """The instruction-set level to force while it runs; pycomp's own only."""
    remark: str = ""
    """What a reader has to know of its results."""

    def time(self, seconds: float) -> float:
        """Mean time of as many calls as fit."""
        return _loop(self.run, seconds)


@dataclass(frozen=True)
class Limit(Contender):
    """What the machine does at most: ``run`` finds how many times 1e9 a second. It takes turns like everybody else, as
    what neighbours leave of a machine changes within a run."""

    amount: float = 0
    """Of operations or bytes in a call."""

    def time(self, seconds: float) -> float:
        """By the best of some measurements: the first of them brings arrays back into caches, and threads to work."""
        return self.amount / max(self.run() for _ in range(3)) / 1e9


@dataclass(frozen=True)
class Time:
    median: float
    """Seconds a call."""
    spread: float
    """Half the distance between the quartiles, as a fraction of the median."""


def _loop(run: Callable[[], object], seconds: float) -> float:
    """Mean time of as many calls as fit, after as many that bring arrays back into caches and threads to work."""
    start, warm = time.perf_counter(), 0
    while warm < 5000 and (not warm or time.perf_counter() - start < seconds):
        run()
        warm += 1
    count = max(1, min(5000, int(seconds / max((time.perf_counter() - start) / warm, 1e-7))))
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count


def interleave(contenders: list[Contender], rounds: int, seconds: float) -> list[Time]:
    """Let the contenders take turns, so that a change of clock or of neighbours meets all of them."""
    samples: list[list[float]] = [[] for _ in contenders]
    for contender in contenders:
        contender.run()
    order, random = list(zip(contenders, samples, strict=True)), Random(0)
    rest = 0.3 if pycomp.get_num_threads() > 1 else 0.05  # some libraries' workers spin for 0.2 s after a call
    for _ in range(rounds):
        random.shuffle(order)  # what one leaves behind would slow the same one down each time
        for contender, times in order:
            if contender.level:
                pycomp.set_isa(contender.level)
            time.sleep(rest)
            times.append(contender.time(seconds))
            if contender.level:
                pycomp.set_isa(None)
    results = []
    for times in samples:
        median = statistics.median(times)
        low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (median, median, median)
        results.append(Time(median, (high - low) / 2 / median))
    return results


@dataclass
class Load:
    cores: float = 0.0


def _processor_seconds() -> tuple[float, float, float]:
    """Used by the whole machine, used by this process, and the clock."""
    own = os.times()
    with open("/proc/stat") as file:
        fields = [int(v) for v in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK"), own.user + own.system, time.perf_counter()


@contextlib.contextmanager
def foreign_load() -> Iterator[Load]:
    """How many cores other processes kept busy meanwhile; 0 where the system does not tell."""
    load = Load()
    if not os.path.exists("/proc/stat"):
        yield load
        return
    all0, own0, clock0 = _processor_seconds()
    yield load
    all1, own1, clock1 = _processor_seconds()
    load.cores = max(0.0, ((all1 - all0) - (own1 - own0)) / (clock1 - clock0))
