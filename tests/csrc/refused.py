"""Kernels whose every allocation fails; run with the library of refuse.c preloaded.

Prints of each kernel that asked for memory, on every level, by one thread and by two, what came of it: ``raised`` a
MemoryError, or ``did without`` and gave the same bits, or anything else.
"""

import ctypes
import itertools
from pathlib import Path

import numpy as np
from bits import bits, largest

import pycomp
from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import KERNELS

library = ctypes.CDLL(None)
library.refuse.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


def addresses():
    """Where the C core lies."""
    lines = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    (code,) = [line[0] for line in lines if line[1] == "r-xp" and Path(line[-1]).name.startswith("_core.")]
    return [int(address, 16) for address in code.split("-")]


def attempt(function, case, expected, core):
    """What comes of a call without memory, or None if it asked for none."""
    given = [v.tobytes() for v in case.inputs if isinstance(v, np.ndarray)]
    outputs = case.outputs()
    library.refused()
    library.refuse(*core)
    try:
        function(*case.inputs, *outputs)
        outcome = "did without" if bits(outputs) == expected else "gave other bits"
    except MemoryError:
        outcome = "raised"
    finally:
        library.refuse(0, 0)
    if [v.tobytes() for v in case.inputs if isinstance(v, np.ndarray)] != given:
        return "changed an input"
    if bits(case.run(function)) != expected:
        return "is broken afterwards"
    return outcome if library.refused() else None


LARGER = {"spmv_sell_f32": [{"k": 17408, "n": 3}], "spmm_csr_f32": [{"m": 4, "k": 4353, "n": 3}],
          "spmm_tiles_f32": [{"m": 4, "k": 4352, "n": 3}],
          "spmm_bsr_f32": [{"m": 16, "k": 1089, "w": 1}, {"m": 16, "k": 12289, "w": 1}]}
"""More sizes from which a kernel needs memory, where its edges are below or take another way."""
levels = [name for name, usable in native.levels().items() if usable]
core = addresses()  # the question above has loaded it
for level, threads in itertools.product(levels, (1, 2)):
    pycomp.set_isa(level)
    pycomp.set_num_threads(threads)
    for entry in KERNELS.values():
        function = dispatch.implementations(entry.name)["native"]
        for sizes in ({}, *LARGER.get(entry.name, ())):
            case = largest(entry, **sizes)
            expected = bits(case.run(function))
            outcome = attempt(function, case, expected, core)
            if outcome or sizes:
                print(level, entry.name, outcome, flush=True)
print("done")
