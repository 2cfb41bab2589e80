/* KL of each row to the mean of several teachers (You et al., 2017), and its gradient: with p = sum over k of share_k
 * softmax(teacher_k/T) and q = softmax(student/T),
 *   loss = KL(p || q),   T d loss/d s = q - p.
 * KL by terms of second order (kl.h), in double; sums follow the lane rule; p is the chain p = fma(term_k, share_k/sum_k, p),
 * k ascending from 0. Of rows too long to keep the terms are made twice. Threads share rows. Limit: the double units, 140
 * operations an element and 25 for each teacher. */
#include "double_rows.h"
#include "kl.h"
#include "table.h"

enum { TEACHERS = 64 }; /* at most */

typedef struct {
  pc_rows rows;
  int64_t e;
  const void *teachers; /* [m,e,n] */
  const double *shares;
} job;

typedef struct {
  const void *x;
  double max, weight; /* share/sum of terms */
} teacher;

#define TOGETHER PC_DOUBLES_TOGETHER

/* Sixteen elements of p, some times over. */
PC_INLINE void mean_of(const job *j, const teacher *teachers, double inverse_t, int64_t i, vd16 *p) {
  PC_OF_EACH(TOGETHER) p[c] = vd_zero();
  for (int64_t k = 0; k < j->e; k++) {
    const teacher t = teachers[k];
    vd16 e[TOGETHER];
    PC_OF_EACH(TOGETHER) e[c] = pc_load_doubles(t.x, j->rows.wide, i + c * LANES, j->rows.n, -INFINITY);
    pc_terms_of_doubles(TOGETHER, e, t.max, inverse_t, e);
    PC_OF_EACH(TOGETHER) p[c] = vd_fma(e[c], vd_set1(t.weight), p[c]);
  }
}

/* kept: the student's terms, then p; or NULL. */
static double kl_of(const job *j, const void *s, double max, double sum, const teacher *teachers, double inverse_t,
                    const double *kept, double step, void *grad) {
  const double log_sum = pc_log(sum), inverse_sum = 1.0 / sum;
  vd16 total = vd_zero();
  for (int64_t i = 0; i < j->rows.n; i += TOGETHER * LANES) {
    vd16 x[TOGETHER], p[TOGETHER], q[TOGETHER], w[TOGETHER], log_p[TOGETHER], d[TOGETHER], kl[TOGETHER];
    PC_OF_EACH(TOGETHER) x[c] = pc_load_doubles(s, j->rows.wide, i + c * LANES, j->rows.n, -INFINITY);
    pc_probabilities(TOGETHER, kept ? kept + i : NULL, x, max, inverse_t, inverse_sum, q);
    if (kept) {
      PC_OF_EACH(TOGETHER) p[c] = vd_load(kept + PC_ROOM(j->rows.n) + i + c * LANES);
    } else {
      mean_of(j, teachers, inverse_t, i, p);
    }
    PC_OF_EACH(TOGETHER) w[c] = vd_max(p[c], vd_set1(PC_LEAST_LOGARITHM));
    vd_log_each(TOGETHER, w, log_p);
    PC_OF_EACH(TOGETHER) d[c] = vd_add(log_p[c], vd_fma(vd_sub(x[c], vd_set1(max)), vd_set1(-inverse_t), vd_set1(log_sum)));
    pc_kl_each(TOGETHER, p, q, d, kl);
    PC_OF_EACH(TOGETHER) total = vd_add(total, kl[c]);
    if (grad)
      PC_OF_EACH(TOGETHER)
        pc_store_doubles(grad, j->rows.wide, i + c * LANES, j->rows.n, vd_mul(vd_sub(q[c], p[c]), vd_set1(step)));
  }
  return vd_fold_add(total);
}

/* 1, 0 where a teacher is -inf alone, or NaN where one holds NaN or +inf. p: room for their mean, and for the terms of one
 * behind it; or NULL. */
static double begin_teachers(const job *j, int64_t row, double inverse_t, teacher *to, double *p) {
  double *terms = p ? p + PC_ROOM(j->rows.n) : NULL, known = 1.0;
  for (int64_t k = 0; k < j->e; k++) {
    const void *x = pc_element(j->teachers, j->rows.wide, (row * j->e + k) * j->rows.n);
    const double max = pc_max_of_doubles(x, j->rows.wide, j->rows.n);
    if (isnan(max)) return NAN;
    if (max == -INFINITY) known = 0.0;
    if (known == 0.0) continue; /* none of the rest may hold NaN */
    to[k] = (teacher){x, max, j->shares[k] / pc_sum_doubles(x, j->rows.wide, j->rows.n, PC_NO_HOLE, max, inverse_t, terms)};
    const vd16 weight = vd_set1(to[k].weight);
    for (int64_t i = 0; p && i < PC_ROOM(j->rows.n); i += LANES)
      vd_store(p + i, vd_fma(vd_load(terms + i), weight, k ? vd_load(p + i) : vd_zero()));
  }
  return known;
}

static double loss_of_row(const void *context, int64_t i, double *kept) {
  const job *j = context;
  const double scale = j->rows.scale[i], inverse_t = pc_inverse_of(j->rows.temperature[i]);
  const void *s = pc_student_row(&j->rows, i);
  void *grad = pc_grad_row(&j->rows, i);
  double nothing = 0.0;
  if (scale != 0.0) {
    const double max = pc_max_of_doubles(s, j->rows.wide, j->rows.n);
    teacher teachers[TEACHERS];
    if (isnan(max)) {
      nothing = NAN;
    } else if (max > -INFINITY) {
      const double known = begin_teachers(j, i, inverse_t, teachers, kept ? kept + PC_ROOM(j->rows.n) : NULL);
      if (known == 1.0) {
        const double sum = pc_sum_doubles(s, j->rows.wide, j->rows.n, PC_NO_HOLE, max, inverse_t, kept);
        const double kl = kl_of(j, s, max, sum, teachers, inverse_t, kept, scale * inverse_t, grad);
        return scale * (kl < 0.0 ? 0.0 : kl); /* NaN stays */
      }
      nothing = known;
    }
  }
  if (grad) pc_fill_doubles(grad, j->rows.wide, j->rows.n, nothing);
  return nothing;
}

static int losses(const job *j) {
  return j->e < 1 || j->e > TEACHERS ? PC_EINVAL : pc_losses_of_rows(&j->rows, 3, loss_of_row, j);
}

#define ENTRIES(name, with_grad, type, is_wide)                                                                \
  int PC_FN(with_grad)(int64_t m, int64_t n, int64_t e, const type *student, int64_t ldstudent,                \
                       const type *teachers, const double *shares, const double *temperature,                  \
                       const double *scale, double *loss, type *grad, int64_t ldgrad) {                        \
    const job j = {.rows = PC_ROWS(is_wide), .e = e, .teachers = teachers, .shares = shares};                  \
    return losses(&j);                                                                                         \
  }                                                                                                            \
  int PC_FN(name)(int64_t m, int64_t n, int64_t e, const type *student, int64_t ldstudent,                     \
                  const type *teachers, const double *shares, const double *temperature, const double *scale,  \
                  double *loss) {                                                                              \
    return PC_FN(with_grad)(m, n, e, student, ldstudent, teachers, shares, temperature, scale, loss, NULL, n); \
  }
ENTRIES(ensemble_kl_f32, ensemble_kl_grad_f32, float, 0)
ENTRIES(ensemble_kl_f64, ensemble_kl_grad_f64, double, 1)
