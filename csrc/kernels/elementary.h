/* exp and log, written once on the vocabulary, and the polynomials that other kernels make theirs of: within 1 ulp of the exact
 * value on every float (all 2^32 are tried by tests/distillation/test_elementary.py), subnormals, zeros, infinities and NaN
 * included.
 * Coefficients: minimax for the relative error of the result, each rounded to float and the rest refitted. */
#ifndef PC_ELEMENTARY_H
#define PC_ELEMENTARY_H

#include <math.h>

#include "vocabulary.h"

/* Vectors that are worked on together, step by step: so many chains of operations hide each other's latency, where the
 * registers hold them. */
#define PC_TOGETHER (PC_TILE_VECTORS(1) >= 8 ? 4 : 2)
#define PC_OF_EACH(count) _Pragma("GCC unroll 4") for (int c = 0; c < (count); c++)

/* log2(e) in two floats, since the rounding of a single product would show in the result; and in one double. */
#define PC_LOG2E 0x1.715476p+0f
#define PC_LOG2E_LOW 0x1.4ae0cp-26f
#define PC_LOG2E_DOUBLE 0x1.71547652b82fep+0

/* Of 2^f, |f| <= 1/2 and a little: the coefficient of f^6 first, down to that of f; then comes 1. */
static const float pc_exp2_coefficients[] = {0x1.417810p-13f, 0x1.5f0950p-10f, 0x1.3b2dd4p-7f,
                                             0x1.c6af7ap-5f,  0x1.ebfbdcp-3f,  0x1.62e430p-1f};

/* t 2^-down for finite t >= 0 and 0 < down < 126, rounded as a product. That would take some CPUs a hundred times as long where it is
 * subnormal; added to 1, t rounds to the same places. */
PC_INLINE vf16 vf_lowered(vf16 t, int down) {
  const vf16 one = vf_set1(1.0f), up = vf_set1(ldexpf(1.0f, 126 - down));
  const vi16 subnormal = vi_sub(vi_from_bits(vf_fma(t, up, one)), vi_from_bits(one));
  const vi16 normal = vi_sub(vi_from_bits(t), vi_set1(down << 23));
  return vf_select(vf_lt(t, vf_set1(ldexpf(1.0f, down - 126))), vf_from_bits(subnormal), vf_from_bits(normal));
}

/* size 2^n for size >= 0 or NaN, which from 2^least up is not subnormal. */
PC_INLINE vf16 vf_times_power(vf16 size, vf16 n, float least) {
  const vm16 small = vf_lt(n, vf_set1(least));
  const vf16 usual = vf_scale2(size, vf_max(vf_set1(least), n));
  if (!vm_bits(small)) return usual;
  return vf_select(small, vf_lowered(vf_scale2(size, vf_add(n, vf_set1(64.0f))), 64), usual);
}

/* e^x = 2^f 2^whole, |f| <= 1/2 and a little. Clamped where the result is 0 or infinite; the operand order keeps NaN. h - d is
 * x log2(e), h rounded and d what that takes away. */
PC_INLINE vf16 vf_exp(vf16 x) {
  x = vf_min(vf_set1(89.0f), vf_max(vf_set1(-104.0f), x));
  const vf16 h = vf_mul(x, vf_set1(PC_LOG2E)), whole = vf_rint(h);
  const vf16 d = vf_fnma(x, vf_set1(PC_LOG2E_LOW), vf_fnma(x, vf_set1(PC_LOG2E), h));
  const vf16 f = vf_sub(vf_sub(h, whole), d);
  vf16 q = vf_set1(pc_exp2_coefficients[0]);
#pragma GCC unroll 5
  for (int k = 1; k < 6; k++) q = vf_fma(q, f, vf_set1(pc_exp2_coefficients[k]));
  return vf_times_power(vf_fma(q, f, vf_set1(1.0f)), whole, -125.0f);
}

/* log(2): 16 bits, and the rest; and in one double */
#define PC_LOG2_HIGH 0x1.62e4p-1f
#define PC_LOG2_LOW 0x1.7f7d1cp-20f
#define PC_LOG2_DOUBLE 0x1.62e42fefa39efp-1

/* k, x = 2^k m with m in [sqrt 1/2, sqrt 2), of the bits of a normal float x > 0. The shift brings no sign down. */
PC_INLINE vi16 vi_exponent(vi16 bits) {
  const vi16 above = vi_sub(bits, vi_set1(0x3f3504f3)); /* sqrt 1/2 */
  return vi_sub(vi_shr(vi_add(above, vi_set1(0x40000000)), 23), vi_set1(0x80));
}

/* log(x) = k log 2 + log(1 + f), x = 2^k (1 + f), 1 + f in [sqrt 1/2, sqrt 2): f is exact, and so is k times the high
 * part of log 2. */
PC_INLINE vf16 vf_log(vf16 x) {
  const vf16 zero = vf_zero(), infinity = vf_set1(INFINITY);
  const vm16 small = vf_lt(x, vf_set1(0x1p-126f));
  const vi16 bits = vi_from_bits(vf_select(small, vf_from_vi(vi_from_bits(x)), x)); /* of 2^149 x where that is subnormal */
  const vi16 exponent = vi_exponent(bits);
  const vf16 k = vf_sub(vf_from_vi(exponent), vf_select(small, vf_set1(149.0f), zero));
  const vf16 f = vf_sub(vf_from_bits(vi_sub(bits, vi_shl(exponent, 23))), vf_set1(1.0f));
  vf16 p = vf_set1(-0x1.38d1e2p-4f);
  p = vf_fma(p, f, vf_set1(0x1.05620cp-3f));
  p = vf_fma(p, f, vf_set1(-0x1.0d8266p-3f));
  p = vf_fma(p, f, vf_set1(0x1.22d8d8p-3f));
  p = vf_fma(p, f, vf_set1(-0x1.547282p-3f));
  p = vf_fma(p, f, vf_set1(0x1.99a01ep-3f));
  p = vf_fma(p, f, vf_set1(-0x1.000226p-2f));
  p = vf_fma(p, f, vf_set1(0x1.555554p-2f));
  const vf16 ff = vf_mul(f, f);
  vf16 r = vf_fma(vf_mul(ff, f), p, vf_fma(k, vf_set1(PC_LOG2_LOW), vf_mul(ff, vf_set1(-0.5f))));
  r = vf_fma(k, vf_set1(PC_LOG2_HIGH), vf_add(f, r));
  r = vf_select(vf_eq(x, zero), vf_set1(-INFINITY), vf_select(vf_lt(x, zero), vf_set1(NAN), r));
  return vf_select(vf_lt(x, infinity), r, vf_mul(x, infinity)); /* infinity, or NaN */
}
#endif
