"""What every dataclass of arrays is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from numpy import ndarray
from numpy.typing import NDArray


def owner_of(a: Any) -> NDArray[Any] | None:
    """The array that owns the memory of an array; None where something else does."""
    base = a.base
    owner = a if base is None else base
    return owner if type(owner) is ndarray and owner.flags.owndata else None


class ArrayHolder:
    """Arrays that are checked once, when they are given, and stay what they are.

    They are held as views and handed out as views of these: a shape, a dtype or a flag that somebody sets is not that
    of the arrays that kernels trust.
    """

    _arrays: ClassVar[tuple[str, ...]] = ()
    """Names of its arrays, in the order in which kernels take them; one may be None."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.__dict__.get("_arrays", ()):
            setattr(cls, name, _Handed(name))

    def _fill(self, **values: Any) -> None:
        """Fields of a frozen dataclass."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """By the constructor: what is copied or unpickled is checked again, and cannot be changed either."""
        return type(self), tuple(getattr(self, f.name) for f in fields(self) if f.init)  # type: ignore[arg-type]

    def _held(self) -> tuple[Any, ...]:
        """The arrays themselves, once they are given."""
        own = self.__dict__
        try:
            return own["_of_kernels"]  # type: ignore[no-any-return]
        except KeyError:
            held = own["_of_kernels"] = tuple([own[name] for name in self._arrays])
            return held

    def _is_apart(self, owner: NDArray[Any]) -> bool:
        """Whether its arrays are in memory that other arrays own; not if it is not known whose that is."""
        try:
            owners = self.__dict__["_owners"]
        except KeyError:
            found = [owner_of(a) for a in self._held() if a is not None]
            owners = self.__dict__["_owners"] = None if any(o is None for o in found) else {id(o) for o in found}
        return owners is not None and id(owner) not in owners

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
        try:
            a = of.__dict__[self.name]
        except KeyError:
            raise AttributeError(f"{type(of).__name__} has no {self.name} yet") from None
        return a.view() if type(a) is ndarray else a

    def __set__(self, of: Any, a: Any) -> None:
        of.__dict__[self.name] = a.view() if type(a) is ndarray else a
