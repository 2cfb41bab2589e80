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
#include "double_rows.h"
#include "kl.h"
#include "table.h"

#define PC_LEAST_SHARE 0x1p-100 /* far below it e^-|d| is no float */

typedef struct {
  pc_rows rows;
  const void *teacher;
  int64_t ldteacher;
  int32_t kind;
  double share;
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

#define TOGETHER PC_DOUBLES_TOGETHER

/* Of some vectors: their part of the loss, if it is wanted, q, and q times the derivative of the loss by it. */
typedef struct { vd16 value[TOGETHER], q[TOGETHER], slope[TOGETHER]; } part;

PC_INLINE void load_each(const void *x, const row *r, int64_t i, double rest, vd16 *v) {
  PC_OF_EACH(TOGETHER) v[c] = pc_load_doubles(x, r->wide, i + c * LANES, r->n, rest);
}

/* log p - log q */
PC_INLINE void log_ratios(const row *r, const vd16 *s, const vd16 *t, vd16 *d) {
  PC_OF_EACH(TOGETHER) {
    const vd16 apart = vd_sub(vd_sub(t[c], vd_set1(r->max_t)), vd_sub(s[c], vd_set1(r->max_s)));
    d[c] = vd_fma(apart, vd_set1(r->inverse_t), vd_set1(-r->apart));
  }
}

PC_INLINE void part_of_mixture(const row *r, int kind, int want_value, const vd16 *p, const vd16 *d, part *of) {
  const vd16 zero = vd_zero(), share_p = vd_set1(r->share_p), share_q = vd_set1(r->share_q);
  const vd16 *q = of->q;
  pc_ratios to;
  vd16 m[TOGETHER], other[TOGETHER];
  pc_ratios_to(TOGETHER, share_p, share_q, d, &to);
  PC_OF_EACH(TOGETHER) {
    const vd16 slope = kind == PC_JSD      ? vd_mul(share_q, to.log_q[c])
                       : kind == PC_SKEW_KL ? vd_mul(vd_sub(zero, share_q), to.p[c])
                                            : vd_fma(vd_sub(zero, share_q), to.q[c], to.log_q[c]);
    of->slope[c] = vd_select_lt(zero, q[c], vd_mul(q[c], slope), zero);
    m[c] = vd_fma(share_p, p[c], vd_mul(share_q, q[c]));
  }
  if (!want_value) return;
  if (kind == PC_REVERSE_SKEW_KL) {
    pc_kl_each(TOGETHER, q, m, to.log_q, of->value);
    return;
  }
  pc_kl_each(TOGETHER, p, m, to.log_p, of->value);
  if (kind == PC_SKEW_KL) return;
  pc_kl_each(TOGETHER, q, m, to.log_q, other);
  PC_OF_EACH(TOGETHER) of->value[c] = vd_fma(share_p, of->value[c], vd_mul(share_q, other[c]));
}

PC_INLINE void part_of_given(const row *r, int kind, int64_t i, const vd16 *s, part *of) {
  const vd16 zero = vd_zero();
  vd16 p[TOGETHER], w[TOGETHER], log_p[TOGETHER], minus_log_q[TOGETHER], d[TOGETHER];
  load_each(r->t, r, i, 0.0, p);
  PC_OF_EACH(TOGETHER) { /* apart: the logarithm of the sum */
    minus_log_q[c] = vd_fma(vd_sub(s[c], vd_set1(r->max_s)), vd_set1(-r->inverse_t), vd_set1(r->apart));
    of->slope[c] = vd_sub(zero, p[c]);
  }
  if (kind == PC_CROSS_ENTROPY) {
    PC_OF_EACH(TOGETHER) of->value[c] = vd_select_lt(zero, p[c], vd_mul(p[c], minus_log_q[c]), zero);
    return;
  }
  PC_OF_EACH(TOGETHER) w[c] = vd_max(p[c], vd_set1(PC_LEAST_LOGARITHM));
  vd_log_each(TOGETHER, w, log_p);
  PC_OF_EACH(TOGETHER) d[c] = vd_add(log_p[c], minus_log_q[c]);
  pc_kl_each(TOGETHER, p, of->q, d, of->value);
}

PC_INLINE void part_of_answers(const row *r, const vd16 *s, const vd16 *t, part *of) {
  vd16 to_s[TOGETHER], to_t[TOGETHER];
  PC_OF_EACH(TOGETHER) {
    to_s[c] = vd_mul(s[c], vd_set1(r->inverse_t));
    to_t[c] = vd_mul(t[c], vd_set1(r->inverse_t));
    of->q[c] = vd_zero();
  }
  pc_binary_kl_each(TOGETHER, to_s, to_t, of->value, of->slope);
}

PC_INLINE void part_of_squares(const row *r, const vd16 *s, const vd16 *t, part *of) {
  PC_OF_EACH(TOGETHER) { /* nothing between two that are -inf */
    const vd16 gap = vd_mul(vd_sub(s[c], t[c]), vd_set1(r->inverse_t));
    const vd16 apart = vd_select_lt(s[c], t[c], gap, vd_select_lt(t[c], s[c], gap, vd_zero()));
    of->value[c] = vd_mul(apart, apart);
    of->q[c] = vd_zero();
    of->slope[c] = vd_add(apart, apart);
  }
}

PC_INLINE void part_of(const row *r, int kind, int64_t i, int want_value, part *of) {
  const vd16 zero = vd_zero();
  vd16 s[TOGETHER], t[TOGETHER], p[TOGETHER], d[TOGETHER];
  load_each(r->s, r, i, -INFINITY, s);
  if (kind <= PC_GIVEN_KL) pc_probabilities(TOGETHER, r->kept_s ? r->kept_s + i : NULL, s, r->max_s, r->inverse_t, r->inverse_sum_s, of->q);
  if (is_given(kind)) {
    part_of_given(r, kind, i, s, of);
    return;
  }
  load_each(r->t, r, i, -INFINITY, t);
  if (kind == PC_BINARY_KL) {
    part_of_answers(r, s, t, of);
    return;
  }
  if (kind == PC_SQUARED_LOGITS) {
    part_of_squares(r, s, t, of);
    return;
  }
  pc_probabilities(TOGETHER, r->kept_t ? r->kept_t + i : NULL, t, r->max_t, r->inverse_t, r->inverse_sum_t, p);
  if (kind == PC_TOTAL_VARIATION) {
    PC_OF_EACH(TOGETHER) {
      const vd16 q = of->q[c], half_q = vd_mul(q, vd_set1(0.5));
      of->value[c] = vd_mul(vd_max(vd_sub(p[c], q), vd_sub(q, p[c])), vd_set1(0.5));
      of->slope[c] = vd_select_lt(p[c], q, half_q, vd_select_lt(q, p[c], vd_sub(zero, half_q), zero));
    }
    return;
  }
  log_ratios(r, s, t, d);
  if (mixes(kind)) {
    part_of_mixture(r, kind, want_value, p, d, of);
    return;
  }
  if (kind == PC_FORWARD_KL) {
    PC_OF_EACH(TOGETHER) of->slope[c] = vd_sub(zero, p[c]);
    pc_kl_each(TOGETHER, p, of->q, d, of->value);
    return;
  }
  PC_OF_EACH(TOGETHER) {
    d[c] = vd_sub(zero, d[c]);
    of->slope[c] = vd_select_lt(zero, of->q[c], vd_mul(of->q[c], d[c]), zero);
  }
  if (want_value) pc_kl_each(TOGETHER, of->q, p, d, of->value);
}

/* (q slope - q mean) step, given q slope. */
PC_INLINE void store_gradient(const row *r, int64_t i, vd16 q, vd16 slope, double mean) {
  const vd16 g = vd_select_lt(vd_zero(), q, vd_fma(q, vd_set1(-mean), slope), slope); /* the mean may be infinite */
  pc_store_doubles(r->grad, r->wide, i, r->n, vd_mul(g, vd_set1(r->step)));
}

PC_INLINE double loss_of_kind(const row *given, int kind) {
  const row own = *given, *const r = &own;
  const int at_once = is_simple(kind), passes = r->grad && !at_once ? 2 : 1;
  double loss = 0.0, mean = -r->sum_p;
  for (int pass = 0; pass < passes; pass++) {
    vd16 value = vd_zero(), slope = vd_zero();
    for (int64_t i = 0; i < r->n; i += TOGETHER * LANES) {
      part of = {{vd_zero()}, {vd_zero()}, {vd_zero()}};
      if (pass && r->kept_t) {
        PC_OF_EACH(TOGETHER) of.q[c] = vd_load(r->kept_s + i + c * LANES);
        PC_OF_EACH(TOGETHER) of.slope[c] = vd_load(r->kept_t + i + c * LANES);
      } else {
        part_of(r, kind, i, !pass, &of);
      }
      if (r->grad && (pass || at_once))
        PC_OF_EACH(TOGETHER) store_gradient(r, i + c * LANES, of.q[c], of.slope[c], mean);
      if (pass) continue;
      PC_OF_EACH(TOGETHER) value = vd_add(value, of.value[c]);
      if (passes == 1) continue;
      PC_OF_EACH(TOGETHER) slope = vd_add(slope, of.slope[c]);
      if (!r->kept_t) continue;
      PC_OF_EACH(TOGETHER) vd_store(r->kept_s + i + c * LANES, of.q[c]);
      PC_OF_EACH(TOGETHER) vd_store(r->kept_t + i + c * LANES, of.slope[c]);
    }
    if (pass) break;
    loss = vd_fold_add(value);
    if (passes == 2) mean = vd_fold_add(slope);
  }
  return loss;
}

/* A loop for each kind, without what the others need: it takes half to four fifths of the time of one for all. */
static double loss_of(const row *r, int kind) {
  switch (kind) {
    case PC_FORWARD_KL: return loss_of_kind(r, PC_FORWARD_KL);
    case PC_REVERSE_KL: return loss_of_kind(r, PC_REVERSE_KL);
    case PC_JSD: return loss_of_kind(r, PC_JSD);
    case PC_SKEW_KL: return loss_of_kind(r, PC_SKEW_KL);
    case PC_REVERSE_SKEW_KL: return loss_of_kind(r, PC_REVERSE_SKEW_KL);
    case PC_TOTAL_VARIATION: return loss_of_kind(r, PC_TOTAL_VARIATION);
    case PC_CROSS_ENTROPY: return loss_of_kind(r, PC_CROSS_ENTROPY);
    case PC_GIVEN_KL: return loss_of_kind(r, PC_GIVEN_KL);
    case PC_BINARY_KL: return loss_of_kind(r, PC_BINARY_KL);
    default: return loss_of_kind(r, PC_SQUARED_LOGITS);
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

static double loss_of_row(const void *context, int64_t i, double *kept) {
  const job *j = context;
  double *kept_t = kept ? kept + PC_ROOM(j->rows.n) : NULL;
  const double scale = j->rows.scale[i], inverse_t = pc_inverse_of(j->rows.temperature[i]);
  void *grad = pc_grad_row(&j->rows, i);
  const int given = is_given(j->kind), reverse = j->kind == PC_REVERSE_SKEW_KL;
  row r = {.n = j->rows.n, .wide = j->rows.wide, .share_p = reverse ? 1.0 - j->share : j->share,
           .share_q = reverse ? j->share : 1.0 - j->share, .inverse_t = inverse_t, .step = scale * inverse_t, .grad = grad,
           .s = pc_student_row(&j->rows, i), .t = pc_element(j->teacher, j->rows.wide, i * j->ldteacher),
           .kept_s = kept, .kept_t = kept_t, .sum_p = 1.0};
  double loss = 0.0;
  if (scale != 0.0) {
    if (given && isnan(r.sum_p = sum_of_probabilities(&r))) {
      if (grad) pc_fill_doubles(grad, r.wide, r.n, NAN);
      return -INFINITY;
    }
    r.max_s = pc_max_of_doubles(r.s, r.wide, r.n);
    r.max_t = given ? 0.0 : pc_max_of_doubles(r.t, r.wide, r.n);
    const int of_softmax = j->kind <= PC_GIVEN_KL, empty = r.max_s == -INFINITY || r.max_t == -INFINITY;
    if (isnan(r.max_s) || isnan(r.max_t)) {
      loss = NAN;
    } else if (!(of_softmax && empty)) {
      if (of_softmax) {
        const double sum_s = pc_sum_doubles(r.s, r.wide, r.n, PC_NO_HOLE, r.max_s, inverse_t, kept);
        const double sum_t = given ? 1.0 : pc_sum_doubles(r.t, r.wide, r.n, PC_NO_HOLE, r.max_t, inverse_t, kept_t);
        r.inverse_sum_s = 1.0 / sum_s;
        r.inverse_sum_t = 1.0 / sum_t;
        r.apart = pc_log(given ? sum_s : sum_t / sum_s);
      }
      loss = loss_of(&r, j->kind);
      return scale * (loss < 0.0 && j->kind != PC_CROSS_ENTROPY ? 0.0 : loss);
    }
  }
  if (grad) pc_fill_doubles(grad, r.wide, r.n, loss);
  return loss;
}

static int losses(const job *j) {
  if (j->ldteacher < j->rows.n || j->kind < PC_FORWARD_KL || j->kind > PC_SQUARED_LOGITS) return PC_EINVAL;
  if (mixes(j->kind) && !(j->share >= PC_LEAST_SHARE && j->share < 1.0)) return PC_EINVAL;
  return pc_losses_of_rows(&j->rows, 2, loss_of_row, j);
}

#define ENTRIES(name, with_grad, type, is_wide)                                                            \
  int PC_FN(with_grad)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,  \
                       int64_t ldteacher, int32_t kind, double share, const double *temperature,           \
                       const double *scale, double *loss, type *grad, int64_t ldgrad) {                    \
    const job j = {.rows = PC_ROWS(is_wide),                                                               \
                   .teacher = teacher, .ldteacher = ldteacher, .kind = kind, .share = share};              \
    return losses(&j);                                                                                     \
  }                                                                                                        \
  int PC_FN(name)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,       \
                  int64_t ldteacher, int32_t kind, double share, const double *temperature,                \
                  const double *scale, double *loss) {                                                     \
    return PC_FN(with_grad)(m, n, student, ldstudent, teacher, ldteacher, kind, share, temperature, scale, \
                            loss, NULL, n);                                                                \
  }
ENTRIES(divergence_f32, divergence_grad_f32, float, 0)
ENTRIES(divergence_f64, divergence_grad_f64, double, 1)
