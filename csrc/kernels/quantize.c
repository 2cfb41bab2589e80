/* Float to 8-bit codes and back: code = saturate(rint(x / scale) + zero), a true division, half to even;
 * x = float(code - zero) * scale. Also the choice of scale and zero for a row of activations, and the packing of codes
 * as weights. Limit: memory, 5 bytes an element; a row of activations is read twice, the second time from cache. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "table.h"
#include "vocabulary.h"

enum {
  GROUP = 4,
  CHUNK = 1 << 14,      /* elements of a row that make a unit of work */
  GRAIN = 1 << 15,      /* elements that pay for waking a thread */
  INFINITE = 0x7f800000 /* bits of infinity: a float of larger magnitude bits is NaN */
};

typedef struct {
  int64_t m, k;
  const float *x;
  int64_t ldx;
  void *codes;
  float *scale;
  int32_t *zero;
  int low, high; /* of a code */
  int *nan;
} job;

/* codes[0..n) of x at one scale. limit: beyond it a quotient saturates whatever the zero. */
static void quantize_span(const float *x, int64_t n, float scale, int32_t zero, int low, int high, uint8_t *codes) {
  const vf16 divisor = vf_set1(scale), limit = vf_set1(512.0f), minus_limit = vf_set1(-512.0f);
  const vi16 shift = vi_set1(zero), lowest = vi_set1(low), highest = vi_set1(high);
  for (int64_t l = 0; l < n; l += LANES) {
    const int64_t lanes = n - l < LANES ? n - l : LANES;
    const vf16 q = vf_div(lanes == LANES ? vf_load(x + l) : vf_load_n(x + l, lanes), divisor);
    const vi16 code = vi_add(vi_from_vf(vf_min(vf_max(q, minus_limit), limit)), shift);
    vi_store_bytes_n(codes + l, lanes, vi_min(vi_max(code, lowest), highest));
  }
}

/* Smallest and largest of the row and 0; returns 0 if the row holds NaN or infinity. */
static int range(const float *x, int64_t n, float *low, float *high) {
  const vi16 magnitude = vi_set1(0x7fffffff);
  vf16 lowest = vf_zero(), highest = vf_zero();
  vi16 largest = vi_zero();
  for (int64_t l = 0; l < n; l += LANES) {
    const vf16 v = n - l >= LANES ? vf_load(x + l) : vf_load_n(x + l, n - l);
    lowest = vf_min(v, lowest);
    highest = vf_max(v, highest);
    largest = vi_max(largest, vi_and(vi_from_bits(v), magnitude));
  }
  *low = vf_fold_min(lowest);
  *high = vf_fold_max(highest);
  return vm_bits(vi_gt(largest, vi_set1(INFINITE - 1))) == 0;
}

/* A row that no scale fits: NaN scale and zero codes make its outputs NaN. */
static void rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end; i++) {
    const float *x = j->x + i * j->ldx;
    uint8_t *codes = (uint8_t *)j->codes + i * j->k;
    float low, high, scale;
    int32_t zero = 0;
    if (!range(x, j->k, &low, &high)) {
      j->scale[i] = NAN;
      if (j->zero) j->zero[i] = 0;
      memset(codes, 0, (size_t)j->k);
      continue;
    }
    if (low == 0 && high == 0) {
      scale = 1;
    } else if (j->zero) {
      scale = (0.5f * high - 0.5f * low) / 127.5f; /* halves: the difference of two finite numbers may be infinite */
      if (scale < FLT_MIN) scale = FLT_MIN;
      zero = (int32_t)rintf(-low / scale);
    } else {
      scale = (high > -low ? high : -low) / 127.0f;
      if (scale < FLT_MIN) scale = FLT_MIN;
    }
    j->scale[i] = scale;
    if (j->zero) j->zero[i] = zero;
    quantize_span(x, j->k, scale, zero, j->low, j->high, codes);
  }
}

static int quantize_rows(job *j) {
  if (j->m < 0 || j->k < 0 || j->ldx < j->k) return PC_EINVAL;
  pc_for(j->m, 1 + GRAIN / (j->k + 1), rows, j);
  return PC_OK;
}

int PC_FN(quantize_rows_s8)(int64_t m, int64_t k, const float *x, int64_t ldx, int8_t *codes, float *scale) {
  job j = {.m = m, .k = k, .x = x, .ldx = ldx, .codes = codes, .scale = scale, .low = -127, .high = 127};
  return quantize_rows(&j);
}

int PC_FN(quantize_rows_u8)(int64_t m, int64_t k, const float *x, int64_t ldx, uint8_t *codes, float *scale, int32_t *zero) {
  job j = {.m = m, .k = k, .x = x, .ldx = ldx, .codes = codes, .scale = scale, .zero = zero, .low = 0, .high = 255};
  return quantize_rows(&j);
}

/* -- scales that are given */
typedef struct {
  int64_t m, k, chunks; /* chunks in a row */
  const float *scale;
  const int32_t *zero;
  const float *x;
  int64_t ldx;
  uint8_t *codes;
  const uint8_t *from;
  float *y;
  int is_signed;
  int *nan;
} given;

static int holds_nan(const float *x, int64_t n) {
  uint32_t found = 0;
  for (int64_t l = 0; l < n; l += LANES) found |= vm_bits(vf_isnan(n - l >= LANES ? vf_load(x + l) : vf_load_n(x + l, n - l)));
  return found != 0;
}

static void quantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = j->k - l < CHUNK ? j->k - l : CHUNK;
    const float *x = j->x + i * j->ldx + l;
    if (holds_nan(x, n)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
    quantize_span(x, n, j->scale[i], j->zero ? j->zero[i] : 0, j->is_signed ? -128 : 0, j->is_signed ? 127 : 255, j->codes + i * j->k + l);
  }
}

static void dequantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l0 = u % j->chunks * CHUNK, n = j->k - l0 < CHUNK ? j->k - l0 : CHUNK;
    const uint8_t *codes = j->from + i * j->k + l0;
    float *y = j->y + i * j->k + l0;
    const vf16 scale = vf_set1(j->scale[i]);
    const vi16 zero = vi_set1(j->zero ? j->zero[i] : 0);
    int64_t l = 0;
    for (; l + LANES <= n; l += LANES) {
      const vi16 code = j->is_signed ? vi_load_s8((const int8_t *)codes + l) : vi_load_u8(codes + l);
      vf_store(y + l, vf_mul(vf_from_vi(vi_sub(code, zero)), scale));
    }
    for (; l < n; l++) {
      const int32_t code = j->is_signed ? (int8_t)codes[l] : codes[l];
      y[l] = (float)(code - (j->zero ? j->zero[i] : 0)) * j->scale[i];
    }
  }
}

static int by_chunks(given *j, void (*chunks)(int64_t, int64_t, const void *)) {
  if (j->m < 0 || j->k < 0 || j->ldx < j->k) return PC_EINVAL;
  if (j->m == 0 || j->k == 0) return PC_OK;
  int nan = 0;
  j->nan = &nan;
  j->chunks = (j->k + CHUNK - 1) / CHUNK;
  pc_for(j->m * j->chunks, 1 + GRAIN / (j->k < CHUNK ? j->k : CHUNK), chunks, j);
  return nan ? PC_ENAN : PC_OK;
}

int PC_FN(quantize_s8)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero, int8_t *codes) {
  given j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = (uint8_t *)codes, .is_signed = 1};
  return by_chunks(&j, quantize_chunks);
}

int PC_FN(quantize_u8)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero, uint8_t *codes) {
  given j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = codes};
  return by_chunks(&j, quantize_chunks);
}

int PC_FN(dequantize_s8)(int64_t m, int64_t k, const int8_t *codes, const float *scale, const int32_t *zero, float *y) {
  given j = {.m = m, .k = k, .ldx = k, .from = (const uint8_t *)codes, .scale = scale, .zero = zero, .y = y, .is_signed = 1};
  return by_chunks(&j, dequantize_chunks);
}

int PC_FN(dequantize_u8)(int64_t m, int64_t k, const uint8_t *codes, const float *scale, const int32_t *zero, float *y) {
  given j = {.m = m, .k = k, .ldx = k, .from = codes, .scale = scale, .zero = zero, .y = y};
  return by_chunks(&j, dequantize_chunks);
}

/* -- packing of weights */
typedef struct {
  int64_t k, n;
  const int8_t *w;
  int64_t w_row, w_column;
  int8_t *packed;
  int32_t *sums;
} packing;

static void pack_slices(int64_t begin, int64_t end, const void *context) {
  const packing *j = context;
  const int64_t size = (j->k + GROUP - 1) / GROUP * GROUP * LANES;
  for (int64_t s = begin; s < end; s++) {
    int8_t *to = j->packed + s * size;
    memset(to, 0, (size_t)size);
    for (int64_t c = 0; c < LANES && s * LANES + c < j->n; c++) {
      const int8_t *w = j->w + (s * LANES + c) * j->w_column;
      uint32_t sum = 0;
      for (int64_t l = 0; l < j->k; l++) {
        const int8_t value = w[l * j->w_row];
        to[(l / GROUP * LANES + c) * GROUP + l % GROUP] = value;
        sum += (uint32_t)value;
      }
      j->sums[s * LANES + c] = (int32_t)sum;
    }
  }
}

int PC_FN(pack_s8)(int64_t k, int64_t n, const int8_t *w, int64_t w_row, int64_t w_column, int8_t *packed, int32_t *sums) {
  if (k < 0 || n < 0) return PC_EINVAL;
  const packing j = {k, n, w, w_row, w_column, packed, sums};
  pc_for((n + LANES - 1) / LANES, 1 + GRAIN / (LANES * (k + 1)), pack_slices, &j);
  return PC_OK;
}
