/* softmax, log_softmax and logsumexp of the rows of x/T.
 *   m = max x;  e_i = exp((x_i - m)/T);  S = sum e_i;  y_i = e_i/S, or (x_i - m)/T - log S;  y = m/T + log S.
 * The sum follows the lane rule with float64 lanes, of pairs of terms: i ascending, then j <- j + (j+8), 4, 2, 1.
 * Threads share rows. Limit: the float units, about 20 operations an element. */
#include "softmax_columns.h"
#include "table.h"

enum {
  GRAIN = 1 << 13, /* elements that pay for waking a thread */
  GROUP = 8,       /* rows worked on together, */
  TOGETHER = 2048, /* of so many elements: with those that come next they fill L1 */
  TURNED = PC_WIDE > 2 ? 112 : 48,      /* elements of rows that are turned into columns, */
  TURNED_LOGS = PC_WIDE > 2 ? 160 : 48, /* and where each row takes a logarithm, which columns take together */
  SHORT = 1024,    /* elements of a row whose terms wait on the stack */
  FAR = 3 << 20    /* elements, read and written, that may no longer be in a cache */
};

typedef struct {
  pc_softmax result;
  int64_t n;
  const float *x;
  int64_t ldx;
  double temperature;
  float *y;
  int64_t ldy;
  int far;       /* whether terms in y come from memory */
  int64_t apart; /* where they wait on the stack until they are scaled: from one row's to the next's; or 0 */
} job;

/* x/T - max/T - log_sum; in doubles where max is subtracted first, or 1/T is far off 1. */
PC_INLINE void subtract_log_sum(int64_t n, const float *x, int first, double temperature, float max, double log_sum, float *y) {
  const double inverse = 1.0 / temperature;
  if (first || !pc_has_line(inverse)) {
    for (int64_t i = 0; i < n; i += LANES) {
      const vd16 z = vd_sub(vd_from_vf(pc_load_row(x + i, n - i)), vd_set1(max));
      vf_store_left(y + i, n - i, vf_from_vd(vd_fma(z, vd_set1(inverse), vd_set1(-log_sum))));
    }
    return;
  }
  const pc_line l = pc_line_of(inverse, vd_set1(-(max / temperature + log_sum)));
  int64_t i = 0;
  for (; i + PC_TOGETHER * LANES <= n; i += PC_TOGETHER * LANES) {
    vf16 v[PC_TOGETHER];
    PC_OF_EACH(PC_TOGETHER) v[c] = vf_load(x + i + c * LANES);
    PC_OF_EACH(PC_TOGETHER) vf_store(y + i + c * LANES, pc_on_line(v[c], &l));
  }
  for (; i < n; i += LANES) vf_store_left(y + i, n - i, pc_on_line(vf_load_left(x + i, n - i), &l));
}

PC_INLINE void scale_vector(int64_t left, const float *terms, float *y, const pc_over *r) {
  vf16 e = vf_load_left(terms, left);
  pc_parts_each(1, &e, r, 1, &e);
  vf_store_left(y, left, e);
}

/* Terms become parts of their sum. Where they stand in y, from a cache line on; elsewhere they are read as they were written just
 * before. */
PC_INLINE void scale_row(int64_t n, const float *terms, float *y, double sum) {
  const pc_over r = pc_over_sum(vd_set1(sum));
  const int64_t first = terms != y ? 0 : smaller(pc_to_line(y), n);
  if (first) scale_vector(first, terms, y, &r);
  int64_t i = first;
  for (; i + PC_TOGETHER * LANES <= n; i += PC_TOGETHER * LANES) {
    vf16 e[PC_TOGETHER];
    PC_OF_EACH(PC_TOGETHER) e[c] = vf_load(terms + i + c * LANES);
    pc_parts_each(PC_TOGETHER, e, &r, 1, e);
    PC_OF_EACH(PC_TOGETHER) vf_store(y + i + c * LANES, e[c]);
  }
  for (; i < n; i += LANES) scale_vector(n - i, terms + i, y + i, &r);
}

/* Where a row's terms wait: in `room`, or in y itself. */
PC_INLINE float *terms_of(const job *j, float *room, int64_t row, float *y) { return j->apart ? room + row * j->apart : y; }

/* Rows in groups, a step at a time: so the steps of short rows overlap. max: of each row; then of those of the next group. */
static void rows_together(const job *j, int64_t rows, int64_t rows_next, const float *x, float *y, float *max) {
  const float *next = x + rows * j->ldx;
  _Alignas(64) float room[TOGETHER + GROUP * LANES]; /* TOGETHER elements, each row's filled up to whole vectors */
  pc_terms terms[GROUP];
  double sum[GROUP], log_sum[GROUP];
  float max_next[GROUP];
  for (int64_t r = 0; r < rows; r++) {
    const float *other = r < rows_next ? next + r * j->ldx : NULL;
    float *to = y + r * j->ldy;
    if (pc_classify_row(max[r]) == PC_ROW_FINITE) {
      const int later = j->apart || (j->result == PC_LOG_SOFTMAX && j->n < PC_LONG);
      const pc_beside beside = {.kept = j->result == PC_SOFTMAX ? terms_of(j, room, r, to) : NULL, .soon = later ? to : NULL,
                                .next = other, .next_max = max_next + r, .far = j->far};
      terms[r] = pc_terms_of(max[r], j->temperature);
      sum[r] = pc_sum_terms(j->n, x + r * j->ldx, terms + r, beside);
      if (isnan(sum[r])) max[r] = NAN;
    } else if (other) {
      max_next[r] = pc_row_max(other, j->n);
    }
  }
  if (j->result != PC_SOFTMAX)
    for (int64_t r = 0; r < rows; r++)
      if (pc_classify_row(max[r]) == PC_ROW_FINITE) log_sum[r] = pc_log_sum(sum[r], terms + r);
  for (int64_t r = 0; r < rows; r++) {
    const float *of = x + r * j->ldx;
    float *to = y + r * j->ldy;
    const pc_row_kind kind = pc_classify_row(max[r]);
    if (j->result == PC_LOGSUMEXP)
      *to = kind == PC_ROW_FINITE ? (float)(max[r] / j->temperature + log_sum[r]) : kind == PC_ROW_EMPTY ? -INFINITY : NAN;
    else if (kind != PC_ROW_FINITE)
      pc_fill_row(to, j->n, kind == PC_ROW_NAN ? NAN : j->result == PC_SOFTMAX ? 0.0f : -INFINITY);
    else if (j->result == PC_SOFTMAX)
      scale_row(j->n, terms_of(j, room, r, to), to, sum[r]);
    else
      subtract_log_sum(j->n, of, terms[r].base != 0.0f, j->temperature, max[r], log_sum[r], to);
  }
  for (int64_t r = 0; r < rows_next; r++) max[r] = max_next[r];
}

PC_INLINE void rows_turned(int vectors, const job *j, int64_t rows, const float *x, float *y) {
  _Alignas(64) float turned[TURNED_LOGS * PC_WIDE * LANES];
  const pc_columns of = {j->result, j->n, j->temperature};
  const pc_part all = pc_side_by_side(turned);
  for (int v = 0; v < vectors; v++) pc_turn_in(rows - v * LANES, j->n, x + v * LANES * j->ldx, j->ldx, turned + v * LANES);
  if (j->result == PC_LOGSUMEXP) {
    pc_softmax_columns(vectors, &of, &all, NULL, y, &(pc_part){y, 0, rows});
    return;
  }
  pc_softmax_columns(vectors, &of, &all, NULL, turned, &all);
  for (int v = 0; v < vectors; v++) pc_turn_out(rows - v * LANES, j->n, turned + v * LANES, y + v * LANES * j->ldy, j->ldy);
}

static void all_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t most = j->n * GROUP <= TOGETHER ? GROUP : j->n * 2 <= TOGETHER ? TOGETHER / j->n : 1;
  float max[GROUP];
  for (int64_t i = begin; i < end && i < begin + most; i++) max[i - begin] = pc_row_max(j->x + i * j->ldx, j->n);
  for (int64_t i = begin; i < end; i += most) {
    const int64_t rows = smaller(end - i, most), after = end - i - rows;
    rows_together(j, rows, smaller(after, most), j->x + i * j->ldx, j->y + i * j->ldy, max);
  }
}

/* Rows so short that the steps from maximum to sum would take longer than their elements. The last ones stay as they lie where
 * columns of zeros beside them would cost more. */
static void short_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end;) {
    const float *x = j->x + i * j->ldx;
    float *y = j->y + i * j->ldy;
    const int64_t left = end - i, most = left > (PC_WIDE - 1) * LANES ? PC_WIDE * LANES : LANES, rows = smaller(left, most);
    if (most > LANES) {
      rows_turned(PC_WIDE, j, rows, x, y);
    } else if (rows > 3 + j->n / 7) {
      rows_turned(1, j, rows, x, y);
    } else {
      all_rows(i, end, context);
      return;
    }
    i += rows;
  }
}

static int share_rows(int64_t m, job j) {
  const int64_t wide = j.result == PC_LOGSUMEXP ? 1 : j.n;
  if (m < 0 || j.n < 0 || j.ldx < j.n || j.ldy < wide || !pc_is_temperature(j.temperature)) return PC_EINVAL;
  j.far = 2 * m * j.n > FAR && j.n < PC_LONG;
  j.apart = j.result == PC_SOFTMAX && j.n < SHORT && !j.far ? (j.n + LANES - 1) / LANES * LANES : 0;
  const int turned = j.n <= (j.result == PC_SOFTMAX ? TURNED : TURNED_LOGS);
  pc_for(m, 1 + GRAIN / (j.n + 1), turned ? short_rows : all_rows, &j);
  return PC_OK;
}

int PC_FN(softmax_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y, int64_t ldy) {
  return share_rows(m, (job){PC_SOFTMAX, n, x, ldx, temperature, y, ldy, 0, 0});
}

int PC_FN(log_softmax_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y, int64_t ldy) {
  return share_rows(m, (job){PC_LOG_SOFTMAX, n, x, ldx, temperature, y, ldy, 0, 0});
}

int PC_FN(logsumexp_f32)(int64_t m, int64_t n, const float *x, int64_t ldx, double temperature, float *y) {
  return share_rows(m, (job){PC_LOGSUMEXP, n, x, ldx, temperature, y, 1, 0, 0});
}
