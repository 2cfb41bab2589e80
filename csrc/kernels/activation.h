/* The activations that products end in, written once on the vocabulary.
 *
 * gelu, gelu_tanh and silu are max(x, 0) less a tail, t g(t) with t = |x|:
 *     gelu(x) = x Phi(x)                       g(t) = Phi(-t) = 2^-a R(t),  a = t^2 / (2 log 2)
 *     silu(x) = x / (1 + e^-x)                 g(t) = 2^-a / (1 + 2^-a),    a = t / log 2
 *     gelu_tanh(x) = x (1 + tanh(c x (1 + 0.044715 x^2))) / 2, c^2 = 2/pi: as silu, a = 2 c t (1 + 0.044715 t^2) / log 2
 * which keeps the relative error of negative results, tails of 2^-149 included. In double, rounded once: within 1 ulp of
 * the exact value on every float (all 2^32 are tried by tests/dense/test_activations.py). */
#ifndef PC_ACTIVATION_H
#define PC_ACTIVATION_H

#include "elementary.h"
#include "table.h"

/* Where each tail is 0 in float; a is below 160 there. */
#define PC_GELU_END 14.6f
#define PC_GELU_TANH_END 10.8f
#define PC_SILU_END 109.0f
/* A tail with this power of two or more is not subnormal, unless x is: its other factors are above 2^-6 where x is not small. */
#define PC_LEAST_TAIL (-120.0f)

PC_INLINE vd16 pc_reciprocal(vd16 x) {
  const vd16 w = vd_from_vf(vf_div(vf_set1(1.0f), vf_from_vd(x)));
  return vd_fma(w, vd_sub(vd_set1(1.0), vd_mul(x, w)), w);
}

/* 2^-a = m 2^-n, 0 <= a <= 160, m in [sqrt 1/2, sqrt 2]: the polynomial of vf_exp. */
typedef struct { vd16 m; vf16 n; } pc_power;

PC_INLINE pc_power pc_exp2_minus(vd16 a) {
  const vf16 whole = vf_rint(vf_from_vd(a));
  const vd16 f = vd_sub(vd_from_vf(whole), a);
  vd16 q = vd_set1(pc_exp2_coefficients[0]);
#pragma GCC unroll 5
  for (int k = 1; k < 6; k++) q = vd_fma(q, f, vd_set1(pc_exp2_coefficients[k]));
  return (pc_power){vd_fma(q, f, vd_set1(1.0)), vf_sub(vf_zero(), whole)};
}

/* 2^n in double. Where it would be subnormal, which is slow, nothing that it is added to can tell it from 2^-126. */
PC_INLINE vd16 pc_scale(pc_power p) { return vd_from_vf(vf_scale2(vf_set1(1.0f), vf_max(p.n, vf_set1(-126.0f)))); }

/* max(x, 0) - t m 2^n r. NaN: t is a number, x brings it in. Lanes that need no tail of their own, since it is 0 or only
 * added, are kept from making it: it would be subnormal. */
PC_INLINE vf16 pc_less_tail(vf16 x, float end, vd16 t, pc_power p, vd16 r) {
  const vd16 tail = vd_mul(vd_mul(vd_sub(vd_set1(-0.0), t), p.m), r);
  const vm16 negative = vf_lt(x, vf_zero()), alone = vm_and(negative, vf_lt(vf_set1(-end), x));
  const vf16 size = vf_select(alone, vf_abs(vf_from_vd(tail)), vf_zero()), n = vf_select(alone, p.n, vf_zero());
  const vf16 lone = vf_sub(vf_set1(-0.0f), vf_times_power(size, n, PC_LEAST_TAIL));
  return vf_select(negative, lone, vf_from_vd(vd_fma(tail, pc_scale(p), vd_from_vf(x))));
}

/* R(t) = Phi(-t) e^(t^2/2) = w S(w), w = 1 / (1 + t/4): S is smooth to the end, which R is not in t. Minimax, 2^-26.7. */
PC_INLINE vf16 vf_gelu(vf16 x) {
  const vd16 t = vd_from_vf(vf_min(vf_abs(x), vf_set1(PC_GELU_END)));
  const pc_power p = pc_exp2_minus(vd_mul(vd_mul(t, t), vd_set1(PC_LOG2E_DOUBLE / 2)));
  const vd16 w = pc_reciprocal(vd_fma(t, vd_set1(0.25), vd_set1(1.0)));
  vd16 s = vd_set1(0x1.16aebc7bbd895p-6);
  s = vd_fma(s, w, vd_set1(-0x1.0b02ae9bfa6bap-4));
  s = vd_fma(s, w, vd_set1(0x1.d6a3167f8a39cp-5));
  s = vd_fma(s, w, vd_set1(0x1.4f1ede8575003p-6));
  s = vd_fma(s, w, vd_set1(0x1.40e68225d319fp-6));
  s = vd_fma(s, w, vd_set1(0x1.533d6f73721dcp-4));
  s = vd_fma(s, w, vd_set1(0x1.2c92f15332ce8p-4));
  s = vd_fma(s, w, vd_set1(0x1.85f601e250680p-4));
  s = vd_fma(s, w, vd_set1(0x1.97aeb5cd694c6p-4));
  s = vd_fma(s, w, vd_set1(0x1.988f04ca90826p-4));
  return pc_less_tail(x, PC_GELU_END, t, p, vd_mul(s, w));
}

/* x / (1 + 2^-a), a growing with t */
PC_INLINE vf16 pc_gated(vf16 x, float end, vd16 t, vd16 a) {
  const pc_power p = pc_exp2_minus(a);
  return pc_less_tail(x, end, t, p, pc_reciprocal(vd_fma(p.m, pc_scale(p), vd_set1(1.0))));
}

PC_INLINE vf16 vf_silu(vf16 x) {
  const vd16 t = vd_from_vf(vf_min(vf_abs(x), vf_set1(PC_SILU_END)));
  return pc_gated(x, PC_SILU_END, t, vd_mul(t, vd_set1(PC_LOG2E_DOUBLE)));
}

/* k1 = 2 sqrt(2/pi) / log 2, k3 = 0.044715 k1 */
PC_INLINE vf16 vf_gelu_tanh(vf16 x) {
  const vd16 t = vd_from_vf(vf_min(vf_abs(x), vf_set1(PC_GELU_TANH_END)));
  return pc_gated(x, PC_GELU_TANH_END, t, vd_mul(t, vd_fma(vd_mul(t, t), vd_set1(0x1.a5a7cf7572a98p-4), vd_set1(0x1.26aec21bce759p+1))));
}

static inline int pc_is_activation(int32_t activation) { return activation >= PC_IDENTITY && activation <= PC_SILU; }

/* Out of line: a product's epilogue is compiled for every type of result. */
static __attribute__((noinline)) vf16 pc_activate_smoothly(vf16 x, int32_t activation) {
  return activation == PC_GELU ? vf_gelu(x) : activation == PC_GELU_TANH ? vf_gelu_tanh(x) : vf_silu(x);
}

PC_INLINE vf16 vf_activate(vf16 x, int32_t activation) {
  if (activation == PC_IDENTITY) return x;
  return activation == PC_RELU ? vf_relu(x) : pc_activate_smoothly(x, activation);
}

#endif
