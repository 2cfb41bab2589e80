/* Quantizing to codes and back in one pass, y = (code - zero) * scale, and its gradients.
 *
 * Those go straight through the rounding (Bengio et al. 2013; Esser et al. 2020). With
 * q = x / scale, code = rint(q) + zero and bound the code that an outside one is clipped to:
 *   dx = grad inside, else 0;  dscale = sum of grad * (code - zero - q inside, bound - zero outside);
 *   dzero = sum of -grad * scale outside.
 * Sums are made in float64 by the lane rule, over parts of a row of a fixed length: threads share the parts. Limit: memory,
 * 8 bytes an element, 12 of the gradients. */
#include "codes.h"
#include "table.h"

enum {
  PART = 1 << 14,  /* elements of a sum */
  AHEAD = 1 << 11, /* elements to fetch ahead of use */
  GRAIN = 1 << 14  /* elements that pay for waking a thread */
};

/* -- forward */
typedef struct {
  int64_t m, k, g, parts; /* g: rows of scales of columns, 0 for scales of rows; parts in a row */
  const float *x;
  int64_t ldx;
  const float *scale;
  const int32_t *zero;
  int32_t low, high;
  float *y;
  int stream, *nan;
} forward;

/* The lanes of y at l, of which the first `head` stand before a line where y goes past the caches. */
PC_INLINE int64_t lanes_at(int64_t l, int64_t head, int64_t n) { return l < head ? head : smaller(n - l, LANES); }

/* No step is +0. Compilers see a float turned into an integer and back, and where the CPU can truncate leave out both: then
 * it would have the sign of x. */
PC_INLINE void put(float *y, int64_t lanes, int stream, vi16 steps, vf16 scale) {
  const vf16 v = vf_add(vf_mul(vf_from_vi(steps), scale), vf_zero());
  if (lanes < LANES) vf_store_n(y, lanes, v);
  else if (stream) vf_stream(y, v);
  else vf_store(y, v);
}

PC_INLINE vf16 get(const float *x, int64_t lanes) { return lanes == LANES ? vf_load(x) : vf_load_n(x, lanes); }

/* y[0..n) of x by one scale; returns whether x holds NaN. */
PC_INLINE int span(const float *x, int64_t n, grid g, int divide, int stream, float *y) {
  const int64_t head = stream ? smaller(to_line(y), n) : 0;
  vm16 nan = vm_first(0);
  for (int64_t l = 0, lanes; l < n; l += lanes) {
    lanes = lanes_at(l, head, n);
    const vf16 v = get(x + l, lanes);
    __builtin_prefetch(x + l + AHEAD);
    nan = vm_or(nan, vf_isnan(v));
    put(y + l, lanes, stream, steps_of(v, g, divide), vf_set1(g.scale));
  }
  return vm_bits(nan) != 0;
}

static void by_rows(int64_t begin, int64_t end, const void *context) {
  const forward *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->parts, l = u % j->parts * PART, n = smaller(j->k - l, PART);
    const grid g = make_grid(j->scale[i], j->zero ? j->zero[i] : 0, j->low, j->high);
    const float *x = j->x + i * j->ldx + l;
    float *y = j->y + i * j->k + l;
    const int nan = g.inverse == 0 ? span(x, n, g, 1, j->stream, y) : span(x, n, g, 0, j->stream, y);
    if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
  if (j->stream) vf_stream_fence();
}

static void by_columns(int64_t begin, int64_t end, const void *context) {
  const forward *j = context;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  vm16 nan = vm_first(0);
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->parts, first = u % j->parts * PART, n = smaller(j->k - first, PART);
    const int64_t scales = i / (j->m / j->g) * j->k + first;
    const float *x = j->x + i * j->ldx + first;
    float *y = j->y + i * j->k + first;
    const int64_t head = j->stream ? smaller(to_line(y), n) : 0;
    for (int64_t l = 0, lanes; l < n; l += lanes) {
      lanes = lanes_at(l, head, n);
      const vf16 v = get(x + l, lanes), scale = get(j->scale + scales + l, lanes);
      const vi16 zero = j->zero ? vi_load_n(j->zero + scales + l, lanes) : vi_zero();
      __builtin_prefetch(x + l + AHEAD);
      nan = vm_or(nan, vf_isnan(v));
      put(y + l, lanes, j->stream, vi_sub(code_of(vf_div(v, scale), zero, low, high), zero), scale);
    }
  }
  if (j->stream) vf_stream_fence();
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static int there_and_back(forward j, void (*parts)(int64_t, int64_t, const void *)) {
  int nan = 0;
  if (j.m < 0 || j.k < 0 || j.ldx < j.k) return PC_EINVAL;
  if (j.m == 0 || j.k == 0) return PC_OK;
  j.nan = &nan;
  j.parts = (j.k + PART - 1) / PART;
  j.stream = past_caches(j.m, j.k);
  pc_for(j.m * j.parts, 1 + GRAIN / smaller(j.k, PART), parts, &j);
  return nan ? PC_ENAN : PC_OK;
}

int PC_FN(fake_quantize_f32)(int64_t m, int64_t k, const float *x, int64_t ldx, const float *scale, const int32_t *zero,
                             int32_t low, int32_t high, float *y) {
  const forward j = {.m = m, .k = k, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .low = low, .high = high, .y = y};
  return there_and_back(j, by_rows);
}

int PC_FN(fake_quantize_columns_f32)(int64_t m, int64_t k, int64_t g, const float *x, int64_t ldx, const float *scale,
                                     const int32_t *zero, int32_t low, int32_t high, float *y) {
  const forward j = {.m = m, .k = k, .g = g, .x = x, .ldx = ldx, .scale = scale, .zero = zero, .low = low, .high = high, .y = y};
  if (g < 0 || m < 0 || (g == 0 ? m > 0 : m % g)) return PC_EINVAL;
  return there_and_back(j, by_columns);
}

/* -- gradients */
typedef struct {
  int64_t k, parts; /* parts in a row */
  const float *grad;
  int64_t ldgrad;
  const float *x;
  int64_t ldx;
  const float *scale;
  const int32_t *zero;
  int32_t low, high;
  float *dx;
  double *dscale, *dzero;
  int *nan;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  const vf16 most = vf_set1(MOST), least = vf_set1(-MOST);
  vm16 nan = vm_first(0);
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->parts, l0 = u % j->parts * PART, n = smaller(j->k - l0, PART);
    const float *grad = j->grad + i * j->ldgrad + l0, *x = j->x + i * j->ldx + l0;
    float *dx = j->dx + i * j->k + l0;
    const vf16 scale = vf_set1(j->scale[i]);
    const vi16 zero = vi_set1(j->zero ? j->zero[i] : 0);
    vd16 by_scale = vd_zero(), outside = vd_zero();
    for (int64_t l = 0; l < n; l += LANES) {
      const int64_t lanes = smaller(n - l, LANES); /* past the end: x and grad are 0, which adds nothing */
      const vf16 v = get(x + l, lanes), g = get(grad + l, lanes);
      __builtin_prefetch(x + l + AHEAD);
      __builtin_prefetch(grad + l + AHEAD);
      nan = vm_or(nan, vf_isnan(v));
      const vf16 q = vf_div(v, scale);
      const vi16 code = vi_add(vi_from_vf(vf_min(vf_max(q, least), most)), zero);
      const vi16 kept = vi_min(vi_max(code, low), high);
      const vm16 inside = vi_eq(code, kept);
      const vf16 through = vf_select(inside, g, vf_zero());
      const vf16 part = vf_select(inside, q, vf_zero()); /* outside, q may be infinite */
      const vd16 slope = vd_sub(vd_from_vf(vf_from_vi(vi_sub(kept, zero))), vd_from_vf(part));
      by_scale = vd_fma(vd_from_vf(g), slope, by_scale);
      outside = vd_add_vf(outside, vf_select(inside, vf_zero(), g));
      if (lanes == LANES) vf_store(dx + l, through);
      else vf_store_n(dx + l, lanes, through);
    }
    j->dscale[u] = vd_fold_add(by_scale);
    j->dzero[u] = vd_fold_add(outside) * -(double)j->scale[i];
  }
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

int PC_FN(fake_quantize_backward_f32)(int64_t m, int64_t k, const float *grad, int64_t ldgrad, const float *x, int64_t ldx,
                                      const float *scale, const int32_t *zero, int32_t low, int32_t high, float *dx,
                                      double *dscale, double *dzero) {
  if (m < 0 || k < 0 || ldgrad < k || ldx < k) return PC_EINVAL;
  if (m == 0 || k == 0) return PC_OK;
  int nan = 0;
  const job j = {k, (k + PART - 1) / PART, grad, ldgrad, x, ldx, scale, zero, low, high, dx, dscale, dzero, &nan};
  pc_for(m * j.parts, 1 + GRAIN / smaller(k, PART), run, &j);
  return nan ? PC_ENAN : PC_OK;
}
