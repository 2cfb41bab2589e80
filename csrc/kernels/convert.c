/* float16 to float32, exactly; float32 and float64 to float16 and bfloat16, half to even, to infinity from half a step beyond the
 * largest up. From float64 it is one rounding: to float32 it is to odd, the last bit of what is not exact being set, which the half
 * type then rounds as the double (Boldo and Melquiond, 2008). Threads share elements. Limit: memory. */
#include <string.h>

#include "double_rows.h"
#include "memory.h"

enum { GRAIN = 1 << 15 }; /* elements that pay for waking a thread */

typedef struct {
  const void *x;
  void *y;
  int past; /* floats go past the caches */
} job;

/* Fewer than a vector, of which no more is read. */
static void widen_few(int64_t n, const uint16_t *x, float *y) {
  uint16_t all[LANES] = {0};
  memcpy(all, x, (size_t)n * sizeof *all);
  vf_store_n(y, n, vf_load_f16(all));
}

static void widen(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const uint16_t *x = j->x;
  float *y = j->y;
  int64_t i = begin + pc_head(y + begin, j->past, end - begin);
  widen_few(i - begin, x + begin, y + begin);
  for (; i + LANES <= end; i += LANES) {
    if (j->past) __builtin_prefetch(x + i + PC_ASKED, 0, 2);
    pc_store_line(y + i, j->past, vf_load_f16(x + i));
  }
  widen_few(end - i, x + i, y + i);
  if (j->past) vf_stream_fence();
}

/* Rounded to odd: towards 0, the last bit set where that took something away. */
PC_INLINE vf16 to_odd(vd16 x) {
  const vd16 one = vd_set1(1.0), zero = vd_zero(), size = vd_max(x, vd_sub(zero, x));
  const vf16 near = vf_from_vd(x), near_size = vf_abs(near);
  const vd16 found = vd_from_vf(near_size);
  const vd16 above = vd_select_lt(size, found, one, zero), inexact = vd_select_lt(found, size, one, above);
  const vi16 toward_zero = vi_sub(vi_from_bits(near), vi_from_vf(vf_from_vd(above)));
  return vf_from_bits(vi_or(toward_zero, vi_from_vf(vf_from_vd(inexact))));
}

PC_INLINE void narrow(int wide, int to_bf16, int64_t begin, int64_t end, const job *j) {
  uint16_t *y = j->y;
  for (int64_t i = begin; i < end; i += LANES) {
    const int64_t lanes = smaller(end - i, LANES);
    const vf16 v = wide ? to_odd(pc_load_doubles(j->x, 1, i, end, 0.0)) : vf_load_left((const float *)j->x + i, lanes);
    if (to_bf16) vf_store_bf16_n(y + i, lanes, v);
    else vf_store_f16_n(y + i, lanes, v);
  }
}

static void f32_to_f16(int64_t begin, int64_t end, const void *context) { narrow(0, 0, begin, end, context); }
static void f32_to_bf16(int64_t begin, int64_t end, const void *context) { narrow(0, 1, begin, end, context); }
static void f64_to_f16(int64_t begin, int64_t end, const void *context) { narrow(1, 0, begin, end, context); }
static void f64_to_bf16(int64_t begin, int64_t end, const void *context) { narrow(1, 1, begin, end, context); }

static int share(void (*run)(int64_t, int64_t, const void *), int64_t n, const void *x, void *y) {
  if (n < 0) return PC_EINVAL;
  pc_for(n, GRAIN, run, &(job){x, y, n >= PC_PAST});
  return PC_OK;
}

int PC_FN(f16_to_f32)(int64_t n, const uint16_t *x, float *y) { return share(widen, n, x, y); }
int PC_FN(f32_to_f16)(int64_t n, const float *x, uint16_t *y) { return share(f32_to_f16, n, x, y); }
int PC_FN(f32_to_bf16)(int64_t n, const float *x, uint16_t *y) { return share(f32_to_bf16, n, x, y); }
int PC_FN(f64_to_f16)(int64_t n, const double *x, uint16_t *y) { return share(f64_to_f16, n, x, y); }
int PC_FN(f64_to_bf16)(int64_t n, const double *x, uint16_t *y) { return share(f64_to_bf16, n, x, y); }
