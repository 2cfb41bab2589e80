"""What a sparse matrix gains on this machine: its forms timed beside the dense product."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import pycomp
from pycomp import dense
from pycomp._files import write_whole
from pycomp._runtime import processor
from pycomp._validate import FLOAT32, flag, integer
from pycomp.kernels import dispatch, layouts, native

from .bsr import BSRMatrix
from .crossover import crossover
from .csr import CSRMatrix
from .matrix import SparseMatrix, check_matrix
from .nm import NMMatrix
from .products import linear

if TYPE_CHECKING:
    from .forms import Dense

ROUNDS, SECONDS = 5, 0.02
"""Rounds in which the forms take turns, and how long one of them is called in a round."""
EMPTIEST, SMALL = 64, 1 << 26
"""Forms that have room for zeros are not tried where that is more elements than this an entry, unless they are few."""
BASELINE = "pycomp.dense.linear"
CROSSOVER = "crossover"
"""What it is kept by, beside the times."""
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Batches that are measured; others are taken for the next of these, larger ones for the last."""


@dataclass(frozen=True)
class Advice:
    """Made by :func:`advise`.

    Attributes
    ----------
    times : dict of str to float
        Seconds of ``linear(..., format=...)`` in each form that was timed.
    dense : float
        Seconds of :func:`pycomp.dense.linear` with packed weights; NaN where the matrix with its zeros is too large to
        be worth it. ``times["dense"]`` is somewhat more: such a product looks for NaN and infinities in x first.
    recommendation : str
        The fastest of ``times``, for ``linear(..., format=...)``.
    shape, sparsity, batch : of what was measured
    crossover : float
        Sparsity from which the best sparse form of such a matrix is about as fast as ``dense``: 0 if one is faster even
        where nothing is zero, 1 if none is even with a single entry. NaN where there are no entries, ``dense`` is NaN,
        or there are more than 2**26 elements.
    threads, isa, cpu : of the machine

    Examples
    --------
    >>> found = Advice({"csr": 1e-6, "dense": 3e-6}, 2e-6, "csr", (8, 8), 0.9, 1, 0.8, 1, "avx2", "")
    >>> found.speedup
    2.0
    >>> print(found)
    8 x 8, 90.0% zeros, batch 1; 1 thread(s), avx2
      csr             1.0 us    2.00 times as fast as dense.linear
      dense           3.0 us    0.67 times as fast as dense.linear
      use csr; sparse beats dense.linear from about 80% zeros
    """

    times: dict[str, float]
    dense: float
    recommendation: str
    shape: tuple[int, int]
    sparsity: float
    batch: int
    crossover: float
    threads: int
    isa: str
    cpu: str

    @property
    def speedup(self) -> float:
        """Time of the dense product over that of the recommended form; NaN where it was not timed."""
        return self.dense / self.times[self.recommendation]

    def __str__(self) -> str:
        n, k = self.shape
        zeros = f"{self.sparsity:.1%} zeros" if n * k else "no elements"
        lines = [f"{n} x {k}, {zeros}, batch {self.batch}; {self.threads} thread(s), {self.isa}"]
        compared = not math.isnan(self.dense)
        verdict = f"  use {self.recommendation}"
        if compared and self.speedup <= 1:
            verdict = f"  no form beats dense.linear; of the forms use {self.recommendation}"
        for name, seconds in sorted(self.times.items(), key=lambda item: item[1]):
            gain = f"  {self.dense / seconds:6.2f} times as fast as dense.linear" if compared else ""
            lines.append(f"  {name:8} {seconds * 1e6:10.1f} us{gain}")
        if self.crossover == 1:
            verdict += ", nor would one with fewer entries"
        elif not math.isnan(self.crossover):
            places = max(0, -math.floor(math.log10(1 - self.crossover)) - 2)  # so that it is not 100 %
            verdict += f"; sparse beats dense.linear from about {self.crossover:.{places}%} zeros"
        lines.append(verdict)
        return "\n".join(lines)


def advise(a: Any, batch: int = 1, *, cache: bool = True) -> Advice:
    """Time a matrix in the forms meant for a batch, and dense, on this machine; say which is the fastest.

    Parameters
    ----------
    a : CSRMatrix, BSRMatrix, NMMatrix or BitmapMatrix of float32
    batch : int
        Rows of x. 1, 2, 4, ... up to 512 are measured; others count as the next of these.
    cache : bool
        Keep the times in a file, and take them from there if this pattern was measured before in a matrix of the same
        kind and blocks, with the same batch, processor, backend, instruction set, threads and version. The file is
        ``advice.json`` in the folder that ``PYCOMP_CACHE_DIR`` names, else in ``pycomp`` below ``XDG_CACHE_HOME`` or
        ``~/.cache``. Where there is no home or the folder cannot be written, they last as long as the matrix. False:
        measure now, whatever was measured before, for later calls with this matrix alone.

    Returns
    -------
    Advice

    Raises
    ------
    TypeError
        If ``a`` is not a sparse matrix of float32.
    ValueError
        If ``batch`` is below 1.

    Notes
    -----
    The forms take turns, so that a disturbance meets all; the time of each is the median of its rounds. It takes about
    half a second and the packing of each form, of which the fastest and those there before are kept with the matrix;
    other work on the machine falsifies it.

    The crossover takes up to five times as long again: matrices of the same kind, shape and blocks, whose rows have
    more or fewer entries in proportion, at random places, are timed too, until the best of the forms takes as long as
    the dense product. An N:M matrix becomes one of other n. It takes several times the room of the matrix with its
    zeros, and is not looked for beyond 2**26 elements.

    Every form that the matrix has is timed, but not those meant for fewer rows, which go through it again for each or
    every four ("slices" and "nm" beyond a batch of 4, "bitmap" and "windows" beyond 8), and for one row not those that
    compute four or sixteen at a time ("tiles"; "blocks" of other than 16 rows, unless there are more than 65535 columns
    and so no "slices"). Nor are "dense", "bitmap" and "windows", which take room for zeros too, where more than 2**26
    elements are more than 64 for each entry. ``linear`` runs these too if told to.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.sparse import CSRMatrix
    >>> advice = advise(CSRMatrix.from_dense(np.eye(64, dtype=np.float32)), batch=1, cache=False)
    >>> sorted(advice.times)
    ['bitmap', 'csr', 'dense', 'slices', 'windows']
    >>> advice.recommendation in advice.times
    True
    """
    check_matrix(a, "a", values=(FLOAT32,))
    batch = integer(batch, "batch", 1)
    found = known_advice(a, batch, flag(cache, "cache"))
    if math.isnan(found.crossover) and a.nnz and "dense" in found.times and a.shape[0] * a.shape[1] <= SMALL:
        found = _with_crossover(a, found, cache)
    return replace(found, times=dict(found.times))  # the caller's own


def known_advice(a: SparseMatrix, batch: int, cache: bool = True) -> Advice:
    """:func:`advise` of what is valid, perhaps without the crossover; what it gives is kept with the matrix."""
    batch = BATCHES[min(bisect_left(BATCHES, batch), len(BATCHES) - 1)]
    known, key = _kept_with(a), (batch, *_runs_by())
    found = known.get(key) if cache else None
    if found is None:
        found = known[key] = _advice(a, batch, cache)
    return found


def _kept_with(a: SparseMatrix) -> dict[tuple[Any, ...], Advice]:
    home: dict[str, Any] = a._pattern if isinstance(a, CSRMatrix) else a.__dict__  # other values do not change it
    return home.setdefault("_advice", {})  # type: ignore[no-any-return]


def _with_crossover(a: SparseMatrix, found: Advice, cache: bool) -> Advice:
    names = [name for name in found.times if name != "dense"]
    weights = dense.pack(a.to_dense())

    def relative(like: SparseMatrix) -> float:
        times = _measured(like, found.batch, names, weights)
        return min(times[name] for name in names) / times[BASELINE]

    at = crossover(a, min(found.times[name] for name in names) / found.dense, relative)
    key, known = (found.batch, *_runs_by()), replace(found, crossover=at)
    _kept_with(a)[key] = known
    if cache and (path := _cache_file()):
        content, name = _read(path), _name(a, found.batch)
        _write(path, {**content, name: {**found.times, BASELINE: found.dense, CROSSOVER: at}})
    return known


def _runs_by() -> tuple[str, str, int]:
    """Backend, instruction set and threads."""
    backend = dispatch.chosen("spmm_csr_f32")[0]
    return backend, native.level() if backend == "native" else "", pycomp.get_num_threads()


def candidates(a: SparseMatrix, batch: int) -> list[str]:
    """The forms that a matrix has and that are meant for such a batch."""
    names, elements = ["csr"], a.shape[0] * a.shape[1]
    if widened := elements <= max(SMALL, EMPTIEST * a.nnz):
        names.append("dense")
    if isinstance(a, BSRMatrix) and (batch > 1 or a._format(batch) == "blocks"):
        names.append("blocks")
    if isinstance(a, NMMatrix) and batch <= 4:
        names.append("nm")
    if batch <= 8 and widened:
        names += ["bitmap", "windows"]
    if batch <= 4 and a.shape[1] <= layouts.MOST_COLUMNS:
        names.append("slices")
    if batch > 1 and a.shape[1] <= layouts.MOST_COLUMNS:
        names.append("tiles")
    return names


def _advice(a: SparseMatrix, batch: int, cache: bool) -> Advice:
    path = _cache_file() if cache else None
    name = _name(a, batch) if path else ""
    times = _read(path).get(name) if path else None
    names = candidates(a, batch)
    if not _is_of(times, names + [BASELINE] * ("dense" in names)):
        times = _measured(a, batch, names)
        if path:
            _write(path, {**_read(path), name: times})
    assert times is not None
    _, isa, threads = _runs_by()
    times = dict(times)
    baseline, at = times.pop(BASELINE, math.nan), times.pop(CROSSOVER, math.nan)
    best = min(times, key=lambda n: times[n])
    return Advice(times, baseline, best, a.shape, a.sparsity, batch, at, threads, isa, processor())


def _measured(
    a: SparseMatrix, batch: int, names: list[str], weights: dense.PackedMatrix | None = None
) -> dict[str, float]:
    """Seconds of each of the forms, and of the dense product on these weights or, where dense is one, on its own."""
    x = np.random.default_rng(0).standard_normal((batch, a.shape[1]), dtype=np.float32)
    out = np.empty((batch, a.shape[0]), np.float32)
    calls: dict[str, Callable[[], Any]] = {n: lambda n=n: linear(x, a, format=n, out=out) for n in names}  # type: ignore[misc]
    homes = a.__dict__.setdefault("_forms", {}), getattr(a, "_pattern", {})  # a layout has the name of its form
    kept = [set(home) for home in homes]
    if "dense" in names:
        weights = dense.PackedMatrix(cast("Dense", a._form("dense")).packed, a.shape[0])
    if weights is not None:
        calls[BASELINE] = lambda: dense.linear(x, weights, out=out)
    rounds: dict[str, list[float]] = {n: [] for n in calls}
    for call in calls.values():
        call()  # packs
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun, count = time.perf_counter(), 0
            while (passed := time.perf_counter() - begun) < SECONDS or count < 1:
                call()
                count += 1
            rounds[name].append(passed / count)
    times = {n: float(np.median(r)) for n, r in rounds.items()}
    best = min(names, key=lambda n: times[n])
    for home, before in zip(homes, kept, strict=True):  # the others are not needed any more
        for name in set(names) - {best} - before:
            home.pop(name, None)
    return times


def _name(a: SparseMatrix, batch: int) -> str:
    """What a measurement holds for: pattern and blocks, batch and machine."""
    csr = a.to_csr()
    pattern = hashlib.blake2b(digest_size=16)
    for array in (csr.indptr, csr.indices):
        pattern.update(array.data)
    return "|".join(map(str, (pycomp.__version__, processor(), *_runs_by(), repr(a), pattern.hexdigest(), batch)))


def _cache_file() -> Path | None:
    """None where nothing says where: a user without an entry in passwd has no home but ``HOME``."""
    if folder := os.environ.get("PYCOMP_CACHE_DIR"):
        return Path(folder) / "advice.json"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pycomp" / "advice.json"
    except RuntimeError:
        return None


def _is_of(times: Any, names: list[str]) -> bool:
    if not isinstance(times, dict) or set(times) - {CROSSOVER} != set(names):
        return False
    return all(isinstance(t, float) and (0 < t < 1e6 if n != CROSSOVER else 0 <= t <= 1) for n, t in times.items())


def _read(path: Path) -> dict[str, Any]:
    """What is kept; nothing if the file is missing or not whole."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Where that is not allowed, nothing is kept."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=1).encode())
