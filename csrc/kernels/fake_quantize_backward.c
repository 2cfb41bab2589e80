/* Gradients of quantizing to codes and back, straight through the rounding (Bengio et al. 2013; Esser et al. 2020). With
 * q = x / scale, code = rint(q) + zero and bound the code that an outside one is clipped to:
 *   dx = grad inside, else 0;  dscale = sum of grad * (code - zero - q inside, bound - zero outside);
 *   dzero = sum of -grad * scale outside.
 * Sums are made in float64 by the lane rule, over parts of a row of a fixed length: threads share the parts. Limit: memory,
 * 12 bytes an element. */
#include "codes.h"
#include "memory.h"
#include "table.h"

enum {
  PART = 1 << 14,  /* elements of a sum */
  AHEAD = 1 << 11, /* elements to fetch ahead of use */
  GRAIN = 1 << 14  /* elements that pay for waking a thread */
};

typedef struct {
  int64_t k, parts; /* parts in a row */
  const float *grad;
  int64_t ldgrad;
  const float *x;
  int64_t ldx;
  const float *scale;
  const int32_t *zero;
  int32_t low, high;
  int past; /* dx goes past the caches */
  float *dx;
  double *dscale, *dzero;
  int *nan;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const vi16 low = vi_set1(j->low), high = vi_set1(j->high);
  vm16 nan = vm_first(0);
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->parts, l0 = u % j->parts * PART, n = smaller(j->k - l0, PART);
    const float *grad = j->grad + i * j->ldgrad + l0, *x = j->x + i * j->ldx + l0;
    float *dx = j->dx + i * j->k + l0;
    const int past = j->past && pc_to_line(dx) == 0; /* the rule says which lane an element is of */
    const vf16 scale = vf_set1(j->scale[i]);
    const vi16 zero = vi_set1(j->zero ? j->zero[i] : 0);
    vd16 by_scale = vd_zero(), outside = vd_zero();
    for (int64_t l = 0; l < n; l += LANES) {
      const int64_t lanes = smaller(n - l, LANES); /* past the end: x and grad are 0, which adds nothing */
      const vf16 v = vf_load_left(x + l, lanes);
      const vf16 g = vf_load_left(grad + l, lanes);
      __builtin_prefetch(x + l + AHEAD);
      __builtin_prefetch(grad + l + AHEAD);
      nan = vm_or(nan, vf_isnan(v));
      const vf16 q = vf_div(v, scale);
      const vi16 code = unclamped(q, zero);
      const vi16 kept = vi_min(vi_max(code, low), high);
      const vm16 inside = vi_eq(code, kept);
      const vf16 through = vf_select(inside, g, vf_zero());
      const vf16 part = vf_select(inside, q, vf_zero()); /* outside, q may be infinite */
      const vd16 slope = vd_sub(vd_from_vf(vf_from_vi(vi_sub(kept, zero))), vd_from_vf(part));
      by_scale = vd_fma(vd_from_vf(g), slope, by_scale);
      outside = vd_add_vf(outside, vf_select(inside, vf_zero(), g));
      pc_store_lanes(dx + l, lanes, past, through);
    }
    j->dscale[u] = vd_fold_add(by_scale);
    j->dzero[u] = vd_fold_add(outside) * -(double)j->scale[i];
  }
  if (j->past) vf_stream_fence();
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

int PC_FN(fake_quantize_backward_f32)(int64_t m, int64_t k, const float *grad, int64_t ldgrad, const float *x, int64_t ldx,
                                      const float *scale, const int32_t *zero, int32_t low, int32_t high, float *dx,
                                      double *dscale, double *dzero) {
  if (m < 0 || k < 0 || ldgrad < k || ldx < k || low > high) return PC_EINVAL;
  if (m == 0 || k == 0) return PC_OK;
  int nan = 0;
  const job j = {k, (k + PART - 1) / PART, grad, ldgrad, x, ldx, scale, zero, low, high, m * k >= PC_PAST,
                 dx, dscale, dzero, &nan};
  pc_for(m * j.parts, 1 + GRAIN / smaller(k, PART), run, &j);
  return nan ? PC_ENAN : PC_OK;
}
