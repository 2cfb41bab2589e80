"""Time kernels beside what a user would pick instead: ``python -m benchmarks [KERNEL ...] [--threads 1,2]``.

Kernels and shapes come from the contract, whole layers from bench_layers.py, losses from bench_losses.py and
bench_features.py. Contenders are pycomp, at each instruction-set level asked for, and the peers of bench_<family>.py
that are installed (``pip install 'pycomp[bench]'``). They take turns inside a round; the figure is the median over
rounds, with its spread. What a call takes at least by the machine's limits is measured in the same rounds, and
the processor time that others used meanwhile is shown: absolute figures mean nothing on another machine, ratios in one
run do. Each number of threads runs in a process of its own, since other libraries fix theirs at start.

Operands stay in what cache has room for them, and how much room that is, where it is not a core's own, depends on the
neighbours. ``--cold 512`` takes copies of them in turn, 512 MiB of them, so that every call reads from memory.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

root = Path(__file__).resolve().parents[1]
sys.path[:] = [str(root / "benchmarks"), *(p for p in sys.path if Path(p or ".").resolve() != root)]

import limits  # noqa: E402
import numpy as np  # noqa: E402
import own  # noqa: E402
from bench_features import FEATURE_LOSSES  # noqa: E402
from bench_layers import LAYERS, Layer  # noqa: E402
from bench_losses import LOSSES  # noqa: E402
from timing import Contender, Limit, foreign_load, interleave  # noqa: E402

import pycomp  # noqa: E402
from pycomp._validate import integer  # noqa: E402
from pycomp.kernels import dispatch, native  # noqa: E402
from pycomp.kernels.contract import KERNELS, Kernel  # noqa: E402
from pycomp.testing import Case, make_case, nudged  # noqa: E402

GELU = 2
SPARSE = ("spmm_", "spmv_", "sddmm_")
PRODUCTS = ("gemm_", "linear_", "matmul_", *SPARSE)
SUBJECTS: dict[str, Kernel | Layer] = {**KERNELS, **LAYERS, **LOSSES, **FEATURE_LOSSES}
MOST_COPIES = 256
ADDING, READING = "(multiplying and adding)", "(reading the operands)"
CACHE_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # they would slow NumPy down


def backend() -> str:
    """What runs pycomp's kernels here."""
    return dispatch.chosen("gemm_f32")[0]


def ours(run: Callable[[], object], level: str | None) -> Contender:
    """pycomp, with what a reader would not expect: the level asked for, a backend other than native."""
    special = level or backend().replace("native", "")
    return Contender(f"pycomp {special}".strip(), run, level)


def plain(case: Case) -> Case:
    """The call that the peers make too: no operand that may be left out, no activation but where it is the kernel, and
    arrays that start on a cache line, as packed weights do. Logits and scores are as models make them, without the ties
    and special values of tests, at temperature 1, and every row counts."""
    activation = GELU if case.kernel.name == "activate_f32" else 0
    if case.kernel.family in ("distillation", "pruning"):
        rng = np.random.default_rng(0)
        drawn = {"x": 3, "student": 3, "teacher": 3, "scores": 1}
        case = replace(case, inputs=tuple(
            (drawn[o.name] * rng.standard_normal(v.shape)).astype(v.dtype) if o.name in drawn
            else np.ones_like(v)[()] if o.name in ("temperature", "scale", "soft", "hard") else v
            for o, v in zip(case.kernel.inputs, case.inputs, strict=True)))
    inputs = tuple(None if o.kind == "opt" else activation if o.name == "activation" else v
                   for o, v in zip(case.kernel.inputs, case.inputs, strict=True))
    return replace(case, inputs=inputs).moved(lambda a: nudged(a, 0))


def contenders(
    kernel: Kernel | Layer, sizes: dict[str, int], levels: list[str | None], peers: bool, remarks: bool = True
) -> list[Contender]:
    if isinstance(kernel, Layer):
        operands = kernel.operands(**sizes)
        run = kernel.ours(*operands)
        return [ours(run, level) for level in levels] + others(kernel.peers if peers else {}, *operands)
    case = plain(make_case(kernel, {s: v for s, v in sizes.items() if s in kernel.edges or s == "nnz"}))
    found = [ours(own.call(case), level) for level in levels]
    if peers:
        try:
            family = importlib.import_module(f"bench_{kernel.family}")
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("bench_"):
                raise
            return found
        remark = getattr(family, "REMARKS", {}).get(kernel.name) if remarks else None
        found += others(family.PEERS.get(kernel.name, {}), case, remark=remark)
    return found


def others(
    peers: dict[str, Callable[..., Callable[[], object]]], *operands: object, remark: Callable[..., str] | None = None
) -> list[Contender]:
    """The peers that are installed and can do this; why not, for the rest."""
    found = []
    for name, make in peers.items():
        try:
            run = make(*operands)
            result = run()  # some fail only here
            found.append(Contender(name, run, remark=remark(*operands, result) if remark else ""))
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            print(f"    ({name}: {type(error).__name__}: {reason[:100]})")
    return found


def rotating(copies: list[list[Contender]]) -> list[Contender]:
    """Contenders that pass to the next copy of their operands with every call."""
    if len(copies) == 1:
        return copies[0]

    def in_turn(same: tuple[Contender, ...]) -> Callable[[], object]:
        turn = itertools.cycle([contender.run for contender in same])
        return lambda: next(turn)()

    return [replace(same[0], run=in_turn(same)) for same in zip(*copies, strict=True)]


def unit_of(kernel: Kernel | Layer) -> str | None:
    """The limit of what a kernel multiplies with: floats, codes, or tiles of codes; None of what is no product."""
    if not kernel.name.startswith(PRODUCTS):
        return None
    of_floats = isinstance(kernel, Kernel) and kernel.inputs[0].dtype not in ("u8", "i8")
    if of_floats and not kernel.name.startswith("linear_"):
        return "fma"
    return "dot" if kernel.name.startswith(SPARSE) else "tile"


def limits_of(
    kernel: Kernel | Layer, flops: float, moved: float, machine: dict[str, float], threads: int, copies: int
) -> list[Contender]:
    """What a call takes at least, as far as this machine tells: a product's multiply-adds (other operations are counted
    by and large), and reading as much as its operands hold."""
    found: list[Contender] = []
    unit = unit_of(kernel)
    kind = "dot" if unit == "tile" and not machine.get("tile") else unit
    if kind and machine.get(kind):
        found.append(Limit(ADDING, lambda: limits.arithmetic(kind, threads), amount=flops))
    if machine.get("memory"):
        found.append(Limit(READING, limits.Reading(int(moved) * copies, threads).rate, amount=moved))
    return found


def measure(options: argparse.Namespace, threads: int) -> list[dict[str, object]]:
    pycomp.set_num_threads(threads)
    used = backend()
    levels: list[str | None] = options.levels or [None]
    tiles = used == "native" and set(options.levels or [pycomp.info()["isa"]]) == {"amx"}
    machine = limits.measure(threads, tiles=tiles)
    known = ", ".join(f"{k} {v:.0f} {limits.UNITS[k]}" for k, v in machine.items())
    running = f"native, {pycomp.info()['isa']}" if used == "native" else used
    print(f"\n{threads} thread(s), {running}; limits: {known or 'not measured, no C compiler'}")
    rows = []
    for name in options.kernels or SUBJECTS:
        kernel = SUBJECTS[name]
        for why, sizes in kernel.shapes:
            if options.shapes and joined(sizes) not in options.shapes:
                continue
            text = " ".join(f"{k}={v}" for k, v in sizes.items())
            print(f"{name} {text} ({why})")
            flops, moved = kernel.flops(**sizes), kernel.bytes(**sizes)
            copies = max(1, math.ceil((options.cold << 20) / moved))
            if copies > MOST_COPIES:
                print(f"    (left out: {options.cold} MiB are {copies} copies of its operands, above {MOST_COPIES})")
                continue
            every = [contenders(kernel, sizes, levels, not options.no_peers)]
            with contextlib.redirect_stdout(None):  # who is left out, and why, has been said
                every += [contenders(kernel, sizes, levels, not options.no_peers, False) for _ in range(copies - 1)]
            field = rotating(every) + limits_of(kernel, flops, moved, machine, threads, copies)
            with foreign_load() as foreign:
                times = interleave(field, options.rounds, options.seconds)
            reference = times[0].median
            for contender, time in zip(field, times, strict=True):
                called = ", ".join(filter(None, (contender.name, contender.remark)))
                print(f"    {called:28} {time.median * 1e6:12.1f} us  ±{time.spread * 100:4.1f} %"
                      f" {flops / time.median / 1e9:9.1f} Gop/s {moved / time.median / 1e9:7.1f} GB/s"
                      f"  pycomp is {time.median / reference:5.2f}x")
                rows.append({"kernel": name, "sizes": sizes, "threads": threads, "backend": used, "copies": copies,
                             "contender": contender.name, "remark": contender.remark, "seconds": time.median,
                             "spread": time.spread, "ratio": time.median / reference, "limits": machine,
                             "foreign": foreign.cores})
            if foreign.cores > 0.1:
                print(f"    (others used {foreign.cores:.1f} cores meanwhile: repeat this on a quiet machine)")
    return rows


def joined(sizes: dict[str, int]) -> str:
    return ",".join(map(str, sizes.values()))


def expecting(what: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """``read`` for argparse, whose own message says less."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}, expected {what}") from None

    return checked


def usable_levels() -> list[str]:
    return [level for level, usable in native.levels().items() if usable] if backend() == "native" else []


def levels_of(text: str) -> list[str]:
    if not set(text.split(",")) <= set(usable_levels()):
        raise ValueError
    return text.split(",")


def seconds_of(text: str) -> float:
    if not 0 < float(text) <= 3600:
        raise ValueError
    return float(text)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for, all of it possible: measuring takes long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("kernels", nargs="*", help=f"of {', '.join(SUBJECTS)}")
    parser.add_argument("--threads", default="1", help="numbers of threads, such as 1,2", type=expecting(
        "numbers from 1 to 4096, such as 1,2", lambda text: [integer(int(n), "n", 1, 4096) for n in text.split(",")]))
    levels = ", ".join(usable_levels()) or f"none, as the backend is {backend()}, which has no levels"
    parser.add_argument("--levels", help="instruction-set levels to time pycomp at, such as avx2,avx512vnni",
                        type=expecting(f"levels of this machine: {levels}", levels_of))
    parser.add_argument("--shapes", nargs="+", help="only these, as sizes joined by commas: 1,768,3072")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--rounds", default=7,
                        type=expecting("a whole number of at least 1", lambda text: integer(int(text), "n", 1)))
    parser.add_argument("--seconds", default=0.02, help="for one contender in one round",
                        type=expecting("a number above 0, up to 3600", seconds_of))
    parser.add_argument("--cold", default=0, metavar="MIB", help="operands to take in turn", type=expecting(
        "a whole number of MiB from 1 to 65536", lambda text: integer(int(text), "n", 1, 65536)))
    parser.add_argument("--json", type=Path, help="append one line a figure")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.kernels) - set(SUBJECTS):
        parser.error(f"no such kernel: {', '.join(sorted(unknown))}; choose of {', '.join(SUBJECTS)}")
    known = dict.fromkeys(joined(sizes) for name in options.kernels or SUBJECTS for _, sizes in SUBJECTS[name].shapes)
    if unknown := set(options.shapes or ()) - set(known):
        parser.error(f"argument --shapes: no such sizes: {' '.join(sorted(unknown))}; choose of {' '.join(known)}")
    if options.json:
        try:
            options.json.open("a").close()
        except OSError as error:
            parser.error(f"argument --json: cannot write {options.json}: {error.strerror}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options = options_of(arguments)
    if options.child is not None:
        rows = measure(options, options.child)
        if options.json:
            try:
                with options.json.open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            except OSError as error:
                print(f"cannot write {options.json}: {error.strerror}", file=sys.stderr)
                return 1
        return 0
    for threads in map(str, options.threads):
        environment = {k: v for k, v in os.environ.items() if k not in CACHE_SETTINGS}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, str(root / "benchmarks"), *arguments, "--child", threads]
        if code := subprocess.call(command, env=environment):
            if code < 0:  # OpenVINO 2026.4 has read past its arrays here
                name = signal.Signals(-code).name
                print(f"with {threads} thread(s): {name}, of a peer or pycomp; PYTHONFAULTHANDLER=1 shows whose",
                      file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
