/* Smallest and largest of each row or column, any order giving the same. Limit: memory, 4 bytes an element. Rows and columns
 * are cut for the threads, and each adds its part to the result at the end, or writes it where nobody else has one. Adding a part
 * of columns takes as long as finding it in a hundred rows, and several times as long where two threads do so at the same line:
 * a thread adds what it found in all its rows at once, and begins at a column of its own. */
#include <math.h>

#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  CHUNK = 1 << 15, /* elements of a row that make a unit of work */
  CHAINS = 4,      /* with one, each minimum would wait for the one before */
  GRAIN = 1 << 15, /* elements that pay for waking a thread */
  WIDE = 1 << 10,  /* columns and */
  TALL = 1 << 9,   /* rows that make a unit of work on columns: what is found stays in the first cache */
  TOGETHER = 4     /* rows that what is found passes at a time */
};

typedef struct {
  int64_t k, ldx, chunks;   /* chunks in a row */
  int64_t rows, wide, down; /* rows in a group; chunks of columns, and units in one */
  const float *x;
  float *low, *high;
  int asks;
} job;

/* *p becomes `value` if that is less (sign 1) or more (sign -1); once NaN it stays. */
static void join(float *p, float value, float sign) {
  float old;
  __atomic_load(p, &old, __ATOMIC_RELAXED);
  while (old == old && !(sign * old <= sign * value))
    if (__atomic_compare_exchange(p, &old, &value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
}

static void chunks(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK;
    const int64_t n = smaller(j->k - first, CHUNK);
    const float *x = j->x + i * j->ldx + first;
    vf16 lows[CHAINS], highs[CHAINS];
    for (int c = 0; c < CHAINS; c++) lows[c] = vf_set1(INFINITY), highs[c] = vf_set1(-INFINITY);
    vm16 nan = vm_first(0);
    int64_t l = 0;
    for (; l + CHAINS * LANES <= n; l += CHAINS * LANES)
#pragma GCC unroll 4
      for (int c = 0; c < CHAINS; c++) {
        const vf16 v = vf_load(x + l + c * LANES);
        if (j->asks) __builtin_prefetch(x + l + c * LANES + PC_ASKED, 0, 2);
        lows[c] = vf_min(v, lows[c]);
        highs[c] = vf_max(v, highs[c]);
        if (c % 2) nan = vm_or(nan, vf_unordered(v, vf_load(x + l + (c - 1) * LANES)));
      }
    vf16 low = vf_min(vf_min(lows[0], lows[1]), vf_min(lows[2], lows[3]));
    vf16 high = vf_max(vf_max(highs[0], highs[1]), vf_max(highs[2], highs[3]));
    for (; l < n; l += LANES) {
      const vf16 v = vf_load_left(x + l, n - l);
      const vm16 inside = vm_first(n - l < LANES ? n - l : LANES);
      low = vf_select(inside, vf_min(v, low), low);
      high = vf_select(inside, vf_max(v, high), high);
      nan = vm_or(nan, vf_isnan(v));
    }
    const float none = vm_bits(nan) ? NAN : 0; /* adding 0 makes -0 +0, so that order does not show */
    join(j->low + i, vf_fold_min(low) + none, 1);
    join(j->high + i, vf_fold_max(high) + none, -1);
  }
}

static void begin_empty(int64_t n, float *low, float *high) {
  for (int64_t i = 0; i < n; i++) low[i] = INFINITY, high[i] = -INFINITY;
}

int PC_FN(range_f32)(int64_t m, int64_t k, const float *x, int64_t ldx, float *low, float *high) {
  if (m < 0 || k < 0 || ldx < k) return PC_EINVAL;
  begin_empty(m, low, high);
  if (k == 0) return PC_OK;
  const job j = {.k = k, .ldx = ldx, .chunks = (k + CHUNK - 1) / CHUNK, .x = x, .low = low, .high = high, .asks = m * k >= PC_FAR};
  pc_for(m * j.chunks, 1 + GRAIN / smaller(k, CHUNK), chunks, &j);
  return PC_OK;
}

/* The smallest and largest in rows x n columns. vf_min and vf_max give their second operand where either is NaN, so that once it is
 * there it stays. */
static void find(int64_t rows, int64_t n, const float *x, int64_t ldx, float *low, float *high) {
  for (int64_t l = 0; l < n; l += LANES) {
    vf_store(low + l, vf_set1(INFINITY));
    vf_store(high + l, vf_set1(-INFINITY));
  }
  for (int64_t i = 0; i < rows; i += TOGETHER, x += TOGETHER * ldx)
    for (int64_t l = 0; l < n; l += LANES) {
      vf16 least = vf_load(low + l), most = vf_load(high + l);
      for (int64_t r = 0; r < TOGETHER && i + r < rows; r++) {
        const float *at = x + r * ldx + l;
        const vf16 v = vf_load_left(at, n - l);
        __builtin_prefetch(at + TOGETHER * ldx, 0, 2);
        const vm16 nan = vf_isnan(v);
        least = vf_select(nan, v, vf_min(v, least));
        most = vf_select(nan, v, vf_max(v, most));
      }
      vf_store(low + l, least);
      vf_store(high + l, most);
    }
}

/* Units of TALL rows of a chunk of columns: those of a chunk come one after the other, and are passed as one. */
static void column_units(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  float low[WIDE], high[WIDE];
  for (int64_t u = begin, last; u < end; u = last) {
    const int64_t chunk = u / j->down, g = chunk / j->wide, column = chunk % j->wide * WIDE, n = smaller(j->k - column, WIDE);
    last = smaller(end, (chunk + 1) * j->down);
    const int64_t row = (u - chunk * j->down) * TALL, rows = smaller((last - u) * TALL, j->rows - row);
    find(rows, n, j->x + (g * j->rows + row) * j->ldx + column, j->ldx, low, high);
    float *to_low = j->low + g * j->k + column, *to_high = j->high + g * j->k + column;
    if (rows == j->rows) { /* nobody else has some */
      for (int64_t l = 0; l < n; l++) to_low[l] = low[l] + 0.0f, to_high[l] = high[l] + 0.0f;
      continue;
    }
    const int64_t first = n * row / j->rows;
    for (int64_t i = 0; i < n; i++) {
      const int64_t l = first + i < n ? first + i : first + i - n;
      join(to_low + l, low[l] + 0.0f, 1);
      join(to_high + l, high[l] + 0.0f, -1);
    }
  }
}

int PC_FN(range_columns_f32)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, float *low, float *high) {
  if (m < 0 || k < 0 || g < 0 || ldx < k || !pc_divides(g, m)) return PC_EINVAL;
  if (m == 0 || m / g > TALL) begin_empty(g * k, low, high);
  if (m == 0 || k == 0) return PC_OK;
  job j = {.k = k, .ldx = ldx, .rows = m / g, .wide = (k + WIDE - 1) / WIDE, .x = x, .low = low, .high = high};
  j.down = (j.rows + TALL - 1) / TALL;
  pc_for(g * j.wide * j.down, 1 + GRAIN / (smaller(j.rows, TALL) * smaller(k, WIDE)), column_units, &j);
  return PC_OK;
}
