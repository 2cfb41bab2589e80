"""What Numba lacks: the fused multiply-add, reinterpretation of bits, and control of the floating-point mode."""

import functools
import platform
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
"""Options of every kernel: no value-changing optimisation, no GIL, compiled once a machine."""


def with_terms(kernel: Callable[..., None]) -> Callable[..., None]:
    """A kernel that ends in ``bias, residual, activation, y`` as one that takes None for the first two.

    Numba compiles for each combination of None and arrays, some seconds each; in the place of None stand arrays
    without elements.
    """

    @functools.wraps(kernel)
    def call(*operands: Any) -> None:
        *before, bias, residual, activation, y = operands
        nothing = np.empty((*y.shape[:-1], 0), np.float32)
        kernel(*before, np.empty(0, np.float32) if bias is None else bias, nothing if residual is None else residual,
               activation, y)

    return call


@intrinsic
def fma(typingctx, a, b, c):  # type: ignore[no-untyped-def]
    """a*b + c with one rounding, in the type of the operands."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.fma(*args)

    return a(a, a, a), build


@intrinsic
def float_bits(typingctx, x):  # type: ignore[no-untyped-def]
    """The int32 that has the bits of a float32."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), build


@intrinsic
def bits_float(typingctx, x):  # type: ignore[no-untyped-def]
    """The float32 that has the bits of an int32."""

    def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


LANES = 16


@njit(**FAST)
def fold(lanes):  # type: ignore[no-untyped-def]
    """j <- j + (j+8), then 4, 2, 1."""
    half = LANES // 2
    while half:
        for j in range(half):
            lanes[j] += lanes[j + half]
        half //= 2
    return lanes[0]


def _mxcsr(instruction):  # type: ignore[no-untyped-def]
    """An intrinsic that stores (stmxcsr) or loads (ldmxcsr) the x86 floating-point control register."""

    @intrinsic
    def access(typingctx, value):  # type: ignore[no-untyped-def]
        def build(context, builder, signature, args):  # type: ignore[no-untyped-def]
            i32, i8 = ir.IntType(32), ir.IntType(8)
            slot = builder.alloca(i32)
            builder.store(args[0], slot)
            kind = ir.FunctionType(ir.VoidType(), [i8.as_pointer()])
            name = f"llvm.x86.sse.{instruction}"
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            builder.call(function, [builder.bitcast(slot, i8.as_pointer())])
            return builder.load(slot)

        return types.uint32(types.uint32), build

    return access


if platform.machine().lower() in ("x86_64", "amd64"):
    _store, _load = _mxcsr("stmxcsr"), _mxcsr("ldmxcsr")

    @njit(numba.uint32(), cache=True)
    def fp_enter():  # type: ignore[no-untyped-def]
        saved = _store(numba.uint32(0))
        if saved & numba.uint32(0xE040):  # FTZ, rounding mode, DAZ
            _load(numba.uint32(saved & numba.uint32(0xFFFF1FBF)))
        return saved

    @njit(numba.void(numba.uint32), cache=True)
    def fp_leave(saved):  # type: ignore[no-untyped-def]
        if saved & numba.uint32(0xE040):
            _load(saved)

else:

    def fp_enter():  # type: ignore[no-untyped-def]
        return 0

    def fp_leave(saved):  # type: ignore[no-untyped-def]
        pass
