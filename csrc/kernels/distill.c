/* Distillation loss of each row and its gradient by the student's logits s; t the teacher's (Hinton et al. 2015):
 *   loss = soft KL(p || q) + hard (log sum_i exp s_i - sum_i y_i s_i),   p = softmax(t/T), q = softmax(s/T)
 *   grad = soft/T (q - p) + hard (softmax(s) - y),   y_i = smoothing/n, and 1 - smoothing more for the label
 * T, soft and hard are the row's; where both weights are 0 it is not looked at.
 *
 * KL keeps its meaning where the two agree. With d_i = log p_i - log q_i = ((t_i - max t) - (s_i - max s))/T - c, c the
 * logarithm of the ratio of the sums, and because sum p_i expm1(-d_i) = sum q_i - sum p_i = 0,
 *   KL = sum p_i d_i = sum p_i (d_i + expm1(-d_i)):
 * every term is at least 0 and of second order in d, so only relative errors remain. d is taken in two floats from the
 * raw logits. p_i expm1(-d_i) is q_i - p_i, or for |d_i| < 1/2 a polynomial. An error eta of c adds expm1(eta) - eta to
 * the sum; but then b = sum p_i expm1(-d_i), the sum less sum p_i d_i, is expm1(eta), so b - log1p(b) is taken away.
 * Where p_i = 0 the term is q_i, which the same identity asks for; where both are 0 it is 0.
 *
 * Sums: the lane rule. The terms of p and q, by pairs, in float64 lanes; those of KL and of p_i d_i in float32 lanes that
 * are added to float64 lanes every 1024 elements. Threads share rows; rows of few classes are turned into columns. Limit: the
 * float units, about 75 operations an element. */
#include <stdlib.h>

#include "distill_columns.h"
#include "table.h"

enum {
  GRAIN = 1 << 12, /* elements that pay for waking a thread */
  BLOCK = 1024,    /* elements of a float32 chain */
  KEPT = 1 << 19,  /* terms of a row that are kept, 2 MB a side and thread; of longer rows they are made twice */
  TOGETHER = PC_TOGETHER / 2, /* vectors that go side by side through the terms of KL */
  TURNED = PC_WIDE > 2 ? 208 : 104, /* elements of rows that are turned into columns, */
  FEW = PC_WIDE > 2 ? 3 : 6         /* and rows that are not worth it, of a few elements each */
};

/* kept: the terms of both are. next: NULL, or a row whose maximum is found meanwhile. */
PC_INLINE double divergence(int kept, int64_t n, const rows *of, const float *next, float *next_max) {
  const rows r = *of;
  vd16 kl = vd_zero(), pd = vd_zero();
  vf16 top = vf_set1(-INFINITY);
  for (int64_t block = 0; block < n; block += BLOCK) {
    const int64_t end = n - block < BLOCK ? n : block + BLOCK;
    sums lanes = {vf_zero(), vf_zero()};
    int64_t i = block;
    for (; i + TOGETHER * LANES <= end; i += TOGETHER * LANES) {
      if (next) {
        PC_OF_EACH(TOGETHER) {
          pc_ask_line(next + i + c * LANES);
          top = vf_max(vf_load(next + i + c * LANES), top);
        }
      }
      lanes = diverge(TOGETHER, kept, &r, i, TOGETHER * LANES, lanes);
    }
    for (; i < end; i += LANES) {
      if (next) top = vf_max(pc_load_row(next + i, end - i), top);
      lanes = diverge(1, kept, &r, i, end - i, lanes);
    }
    kl = vd_add_vf(kl, lanes.kl);
    pd = vd_add_vf(pd, lanes.pd);
  }
  if (next) *next_max = pc_max_found(top, n, next);
  return closed(vd_fold_add(kl), vd_fold_add(pd));
}

/* The sum of max - s: what smoothed labels see of the others. */
static double below_max(int64_t n, const float *s, float max) {
  vd16 sum = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vf16 top = vf_set1(max), v = n - i >= LANES ? vf_load(s + i) : vf_select(vm_first(n - i), vf_load_n(s + i, n - i), top);
    sum = vd_add(sum, vd_sub(vd_from_vf(top), vd_from_vf(v)));
  }
  return vd_fold_add(sum);
}

/* hard (softmax(s) - y) added to grad, if given; returns log sum exp s - sum y s, as what is below the maximum. */
static double cross_entropy(const job *j, const float *s, float max, int64_t label, double hard, float *grad) {
  const pc_terms terms = pc_terms_of(max, 1.0);
  const double sum = pc_sum_terms(j->n, s, &terms, (pc_beside){0});
  if (grad) {
    const vf16 r = vf_set1((float)(hard / sum)), share = vf_set1((float)(hard * even(j)));
    for (int64_t i = 0; i < j->n; i += LANES) {
      const vf16 e = pc_term(pc_load_row(s + i, j->n - i), &terms);
      pc_store_row(grad + i, j->n - i, vf_fma(e, r, vf_sub(pc_load_row(grad + i, j->n - i), share)));
    }
  }
  return at_label(j, s, max, label, hard, grad, pc_log_sum(sum, &terms), even(j) > 0.0 ? below_max(j->n, s, max) : 0.0);
}

typedef struct { float s, t; } maxima; /* of a row on either side */

static maxima maxima_of(const job *j, int64_t row) {
  return (maxima){pc_row_max(j->student + row * j->ldstudent, j->n), pc_row_max(j->teacher + row * j->ldteacher, j->n)};
}

static int are_finite(maxima of) { return pc_classify_row(of.s) == PC_ROW_FINITE && pc_classify_row(of.t) == PC_ROW_FINITE; }

static double not_a_number(const job *j, float *grad) {
  if (grad) pc_fill_row(grad, j->n, NAN);
  return NAN;
}

/* kept: room for the teacher's terms, and for the student's where they can't lie in the gradient; or NULL. max: of the row,
 * where NaN may have been passed over; then, if `ahead`, of the next. */
static double loss_of_row(const job *j, int64_t row, int ahead, float *kept, float *grad, maxima *max) {
  const float *s = j->student + row * j->ldstudent, *t = j->teacher + row * j->ldteacher;
  const maxima own = are_finite(*max) ? *max : maxima_of(j, row);
  const float max_s = own.s, max_t = own.t;
  const pc_row_kind kind_s = pc_classify_row(max_s), kind_t = pc_classify_row(max_t);
  const double temperature = j->temperature[row], soft = j->soft[row], hard = hard_of(j, row);
  if (ahead && !are_finite(own)) *max = maxima_of(j, row + 1);
  if (kind_s == PC_ROW_NAN || kind_t == PC_ROW_NAN) return not_a_number(j, grad);
  double loss = 0.0;
  if (kind_s == PC_ROW_EMPTY || kind_t == PC_ROW_EMPTY) {
    if (grad) pc_fill_row(grad, j->n, 0.0f);
  } else {
    float *const kept_s = !kept ? NULL : grad ? grad : kept + j->n;
    rows r = {.s = s, .t = t, .kept_s = kept_s, .kept_t = kept, .grad = grad,
              .student = pc_terms_of(max_s, temperature), .teacher = pc_terms_of(max_t, temperature)};
    const double sum_s = pc_sum_terms(j->n, s, &r.student, (pc_beside){.kept = kept_s, .far = j->n < PC_LONG});
    const pc_beside beside = {.kept = kept, .next = ahead ? s + j->ldstudent : NULL, .next_max = &max->s, .far = j->n < PC_LONG};
    const double sum_t = pc_sum_terms(j->n, t, &r.teacher, beside);
    if (isnan(sum_s) || isnan(sum_t)) {
      if (ahead) *max = maxima_of(j, row + 1);
      return not_a_number(j, grad);
    }
    const double shift = (r.teacher.rest - r.student.rest) - pc_log(sum_t / sum_s);
    r.rs = vf_set1((float)(1.0 / sum_s));
    r.rt = vf_set1((float)(1.0 / sum_t));
    r.step = vf_set1((float)(soft / temperature));
    const double top_s = (double)max_s - r.student.base, top_t = (double)max_t - r.teacher.base;
    const double apart = top_t - top_s - shift * temperature;
    r.gap = gap_of(vd_set1(apart), vf_set1(r.teacher.base), vf_set1(r.student.base), temperature);
    const float *const next = ahead ? t + j->ldteacher : NULL;
    const double kl = kept ? divergence(1, j->n, &r, next, &max->t) : divergence(0, j->n, &r, next, &max->t);
    loss = soft_part(soft, kl);
  }
  if (hard != 0.0 && kind_s == PC_ROW_FINITE) loss += hard * cross_entropy(j, s, max_s, j->labels[row], hard, grad);
  return loss;
}

/* kept: see loss_of_row. */
static void rows_as_they_lie(const job *j, int64_t begin, int64_t end, float *kept) {
  maxima max = {0};
  int known = 0; /* whether they are the next row's */
  for (int64_t i = begin; i < end; i++) {
    float *const grad = j->grad ? j->grad + i * j->ldgrad : NULL;
    if (!counts(j, i)) {
      j->loss[i] = 0.0;
      if (grad) pc_fill_row(grad, j->n, 0.0f);
      known = 0;
      continue;
    }
    const int ahead = i + 1 < end && counts(j, i + 1);
    if (!known) max = maxima_of(j, i);
    j->loss[i] = loss_of_row(j, i, ahead, kept, grad, &max);
    known = ahead;
  }
}

static void whole_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const size_t sides = j->grad ? 1 : 2;
  float *kept = j->n <= KEPT ? malloc(sides * (size_t)j->n * sizeof *kept) : NULL; /* without it they are made twice */
  rows_as_they_lie(j, begin, end, kept);
  free(kept);
}

static int share_temperature(const job *j, int64_t begin, int64_t end) {
  int differ = 0;
  for (int64_t i = begin + 1; i < end; i++) differ |= j->temperature[i] != j->temperature[begin];
  return !differ;
}

/* Rows so short that the steps from maximum to sum, and from there to the loss, would take longer than their elements. */
static void short_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const size_t bytes = (size_t)(4 * turned_size(j->n)) * sizeof(float), line = 64;
  char *const found = malloc(bytes + line);
  float *const room = found ? (float *)(found + (line - (uintptr_t)found % line)) : NULL;
  if (!room) {
    rows_as_they_lie(j, begin, end, NULL);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t left = end - i, most = left > (PC_WIDE - 1) * LANES ? PC_WIDE * LANES : LANES, count = left < most ? left : most;
    uint64_t odd = 0;
    if (!share_temperature(j, i, i + count)) rows_as_they_lie(j, i, i + count, room);
    else if (most > LANES) odd = rows_turned(PC_WIDE, j, i, count, room);
    else if (count > FEW + j->n / LANES) odd = rows_turned(1, j, i, count, room);
    else rows_as_they_lie(j, i, i + count, room);
    for (int64_t r = 0; odd && r < count; r++)
      if (odd >> r & 1) rows_as_they_lie(j, i + r, i + r + 1, room);
    i += count;
  }
  free(found);
}

static int losses(int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldstudent < j->n || j->ldteacher < j->n || j->ldgrad < j->n) return PC_EINVAL;
  if (!(j->smoothing >= 0 && j->smoothing <= 1)) return PC_EINVAL;
  for (int64_t i = 0; i < m; i++) {
    if (!(j->temperature[i] > 0 && j->temperature[i] < INFINITY)) return PC_EINVAL;
    if (hard_of(j, i) != 0.0 && (j->labels[i] < 0 || j->labels[i] >= j->n)) return PC_EINVAL;
  }
  pc_for(m, 1 + GRAIN / (j->n + 1), j->n <= TURNED ? short_rows : whole_rows, j);
  return PC_OK;
}

int PC_FN(kd_loss_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                       int64_t ldteacher, const int64_t *labels, const double *temperature, const double *soft, const double *hard,
                       double smoothing, double *loss) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, smoothing, loss, NULL, n};
  return losses(m, &j);
}

int PC_FN(kd_loss_grad_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                            int64_t ldteacher, const int64_t *labels, const double *temperature, const double *soft,
                            const double *hard, double smoothing, double *loss, float *grad, int64_t ldgrad) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, smoothing, loss, grad, ldgrad};
  return losses(m, &j);
}
