/* One row of x against a matrix in slices of 16 rows, a bit for each element and the values of the set ones one after the
 * other: for matrices of middling sparsity, where a bit costs less than an index. A lane for each row, columns ascending:
 * the chains of spmm.c. Limit: memory, 4 bytes an entry and 2 a column of a slice; else the count of the bits, which the
 * place of the next values waits for. */
#include "product.h"

enum {
  FLIGHT = 4,      /* slices in flight */
  AHEAD = 512,     /* floats to prefetch ahead of use */
  GRAIN = 1 << 13  /* columns of slices that pay for waking a thread */
};

typedef struct {
  int64_t k;
  const float *x, *values;
  const uint16_t *bits;
  const int64_t *starts;
  pc_end end;
} job;

PC_INLINE void slices(int count, const job *j, int64_t slice) {
  vf16 acc[FLIGHT];
  const float *v[FLIGHT];
  const uint16_t *bits = j->bits + slice * j->k;
#pragma GCC unroll 4
  for (int g = 0; g < count; g++) acc[g] = vf_zero(), v[g] = j->values + j->starts[slice + g];
  for (int64_t l = 0; l < j->k; l++) {
    const vf16 x = vf_set1(j->x[l]);
#pragma GCC unroll 4
    for (int g = 0; g < count; g++) {
      const uint32_t b = bits[g * j->k + l];
      __builtin_prefetch(v[g] + AHEAD);
      acc[g] = vf_select(vm_from_bits(b), vf_fma(x, vf_expand(v[g], b), acc[g]), acc[g]);
      v[g] += __builtin_popcount(b);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < count; g++) {
    const int64_t row = (slice + g) * LANES, rows = j->end.n - row < LANES ? j->end.n - row : LANES;
    vf_store_n(j->end.y + row, rows, acc[g]);
    pc_finish_row(&j->end, row, rows);
  }
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  int64_t slice = begin;
  for (; slice + FLIGHT <= end; slice += FLIGHT) slices(FLIGHT, j, slice);
  for (; slice < end; slice++) slices(1, j, slice);
}

int PC_FN(spmv_bitmap_f32)(int64_t k, int64_t n, int64_t stored, const float *x, const float *values,
                           const uint16_t *bits, const int64_t *starts, const float *bias, const float *residual,
                           int32_t activation, float *y) {
  const int64_t slices = (n + LANES - 1) / LANES;
  if (k < 0 || n < 0 || stored < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  if (n == 0) return PC_OK;
  if (starts[0] || starts[slices] + LANES != stored) return PC_EINVAL;
  const job j = {k, x, values, bits, starts, {1, n, NULL, bias, residual, activation, y, n, 1}};
  pc_for(slices, 1 + GRAIN / (k + 1), run, &j);
  return PC_OK;
}
