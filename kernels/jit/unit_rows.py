"""Rows brought to length 1 and what losses on them need: the chains of csrc/kernels/unit_rows.c."""

import math

import numpy as np
from numba import njit

from .arithmetic import FAST, LANES, fma, fold

__all__ = ["unit_rows_f32", "unit_rows_grad_f32", "units_apart_f32", "units_apart_f64", "units_apart_grad_f32",
           "units_apart_grad_f64"]

f32, f64 = np.float32, np.float64
FAR = 1021


@njit(**FAST)
def inverse_of(squares):  # type: ignore[no-untyped-def]
    return 0.0 if squares == 0.0 else 1.0 / math.sqrt(squares)


@njit(**FAST)
def unit_rows_f32(x, inverse, unit):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        squares = np.zeros(LANES)
        for j in range(x.shape[1]):
            v = f64(x[i, j])
            squares[j % LANES] = fma(v, v, squares[j % LANES])
        inverse[i] = inverse_of(fold(squares))
        for j in range(x.shape[1]):
            unit[i, j] = f32(f64(x[i, j]) * inverse[i])


@njit(**FAST)
def unit_rows_grad_f32(unit, inverse, by_unit, grad):  # type: ignore[no-untyped-def]
    for i in range(unit.shape[0]):
        sums = np.zeros(LANES)
        for j in range(unit.shape[1]):
            sums[j % LANES] = fma(f64(unit[i, j]), f64(by_unit[i, j]), sums[j % LANES])
        along = fold(sums)
        for j in range(unit.shape[1]):
            grad[i, j] = f32(fma(-along, f64(unit[i, j]), f64(by_unit[i, j])) * inverse[i])


@njit(**FAST)
def side_of(x):  # type: ignore[no-untyped-def]
    """The power of two that brings a row near 1, and 1/length of what that gives."""
    top = 0.0
    for j in range(len(x)):
        top = max(top, abs(f64(x[j])))
    power = math.ldexp(1.0, min(max(-math.frexp(top)[1], -FAR), FAR))
    squares = np.zeros(LANES)
    for j in range(len(x)):
        v = f64(x[j]) * power
        squares[j % LANES] = fma(v, v, squares[j % LANES])
    return power, inverse_of(fold(squares))


@njit(**FAST)
def units_apart_f64(student, teacher, loss):  # type: ignore[no-untyped-def]
    for i in range(student.shape[0]):
        power_s, inverse_s = side_of(student[i])
        power_t, inverse_t = side_of(teacher[i])
        squares = np.zeros(LANES)
        for j in range(student.shape[1]):
            apart = f64(student[i, j]) * power_s * inverse_s - f64(teacher[i, j]) * power_t * inverse_t
            squares[j % LANES] = fma(apart, apart, squares[j % LANES])
        loss[i] = fold(squares)


@njit(**FAST)
def units_apart_grad_f64(student, teacher, scale, loss, grad):  # type: ignore[no-untyped-def]
    units_apart_f64(student, teacher, loss)
    for i in range(student.shape[0]):
        power_s, inverse_s = side_of(student[i])
        power_t, inverse_t = side_of(teacher[i])
        sums = np.zeros(LANES)
        for j in range(student.shape[1]):
            u = f64(student[i, j]) * power_s * inverse_s
            sums[j % LANES] = fma(u, u - f64(teacher[i, j]) * power_t * inverse_t, sums[j % LANES])
        along, back = fold(sums), min(inverse_s * power_s, np.finfo(np.float64).max)
        for j in range(student.shape[1]):
            u = f64(student[i, j]) * power_s * inverse_s
            apart = u - f64(teacher[i, j]) * power_t * inverse_t
            grad[i, j] = fma(-along, u, apart) * (2.0 * scale) * back


units_apart_f32, units_apart_grad_f32 = units_apart_f64, units_apart_grad_f64
