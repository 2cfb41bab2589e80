/* softmax, log_softmax and logsumexp of the rows of x/T.
 *   m = max x;  e_i = exp((x_i - m)/T);  S = sum e_i;  y_i = e_i/S, or (x_i - m)/T - log S;  y = m/T + log S.
 * The sum follows the lane rule with float64 lanes, of pairs of terms: i ascending, then j <- j + (j+8), 4, 2, 1.
 * Threads share rows. Limit: the float units, about 20 operations an element; memory for log_softmax's second half. */
#include "softmax.h"
#include "table.h"

enum {
  GRAIN = 1 << 13, /* elements that pay for waking a thread */
  GROUP = 8,       /* rows worked on together, */
  TOGETHER = 2048  /* of so many elements: with those that come next they fill L1 */
};

typedef struct {
  int64_t n;
  const float *x;
  int64_t ldx;
  double temperature;
  float *y;
  int64_t ldy;
} job;

/* In these `max` is of the row; then of the next, unless that is NULL. */
static void log_softmax_row(int64_t n, const float *x, const float *next, double temperature, float *max, float *y) {
  const float top = *max;
  const pc_row_kind kind = pc_classify_row(top);
  if (kind != PC_ROW_FINITE) {
    if (next) *max = pc_row_max(next, n);
    pc_fill_row(y, n, kind == PC_ROW_EMPTY ? -INFINITY : NAN);
    return;
  }
  const pc_terms terms = pc_terms_of(top, temperature);
  const double sum = pc_sum_terms(n, x, &terms, NULL, 0, next, max);
  const vd16 log_sum = vd_set1(-pc_log_sum(sum, &terms)), inverse = vd_set1(1.0 / temperature), tops = vd_set1(top);
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 z = vd_sub(vd_from_vf(pc_load_row(x + i, n - i)), tops);
    pc_store_row(y + i, n - i, vf_from_vd(vd_fma(z, inverse, log_sum)));
  }
}

static float logsumexp_row(int64_t n, const float *x, const float *next, double temperature, float *max) {
  const float top = *max;
  const pc_row_kind kind = pc_classify_row(top);
  if (kind != PC_ROW_FINITE) {
    if (next) *max = pc_row_max(next, n);
    return kind == PC_ROW_EMPTY ? -INFINITY : NAN;
  }
  const pc_terms terms = pc_terms_of(top, temperature);
  const double sum = pc_sum_terms(n, x, &terms, NULL, 0, next, max);
  return (float)(top / temperature + pc_log_sum(sum, &terms));
}

/* Rows in groups, a step at a time: so the steps of short rows overlap. max: of each row; then of those of the next group. */
static void softmax_group(const job *j, int64_t rows, int64_t rows_next, const float *x, float *y, float *max) {
  const float *next = x + rows * j->ldx;
  double sum[GROUP];
  float max_next[GROUP];
  for (int64_t r = 0; r < rows; r++) {
    const float *other = r < rows_next ? next + r * j->ldx : NULL;
    if (pc_classify_row(max[r]) == PC_ROW_FINITE) {
      const pc_terms terms = pc_terms_of(max[r], j->temperature);
      sum[r] = pc_sum_terms(j->n, x + r * j->ldx, &terms, y + r * j->ldy, 1, other, max_next + r);
    } else if (other) {
      max_next[r] = pc_row_max(other, j->n);
    }
  }
  for (int64_t r = 0; r < rows; r++) {
    float *to = y + r * j->ldy;
    const pc_row_kind kind = pc_classify_row(max[r]);
    if (kind != PC_ROW_FINITE) {
      pc_fill_row(to, j->n, kind == PC_ROW_EMPTY ? 0.0f : NAN);
      continue;
    }
    const double inverse = 1.0 / sum[r];
    const vf16 high = vf_set1((float)inverse), low = vf_set1((float)(inverse - (double)(float)inverse));
    for (int64_t i = 0, count = pc_to_line(to); i < j->n; i += count, count = LANES) {
      const int64_t left = j->n - i < count ? j->n - i : count;
      const vf16 e = pc_load_row(to + i, left);
      pc_store_row(to + i, left, vf_fma(e, high, vf_mul(e, low)));
    }
  }
  for (int64_t r = 0; r < rows_next; r++) max[r] = max_next[r];
}

static void softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t most = j->n * GROUP <= TOGETHER ? GROUP : j->n * 2 <= TOGETHER ? TOGETHER / j->n : 1;
  float max[GROUP];
  for (int64_t i = begin; i < end && i < begin + most; i++) max[i - begin] = pc_row_max(j->x + i * j->ldx, j->n);
  for (int64_t i = begin; i < end; i += most) {
    const int64_t rows = end - i < most ? end - i : most, after = end - i - rows;
    softmax_group(j, rows, after < most ? after : most, j->x + i * j->ldx, j->y + i * j->ldy, max);
  }
}

static void log_softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const float *x = j->x + begin * j->ldx;
  float max = begin < end ? pc_row_max(x, j->n) : 0.0f;
  for (int64_t i = begin; i < end; i++, x += j->ldx)
    log_softmax_row(j->n, x, i + 1 < end ? x + j->ldx : NULL, j->temperature, &max, j->y + i * j->ldy);
}

static void logsumexp_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const float *x = j->x + begin * j->ldx;
  float max = begin < end ? pc_row_max(x, j->n) : 0.0f;
  for (int64_t i = begin; i < end; i++, x += j->ldx)
    j->y[i] = logsumexp_row(j->n, x, i + 1 < end ? x + j->ldx : NULL, j->temperature, &max);
}

static int share_rows(void (*rows)(int64_t, int64_t, const void *), int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldx < j->n || j->ldy < j->n || !(j->temperature > 0 && j->temperature < INFINITY)) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (j->n + 1), rows, j);
  return PC_OK;
}

int PC_FN(softmax_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y, int64_t ldy) {
  const job j = {n, x, ldx, temperature, y, ldy};
  return share_rows(softmax_rows, m, &j);
}

int PC_FN(log_softmax_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y, int64_t ldy) {
  const job j = {n, x, ldx, temperature, y, ldy};
  return share_rows(log_softmax_rows, m, &j);
}

int PC_FN(logsumexp_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y) {
  const job j = {n, x, ldx, temperature, y, n};
  return share_rows(logsumexp_rows, m, &j);
}
