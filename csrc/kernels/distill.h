/* What rows of the distillation loss (distill.c) share, whether they lie as rows or were turned into columns: the call, the terms of
 * KL and the gradient, and what the label adds. */
#ifndef PC_DISTILL_H
#define PC_DISTILL_H

#include "softmax.h"

typedef struct {
  int64_t n;
  const float *student;
  int64_t ldstudent;
  const float *teacher;
  int64_t ldteacher;
  const int64_t *labels;
  double temperature, soft, hard, smoothing;
  const double *scale; /* of each row's gradient */
  double *loss;
  float *grad; /* NULL: the loss alone */
  int64_t ldgrad;
} job;

/* e^-d - 1 + d over d^2 for |d| < 1/2, within 13 u relative */
PC_INLINE vf16 second_order(vf16 d) {
  vf16 g = vf_set1(0x1.6cd0d0p-10f);
  g = vf_fma(g, d, vf_set1(-0x1.13182ep-7f));
  g = vf_fma(g, d, vf_set1(0x1.5556d6p-5f));
  g = vf_fma(g, d, vf_set1(-0x1.555354p-3f));
  return vf_fma(g, d, vf_set1(0x1.fffffep-2f));
}

/* d = (t - s - apart)/T. Near the optimum t - s and `apart` cancel, so both are kept in two floats: the first by Knuth's
 * exact sum. As in the terms, a base that is far off zero is taken away first. Quarters, so that nothing overflows. */
typedef struct { vf16 base_t, base_s, high, low, factor; } gap;

PC_INLINE gap gap_of(vd16 apart, vf16 base_t, vf16 base_s, double temperature) {
  const vd16 most = vd_set1(FLT_MAX), least = vd_set1(-FLT_MAX), quarter = vd_mul(apart, vd_set1(0.25));
  const vd16 c = vd_select_lt(most, quarter, most, vd_select_lt(quarter, least, least, quarter));
  const vf16 high = vf_from_vd(c), minus_quarter = vf_set1(-0.25f);
  return (gap){vf_mul(minus_quarter, base_t), vf_mul(minus_quarter, base_s), high, vf_from_vd(vd_sub(c, vd_from_vf(high))),
               vf_set1((float)fmin(4.0 / temperature, FLT_MAX))};
}

PC_INLINE vf16 gap_between(vf16 t, vf16 s, const gap *g) {
  t = vf_fma(t, vf_set1(0.25f), g->base_t);
  s = vf_fma(s, vf_set1(0.25f), g->base_s);
  const vf16 high = vf_sub(t, s), of_s = vf_sub(t, high), of_t = vf_add(high, of_s);
  const vf16 low = vf_sub(vf_sub(t, of_t), vf_sub(s, of_s));
  const vf16 rest = vf_max(vf_sub(low, g->low), vf_set1(-FLT_MAX)); /* NaN where t - s is infinite */
  return vf_mul(vf_add(vf_sub(high, g->high), rest), g->factor);
}

/* Two rows, whose terms are known up to their sums; or sixteen of them, turned into columns. */
typedef struct {
  const float *s, *t, *kept_s, *kept_t; /* kept: the terms, or NULL */
  float *grad;                          /* NULL, or where step (q - p) goes */
  pc_terms student, teacher;
  vf16 rs, rt, step;
  gap gap;
} rows;

typedef struct { vf16 kl, pd; } sums;

/* The part of KL and of sum p d that the next lanes have. */
PC_INLINE sums diverge(const rows *r, int64_t i, int64_t left, sums to) {
  const vf16 s = pc_load_row(r->s + i, left), t = pc_load_row(r->t + i, left);
  const vf16 q = vf_mul(r->kept_s ? vf_load_left(r->kept_s + i, left) : pc_term(s, &r->student), r->rs);
  const vf16 p = vf_mul(r->kept_t ? vf_load_left(r->kept_t + i, left) : pc_term(t, &r->teacher), r->rt);
  const vf16 d = gap_between(t, s, &r->gap), excess = vf_sub(q, p), dd = vf_mul(d, d), bend = vf_mul(dd, second_order(d));
  const vm16 near = vf_lt(dd, vf_set1(0.25f));
  const vf16 pd = vf_select(vf_eq(p, vf_zero()), p, vf_mul(p, d));
  if (r->grad) pc_store_row(r->grad + i, left, vf_mul(r->step, excess));
  return (sums){vf_add(to.kl, vf_select(near, vf_mul(p, bend), vf_add(pd, excess))), vf_add(to.pd, pd)};
}

/* KL, from the sum of its terms and that of p d. */
static inline double closed(double sum, double pd) {
  const double b = sum - pd, total = sum - b * b * (0.5 - b * (1.0 / 3.0));
  return sum == INFINITY ? sum : total < 0.0 ? 0.0 : total; /* NaN stays */
}

static inline double soft_part(const job *j, double kl) { return j->soft == 0.0 && kl == INFINITY ? 0.0 : j->soft * kl; }

static inline double own(const job *j) { return 1.0 - j->smoothing; }
static inline double even(const job *j) { return j->smoothing / (double)j->n; }

/* The cross entropy, from the logarithm of the sum of exp(s - max) and from what is below max; the label's part of the gradient. */
static inline double at_label(const job *j, const float *s, float max, int64_t label, double scale, float *grad, double log_sum,
                              double below) {
  if (grad) grad[label] -= (float)(scale * j->hard * own(j));
  const double of_label = own(j) > 0.0 ? own(j) * ((double)max - (double)s[label]) : 0.0;
  return log_sum + of_label + (even(j) > 0.0 ? even(j) * below : 0.0);
}
#endif
