/* exp and log of double lanes, for what must be told apart where float terms are not enough. */
#ifndef PC_DOUBLE_H
#define PC_DOUBLE_H

#include "elementary.h"

/* From 2 to this down a term is 0: beside 1 nothing, and far from where a double loses bits. */
#define PC_LEAST_EXPONENT (-996.0)

/* Vectors of doubles that are worked on together, so that their long chains overlap, where the registers hold them. */
#define PC_DOUBLES_TOGETHER (PC_TILE_VECTORS(1) >= 8 ? 2 : 1)

/* (e^r - 1 - r)/r^2 for |r| <= log(2)/2 and a little, minimax, within 2^-55 of its value 1/2 at 0. */
PC_INLINE void vd_second_order_each(int count, const vd16 *r, vd16 *p) {
  static const double coefficients[] = {
      0x1.289186064e3e4p-22, 0x1.71ddf6b531638p-19, 0x1.a019b90c8bbfcp-16, 0x1.a01a01b00bbf8p-13, 0x1.6c16c1788c091p-10,
      0x1.111111110f804p-7,  0x1.5555555553d62p-5,  0x1.5555555555558p-3,  0x1.0000000000001p-1};
  PC_OF_EACH(count) p[c] = vd_set1(0x1.af63286b26cb8p-26);
#pragma GCC unroll 9
  for (int k = 0; k < 9; k++)
    PC_OF_EACH(count) p[c] = vd_fma(p[c], r[c], vd_set1(coefficients[k]));
}

#define PC_LOG2E_DOUBLE 0x1.71547652b82fep+0

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

#define PC_LEAST_LOGARITHM 0x1p-126 /* what may be raised to it before its logarithm is taken */

typedef struct { vd16 log, inverse; } pc_logarithm;

/* log w for 2^-126 <= w <= 2, within 2^-51 max(1, |log w|), and 1/w within 4 ulp: from the float's logarithm, by what
 * w e^-log w lacks. */
PC_INLINE void vd_log_each(int count, const vd16 *w, pc_logarithm *l) {
  const vd16 one = vd_set1(1.0);
  vd16 rough[PC_DOUBLES_TOGETHER], minus[PC_DOUBLES_TOGETHER], v[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) rough[c] = vd_from_vf(vf_log(vf_from_vd(w[c])));
  PC_OF_EACH(count) minus[c] = vd_sub(vd_zero(), rough[c]);
  vd_exp_each(count, minus, v);
  PC_OF_EACH(count) {
    const vd16 e = vd_fma(w[c], v[c], vd_set1(-1.0));
    const vd16 bend = vd_fma(e, vd_fma(e, vd_set1(1.0 / 3.0), vd_set1(-0.5)), one);
    const vd16 shrink = vd_fma(e, vd_fma(e, vd_sub(one, e), vd_set1(-1.0)), one); /* 1/(1 + e) */
    l[c] = (pc_logarithm){vd_fma(e, bend, rough[c]), vd_mul(v[c], shrink)};
  }
}
#endif
