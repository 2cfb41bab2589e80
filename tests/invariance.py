"""Two hashes a kernel over instruction sets, backends, threads, batches and alignments: ``python -m tests.invariance``.

The first is of a case that is also computed in parts, the second of one so large that threads share it.

Exits with 1 where a configuration gives other bits. Run it on two machines and compare what it prints.
"""

import hashlib
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != root]  # the installed package, not the source tree

import numpy as np  # noqa: E402

import pycomp  # noqa: E402
from pycomp.kernels import dispatch, native  # noqa: E402
from pycomp.kernels.contract import KERNELS  # noqa: E402
from pycomp.testing import make_case, nudged  # noqa: E402
from pycomp.testing.cases import shared_case  # noqa: E402

THREADS, BATCHES, OFFSETS = (1, 2, 3), (1, 7, 64), (0, 1, 3)


def digest(case, batch):
    """The hash of the outputs, computed ``batch`` rows at a time. Every NaN counts as the same one."""
    entry = case.kernel
    function = getattr(dispatch, entry.name)
    total = case.sizes[entry.batch] if entry.batch else 1
    pieces = [case.rows(slice(i, i + batch)) for i in range(0, total, batch)] if entry.batch else [case]
    results = [piece.run(function) for piece in pieces]
    sha = hashlib.sha256()
    for operand, parts in zip(entry.outputs, zip(*results, strict=True), strict=True):
        y = parts[0] if len(parts) == 1 else np.concatenate(parts, operand.shape.index(entry.batch))
        if y.dtype.kind == "f":
            y = np.where(np.isnan(y), np.array(np.nan, y.dtype), y)
        sha.update(np.ascontiguousarray(y).tobytes())
    return sha.hexdigest()[:16]


def configurations():
    """(label, set-up): every level of the native backend, with each number of threads, and Numba."""
    for level, usable in native.levels().items():
        for threads in THREADS if usable else ():
            yield f"native {level} {threads} threads", "native", level, threads
    if dispatch.missing("jit") is None:
        yield "jit", "jit", None, 1


def check(kernel):
    """Hash -> the configurations that gave it: of a case in parts, and of one so large that threads share it."""
    entry = KERNELS[kernel]
    sizes = {s: max(edges) for s, edges in entry.edges.items()} | ({entry.batch: max(BATCHES)} if entry.batch else {})
    case, large = make_case(kernel, sizes), shared_case(kernel)
    whole = large.sizes[entry.batch] if entry.batch else 1
    found = {}
    for label, backend, level, threads in configurations():
        pycomp.set_backend(backend)
        pycomp.set_isa(level)
        with pycomp.threads(threads):
            shared = digest(large, whole)
            for offset in OFFSETS:
                moved = case.moved(lambda a, offset=offset: nudged(a, offset))
                for batch in BATCHES if entry.batch else (1,):
                    both = f"{digest(moved, batch)} {shared}"
                    found.setdefault(both, []).append(f"{label}, batch {batch}, offset {offset}")
    pycomp.set_backend(None)
    pycomp.set_isa(None)
    return found


def main():
    skipped = [level for level, usable in native.levels().items() if not usable]
    print(f"levels: {', '.join(n for n, usable in native.levels().items() if usable)}; "
          f"not on this CPU: {', '.join(skipped) or 'none'}; Numba: {dispatch.missing('jit') or 'yes'}")
    failed = False
    for kernel in KERNELS:
        found = check(kernel)
        count = sum(map(len, found.values()))
        if len(found) == 1:
            print(f"{kernel:20} {next(iter(found))}  equal in {count} configurations")
            continue
        failed = True
        print(f"{kernel:20} DIFFERS:")
        for value, labels in found.items():
            print(f"    {value}  {len(labels):4}  {'; '.join(labels[:4])}{' ...' if len(labels) > 4 else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
