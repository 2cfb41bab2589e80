/* Smallest and largest of each row or column, any order giving the same. Limit: memory, 4 bytes an element. Rows and columns
 * are cut for the threads, and each adds its part to the result at the end, or writes it where nobody else has one: an element at a
 * time for rows, which are few, and a line at a time for columns, while others wait. (An exchange for each column took longer than
 * finding it in a hundred rows, and several times as long with two threads, which met at the same lines.) */
#include <math.h>

#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  CHUNK = 1 << 15, /* elements of a row that make a unit of work */
  GRAIN = 1 << 16, /* elements that pay for waking a thread */
  WIDE = 1 << 10,  /* columns and */
  TALL = 1 << 7,   /* rows that make a unit of work on columns: what is found stays in the first cache */
  TOGETHER = 4     /* rows that what is found passes at a time */
};

typedef struct {
  int64_t k, ldx, chunks; /* chunks in a row, or in a group of them */
  int64_t rows, wide;     /* rows in a group; chunks of columns */
  const float *x;
  float *low, *high;
  int asks, *busy;        /* whether a thread adds to the results of columns */
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
    vf16 low = vf_set1(INFINITY), high = vf_set1(-INFINITY);
    vm16 nan = vm_first(0);
    int64_t l = 0;
    for (; l + LANES <= n; l += LANES) {
      const vf16 v = vf_load(x + l);
      if (j->asks) __builtin_prefetch(x + l + PC_ASKED, 0, 2);
      low = vf_min(v, low);
      high = vf_max(v, high);
      nan = vm_or(nan, vf_isnan(v));
    }
    if (l < n) {
      const vf16 v = vf_load_n(x + l, n - l);
      const vm16 inside = vm_first(n - l);
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

/* vf_min and vf_max give their second operand where either is NaN, so that once it is there it stays. */
PC_INLINE void widen(vf16 low, vf16 high, vf16 *least, vf16 *most) {
  const vm16 nan = vf_isnan(low); /* and so is high */
  *least = vf_select(nan, low, vf_min(low, *least));
  *most = vf_select(nan, high, vf_max(high, *most));
}

/* Adds what was found in some rows of n columns to what others found; adding 0 makes -0 +0, so that order does not show. */
static void add_columns(int *busy, int64_t n, const float *low, const float *high, float *to_low, float *to_high) {
  while (__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE)) continue; /* no longer than the others take to do this */
  for (int64_t l = 0; l < n; l += LANES) {
    vf16 least = vf_load_left(to_low + l, n - l), most = vf_load_left(to_high + l, n - l);
    widen(vf_add(vf_load(low + l), vf_zero()), vf_add(vf_load(high + l), vf_zero()), &least, &most);
    vf_store_left(to_low + l, n - l, least);
    vf_store_left(to_high + l, n - l, most);
  }
  __atomic_store_n(busy, 0, __ATOMIC_RELEASE);
}

static void column_chunks(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t g = u / j->chunks, down = u % j->chunks / j->wide * TALL, first = u % j->chunks % j->wide * WIDE;
    const int64_t rows = smaller(j->rows - down, TALL), n = smaller(j->k - first, WIDE);
    const float *x = j->x + (g * j->rows + down) * j->ldx + first;
    float low[WIDE], high[WIDE];
    for (int64_t l = 0; l < WIDE; l++) low[l] = INFINITY, high[l] = -INFINITY;
    for (int64_t i = 0; i < rows; i += TOGETHER, x += TOGETHER * j->ldx)
      for (int64_t l = 0; l < n; l += LANES) {
        vf16 least = vf_load(low + l), most = vf_load(high + l);
        for (int64_t r = 0; r < TOGETHER && i + r < rows; r++) {
          const float *at = x + r * j->ldx + l;
          const vf16 v = vf_load_left(at, n - l);
          __builtin_prefetch(at + TOGETHER * j->ldx, 0, 2);
          widen(v, v, &least, &most);
        }
        vf_store(low + l, least);
        vf_store(high + l, most);
      }
    float *to_low = j->low + g * j->k + first, *to_high = j->high + g * j->k + first;
    const int all = j->rows <= TALL; /* of the group: nobody else has some */
    for (int64_t l = 0; all && l < n; l++) to_low[l] = low[l] + 0.0f, to_high[l] = high[l] + 0.0f;
    if (!all) add_columns(j->busy, n, low, high, to_low, to_high);
  }
}

int PC_FN(range_columns_f32)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, float *low, float *high) {
  if (m < 0 || k < 0 || g < 0 || ldx < k || !pc_divides(g, m)) return PC_EINVAL;
  if (m == 0 || m / g > TALL) begin_empty(g * k, low, high);
  if (m == 0 || k == 0) return PC_OK;
  int busy = 0;
  job j = {.k = k, .ldx = ldx, .rows = m / g, .wide = (k + WIDE - 1) / WIDE, .x = x, .low = low, .high = high, .busy = &busy};
  j.chunks = (j.rows + TALL - 1) / TALL * j.wide;
  pc_for(g * j.chunks, 1 + GRAIN / (smaller(j.rows, TALL) * smaller(k, WIDE)), column_chunks, &j);
  return PC_OK;
}
