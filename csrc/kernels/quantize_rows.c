/* Scale, zero point and codes of each row of activations, or of each group within a row. Limit: memory, 5 bytes an element; a
 * row is read twice, the second time from cache. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "grid.h"
#include "table.h"

enum {
  GRAIN = 1 << 15,       /* elements that pay for waking a thread */
  NEAR = 1 << 12,        /* elements that the first cache holds */
  INFINITE = 0x7f800000  /* bits of infinity: a float of larger magnitude bits is NaN */
};

typedef struct {
  int64_t m, k, groups;
  const float *x;
  int64_t ldx;
  uint8_t *codes;
  float *scale;
  int32_t *zero, *sums;
  int low, high, asks;
} job;

/* What is found of a group: smallest, largest, and largest magnitude, which are ordered as their bits. */
typedef struct {
  vf16 low, high;
  vi16 magnitude;
} extent;

PC_INLINE extent beyond(extent e, vf16 v, int magnitude) {
  const vi16 size = vi_max(e.magnitude, vi_and(vi_from_bits(v), vi_set1(0x7fffffff)));
  if (magnitude) return (extent){e.low, e.high, size};
  return (extent){vf_min(v, e.low), vf_max(v, e.high), size};
}

/* Smallest and largest of the group and 0, low = -high for `magnitude`; returns 0 if it holds NaN or infinity. Two chains: one
 * would be waited for. */
PC_INLINE int range(const float *x, int64_t n, int magnitude, int asks, float *low, float *high) {
  extent a = {vf_zero(), vf_zero(), vi_zero()}, b = a;
  int64_t l = 0;
  for (; l + 2 * LANES <= n; l += 2 * LANES) {
    if (asks) __builtin_prefetch(x + l + PC_ASKED, 0, 2);
    if (asks) __builtin_prefetch(x + l + LANES + PC_ASKED, 0, 2);
    a = beyond(a, vf_load(x + l), magnitude);
    b = beyond(b, vf_load(x + l + LANES), magnitude);
  }
  for (; l < n; l += LANES) a = beyond(a, vf_load_left(x + l, n - l), magnitude);
  const vi16 size = vi_max(a.magnitude, b.magnitude);
  *high = vf_fold_max(magnitude ? vf_from_bits(size) : vf_max(a.high, b.high));
  *low = magnitude ? -*high : vf_fold_min(vf_min(a.low, b.low));
  return vm_bits(vi_gt(size, vi_set1(INFINITE - 1))) == 0;
}

/* Scales and zero points of groups. A group that no scale fits gets NaN and 0. */
PC_INLINE void choose(vf16 low, vf16 high, vm16 finite, const job *j, grids *g) {
  const vf16 half = vf_set1(0.5f), least = vf_set1(FLT_MIN);
  vf16 scale;
  if (j->zero) scale = vf_div(vf_sub(vf_mul(half, high), vf_mul(half, low)), vf_set1(127.5f)); /* high - low may be infinite */
  else scale = vf_div(high, vf_set1(127));
  scale = vf_select(vf_eq(low, high), vf_set1(1), vf_max(scale, least));
  const vf16 zero = j->zero ? vf_div(vf_sub(vf_zero(), low), scale) : vf_zero();
  make_grids(vf_select(finite, scale, vf_set1(NAN)), vi_from_vf(vf_select(finite, zero, vf_zero())), j->low, j->high, g);
}

/* Groups by batches that stay in the first cache: one after the other each would wait for its own scale. A group without one
 * gets zero codes, which with its NaN make its outputs NaN. */
static void groups(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t size = j->k / j->groups, batch = size < NEAR / LANES ? LANES : size < NEAR ? NEAR / size : 1;
  int64_t i = begin / j->groups, part = begin % j->groups;
  for (int64_t first = begin; first < end; first += batch) {
    const int count = (int)smaller(batch, end - first);
    const float *x[LANES];
    float low[LANES] = {0}, high[LANES] = {0};
    uint32_t finite = 0;
    grids g;
    for (int b = 0; b < count; b++) {
      x[b] = j->x + i * j->ldx + part * size;
      if (++part == j->groups) part = 0, i++;
      const int is_finite = j->zero ? range(x[b], size, 0, j->asks, low + b, high + b)
                                    : range(x[b], size, 1, j->asks, low + b, high + b);
      finite |= (uint32_t)is_finite << b;
    }
    choose(vf_load(low), vf_load(high), vm_from_bits(finite), j, &g);
    vf_store_n(j->scale + first, count, vf_load(g.scale));
    if (j->zero) vi_store_n(j->zero + first, count, vi_load(g.zero));
    for (int b = 0; b < count; b++) {
      uint8_t *codes = j->codes + (first + b) * size;
      if (finite >> b & 1) {
        quantize_span(x[b], size, one_of(&g, b), 1, !j->zero, j->asks, codes, j->sums + first + b);
      } else {
        memset(codes, 0, (size_t)size);
        j->sums[first + b] = 0;
      }
    }
  }
}

static int quantize_rows(job *j) {
  if (j->m < 0 || j->k < 0 || j->groups < 0 || j->ldx < j->k) return PC_EINVAL;
  if (j->groups == 0 ? j->k > 0 : j->k % j->groups) return PC_EINVAL;
  const int64_t size = j->groups ? j->k / j->groups : 0;
  j->asks = j->m * j->k >= PC_FAR;
  pc_for(j->m * j->groups, 1 + GRAIN / (size + 1), groups, j);
  return PC_OK;
}

int PC_FN(quantize_rows_s8)(int64_t m, int64_t k, int64_t groups, const float *x, int64_t ldx, int8_t *codes, float *scale, int32_t *sums) {
  job j = {m, k, groups, x, ldx, (uint8_t *)codes, scale, NULL, sums, -127, 127, 0};
  return quantize_rows(&j);
}

int PC_FN(quantize_rows_u8)(int64_t m, int64_t k, int64_t groups, const float *x, int64_t ldx, uint8_t *codes, float *scale, int32_t *zero, int32_t *sums) {
  job j = {m, k, groups, x, ldx, codes, scale, zero, sums, 0, 255, 0};
  return quantize_rows(&j);
}
