/* values[p] = sum over l ascending of a[i,l] * b[l, indices[p]] for each entry p of row i: the elements of a product that
 * a sparse pattern asks for, each one fma chain from +0, the chain of gemm_f32. Lanes go across the entries of a row.
 * Limit: the gather of b's row, from L1 where it fits. */
#include "table.h"
#include "vocabulary.h"

enum {
  GRAIN = 1 << 14, /* multiply-adds that pay for waking a thread */
  FLIGHT = 4       /* vectors of entries in flight */
};

typedef struct {
  int64_t m, k, n;
  const float *a;
  int64_t a_row, a_column;
  const float *b;
  int64_t ldb;
  const int32_t *indices;
  const int64_t *indptr;
  float *values;
} job;

PC_INLINE void entries(int vectors, const job *j, int64_t i, int64_t p, int64_t lanes) {
  vf16 acc[FLIGHT];
  vi16 at[FLIGHT];
#pragma GCC unroll 4
  for (int t = 0; t < vectors; t++) {
    acc[t] = vf_zero();
    at[t] = vectors == 1 ? vi_load_n(j->indices + p, lanes) : vi_load(j->indices + p + t * LANES);
  }
  const float *a = j->a + i * j->a_row, *b = j->b;
  for (int64_t l = 0; l < j->m; l++, a += j->a_column, b += j->ldb) {
    const vf16 factor = vf_set1(*a);
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) acc[t] = vf_fma(factor, vf_gather(b, at[t]), acc[t]);
  }
  if (vectors == 1) vf_store_n(j->values + p, lanes, acc[0]);
  else
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) vf_store(j->values + p + t * LANES, acc[t]);
}

/* The work up to row i is indptr[i] + i. */
static int64_t row_at(const job *j, int64_t work) {
  int64_t low = 0, high = j->n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (j->indptr[middle] + middle < work) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = row_at(j, begin), last = row_at(j, end); i < last; i++) {
    int64_t p = j->indptr[i];
    const int64_t stop = j->indptr[i + 1];
    for (; p + FLIGHT * LANES <= stop; p += FLIGHT * LANES) entries(FLIGHT, j, i, p, LANES);
    for (; p < stop; p += LANES) entries(1, j, i, p, stop - p < LANES ? stop - p : LANES);
  }
}

int PC_FN(sddmm_csr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, const float *a, int64_t a_row, int64_t a_column,
                         const float *b, int64_t ldb, const int32_t *indices, const int64_t *indptr, float *values) {
  if (m < 0 || k < 0 || n < 0 || nnz < 0 || ldb < k) return PC_EINVAL;
  if (n == 0 || nnz == 0) return PC_OK;
  if (indptr[0] != 0 || indptr[n] != nnz) return PC_EINVAL;
  const job j = {m, k, n, a, a_row, a_column, b, ldb, indices, indptr, values};
  pc_for(nnz + n, 1 + GRAIN / (m + 1), run, &j);
  return PC_OK;
}
