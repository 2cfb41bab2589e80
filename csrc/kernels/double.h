/* exp and log in double, for what must be told apart where float terms are not enough. */
#ifndef PC_DOUBLE_H
#define PC_DOUBLE_H

#include <math.h>

#include "elementary.h"

/* From 2 to this down a term is 0: beside 1 nothing, and far from where a double loses bits. */
#define PC_LEAST_EXPONENT (-996.0)

/* Vectors of doubles that are worked on together, so that their long chains overlap, where the registers hold them. */
#define PC_DOUBLES_TOGETHER (PC_TILE_VECTORS(1) >= 8 ? 2 : 1)

/* 2^(x scale) for x scale <= 900, within 1 ulp + |x scale| 2^-53; 0 from 2^PC_LEAST_EXPONENT down, and for NaN. Minimax,
 * 2^-55. */
PC_INLINE void vd_exp2_each(int count, const vd16 *x, vd16 scale, vd16 *y) {
  static const double coefficients[] = {
      0x1.e6065056e8f53p-28, 0x1.b524dcae950b6p-24, 0x1.62bfd46ef13e9p-20, 0x1.ffcbfc74460bfp-17, 0x1.4309130972ab4p-13,
      0x1.5d87fe78a2cb1p-10, 0x1.3b2ab6fba1dcfp-7,  0x1.c6b08d704a0cbp-5,  0x1.ebfbdff82c598p-3,  0x1.62e42fefa39efp-1, 1.0};
  const vd16 integer = vd_set1(0x1.8p52), least = vd_set1(0x1.8p52 + PC_LEAST_EXPONENT);
  vd16 n[PC_DOUBLES_TOGETHER], f[PC_DOUBLES_TOGETHER], p[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) n[c] = vd_fma(x[c], scale, integer);
  PC_OF_EACH(count) f[c] = vd_fma(x[c], scale, vd_sub(integer, n[c]));
  PC_OF_EACH(count) p[c] = vd_set1(0x1.ea045749d10d2p-32);
#pragma GCC unroll 11
  for (int k = 0; k < 11; k++)
    PC_OF_EACH(count) p[c] = vd_fma(p[c], f[c], vd_set1(coefficients[k]));
  PC_OF_EACH(count) y[c] = vd_select_lt(least, n[c], vd_scale2(p[c], n[c]), vd_zero());
}

PC_INLINE void vd_exp_each(int count, const vd16 *z, vd16 *y) { vd_exp2_each(count, z, vd_set1(PC_LOG2E_DOUBLE), y); }

/* Logarithms: vd_log_each of what is at most 2, such as a ratio; pc_log of one that may be any size, such as a sum of terms;
 * pc_log_lanes of sixteen of those, with the bits of pc_log. */

#define PC_LEAST_LOGARITHM 0x1p-126 /* what may be raised to it before its logarithm is taken */

/* log w for 2^-126 <= w <= 2, within 2^-51 |log w|: w = 2^k m, m in [sqrt 1/2, sqrt 2] and a little, and the series of atanh
 * at f = (m - 1)/(m + 1), minimax, 2^-57. */
PC_INLINE void vd_log_each(int count, const vd16 *w, vd16 *log) {
  static const double coefficients[] = {0x1.39fd25d62ab23p-4, 0x1.7462be245eae3p-4, 0x1.c71c62c42db89p-4,
                                        0x1.2492492e0b70cp-3, 0x1.99999999951f5p-3, 0x1.5555555555558p-2};
  const vd16 one = vd_set1(1.0);
  vd16 k[PC_DOUBLES_TOGETHER], f[PC_DOUBLES_TOGETHER], s[PC_DOUBLES_TOGETHER], p[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) {
    k[c] = vd_from_vf(vf_from_vi(vi_exponent(vi_from_bits(vf_from_vd(w[c])))));
    const vd16 m = vd_scale2(w[c], vd_sub(vd_set1(0x1.8p52), k[c]));
    f[c] = vd_div(vd_sub(m, one), vd_add(m, one));
    s[c] = vd_mul(f[c], f[c]);
    p[c] = vd_set1(0x1.2b6776a1bf0b9p-4);
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; i++)
    PC_OF_EACH(count) p[c] = vd_fma(p[c], s[c], vd_set1(coefficients[i]));
  PC_OF_EACH(count) {
    const vd16 half = vd_fma(vd_mul(f[c], s[c]), p[c], f[c]);
    log[c] = vd_fma(k[c], vd_set1(PC_LOG2_DOUBLE), vd_add(half, half));
  }
}

/* log of a finite x > 0, within 2^-50 relative to max(1, |log x|): atanh series about sqrt 1/2 .. sqrt 2. */
PC_INLINE double pc_log(double x) {
  int k;
  double m = frexp(x, &k);
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2.0;
    k -= 1;
  }
  const double f = (m - 1.0) / (m + 1.0), s = f * f;
  double p = 1.0 / 23.0;
  for (int i = 21; i > 1; i -= 2) p = fma(p, s, 1.0 / i);
  return fma(k, PC_LOG2_DOUBLE, 2.0 * fma(f * s, p, f));
}

/* The same of sixteen that floats can be near, step by step. */
PC_INLINE vd16 pc_log_lanes(vd16 x) {
  const vd16 one = vd_set1(1.0), least = vd_set1(0x1.6a09e667f3bcdp-1), most = vd_set1(0x1.6a09e667f3bcdp+0);
  const vd16 near = vd_from_vf(vf_from_vi(vi_exponent(vi_from_bits(vf_from_vd(x)))));
  const vd16 near_m = vd_scale2(x, vd_sub(vd_set1(0x1.8p52), near)); /* next to these bounds a float may be past them */
  const vd16 k = vd_select_lt(near_m, least, vd_sub(near, one), vd_select_lt(near_m, most, near, vd_add(near, one)));
  const vd16 m = vd_select_lt(near_m, least, vd_add(near_m, near_m),
                              vd_select_lt(near_m, most, near_m, vd_mul(near_m, vd_set1(0.5))));
  const vd16 f = vd_div(vd_sub(m, one), vd_add(m, one)), s = vd_mul(f, f);
  vd16 p = vd_set1(1.0 / 23.0);
  for (int i = 21; i > 1; i -= 2) p = vd_fma(p, s, vd_set1(1.0 / i));
  const vd16 half = vd_fma(vd_mul(f, s), p, f);
  return vd_fma(k, vd_set1(PC_LOG2_DOUBLE), vd_add(half, half));
}
#endif
