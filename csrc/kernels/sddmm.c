/* values[p] = sum over l ascending of a[i,l] * b[indices[p],l] for each entry p of row i: the elements of a product that a
 * sparse pattern asks for, each one fma chain from +0, the chain of gemm_f32. Lanes go across sixteen entries of a row: of
 * their rows of b sixteen columns at a time are turned in registers. Limit: the shuffles of that, a quarter of one an fma.
 * Where that is more than all elements take, a few rows of the product are made by gemm_f32, and entries picked. Limit: fma. */
#include "heap.h"
#include "share.h"
#include "table.h"
#include "vocabulary.h"

enum {
  GRAIN = 1 << 17,  /* multiply-adds that pay for waking a thread */
  PICKED = 1 << 15, /* entries that do */
  ROOM = 1 << 18,   /* floats of rows of the whole product, for each thread: 1 MB; but */
  FEW = 16          /* rows at least: for fewer packing b does not pay */
};

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
  for (int64_t i = pc_run_near(j->indptr, j->n, begin), last = pc_run_near(j->indptr, j->n, end); i < last; i++)
    for (int64_t p = j->indptr[i], stop = j->indptr[i + 1]; p < stop; p += LANES)
      entries(j, j->a + i * j->lda, p, smaller(stop - p, LANES));
}

/* -- all elements of some rows of the product, of which those that are asked for are picked */
typedef struct {
  const job *of;
  int64_t k, row; /* the first of the rows */
  const float *rows;
} picking;

static void pick(int64_t begin, int64_t end, const void *context) {
  const picking *p = context;
  const job *j = p->of;
  for (int64_t i = begin; i < end; i++)
    for (int64_t e = j->indptr[p->row + i]; e < j->indptr[p->row + i + 1]; e++) j->values[e] = p->rows[i * p->k + j->indices[e]];
}

/* Returns 0 if there is no memory for it. */
static int pick_from_all(const job *j, int64_t k) {
  const int64_t packed = (k + LANES - 1) / LANES * LANES * j->m, most = ROOM / k * pc_get_num_threads();
  const int64_t together = smaller(j->n, most < FEW ? FEW : most);
  void *found;
  float *const w = pc_heap((size_t)(packed + together * k) * sizeof *w, &found), *const rows = w + packed;
  if (!w) return 0;
  int done = pc_pack_f32(j->m, k, j->b, 1, j->ldb, w) == PC_OK;
  for (int64_t i = 0, count; done && i < j->n; i += count) {
    count = smaller(j->n - i, together);
    done = pc_gemm_f32(count, j->m, k, j->a + i * j->lda, j->lda, w, NULL, PC_IDENTITY, rows, k) == PC_OK;
    if (done) pc_for(count, 1 + PICKED / (j->indptr[j->n] / j->n + 1), pick, &(picking){j, k, i, rows});
  }
  free(found);
  return done;
}

/* The whole product's elements for each entry, up to which it takes less time: more where a turn in registers delays fma. */
static int64_t sparsest(void) { return pc_cpu_is_amd() ? 3 : 8; }

int PC_FN(sddmm_csr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, const float *a, int64_t lda, const float *b,
                         int64_t ldb, const int32_t *indices, const int64_t *indptr, float *values) {
  if (m < 0 || k < 0 || n < 0 || nnz < 0 || lda < m || ldb < m) return PC_EINVAL;
  if (n == 0) return nnz ? PC_EINVAL : PC_OK;
  if (indptr[0] != 0 || indptr[n] != nnz || (k == 0 && nnz)) return PC_EINVAL;
  const job j = {m, n, a, lda, b, ldb, indices, indptr, values};
  if (m && nnz && n >= FEW && (double)nnz * (double)sparsest() >= (double)n * (double)k && pick_from_all(&j, k)) return PC_OK;
  pc_for(nnz + n, 1 + GRAIN / (m + 1), run, &j);
  return PC_OK;
}
