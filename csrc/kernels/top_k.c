/* KL of each row to a teacher of whom k probabilities p_j are known, the rest of the mass as one more answer:
 *   loss = sum over j of KL terms (p_j, q_j) + the term (r, R),   r = 1 - sum p_j,   R = 1 - sum q_j,
 *   T d loss/d s = q - p where p is known, q (1 - r/R) elsewhere.
 * Terms of second order (kl.h), in double. R is summed, not subtracted: what is small keeps its meaning. Sums follow the lane
 * rule, known classes adding 0 to R. Threads share rows. Limit: the double units, 45 operations an element. */
#include "double_rows.h"
#include "kl.h"
#include "table.h"

#define PC_LEAST_REST 0x1p-48 /* what a sum of 1 may be off by rounding */

enum { BLOCK = 1024 }; /* terms that are made anew at a time, where a row is too long to keep them */

typedef struct {
  pc_rows rows;
  int64_t k;
  const double *probabilities;
  const int64_t *classes;
} job;

typedef struct {
  int64_t n, k;
  int wide;
  const void *x;
  const double *p;
  const int64_t *classes;
  double max, inverse_t, inverse_sum;
  double *kept; /* all terms, 0 for known classes; or NULL */
} row;

/* Terms of the classes that are not known, from `begin`, a multiple of BLOCK, on. */
static const double *others(const row *r, int64_t begin, double *buffer) {
  if (r->kept) return r->kept + begin;
  for (int64_t i = 0; i < BLOCK; i += PC_DOUBLES_TOGETHER * LANES) {
    vd16 e[PC_DOUBLES_TOGETHER];
    PC_OF_EACH(PC_DOUBLES_TOGETHER) e[c] = pc_load_doubles(r->x, r->wide, begin + i + c * LANES, r->n, -INFINITY);
    pc_terms_of_doubles(PC_DOUBLES_TOGETHER, e, r->max, r->inverse_t, e);
    PC_OF_EACH(PC_DOUBLES_TOGETHER) vd_store(buffer + i + c * LANES, e[c]);
  }
  for (int64_t j = 0; j < r->k; j++)
    if (r->classes[j] >= begin && r->classes[j] < begin + BLOCK) buffer[r->classes[j] - begin] = 0.0;
  return buffer;
}

/* R. */
static double mass_of_others(const row *r) {
  double buffer[BLOCK];
  vd16 sum = vd_zero();
  for (int64_t begin = 0; begin < r->n; begin += BLOCK) {
    const int64_t count = smaller(r->n - begin, BLOCK);
    const double *e = others(r, begin, buffer);
    for (int64_t i = 0; i < count; i += LANES) sum = vd_add(sum, vd_load(e + i));
  }
  return vd_fold_add(sum) * r->inverse_sum;
}

static void gradient_of_others(const row *r, double step, void *grad) {
  double buffer[BLOCK];
  for (int64_t begin = 0; begin < r->n; begin += BLOCK) {
    const int64_t count = smaller(r->n - begin, BLOCK);
    const double *e = others(r, begin, buffer);
    for (int64_t i = 0; i < count; i += LANES) {
      const vd16 q = vd_mul(vd_load(e + i), vd_set1(r->inverse_sum));
      pc_store_doubles(grad, r->wide, begin + i, r->n, vd_mul(q, vd_set1(step)));
    }
  }
}

/* Of sixteen known classes, from the j-th on: the logits and q; past the last, -inf and 0. */
PC_INLINE vd16 known_from(const row *r, int64_t j, vd16 *q) {
  double lanes[LANES];
  for (int l = 0; l < LANES; l++) lanes[l] = j + l < r->k ? pc_double_at(r->x, r->wide, r->classes[j + l]) : -INFINITY;
  const vd16 x = vd_load(lanes);
  pc_probabilities(1, NULL, &x, r->max, r->inverse_t, r->inverse_sum, q);
  return x;
}

/* The KL terms of the known classes, and the mass that the teacher has there. */
static double kl_of_known(const row *r, double log_sum, double *mass) {
  vd16 sum = vd_zero(), kl = vd_zero();
  for (int64_t j = 0; j < r->k; j += LANES) {
    vd16 q, log_p, of;
    const vd16 x = known_from(r, j, &q), p = pc_load_doubles(r->p, 1, j, r->k, 0.0), w = vd_max(p, vd_set1(PC_LEAST_LOGARITHM));
    vd_log_each(1, &w, &log_p);
    const vd16 d = vd_add(log_p, vd_fma(vd_sub(x, vd_set1(r->max)), vd_set1(-r->inverse_t), vd_set1(log_sum)));
    pc_kl_each(1, &p, &q, &d, &of);
    sum = vd_add(sum, p);
    kl = vd_add(kl, of);
  }
  *mass = vd_fold_add(sum);
  return vd_fold_add(kl);
}

static void gradient_of_known(const row *r, double step, void *grad) {
  for (int64_t j = 0; j < r->k; j += LANES) {
    vd16 q;
    double lanes[LANES];
    known_from(r, j, &q);
    vd_store(lanes, vd_mul(vd_sub(q, pc_load_doubles(r->p, 1, j, r->k, 0.0)), vd_set1(step)));
    for (int64_t l = 0; l < LANES && j + l < r->k; l++) pc_set_double_at(grad, r->wide, r->classes[j + l], lanes[l]);
  }
}

static double term(double a, double b) {
  const vd16 p = vd_set1(a), q = vd_set1(b), d = vd_set1(a > 0.0 && b > 0.0 ? pc_log(a) - pc_log(b) : INFINITY);
  vd16 kl;
  pc_kl_each(1, &p, &q, &d, &kl);
  double lanes[LANES];
  vd_store(lanes, kl);
  return lanes[0];
}

static double loss_of_finite(row *r, double scale, void *grad) {
  const double sum = pc_sum_doubles(r->x, r->wide, r->n, PC_NO_HOLE, r->max, r->inverse_t, r->kept);
  const double step = scale * r->inverse_t;
  double mass;
  r->inverse_sum = 1.0 / sum;
  const double kl = kl_of_known(r, pc_log(sum), &mass);
  for (int64_t j = 0; j < r->k && r->kept; j++) r->kept[r->classes[j]] = 0.0;
  if (isnan(mass)) {
    if (grad) pc_fill_doubles(grad, r->wide, r->n, NAN);
    return NAN;
  }
  const double rest = 1.0 - mass < PC_LEAST_REST ? 0.0 : 1.0 - mass, left = mass_of_others(r);
  if (grad) {
    gradient_of_others(r, (1.0 - (left > 0.0 ? rest / left : 0.0)) * step, grad);
    gradient_of_known(r, step, grad);
  }
  return scale * (kl + term(rest, left));
}

static double loss_of_row(const void *context, int64_t i, double *kept) {
  const job *j = context;
  void *grad = pc_grad_row(&j->rows, i);
  row r = {.n = j->rows.n, .k = j->k, .wide = j->rows.wide, .x = pc_student_row(&j->rows, i),
           .p = j->probabilities + i * j->k, .classes = j->classes + i * j->k,
           .inverse_t = pc_inverse_of(j->rows.temperature[i]), .kept = kept};
  double nothing = 0.0;
  if (j->rows.scale[i] != 0.0) {
    r.max = pc_max_of_doubles(r.x, r.wide, r.n);
    if (r.max > -INFINITY) return loss_of_finite(&r, j->rows.scale[i], grad);
    if (isnan(r.max)) nothing = NAN;
  }
  if (grad) pc_fill_doubles(grad, r.wide, r.n, nothing);
  return nothing;
}

static int losses(const job *j) {
  const pc_rows *r = &j->rows;
  if (j->k < 0) return PC_EINVAL;
  for (int64_t i = 0; i < r->m * j->k; i++)
    if (j->classes[i] < 0 || j->classes[i] >= r->n) return PC_EINVAL;
  return pc_losses_of_rows(r, 1, loss_of_row, j);
}

#define ENTRIES(name, with_grad, type, is_wide)                                                            \
  int PC_FN(with_grad)(int64_t m, int64_t n, int64_t k, const type *student, int64_t ldstudent,            \
                       const double *probabilities, const int64_t *classes, const double *temperature,     \
                       const double *scale, double *loss, type *grad, int64_t ldgrad) {                    \
    const job j = {.rows = PC_ROWS(is_wide),                                                               \
                   .k = k, .probabilities = probabilities, .classes = classes};                            \
    return losses(&j);                                                                                     \
  }                                                                                                        \
  int PC_FN(name)(int64_t m, int64_t n, int64_t k, const type *student, int64_t ldstudent,                 \
                  const double *probabilities, const int64_t *classes, const double *temperature,          \
                  const double *scale, double *loss) {                                                     \
    return PC_FN(with_grad)(m, n, k, student, ldstudent, probabilities, classes, temperature, scale, loss, \
                            NULL, n);                                                                      \
  }
ENTRIES(top_k_kl_f32, top_k_kl_grad_f32, float, 0)
ENTRIES(top_k_kl_f64, top_k_kl_grad_f64, double, 1)
