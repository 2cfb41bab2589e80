"""What every dataclass of arrays is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import numpy as np


class ArrayHolder:
    """Arrays that are checked once, when they are given, and that nobody can change afterwards.

    They are handed out as views: a shape, a dtype or a flag that somebody sets is the view's alone, since kernels trust
    those of the arrays themselves.
    """

    _arrays: ClassVar[tuple[str, ...]] = ()
    """Names of its arrays; one may be None."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls._arrays:
            setattr(cls, name, _Handed(name))

    def __reduce__(self) -> tuple[Any, ...]:
        """By the constructor: what is copied or unpickled is checked again, and cannot be changed either."""
        return type(self), tuple(getattr(self, f.name) for f in fields(self) if f.init)  # type: ignore[arg-type]

    def _held(self) -> tuple[Any, ...]:
        """The arrays themselves."""
        return tuple([self.__dict__[name] for name in self._arrays])

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(a.nbytes for a in self._held() if a is not None)


class _Handed:
    """A field whose array is handed out as a view."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, of: Any, owner: type) -> Any:
        if of is None:  # asked by @dataclass, which would take what it gets for a default
            raise AttributeError(self.name)
        a = of.__dict__[self.name]
        return a.view() if type(a) is np.ndarray else a

    def __set__(self, of: Any, a: Any) -> None:
        of.__dict__[self.name] = a
