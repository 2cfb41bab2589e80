"""Picks the implementation of each kernel; the only module that knows there are several.

``dispatch.gemm_f32(x, w, bias, activation, y)``: every kernel of the contract is an attribute, resolved at its first
use. ``PYCOMP_BACKEND`` or :func:`set_backend` forces one backend; then a kernel that it lacks is an error. Otherwise
the first of native, jit, reference that has the kernel runs, and a warning on the logger ``pycomp`` says so, once,
where it is not the first.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

BACKENDS = ("native", "jit", "reference")
latest: list[tuple[str, str, str | None] | None] = [None]
"""Kernel, backend and instruction-set level of the latest call, in whichever thread: the one item of a list, which a
binding can set."""

_forced: str | None = None
_looked_up: set[str] = set()
_choices: dict[str, tuple[str, Callable[..., None]]] = {}
_told: set[str] = set()
_log = logging.getLogger("pycomp")


@functools.cache  # an import that has been made takes as long as all else that a call asks
def _module(backend: str) -> Any:
    if backend == "native":
        from . import native as module
    elif backend == "jit":
        from . import jit as module  # type: ignore[no-redef]
    else:
        from .reference import backend as module  # type: ignore[no-redef]
    return module


def missing(backend: str) -> str | None:
    """Why a backend cannot run here; None if it can."""
    return _module(backend).missing()  # type: ignore[no-any-return]


def set_backend(name: str | None) -> None:
    """Force a backend (``native``, ``jit`` or ``reference``); None restores the automatic choice.

    Raises
    ------
    ValueError
        If there is no such backend, or it cannot run here: the message says why and lists the choices.
    """
    global _forced
    if name is not None:
        if name not in BACKENDS:
            raise ValueError(f"backend {name!r} is unknown; choose one of {', '.join(BACKENDS)}")
        if reason := missing(name):
            usable = [b for b in BACKENDS if missing(b) is None]
            raise ValueError(f"backend {name!r} is not available ({reason}); available: {', '.join(usable)}")
    _forced = name
    _forget()


def set_level(name: str | None) -> None:
    """Force an instruction-set level of the native backend; None chooses the highest."""
    _module("native").set_level(name)
    _forget()


def register_bytes() -> int:
    """Bytes of the vector registers that the native backend uses; 0 without it."""
    return _module("native").register_bytes()  # type: ignore[no-any-return]


def _forget() -> None:
    """Resolve every kernel again at its next use."""
    global _choices, _looked_up
    _choices = {}  # others may still write what they chose before into the old one
    known, _looked_up = _looked_up, set()
    for name in list(known):
        globals().pop(name, None)


def implementations(kernel: str) -> dict[str, Callable[..., None]]:
    """Backend -> function, of the backends that can run here and have the kernel."""
    found = {b: _module(b).implementation(kernel) for b in BACKENDS if missing(b) is None}
    return {b: f for b, f in found.items() if f is not None}


def chosen(kernel: str) -> tuple[str, Callable[..., None]]:
    """The backend that runs a kernel, and its function; found once."""
    choices = _choices
    if (found := choices.get(kernel)) is None:
        found = choices[kernel] = _choose(kernel)
    return found


def _choose(kernel: str) -> tuple[str, Callable[..., None]]:
    if _forced is not None:
        function = _module(_forced).implementation(kernel)
        if function is None:
            raise NotImplementedError(f"backend {_forced!r} has no {kernel}; it is implemented on "
                                      f"{', '.join(implementations(kernel))}")
        return _forced, function
    reasons: list[str] = []
    for backend in BACKENDS:
        reason = missing(backend)
        function = None if reason else _module(backend).implementation(kernel)
        if function is not None:
            if reasons:
                _tell(f"pycomp runs on the {backend} backend: {'; '.join(reasons)}")
            return backend, function
        reasons.append(f"{backend}: {reason or f'{kernel} is not implemented'}")
    raise NotImplementedError(f"no backend has {kernel}: {'; '.join(reasons)}")


def _tell(message: str) -> None:
    """A warning, the first time."""
    if message not in _told:
        _told.add(message)
        _log.warning(message)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """What runs within only ends another call, and is not told as the latest."""
    before = latest[0]
    try:
        yield
    finally:
        latest[0] = before


class Holding:
    """A kernel some of whose operands stay the same, such as a packed matrix: called with the others, in their order.

    What it costs to pass those to C, a fifth of a microsecond each, is paid once.
    """

    def __init__(self, kernel: str, **held: Any) -> None:
        self._kernel, self._held = kernel, held
        self._made: tuple[Any, Any] = None, None
        """What the call was made for, and the call; both at once, since another thread may make it too."""

    def __call__(self, *others: Any) -> None:
        known, call = self._made
        if known is not _looked_up:  # the backend or the level is another than at the last call
            known = _looked_up
            call = _noting(self._kernel, self._held)
            self._made = known, call
        call(*others)


def _noting(kernel: str, held: dict[str, Any] | None = None) -> Callable[..., None]:
    """A kernel that is told as the latest when it runs, without the operands that are held."""
    backend, function = chosen(kernel)
    if backend == "native":  # which notes itself: a function between would cost as much as a small kernel
        return _module(backend).implementation(kernel, **held) if held else function
    record = (kernel, backend, None)

    def call(*operands: Any) -> None:
        latest[0] = record
        function(*(_joined(kernel, held, operands) if held else operands))

    return call


def _joined(kernel: str, held: dict[str, Any], others: tuple[Any, ...]) -> list[Any]:
    from .contract import KERNELS

    left = iter(others)
    return [held[o.name] if o.name in held else next(left) for o in KERNELS[kernel].operands]


def __getattr__(name: str) -> Callable[..., None]:
    if name.startswith("__"):  # that an import asks for
        raise AttributeError(name)
    from .contract import KERNELS  # not before a kernel is called: it takes as long as all the rest of an import

    if name not in KERNELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    while True:
        known = _looked_up
        known.add(name)
        function = globals()[name] = _noting(name)
        if known is _looked_up:
            return function
        globals().pop(name, None)  # another thread chose anew meanwhile, and this may be the old backend's


if os.environ.get("PYCOMP_BACKEND"):
    try:
        set_backend(os.environ["PYCOMP_BACKEND"])
    except ValueError as error:
        raise ValueError(f"PYCOMP_BACKEND: {error}") from None
