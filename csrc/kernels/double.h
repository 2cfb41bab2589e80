/* exp and log of double lanes, for what must be told apart where float terms are not enough. */
#ifndef PC_DOUBLE_H
#define PC_DOUBLE_H

#include "elementary.h"

/* Below this e^z is 0: beside 1 nothing, and far from where a double loses bits. */
#define PC_LEAST_EXPONENT (-690.0)

PC_INLINE vd16 vd_add(vd16 a, vd16 b) { return vd_fma(a, vd_set1(1.0), b); }

/* (e^r - 1 - r)/r^2 for |r| <= log(2)/2 and a little, minimax, within 2^-55 of its value 1/2 at 0. */
PC_INLINE vd16 vd_second_order(vd16 r) {
  static const double coefficients[] = {
      0x1.289186064e3e4p-22, 0x1.71ddf6b531638p-19, 0x1.a019b90c8bbfcp-16, 0x1.a01a01b00bbf8p-13, 0x1.6c16c1788c091p-10,
      0x1.111111110f804p-7,  0x1.5555555553d62p-5,  0x1.5555555555558p-3,  0x1.0000000000001p-1};
  vd16 p = vd_set1(0x1.af63286b26cb8p-26);
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++) p = vd_fma(p, r, vd_set1(coefficients[k]));
  return p;
}

/* e^z for z <= 600, within 2 ulp; 0 from PC_LEAST_EXPONENT down. NaN gives 0. */
PC_INLINE vd16 vd_exp(vd16 z) {
  const vd16 integer = vd_set1(0x1.8p52), one = vd_set1(1.0);
  const vd16 n = vd_fma(z, vd_set1(0x1.71547652b82fep+0), integer), k = vd_sub(integer, n);
  const vd16 r = vd_fma(k, vd_set1(0x1.a39ef35793c76p-33), vd_fma(k, vd_set1(0x1.62e42feep-1), z));
  const vd16 e = vd_scale2(vd_fma(vd_fma(vd_mul(r, r), vd_second_order(r), r), one, one), n);
  return vd_select_lt(vd_set1(PC_LEAST_EXPONENT), z, e, vd_zero());
}

typedef struct { vd16 log, inverse; } pc_logarithm;

/* log w for 2^-126 <= w <= 2, within 2^-51 max(1, |log w|), and 1/w within 4 ulp; given the float's logarithm, by what
 * w e^-log w lacks. */
PC_INLINE pc_logarithm vd_log_from(vd16 w, vf16 of_float) {
  const vd16 one = vd_set1(1.0), rough = vd_from_vf(of_float);
  const vd16 v = vd_exp(vd_sub(vd_zero(), rough)), e = vd_fma(w, v, vd_set1(-1.0));
  const vd16 bend = vd_fma(e, vd_fma(e, vd_set1(1.0 / 3.0), vd_set1(-0.5)), one);
  const vd16 shrink = vd_fma(e, vd_fma(e, vd_sub(one, e), vd_set1(-1.0)), one); /* 1/(1 + e) */
  return (pc_logarithm){vd_fma(e, bend, rough), vd_mul(v, shrink)};
}
#endif
