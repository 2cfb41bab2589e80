/* Distances of q = softmax(student/T) from p = softmax(teacher/T), or from given p, of each row, and their gradients.
 *
 * With d = log p - log q = ((t - max t) - (s - max s))/T - log(S_t/S_s) and m a mixture of the two,
 *   KL(a || b) = sum a D + (b - a) = sum a (D + expm1(-D)),   D = log a - log b:
 * every term is at least 0 and of second order in D, so what is small keeps its meaning. log m is that of the larger one
 * plus l = log(near + far e^-|d|), near and far the shares of the larger and of the smaller.
 * What depends on q alone has the gradient q (slope - sum q slope)/T, slope the derivative by q.
 *
 * All in double: terms, sums (the lane rule) and gradients, which are rounded once. Rows of floats and of doubles differ in
 * how they are read and written. The terms of a row are kept where they fit a cache and made anew where not, which gives
 * the same bits. Threads share rows. Limit: the double units, 110 (KL) to 250 (mixtures) operations an element. */
#include <stdlib.h>

#include "double_rows.h"
#include "table.h"

#define PC_LEAST_SHARE 0x1p-100 /* far below it e^-|d| is no float */

enum {
  GRAIN = 1 << 11, /* elements that pay for waking a thread */
  BLOCK = 8,       /* vectors of a mixture worked on together */
  KEPT = 1 << 16   /* longest row whose terms are kept, 1 MB a thread */
};

typedef struct {
  int64_t n;
  int wide; /* doubles, not floats */
  int32_t kind;
  double share;
  const void *student;
  int64_t ldstudent;
  const void *teacher;
  int64_t ldteacher;
  const double *temperature, *scale;
  double *loss;
  void *grad; /* NULL: the loss alone */
  int64_t ldgrad;
} job;

/* A row. kept_s and kept_t: room for its terms, or NULL. */
typedef struct {
  int64_t n;
  int wide;
  const void *s, *t;
  double max_s, max_t, inverse_t, inverse_sum_s, inverse_sum_t, apart, share_p, share_q, sum_p, step;
  double *kept_s, *kept_t;
  void *grad;
} row;

PC_INLINE int mixes(int kind) { return kind == PC_JSD || kind == PC_SKEW_KL || kind == PC_REVERSE_SKEW_KL; }
PC_INLINE int is_given(int kind) { return kind == PC_CROSS_ENTROPY || kind == PC_GIVEN_KL; }
/* The gradient needs no mean of slopes: of -p it is known, and where each logit counts alone there is none. */
PC_INLINE int is_simple(int kind) { return kind == PC_FORWARD_KL || kind >= PC_CROSS_ENTROPY; }

/* a (D + expm1(-D)), D = log a - log b; b where a is 0. */
PC_INLINE vd16 divergence(vd16 a, vd16 b, vd16 log_ratio) {
  const vd16 zero = vd_zero(), opposite = vd_sub(zero, log_ratio), square = vd_mul(log_ratio, log_ratio);
  const vd16 near = vd_mul(a, vd_mul(square, vd_second_order(opposite)));
  const vd16 far = vd_fma(a, log_ratio, vd_sub(b, a));
  return vd_select_lt(zero, a, vd_select_lt(square, vd_set1(0.12), near, far), b);
}

/* log p - log q */
PC_INLINE vd16 log_ratio_at(const row *r, int64_t i) {
  const vd16 s = vd_sub(pc_load_doubles(r->s, r->wide, i, r->n, -INFINITY), vd_set1(r->max_s));
  const vd16 t = vd_sub(pc_load_doubles(r->t, r->wide, i, r->n, -INFINITY), vd_set1(r->max_t));
  return vd_fma(vd_sub(t, s), vd_set1(r->inverse_t), vd_set1(-r->apart));
}

/* Of sixteen elements of a mixture: log ratios to it, and to what each of p and q has in 1 of it, p/m and q/m. */
typedef struct { vd16 log_p, log_q, p, q; } ratios;

/* Step by step over a block, so that the long chains of its vectors overlap. */
static inline void ratios_of_block(const row *r, int64_t begin, int count, ratios *to) {
  const vd16 zero = vd_zero(), one = vd_set1(1.0), share_p = vd_set1(r->share_p), share_q = vd_set1(r->share_q);
  vd16 w[BLOCK];
  vf16 rough[BLOCK];
  for (int v = 0; v < count; v++) {
    const vd16 d = log_ratio_at(r, begin + v * LANES), minus_d = vd_sub(zero, d), down = vd_sub(zero, vd_max(d, minus_d));
    const vd16 smaller = vd_exp(down); /* the smaller over the larger */
    w[v] = vd_fma(vd_select_lt(zero, d, share_q, share_p), smaller, vd_select_lt(zero, d, share_p, share_q));
    w[v] = vd_max(w[v], vd_set1(0x1p-126));
    to[v] = (ratios){vd_select_lt(d, zero, down, zero), vd_select_lt(zero, d, down, zero),
                     vd_select_lt(d, zero, smaller, one), vd_select_lt(zero, d, smaller, one)};
  }
  for (int v = 0; v < count; v++) rough[v] = vf_log(vf_from_vd(w[v]));
  for (int v = 0; v < count; v++) {
    const pc_logarithm l = vd_log_from(w[v], rough[v]);
    to[v] = (ratios){vd_sub(to[v].log_p, l.log), vd_sub(to[v].log_q, l.log), vd_mul(to[v].p, l.inverse), vd_mul(to[v].q, l.inverse)};
  }
}

/* Of sixteen elements: their part of the loss, q, and q times the derivative of the loss by it. */
typedef struct { vd16 value, q, slope; } part;

/* The two answers to a logit: logarithms of their probabilities, and these. */
typedef struct { vd16 log_yes, log_no, yes, no; } answers;

PC_INLINE answers answers_to(vd16 z) {
  const vd16 zero = vd_zero(), one = vd_set1(1.0), minus = vd_sub(zero, z), down = vd_sub(zero, vd_max(z, minus));
  const vd16 e = vd_exp(down), w = vd_add(e, one);
  const pc_logarithm l = vd_log_from(w, vf_log(vf_from_vd(w)));
  const vd16 less = vd_mul(e, l.inverse), log_less = vd_sub(down, l.log), log_more = vd_sub(zero, l.log);
  return (answers){vd_select_lt(zero, z, log_more, log_less), vd_select_lt(zero, z, log_less, log_more),
                   vd_select_lt(zero, z, l.inverse, less), vd_select_lt(zero, z, less, l.inverse)};
}

PC_INLINE part part_of_logits(const row *r, int kind, int64_t i) {
  const vd16 zero = vd_zero(), s = pc_load_doubles(r->s, r->wide, i, r->n, -INFINITY);
  const vd16 t = pc_load_doubles(r->t, r->wide, i, r->n, -INFINITY);
  if (kind == PC_SQUARED_LOGITS) { /* nothing between two that are -inf */
    const vd16 gap = vd_mul(vd_sub(s, t), vd_set1(r->inverse_t)), apart = vd_select_lt(s, t, gap, vd_select_lt(t, s, gap, zero));
    return (part){vd_mul(apart, apart), zero, vd_add(apart, apart)};
  }
  const answers q = answers_to(vd_mul(s, vd_set1(r->inverse_t))), p = answers_to(vd_mul(t, vd_set1(r->inverse_t)));
  const vd16 yes = divergence(p.yes, q.yes, vd_sub(p.log_yes, q.log_yes));
  const vd16 no = divergence(p.no, q.no, vd_sub(p.log_no, q.log_no));
  return (part){vd_add(yes, no), q.yes, vd_sub(zero, p.yes)};
}

PC_INLINE part part_of(const row *r, int kind, int64_t i, const ratios *to) {
  if (kind == PC_SQUARED_LOGITS || kind == PC_BINARY_KL) return part_of_logits(r, kind, i);
  const vd16 zero = vd_zero(), s = pc_load_doubles(r->s, r->wide, i, r->n, -INFINITY);
  const vd16 q = vd_mul(r->kept_s ? vd_load(r->kept_s + i) : pc_term_of_doubles(s, r->max_s, r->inverse_t), vd_set1(r->inverse_sum_s));
  if (is_given(kind)) { /* apart: the logarithm of the sum */
    const vd16 p = pc_load_doubles(r->t, r->wide, i, r->n, 0.0), w = vd_max(p, vd_set1(0x1p-126));
    const vd16 minus_log_q = vd_fma(vd_sub(s, vd_set1(r->max_s)), vd_set1(-r->inverse_t), vd_set1(r->apart));
    const vd16 value = kind == PC_CROSS_ENTROPY
      ? vd_select_lt(zero, p, vd_mul(p, minus_log_q), zero)
      : divergence(p, q, vd_add(vd_log_from(w, vf_log(vf_from_vd(w))).log, minus_log_q));
    return (part){value, q, vd_sub(zero, p)};
  }
  const vd16 t = pc_load_doubles(r->t, r->wide, i, r->n, -INFINITY);
  const vd16 p = vd_mul(r->kept_t ? vd_load(r->kept_t + i) : pc_term_of_doubles(t, r->max_t, r->inverse_t), vd_set1(r->inverse_sum_t));
  if (kind == PC_TOTAL_VARIATION) {
    const vd16 half_q = vd_mul(q, vd_set1(0.5)), value = vd_mul(vd_max(vd_sub(p, q), vd_sub(q, p)), vd_set1(0.5));
    return (part){value, q, vd_select_lt(p, q, half_q, vd_select_lt(q, p, vd_sub(zero, half_q), zero))};
  }
  if (kind == PC_FORWARD_KL) return (part){divergence(p, q, log_ratio_at(r, i)), q, vd_sub(zero, p)};
  vd16 value, slope;
  if (kind == PC_REVERSE_KL) {
    slope = vd_sub(zero, log_ratio_at(r, i));
    value = divergence(q, p, slope);
  } else {
    const vd16 share_p = vd_set1(r->share_p), share_q = vd_set1(r->share_q), m = vd_fma(share_p, p, vd_mul(share_q, q));
    if (kind == PC_JSD) {
      slope = vd_mul(share_q, to->log_q);
      value = vd_fma(share_p, divergence(p, m, to->log_p), vd_mul(share_q, divergence(q, m, to->log_q)));
    } else if (kind == PC_SKEW_KL) {
      slope = vd_mul(vd_sub(zero, share_q), to->p);
      value = divergence(p, m, to->log_p);
    } else {
      slope = vd_fma(vd_sub(zero, share_q), to->q, to->log_q);
      value = divergence(q, m, to->log_q);
    }
  }
  return (part){value, q, vd_select_lt(zero, q, vd_mul(q, slope), zero)};
}

/* (q slope - q mean) step, given q slope. */
PC_INLINE void store_gradient(const row *r, int64_t i, vd16 q, vd16 slope, double mean) {
  const vd16 g = vd_select_lt(vd_zero(), q, vd_fma(q, vd_set1(-mean), slope), slope); /* the mean may be infinite */
  pc_store_doubles(r->grad, r->wide, i, r->n, vd_mul(g, vd_set1(r->step)));
}

static inline double loss_of(const row *r, int kind) {
  const int at_once = is_simple(kind);
  const int passes = r->grad && !at_once ? 2 : 1;
  double loss = 0.0, mean = -r->sum_p;
  for (int pass = 0; pass < passes; pass++) {
    const int kept = pass && r->kept_t;
    vd16 value = vd_zero(), slope = vd_zero();
    for (int64_t block = 0; block < r->n; block += BLOCK * LANES) {
      const int64_t left = (r->n - block + LANES - 1) / LANES;
      const int count = left < BLOCK ? (int)left : BLOCK;
      ratios to[BLOCK];
      if (mixes(kind) && !kept) ratios_of_block(r, block, count, to);
      for (int v = 0; v < count; v++) {
        const int64_t i = block + v * LANES;
        part of;
        if (kept) of = (part){vd_zero(), vd_load(r->kept_s + i), vd_load(r->kept_t + i)};
        else of = part_of(r, kind, i, to + v);
        if (r->grad && (pass || at_once)) store_gradient(r, i, of.q, of.slope, mean);
        if (pass) continue;
        value = vd_add(value, of.value);
        if (passes == 1) continue;
        slope = vd_add(slope, of.slope);
        if (!r->kept_t) continue;
        vd_store(r->kept_s + i, of.q);
        vd_store(r->kept_t + i, of.slope);
      }
    }
    if (pass) break;
    loss = vd_fold_add(value);
    if (passes == 2) mean = vd_fold_add(slope);
  }
  return loss;
}

static double loss_of_kind(const row *r, int kind) {
  switch (kind) {
    case PC_FORWARD_KL: return loss_of(r, PC_FORWARD_KL);
    case PC_REVERSE_KL: return loss_of(r, PC_REVERSE_KL);
    case PC_JSD: return loss_of(r, PC_JSD);
    case PC_SKEW_KL: return loss_of(r, PC_SKEW_KL);
    case PC_REVERSE_SKEW_KL: return loss_of(r, PC_REVERSE_SKEW_KL);
    case PC_TOTAL_VARIATION: return loss_of(r, PC_TOTAL_VARIATION);
    case PC_CROSS_ENTROPY: return loss_of(r, PC_CROSS_ENTROPY);
    case PC_GIVEN_KL: return loss_of(r, PC_GIVEN_KL);
    case PC_BINARY_KL: return loss_of(r, PC_BINARY_KL);
    default: return loss_of(r, PC_SQUARED_LOGITS);
  }
}

/* The sum of given probabilities; NaN where they are none. */
static double sum_of_probabilities(const row *r) {
  vd16 sum = vd_zero(), least = vd_zero();
  for (int64_t i = 0; i < r->n; i += LANES) {
    const vd16 p = pc_load_doubles(r->t, r->wide, i, r->n, 0.0);
    sum = vd_add(sum, p);
    least = vd_select_lt(p, least, p, least);
  }
  const double total = vd_fold_add(sum);
  return vd_fold_add(least) < 0.0 || !(fabs(total - 1.0) <= 1e-3) ? NAN : total;
}

static double loss_of_row(const job *j, int64_t i, double *kept_s, double *kept_t) {
  const double scale = j->scale[i], inverse_t = pc_inverse_of(j->temperature[i]);
  void *grad = j->grad ? (void *)(uintptr_t)pc_element(j->grad, j->wide, i * j->ldgrad) : NULL;
  const int given = is_given(j->kind), reverse = j->kind == PC_REVERSE_SKEW_KL;
  row r = {.n = j->n, .wide = j->wide, .share_p = reverse ? 1.0 - j->share : j->share,
           .share_q = reverse ? j->share : 1.0 - j->share, .inverse_t = inverse_t, .step = scale * inverse_t, .grad = grad,
           .s = pc_element(j->student, j->wide, i * j->ldstudent), .t = pc_element(j->teacher, j->wide, i * j->ldteacher),
           .kept_s = kept_s, .kept_t = kept_t, .sum_p = 1.0};
  double loss = 0.0;
  if (scale != 0.0) {
    if (given && isnan(r.sum_p = sum_of_probabilities(&r))) {
      if (grad) pc_fill_doubles(grad, r.wide, r.n, NAN);
      return -INFINITY;
    }
    r.max_s = pc_max_of_doubles(r.s, r.wide, r.n);
    r.max_t = given ? 0.0 : pc_max_of_doubles(r.t, r.wide, r.n);
    if (r.max_s > -INFINITY && r.max_t > -INFINITY) {
      if (j->kind <= PC_GIVEN_KL) {
        const double sum_s = pc_sum_doubles(r.s, r.wide, r.n, r.max_s, inverse_t, kept_s);
        const double sum_t = given ? 1.0 : pc_sum_doubles(r.t, r.wide, r.n, r.max_t, inverse_t, kept_t);
        r.inverse_sum_s = 1.0 / sum_s;
        r.inverse_sum_t = 1.0 / sum_t;
        r.apart = pc_log(given ? sum_s : sum_t / sum_s);
      }
      loss = loss_of_kind(&r, j->kind);
      return scale * (loss < 0.0 && j->kind != PC_CROSS_ENTROPY ? 0.0 : loss); /* NaN stays */
    }
    if (isnan(r.max_s) || isnan(r.max_t)) loss = NAN;
  }
  if (grad) pc_fill_doubles(grad, r.wide, r.n, loss);
  return loss;
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t room = (j->n + LANES - 1) / LANES * LANES;
  double *kept = j->n <= KEPT ? malloc((size_t)(2 * room) * sizeof *kept) : NULL;
  for (int64_t i = begin; i < end; i++) j->loss[i] = loss_of_row(j, i, kept, kept ? kept + room : NULL);
  free(kept);
}

static int losses(int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldstudent < j->n || j->ldteacher < j->n || j->ldgrad < j->n) return PC_EINVAL;
  if (j->kind < PC_FORWARD_KL || j->kind > PC_SQUARED_LOGITS) return PC_EINVAL;
  if (mixes(j->kind) && !(j->share >= PC_LEAST_SHARE && j->share < 1.0)) return PC_EINVAL;
  for (int64_t i = 0; i < m; i++)
    if (!(j->temperature[i] > 0 && j->temperature[i] < INFINITY)) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (j->n + 1), run, j);
  return PC_OK;
}

int PC_FN(divergence_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                          int64_t ldteacher, int32_t kind, double share, const double *temperature, const double *scale,
                          double *loss) {
  const job j = {n, 0, kind, share, student, ldstudent, teacher, ldteacher, temperature, scale, loss, NULL, n};
  return losses(m, &j);
}

int PC_FN(divergence_f64)(int64_t m, int64_t n, const double *student, int64_t ldstudent, const double *teacher,
                          int64_t ldteacher, int32_t kind, double share, const double *temperature, const double *scale,
                          double *loss) {
  const job j = {n, 1, kind, share, student, ldstudent, teacher, ldteacher, temperature, scale, loss, NULL, n};
  return losses(m, &j);
}

int PC_FN(divergence_grad_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                               int64_t ldteacher, int32_t kind, double share, const double *temperature,
                               const double *scale, double *loss, float *grad, int64_t ldgrad) {
  const job j = {n, 0, kind, share, student, ldstudent, teacher, ldteacher, temperature, scale, loss, grad, ldgrad};
  return losses(m, &j);
}

int PC_FN(divergence_grad_f64)(int64_t m, int64_t n, const double *student, int64_t ldstudent, const double *teacher,
                               int64_t ldteacher, int32_t kind, double share, const double *temperature,
                               const double *scale, double *loss, double *grad, int64_t ldgrad) {
  const job j = {n, 1, kind, share, student, ldstudent, teacher, ldteacher, temperature, scale, loss, grad, ldgrad};
  return losses(m, &j);
}
