/* A few rows of x against a matrix in slices of 16 rows, a bit for each element and the values of the set ones one after the
 * other: for matrices of middling sparsity, where a bit costs less than an index. A lane for each row of the matrix, columns
 * ascending: the chains of spmm.c. Rows of x are taken four at a time, each of which reads the matrix once.
 * Limit: memory, 4 bytes an entry and 2 a column of a slice; else the count of the bits, which the place of the next
 * values waits for. */
#include "sparse_end.h"

enum {
  MOST = 4,        /* slices in flight */
  ROWS = 4,        /* rows of x at a time */
  AHEAD = 1024,    /* floats to prefetch, into L2, ahead of use */
  GRAIN = 1 << 13  /* columns of slices that pay for waking a thread */
};

/* Slices in flight: with few registers, more were slower. */
static int flight(int rows) { return PC_TILE_VECTORS(1) >= 8 ? MOST : rows <= 2 ? 2 : 1; }

typedef struct {
  int64_t k;
  const float *x;
  int64_t ldx;
  const float *values;
  const uint16_t *bits;
  const int64_t *starts;
  pc_end end;
} job;

/* Once for all of the copies that the compiler makes of `slices`. */
static __attribute__((noinline)) void end_slices(int rows, int count, const job *j, int64_t i, int64_t slice,
                                                 float (*chains)[ROWS][LANES]) {
  for (int g = 0; g < count; g++) {
    const int64_t row = (slice + g) * LANES, lanes = smaller(j->end.n - row, LANES);
    for (int r = 0; r < rows; r++) {
      const pc_end e = pc_end_of(&j->end, i + r);
      vf_store_n(e.y + row, lanes, vf_load(chains[g][r]));
      pc_finish_row(&e, row, lanes);
    }
  }
}

/* Rows i .. i + rows of x against `count` slices. */
PC_INLINE void slices(int amd, int rows, int count, const job *j, int64_t i, int64_t slice) {
  vf16 acc[MOST][ROWS];
  const float *v[MOST], *x = j->x + i * j->ldx;
  const uint16_t *bits = j->bits + slice * j->k;
#pragma GCC unroll 4
  for (int g = 0; g < count; g++) {
    v[g] = j->values + j->starts[slice + g];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) acc[g][r] = vf_zero();
  }
  for (int64_t l = 0; l < j->k; l++)
#pragma GCC unroll 4
    for (int g = 0; g < count; g++) {
      const uint32_t b = bits[g * j->k + l];
      const vm16 stored = vm_from_bits(b);
      const vf16 w = amd ? vf_spread(v[g], b) : vf_expand(v[g], b);
      __builtin_prefetch(v[g] + AHEAD, 0, 2);
      v[g] += __builtin_popcount(b);
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++)
        acc[g][r] = vf_select(stored, vf_fma(vf_set1(x[r * j->ldx + l]), w, acc[g][r]), acc[g][r]);
    }
  float chains[MOST][ROWS][LANES];
#pragma GCC unroll 4
  for (int g = 0; g < count; g++)
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) vf_store(chains[g][r], acc[g][r]);
  end_slices(rows, count, j, i, slice, chains);
}

PC_INLINE void run_slices(int amd, int rows, const job *j, int64_t i, int64_t begin, int64_t end) {
  int64_t slice = begin;
  for (; slice + flight(rows) <= end; slice += flight(rows)) slices(amd, rows, flight(rows), j, i, slice);
  for (; slice < end; slice++) slices(amd, rows, 1, j, i, slice);
}

PC_INLINE void run_rows(int amd, const job *j, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < j->end.m; i += ROWS) switch (j->end.m - i) {
      case 1: run_slices(amd, 1, j, i, begin, end); break;
      case 2: run_slices(amd, 2, j, i, begin, end); break;
      case 3: run_slices(amd, 3, j, i, begin, end); break;
      default: run_slices(amd, ROWS, j, i, begin, end);
    }
}

static void run(int64_t begin, int64_t end, const void *context) {
  if (PC_SPREADS && pc_cpu_is_amd()) run_rows(1, context, begin, end);
  else run_rows(0, context, begin, end);
}

int PC_FN(spmm_bitmap_f32)(int64_t m, int64_t k, int64_t n, int64_t stored, const float *x, int64_t ldx,
                           const float *values, const uint16_t *bits, const int64_t *starts, const float *bias,
                           const float *residual, int32_t activation, float *y, int64_t ldy) {
  const int64_t count = (n + LANES - 1) / LANES;
  if (m < 0 || k < 0 || n < 0 || stored < 0 || ldx < k || ldy < n || !pc_is_activation(activation)) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  if (starts[0] || starts[count] + LANES != stored) return PC_EINVAL;
  const job j = {k, x, ldx, values, bits, starts, {m, n, NULL, bias, residual, activation, y, ldy, 1}};
  pc_for(count, 1 + GRAIN / (k + 1), run, &j);
  return PC_OK;
}
