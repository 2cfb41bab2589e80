/* One row of x against a matrix that keeps the same number of elements of each group of m <= 16 columns (N:M): slices of
 * 16 rows, a lane for each. The group's part of x is one vector, from which each lane takes the element that its entry is
 * at, so nothing is gathered from memory. Columns ascend: the chains of spmm.c.
 * Limit: memory, 4.5 bytes an entry. */
#include "sparse_end.h"

enum {
  FLIGHT = 2,      /* slices in flight */
  AHEAD = 512,     /* floats to prefetch ahead of use */
  GRAIN = 1 << 13  /* steps that pay for waking a thread */
};

typedef struct {
  int64_t k, steps;
  const float *x, *values;
  const uint8_t *at;
  int32_t keep, group;
  pc_end end;
} job;

/* `count` slices at a time, since a chain alone waits for itself. Two steps share sixteen bytes: the first's places are the
 * low halves, the second's the high ones. */
PC_INLINE void slices(int keep, int count, const job *j, int64_t s) {
  const int64_t pairs = (j->steps + 1) / 2, groups = j->steps / keep;
  const float *v = j->values + s * j->steps * LANES, *x = j->x;
  const uint8_t *at = j->at + s * pairs * LANES;
  vf16 acc[FLIGHT];
#pragma GCC unroll 2
  for (int f = 0; f < count; f++) acc[f] = vf_zero();
  for (int64_t g = 0, step = 0; g < groups; g++, x += j->group) {
    const vf16 part = vf_load(x);
    for (int e = 0; e < keep; e++, step++)
#pragma GCC unroll 2
      for (int f = 0; f < count; f++) {
        const vi16 both = vi_load_u8(at + (f * pairs + step / 2) * LANES), place = step % 2 ? vi_shr(both, 4) : both;
        const float *values = v + (f * j->steps + step) * LANES;
        __builtin_prefetch(values + AHEAD);
        acc[f] = vf_fma(vf_take(part, place), vf_load(values), acc[f]);
      }
  }
#pragma GCC unroll 2
  for (int f = 0; f < count; f++) {
    const int64_t row = (s + f) * LANES, rows = smaller(j->end.n - row, LANES);
    vf_store_n(j->end.y + row, rows, acc[f]);
    pc_finish_row(&j->end, row, rows);
  }
}

PC_INLINE void run_slices(int keep, const job *j, int64_t begin, int64_t end) {
  int64_t s = begin;
  for (; s + FLIGHT <= end; s += FLIGHT) slices(keep, FLIGHT, j, s);
  for (; s < end; s++) slices(keep, 1, j, s);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  switch (j->keep) {
    case 2: run_slices(2, j, begin, end); break;
    case 4: run_slices(4, j, begin, end); break;
    default: run_slices(j->keep, j, begin, end);
  }
}

int PC_FN(spmv_nm_f32)(int64_t k, int64_t n, int64_t steps, const float *x, const float *values, const uint8_t *at,
                       int32_t keep, int32_t group, const float *bias, const float *residual, int32_t activation, float *y) {
  if (k < 0 || n < 0 || steps < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  if (n == 0) return PC_OK;
  if (keep < 1 || group < keep || group > LANES || steps % keep) return PC_EINVAL;
  if (steps && k < (steps / keep - 1) * group + LANES) return PC_EINVAL; /* whole vectors are read */
  const job j = {k, steps, x, values, at, keep, group, {1, n, NULL, bias, residual, activation, y, n, 1}};
  pc_for((n + LANES - 1) / LANES, 1 + GRAIN / (steps + 1), run, &j);
  return PC_OK;
}
