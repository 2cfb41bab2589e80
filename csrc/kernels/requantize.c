/* int32 sums to 8-bit codes, one multiplier a column: by a float scale, or by a fixed-point multiplier and a shift.
 * Limit: memory, 5 bytes an element. */
#include "codes.h"
#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  CHUNK = 1 << 13, /* columns that make a unit of work */
  GRAIN = 1 << 14  /* elements that pay for waking a thread */
};

typedef struct {
  int64_t m, n, chunks;
  const int32_t *acc;
  int64_t ldacc;
  const float *scale;
  const int32_t *multiplier, *shift, *zero;
  uint8_t *codes;
  int low, high;
} job;

PC_INLINE vi16 load(const int32_t *p, int64_t n) { return n >= LANES ? vi_load(p) : vi_load_n(p, n); }

static void by_scale(const job *j, int64_t i, int64_t first, int64_t last) {
  const int32_t *acc = j->acc + i * j->ldacc;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  for (int64_t l = first; l < last; l += LANES) {
    const int64_t lanes = smaller(last - l, LANES);
    __builtin_prefetch(acc + l + PC_ASKED, 0, 2);
    const vf16 t = vf_from_vi(load(acc + l, lanes));
    const vf16 scale = vf_load_left(j->scale + l, lanes);
    const vi16 zero = j->zero ? load(j->zero + l, lanes) : vi_zero();
    vi_store_bytes_n(j->codes + i * j->n + l, lanes, code_of(vf_mul(t, scale), zero, low, high));
  }
}

/* Left shifts saturate by choice; right shifts round as gemmlowp's RoundingDivideByPOT: up where what is shifted out passes
 * half, which for negative numbers is half and one. */
PC_INLINE vi16 fixed(vi16 acc, vi16 multiplier, vi16 shift) {
  const vi16 zero = vi_zero(), largest = vi_set1(INT32_MAX);
  const vi16 left = vi_max(shift, zero), right = vi_max(vi_sub(zero, shift), zero);
  const vi16 most = vi_shr_each(largest, left), least = vi_sub(vi_set1(-1), most);
  vi16 x = vi_mul(acc, vi_shr_each(vi_set1(1 << 30), vi_sub(vi_set1(30), left)));
  x = vi_select(vi_gt(acc, most), largest, vi_select(vi_gt(least, acc), vi_set1(INT32_MIN), x));
  x = vi_mul_fraction(x, multiplier);
  const vi16 mask = vi_shr_each(largest, vi_sub(vi_set1(31), right));
  const vi16 half = vi_sub(vi_shr(mask, 1), vi_shr_each(x, vi_set1(31)));
  return vi_add(vi_shr_each(x, right), vi_select(vi_gt(vi_and(x, mask), half), vi_set1(1), zero));
}

static void by_multiplier(const job *j, int64_t i, int64_t first, int64_t last) {
  const int32_t *acc = j->acc + i * j->ldacc;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high), least = vi_set1(-MOST), most = vi_set1(MOST);
  for (int64_t l = first; l < last; l += LANES) {
    const int64_t lanes = smaller(last - l, LANES);
    __builtin_prefetch(acc + l + PC_ASKED, 0, 2);
    const vi16 r = fixed(load(acc + l, lanes), load(j->multiplier + l, lanes), load(j->shift + l, lanes));
    const vi16 code = vi_add(vi_min(vi_max(r, least), most), j->zero ? load(j->zero + l, lanes) : vi_zero());
    vi_store_bytes_n(j->codes + i * j->n + l, lanes, vi_min(vi_max(code, low), high));
  }
}

static void chunks(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t first = u % j->chunks * CHUNK, last = smaller(j->n, first + CHUNK);
    (j->scale ? by_scale : by_multiplier)(j, u / j->chunks, first, last);
  }
}

static int requantize(job *j) {
  if (j->m < 0 || j->n < 0 || j->ldacc < j->n) return PC_EINVAL;
  if (j->n == 0) return PC_OK;
  j->chunks = (j->n + CHUNK - 1) / CHUNK;
  pc_for(j->m * j->chunks, 1 + GRAIN / smaller(j->n, CHUNK), chunks, j);
  return PC_OK;
}

int PC_FN(requantize_s8)(int64_t m, int64_t n, const int32_t *acc, int64_t ldacc, const float *scale, const int32_t *zero, int8_t *codes) {
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .scale = scale, .zero = zero, .codes = (uint8_t *)codes, .low = -128, .high = 127};
  return requantize(&j);
}

int PC_FN(requantize_u8)(int64_t m, int64_t n, const int32_t *acc, int64_t ldacc, const float *scale, const int32_t *zero, uint8_t *codes) {
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .scale = scale, .zero = zero, .codes = codes, .low = 0, .high = 255};
  return requantize(&j);
}

int PC_FN(requantize_fixed_s8)(int64_t m, int64_t n, const int32_t *acc, int64_t ldacc, const int32_t *multiplier, const int32_t *shift, const int32_t *zero, int8_t *codes) {
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .multiplier = multiplier, .shift = shift, .zero = zero, .codes = (uint8_t *)codes, .low = -128, .high = 127};
  return requantize(&j);
}

int PC_FN(requantize_fixed_u8)(int64_t m, int64_t n, const int32_t *acc, int64_t ldacc, const int32_t *multiplier, const int32_t *shift, const int32_t *zero, uint8_t *codes) {
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .multiplier = multiplier, .shift = shift, .zero = zero, .codes = codes, .low = 0, .high = 255};
  return requantize(&j);
}
