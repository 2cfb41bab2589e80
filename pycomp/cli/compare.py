"""``pycomp compare``."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycomp.compare import Comparison, Report

GAP = 3
"""Characters between two columns of the table."""
NEEDED_LEAST = ("dense", "zlib", "agrees", "parameters", "95 % interval")
"""Columns of the table that a narrow terminal goes without, in this order. What stays takes 80 characters."""


def add(commands: Any) -> None:
    from pycomp.compare import GOALS, NAMES

    parser = commands.add_parser(
        "compare", help="pruning, quantization and distillation on one real model: size, latency, accuracy",
        description="Train a model, compress it in every way and in combination, and report what each costs and gives.")
    parser.add_argument("--data", choices=NAMES, default="digits", help="default: %(default)s")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER",
                        help="folder of Fashion-MNIST's IDX files (default: that of Debian's dataset-fashion-mnist)")
    parser.add_argument("--goal", choices=GOALS, default="size", help="what to recommend for (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("pycomp-report"), metavar="DIR",
                        help="folder for report.html, report.json and the charts (default: ./%(default)s)")
    parser.add_argument("--seed", type=_seed, default=0, help="of initial weights and order of images (default: 0)")
    parser.add_argument("--quick", action="store_true", help="smaller networks and shorter training: seconds")
    parser.set_defaults(run=run)


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


_seed.__name__ = "seed (a whole number, at least 0)"


def run(arguments: argparse.Namespace) -> int:
    needed = ["jinja2", "matplotlib", "rich"] + ["sklearn"] * (arguments.data == "digits")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        print(f"pycomp compare needs {', '.join(missing)}: pip install 'pycomp[compare]'", file=sys.stderr)
        return 1
    from pycomp import compare

    data = compare.load(arguments.data, arguments.data_dir)
    writable(arguments.output)
    settings = compare.settings_for(arguments.data, quick=arguments.quick, seed=arguments.seed)
    with progress_bar() as progress:
        comparison = compare.run(settings, data, progress)
    report = compare.Report(comparison, arguments.goal, command(arguments))
    try:
        show(report)
    finally:  # a full disk does not cost what is shown, nor a reader that has gone the files
        files = report.write(arguments.output)
    print(f"\nWritten: {', '.join(map(str, files))}")
    return 0


def writable(folder: Path) -> None:
    """Make the folder and try it now: after the training it would be late."""
    from pycomp.compare.report import FILES

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write into {folder}: {error.strerror}") from None
    for path in (folder / name for name in FILES):
        if path.is_dir():
            raise OSError(f"cannot write {path}: is a folder, expected a file or nothing")


def command(arguments: argparse.Namespace) -> str:
    """The command that makes this report again."""
    words = ["pycomp", "compare", "--data", arguments.data, "--goal", arguments.goal, "--seed", str(arguments.seed)]
    if arguments.data_dir is not None:
        words += ["--data-dir", str(arguments.data_dir)]
    if arguments.quick:
        words.append("--quick")
    return shlex.join(words)


def progress_bar() -> Any:
    """A bar on standard error if that is a terminal, else nothing; as a context manager that gives a Progress."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)

    class Bar(Progress):
        def begin(self, steps: int) -> None:
            self.whole = self.add_task("", total=steps)

        def stage(self, name: str) -> None:
            self.update(self.whole, description=name)

        def step(self) -> None:
            self.update(self.whole, advance=1)

    return Bar(TextColumn("{task.description:<28}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
               console=console, transient=True, disable=not console.is_terminal)


def show(report: Report) -> None:
    """The table and the recommendation, on standard output."""
    from rich.console import Console

    from pycomp.compare.advice import slower, unsteady

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 150)
    # A file or a program that reads it has no width to break sentences at.
    say = functools.partial(console.print, soft_wrap=not console.is_terminal)
    table(report.comparison, console.width)
    first = report.recommendations()[0]
    console.print(f"\n[bold]For {first.goal}: {first.choice}[/bold]")
    for sentence in first.reasons:
        say(f"  - {sentence}")
    for sentence in slower(report.comparison) + unsteady(report.comparison):
        say(sentence)


def table(comparison: Comparison, width: int) -> None:
    """Print the rows; where the width is short, without the columns that are needed least. No number is ever cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    shown = columns(comparison)
    left_out: list[str] = []

    def needed() -> int:
        return sum(max(map(len, (name, *cells))) + GAP for name, cells in shown.items()) - GAP

    while needed() > width and len(left_out) < len(NEEDED_LEAST):
        left_out.append(NEEDED_LEAST[len(left_out)])
        del shown[left_out[-1]]
    data = comparison.data
    drawn = Table(title=f"{data['source']}; {data['held_out']} images", title_justify="left", box=SIMPLE_HEAD,
                  show_edge=False, pad_edge=False)
    for name in shown:
        drawn.add_column(name, justify="left" if name == "model" else "right", no_wrap=True)
    for row in zip(*shown.values(), strict=True):
        drawn.add_row(*row)
    console = Console(highlight=False, width=max(width, needed()))
    console.print(drawn)
    if left_out:
        console.print(f"In the report, but too wide for here: {', '.join(left_out)}.")


def columns(comparison: Comparison) -> dict[str, list[str]]:
    """What the table says, by columns."""
    from pycomp.compare.advice import duration, share, size, times

    rows = comparison.rows
    intervals = [row.accuracy.interval for row in rows]
    return {
        "model": [row.name for row in rows],
        "parameters": [f"{row.parameters:,}" for row in rows],
        "dense": [size(row.dense_bytes) for row in rows],
        "stored": [size(row.stored_bytes) for row in rows],
        "zlib": [size(row.zlib_bytes) for row in rows],
        "accuracy": [share(row.accuracy.value) for row in rows],
        "95 % interval": [f"{100 * low:.1f} to {100 * high:.1f}" for low, high in intervals],
        "agrees": [share(row.agreement.value) for row in rows],
        **{f"batch {b}": [f"{duration(t.seconds.median)} ({times(t.speedup.median)})"
                          for t in (row.latency[b] for row in rows)] for b in comparison.settings.batches},
    }
