"""What one entry of the contract is made of: a kernel, its operands, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

DTYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(np.uint16),  # the bits of a bfloat16, which NumPy lacks
    "u16": np.dtype(np.uint16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "u8": np.dtype(np.uint8),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}


class NanError(ValueError):
    """An operand holds NaN where the kernel has no meaning for it: a class of its own, so that callers who put it in
    their own words do not do so with other failures."""


@dataclass(frozen=True)
class Operand:
    """One argument: an array (``shape`` names its sizes) or a scalar (``shape`` is None)."""

    name: str
    dtype: str
    shape: tuple[str, ...] | None
    kind: Literal["in", "opt", "out", "scalar"]
    strides: int = 0
    """Explicit strides: 0, C-contiguous; 1, rows may be apart (a leading dimension); 2, any."""


def _shape(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def In(name: str, dtype: str, shape: str, strides: int = 0) -> Operand:  # noqa: N802
    return Operand(name, dtype, _shape(shape), "in", strides)


def Opt(name: str, dtype: str, shape: str) -> Operand:  # noqa: N802
    """An input that may be None."""
    return Operand(name, dtype, _shape(shape), "opt")


def Out(name: str, dtype: str, shape: str, strides: int = 0) -> Operand:  # noqa: N802
    return Operand(name, dtype, _shape(shape), "out", strides)


def Scalar(name: str, dtype: str) -> Operand:  # noqa: N802
    return Operand(name, dtype, None, "scalar")


@dataclass(frozen=True)
class Kernel:
    name: str
    family: str
    """What it serves. Its reference, its Numba twin and its own tests are in kernels/reference/<family>.py,
    kernels/jit/<family>.py and tests/<family>/, but that ``distillation`` has several files (reference/features.py, and
    jit.PARTS) and ``convert``, which serves all, only the tests of the contract."""
    sizes: tuple[str, ...]
    operands: tuple[Operand, ...]
    reference: Callable[..., None]
    bound: Callable[..., Any]
    """Allowed |error| of each output (an array, or a tuple of them), from the operands and the reference's outputs."""
    sample: Callable[..., tuple[Any, ...]]
    """Operands (inputs and scalars) from a random generator and the sizes."""
    flops: Callable[..., float]
    bytes: Callable[..., float]
    edges: dict[str, tuple[int, ...]]
    """Sizes at which an implementation may go wrong: 0, 1, and around every tile."""
    shapes: tuple[tuple[str, dict[str, int]], ...]
    """Sizes worth timing, each with its reason."""
    chain: Callable[..., None] | None = None
    """The promised chain of float32 operations, literally."""
    batch: str | None = "m"
    """The size along which a row alone equals the row in a batch."""

    @property
    def inputs(self) -> tuple[Operand, ...]:
        return tuple(o for o in self.operands if o.kind != "out")

    @property
    def outputs(self) -> tuple[Operand, ...]:
        return tuple(o for o in self.operands if o.kind == "out")


def found(references: ModuleType, name: str, **entry: Any) -> Kernel:
    """A kernel whose reference, bound and sample are found by its name; its family is named as their module."""
    names = {"reference": name, "bound": f"{name}_bound", "sample": f"{name}_sample"}
    parts: dict[str, Any] = {part: getattr(references, where) for part, where in names.items() if part not in entry}
    return Kernel(**{"name": name, "family": references.__name__.rpartition(".")[2]} | parts | entry)


def chained(references: ModuleType, name: str, **entry: Any) -> Kernel:
    """The same, with the chain; it is the reference where there is no other."""
    return found(references, name, chain=getattr(references, f"{name}_chain", getattr(references, name)), **entry)
