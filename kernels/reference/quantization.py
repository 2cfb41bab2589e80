"""8-bit codes: choosing scales, quantizing, and products of codes."""

import numpy as np

from ..entry import NanError
from . import activations
from .arithmetic import LANES, TINY, U, fma, fma64, gamma
from .arithmetic import unpack as unpack_slices

GROUP, BESIDE = 4, 3
SMALLEST = np.float32(2.0**-126)
"""Smallest scale: the smallest normal float32."""


def packed_shape(k, n):
    return -(-n // (BESIDE * LANES)), -(-k // GROUP), BESIDE, LANES, GROUP


def unpack(w, k, n):
    """[strips, groups, 3, 16, 4] -> int64 [k, n]."""
    strips, groups = w.shape[:2]
    return w.transpose(1, 4, 0, 2, 3).reshape(groups * GROUP, strips * BESIDE * LANES)[:k, :n].astype(np.int64)


# -- packing
def pack_s8(w, packed, sums):
    """packed[p, g, s, j, i] = w[4*g + i, 48*p + 16*s + j], zero past the last row and column; sums over each column."""
    strips, groups = packed.shape[:2]
    padded = np.zeros((groups * GROUP, strips * BESIDE * LANES), np.int8)
    padded[: w.shape[0], : w.shape[1]] = w
    packed[...] = padded.reshape(groups, GROUP, strips, BESIDE, LANES).transpose(2, 0, 3, 4, 1)
    sums[...] = w.sum(axis=0, dtype=np.int64)


def pack_s8_bound(w, packed, sums):
    return np.zeros(packed.shape), np.zeros(sums.shape)


def pack_s8_sample(rng, k, n):
    return (rng.integers(-128, 128, (k, n), dtype=np.int8),)


# -- exact products
def product(x, w, x_zero, w_zero, n):
    """:func:`sums_of` packed w."""
    return sums_of(x, unpack(w, x.shape[1], n), x_zero, w_zero)


def sums_of(x, w, x_zero, w_zero):
    """Σ_l (x[i, l] - x_zero[i])·(w[l, j] - w_zero[j]) in int64; OverflowError outside int32."""
    x, w = x.astype(np.int64), w.astype(np.int64)
    y = (x if x_zero is None else x - x_zero[:, None]) @ (w if w_zero is None else w - w_zero)
    if y.size and max(y.max(), -1 - y.min()) >= 2**31:
        raise OverflowError("a result is outside int32")
    return y


def gemm_u8s8(x, w, sums, x_zero, w_zero, y):
    y[...] = product(x, w, x_zero, w_zero, y.shape[1])


def gemm_u8s8_bound(x, w, sums, x_zero, w_zero, y):
    return np.zeros(y.shape)


def _codes_sample(rng, dtype, shape):
    """Every fourth time all are extremes, and every fourth time of 7 bits, for which some levels have another way."""
    limits, kind = np.iinfo(dtype), rng.random()
    if kind < 0.25:
        return rng.choice(np.array((limits.min, limits.max), dtype), shape)
    if kind < 0.5:
        return rng.integers(limits.min + 64, limits.max - 63, shape, dtype)
    return rng.integers(limits.min, limits.max + 1, shape, dtype)


def _zeros_sample(rng, dtype, length):
    """Zero points of such codes, or None."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, length, np.int32) if rng.random() < 0.5 else None


def weights_sample(rng, k, n):
    """Packed codes, their sums, and zero points or None."""
    packed, sums = np.zeros(packed_shape(k, n), np.int8), np.zeros(n, np.int32)
    pack_s8(_codes_sample(rng, np.int8, (k, n)), packed, sums)
    return packed, sums, _zeros_sample(rng, np.int8, n)


def _gemm_sample(dtype):
    def sample(rng, m, k, n):
        x, x_zero = _codes_sample(rng, dtype, (m, k)), _zeros_sample(rng, dtype, m)
        w, sums, w_zero = weights_sample(rng, k, n)
        return x, w, sums, x_zero, w_zero

    return sample


gemm_u8s8_sample = _gemm_sample(np.uint8)
gemm_s8s8, gemm_s8s8_bound, gemm_s8s8_sample = gemm_u8s8, gemm_u8s8_bound, _gemm_sample(np.int8)


# -- the same of w as it comes
def matmul_u8s8(x, w, x_zero, w_zero, y):
    y[...] = sums_of(x, w, x_zero, w_zero)


def matmul_u8s8_bound(x, w, x_zero, w_zero, y):
    return np.zeros(y.shape)


def _matmul_sample(x_type, w_type):
    def sample(rng, m, k, n):
        return (_codes_sample(rng, x_type, (m, k)), _codes_sample(rng, w_type, (k, n)), _zeros_sample(rng, x_type, m),
                _zeros_sample(rng, w_type, n))

    return sample


matmul_u8s8_sample = _matmul_sample(np.uint8, np.int8)
matmul_u8u8, matmul_u8u8_bound, matmul_u8u8_sample = matmul_u8s8, matmul_u8s8_bound, _matmul_sample(np.uint8, np.uint8)
matmul_s8s8, matmul_s8s8_bound, matmul_s8s8_sample = matmul_u8s8, matmul_u8s8_bound, _matmul_sample(np.int8, np.int8)
matmul_s8u8, matmul_s8u8_bound, matmul_s8u8_sample = matmul_u8s8, matmul_u8s8_bound, _matmul_sample(np.int8, np.uint8)


# -- products with the epilogue to floats or codes
def _product_to_float(inputs, n):
    """activation(sum·x_scale[i]·w_scale[j] + bias[j] + residual[i, j]) in float64, and the bound of float32."""
    x, x_scale, x_zero, w, _, w_scale, w_zero, bias, residual, activation = inputs
    t = product(x, w, x_zero, w_zero, n)
    s = x_scale[:, None].astype(np.float64) * w_scale.astype(np.float64)
    v = t * s + (0.0 if bias is None else bias)
    f = v if residual is None else v + residual
    # Roundings of the sum, of the product of the scales, of the fma, and of the sum with the residual.
    bound = (np.abs(t) + 1) * TINY + 3 * U * np.abs(t) * s + U * np.abs(v) * (1 + 4 * U)
    bound = bound if residual is None else bound * (1 + U) + U * np.abs(f)
    y = activations.exact(f, activation)
    return y, activations.bound(bound, y, activation)


def _product_chain(inputs, n):
    """t = float(sum), s = x_scale·w_scale, activation(fma(t, s, bias) + residual); no bias is +0."""
    x, x_scale, x_zero, w, _, w_scale, w_zero, bias, residual, activation = inputs
    t = product(x, w, x_zero, w_zero, n).astype(np.float32)
    s = x_scale[:, None] * w_scale
    v = fma(t, s, np.float32(0) if bias is None else bias)
    return activations.chain(v if residual is None else v + residual, activation)


def gemm_u8s8_f32(*operands):
    *inputs, y = operands
    y[...] = _product_to_float(inputs, y.shape[1])[0]


def gemm_u8s8_f32_bound(*operands):
    *inputs, y = operands
    return _product_to_float(inputs, y.shape[1])[1]


def gemm_u8s8_f32_chain(*operands):
    *inputs, y = operands
    y[...] = _product_chain(inputs, y.shape[1])


def gemm_u8s8_f16_bound(*operands):
    """The float32 result, rounded once more."""
    *_, y = operands
    error = gemm_u8s8_f32_bound(*operands)
    return error + np.spacing((np.abs(y) + error).astype(np.float16)).astype(np.float64) / 2


def gemm_u8s8_f16_chain(*operands):
    *inputs, y = operands
    with np.errstate(over="ignore"):
        y[...] = _product_chain(inputs, y.shape[1])


def to_bf16(values):
    """The bits of bfloat16 nearest to float32 values, half to even: the upper half of their bits, rounded."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype(np.uint16)


def gemm_u8s8_bf16(*operands):
    *inputs, y = operands
    y[...] = to_bf16(_product_to_float(inputs, y.shape[1])[0])


def gemm_u8s8_bf16_bound(*operands):
    """In steps of the bit pattern; no statement where the sign is not certain."""
    *inputs, y = operands
    exact, error = _product_to_float(inputs, y.shape[1])
    low, high = to_bf16(np.abs(exact) - error).astype(np.int64), to_bf16(np.abs(exact) + error).astype(np.int64)
    return np.where(np.abs(exact) > error, high - low + 1, np.iinfo(np.uint16).max)


def gemm_u8s8_bf16_chain(*operands):
    *inputs, y = operands
    y[...] = to_bf16(_product_chain(inputs, y.shape[1]))


def gemm_u8s8_s8(*operands):
    """The float32 result, then quantize_s8."""
    *inputs, y_scale, y_zero, y = operands
    values = _product_to_float(inputs, y.shape[1])[0]
    with np.errstate(over="ignore"):
        quantize_s8(values.astype(np.float32), np.full(len(y), y_scale, np.float32), np.full(len(y), y_zero), y)


def gemm_u8s8_s8_bound(*operands):
    """The float32 result, which the reference rounds too, in steps of a code, and one for a tie that it crosses."""
    *inputs, y_scale, _, y = operands
    values, error = _product_to_float(inputs, y.shape[1])
    return 1 + np.floor((error + U * np.abs(values)) / y_scale)


def gemm_u8s8_s8_chain(*operands):
    *inputs, y_scale, y_zero, y = operands
    values = _product_chain(inputs, y.shape[1])
    quantize_s8(values, np.full(len(y), y_scale, np.float32), np.full(len(y), y_zero), y)


gemm_u8s8_f16 = gemm_u8s8_f32
gemm_u8s8_u8, gemm_u8s8_u8_bound, gemm_u8s8_u8_chain = gemm_u8s8_s8, gemm_u8s8_s8_bound, gemm_u8s8_s8_chain
gemm_s8s8_f32, gemm_s8s8_f32_bound, gemm_s8s8_f32_chain = gemm_u8s8_f32, gemm_u8s8_f32_bound, gemm_u8s8_f32_chain
gemm_s8s8_f16, gemm_s8s8_f16_bound, gemm_s8s8_f16_chain = gemm_u8s8_f16, gemm_u8s8_f16_bound, gemm_u8s8_f16_chain
gemm_s8s8_bf16, gemm_s8s8_bf16_bound, gemm_s8s8_bf16_chain = gemm_u8s8_bf16, gemm_u8s8_bf16_bound, gemm_u8s8_bf16_chain
gemm_s8s8_s8, gemm_s8s8_s8_bound, gemm_s8s8_s8_chain = gemm_u8s8_s8, gemm_u8s8_s8_bound, gemm_u8s8_s8_chain
gemm_s8s8_u8, gemm_s8s8_u8_bound, gemm_s8s8_u8_chain = gemm_u8s8_u8, gemm_u8s8_u8_bound, gemm_u8s8_u8_chain


def _gemm_to_sample(dtype, codes=None, largest=1.0):
    """``largest``: scale of x; for half precision small enough that no result overflows."""
    integers = _gemm_sample(dtype)

    def sample(rng, m, k, n):
        x, w, sums, x_zero, w_zero = integers(rng, m, k, n)
        x_scale = rng.uniform(0.001 * largest, largest, m).astype(np.float32)
        w_scale = rng.uniform(0.001, 1, n).astype(np.float32)
        bias = rng.standard_normal(n).astype(np.float32) if rng.random() < 0.7 else None
        residual = rng.standard_normal((m, n)).astype(np.float32) if rng.random() < 0.5 else None
        operands = (x, x_scale, x_zero, w, sums, w_scale, w_zero, bias, residual, int(rng.integers(activations.KINDS)))
        if codes is None:
            return operands
        limits = np.iinfo(codes)
        spread = np.float32(rng.uniform(5, 50) * np.sqrt(k + 1))
        return *operands, spread, int(rng.integers(limits.min, limits.max + 1))

    return sample


gemm_u8s8_f32_sample = gemm_u8s8_bf16_sample = _gemm_to_sample(np.uint8)
gemm_s8s8_f32_sample = gemm_s8s8_bf16_sample = _gemm_to_sample(np.int8)
gemm_u8s8_f16_sample = _gemm_to_sample(np.uint8, largest=2.0**-13)
gemm_s8s8_f16_sample = _gemm_to_sample(np.int8, largest=2.0**-13)
gemm_u8s8_s8_sample, gemm_u8s8_u8_sample = _gemm_to_sample(np.uint8, np.int8), _gemm_to_sample(np.uint8, np.uint8)
gemm_s8s8_s8_sample, gemm_s8s8_u8_sample = _gemm_to_sample(np.int8, np.int8), _gemm_to_sample(np.int8, np.uint8)


# -- weights alone as codes
def _grouped(w, zero, scale, n):
    """Codes less zero points [k, n] in int64, scales [groups, n], and the size of a group."""
    codes, scale = unpack_slices(w, n).astype(np.int64), unpack_slices(scale, n)
    size = len(codes) // max(len(scale), 1)
    if zero is not None:
        codes = codes - np.repeat(unpack_slices(zero, n), size, axis=0)
    return codes, scale, size


def gemm_f32s8(x, w, scale, zero, bias, residual, activation, y):
    """activation(Σ_l x[i, l]·(w[l, j] - zero[t, j])·scale[t, j] + bias[j] + residual[i, j]), l in group t."""
    codes, scale, size = _grouped(w, zero, scale, y.shape[1])
    weights = codes * np.repeat(scale.astype(np.float64), size, axis=0)
    f = x.astype(np.float64) @ weights + (0.0 if bias is None else bias)
    y[...] = activations.exact(f if residual is None else f + residual, activation)


def gemm_f32s8_bound(x, w, scale, zero, bias, residual, activation, y):
    """γ(g + groups + 1)·Σ|x||w·s| for the chains, and a rounding for each of bias and residual; then the activation."""
    codes, scale, size = _grouped(w, zero, scale, y.shape[1])
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(codes * np.repeat(scale.astype(np.float64), size, axis=0))
    error = gamma(size + len(scale) + 1) * magnitude + TINY * (len(scale) + size * scale.sum(axis=0))
    for added in (bias, residual):
        if added is not None:
            magnitude = magnitude + error + np.abs(added)
            error = error + U * magnitude + TINY
    return activations.bound(error, y, activation)


def gemm_f32s8_chain(x, w, scale, zero, bias, residual, activation, y):
    """Per group one fma chain from +0, then one fma with its scale; the bias; the residual; the activation."""
    codes, scale, size = _grouped(w, zero, scale, y.shape[1])
    weights = codes.astype(np.float32)
    y[...] = 0
    for t in range(len(scale) if size else 0):
        acc = np.zeros_like(y)
        for l in range(t * size, (t + 1) * size):
            acc = fma(x[:, l, None], weights[None, l], acc)
        y[...] = fma(acc, scale[None, t], y)
    if bias is not None:
        y += bias
    if residual is not None:
        y += residual
    y[...] = activations.chain(y, activation)


def gemm_f32s8_sample(rng, m, k, n, groups):
    k = k + -k % groups if groups else 0
    w = np.zeros((-(-n // LANES), k, LANES), np.int8)
    w[...] = rng.integers(-128, 128, w.shape)
    shape = (w.shape[0], groups, LANES)
    scale = rng.uniform(0.001, 1, shape).astype(np.float32)
    zero = rng.integers(-128, 128, shape, np.int8) if rng.random() < 0.5 else None
    bias = rng.standard_normal(n).astype(np.float32) if rng.random() < 0.7 else None
    residual = rng.standard_normal((m, n)).astype(np.float32) if rng.random() < 0.5 else None
    x = (rng.standard_normal((m, k)) * rng.choice([1.0, 0.01])).astype(np.float32)
    return x, w, scale, zero, bias, residual, int(rng.integers(activations.KINDS))


# -- dynamic quantization of rows, defined in float32: the quotients are rounded to it before they are rounded to codes
def _groups(x, scale):
    """x by groups [m, groups, size], zeros in place of those that hold NaN or infinity, and which groups these are."""
    x = x.reshape(*scale.shape, -1) if x.size else np.zeros((*scale.shape, 0), x.dtype)
    bad = ~np.isfinite(x).all(axis=2)
    return np.where(bad[:, :, None], np.float32(0), x), bad


def _fill(given, codes, sums, bad):
    given = np.where(bad[:, :, None], 0, given).astype(np.int64)
    codes[...] = given.reshape(codes.shape)
    sums[...] = given.sum(axis=2)


def quantize_rows_s8(x, codes, scale, sums):
    """scale = max(max|x|/127, 2^-126), codes = rint(x/scale); zeros: scale 1; not finite: scale NaN, codes 0."""
    x, bad = _groups(x, scale)
    largest = np.abs(x).max(axis=2, initial=0)
    step = np.where(largest > 0, np.maximum(largest / np.float32(127), SMALLEST), np.float32(1))
    _fill(np.rint(x / step[:, :, None]), codes, sums, bad)
    scale[...] = np.where(bad, np.float32(np.nan), step)


def quantize_rows_s8_bound(x, codes, scale, sums):
    return np.zeros(codes.shape), np.zeros(scale.shape), np.zeros(sums.shape)


def quantize_rows_u8(x, codes, scale, zero, sums):
    """lo, hi: range of the group and 0; scale = max((hi/2 - lo/2)/127.5, 2^-126); zero = rint(-lo/scale)."""
    x, bad = _groups(x, scale)
    lo, hi = x.min(axis=2, initial=0), x.max(axis=2, initial=0)
    half = np.float32(0.5)
    step = np.maximum((half * hi - half * lo) / np.float32(127.5), SMALLEST)
    step = np.where(hi > lo, step, np.float32(1))
    zero[...] = np.rint(-lo / step)
    _fill(np.minimum(np.rint(x / step[:, :, None]) + zero[:, :, None], 255), codes, sums, bad)
    scale[...] = np.where(bad, np.float32(np.nan), step)


def quantize_rows_u8_bound(x, codes, scale, zero, sums):
    return np.zeros(codes.shape), np.zeros(scale.shape), np.zeros(zero.shape), np.zeros(sums.shape)


def quantize_rows_s8_sample(rng, m, k, groups):
    k = k + -k % groups if groups else 0
    x = rng.standard_normal((m, k)) * 10.0 ** rng.integers(-6, 6, (m, 1))
    if m > 1 and rng.random() < 0.5:
        x[rng.integers(m)] = 0
    if x.size and rng.random() < 0.2:
        x[rng.integers(m), rng.integers(k)] = rng.choice([np.nan, np.inf, -np.inf])
    return (x.astype(np.float32),)


quantize_rows_u8_sample = quantize_rows_s8_sample


# -- products of rows that are quantized for it
def _of_floats(function):
    """A function of codes, scales and zero points of rows, and what else: of float rows instead."""

    def over(x, *others):
        codes, sums = np.empty(x.shape, np.uint8), np.empty((len(x), 1), np.int32)
        scale, zero = np.empty((len(x), 1), np.float32), np.empty((len(x), 1), np.int32)
        quantize_rows_u8(x, codes, scale, zero, sums)
        return function(codes, scale[:, 0], zero[:, 0], *others)

    return over


def _by_given(function):
    """The same by a scale and zero point that are given. (Functions of codes take signed ones too.)"""

    def over(x, x_scale, x_zero, is_signed, *others):
        codes = np.empty(x.shape, np.int8 if is_signed else np.uint8)
        scale, zero = np.full(len(x), x_scale, np.float32), np.full(len(x), x_zero, np.int32)
        quantize_s8(x, scale, zero, codes)
        return function(codes, scale, zero, *others)

    return over


def _static_sample(of_codes):
    def sample(rng, m, k, n):
        _, scales, _, *others = of_codes(rng, m, k, n)
        x_scale, is_signed = scales[0] if m else np.float32(0.01), int(rng.integers(2))
        x_zero = int(rng.integers(-128, 128)) + (0 if is_signed else 128)
        x = (rng.standard_normal((m, k)) * 64 * x_scale).astype(np.float32)
        return x, x_scale, x_zero, is_signed, *others

    return sample


def _dynamic_sample(of_codes):
    def sample(rng, m, k, n):
        _, x_scale, _, *others = of_codes(rng, m, k, n)
        x = rng.standard_normal((m, k)) * 64 * x_scale[:, None]
        for sign in (0, 1, -1):  # rows of zeros, and of one sign
            if m > 1 and rng.random() < 0.3:
                x[rng.integers(m)] = sign * np.abs(x[0])
        return x.astype(np.float32), *others

    return sample


for _layer, _quantized, _sampled in (
    ("linear_dynamic", _of_floats, _dynamic_sample),
    ("linear_static", _by_given, _static_sample),
):
    for _to in ("f32", "f16", "bf16", "s8", "u8"):
        globals().update({f"{_layer}_{_to}{part}": _quantized(globals()[f"gemm_u8s8_{_to}{part}"])
                          for part in ("", "_bound", "_chain")})
        globals()[f"{_layer}_{_to}_sample"] = _sampled(globals()[f"gemm_u8s8_{_to}_sample"])


# -- ranges
def range_f32(x, low, high):
    """The smallest and largest of each row; NaN where it holds NaN; -0 counts as +0."""
    low[...] = x.min(axis=1, initial=np.inf) + 0
    high[...] = x.max(axis=1, initial=-np.inf) + 0


def range_f32_bound(x, low, high):
    return np.zeros(low.shape), np.zeros(high.shape)


def range_f32_sample(rng, m, k):
    x = rng.standard_normal((m, k)).astype(np.float32)
    if x.size and rng.random() < 0.3:
        x[rng.integers(m), rng.integers(k)] = rng.choice([np.nan, np.inf, -np.inf])
    if m and rng.random() < 0.3:  # zeros of both signs
        x[rng.integers(m)] = rng.choice(np.array([0, -0.0], np.float32), k)
    return (x,)


def range_columns_f32(x, low, high):
    """The same for columns, of each of len(low) groups of rows."""
    groups = x.reshape(len(low), len(x) // max(len(low), 1), x.shape[1])
    low[...] = groups.min(axis=1, initial=np.inf) + 0
    high[...] = groups.max(axis=1, initial=-np.inf) + 0


def range_columns_f32_sample(rng, m, k, g):
    return range_f32_sample(rng, m - m % g if g else 0, k)


range_columns_f32_bound = range_f32_bound


# -- given scales
def _spread(v, m):
    """Scales [m], one a row, or [g, k], one a column for m/g rows each, against the rows."""
    return v[:, None] if v.ndim == 1 else np.repeat(v, m // max(len(v), 1), axis=0)


def quantize_s8(x, scale, zero, codes):
    """saturate(rint(x/scale) + zero), the quotient rounded to float32 first; NaN is an error."""
    if np.isnan(x).any():
        raise NanError("an operand holds NaN")
    limits = np.iinfo(codes.dtype)
    with np.errstate(over="ignore"):
        q = np.rint(x / _spread(scale, len(x))) + (0 if zero is None else _spread(zero, len(x)))
    codes[...] = np.clip(q, limits.min, limits.max)


def quantize_s8_bound(x, scale, zero, codes):
    return np.zeros(codes.shape)


def _scales(rng, dtype, smallest, shape):
    limits = np.iinfo(dtype)
    zero = rng.integers(limits.min, limits.max + 1, shape, np.int32) if rng.random() < 0.5 else None
    return rng.uniform(smallest, 1, shape).astype(np.float32), zero


def _quantize_sample(dtype):
    def sample(rng, m, k, g=None):
        m = m if g is None else m - m % g if g else 0
        scale, zero = _scales(rng, dtype, 0.1, (m,) if g is None else (g, k))
        x = rng.standard_normal((m, k)) * 50
        ties = rng.integers(-300, 300, (m, k)) + 0.5  # quotients that are halves, or next to one
        x = np.where(rng.random((m, k)) < 0.3, ties * _spread(scale, m), x).astype(np.float32)
        if g is None and m and rng.random() < 0.3:  # scales far from 1
            power = np.float32(2.0) ** rng.choice(np.array([-120, -101, -100, -99, 99, 100, 101]), m).astype(np.float32)
            scale, x = scale * power, x * power[:, None]
        return x, scale, zero

    return sample


quantize_s8_sample, quantize_u8_sample = _quantize_sample(np.int8), _quantize_sample(np.uint8)
quantize_u8, quantize_u8_bound = quantize_s8, quantize_s8_bound
quantize_columns_s8 = quantize_columns_u8 = quantize_s8
quantize_columns_s8_bound = quantize_columns_u8_bound = quantize_s8_bound
quantize_columns_s8_sample, quantize_columns_u8_sample = quantize_s8_sample, quantize_u8_sample


def dequantize_s8(codes, scale, zero, y):
    """(codes - zero)·scale."""
    m = len(codes)
    y[...] = (codes.astype(np.int64) - (0 if zero is None else _spread(zero, m))) * _spread(scale, m).astype(np.float64)


def dequantize_s8_bound(codes, scale, zero, y):
    return U * np.abs(y) + TINY


def dequantize_s8_chain(codes, scale, zero, y):
    m = len(codes)
    y[...] = (codes.astype(np.int32) - (0 if zero is None else _spread(zero, m))).astype(np.float32) * _spread(scale, m)


def _dequantize_sample(dtype):
    limits = np.iinfo(dtype)

    def sample(rng, m, k, g=None):
        m = m if g is None else m - m % g if g else 0
        codes = rng.integers(limits.min, limits.max + 1, (m, k), dtype)
        return codes, *_scales(rng, dtype, 0.001, (m,) if g is None else (g, k))

    return sample


dequantize_s8_sample, dequantize_u8_sample = _dequantize_sample(np.int8), _dequantize_sample(np.uint8)
dequantize_u8, dequantize_u8_bound, dequantize_u8_chain = dequantize_s8, dequantize_s8_bound, dequantize_s8_chain
dequantize_columns_s8 = dequantize_columns_u8 = dequantize_s8
dequantize_columns_s8_bound = dequantize_columns_u8_bound = dequantize_s8_bound
dequantize_columns_s8_chain = dequantize_columns_u8_chain = dequantize_s8_chain
dequantize_columns_s8_sample, dequantize_columns_u8_sample = dequantize_s8_sample, dequantize_u8_sample


# -- int32 sums to codes
def requantize_s8(acc, scale, zero, codes):
    """saturate(rint(acc·scale) + zero), the sum and the product rounded to float32 first."""
    limits = np.iinfo(codes.dtype)
    with np.errstate(over="ignore"):
        r = np.rint(acc.astype(np.float32) * scale)
    codes[...] = np.clip(r + (0 if zero is None else zero), limits.min, limits.max)


def requantize_s8_bound(acc, scale, zero, codes):
    return np.zeros(codes.shape)


def _sums_sample(rng, m, n):
    """Sums around the codes of a scale near 2^-7, and any."""
    near = rng.integers(-(2**15), 2**15, (m, n), np.int32)
    return np.where(rng.random((m, n)) < 0.7, near, rng.integers(-(2**31), 2**31, (m, n))).astype(np.int32)


def _requantize_sample(dtype):
    def sample(rng, m, n):
        scale, zero = _scales(rng, dtype, 2.0**-8, n)
        return _sums_sample(rng, m, n), scale * np.float32(2.0**-7), zero

    return sample


requantize_s8_sample, requantize_u8_sample = _requantize_sample(np.int8), _requantize_sample(np.uint8)
requantize_u8, requantize_u8_bound = requantize_s8, requantize_s8_bound


def requantize_fixed_s8(acc, multiplier, shift, zero, codes):
    """acc·multiplier·2^(shift - 31): saturating left shift, high product half up, right shift half away from 0."""
    limits = np.iinfo(codes.dtype)
    left, right = np.maximum(shift, 0).astype(np.int64), np.maximum(-shift, 0).astype(np.int64)
    x = np.clip(acc.astype(np.int64) << left, -(2**31), 2**31 - 1)
    high = (x * multiplier.astype(np.int64) + 2**30) >> 31
    magnitude = (np.abs(high) + ((np.int64(1) << right) >> 1)) >> right
    codes[...] = np.clip(np.sign(high) * magnitude + (0 if zero is None else zero), limits.min, limits.max)


def requantize_fixed_s8_bound(acc, multiplier, shift, zero, codes):
    return np.zeros(codes.shape)


def _requantize_fixed_sample(dtype):
    def sample(rng, m, n):
        multiplier = rng.integers(2**30, 2**31, n).astype(np.int32)
        if n and rng.random() < 0.3:
            multiplier[rng.integers(n)] = rng.choice(np.array([0, 2**30, 2**31 - 1], np.int32))
        shift = np.where(rng.random(n) < 0.8, rng.integers(-9, 1, n), rng.integers(-31, 31, n)).astype(np.int32)
        return _sums_sample(rng, m, n), multiplier, shift, _scales(rng, dtype, 1, n)[1]

    return sample


requantize_fixed_s8_sample = _requantize_fixed_sample(np.int8)
requantize_fixed_u8_sample = _requantize_fixed_sample(np.uint8)
requantize_fixed_u8, requantize_fixed_u8_bound = requantize_fixed_s8, requantize_fixed_s8_bound


# -- fake quantization, and its gradients
def _steps(q, zero, low, high):
    zero = 0 if zero is None else _spread(zero, len(q))
    return np.clip(np.rint(q) + zero, low, high) - zero


def fake_quantize_f32(x, scale, zero, low, high, y):
    """(clip(rint(x/scale) + zero, low, high) - zero)·scale, the quotient rounded to float32; NaN is an error."""
    if np.isnan(x).any():
        raise NanError("an operand holds NaN")
    scale = _spread(scale, len(x))
    with np.errstate(over="ignore"):
        q = x / scale
    y[...] = _steps(q, zero, low, high) * scale.astype(np.float64)


def fake_quantize_f32_bound(x, scale, zero, low, high, y):
    return U * np.abs(y) + TINY


def fake_quantize_f32_chain(x, scale, zero, low, high, y):
    scale = _spread(scale, len(x))
    with np.errstate(over="ignore"):
        y[...] = _steps(x / scale, zero, low, high).astype(np.float32) * scale


def fake_quantize_f32_sample(rng, m, k, g=None):
    dtype, low, high = [(np.int8, -128, 127), (np.int8, -127, 127), (np.uint8, 0, 255)][rng.integers(3)]
    x, scale, zero = _quantize_sample(dtype)(rng, m, k, g)
    if x.size and rng.random() < 0.3:
        x[rng.integers(len(x)), rng.integers(k)] = rng.choice([np.inf, -np.inf])
    return x, scale, None if zero is None else np.maximum(zero, low), low, high


fake_quantize_columns_f32, fake_quantize_columns_f32_bound = fake_quantize_f32, fake_quantize_f32_bound
fake_quantize_columns_f32_chain, fake_quantize_columns_f32_sample = fake_quantize_f32_chain, fake_quantize_f32_sample

PART = 16384
"""Elements of a row that one sum takes."""


def _straight_through(grad, x, scale, zero, low, high):
    """dx; by what grad is multiplied for dscale; and where a code is outside."""
    if np.isnan(x).any():
        raise NanError("an operand holds NaN")
    zero = 0 if zero is None else zero[:, None]
    with np.errstate(over="ignore", under="ignore"):
        q = x / scale[:, None]
    code = np.rint(np.clip(q, -512, 512)).astype(np.int64) + zero
    kept = np.clip(code, low, high)
    inside = code == kept
    return np.where(inside, grad, np.float32(0)), (kept - zero) - np.where(inside, q, 0).astype(np.float64), ~inside


def _parts(terms):
    """[m, k] as [m, parts, PART], filled up with zeros."""
    m, k = terms.shape
    padded = np.zeros((m, -(-k // PART) * PART))
    padded[:, :k] = terms
    return padded.reshape(m, -(-k // PART), PART)


def fake_quantize_backward_f32(grad, x, scale, zero, low, high, dx, dscale, dzero):
    """dx = grad inside, else 0; dscale = Σ grad·(code - zero - q), or of the bound; dzero = Σ -grad·scale outside."""
    dx[...], slope, outside = _straight_through(grad, x, scale, zero, low, high)
    dscale[...] = _parts(grad * slope).sum(axis=2)
    dzero[...] = _parts(np.where(outside, -grad * scale[:, None].astype(np.float64), 0)).sum(axis=2)


def fake_quantize_backward_f32_bound(grad, x, scale, zero, low, high, dx, dscale, dzero):
    """1024 additions in a lane, 4 folds, a product: 2^-42 of the sum of the terms' magnitudes."""
    _, slope, outside = _straight_through(grad, x, scale, zero, low, high)
    by_zero = np.where(outside, np.abs(grad * scale[:, None].astype(np.float64)), 0)
    return np.zeros(dx.shape), *(2.0**-42 * _parts(terms).sum(axis=2) for terms in (np.abs(grad * slope), by_zero))


def _lanes(parts):
    """The lanes' elements in turn: [m, parts, PART] -> PART/16 arrays [m, parts, 16]."""
    return np.moveaxis(parts.reshape(*parts.shape[:2], PART // LANES, LANES), 2, 0)


def _fold(lanes):
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


def fake_quantize_backward_f32_chain(grad, x, scale, zero, low, high, dx, dscale, dzero):
    """A lane adds grad·slope by fma, and grad outside; lanes are folded; the second sum is multiplied by -scale."""
    dx[...], slope, outside = _straight_through(grad, x, scale, zero, low, high)
    by_scale = by_zero = np.zeros((*dscale.shape, LANES))
    steps = -(-min(x.shape[1], PART) // LANES)  # of the longest part; past the end of another there are zeros
    for g, s, o in zip(*(_lanes(_parts(v))[:steps] for v in (grad, slope, np.where(outside, grad, 0))), strict=True):
        by_scale, by_zero = fma64(g, s, by_scale), by_zero + o
    dscale[...] = _fold(by_scale)
    dzero[...] = _fold(by_zero) * -scale[:, None].astype(np.float64)


def fake_quantize_backward_f32_sample(rng, m, k):
    low, high = (-127, 127) if rng.random() < 0.5 else (0, 255)
    scale = rng.uniform(0.1, 1, m).astype(np.float32)
    zero = rng.integers(low, high + 1, m, np.int32) if low == 0 or rng.random() < 0.5 else None
    x = (rng.standard_normal((m, k)) * 50).astype(np.float32)
    if x.size and rng.random() < 0.3:
        x[rng.integers(m), rng.integers(k)] = rng.choice([np.inf, -np.inf])
    return rng.standard_normal((m, k)).astype(np.float32), x, scale, zero, low, high
