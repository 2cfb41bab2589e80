"""Kernels under a floating-point mode that the caller has set before the threads were made.

``python moded.py LIBRARY MODE CONTROL BACKENDS``: the library of mode.c, the mode in hexadecimal, which of its bits are
not flags, and whose kernels. Prints the kernels whose bits the mode changed, and those that did not give the mode back.
"""

import ctypes
import sys

import numpy as np
from bits import bits

import pycomp
from pycomp.kernels import dispatch
from pycomp.kernels.contract import KERNELS
from pycomp.testing import make_case

library = ctypes.CDLL(sys.argv[1])
library.divide.argtypes, library.divide.restype = [ctypes.c_float, ctypes.c_float], ctypes.c_float
mode, control = int(sys.argv[2], 16), int(sys.argv[3], 16)


def tiny(a):
    """Small enough for products, and often sums, to be subnormal."""
    return a * a.dtype.type(2.0**-70) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a


def sizes_of(entry):
    return {s: sorted(edges)[-2] if len(edges) > 1 else edges[0] for s, edges in entry.edges.items()}


pycomp.set_num_threads(2)
# NumPy and the samples are not under test: everything is made before the mode is set.
made = [c for entry in KERNELS.values() for c in (make_case(entry, sizes_of(entry)),)]
made += [case.moved(tiny) for case in made]
a = np.random.default_rng(0).random((400, 400), np.float32)
everywhere = [a * np.float32(2.0**-70), a.T.copy(), np.empty_like(a)]

usual = library.get_mode()
library.set_mode(mode)
pycomp.dense.matmul(everywhere[0], everywhere[1], out=everywhere[2])  # the threads are made here, and inherit the mode
library.set_mode(usual)

wrong = []
for backend in sys.argv[4].split(","):
    if dispatch.missing(backend):
        continue
    for case in made:
        function = dispatch.implementations(case.kernel.name)[backend]
        expected = case.outputs()
        given = case.outputs()
        function(*case.inputs, *expected)
        library.set_mode(mode)
        function(*case.inputs, *given)
        after = library.get_mode()
        library.set_mode(usual)
        if bits(given) != bits(expected):
            wrong.append(f"{backend} {case.kernel.name} changed")
        if (after ^ mode) & control:
            wrong.append(f"{backend} {case.kernel.name} left mode {after:x}")
again = np.empty_like(a)
pycomp.set_num_threads(1)
pycomp.dense.matmul(everywhere[0], everywhere[1], out=again)
if again.tobytes() != everywhere[2].tobytes():
    wrong.append("threads made under the mode changed")


def quotients():
    return [library.divide(a, b) for a, b in ((1, 3), (-1, 3), (2.0**-140, 1))]


before = quotients()
library.set_mode(mode)
under = quotients()
library.set_mode(usual)
felt = under != before
print("\n".join(sorted(set(wrong))) or "same", "felt" if felt else "not felt")
