"""What the package runs on: backends, instruction-set level, threads."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import KERNELS

from ._version import __version__

CPUINFO = Path("/proc/cpuinfo")


def info(*, last: bool = False) -> dict[str, Any]:
    """What pycomp runs on here, or what the latest call ran on.

    Parameters
    ----------
    last : bool
        Return only which implementation the latest call used.

    Returns
    -------
    dict
        ``version``; ``backends``, each with None or the reason why it cannot run; ``isa``, the instruction-set level
        in use; ``isa_levels``, each with whether this machine can run it; ``threads``; ``openmp``; ``kernels``, each
        with the backends that have it. With ``last=True``: ``kernel``, ``backend`` and ``isa``, each None before the
        first call.

    Examples
    --------
    >>> import numpy as np, pycomp
    >>> _ = pycomp.dense.matmul(np.ones((2, 3), np.float32), np.ones((3, 4), np.float32))
    >>> pycomp.info(last=True)["kernel"]
    'gemm_f32'
    """
    if last:
        kernel, backend, level = dispatch.latest[0] or (None, None, None)
        return {"kernel": kernel, "backend": backend, "isa": level}
    native_here = native.missing() is None
    return {
        "version": __version__,
        "backends": {backend: dispatch.missing(backend) for backend in dispatch.BACKENDS},
        "isa": native.level() if native_here else None,
        "isa_levels": native.levels() if native_here else {},
        "threads": get_num_threads(),
        "openmp": bool(native.lib.pc_has_openmp()) if native_here else False,
        "kernels": {kernel: list(dispatch.implementations(kernel)) for kernel in KERNELS},
    }


def set_backend(name: str | None) -> None:
    """Force the backend of every later call.

    ``PYCOMP_BACKEND`` does the same at start.

    Parameters
    ----------
    name : None, "native", "jit" or "reference"
        None: of each kernel the first of these that can run here and has it.

    Raises
    ------
    ValueError
        If there is no such backend or it cannot run here; the message lists the choices.

    Examples
    --------
    >>> import numpy as np, pycomp
    >>> pycomp.set_backend("reference")
    >>> pycomp.dense.matmul(np.ones((1, 2), np.float32), np.ones((2, 1), np.float32))
    array([[2.]], dtype=float32)
    >>> pycomp.info(last=True)["backend"]
    'reference'
    >>> pycomp.set_backend(None)
    """
    dispatch.set_backend(name)


def set_isa(name: str | None) -> None:
    """Force the instruction-set level of the native backend.

    Results do not depend on it. ``PYCOMP_ISA`` does the same at start.

    Parameters
    ----------
    name : str or None
        One of ``pycomp.info()["isa_levels"]``; None: the highest that this machine can run.

    Raises
    ------
    ValueError
        If the level is unknown or this machine lacks it, and the message lists the choices; or if the C core was not
        built.

    Examples
    --------
    >>> import numpy as np, pycomp
    >>> pycomp.set_isa("generic")
    >>> _ = pycomp.dense.activate(np.ones(3, np.float32), "relu")
    >>> pycomp.info(last=True)["isa"]
    'generic'
    >>> pycomp.set_isa(None)
    """
    dispatch.set_level(name)


def get_num_threads() -> int:
    """The number of threads that a call may use; 1 without the C core.

    Returns
    -------
    int

    Examples
    --------
    >>> import pycomp
    >>> pycomp.get_num_threads() >= 1
    True
    """
    return int(native.lib.pc_get_num_threads()) if native.missing() is None else 1


def set_num_threads(n: int | None) -> None:
    """Let later calls use at most ``n`` threads.

    Results do not depend on it, and small problems use fewer. ``PYCOMP_NUM_THREADS`` does the same at start.

    Parameters
    ----------
    n : int or None
        From 1 to 4096; None follows OpenMP (``OMP_NUM_THREADS``, threadpoolctl).

    Raises
    ------
    TypeError
        If ``n`` is not an integer.
    ValueError
        If ``n`` is below 1 or above 4096.

    Examples
    --------
    >>> import pycomp
    >>> pycomp.set_num_threads(1)
    >>> pycomp.get_num_threads()
    1
    >>> pycomp.set_num_threads(None)
    """
    if n is not None:
        if isinstance(n, (bool, np.bool_)) or not isinstance(n, (int, np.integer)):
            raise TypeError(f"n is {n!r}, expected an integer or None")
        if not 1 <= n <= 4096:
            raise ValueError(f"n is {n}, expected 1 to 4096")
        n = int(n)
    native.set_num_threads(n or 0)


@contextlib.contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Use at most ``n`` threads inside a ``with`` block, in the whole process. Blocks must nest, not interleave.

    Parameters
    ----------
    n : int or None
        As for :func:`set_num_threads`.

    Raises
    ------
    TypeError, ValueError
        As :func:`set_num_threads`, where the block begins.

    Examples
    --------
    >>> import pycomp
    >>> with pycomp.threads(1):
    ...     pycomp.get_num_threads()
    1
    """
    before = native.requested_threads
    set_num_threads(n)
    try:
        yield
    finally:
        native.set_num_threads(before)


def get_include() -> str:
    """The folder to give to a C compiler (``-I``) for ``#include "pycomp/pycomp.h"``.

    Returns
    -------
    str

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycomp
    >>> (Path(pycomp.get_include()) / "pycomp" / "pycomp.h").is_file()
    True
    """
    package = Path(native.__file__).parents[2]  # pycomp, or the source tree of an editable installation
    return next(str(folder) for folder in (package / "include", package / "csrc" / "include") if folder.is_dir())


def get_library() -> str:
    """The file that holds the C core, for a C program to link; it needs no Python to run.

    ``cc program.c -I$(python -c 'import pycomp; print(pycomp.get_include())')
    $(python -c 'import pycomp; print(pycomp.get_library())')``

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        If the core was not built.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pycomp
    >>> Path(pycomp.get_library()).is_file()
    True
    """
    spec = importlib.util.find_spec("pycomp.kernels.native._core")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(native.missing())
    return spec.origin


def processor() -> str:
    """The processor's name, as the system tells it.

    Linux has no names of ARM processors, but the numbers of who made each core and of its model.
    """
    told: dict[str, list[str]] = {}
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text("utf-8", "replace").splitlines():
            field, _, value = line.partition(":")
            told.setdefault(field.strip(), []).append(value.strip())
    if "model name" in told:
        return told["model name"][0]
    cores = zip(told.get("CPU implementer", ()), told.get("CPU part", ()), strict=False)
    models = dict.fromkeys(f"CPU implementer {maker} part {part}" for maker, part in cores)  # big and small cores
    return ", ".join(models) or platform.processor() or platform.machine()
