/* softmax, log_softmax and logsumexp of rows of doubles, each row with its temperature.
 *   e_i = exp((x_i - max x)/T);  S = sum e_i;  y_i = e_i/S, or (x_i - max x)/T - log S;  y = max x/T + log S.
 * The sum follows the lane rule. Threads share rows. Limit: the double units, about 40 operations an element. */
#include "double_rows.h"
#include "table.h"

enum { GRAIN = 1 << 12 }; /* elements that pay for waking a thread */

typedef struct {
  int64_t n;
  const double *x;
  int64_t ldx;
  const double *temperature;
  int64_t width; /* of a row of y */
  double *y;
  int64_t ldy;
} job;

typedef struct {
  const double *x;
  double *y;
  double max, inverse_t, sum;
} row;

/* A row and the sum of its terms; returns 0 for one that has none, whose y then is `empty`, or NaN. */
static int begin_row(const job *j, int64_t i, double empty, row *r) {
  *r = (row){.x = j->x + i * j->ldx, .y = j->y + i * j->ldy, .inverse_t = pc_inverse_of(j->temperature[i])};
  r->max = pc_max_of_doubles(r->x, 1, j->n);
  if (!(r->max > -INFINITY)) {
    pc_fill_doubles(r->y, 1, j->width, isnan(r->max) ? NAN : empty);
    return 0;
  }
  r->sum = pc_sum_doubles(r->x, 1, j->n, PC_NO_HOLE, r->max, r->inverse_t, NULL);
  return 1;
}

static void softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  row r;
  for (int64_t k = begin; k < end; k++) {
    if (!begin_row(j, k, 0.0, &r)) continue;
    const vd16 inverse = vd_set1(1.0 / r.sum);
    for (int64_t i = 0; i < j->n; i += PC_DOUBLES_TOGETHER * LANES) {
      vd16 e[PC_DOUBLES_TOGETHER];
      PC_OF_EACH(PC_DOUBLES_TOGETHER) e[c] = pc_load_doubles(r.x, 1, i + c * LANES, j->n, -INFINITY);
      pc_terms_of_doubles(PC_DOUBLES_TOGETHER, e, r.max, r.inverse_t, e);
      PC_OF_EACH(PC_DOUBLES_TOGETHER) pc_store_doubles(r.y, 1, i + c * LANES, j->n, vd_mul(e[c], inverse));
    }
  }
}

static void log_softmax_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  row r;
  for (int64_t k = begin; k < end; k++) {
    if (!begin_row(j, k, -INFINITY, &r)) continue;
    const vd16 minus_log = vd_set1(-pc_log(r.sum));
    for (int64_t i = 0; i < j->n; i += LANES) {
      const vd16 z = vd_sub(pc_load_doubles(r.x, 1, i, j->n, -INFINITY), vd_set1(r.max));
      pc_store_doubles(r.y, 1, i, j->n, vd_fma(z, vd_set1(r.inverse_t), minus_log));
    }
  }
}

static void logsumexp_rows(int64_t begin, int64_t end, const void *context) {
  row r;
  for (int64_t k = begin; k < end; k++)
    if (begin_row(context, k, -INFINITY, &r)) *r.y = r.max * r.inverse_t + pc_log(r.sum);
}

static int share_rows(void (*rows)(int64_t, int64_t, const void *), int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldx < j->n || j->ldy < j->width) return PC_EINVAL;
  if (!pc_are_temperatures(m, j->temperature)) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (j->n + 1), rows, j);
  return PC_OK;
}

int PC_FN(softmax_f64)(int64_t m, int64_t n, const double *x, int64_t ldx, const double *temperature, double *y, int64_t ldy) {
  const job j = {n, x, ldx, temperature, n, y, ldy};
  return share_rows(softmax_rows, m, &j);
}

int PC_FN(log_softmax_f64)(int64_t m, int64_t n, const double *x, int64_t ldx, const double *temperature, double *y, int64_t ldy) {
  const job j = {n, x, ldx, temperature, n, y, ldy};
  return share_rows(log_softmax_rows, m, &j);
}

int PC_FN(logsumexp_f64)(int64_t m, int64_t n, const double *x, int64_t ldx, const double *temperature, double *y) {
  const job j = {n, x, ldx, temperature, 1, y, 1};
  return share_rows(logsumexp_rows, m, &j);
}
