/* The product of spmm.c in float64: one fma chain an output, lanes across the rows of x, threads across those of the
 * matrix. For who checks a result, not for who wants it soon. */
#include <math.h>

#include "table.h"
#include "vocabulary.h"

enum { GRAIN = 1 << 14, FLIGHT = 4 /* rows of the matrix in flight against one row of x */ };

typedef struct {
  int64_t m, k, n;
  const double *x, *data;
  const int32_t *indices;
  const int64_t *indptr;
  double *y;
  int64_t y_row, y_column;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t row = begin; row < end; row++)
    for (int64_t i0 = 0; i0 < j->m; i0 += LANES) {
      const double *x = j->x + i0 * j->k;
      double sums[LANES];
      vd16 acc = vd_zero();
      for (int64_t p = j->indptr[row]; p < j->indptr[row + 1]; p++)
        acc = vd_fma(vd_load(x + LANES * (int64_t)j->indices[p]), vd_set1(j->data[p]), acc);
      vd_store(sums, acc);
      for (int64_t i = 0; i < LANES && i0 + i < j->m; i++) j->y[(i0 + i) * j->y_row + row * j->y_column] = sums[i];
    }
}

static double finished(const job *j, int64_t p, int64_t end, double chain) {
  for (; p < end; p++) chain = fma(j->x[j->indices[p]], j->data[p], chain);
  return chain;
}

static void run_one(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  int64_t row = begin;
  for (; row + FLIGHT <= end; row += FLIGHT) {
    const int64_t *start = j->indptr + row;
    double chain[FLIGHT] = {0};
    int64_t common = INT64_MAX;
    for (int r = 0; r < FLIGHT; r++) common = smaller(start[r + 1] - start[r], common);
    for (int64_t q = 0; q < common; q++)
#pragma GCC unroll 4
      for (int r = 0; r < FLIGHT; r++) chain[r] = fma(j->x[j->indices[start[r] + q]], j->data[start[r] + q], chain[r]);
    for (int r = 0; r < FLIGHT; r++) j->y[row + r] = finished(j, start[r] + common, start[r + 1], chain[r]);
  }
  for (; row < end; row++) j->y[row] = finished(j, j->indptr[row], j->indptr[row + 1], 0.0);
}

static int run_job(const job *j, int64_t nnz, void (*part)(int64_t, int64_t, const void *)) {
  if (j->m < 0 || j->k < 0 || j->n < 0 || nnz < 0) return PC_EINVAL;
  if (j->m == 0 || j->n == 0) return PC_OK;
  if (j->indptr[0] != 0 || j->indptr[j->n] != nnz) return PC_EINVAL;
  pc_for(j->n, 1 + GRAIN / (j->m * (nnz / j->n + 1)), part, j);
  return PC_OK;
}

int PC_FN(spmm_csr_f64)(int64_t m, int64_t k, int64_t n, int64_t nnz, const double *x, const double *data,
                        const int32_t *indices, const int64_t *indptr, double *y, int64_t y_row, int64_t y_column) {
  const job j = {m, k, n, x, data, indices, indptr, y, y_row, y_column};
  return run_job(&j, nnz, run);
}

int PC_FN(spmv_csr_f64)(int64_t k, int64_t n, int64_t nnz, const double *x, const double *data, const int32_t *indices,
                        const int64_t *indptr, double *y) {
  const job j = {1, k, n, x, data, indices, indptr, y, n, 1};
  return run_job(&j, nnz, run_one);
}
