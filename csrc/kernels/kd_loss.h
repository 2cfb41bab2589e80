/* What rows of the distillation loss (kd_loss.c) share, whether they lie as rows or were turned into columns: the call, the terms of
 * KL and the gradient, and what the label adds. */
#ifndef PC_KD_LOSS_H
#define PC_KD_LOSS_H

#include "softmax.h"

typedef struct {
  int64_t n;
  const float *student;
  int64_t ldstudent;
  const float *teacher;
  int64_t ldteacher;
  const int64_t *labels; /* NULL: none */
  const double *temperature, *soft, *hard; /* of each row */
  double smoothing;
  double *loss;
  float *grad; /* NULL: the loss alone */
  int64_t ldgrad;
} job;

PC_INLINE double hard_of(const job *j, int64_t row) { return j->labels ? j->hard[row] : 0.0; }

/* Whether a row is looked at; else its loss and gradient are 0. */
PC_INLINE int counts(const job *j, int64_t row) { return j->soft[row] != 0.0 || hard_of(j, row) != 0.0; }

/* g = (e^-d - 1 + d)/d^2 for |d| < 1/2, within 13 u relative */
PC_INLINE void second_order(int count, const vf16 *d, vf16 *g) {
  PC_OF_EACH(count) g[c] = vf_fma(vf_set1(0x1.6cd0d0p-10f), d[c], vf_set1(-0x1.13182ep-7f));
  PC_OF_EACH(count) g[c] = vf_fma(g[c], d[c], vf_set1(0x1.5556d6p-5f));
  PC_OF_EACH(count) g[c] = vf_fma(g[c], d[c], vf_set1(-0x1.555354p-3f));
  PC_OF_EACH(count) g[c] = vf_fma(g[c], d[c], vf_set1(0x1.fffffep-2f));
}

/* d = (t - s - apart)/T. Near the optimum t - s and `apart` cancel, so both are kept in two floats: the first by Knuth's
 * exact sum. As in the terms, a base that is far off zero is taken away first. Quarters, so that nothing overflows. NaN where t or
 * s is -inf. */
typedef struct { vf16 base_t, base_s, high, low, factor; } gap;

PC_INLINE gap gap_of(vd16 apart, vf16 base_t, vf16 base_s, double temperature) {
  const vd16 most = vd_set1(FLT_MAX), least = vd_set1(-FLT_MAX), quarter = vd_mul(apart, vd_set1(0.25));
  const vd16 c = vd_select_lt(most, quarter, most, vd_select_lt(quarter, least, least, quarter));
  const vf16 high = vf_from_vd(c), minus_quarter = vf_set1(-0.25f);
  return (gap){vf_mul(minus_quarter, base_t), vf_mul(minus_quarter, base_s), high, vf_from_vd(vd_sub(c, vd_from_vf(high))),
               vf_set1((float)fmin(4.0 / temperature, FLT_MAX))};
}

PC_INLINE void gaps_between(int count, const vf16 *t, const vf16 *s, const gap *g, vf16 *d) {
  vf16 a[PC_TOGETHER], b[PC_TOGETHER], high[PC_TOGETHER], of_s[PC_TOGETHER], of_t[PC_TOGETHER], low[PC_TOGETHER];
  PC_OF_EACH(count) a[c] = vf_fma(t[c], vf_set1(0.25f), g->base_t), b[c] = vf_fma(s[c], vf_set1(0.25f), g->base_s);
  PC_OF_EACH(count) high[c] = vf_sub(a[c], b[c]);
  PC_OF_EACH(count) of_s[c] = vf_sub(a[c], high[c]);
  PC_OF_EACH(count) of_t[c] = vf_add(high[c], of_s[c]);
  PC_OF_EACH(count) low[c] = vf_sub(vf_sub(a[c], of_t[c]), vf_sub(b[c], of_s[c]));
  PC_OF_EACH(count) d[c] = vf_mul(vf_add(vf_sub(high[c], g->high), vf_sub(low[c], g->low)), g->factor);
}

/* What makes terms probabilities: the inverse of their sum, and a 2^106th of it. What is made of smaller ones is subnormal, which
 * takes some CPUs a hundred times as long, and adds nothing that shows, unless log p - log q is very large. */
typedef struct { vf16 inverse, least; } chances;
#define LARGE_GAP 0x1p30f

PC_INLINE chances chances_of(vd16 sum) {
  return (chances){vf_from_vd(vd_div(vd_set1(1.0), sum)), vf_from_vd(vd_mul(sum, vd_set1(0x1p-106)))};
}

PC_INLINE vm16 is_small(vf16 term, const chances *of) { return vf_lt(term, of->least); }

/* Terms of q and p, d apart, become probabilities. */
PC_INLINE void probabilities(int count, const chances *of_q, const chances *of_p, const vf16 *d, vf16 *q, vf16 *p) {
  vm16 small = vm_first(0);
  PC_OF_EACH(count) small = vm_or(small, vm_or(is_small(q[c], of_q), is_small(p[c], of_p)));
  if (vm_bits(small))
    PC_OF_EACH(count) {
      const vm16 shows = vf_above(vf_abs(d[c]), vf_set1(LARGE_GAP));
      q[c] = vf_select(is_small(q[c], of_q), vf_zero(), q[c]);
      p[c] = vf_select(is_small(p[c], of_p), vf_select(shows, p[c], vf_zero()), p[c]);
    }
  PC_OF_EACH(count) q[c] = vf_mul(q[c], of_q->inverse), p[c] = vf_mul(p[c], of_p->inverse);
}

/* Two rows, whose terms are known up to their sums; or sixteen of them, turned into columns. */
typedef struct {
  const float *s, *t, *kept_s, *kept_t; /* kept: the terms, if they are */
  float *grad;                          /* NULL, or where step (q - p) goes */
  pc_terms student, teacher;
  chances of_s, of_t;
  vf16 step;
  gap gap;
} rows;

typedef struct { vf16 kl, pd; } sums;

/* The part of KL and of sum p d that the next vectors have. kept: both rows' terms are. */
PC_INLINE sums diverge(int count, int kept, const rows *r, int64_t i, int64_t left, sums to) {
  vf16 s[PC_TOGETHER], t[PC_TOGETHER], p[PC_TOGETHER], q[PC_TOGETHER], d[PC_TOGETHER], g[PC_TOGETHER];
  PC_OF_EACH(count) {
    s[c] = pc_load_row(r->s + i + c * LANES, left - c * LANES);
    t[c] = pc_load_row(r->t + i + c * LANES, left - c * LANES);
  }
  gaps_between(count, t, s, &r->gap, d);
  if (kept) {
    PC_OF_EACH(count) {
      q[c] = vf_load_left(r->kept_s + i + c * LANES, left - c * LANES);
      p[c] = vf_load_left(r->kept_t + i + c * LANES, left - c * LANES);
    }
  } else {
    pc_term_each(count, s, &r->student, 1, q);
    pc_term_each(count, t, &r->teacher, 1, p);
  }
  probabilities(count, &r->of_s, &r->of_t, d, q, p);
  second_order(count, d, g);
  PC_OF_EACH(count) {
    const vf16 excess = vf_sub(q[c], p[c]);
    if (r->grad) vf_store_left(r->grad + i + c * LANES, left - c * LANES, vf_mul(r->step, excess));
    const vf16 pd = vf_select(vf_eq(p[c], vf_zero()), p[c], vf_mul(p[c], d[c])), bend = vf_mul(d[c], g[c]);
    const vm16 near = vf_lt(vf_abs(d[c]), vf_set1(0.5f));
    to = (sums){vf_add(to.kl, vf_select(near, vf_mul(pd, bend), vf_add(pd, excess))), vf_add(to.pd, pd)};
  }
  return to;
}

/* KL, from the sum of its terms and that of p d. Of rows without NaN the sum is NaN where the student masks what the teacher does
 * not. */
static inline double closed(double sum, double pd) {
  const double b = sum - pd, total = sum - b * b * (0.5 - b * (1.0 / 3.0));
  return !(sum < INFINITY) ? INFINITY : total < 0.0 ? 0.0 : total;
}

static inline double soft_part(double soft, double kl) { return soft == 0.0 ? 0.0 : soft * kl; }

static inline double own(const job *j) { return 1.0 - j->smoothing; }
static inline double even(const job *j) { return j->smoothing / (double)j->n; }

/* The cross entropy, from the logarithm of the sum of exp(s - max) and from what is below max; the label's part of the gradient. */
static inline double at_label(const job *j, const float *s, float max, int64_t label, double hard, float *grad, double log_sum,
                              double below) {
  if (grad) grad[label] -= (float)(hard * own(j));
  const double of_label = own(j) > 0.0 ? own(j) * ((double)max - (double)s[label]) : 0.0;
  const double total = log_sum + of_label + (even(j) > 0.0 ? even(j) * below : 0.0);
  return total < 0.0 ? 0.0 : total;
}
#endif
