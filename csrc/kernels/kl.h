/* Terms of Kullback-Leibler divergences, which keep their meaning where the two distributions agree. */
#ifndef PC_KL_H
#define PC_KL_H

#include "double.h"

/* (e^r - 1 - r)/r^2 for |r| <= 1/16, minimax, 2^-43. */
PC_INLINE void pc_second_order_each(int count, const vd16 *r, vd16 *p) {
  static const double coefficients[] = {0x1.6c2082275ac6ap-10, 0x1.1111110410154p-7, 0x1.555555381308ep-5, 0x1.555555555560ep-3,
                                        0x1.00000000001a0p-1};
  PC_OF_EACH(count) p[c] = vd_set1(0x1.a022acec2ec86p-13);
#pragma GCC unroll 5
  for (int k = 0; k < 5; k++)
    PC_OF_EACH(count) p[c] = vd_fma(p[c], r[c], vd_set1(coefficients[k]));
}

/* a (D + expm1(-D)), D = log a - log b; b where a is 0. From |D| = 1/16 up it is a D + (b - a): what cancels is 2^-9 of a. */
PC_INLINE void pc_kl_each(int count, const vd16 *a, const vd16 *b, const vd16 *log_ratio, vd16 *kl) {
  const vd16 zero = vd_zero();
  vd16 opposite[PC_DOUBLES_TOGETHER], bend[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) opposite[c] = vd_sub(zero, log_ratio[c]);
  pc_second_order_each(count, opposite, bend);
  PC_OF_EACH(count) {
    const vd16 square = vd_mul(log_ratio[c], log_ratio[c]), near = vd_mul(a[c], vd_mul(square, bend[c]));
    const vd16 far = vd_fma(a[c], log_ratio[c], vd_sub(b[c], a[c]));
    kl[c] = vd_select_lt(zero, a[c], vd_select_lt(square, vd_set1(0x1p-8), near, far), b[c]);
  }
}

/* Of two parts, p and q, whose log ratio is d: their logarithms over m = share_p p + share_q q, and p/m and q/m. */
typedef struct {
  vd16 log_p[PC_DOUBLES_TOGETHER], log_q[PC_DOUBLES_TOGETHER], p[PC_DOUBLES_TOGETHER], q[PC_DOUBLES_TOGETHER];
} pc_ratios;

PC_INLINE void pc_ratios_to(int count, vd16 share_p, vd16 share_q, const vd16 *d, pc_ratios *to) {
  const vd16 zero = vd_zero(), one = vd_set1(1.0);
  /* the smaller of p and q over the larger, and m over the larger */
  vd16 down[PC_DOUBLES_TOGETHER], smaller[PC_DOUBLES_TOGETHER], w[PC_DOUBLES_TOGETHER];
  vd16 log[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) down[c] = vd_sub(zero, vd_max(d[c], vd_sub(zero, d[c])));
  vd_exp_each(count, down, smaller);
  PC_OF_EACH(count) {
    w[c] = vd_fma(vd_select_lt(zero, d[c], share_q, share_p), smaller[c], vd_select_lt(zero, d[c], share_p, share_q));
    w[c] = vd_max(w[c], vd_set1(PC_LEAST_LOGARITHM));
  }
  vd_log_each(count, w, log);
  PC_OF_EACH(count) {
    to->log_p[c] = vd_sub(vd_select_lt(d[c], zero, down[c], zero), log[c]);
    to->log_q[c] = vd_sub(vd_select_lt(zero, d[c], down[c], zero), log[c]);
    const vd16 inverse = vd_div(one, w[c]);
    to->p[c] = vd_mul(vd_select_lt(d[c], zero, smaller[c], one), inverse);
    to->q[c] = vd_mul(vd_select_lt(zero, d[c], smaller[c], one), inverse);
  }
}

/* The two answers to a logit z are parts of 1 whose log ratio it is: p of `pc_ratios` is yes, q is no. */
PC_INLINE void pc_answers_each(int count, const vd16 *z, pc_ratios *to) {
  pc_ratios_to(count, vd_set1(1.0), vd_set1(1.0), z, to);
}
#endif
