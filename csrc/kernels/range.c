/* Smallest and largest of each row, any order giving the same. Limit: memory, 4 bytes an element. A long row is shared
 * among threads: each adds its part to the row's result at the end. */
#include <math.h>

#include "table.h"
#include "vocabulary.h"

enum {
  CHUNK = 1 << 15, /* elements of a row that make a unit of work */
  GRAIN = 1 << 16, /* elements that pay for waking a thread */
  AHEAD = 1 << 12  /* elements to fetch ahead of use: hardware stops at the end of a page */
};

typedef struct {
  int64_t k, ldx, chunks; /* chunks in a row */
  const float *x;
  float *low, *high;
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
    const int64_t n = j->k - first < CHUNK ? j->k - first : CHUNK;
    const float *x = j->x + i * j->ldx + first;
    vf16 low = vf_set1(INFINITY), high = vf_set1(-INFINITY);
    vm16 nan = vm_first(0);
    int64_t l = 0;
    for (; l + LANES <= n; l += LANES) {
      const vf16 v = vf_load(x + l);
      __builtin_prefetch(x + l + AHEAD, 0, 2);
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

int PC_FN(range_f32)(int64_t m, int64_t k, const float *x, int64_t ldx, float *low, float *high) {
  if (m < 0 || k < 0 || ldx < k) return PC_EINVAL;
  for (int64_t i = 0; i < m; i++) low[i] = INFINITY, high[i] = -INFINITY;
  if (k == 0) return PC_OK;
  const job j = {k, ldx, (k + CHUNK - 1) / CHUNK, x, low, high};
  pc_for(m * j.chunks, 1 + GRAIN / (k < CHUNK ? k : CHUNK), chunks, &j);
  return PC_OK;
}
