"""Runs kernels with every array against a page that may not be touched; a step outside ends the process.

``python guarded.py KERNEL...``: over the edge sizes of the contract, and the largest of each together, on every level,
arrays ending at the page, then beginning at it. Prints each case before it runs.
"""

import ctypes
import sys

import numpy as np
from bits import largest

import pycomp
from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import KERNELS
from pycomp.testing import cases

PAGE = 4096
PATTERN = 0xA5
THREADS = pycomp.get_num_threads()

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Fence:
    """Pages between two that may not be touched."""

    def __init__(self, size, at_end):
        pages = -(-size // PAGE) * PAGE or PAGE
        self.length = pages + 2 * PAGE
        self.start = libc.mmap(None, self.length, 3, 0x22, -1, 0)
        assert self.start not in (None, ctypes.c_void_p(-1).value)
        assert libc.mprotect(self.start, PAGE, 0) == 0
        assert libc.mprotect(self.start + PAGE + pages, PAGE, 0) == 0
        self.inside = np.frombuffer((ctypes.c_uint8 * pages).from_address(self.start + PAGE), np.uint8)
        self.inside[:] = PATTERN
        self.mine = slice(pages - size, pages) if at_end else slice(0, size)

    def place(self, a):
        here = self.inside[self.mine].view(a.dtype).reshape(a.shape)
        here[...] = a
        return here

    def intact(self):
        """Nothing was written beside the array."""
        rest = self.inside.copy()
        rest[self.mine] = PATTERN
        return bool((rest == PATTERN).all())

    def close(self):
        libc.munmap(self.start, self.length)


def main(kernel):
    function = dispatch.implementations(kernel)["native"]
    for level, usable in native.levels().items():
        if not usable:
            continue
        pycomp.set_isa(level)
        large = largest(KERNELS[kernel])
        calls = [(case, THREADS) for case in (*cases(kernel, 8), large)]
        for case, threads in (*calls, (large, 1)):  # alone, a thread has work enough for other ways
            pycomp.set_num_threads(threads)
            expected = case.run(function)
            for at_end in (True, False):
                print(level, "end" if at_end else "start", case, flush=True)
                fences = []

                def place(a, at_end=at_end, fences=fences):
                    fences.append(Fence(a.nbytes, at_end))
                    return fences[-1].place(a)

                inputs = [place(np.ascontiguousarray(v)) if isinstance(v, np.ndarray) else v for v in case.inputs]
                before = [v.tobytes() for v in inputs if isinstance(v, np.ndarray)]
                outputs = [place(y) for y in case.outputs()]
                function(*inputs, *outputs)
                assert all(fence.intact() for fence in fences), "written beside an array"
                assert [v.tobytes() for v in inputs if isinstance(v, np.ndarray)] == before, "an input was changed"
                for y, e in zip(outputs, expected, strict=True):
                    assert np.array_equal(y, e, equal_nan=y.dtype.kind == "f"), "another result"
                del inputs, outputs
                for fence in fences:
                    fence.close()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        main(name)
    print("done")
