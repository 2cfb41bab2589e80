/* values[p] = sum over l ascending of a[i,l] * b[indices[p],l] for each entry p of row i: the elements of a product that a
 * sparse pattern asks for, each one fma chain from +0, the chain of gemm_f32. Lanes go across sixteen entries of a row: of
 * their rows of b sixteen columns at a time are turned in registers. Limit: the shuffles of that, a quarter of one an fma. */
#include "share.h"
#include "table.h"
#include "vocabulary.h"

enum { GRAIN = 1 << 17 /* multiply-adds that pay for waking a thread */ };

typedef struct {
  int64_t m, n;
  const float *a;
  int64_t lda;
  const float *b;
  int64_t ldb;
  const int32_t *indices;
  const int64_t *indptr;
  float *values;
} job;

/* At most sixteen entries of a row. */
PC_INLINE void entries(const job *j, const float *a, int64_t p, int64_t lanes) {
  const float *b[LANES];
  vf16 acc = vf_zero(), block[LANES];
  for (int t = 0; t < LANES; t++) b[t] = j->b + j->ldb * j->indices[p + (t < lanes ? t : 0)];
  int64_t l = 0;
  for (; l + LANES <= j->m; l += LANES) {
#pragma GCC unroll 16
    for (int t = 0; t < LANES; t++) block[t] = vf_load(b[t] + l);
    vf_transpose(block);
#pragma GCC unroll 16
    for (int t = 0; t < LANES; t++) acc = vf_fma(vf_set1(a[l + t]), block[t], acc);
  }
  if (l < j->m) {
    for (int t = 0; t < LANES; t++) block[t] = vf_load_n(b[t] + l, j->m - l);
    vf_transpose(block);
    for (int t = 0; t < j->m - l; t++) acc = vf_fma(vf_set1(a[l + t]), block[t], acc);
  }
  vf_store_n(j->values + p, lanes, acc);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = pc_run_at(j->indptr, j->n, begin), last = pc_run_at(j->indptr, j->n, end); i < last; i++)
    for (int64_t p = j->indptr[i], stop = j->indptr[i + 1]; p < stop; p += LANES)
      entries(j, j->a + i * j->lda, p, smaller(stop - p, LANES));
}

int PC_FN(sddmm_csr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, const float *a, int64_t lda, const float *b,
                         int64_t ldb, const int32_t *indices, const int64_t *indptr, float *values) {
  if (m < 0 || k < 0 || n < 0 || nnz < 0 || lda < m || ldb < m) return PC_EINVAL;
  if (n == 0) return nnz ? PC_EINVAL : PC_OK;
  if (indptr[0] != 0 || indptr[n] != nnz) return PC_EINVAL;
  const job j = {m, n, a, lda, b, ldb, indices, indptr, values};
  pc_for(nnz + n, 1 + GRAIN / (m + 1), run, &j);
  return PC_OK;
}
