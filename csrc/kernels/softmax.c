/* softmax, log_softmax and logsumexp of the rows of x/T.
 *   m = max x;  e_i = exp((x_i - m)/T);  S = sum e_i;  y_i = e_i/S, or (x_i - m)/T - log S;  y = m/T + log S.
 * The sum follows the lane rule with float64 lanes, of pairs of terms: i ascending, then j <- j + (j+8), 4, 2, 1.
 * Threads share rows. Limit: the float units, about 25 operations an element; memory for log_softmax's second half. */
#include "softmax.h"
#include "table.h"

enum { GRAIN = 1 << 13 /* elements that pay for waking a thread */ };

typedef struct {
  int64_t n;
  const float *x;
  int64_t ldx;
  double temperature;
  float *y;
  int64_t ldy;
} job;

static void softmax_row(int64_t n, const float *x, double temperature, float *y) {
  const float max = pc_row_max(x, n);
  const pc_row_kind kind = pc_classify_row(x, n, max);
  if (kind != PC_ROW_FINITE) {
    pc_fill_row(y, n, kind == PC_ROW_EMPTY ? 0.0f : NAN);
    return;
  }
  const pc_terms terms = pc_terms_of(max, temperature);
  const double inverse = 1.0 / pc_sum_terms(n, x, &terms, y);
  const vf16 r = vf_set1((float)inverse), r_low = vf_set1((float)(inverse - (double)(float)inverse));
  for (int64_t i = 0; i < n; i += LANES) {
    const vf16 e = pc_load_row(y + i, n - i);
    pc_store_row(y + i, n - i, vf_fma(e, r, vf_mul(e, r_low)));
  }
}

static void log_softmax_row(int64_t n, const float *x, double temperature, float *y) {
  const float max = pc_row_max(x, n);
  const pc_row_kind kind = pc_classify_row(x, n, max);
  if (kind != PC_ROW_FINITE) {
    pc_fill_row(y, n, kind == PC_ROW_EMPTY ? -INFINITY : NAN);
    return;
  }
  const pc_terms terms = pc_terms_of(max, temperature);
  const vd16 log_sum = vd_set1(-pc_log_sum(pc_sum_terms(n, x, &terms, NULL), &terms)), inverse = vd_set1(1.0 / temperature), top = vd_set1(max);
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 z = vd_sub(vd_from_vf(pc_load_row(x + i, n - i)), top);
    pc_store_row(y + i, n - i, vf_from_vd(vd_fma(z, inverse, log_sum)));
  }
}

static float logsumexp_row(int64_t n, const float *x, double temperature) {
  const float max = pc_row_max(x, n);
  const pc_row_kind kind = pc_classify_row(x, n, max);
  if (kind != PC_ROW_FINITE) return kind == PC_ROW_EMPTY ? -INFINITY : NAN;
  const pc_terms terms = pc_terms_of(max, temperature);
  return (float)(max / temperature + pc_log_sum(pc_sum_terms(n, x, &terms, NULL), &terms));
}

static void softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end; i++) softmax_row(j->n, j->x + i * j->ldx, j->temperature, j->y + i * j->ldy);
}

static void log_softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end; i++) log_softmax_row(j->n, j->x + i * j->ldx, j->temperature, j->y + i * j->ldy);
}

static void logsumexp_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end; i++) j->y[i] = logsumexp_row(j->n, j->x + i * j->ldx, j->temperature);
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
