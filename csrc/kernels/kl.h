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
  vd16 down[PC_DOUBLES_TOGETHER], ratio[PC_DOUBLES_TOGETHER], w[PC_DOUBLES_TOGETHER];
  vd16 log[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) down[c] = vd_sub(zero, vd_max(d[c], vd_sub(zero, d[c])));
  vd_exp_each(count, down, ratio);
  PC_OF_EACH(count) {
    w[c] = vd_fma(vd_select_lt(zero, d[c], share_q, share_p), ratio[c], vd_select_lt(zero, d[c], share_p, share_q));
    w[c] = vd_max(w[c], vd_set1(PC_LEAST_LOGARITHM));
  }
  vd_log_each(count, w, log);
  PC_OF_EACH(count) {
    to->log_p[c] = vd_sub(vd_select_lt(d[c], zero, down[c], zero), log[c]);
    to->log_q[c] = vd_sub(vd_select_lt(zero, d[c], down[c], zero), log[c]);
    const vd16 inverse = vd_div(one, w[c]);
    to->p[c] = vd_mul(vd_select_lt(d[c], zero, ratio[c], one), inverse);
    to->q[c] = vd_mul(vd_select_lt(zero, d[c], ratio[c], one), inverse);
  }
}

/* The two answers to a logit z are parts of 1 whose log ratio it is: p of `pc_ratios` is yes, q is no. */
PC_INLINE void pc_answers_each(int count, const vd16 *z, pc_ratios *to) {
  pc_ratios_to(count, vd_set1(1.0), vd_set1(1.0), z, to);
}

/* f (1 + f^2/3 + f^4/5 + ...), the atanh of f, |f| <= 1/3, minimax, 2^-48. */
PC_INLINE vd16 pc_atanh_of_third(vd16 f) {
  static const double coefficients[] = {0x1.e1e1ba0add629p-5, 0x1.3ece78a4fb485p-4, 0x1.741de1ee95911p-4, 0x1.c71edcd550d22p-4,
                                        0x1.2492429f19618p-3, 0x1.999999aa911e8p-3, 0x1.555555554dcc9p-2};
  const vd16 s = vd_mul(f, f);
  vd16 p = vd_set1(0x1.7f56c484c3347p-4);
#pragma GCC unroll 7
  for (int k = 0; k < 7; k++) p = vd_fma(p, s, vd_set1(coefficients[k]));
  return vd_fma(vd_mul(f, s), p, f);
}

/* KL of the answers to logits s from those to logits t, and by how much likelier s makes yes. Let p <= 1/2 be the answer that t holds
 * less likely, -y its logit there, z = d - y its logit by s, u = e^-y, v = e^-|z|. Then p = u/(1 + u) and
 *   KL = log((1 + e^z)/(1 + u)) - p d = 2 atanh((v - u)/(2 + u + v)) + (z > 0 ? 1 - p : p) |z| - p y,
 * and where d is small, by the cumulants of p, w = p (1 - p) and b = (1 - 2p) d,
 *   KL = w d^2 (1/2 + b/6 + (1 - 6w) d^2/24 + (1 - 12w) b d^2/120): what is left out is 2^-36 of it. */
PC_INLINE void pc_binary_kl_each(int count, const vd16 *s, const vd16 *t, vd16 *kl, vd16 *more) {
  const vd16 zero = vd_zero(), one = vd_set1(1.0);
  vd16 y[PC_DOUBLES_TOGETHER], far[PC_DOUBLES_TOGETHER], u[PC_DOUBLES_TOGETHER], v[PC_DOUBLES_TOGETHER];
  PC_OF_EACH(count) u[c] = vd_sub(zero, y[c] = vd_max(t[c], vd_sub(zero, t[c])));
  PC_OF_EACH(count) v[c] = vd_sub(zero, far[c] = vd_max(s[c], vd_sub(zero, s[c])));
  vd_exp_each(count, u, u);
  vd_exp_each(count, v, v);
  PC_OF_EACH(count) {
    const vd16 z = vd_select_lt(zero, t[c], vd_sub(zero, s[c]), s[c]), d = vd_add(z, y[c]);
    const vd16 of_t = vd_add(one, u[c]), of_s = vd_add(one, v[c]), both = vd_add(of_t, of_s), product = vd_mul(of_t, of_s);
    const vd16 inverse = vd_div(one, vd_mul(product, both));
    const vd16 p = vd_mul(u[c], vd_mul(vd_mul(of_s, both), inverse));
    const vd16 q = vd_mul(vd_select_lt(zero, z, one, v[c]), vd_mul(vd_mul(of_t, both), inverse));
    const vd16 half = pc_atanh_of_third(vd_mul(vd_sub(v[c], u[c]), vd_mul(product, inverse)));
    const vd16 no = vd_sub(one, p), share = vd_select_lt(zero, z, no, p);
    const vd16 of_z = vd_select_lt(zero, share, vd_mul(far[c], share), zero), of_y = vd_select_lt(zero, p, vd_mul(p, y[c]), zero);
    const vd16 whole = vd_add(vd_add(half, half), vd_sub(of_z, of_y));
    const vd16 w = vd_mul(p, no), b = vd_mul(d, vd_sub(no, p)), dd = vd_mul(d, d);
    const vd16 even = vd_fma(dd, vd_fma(w, vd_set1(-0.25), vd_set1(1.0 / 24.0)), vd_set1(0.5));
    const vd16 odd = vd_fma(dd, vd_fma(w, vd_set1(-0.1), vd_set1(1.0 / 120.0)), vd_set1(1.0 / 6.0));
    kl[c] = vd_select_lt(dd, vd_set1(0x1p-14), vd_mul(vd_mul(w, dd), vd_fma(b, odd, even)), whole);
    more[c] = vd_select_lt(zero, t[c], vd_sub(p, q), vd_sub(q, p));
  }
}
#endif
