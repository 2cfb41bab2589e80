/* int32 sums to 8-bit codes, one multiplier a column: by a float scale, or by a fixed-point multiplier and a shift.
 * Limit: memory, 5 bytes an element. */
#include "codes.h"

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
  int low, high, past;
} job;

/* Some columns of a row of sums. */
typedef struct {
  const int32_t *acc;
  const float *scale;
  const int32_t *multiplier, *shift, *zero;
  vi16 low, high;
} columns;

PC_INLINE vi16 load(const int32_t *p, int64_t n) { return n >= LANES ? vi_load(p) : vi_load_n(p, n); }

PC_INLINE vi16 code_by_scale(void *row, int64_t l, int64_t lanes) {
  const columns *r = row;
  __builtin_prefetch(r->acc + l + PC_ASKED, 0, 2);
  const vf16 q = vf_mul(vf_from_vi(load(r->acc + l, lanes)), vf_load_left(r->scale + l, lanes));
  return code_of(q, r->zero ? load(r->zero + l, lanes) : vi_zero(), r->low, r->high);
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

PC_INLINE vi16 code_by_multiplier(void *row, int64_t l, int64_t lanes) {
  const columns *r = row;
  __builtin_prefetch(r->acc + l + PC_ASKED, 0, 2);
  const vi16 x = fixed(load(r->acc + l, lanes), load(r->multiplier + l, lanes), load(r->shift + l, lanes));
  const vi16 near = vi_min(vi_max(x, vi_set1(-PC_MOST_STEPS)), vi_set1(PC_MOST_STEPS));
  return vi_min(vi_max(vi_add(near, r->zero ? load(r->zero + l, lanes) : vi_zero()), r->low), r->high);
}

PC_INLINE void chunks(coder *code, int64_t begin, int64_t end, const job *j) {
  columns r = {.low = vi_set1(j->low), .high = vi_set1(j->high)};
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, n = smaller(j->n - first, CHUNK);
    r.acc = j->acc + i * j->ldacc + first;
    r.scale = j->scale ? j->scale + first : NULL;
    r.multiplier = j->multiplier ? j->multiplier + first : NULL;
    r.shift = j->shift ? j->shift + first : NULL;
    r.zero = j->zero ? j->zero + first : NULL;
    row_codes(code, &r, n, j->low < 0, j->past, j->codes + i * j->n + first);
  }
  if (j->past) vf_stream_fence();
}

static void by_scale(int64_t begin, int64_t end, const void *context) { chunks(code_by_scale, begin, end, context); }
static void by_multiplier(int64_t begin, int64_t end, const void *context) { chunks(code_by_multiplier, begin, end, context); }

static int requantize(job *j) {
  if (j->m < 0 || j->n < 0 || j->ldacc < j->n) return PC_EINVAL;
  if (j->n == 0) return PC_OK;
  j->chunks = (j->n + CHUNK - 1) / CHUNK;
  j->past = pc_go_past(j->m, j->n, PC_PAST_CODES);
  pc_for(j->m * j->chunks, 1 + GRAIN / smaller(j->n, CHUNK), j->scale ? by_scale : by_multiplier, j);
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
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .multiplier = multiplier, .shift = shift, .zero = zero,
           .codes = (uint8_t *)codes, .low = -128, .high = 127};
  return requantize(&j);
}

int PC_FN(requantize_fixed_u8)(int64_t m, int64_t n, const int32_t *acc, int64_t ldacc, const int32_t *multiplier, const int32_t *shift, const int32_t *zero, uint8_t *codes) {
  job j = {.m = m, .n = n, .acc = acc, .ldacc = ldacc, .multiplier = multiplier, .shift = shift, .zero = zero,
           .codes = codes, .low = 0, .high = 255};
  return requantize(&j);
}
