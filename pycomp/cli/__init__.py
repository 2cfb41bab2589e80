"""The command line: arguments and printing, nothing else."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
from collections.abc import Sequence

from pycomp import __version__

from . import compare, info

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``pycomp ARGUMENTS``; the exit status: 0, 1 failed, 2 wrong arguments, 130 interrupted."""
    output = sys.stdout if isinstance(sys.stdout, io.TextIOWrapper) else None
    errors = output.errors if output else None
    if output and errors in ("strict", "surrogateescape"):  # the second is the C locale's
        # A character that its encoding lacks must not end a run of half a minute before the result is read.
        codecs.register_error("pycomp", _instead)
        output.reconfigure(errors="pycomp")
    try:
        chosen = parser().parse_args(arguments)
        if sys.stdout is None:  # so Python starts with `>&-`
            raise OSError("standard output is closed")
        status: int = chosen.run(chosen)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("pycomp: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(f"pycomp: {error}", file=sys.stderr)
        return 1
    finally:
        if output:
            output.reconfigure(errors=errors)


def _instead(error: UnicodeError) -> tuple[bytes, int]:
    """What is printed for characters that the encoding lacks, and where to go on. Bytes of a file's name that Python
    could not decode are printed as they are."""
    assert isinstance(error, UnicodeEncodeError)
    text = "".join("u" if c == "µ" else c if "\udc80" <= c <= "\udcff" else "?"
                   for c in error.object[error.start : error.end])
    return text.encode("ascii", "surrogateescape"), error.end


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="pycomp", description="Compress neural networks and run them compressed.")
    top.add_argument("--version", action="version", version=f"pycomp {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in (compare, info):
        command.add(commands)
    return top
