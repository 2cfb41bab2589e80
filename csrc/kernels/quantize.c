/* Float to 8-bit codes and back: code = saturate(rint(x / scale) + zero), a true division, half to even;
 * x = float(code - zero) * scale; or both in one pass (fake quantization). Also the choice of scale and zero for a row of
 * activations. Limit: memory, 5 bytes an element, 8 where codes are not kept; a row of activations is read twice, the second
 * time from cache.
 * Floats that no cache will hold go past the caches: a store into memory otherwise reads the line first. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codes.h"
#include "table.h"
#include "vocabulary.h"

enum {
  CHUNK = 1 << 14,       /* elements of a row that make a unit of work */
  GRAIN = 1 << 15,       /* elements that pay for waking a thread */
  FAR = 1 << 22,         /* elements that no cache may hold: from one, asking costs a sixth of the time */
  AHEAD = 1 << 12,       /* elements to ask for ahead of use: hardware stops at the end of a page */
  LARGE = 1 << 23,       /* floats of a result that goes past the caches: 32 MB */
  LONG = 1 << 10,        /* elements of a row for which that pays: lines at its ends are written in parts */
  FOUR = 4 * LANES,      /* elements whose codes fill a line */
  NEAR = 1 << 12,        /* elements that the first cache holds */
  BOUND = 1 << 9,        /* of quotients, for `multiplies` */
  INFINITE = 0x7f800000  /* bits of infinity: a float of larger magnitude bits is NaN */
};

/* -- one scale for many elements */
typedef struct {
  float scale, inverse, rest; /* inverse + rest: 1 / scale; inverse 0: divide */
  float least, most;          /* where codes end: of x, or, without an inverse, of the quotient */
  int32_t zero;
} grid;

typedef struct {
  float scale[LANES], inverse[LANES], rest[LANES], least[LANES], most[LANES];
  int32_t zero[LANES];
} grids;

PC_INLINE grid one_of(const grids *g, int i) {
  return (grid){g->scale[i], g->inverse[i], g->rest[i], g->least[i], g->most[i], g->zero[i]};
}

/* Whether x * inverse + x * rest rounds to the code that the quotient x / scale rounds to. (Two products in place of a division:
 * Brisebarre, Muller and Raina, IEEE Trans. Computers 53, 2004.) Before it is rounded to a float the sum is within 1.5 * 2^-47
 * of the quotient, so they may differ where the quotient is that near to T, the middle between a half-integer below 2^9 and a
 * float beside it. T is an odd M, 1 beside a multiple of 2^15, times a power of two, and with X and S the significands of x and
 * scale, X * 2^k - M * S would have to be from -6 to 6, k >= 24. That is S or -S, by 2^15, so that no S errs that leaves more;
 * nor one that leaves 0, as X * 2^k would be M * S itself, and 2^24 does not divide S. */
PC_INLINE vm16 multiplies(vf16 scale) {
  const vi16 bits = vi_from_bits(scale), by = vi_set1(0x7fff);
  const vm16 some = vi_gt(vi_and(vi_add(bits, vi_set1(6)), by), vi_set1(12)), none = vi_eq(vi_and(bits, by), vi_zero());
  return vm_and(vm_or(some, none), vm_and(vf_lt(vf_set1(0x1p-60f), scale), vf_lt(scale, vf_set1(0x1p60f))));
}

static void make_grids(vf16 scale, vi16 zero, int low, int high, grids *g) {
  const vf16 bound = vf_set1(BOUND), inverse = vf_div(vf_set1(1), scale);
  const vf16 least = vf_from_vi(vi_sub(vi_set1(low), zero)), most = vf_from_vi(vi_sub(vi_set1(high), zero));
  const vm16 near = vm_and(vf_lt(vf_sub(vf_zero(), bound), least), vf_lt(most, bound));
  const vm16 by_product = vm_and(near, multiplies(scale));
  vf_store(g->scale, scale);
  vf_store(g->inverse, vf_select(by_product, inverse, vf_zero()));
  vf_store(g->rest, vf_mul(vf_fnma(scale, inverse, vf_set1(1)), inverse));
  vf_store(g->least, vf_select(by_product, vf_mul(least, scale), least));
  vf_store(g->most, vf_select(by_product, vf_mul(most, scale), most));
  vi_store(g->zero, zero);
}

/* How codes are found: dividing, multiplying, or multiplying an x of known range: finite, and of no code below the first. */
typedef enum { DIVIDE, MULTIPLY, RANGED } way;

PC_INLINE vi16 codes_of(vf16 x, grid g, way by) {
  const vf16 least = vf_set1(g.least), most = vf_set1(g.most);
  vf16 q;
  if (by == DIVIDE) {
    q = vf_min(vf_max(vf_div(x, vf_set1(g.scale)), least), most);
  } else { /* bounded where the codes end, which rounds to the same codes */
    const vf16 bounded = vf_min(by == RANGED ? x : vf_max(x, least), most);
    q = PC_SLOW_FMA ? vf_div(bounded, vf_set1(g.scale)) : vf_fma(bounded, vf_set1(g.inverse), vf_mul(bounded, vf_set1(g.rest)));
  }
  return vi_add(vi_from_vf(q), vi_set1(g.zero));
}

/* What is found of a span besides its codes. */
typedef struct {
  vm16 nan;
  vi16 total;
} found;

/* 64 codes of x. */
PC_INLINE found quantize_four(const float *x, grid g, way by, int is_signed, int asks, uint8_t *codes, found f) {
  vf16 v[4];
  vi16 code[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    v[i] = vf_load(x + i * LANES);
    /* further off than `range` has asked already */
    if (asks) __builtin_prefetch(x + i * LANES + (by == RANGED ? AHEAD / 2 * 3 : AHEAD), 0, 2);
    code[i] = codes_of(v[i], g, by);
    f.total = vi_add(f.total, code[i]);
  }
  if (by != RANGED) f.nan = vm_or(f.nan, vm_or(vf_unordered(v[0], v[1]), vf_unordered(v[2], v[3])));
  vi_store_codes(codes, is_signed, code[0], code[1], code[2], code[3]);
  return f;
}

/* codes[0..n) of x, and their sum; returns whether x holds NaN. */
PC_INLINE int span(const float *x, int64_t n, grid g, way by, int is_signed, int asks, uint8_t *codes, int32_t *sum) {
  found f = {vm_first(0), vi_zero()};
  int64_t l = 0;
  for (; l + FOUR <= n; l += FOUR) f = quantize_four(x + l, g, by, is_signed, asks, codes + l, f);
  for (int64_t lanes; l < n; l += lanes) {
    lanes = smaller(n - l, LANES);
    const vf16 v = vf_load_left(x + l, lanes);
    const vi16 code = codes_of(v, g, by);
    if (by != RANGED) f.nan = vm_or(f.nan, vf_isnan(v));
    f.total = vi_add(f.total, lanes == LANES ? code : vi_select(vm_first(lanes), code, vi_zero()));
    vi_store_bytes_n(codes + l, lanes, code);
  }
  *sum = vi_fold_add(f.total);
  return vm_bits(f.nan) != 0;
}

PC_INLINE int quantize_span(const float *x, int64_t n, grid g, int ranged, int is_signed, int asks, uint8_t *codes, int32_t *sum) {
  return g.inverse == 0 ? span(x, n, g, DIVIDE, is_signed, asks, codes, sum)
         : ranged       ? span(x, n, g, RANGED, is_signed, asks, codes, sum)
                        : span(x, n, g, MULTIPLY, is_signed, asks, codes, sum);
}

PC_INLINE float dequantized(uint8_t code, int is_signed, float scale, int32_t zero) {
  return (float)((is_signed ? (int8_t)code : code) - zero) * scale;
}

/* y[0..n) of codes; stream: past the caches. */
static void dequantize_span(const uint8_t *codes, int64_t n, int is_signed, float scale, int32_t zero, int stream, float *y) {
  const int64_t head = stream ? smaller(pc_to_line(y), n) : 0;
  int64_t l = 0;
  for (; l < head; l++) y[l] = dequantized(codes[l], is_signed, scale, zero);
  for (; l + LANES <= n; l += LANES) {
    __builtin_prefetch(codes + l + AHEAD, 0, 2);
    const vi16 code = is_signed ? vi_load_s8((const int8_t *)codes + l) : vi_load_u8(codes + l);
    const vf16 v = vf_mul(vf_from_vi(vi_sub(code, vi_set1(zero))), vf_set1(scale));
    if (stream) vf_stream(y + l, v);
    else vf_store(y + l, v);
  }
  for (; l < n; l++) y[l] = dequantized(codes[l], is_signed, scale, zero);
}

/* -- scales of rows of activations, or of groups within a row */
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
    if (asks) __builtin_prefetch(x + l + AHEAD, 0, 2);
    if (asks) __builtin_prefetch(x + l + LANES + AHEAD, 0, 2);
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
  const vi16 zero = j->zero ? vi_from_vf(vf_div(vf_sub(vf_zero(), low), scale)) : vi_zero();
  make_grids(vf_select(finite, scale, vf_set1(NAN)), vi_select(finite, zero, vi_zero()), j->low, j->high, g);
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
  j->asks = j->m * j->k >= FAR;
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

/* -- scales that are given, of rows or of columns */
typedef struct {
  int64_t m, k, g, chunks; /* g: rows of scales of columns, 0 for scales of rows; chunks in a row */
  const float *scale;
  const int32_t *zero;
  const float *x;
  int64_t ldx;
  uint8_t *codes;
  const uint8_t *from;
  float *y;
  int is_signed, stream, asks;
  int32_t low, high; /* the least and largest code */
  int *nan;
} given;

/* Grids of some rows, from `first` on: of one by itself a short row would wait. */
typedef struct {
  grids g;
  int64_t first, last;
} row_grids;

PC_INLINE grid grid_of(const given *j, int64_t i, row_grids *r) {
  if (i >= r->last) {
    const int64_t rows = smaller(j->m - i, LANES);
    make_grids(vf_load_n(j->scale + i, rows), j->zero ? vi_load_n(j->zero + i, rows) : vi_zero(), j->low, j->high, &r->g);
    r->first = i, r->last = i + rows;
  }
  return one_of(&r->g, (int)(i - r->first));
}

static void quantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  row_grids rows = {.last = 0};
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const grid g = grid_of(j, i, &rows);
    int32_t sum;
    const int nan = quantize_span(j->x + i * j->ldx + l, n, g, 0, j->is_signed, j->asks, j->codes + i * j->k + l, &sum);
    if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
}

static void quantize_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  vm16 nan = vm_first(0);
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, last = smaller(j->k, first + CHUNK);
    const int64_t scales = i / (j->m / j->g) * j->k;
    for (int64_t l = first; l < last; l += LANES) {
      const int64_t lanes = smaller(last - l, LANES);
      const vf16 v = vf_load_left(j->x + i * j->ldx + l, lanes);
      __builtin_prefetch(j->x + i * j->ldx + l + AHEAD, 0, 2);
      const vf16 loaded = vf_load_left(j->scale + scales + l, lanes);
      const vf16 scale = lanes == LANES ? loaded : vf_select(vm_first(lanes), loaded, vf_set1(1.0f));
      const vi16 zero = j->zero ? vi_load_n(j->zero + scales + l, lanes) : vi_zero();
      vi_store_bytes_n(j->codes + i * j->k + l, lanes, code_of(vf_div(v, scale), zero, low, high));
      nan = vm_or(nan, vf_isnan(v));
    }
  }
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static void dequantize_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const int32_t zero = j->zero ? j->zero[i] : 0;
    dequantize_span(j->from + i * j->k + l, n, j->is_signed, j->scale[i], zero, j->stream, j->y + i * j->k + l);
  }
  if (j->stream) vf_stream_fence();
}

static void dequantize_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, last = smaller(j->k, first + CHUNK);
    const uint8_t *codes = j->from + i * j->k;
    const float *scale = j->scale + i / (j->m / j->g) * j->k;
    const int32_t *zero = j->zero ? j->zero + i / (j->m / j->g) * j->k : NULL;
    float *y = j->y + i * j->k;
    const int64_t head = j->stream ? smaller(first + pc_to_line(y + first), last) : first;
    int64_t l = first;
    for (; l < head; l++) y[l] = dequantized(codes[l], j->is_signed, scale[l], zero ? zero[l] : 0);
    for (; l + LANES <= last; l += LANES) {
      __builtin_prefetch(codes + l + AHEAD, 0, 2);
      const vi16 code = j->is_signed ? vi_load_s8((const int8_t *)codes + l) : vi_load_u8(codes + l);
      const vf16 v = vf_mul(vf_from_vi(zero ? vi_sub(code, vi_load(zero + l)) : code), vf_load(scale + l));
      if (j->stream) vf_stream(y + l, v);
      else vf_store(y + l, v);
    }
    for (; l < last; l++) y[l] = dequantized(codes[l], j->is_signed, scale[l], zero ? zero[l] : 0);
  }
  if (j->stream) vf_stream_fence();
}

/* Of up to sixteen values: from the codes' steps above the zero point back to floats. No step is +0. Compilers see a float
 * turned into an integer and back, and where the CPU can truncate leave out both: then it would have the sign of x. */
PC_INLINE void store_values(float *y, int64_t lanes, int stream, vi16 steps, vf16 scale) {
  const vf16 v = vf_add(vf_mul(vf_from_vi(steps), scale), vf_zero());
  if (lanes < LANES) vf_store_n(y, lanes, v);
  else if (stream) vf_stream(y, v);
  else vf_store(y, v);
}

/* Lanes from l on, of which the first `head` stand before a line where y goes past the caches. */
PC_INLINE int64_t lanes_at(int64_t l, int64_t head, int64_t n) { return l < head ? head : smaller(n - l, LANES); }

/* y[0..n) of x, to codes and back; returns whether x holds NaN. */
PC_INLINE int fake_span(const float *x, int64_t n, grid g, way by, int stream, float *y) {
  const int64_t head = stream ? smaller(pc_to_line(y), n) : 0;
  vm16 nan = vm_first(0);
  for (int64_t l = 0, lanes; l < n; l += lanes) {
    lanes = lanes_at(l, head, n);
    const vf16 v = vf_load_left(x + l, lanes);
    __builtin_prefetch(x + l + AHEAD, 0, 2);
    nan = vm_or(nan, vf_isnan(v));
    store_values(y + l, lanes, stream, vi_sub(codes_of(v, g, by), vi_set1(g.zero)), vf_set1(g.scale));
  }
  return vm_bits(nan) != 0;
}

static void fake_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  row_grids rows = {.last = 0};
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, l = u % j->chunks * CHUNK, n = smaller(j->k - l, CHUNK);
    const grid g = grid_of(j, i, &rows);
    const float *x = j->x + i * j->ldx + l;
    float *y = j->y + i * j->k + l;
    const int nan = g.inverse == 0 ? fake_span(x, n, g, DIVIDE, j->stream, y) : fake_span(x, n, g, MULTIPLY, j->stream, y);
    if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
  if (j->stream) vf_stream_fence();
}

static void fake_column_chunks(int64_t begin, int64_t end, const void *context) {
  const given *j = context;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  vm16 nan = vm_first(0);
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->chunks, first = u % j->chunks * CHUNK, n = smaller(j->k - first, CHUNK);
    const int64_t scales = i / (j->m / j->g) * j->k + first;
    const float *x = j->x + i * j->ldx + first;
    float *y = j->y + i * j->k + first;
    const int64_t head = j->stream ? smaller(pc_to_line(y), n) : 0;
    for (int64_t l = 0, lanes; l < n; l += lanes) {
      lanes = lanes_at(l, head, n);
      const vf16 v = vf_load_left(x + l, lanes), scale = vf_load_left(j->scale + scales + l, lanes);
      const vi16 zero = j->zero ? vi_load_n(j->zero + scales + l, lanes) : vi_zero();
      __builtin_prefetch(x + l + AHEAD, 0, 2);
      nan = vm_or(nan, vf_isnan(v));
      store_values(y + l, lanes, j->stream, vi_sub(code_of(vf_div(v, scale), zero, low, high), zero), scale);
    }
  }
  if (j->stream) vf_stream_fence();
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static int by_chunks(given *j, void (*chunks)(int64_t, int64_t, const void *)) {
  if (j->m < 0 || j->k < 0 || j->ldx < j->k) return PC_EINVAL;
  if (j->m == 0 || j->k == 0) return PC_OK;
  int nan = 0;
  j->nan = &nan;
  j->chunks = (j->k + CHUNK - 1) / CHUNK;
  j->asks = j->m * j->k >= FAR;
  j->stream = j->y && j->k >= LONG && j->m * j->k >= LARGE;
  pc_for(j->m * j->chunks, 1 + GRAIN / smaller(j->k, CHUNK), chunks, j);
  return nan ? PC_ENAN : PC_OK;
}

/* The same with scales [g,k], each row of them for m/g rows. */
static int by_columns(given *j, void (*chunks)(int64_t, int64_t, const void *)) {
  if (j->g < 0 || j->m < 0 || (j->g == 0 ? j->m > 0 : j->m % j->g)) return PC_EINVAL;
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
