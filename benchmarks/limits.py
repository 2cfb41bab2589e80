"""The machine's limits, measured by a small C program compiled for this CPU."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np

UNITS = {"fma": "Gop/s", "dot": "Gop/s", "tile": "Gop/s", "memory": "GB/s"}
SECONDS = 0.003
TIMES = 15
"""Measurements that a limit is the best of, shorter (but for memory, which is read once at least) than the turns of
processes that share a core: slowed by another one, a limit would be below what a kernel reaches."""
STREAMS = (1, 2, 4, 6, 8)
"""Parts of memory read beside each other: hardware that fetches ahead serves some kernels' streams better than one."""
WAYS = tuple((streams, asks) for streams in STREAMS for asks in (0, 1))
"""Streams, and whether lines are asked for ahead of their use, as kernels do where the hardware lags behind."""


@functools.cache
def _library() -> ctypes.CDLL | None:
    """None without a C compiler."""
    source = Path(__file__).with_name("limits.c")
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "limits.so")
        try:
            subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", library], check=True)
            loaded = ctypes.CDLL(library)
        except (OSError, subprocess.CalledProcessError):
            return None
    for function in (loaded.fma_limit, loaded.dot_limit, loaded.tile_limit, loaded.read_limit):
        function.restype = ctypes.c_double
    return loaded


def _together(threads: int, run: Callable[[int], float], times: int = TIMES) -> float:
    """The best of some measurements in which all threads begin at once: one after the other they would not share what
    the machine has."""
    begin = Barrier(threads)

    def begun(thread: int) -> float:
        begin.wait()
        return run(thread)

    with ThreadPoolExecutor(threads) as pool:
        return max(sum(pool.map(begun, range(threads))) for _ in range(times))


class Reading:
    """Bytes that are read over and over, each thread its share, from whichever cache or memory keeps them, in the
    fastest of WAYS."""

    def __init__(self, size: int, threads: int) -> None:
        self.threads, self.share = threads, max(size // threads, 4096)
        self._memory = np.ones(self.share * threads + 64, np.uint8)
        self.best, self._way = max((self._rate(way, TIMES), way) for way in WAYS)

    def _rate(self, way: tuple[int, int], times: int) -> float:
        if (library := _library()) is None:
            return 0.0
        start = self._memory.ctypes.data + -self._memory.ctypes.data % 64
        return _together(self.threads, lambda i: library.read_limit(
            ctypes.c_void_p(start + i * self.share // 64 * 64), ctypes.c_int64(self.share), *map(ctypes.c_int, way),
            ctypes.c_double(SECONDS)), times)

    def rate(self) -> float:
        """GB/s now; ``best`` is what it found when it was made. 0 without a C compiler."""
        return self._rate(self._way, 1)


def arithmetic(kind: str, threads: int, times: int = 1) -> float:
    """Gop/s of ``fma``, 8-bit ``dot`` products or products of AMX ``tile`` registers now; 0 without a C compiler."""
    if (library := _library()) is None:
        return 0.0
    run = {"fma": library.fma_limit, "dot": library.dot_limit, "tile": library.tile_limit}[kind]
    return _together(threads, lambda _: run(ctypes.c_double(SECONDS)), times)


def measure(threads: int, tiles: bool) -> dict[str, float]:
    """Of so many threads together, of ``tiles`` where the process may use them; empty without a C compiler."""
    if _library() is None:
        return {}
    kinds = ("fma", "dot", "tile") if tiles else ("fma", "dot")
    return {**{kind: arithmetic(kind, threads, TIMES) for kind in kinds}, "memory": Reading(512 << 20, threads).best}
