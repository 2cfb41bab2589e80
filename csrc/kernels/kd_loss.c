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
 * are added to float64 lanes every 1024 elements. Logits are read twice: for the terms, which are kept in the gradient and in a
 * row of scratch, and for the loss. Threads share rows; rows of few classes are turned into columns. Limit: the float units, about
 * 75 operations an element. */
#include "heap.h"
#include "kd_loss_columns.h"
#include "table.h"
#include "terms_once.h"

enum {
  GRAIN = 1 << 12, /* elements that pay for waking a thread */
  BLOCK = PC_BLOCK, /* elements of a float32 chain */
  KEPT = 1 << 19,  /* terms of a row that are kept, 2 MB a side and thread; of longer rows they are made twice */
  FAR = 36 << 10,  /* elements of a row that L2 does not hold with its terms until they are read again: */
  AHEAD = 1024,    /* they are asked for so many before */
  TOGETHER = PC_TOGETHER / 2, /* vectors that go side by side through the terms of KL */
  TURNED = PC_WIDE > 2 ? 208 : 104, /* elements of rows that are turned into columns, */
  FEW = PC_WIDE > 2 ? 3 : 6         /* and rows that are not worth it, of a few elements each */
};

/* kept: the terms of both are. far: not in L2. */
PC_INLINE double divergence(int kept, int far, int64_t n, const rows *of, const pc_side *student, const pc_side *teacher) {
  rows r = *of;
  const int64_t length = pc_block_length(n);
  vd16 kl = vd_zero(), pd = vd_zero();
  for (int64_t block = 0; block < n; block += BLOCK) {
    const int64_t end = smaller(block + BLOCK, n), k = block / length;
    if (block == 0 || r.student.places != student->places[k] || r.teacher.places != teacher->places[k]) {
      r.student.places = student->places[k];
      r.teacher.places = teacher->places[k];
      r.of_s = chances_of(vd_set1(pc_side_sum(student, k)));
      r.of_t = chances_of(vd_set1(pc_side_sum(teacher, k)));
    }
    sums lanes = {vf_zero(), vf_zero()};
    int64_t i = block;
    for (; i + TOGETHER * LANES <= end; i += TOGETHER * LANES) {
      for (int64_t l = i + AHEAD; far && l < i + AHEAD + TOGETHER * LANES; l += LANES) {
        __builtin_prefetch(r.s + l);
        __builtin_prefetch(r.t + l);
        if (kept) __builtin_prefetch(r.kept_s + l);
        if (kept) __builtin_prefetch(r.kept_t + l);
      }
      lanes = diverge(TOGETHER, kept, &r, i, TOGETHER * LANES, lanes);
    }
    for (; i < end; i += LANES) lanes = diverge(1, kept, &r, i, end - i, lanes);
    kl = vd_add_vf(kl, lanes.kl);
    pd = vd_add_vf(pd, lanes.pd);
  }
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
      vf_store_left(grad + i, j->n - i, vf_fma(e, r, vf_sub(pc_load_row(grad + i, j->n - i), share)));
    }
  }
  return at_label(j, s, max, label, hard, grad, pc_log_sum(sum, &terms), even(j) > 0.0 ? below_max(j->n, s, max) : 0.0);
}

typedef struct { float s, t; } maxima; /* of a row on either side, or of its first block */

static maxima maxima_of(const job *j, int64_t row, int64_t n) {
  return (maxima){pc_row_max(j->student + row * j->ldstudent, n), pc_row_max(j->teacher + row * j->ldteacher, n)};
}

/* Both sides of a row, block by block. next: the row that comes then. first: the maxima of the row's first block; then of the
 * next row's. Returns 0 where a side has to be known whole. */
static int read_once(const job *j, int64_t row, int64_t next, maxima *first, pc_side *student, pc_side *teacher, float *kept_s,
                     float *kept_t) {
  const int64_t n = j->n, length = pc_block_length(n);
  const float *s = j->student + row * j->ldstudent, *t = j->teacher + row * j->ldteacher;
  const double temperature = j->temperature[row];
  maxima max = *first;
  pc_side_begin(student);
  pc_side_begin(teacher);
  for (int64_t i = 0; i < n; i += length) {
    const int64_t size = smaller(length, n - i), then = i + size, left = n - then;
    const float *then_s = left ? s + then : j->student + next * j->ldstudent;
    const float *then_t = left ? t + then : j->teacher + next * j->ldteacher;
    const int64_t then_size = smaller(length, left ? left : n);
    if (!pc_side_rise(student, max.s, temperature) || !pc_side_rise(teacher, max.t, temperature)) return 0;
    max.s = pc_side_read(student, i / length, size, s + i, kept_s ? kept_s + i : NULL, then_size, then_s);
    max.t = pc_side_read(teacher, i / length, size, t + i, kept_t ? kept_t + i : NULL, then_size, then_t);
  }
  *first = max;
  student->sum = vd_fold_add(student->lanes);
  teacher->sum = vd_fold_add(teacher->lanes);
  return 1;
}

/* The same by the maxima of whole rows. */
static void read_known(const job *j, int64_t row, pc_side *student, pc_side *teacher, float *kept_s, float *kept_t) {
  const maxima whole = maxima_of(j, row, j->n);
  student->sum = teacher->sum = NAN;
  if (pc_classify_row(whole.s) == PC_ROW_NAN || pc_classify_row(whole.t) == PC_ROW_NAN) return;
  pc_side_read_known(student, j->n, j->student + row * j->ldstudent, whole.s, j->temperature[row], kept_s);
  pc_side_read_known(teacher, j->n, j->teacher + row * j->ldteacher, whole.t, j->temperature[row], kept_t);
}

/* What is known of the row that comes: the maxima of its first block, or nothing. */
typedef struct { maxima first; int known; } outlook;

/* kept: room for the teacher's terms, and for the student's where they can't lie in the gradient; or NULL. */
static double loss_of_row(const job *j, int64_t row, int64_t next, outlook *seen, float *kept, float *grad) {
  const float *s = j->student + row * j->ldstudent, *t = j->teacher + row * j->ldteacher;
  const double temperature = j->temperature[row], soft = j->soft[row], hard = hard_of(j, row);
  float *const kept_s = !kept ? NULL : grad ? grad : kept + j->n;
  pc_side student, teacher;
  if (!seen->known) seen->first = maxima_of(j, row, smaller(pc_block_length(j->n), j->n));
  seen->known = read_once(j, row, next, &seen->first, &student, &teacher, kept_s, kept);
  if (!seen->known) read_known(j, row, &student, &teacher, kept_s, kept);
  if (isnan(student.sum) || isnan(teacher.sum)) {
    if (grad) pc_fill_row(grad, j->n, NAN);
    return NAN;
  }
  double loss = 0.0;
  if (student.max == -INFINITY || teacher.max == -INFINITY) {
    if (grad) pc_fill_row(grad, j->n, 0.0f);
  } else {
    rows r = {.s = s, .t = t, .kept_s = kept_s, .kept_t = kept, .grad = grad, .student = student.terms, .teacher = teacher.terms,
              .step = vf_set1((float)(soft / temperature))};
    const double shift = (r.teacher.rest - r.student.rest) - pc_log(teacher.sum / student.sum);
    const double top_s = (double)student.max - r.student.base, top_t = (double)teacher.max - r.teacher.base;
    const double apart = top_t - top_s - shift * temperature;
    r.gap = gap_of(vd_set1(apart), vf_set1(r.teacher.base), vf_set1(r.student.base), temperature);
    const double kl = !kept        ? divergence(0, 1, j->n, &r, &student, &teacher)
                      : j->n < FAR ? divergence(1, 0, j->n, &r, &student, &teacher)
                                   : divergence(1, 1, j->n, &r, &student, &teacher);
    loss = soft_part(soft, kl);
  }
  if (hard != 0.0 && student.max > -INFINITY) loss += hard * cross_entropy(j, s, student.max, j->labels[row], hard, grad);
  return loss;
}

/* kept: see loss_of_row. */
static void rows_as_they_lie(const job *j, int64_t begin, int64_t end, float *kept) {
  outlook seen = {0};
  for (int64_t i = begin; i < end; i++) {
    float *const grad = j->grad ? j->grad + i * j->ldgrad : NULL;
    const int64_t next = i + 1 < end && counts(j, i + 1) ? i + 1 : i;
    if (counts(j, i)) {
      j->loss[i] = loss_of_row(j, i, next, &seen, kept, grad);
    } else {
      j->loss[i] = 0.0;
      if (grad) pc_fill_row(grad, j->n, 0.0f);
    }
    seen.known = seen.known && next != i;
  }
}

static void whole_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const size_t sides = j->grad ? 1 : 2;
  void *found = NULL; /* without room terms are made anew */
  float *const room = j->n <= KEPT ? pc_heap(sides * (size_t)j->n * sizeof(float), &found) : NULL;
  rows_as_they_lie(j, begin, end, room);
  free(found);
}

static int share_temperature(const job *j, int64_t begin, int64_t end) {
  int differ = 0;
  for (int64_t i = begin + 1; i < end; i++) differ |= j->temperature[i] != j->temperature[begin];
  return !differ;
}

/* Rows so short that the steps from maximum to sum, and from there to the loss, would take longer than their elements. */
static void short_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  void *found;
  float *const room = pc_heap((size_t)(4 * turned_size(j->n)) * sizeof(float), &found);
  if (!room) {
    rows_as_they_lie(j, begin, end, NULL);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t left = end - i, most = left > (PC_WIDE - 1) * LANES ? PC_WIDE * LANES : LANES, count = smaller(left, most);
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
    if (!pc_is_temperature(j->temperature[i])) return PC_EINVAL;
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
