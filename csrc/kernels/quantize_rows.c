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
  int low, high, asks, past;
} job;

/* The largest magnitudes above and below 0 (or of all, above), as bits, which are ordered as they are: a NaN's are beyond
 * infinity's. */
typedef struct {
  vi16 above, below;
} extent;

PC_INLINE extent beyond(extent e, vf16 v, int magnitude) {
  const vi16 bits = vi_from_bits(v);
  if (magnitude) return (extent){vi_max(e.above, vi_and(bits, vi_set1(0x7fffffff))), e.below};
  return (extent){vi_max(e.above, bits), vi_max(e.below, vi_xor(bits, vi_set1(INT32_MIN)))};
}

/* Two chains: one would be waited for. */
PC_INLINE extent range(const float *x, int64_t n, int magnitude, int asks) {
  extent a = {vi_zero(), vi_zero()}, b = a;
  int64_t l = 0;
  for (; l + 2 * LANES <= n; l += 2 * LANES) {
    if (asks) __builtin_prefetch(x + l + PC_ASKED, 0, 2);
    if (asks) __builtin_prefetch(x + l + LANES + PC_ASKED, 0, 2);
    a = beyond(a, vf_load(x + l), magnitude);
    b = beyond(b, vf_load(x + l + LANES), magnitude);
  }
  for (; l < n; l += LANES) a = beyond(a, vf_load_left(x + l, n - l), magnitude);
  return (extent){vi_max(a.above, b.above), vi_max(a.below, b.below)};
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

/* Groups that stay in the first cache together: one after the other each would wait for its own scale. */
typedef struct {
  int count;
  const float *x[LANES];
  grids g;
  uint32_t finite; /* a bit for each that has a scale */
} batch;

/* Vectors of a group whose codes are made together with those of others, 4 for any multiple of that; 0: they are not. */
static int together(int64_t size) { return size == LANES ? 1 : size == 2 * LANES ? 2 : size % PC_FOUR == 0 ? 4 : 0; }

/* The largest lane of each. */
PC_INLINE vi16 largest(const vi16 *rows, int count) {
  return count == 1 ? vi_set1(vi_fold_max(rows[0])) : vi_fold_max_each(rows);
}

/* Finds what the codes of a batch need. */
PC_INLINE void find(const job *j, int64_t size, batch *b) {
  /* What is read again so soon is asked for once, by what makes its codes together. */
  const int asks = j->asks && (size >= NEAR / LANES || !together(size));
  vi16 above[LANES], below[LANES];
  if (b->count > 1 && b->count < LANES)
    for (int i = 0; i < LANES; i++) above[i] = below[i] = vi_zero();
  for (int i = 0; i < b->count; i++) {
    const extent e = j->zero ? range(b->x[i], size, 0, asks) : range(b->x[i], size, 1, asks);
    above[i] = e.above;
    if (j->zero) below[i] = e.below;
  }
  const vi16 high = largest(above, b->count), low = j->zero ? largest(below, b->count) : high;
  const vm16 finite = vi_gt(vi_set1(INFINITE), vi_max(low, high));
  choose(vf_sub(vf_zero(), vf_from_bits(low)), vf_from_bits(high), finite, j, &b->g);
  b->finite = vm_bits(finite);
}

/* Codes of groups of one vector, of two, or (4) of a multiple of four, as many as fill lines. */
PC_INLINE void codes_together(int vectors, const job *j, int64_t size, const batch *b, int past, uint8_t *codes,
                              int32_t *sums) {
  vi16 total[LANES];
  for (int i = b->count; i < LANES; i++) total[i] = vi_zero();
  for (int first = 0; first < b->count; first += 4 / vectors) {
#pragma GCC unroll 4
    for (int i = 0; i < 4 / vectors; i++) total[first + i] = vi_zero();
    for (int64_t l = 0; l < size; l += vectors * LANES, codes += PC_FOUR) {
      vi16 code[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) {
        const int i = first + v / vectors;
        const float *x = b->x[i] + l + v % vectors * LANES;
        if (j->asks) __builtin_prefetch(x + PC_ASKED_AGAIN, 0, 2);
        code[v] = codes_of(vf_load(x), one_of(&b->g, i), RANGED);
        total[i] = vi_add(total[i], code[v]);
      }
      store_codes(codes, !j->zero, past, code);
    }
  }
  vi_store_n(sums, b->count, vi_fold_add_each(total));
}

/* Codes group by group. One without a scale gets zero codes, which with its NaN make its outputs NaN. */
static void codes_apart(const job *j, int64_t size, const batch *b, uint8_t *codes, int32_t *sums) {
  for (int i = 0; i < b->count; i++, codes += size)
    if (b->finite >> i & 1) {
      quantize_span(b->x[i], size, one_of(&b->g, i), 1, !j->zero, j->asks, j->past, codes, sums + i);
    } else {
      memset(codes, 0, (size_t)size);
      sums[i] = 0;
    }
}

static void groups(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t size = j->k / j->groups, most = size < NEAR / LANES ? LANES : size < NEAR ? NEAR / size : 1;
  int64_t row = begin / j->groups, part = begin % j->groups;
  for (int64_t first = begin; first < end; first += most) {
    batch b;
    b.count = (int)smaller(most, end - first);
    uint8_t *codes = j->codes + first * size;
    int32_t *sums = j->sums + first;
    for (int i = 0; i < b.count; i++) {
      b.x[i] = j->x + row * j->ldx + part * size;
      if (++part == j->groups) part = 0, row++;
    }
    find(j, size, &b);
    vf_store_n(j->scale + first, b.count, vf_load(b.g.scale));
    if (j->zero) vi_store_n(j->zero + first, b.count, vi_load(b.g.zero));
    const int is_plain = b.finite == 0xffff && vm_bits(vf_eq(vf_load(b.g.inverse), vf_zero())) == 0;
    switch (is_plain && b.count % 4 == 0 ? together(size) : 0) {
      case 1: codes_together(1, j, size, &b, 0, codes, sums); break;
      case 2: codes_together(2, j, size, &b, 0, codes, sums); break;
      case 4: codes_together(4, j, size, &b, j->past && pc_bytes_to_line(codes) == 0, codes, sums); break;
      default: codes_apart(j, size, &b, codes, sums);
    }
  }
  if (j->past) vf_stream_fence();
}

static int quantize_rows(job *j) {
  if (j->m < 0 || j->k < 0 || j->groups < 0 || j->ldx < j->k) return PC_EINVAL;
  if (!pc_divides(j->groups, j->k)) return PC_EINVAL;
  const int64_t size = j->groups ? j->k / j->groups : 0;
  j->asks = j->m * j->k >= PC_FAR;
  j->past = size >= PC_FOUR && j->m * j->k >= PC_PAST_CODES;
  pc_for(j->m * j->groups, 1 + GRAIN / (size + 1), groups, j);
  return PC_OK;
}

int PC_FN(quantize_rows_s8)(int64_t m, int64_t k, int64_t groups, const float *x, int64_t ldx, int8_t *codes, float *scale, int32_t *sums) {
  job j = {m, k, groups, x, ldx, (uint8_t *)codes, scale, NULL, sums, -127, 127, 0, 0};
  return quantize_rows(&j);
}

int PC_FN(quantize_rows_u8)(int64_t m, int64_t k, int64_t groups, const float *x, int64_t ldx, uint8_t *codes, float *scale, int32_t *zero, int32_t *sums) {
  job j = {m, k, groups, x, ldx, codes, scale, zero, sums, 0, 255, 0, 0};
  return quantize_rows(&j);
}
