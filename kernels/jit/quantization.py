"""8-bit codes: the definitions of csrc/kernels/{quantize,gemm_int8,matmul_int8}.c."""

import numpy as np
from numba import njit

from ..entry import NanError
from .activations import activate
from .arithmetic import FAST, float_bits, fma, fold, with_terms

SMALLEST = np.float32(2.0**-126)
BLOCK = 4096
"""Groups of 4 products, each at most 255*255, that an int32 can sum."""


@njit(**FAST)
def pack_s8(w, packed, sums):  # type: ignore[no-untyped-def]
    k, n = w.shape
    packed[:] = 0
    for j in range(n):
        total = np.int64(0)
        for l in range(k):
            packed[j // 48, l // 4, j // 16 % 3, j % 16, l % 4] = w[l, j]
            total += w[l, j]
        sums[j] = total


@njit(**FAST)
def _sums(row, w, w_zero, out):  # type: ignore[no-untyped-def]
    """out[j] = Σ_l row[l]·(w[l, j] - w_zero[j]) for 16 columns: w [groups, 16, 4]."""
    out[:] = 0
    part = np.empty(16, np.int32)
    for start in range(0, w.shape[0], BLOCK):
        part[:] = 0
        for g in range(start, min(start + BLOCK, w.shape[0])):
            for j in range(16):
                z = w_zero[j]
                part[j] += (
                    row[4 * g] * (w[g, j, 0] - z)
                    + row[4 * g + 1] * (w[g, j, 1] - z)
                    + row[4 * g + 2] * (w[g, j, 2] - z)
                    + row[4 * g + 3] * (w[g, j, 3] - z)
                )
        for j in range(16):
            out[j] += part[j]


@njit(**FAST)
def _narrow(total, y):  # type: ignore[no-untyped-def]
    """The first of some sums, as int32."""
    for j in range(y.shape[0]):
        if total[j] < -(2**31) or total[j] >= 2**31:
            raise OverflowError("a result is outside int32")
        y[j] = total[j]


@njit(**FAST)
def _gemm(x, x_zero, w, w_zero, y):  # type: ignore[no-untyped-def]
    row, total = np.zeros(4 * w.shape[1], np.int32), np.empty(16, np.int64)
    for i in range(y.shape[0]):
        for l in range(x.shape[1]):  # past the end the row stays 0, so the padding of w counts for nothing
            row[l] = np.int32(x[i, l]) - x_zero[i]
        for s in range(-(-y.shape[1] // 16)):
            _sums(row, w[s // 3, :, s % 3], w_zero[s], total)
            _narrow(total, y[i, 16 * s : 16 * s + 16])


@njit(**FAST)
def _epilogue(sums, x_scale, w_scale, bias, residual, activation, f):  # type: ignore[no-untyped-def]
    for i in range(f.shape[0]):
        for j in range(f.shape[1]):
            v = fma(np.float32(sums[i, j]), x_scale[i] * w_scale[j], bias[j])
            if residual is not None:
                v += residual[i, j]
            f[i, j] = activate(v, activation)


def _zeros(w_zero, w):  # type: ignore[no-untyped-def]
    """The zero points of w by slices of 16; None is 0."""
    padded = np.zeros((3 * w.shape[0], 16), np.int32)
    if w_zero is not None:
        padded.reshape(-1)[: w_zero.shape[0]] = w_zero
    return padded


def gemm_u8s8(x, w, sums, x_zero, w_zero, y):  # type: ignore[no-untyped-def]
    # None becomes zeros here: each combination of types would be compiled on its own.
    _gemm(x, np.zeros(x.shape[0], np.int32) if x_zero is None else x_zero, w, _zeros(w_zero, w), y)


@njit(**FAST)
def _matmul(x, w, x_zero, w_zero, y):  # type: ignore[no-untyped-def]
    total = np.empty(y.shape[1], np.int64)
    for i in range(y.shape[0]):
        total[:] = 0
        for l in range(x.shape[1]):
            code = np.int32(x[i, l]) - x_zero[i]
            for j in range(y.shape[1]):
                total[j] += code * (np.int32(w[l, j]) - w_zero[j])
        _narrow(total, y[i])


def matmul_u8s8(x, w, x_zero, w_zero, y):  # type: ignore[no-untyped-def]
    _matmul(x, w, np.zeros(x.shape[0], np.int32) if x_zero is None else x_zero,
            np.zeros(w.shape[1], np.int32) if w_zero is None else w_zero, y)


def gemm_u8s8_f32(  # type: ignore[no-untyped-def]
    x, x_scale, x_zero, w, sums, w_scale, w_zero, bias, residual, activation, y
):
    product = np.empty(y.shape, np.int32)
    gemm_u8s8(x, w, sums, x_zero, w_zero, product)
    bias = np.zeros(y.shape[1], np.float32) if bias is None else bias
    _epilogue(product, x_scale, w_scale, bias, residual, activation, y)


def gemm_u8s8_f16(*operands):  # type: ignore[no-untyped-def]
    *inputs, y = operands
    f = np.empty(y.shape, np.float32)
    gemm_u8s8_f32(*inputs, f)
    with np.errstate(over="ignore"):
        y[...] = f


@njit(**FAST)
def to_bf16(f, y):  # type: ignore[no-untyped-def]
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            bits = np.int64(float_bits(f[i, j])) & 0xFFFFFFFF
            if bits & 0x7FFFFFFF > 0x7F800000:
                y[i, j] = bits >> 16 | 0x40
            else:
                y[i, j] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def gemm_u8s8_bf16(*operands):  # type: ignore[no-untyped-def]
    *inputs, y = operands
    f = np.empty(y.shape, np.float32)
    gemm_u8s8_f32(*inputs, f)
    to_bf16(f, y)


def gemm_u8s8_s8(*operands):  # type: ignore[no-untyped-def]
    *inputs, y_scale, y_zero, y = operands
    f = np.empty(y.shape, np.float32)
    gemm_u8s8_f32(*inputs, f)
    limits = np.iinfo(y.dtype)
    scale, zero = np.full(len(y), y_scale, np.float32), np.full(len(y), y_zero, np.int32)
    _quantize(f, scale, zero, limits.min, limits.max, y)


gemm_s8s8 = gemm_u8s8
matmul_u8u8 = matmul_s8s8 = matmul_s8u8 = matmul_u8s8
gemm_s8s8_f32 = gemm_u8s8_f32
gemm_s8s8_f16 = gemm_u8s8_f16
gemm_s8s8_bf16 = gemm_u8s8_bf16
gemm_u8s8_u8 = gemm_s8s8_s8 = gemm_s8s8_u8 = gemm_u8s8_s8


@njit(**FAST)
def _range(x):  # type: ignore[no-untyped-def]
    """Smallest and largest of the row and 0, and whether all are finite."""
    lo, hi, finite = np.float32(0), np.float32(0), True
    for l in range(x.shape[0]):
        v = x[l]
        lo = v if v < lo else lo
        hi = v if v > hi else hi
        finite &= abs(v) < np.float32(np.inf)
    return lo, hi, finite


@njit(**FAST)
def _quantize_groups(x, symmetric, codes, scale, zero, sums):  # type: ignore[no-untyped-def]
    size = x.shape[1] // max(scale.shape[1], 1)
    for i in range(x.shape[0]):
        for g in range(scale.shape[1]):
            part, out = x[i, g * size : (g + 1) * size], codes[i, g * size : (g + 1) * size]
            lo, hi, finite = _range(part)
            zero[i, g] = 0
            sums[i, g] = 0
            if not finite:
                scale[i, g] = np.float32(np.nan)
                out[:] = 0
                continue
            s, z = np.float32(1), np.int32(0)
            if hi > lo and symmetric:
                s = max(max(hi, -lo) / np.float32(127), SMALLEST)
            elif hi > lo:
                s = max((np.float32(0.5) * hi - np.float32(0.5) * lo) / np.float32(127.5), SMALLEST)
                z = np.int32(np.rint(-lo / s))
            scale[i, g], zero[i, g] = s, z
            for l in range(size):
                code = min(np.int32(np.rint(part[l] / s)) + z, 255)
                out[l] = code
                sums[i, g] += code


def quantize_rows_s8(x, codes, scale, sums):  # type: ignore[no-untyped-def]
    _quantize_groups(x, True, codes, scale, np.empty(scale.shape, np.int32), sums)


def quantize_rows_u8(x, codes, scale, zero, sums):  # type: ignore[no-untyped-def]
    _quantize_groups(x, False, codes, scale, zero, sums)


def _of_floats(product):  # type: ignore[no-untyped-def]
    """A product of codes, of rows that are quantized for it."""

    def over(x, *others):  # type: ignore[no-untyped-def]
        codes, sums = np.empty(x.shape, np.uint8), np.empty((len(x), 1), np.int32)
        scale, zero = np.empty((len(x), 1), np.float32), np.empty((len(x), 1), np.int32)
        quantize_rows_u8(x, codes, scale, zero, sums)
        product(codes, scale[:, 0], zero[:, 0], *others)

    return over


linear_dynamic_f32, linear_dynamic_f16, linear_dynamic_bf16 = map(
    _of_floats, (gemm_u8s8_f32, gemm_u8s8_f16, gemm_u8s8_bf16))
linear_dynamic_s8, linear_dynamic_u8 = _of_floats(gemm_u8s8_s8), _of_floats(gemm_u8s8_u8)


def _by_given(of_signed, of_unsigned):  # type: ignore[no-untyped-def]
    """Products of codes, of floats that a scale which is given quantizes for them."""

    def over(x, x_scale, x_zero, is_signed, *others):  # type: ignore[no-untyped-def]
        codes = np.empty(x.shape, np.int8 if is_signed else np.uint8)
        scale, zero = np.full(len(x), x_scale, np.float32), np.full(len(x), x_zero, np.int32)
        (quantize_s8 if is_signed else quantize_u8)(x, scale, zero, codes)
        (of_signed if is_signed else of_unsigned)(codes, scale, zero, *others)

    return over


linear_static_f32, linear_static_f16, linear_static_bf16 = map(
    _by_given, (gemm_s8s8_f32, gemm_s8s8_f16, gemm_s8s8_bf16), (gemm_u8s8_f32, gemm_u8s8_f16, gemm_u8s8_bf16))
linear_static_s8, linear_static_u8 = _by_given(gemm_s8s8_s8, gemm_u8s8_s8), _by_given(gemm_s8s8_u8, gemm_u8s8_u8)


@njit(**FAST)
def range_f32(x, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        lo, hi = np.float32(np.inf), np.float32(-np.inf)
        nan = np.float32(0)
        for l in range(x.shape[1]):
            v = x[i, l]
            lo = v if v < lo else lo
            hi = v if v > hi else hi
            nan = v if v != v else nan
        low[i], high[i] = lo + nan, hi + nan


@njit(**FAST)
def range_columns_f32(x, low, high):  # type: ignore[no-untyped-def]
    low[:], high[:] = np.float32(np.inf), np.float32(-np.inf)
    many = x.shape[0] // max(low.shape[0], 1)
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            v, g = x[i, l] + np.float32(0), i // many
            low[g, l] = v if v < low[g, l] or v != v else low[g, l]
            high[g, l] = v if v > high[g, l] or v != v else high[g, l]


@njit(**FAST)
def _code(v, scale, zero, low, high):  # type: ignore[no-untyped-def]
    q = v / scale
    if q != q:
        raise NanError("an operand holds NaN")
    return min(max(np.int32(np.rint(min(max(q, np.float32(-512)), np.float32(512)))) + zero, low), high)


@njit(**FAST)
def _quantize(x, scale, zero, low, high, codes):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        z = np.int32(0)
        if zero is not None:
            z = zero[i]
        for l in range(x.shape[1]):
            codes[i, l] = _code(x[i, l], scale[i], z, low, high)


@njit(**FAST)
def _quantize_columns(x, scale, zero, low, high, codes):  # type: ignore[no-untyped-def]
    many = x.shape[0] // max(scale.shape[0], 1)
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            codes[i, l] = _code(x[i, l], scale[i // many, l], zero[i // many, l], low, high)


def _zero_columns(zero, scale):  # type: ignore[no-untyped-def]
    return np.zeros(scale.shape, np.int32) if zero is None else zero


@njit(**FAST)
def quantize_s8(x, scale, zero, codes):  # type: ignore[no-untyped-def]
    _quantize(x, scale, zero, -128, 127, codes)


@njit(**FAST)
def quantize_u8(x, scale, zero, codes):  # type: ignore[no-untyped-def]
    _quantize(x, scale, zero, 0, 255, codes)


def quantize_columns_s8(x, scale, zero, codes):  # type: ignore[no-untyped-def]
    _quantize_columns(x, scale, _zero_columns(zero, scale), -128, 127, codes)


def quantize_columns_u8(x, scale, zero, codes):  # type: ignore[no-untyped-def]
    _quantize_columns(x, scale, _zero_columns(zero, scale), 0, 255, codes)


@njit(**FAST)
def dequantize_s8(codes, scale, zero, y):  # type: ignore[no-untyped-def]
    for i in range(codes.shape[0]):
        z = np.int32(0)
        if zero is not None:
            z = zero[i]
        for l in range(codes.shape[1]):
            y[i, l] = np.float32(np.int32(codes[i, l]) - z) * scale[i]


@njit(**FAST)
def _dequantize_columns(codes, scale, zero, y):  # type: ignore[no-untyped-def]
    many = codes.shape[0] // max(scale.shape[0], 1)
    for i in range(codes.shape[0]):
        for l in range(codes.shape[1]):
            y[i, l] = np.float32(np.int32(codes[i, l]) - zero[i // many, l]) * scale[i // many, l]


def dequantize_columns_s8(codes, scale, zero, y):  # type: ignore[no-untyped-def]
    _dequantize_columns(codes, scale, _zero_columns(zero, scale), y)


dequantize_u8 = dequantize_s8
dequantize_columns_u8 = dequantize_columns_s8


@njit(**FAST)
def _requantize(acc, scale, zero, low, high, codes):  # type: ignore[no-untyped-def]
    for i in range(acc.shape[0]):
        for j in range(acc.shape[1]):
            r = min(max(np.float32(acc[i, j]) * scale[j], np.float32(-512)), np.float32(512))
            codes[i, j] = min(max(np.int32(np.rint(r)) + zero[j], low), high)


@njit(**FAST)
def _requantize_fixed(acc, multiplier, shift, zero, low, high, codes):  # type: ignore[no-untyped-def]
    for i in range(acc.shape[0]):
        for j in range(acc.shape[1]):
            left, right = np.int64(max(shift[j], 0)), np.int64(max(-shift[j], 0))
            x = min(max(np.int64(acc[i, j]) << left, np.int64(-(2**31))), np.int64(2**31 - 1))
            doubled = (x * np.int64(multiplier[j]) + np.int64(2**30)) >> np.int64(31)
            away = np.int64(1 if doubled < 0 and right > 0 else 0)
            rounded = (doubled + ((np.int64(1) << right) >> np.int64(1)) - away) >> right
            codes[i, j] = min(max(rounded + zero[j], np.int64(low)), np.int64(high))


def requantize_s8(acc, scale, zero, codes):  # type: ignore[no-untyped-def]
    _requantize(acc, scale, _zero_columns(zero, scale), -128, 127, codes)


def requantize_u8(acc, scale, zero, codes):  # type: ignore[no-untyped-def]
    _requantize(acc, scale, _zero_columns(zero, scale), 0, 255, codes)


def requantize_fixed_s8(acc, multiplier, shift, zero, codes):  # type: ignore[no-untyped-def]
    _requantize_fixed(acc, multiplier, shift, _zero_columns(zero, shift), -128, 127, codes)


def requantize_fixed_u8(acc, multiplier, shift, zero, codes):  # type: ignore[no-untyped-def]
    _requantize_fixed(acc, multiplier, shift, _zero_columns(zero, shift), 0, 255, codes)


@with_terms
@njit(**FAST)
def gemm_f32s8(x, w, scale, zero, bias, residual, activation, y):  # type: ignore[no-untyped-def]
    groups = scale.shape[1]
    size = x.shape[1] // groups if groups else 0
    acc, total, less = np.empty(16, np.float32), np.empty(16, np.float32), np.zeros(16, np.float32)
    for i in range(y.shape[0]):
        for s in range(w.shape[0]):
            total[:] = 0
            for t in range(groups if size else 0):
                acc[:] = 0
                if zero is not None:
                    less[:] = zero[s, t]
                for l in range(t * size, (t + 1) * size):
                    for j in range(16):
                        acc[j] = fma(x[i, l], np.float32(w[s, l, j]) - less[j], acc[j])
                for j in range(16):
                    total[j] = fma(acc[j], scale[s, t, j], total[j])
            for j in range(min(16, y.shape[1] - 16 * s)):
                v = total[j]
                if bias.size:
                    v += bias[16 * s + j]
                if residual.size:
                    v += residual[i, 16 * s + j]
                y[i, 16 * s + j] = activate(v, activation)


@njit(**FAST)
def fake_quantize_f32(x, scale, zero, low, high, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        z = np.int32(0) if zero is None else zero[i]
        for l in range(x.shape[1]):
            y[i, l] = np.float32(_code(x[i, l], scale[i], z, low, high) - z) * scale[i]


@njit(**FAST)
def _fake_quantize_columns(x, scale, zero, low, high, y):  # type: ignore[no-untyped-def]
    many = x.shape[0] // max(scale.shape[0], 1)
    for i in range(x.shape[0]):
        for l in range(x.shape[1]):
            s, z = scale[i // many, l], zero[i // many, l]
            y[i, l] = np.float32(_code(x[i, l], s, z, low, high) - z) * s


def fake_quantize_columns_f32(x, scale, zero, low, high, y):  # type: ignore[no-untyped-def]
    _fake_quantize_columns(x, scale, _zero_columns(zero, scale), low, high, y)


PART = 16384
"""Elements of a row that one sum of gradients takes."""


@njit(**FAST)
def fake_quantize_backward_f32(grad, x, scale, zero, low, high, dx, dscale, dzero):  # type: ignore[no-untyped-def]
    m, k = x.shape
    by_scale, outside = np.empty(16, np.float64), np.empty(16, np.float64)
    for i in range(m):
        z = np.int32(0) if zero is None else zero[i]
        for part in range(dscale.shape[1]):
            by_scale[:] = 0
            outside[:] = 0
            for l in range(part * PART, min(k, (part + 1) * PART)):
                v, g = x[i, l], grad[i, l]
                if v != v:
                    raise NanError("an operand holds NaN")
                q = v / scale[i]
                code = np.int32(np.rint(min(max(q, np.float32(-512)), np.float32(512)))) + z
                kept = min(max(code, low), high)
                lane = l % 16
                if code == kept:
                    dx[i, l] = g
                    slope = np.float64(np.float32(kept - z)) - np.float64(q)
                else:
                    dx[i, l] = 0
                    slope = np.float64(np.float32(kept - z))
                    outside[lane] += np.float64(g)
                by_scale[lane] = fma(np.float64(g), slope, by_scale[lane])
            dscale[i, part] = fold(by_scale)
            dzero[i, part] = fold(outside) * -np.float64(scale[i])
