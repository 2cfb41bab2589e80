"""The machine's limits, measured by a small C program compiled for this CPU."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

UNITS = {"fma": "Gop/s", "dot": "Gop/s", "memory": "GB/s"}
SECONDS = 0.25


def _library() -> ctypes.CDLL:
    source = Path(__file__).with_name("limits.c")
    with tempfile.TemporaryDirectory() as folder:
        library = os.path.join(folder, "limits.so")
        subprocess.run(["cc", "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", library], check=True)
        loaded = ctypes.CDLL(library)
    for function in (loaded.fma_limit, loaded.dot_limit, loaded.read_limit):
        function.restype = ctypes.c_double
    return loaded


def measure(threads: int) -> dict[str, float]:
    """Of so many threads together; empty without a C compiler."""
    try:
        library = _library()
    except (OSError, subprocess.CalledProcessError):
        return {}
    share = (512 << 20) // threads
    memory = np.ones(share * threads + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    seconds = ctypes.c_double(SECONDS)
    with ThreadPoolExecutor(threads) as pool:
        def together(run: object) -> float:
            return sum(pool.map(run, range(threads)))  # type: ignore[arg-type]

        return {
            "fma": together(lambda _: library.fma_limit(seconds)),
            "dot": together(lambda _: library.dot_limit(seconds)),
            "memory": together(lambda i: library.read_limit(
                ctypes.c_void_p(start + i * share), ctypes.c_int64(share), seconds)),
        }
