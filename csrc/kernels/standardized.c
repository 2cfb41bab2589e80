/* KL between logits that are brought to mean 0 and deviation 1 in each row (Sun et al., 2024), and its gradient: with
 * c = x - max x, z = (c - mean c)/deviation on each side,
 *   loss = KL(softmax(z_t/T) || softmax(z_s/T)),   u = (q - p)/T,   d loss/d s = (u - z_s mean(u z_s))/deviation_s.
 * A softmax does not change with the mean: each side is one of c at its own temperature, T times its deviation. A row whose
 * deviation is 0 has z = 0 and no gradient.
 * KL by terms of second order (kl.h), in double; sums follow the lane rule. Threads share rows. Limit: the double units, 120
 * operations an element. */
#include "double_rows.h"
#include "kl.h"
#include "table.h"

typedef struct {
  pc_rows rows;
  const void *teacher;
  int64_t ldteacher;
} job;

typedef struct {
  const void *x;
  double max, mean, inverse; /* the mean of c, 1/deviation or 0 */
  double slope;              /* inverse/T: what c is multiplied by */
  double log_sum, inverse_sum;
  double *kept; /* room for its terms, or NULL */
} side;

#define TOGETHER PC_DOUBLES_TOGETHER

/* Returns what kind of row it is. One with -inf beside others has no deviation: its inverse is NaN. */
static pc_row_kind begin_side(const job *j, const void *x, double inverse_t, double *kept, side *to) {
  *to = (side){.x = x, .max = pc_max_of_doubles(x, j->rows.wide, j->rows.n), .kept = kept};
  if (!(to->max > -INFINITY)) return isnan(to->max) ? PC_ROW_NAN : PC_ROW_EMPTY;
  vd16 sum = vd_zero(), squares = vd_zero();
  for (int64_t i = 0; i < j->rows.n; i += LANES)
    sum = vd_add(sum, vd_sub(pc_load_doubles(x, j->rows.wide, i, j->rows.n, to->max), vd_set1(to->max)));
  to->mean = vd_fold_add(sum) / (double)j->rows.n;
  for (int64_t i = 0; i < j->rows.n; i += LANES) {
    const vd16 v = pc_load_doubles(x, j->rows.wide, i, j->rows.n, NAN);
    const vd16 off = vd_select_lt(v, vd_set1(INFINITY), vd_sub(vd_sub(v, vd_set1(to->max)), vd_set1(to->mean)), vd_zero());
    squares = vd_fma(off, off, squares);
  }
  const double deviation = sqrt(vd_fold_add(squares) / (double)j->rows.n);
  if (!(deviation < INFINITY)) {
    to->inverse = NAN;
    return PC_ROW_FINITE;
  }
  to->inverse = deviation > 0.0 ? pc_inverse_of(deviation) : 0.0;
  to->slope = fmin(to->inverse * inverse_t, DBL_MAX / 2.0);
  const double terms = pc_sum_doubles(x, j->rows.wide, j->rows.n, PC_NO_HOLE, to->max, to->slope, kept);
  to->inverse_sum = 1.0 / terms;
  to->log_sum = pc_log(terms);
  return PC_ROW_FINITE;
}

/* c of the student, q - p, and, if wanted, the KL terms. */
PC_INLINE void part_of(const job *j, const side *s, const side *t, int64_t i, vd16 *c_s, vd16 *gap, vd16 *kl) {
  const double apart = t->log_sum - s->log_sum;
  vd16 x[TOGETHER], y[TOGETHER], p[TOGETHER], q[TOGETHER], d[TOGETHER];
  PC_OF_EACH(TOGETHER) {
    x[c] = pc_load_doubles(s->x, j->rows.wide, i + c * LANES, j->rows.n, -INFINITY);
    y[c] = pc_load_doubles(t->x, j->rows.wide, i + c * LANES, j->rows.n, -INFINITY);
    c_s[c] = vd_sub(x[c], vd_set1(s->max));
  }
  pc_probabilities(TOGETHER, s->kept ? s->kept + i : NULL, x, s->max, s->slope, s->inverse_sum, q);
  pc_probabilities(TOGETHER, t->kept ? t->kept + i : NULL, y, t->max, t->slope, t->inverse_sum, p);
  PC_OF_EACH(TOGETHER) gap[c] = vd_sub(q[c], p[c]);
  if (!kl) return;
  PC_OF_EACH(TOGETHER) {
    const vd16 of_s = vd_fma(c_s[c], vd_set1(s->slope), vd_set1(apart));
    d[c] = vd_fma(vd_sub(y[c], vd_set1(t->max)), vd_set1(t->slope), vd_sub(vd_zero(), of_s));
  }
  pc_kl_each(TOGETHER, p, q, d, kl);
}

/* KL, and the sum of (q - p) c. */
static double kl_of(const job *j, const side *s, const side *t, double *moment) {
  const vd16 none = vd_set1(-INFINITY); /* c past the end of the row */
  vd16 sum = vd_zero(), moments = vd_zero();
  for (int64_t i = 0; i < j->rows.n; i += TOGETHER * LANES) {
    vd16 c_s[TOGETHER], gap[TOGETHER], kl[TOGETHER];
    part_of(j, s, t, i, c_s, gap, kl);
    PC_OF_EACH(TOGETHER) {
      sum = vd_add(sum, kl[c]);
      moments = vd_select_lt(none, c_s[c], vd_fma(gap[c], c_s[c], moments), moments);
    }
  }
  *moment = vd_fold_add(moments);
  return vd_fold_add(sum);
}

static void gradient_of(const job *j, const side *s, const side *t, double along, double step, void *grad) {
  for (int64_t i = 0; i < j->rows.n; i += TOGETHER * LANES) {
    vd16 c_s[TOGETHER], gap[TOGETHER];
    part_of(j, s, t, i, c_s, gap, NULL);
    PC_OF_EACH(TOGETHER) {
      const vd16 z = vd_mul(vd_sub(c_s[c], vd_set1(s->mean)), vd_set1(s->inverse));
      pc_store_doubles(grad, j->rows.wide, i + c * LANES, j->rows.n, vd_mul(vd_fma(z, vd_set1(-along), gap[c]), vd_set1(step)));
    }
  }
}

static double loss_of_row(const void *context, int64_t i, double *kept) {
  const job *j = context;
  double *kept_t = kept ? kept + PC_ROOM(j->rows.n) : NULL;
  const double scale = j->rows.scale[i], inverse_t = pc_inverse_of(j->rows.temperature[i]);
  void *grad = pc_grad_row(&j->rows, i);
  double nothing = 0.0;
  if (scale != 0.0) {
    side s, t;
    const pc_row_kind of_s = begin_side(j, pc_student_row(&j->rows, i), inverse_t, kept, &s);
    const pc_row_kind of_t = begin_side(j, pc_element(j->teacher, j->rows.wide, i * j->ldteacher), inverse_t, kept_t, &t);
    const int unknown = of_s == PC_ROW_NAN || of_t == PC_ROW_NAN, finite = of_s == PC_ROW_FINITE && of_t == PC_ROW_FINITE;
    if (unknown || (finite && isnan(s.inverse + t.inverse))) {
      nothing = NAN;
    } else if (finite) {
      double moment;
      const double kl = kl_of(j, &s, &t, &moment);
      if (grad) gradient_of(j, &s, &t, s.inverse * moment / (double)j->rows.n, scale * inverse_t * s.inverse, grad);
      return scale * (kl < 0.0 ? 0.0 : kl); /* NaN stays */
    }
  }
  if (grad) pc_fill_doubles(grad, j->rows.wide, j->rows.n, nothing);
  return nothing;
}

static int losses(const job *j) {
  return j->ldteacher < j->rows.n ? PC_EINVAL : pc_losses_of_rows(&j->rows, 2, loss_of_row, j);
}

#define ENTRIES(name, with_grad, type, is_wide)                                                               \
  int PC_FN(with_grad)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,     \
                       int64_t ldteacher, const double *temperature, const double *scale, double *loss,       \
                       type *grad, int64_t ldgrad) {                                                          \
    const job j = {.rows = PC_ROWS(is_wide), .teacher = teacher, .ldteacher = ldteacher};                     \
    return losses(&j);                                                                                        \
  }                                                                                                           \
  int PC_FN(name)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,          \
                  int64_t ldteacher, const double *temperature, const double *scale, double *loss) {          \
    return PC_FN(with_grad)(m, n, student, ldstudent, teacher, ldteacher, temperature, scale, loss, NULL, n); \
  }
ENTRIES(standardized_kl_f32, standardized_kl_grad_f32, float, 0)
ENTRIES(standardized_kl_f64, standardized_kl_grad_f64, double, 1)
