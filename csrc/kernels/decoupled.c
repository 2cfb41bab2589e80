/* Decoupled distillation (Zhao et al., 2022) of each row, and its gradient: with z the log odds of the label against all the
 * others, b = (yes, no) their two answers, and p^, q^ the softmax of the others alone, of teacher and student,
 *   loss = alpha KL(b_t || b_s) + beta KL(p^ || q^)
 *   T d loss/d s_label = t = alpha (yes_s - yes_t);   T d loss/d s_j = (beta - t) q^_j - beta p^_j.
 * Both divergences by terms of second order (kl.h), in double; sums follow the lane rule, the label's term 0.
 * Threads share rows. Limit: the double units, 110 operations an element. */
#include "double_rows.h"
#include "kl.h"
#include "table.h"

typedef struct {
  pc_rows rows;
  const void *teacher;
  int64_t ldteacher;
  const int64_t *labels;
  double alpha, beta;
} job;

/* One side of a row: the classes but for the label, and the label's log odds against them. */
typedef struct {
  const void *x;
  double max, log_sum, inverse_sum, odds;
  double *kept; /* room for its terms, or NULL */
} side;

#define TOGETHER PC_DOUBLES_TOGETHER

/* Returns what kind of row it is. One whose label alone is finite has inverse_sum 0. */
static pc_row_kind begin_side(const job *j, const void *x, int64_t label, double inverse_t, double *kept, side *to) {
  const double own = pc_double_at(x, j->rows.wide, label), before = pc_max_of_doubles(x, j->rows.wide, label);
  const double after = pc_max_of_doubles(pc_element(x, j->rows.wide, label + 1), j->rows.wide, j->rows.n - label - 1);
  if (!(own < INFINITY) || isnan(before) || isnan(after)) return PC_ROW_NAN;
  *to = (side){.x = x, .max = before > after ? before : after, .odds = INFINITY, .kept = kept};
  if (to->max == -INFINITY) return own == -INFINITY ? PC_ROW_EMPTY : PC_ROW_FINITE;
  const double sum = pc_sum_doubles(x, j->rows.wide, j->rows.n, label, to->max, inverse_t, kept);
  to->inverse_sum = 1.0 / sum;
  to->log_sum = pc_log(sum);
  to->odds = fma(own - to->max, inverse_t, -to->log_sum);
  return PC_ROW_FINITE;
}

/* KL between the two answers, and yes of the student less yes of the teacher. */
static double kl_of_answers(double odds_s, double odds_t, double *gap) {
  const vd16 s = vd_set1(odds_s), t = vd_set1(odds_t);
  pc_ratios student, teacher;
  vd16 kl[TOGETHER], of_no[TOGETHER];
  pc_answers_each(1, &s, &student);
  pc_answers_each(1, &t, &teacher);
  const vd16 yes = vd_sub(teacher.log_p[0], student.log_p[0]), no = vd_sub(teacher.log_q[0], student.log_q[0]);
  pc_kl_each(1, teacher.p, student.p, &yes, kl);
  pc_kl_each(1, teacher.q, student.q, &no, of_no);
  double lanes[LANES];
  vd_store(lanes, vd_sub(student.p[0], teacher.p[0]));
  *gap = lanes[0];
  vd_store(lanes, vd_add(kl[0], of_no[0]));
  return lanes[0];
}

/* KL of the others among themselves. The gradient, if wanted: (q^ of_q - p^ of_p) step. */
static double among_others(const job *j, int64_t label, double inverse_t, const side *s, const side *t, double of_q, double of_p,
                           double step, void *grad) {
  const double apart = t->log_sum - s->log_sum;
  const int both = s->inverse_sum != 0.0 && t->inverse_sum != 0.0;
  vd16 sum = vd_zero();
  for (int64_t i = 0; i < j->rows.n; i += TOGETHER * LANES) {
    vd16 x[TOGETHER], y[TOGETHER], p[TOGETHER], q[TOGETHER], d[TOGETHER], kl[TOGETHER];
    PC_OF_EACH(TOGETHER) {
      x[c] = pc_load_logits(s->x, j->rows.wide, i + c * LANES, j->rows.n, label);
      y[c] = pc_load_logits(t->x, j->rows.wide, i + c * LANES, j->rows.n, label);
      p[c] = q[c] = vd_zero();
    }
    if (s->inverse_sum != 0.0)
      pc_probabilities(TOGETHER, s->kept ? s->kept + i : NULL, x, s->max, inverse_t, s->inverse_sum, q);
    if (both) {
      pc_probabilities(TOGETHER, t->kept ? t->kept + i : NULL, y, t->max, inverse_t, t->inverse_sum, p);
      PC_OF_EACH(TOGETHER) {
        const vd16 gap = vd_sub(vd_sub(y[c], vd_set1(t->max)), vd_sub(x[c], vd_set1(s->max)));
        d[c] = vd_fma(gap, vd_set1(inverse_t), vd_set1(-apart));
      }
      pc_kl_each(TOGETHER, p, q, d, kl);
      PC_OF_EACH(TOGETHER) sum = vd_add(sum, kl[c]);
    }
    if (grad)
      PC_OF_EACH(TOGETHER) {
        const vd16 slope = vd_fma(q[c], vd_set1(of_q), vd_sub(vd_zero(), vd_mul(p[c], vd_set1(of_p))));
        pc_store_doubles(grad, j->rows.wide, i + c * LANES, j->rows.n, vd_mul(slope, vd_set1(step)));
      }
  }
  return vd_fold_add(sum);
}

static double weighted(double weight, double value) { return weight != 0.0 ? weight * value : 0.0; }

static double loss_of_row(const void *context, int64_t i, double *kept) {
  const job *j = context;
  double *kept_t = kept ? kept + PC_ROOM(j->rows.n) : NULL;
  const double scale = j->rows.scale[i], inverse_t = pc_inverse_of(j->rows.temperature[i]), step = scale * inverse_t;
  const int64_t label = j->labels[i];
  void *grad = pc_grad_row(&j->rows, i);
  double nothing = 0.0;
  if (scale != 0.0 && j->rows.n > 0) {
    side s, t;
    const pc_row_kind of_s = begin_side(j, pc_student_row(&j->rows, i), label, inverse_t, kept, &s);
    const pc_row_kind of_t = begin_side(j, pc_element(j->teacher, j->rows.wide, i * j->ldteacher), label, inverse_t, kept_t, &t);
    if (of_s == PC_ROW_FINITE && of_t == PC_ROW_FINITE) {
      double gap;
      const double answers = kl_of_answers(s.odds, t.odds, &gap), target = j->alpha * gap;
      const double beta = s.inverse_sum != 0.0 && t.inverse_sum != 0.0 ? j->beta : 0.0;
      const double among = among_others(j, label, inverse_t, &s, &t, beta - target, beta, step, grad);
      if (grad) pc_set_double_at(grad, j->rows.wide, label, target * step);
      return scale * (weighted(j->alpha, answers) + weighted(beta, among < 0.0 ? 0.0 : among)); /* NaN stays */
    }
    if (of_s == PC_ROW_NAN || of_t == PC_ROW_NAN) nothing = NAN;
  }
  if (grad) pc_fill_doubles(grad, j->rows.wide, j->rows.n, nothing);
  return nothing;
}

static int losses(const job *j) {
  const pc_rows *r = &j->rows;
  if (j->ldteacher < r->n || !(j->alpha >= 0 && j->alpha < INFINITY && j->beta >= 0 && j->beta < INFINITY)) return PC_EINVAL;
  for (int64_t i = 0; i < r->m && r->n > 0; i++)
    if (j->labels[i] < 0 || j->labels[i] >= r->n) return PC_EINVAL;
  return pc_losses_of_rows(r, 2, loss_of_row, j);
}

#define ENTRIES(name, with_grad, type, is_wide)                                                                 \
  int PC_FN(with_grad)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,       \
                       int64_t ldteacher, const int64_t *labels, double alpha, double beta,                     \
                       const double *temperature, const double *scale, double *loss, type *grad,                \
                       int64_t ldgrad) {                                                                        \
    const job j = {.rows = PC_ROWS(is_wide),                                                                    \
                   .teacher = teacher, .ldteacher = ldteacher, .labels = labels, .alpha = alpha, .beta = beta}; \
    return losses(&j);                                                                                          \
  }                                                                                                             \
  int PC_FN(name)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,            \
                  int64_t ldteacher, const int64_t *labels, double alpha, double beta,                          \
                  const double *temperature, const double *scale, double *loss) {                               \
    return PC_FN(with_grad)(m, n, student, ldstudent, teacher, ldteacher, labels, alpha, beta, temperature,     \
                            scale, loss, NULL, n);                                                              \
  }
ENTRIES(decoupled_kl_f32, decoupled_kl_grad_f32, float, 0)
ENTRIES(decoupled_kl_f64, decoupled_kl_grad_f64, double, 1)
