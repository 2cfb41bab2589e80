"""From which sparsity on a matrix of some kind is faster than the dense product."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .bitmap import BitmapMatrix
from .bsr import BSRMatrix
from .csr import CSRMatrix
from .matrix import SparseMatrix
from .nm import NMMatrix

STEPS = 5
"""Matrices that are timed at most."""
NEAR = 0.05
"""What part of their entries may be off."""
STEEPEST = 4
"""How many times fewer entries the next may have: forms that take the same time for many entries would else tell
nothing of those that suit few."""
APART = 1.5
"""How many times more or fewer the second has at least: a cost of its own that a call has would else be taken for that
of the entries."""


def crossover(a: SparseMatrix, time: float, relative: Callable[[SparseMatrix], float]) -> float:
    """The sparsity at which the fastest sparse form takes as long as the dense product: by what ``relative`` says of
    matrices like ``a``, the time of that form over that of the dense product, which of ``a`` itself is ``time``, and by
    the line through the last two of them."""
    element = 1.0 / (a.shape[0] * a.shape[1])
    density = a.nnz * element
    found = [(density, time)]
    least, most = 0.0, 1.0  # densities where sparse is faster, and slower
    while True:
        if time < 1:
            least = max(least, density)
        else:
            most = min(most, density)
        wanted = _next(found, least, most)
        if len(found) > STEPS:
            break
        wanted = min(max(wanted, density / STEEPEST), 1.0)
        if abs(wanted - density) <= NEAR * wanted:
            break
        other = like(a, wanted)
        if other.nnz * element == density:
            break
        density, time = other.nnz * element, relative(other)
        found.append((density, time))
    return 1.0 - wanted if wanted >= element else 1.0


def _next(found: list[tuple[float, float]], least: float, most: float) -> float:
    """Where the line through the last two is at 1, between the bounds."""
    *_, (density, time) = found
    if len(found) == 1:
        in_proportion = density / time
        return max(in_proportion, density * APART) if time < 1 else min(in_proportion, density / APART)
    (x, y), _ = found[-2:]
    rise = (time - y) / (density - x)
    if rise > 0:
        return min(max(density + (1 - time) / rise, least), most)
    bound = most if time < 1 else least
    return bound if bound in (0.0, 1.0) else (least + most) / 2


def like(a: SparseMatrix, density: float) -> SparseMatrix:
    """A matrix of the same kind, shape and blocks that has about this share of entries, at random: each row as many in
    proportion as in ``a``, or all."""
    rng, (rows, columns) = np.random.default_rng(0), a.shape
    if isinstance(a, NMMatrix):
        n = min(max(round(density * a.m), 1), a.m)
        first = rng.integers(a.m, size=(rows, columns // a.m, 1))
        kept = (np.arange(a.m) + first) % a.m < n
        return NMMatrix.from_dense(kept.reshape(a.shape).astype(np.float32), n, a.m)
    high, wide = a.block if isinstance(a, BSRMatrix) else (1, 1)
    share = np.diff(a.to_csr().indptr)[::high] / columns * (density * rows * columns / a.nnz)
    kept = rng.random((rows // high, columns // wide), np.float32) < share[:, None].astype(np.float32)
    w = np.repeat(np.repeat(kept, high, axis=0), wide, axis=1).astype(np.float32)
    if isinstance(a, BSRMatrix):
        return BSRMatrix.from_dense(w, a.block)
    return BitmapMatrix.from_dense(w) if isinstance(a, BitmapMatrix) else CSRMatrix.from_dense(w)
