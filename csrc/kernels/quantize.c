/* Float to 8-bit codes and back by scales that are given, of rows or of columns: code = saturate(rint(x / scale) + zero);
 * x = float(code - zero) * scale; or both in one pass (fake quantization). Limit: memory, 5 bytes an element, 8 where codes are
 * not kept. */
#include "codes.h"
#include "grid.h"
#include "table.h"

enum {
  CHUNK = 1 << 14, /* elements of a row that make a unit of work */
  GRAIN = 1 << 15  /* elements that pay for waking a thread */
};

PC_INLINE float dequantized(uint8_t code, int is_signed, float scale, int32_t zero) {
  return (float)((is_signed ? (int8_t)code : code) - zero) * scale;
}

/* y[0..n) of codes; `past` the caches or not. */
static void dequantize_span(const uint8_t *codes, int64_t n, int is_signed, float scale, int32_t zero, int asks, int past,
                            float *y) {
  const int64_t head = pc_head(y, past, n);
  int64_t l = 0;
  for (; l < head; l++) y[l] = dequantized(codes[l], is_signed, scale, zero);
  for (; l + LANES <= n; l += LANES) {
    if (asks) __builtin_prefetch(codes + l + PC_ASKED, 0, 2);
    const vi16 code = is_signed ? vi_load_s8((const int8_t *)codes + l) : vi_load_u8(codes + l);
    const vf16 v = vf_mul(vf_from_vi(vi_sub(code, vi_set1(zero))), vf_set1(scale));
    pc_store_line(y + l, past, v);
  }
  for (; l < n; l++) y[l] = dequantized(codes[l], is_signed, scale, zero);
}

typedef struct {
  int64_t m, k, g, chunks; /* g: rows of scales of columns, 0 for scales of rows; chunks in a row */
  const float *scale;
  const int32_t *zero;
  const float *x;
  int64_t ldx;
  uint8_t *codes;
  const uint8_t *from;
  float *y;
  int is_signed, past, asks;
  int32_t low, high; /* the least and largest code */
  int *nan;
} given;

/* Grids of the sixteen rows before `end`, a multiple of sixteen: for one by itself a short row would wait. */
typedef struct {
  grids g;
  int64_t end;
} row_grids;

PC_INLINE grid grid_of(const given *j, int64_t i, row_grids *r) {
  if (i >= r->end) {
    const int64_t first = i / LANES * LANES, rows = smaller(j->m - first, LANES);
    const vi16 zero = j->zero ? vi_load_n(j->zero + first, rows) : vi_zero();
    make_grids(vf_load_n(j->scale + first, rows), zero, j->low, j->high, &r->g);
    r->end = first + LANES;
  }
  return one_of(&r->g, (int)(i % LANES));
}

static void quantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  row_grids rows = {.end = 0};
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const grid g = grid_of(j, i, &rows);
    int32_t sum;
    const int nan = quantize_span(j->x + i * j->ldx + l, n, g, 0, j->is_signed, j->asks, j->past, j->codes + i * j->k + l, &sum);
    if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
  if (j->past) vf_stream_fence();
}

/* Some columns of a row of x, `at` of all its elements. */
typedef struct {
  int64_t at, n;
  const float *x, *scale;
  const int32_t *zero;
  vi16 low, high;
  vm16 nan;
} columns;

/* Those of chunk u. */
PC_INLINE void find_columns(const given *j, int64_t u, columns *r) {
  const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, scales = i / (j->m / j->g) * j->k + first;
  r->at = i * j->k + first;
  r->n = smaller(j->k - first, CHUNK);
  r->x = j->x + i * j->ldx + first;
  r->scale = j->scale + scales;
  r->zero = j->zero ? j->zero + scales : NULL;
}

PC_INLINE vi16 zeros_of(const columns *r, int64_t l, int64_t lanes) { return r->zero ? vi_load_n(r->zero + l, lanes) : vi_zero(); }

PC_INLINE vi16 code_columns(void *row, int64_t l, int64_t lanes) {
  columns *r = row;
  const vf16 v = vf_load_left(r->x + l, lanes);
  __builtin_prefetch(r->x + l + PC_ASKED, 0, 2);
  r->nan = vm_or(r->nan, vf_isnan(v));
  return code_of(vf_div(v, vf_load_left(r->scale + l, lanes)), zeros_of(r, l, lanes), r->low, r->high);
}

static void quantize_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  columns r = {.low = vi_set1(j->low), .high = vi_set1(j->high), .nan = vm_first(0)};
  for (int64_t u = begin; u < end; u++) {
    find_columns(j, u, &r);
    row_codes(code_columns, &r, r.n, j->is_signed, j->past, j->codes + r.at);
  }
  if (j->past) vf_stream_fence();
  if (vm_bits(r.nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static void dequantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const int32_t zero = j->zero ? j->zero[i] : 0;
    dequantize_span(j->from + i * j->k + l, n, j->is_signed, j->scale[i], zero, j->asks, j->past, j->y + i * j->k + l);
  }
  if (j->past) vf_stream_fence();
}

static void dequantize_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, last = smaller(j->k, first + CHUNK);
    const uint8_t *codes = j->from + i * j->k;
    const float *scale = j->scale + i / (j->m / j->g) * j->k;
    const int32_t *zero = j->zero ? j->zero + i / (j->m / j->g) * j->k : NULL;
    float *y = j->y + i * j->k;
    const int64_t head = first + pc_head(y + first, j->past, last - first);
    int64_t l = first;
    for (; l < head; l++) y[l] = dequantized(codes[l], j->is_signed, scale[l], zero ? zero[l] : 0);
    for (; l + LANES <= last; l += LANES) {
      __builtin_prefetch(codes + l + PC_ASKED, 0, 2);
      const vi16 code = j->is_signed ? vi_load_s8((const int8_t *)codes + l) : vi_load_u8(codes + l);
      const vf16 v = vf_mul(vf_from_vi(zero ? vi_sub(code, vi_load(zero + l)) : code), vf_load(scale + l));
      pc_store_line(y + l, j->past, v);
    }
    for (; l < last; l++) y[l] = dequantized(codes[l], j->is_signed, scale[l], zero ? zero[l] : 0);
  }
  if (j->past) vf_stream_fence();
}

/* Of up to sixteen values: from the codes' steps above the zero point back to floats. No step is +0. Compilers see a float
 * turned into an integer and back, and where the CPU can truncate leave out both: then it would have the sign of x. */
PC_INLINE void store_values(float *y, int64_t lanes, int past, vi16 steps, vf16 scale) {
  const vf16 v = vf_add(vf_mul(vf_from_vi(steps), scale), vf_zero());
  pc_store_lanes(y, lanes, past, v);
}

/* y[0..n) of x, to codes and back; returns whether x holds NaN. */
PC_INLINE int fake_span(const float *x, int64_t n, grid g, way by, int asks, int past, float *y) {
  const int64_t head = pc_head(y, past, n);
  vm16 nan = vm_first(0);
  for (int64_t l = 0, lanes; l < n; l += lanes) {
    lanes = pc_lanes_at(l, head, n);
    const vf16 v = vf_load_left(x + l, lanes);
    if (asks) __builtin_prefetch(x + l + PC_ASKED, 0, 2);
    nan = vm_or(nan, vf_isnan(v));
    store_values(y + l, lanes, past, vi_sub(codes_of(v, g, by), vi_set1(g.zero)), vf_set1(g.scale));
  }
  return vm_bits(nan) != 0;
}

static void fake_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  row_grids rows = {.end = 0};
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const grid g = grid_of(j, i, &rows);
    const float *x = j->x + i * j->ldx + l;
    float *y = j->y + i * j->k + l;
    const int nan = g.inverse == 0 ? fake_span(x, n, g, DIVIDE, j->asks, j->past, y)
                                   : fake_span(x, n, g, MULTIPLY, j->asks, j->past, y);
    if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
  if (j->past) vf_stream_fence();
}

static void fake_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  columns r = {.low = vi_set1(j->low), .high = vi_set1(j->high), .nan = vm_first(0)};
  for (int64_t u = begin; u < end; u++) {
    find_columns(j, u, &r);
    float *y = j->y + r.at;
    const int64_t head = pc_head(y, j->past, r.n);
    for (int64_t l = 0, lanes; l < r.n; l += lanes) {
      lanes = pc_lanes_at(l, head, r.n);
      const vi16 steps = vi_sub(code_columns(&r, l, lanes), zeros_of(&r, l, lanes));
      store_values(y + l, lanes, j->past, steps, vf_load_left(r.scale + l, lanes));
    }
  }
  if (j->past) vf_stream_fence();
  if (vm_bits(r.nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static int by_chunks(given *j, void (*chunks)(int64_t, int64_t, const void *)) {
  if (j->m < 0 || j->k < 0 || j->ldx < j->k || j->low > j->high) return PC_EINVAL;
  if (j->m == 0 || j->k == 0) return PC_OK;
  int nan = 0;
  j->nan = &nan;
  j->chunks = (j->k + CHUNK - 1) / CHUNK;
  j->asks = j->m * j->k >= PC_FAR;
  j->past = pc_go_past(j->m, j->k, j->y ? PC_PAST : PC_PAST_CODES);
  pc_for(j->m * j->chunks, 1 + GRAIN / smaller(j->k, CHUNK), chunks, j);
  return nan ? PC_ENAN : PC_OK;
}

/* The same with scales [g,k], each row of them for m/g rows. */
static int by_columns(given *j, void (*chunks)(int64_t, int64_t, const void *)) {
  if (j->g < 0 || j->m < 0 || !pc_divides(j->g, j->m)) return PC_EINVAL;
  return by_chunks(j, chunks);
}

int PC_FN(quantize_s8)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero, int8_t *codes) {
  given j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = (uint8_t *)codes,
             .low = -128, .high = 127, .is_signed = 1};
  return by_chunks(&j, quantize_chunks);
}

int PC_FN(quantize_u8)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero, uint8_t *codes) {
  given j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = codes,
             .low = 0, .high = 255};
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

int PC_FN(quantize_columns_s8)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, const float *scale, const int32_t *zero, int8_t *codes) {
  given j = {.m = m, .k = k, .g = g, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = (uint8_t *)codes,
             .low = -128, .high = 127, .is_signed = 1};
  return by_columns(&j, quantize_column_chunks);
}

int PC_FN(quantize_columns_u8)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, const float *scale, const int32_t *zero, uint8_t *codes) {
  given j = {.m = m, .k = k, .g = g, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .codes = codes,
             .low = 0, .high = 255};
  return by_columns(&j, quantize_column_chunks);
}

int PC_FN(dequantize_columns_s8)(int64_t m, int64_t k, int64_t g, const int8_t *codes, const float *scale, const int32_t *zero, float *y) {
  given j = {.m = m, .k = k, .g = g, .ldx = k, .from = (const uint8_t *)codes, .scale = scale, .zero = zero, .y = y, .is_signed = 1};
  return by_columns(&j, dequantize_column_chunks);
}

int PC_FN(dequantize_columns_u8)(int64_t m, int64_t k, int64_t g, const uint8_t *codes, const float *scale, const int32_t *zero, float *y) {
  given j = {.m = m, .k = k, .g = g, .ldx = k, .from = codes, .scale = scale, .zero = zero, .y = y};
  return by_columns(&j, dequantize_column_chunks);
}

int PC_FN(fake_quantize_f32)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero,
                             int32_t low, int32_t high, float *y) {
  given j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .low = low, .high = high, .y = y};
  return by_chunks(&j, fake_chunks);
}

int PC_FN(fake_quantize_columns_f32)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, const float *scale,
                                     const int32_t *zero, int32_t low, int32_t high, float *y) {
  given j = {.m = m, .k = k, .g = g, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .low = low, .high = high, .y = y};
  return by_columns(&j, fake_column_chunks);
}
