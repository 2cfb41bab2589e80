/* The product of spmm.c with a matrix of dense blocks [h,w] (BSR): the rows of a block share every load of x, and an index
 * is read once a block. The chains and the bits are those of the same entries in CSR.
 * Limit: the fma units, where h * vectors chains fill the registers; x from L1 or L2. */
#include "product.h"

enum {
  GRAIN = 1 << 15,  /* multiply-adds that pay for waking a thread */
  WIDEST = PC_TILE_VECTORS(1)
};

typedef struct {
  int64_t k, h, w;
  const float *x, *data;
  const int32_t *indices;
  const int64_t *indptr;
  pc_end end; /* its n counts rows of the matrix */
} job;

/* Vectors beside so many rows: what the level's registers hold. */
PC_INLINE int beside(int rows) { return rows > PC_TILE_ROWS ? 1 : PC_TILE_VECTORS(rows); }

/* Rows r .. r + rows of block row b against `vectors` slices of x. */
PC_INLINE void tile(int rows, int vectors, const job *j, int64_t b, int64_t r, int64_t slice) {
  vf16 acc[PC_TILE_ROWS][WIDEST];
  const int64_t apart = LANES * j->k, size = j->h * j->w, w = j->w;
  const float *x = j->x + slice * apart;
#pragma GCC unroll 8
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) acc[a][t] = vf_zero();
  for (int64_t p = j->indptr[b]; p < j->indptr[b + 1]; p++) {
    const float *from = x + LANES * w * j->indices[p], *block = j->data + size * p + r * w;
    for (int64_t l = 0; l < w; l++, from += LANES) {
      vf16 part[WIDEST];
#pragma GCC unroll 8
      for (int t = 0; t < vectors; t++) part[t] = vf_load(from + t * apart);
#pragma GCC unroll 8
      for (int a = 0; a < rows; a++) {
        const vf16 value = vf_set1(block[a * w + l]);
#pragma GCC unroll 8
        for (int t = 0; t < vectors; t++) acc[a][t] = vf_fma(part[t], value, acc[a][t]);
      }
    }
  }
  float chains[PC_TILE_ROWS * WIDEST * LANES];
#pragma GCC unroll 8
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) vf_store(chains + (a * vectors + t) * LANES, acc[a][t]);
  pc_finish(&j->end, slice * LANES, b * j->h + r, rows, vectors * LANES, chains);
}

/* All slices of x, `vectors` at a time. */
PC_INLINE void across(int rows, const job *j, int64_t b, int64_t r) {
  const int most = beside(rows);
  const int64_t slices = (j->end.m + LANES - 1) / LANES;
  int64_t s = 0;
  for (; s + most <= slices; s += most) tile(rows, most, j, b, r, s);
  if (most > 2 && s + 2 <= slices) tile(rows, 2, j, b, r, s), s += 2;
  for (; s < slices; s++) tile(rows, 1, j, b, r, s);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t b = begin; b < end; b++)
    for (int64_t r = 0; r < j->h;) {
      const int64_t left = j->h - r;
      if (PC_TILE_ROWS >= 8 && left >= 8) across(PC_TILE_ROWS >= 8 ? 8 : 1, j, b, r), r += 8;
      else if (left >= 4) across(4, j, b, r), r += 4;
      else if (left >= 2) across(2, j, b, r), r += 2;
      else across(1, j, b, r), r += 1;
    }
}

/* Rows of blocks by their blocks: a block and a row count alike. */
static int64_t row_at(const job *j, int64_t rows, int64_t work) {
  int64_t low = 0, high = rows;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (j->indptr[middle] + middle < work) low = middle + 1;
    else high = middle;
  }
  return low;
}

static void run_shared(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t rows = j->end.n / j->h;
  run(row_at(j, rows, begin), row_at(j, rows, end), j);
}

/* One row of x and blocks of 16 rows, stored by columns: a lane for each row. */
static void run_column(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t rows = j->end.n / LANES, first = row_at(j, rows, begin), last = row_at(j, rows, end);
  for (int64_t b = first; b < last; b++) {
    vf16 acc = vf_zero();
    for (int64_t p = j->indptr[b]; p < j->indptr[b + 1]; p++) {
      const float *x = j->x + j->w * j->indices[p], *block = j->data + LANES * j->w * p;
      for (int64_t l = 0; l < j->w; l++) acc = vf_fma(vf_set1(x[l]), vf_load(block + l * LANES), acc);
    }
    vf_store(j->end.y + b * LANES, acc);
  }
  pc_finish_row(&j->end, first * LANES, (last - first) * LANES);
}

/* n counts rows of blocks; the rows of a job are cut at its entries. */
static int run_job(const job *j, int64_t n, int64_t nnz, void (*run_part)(int64_t, int64_t, const void *)) {
  const pc_end *e = &j->end;
  if (e->m < 0 || j->k < 0 || n < 0 || nnz < 0 || j->h < 0 || j->w < 0 || !pc_is_activation(e->activation)) return PC_EINVAL;
  if (e->m == 0 || n == 0 || j->h == 0) return PC_OK;
  if (j->indptr[0] != 0 || j->indptr[n] != nnz) return PC_EINVAL;
  pc_for(nnz + n, 1 + GRAIN / (e->m * j->h * (j->w + 1)), run_part, j);
  return PC_OK;
}

int PC_FN(spmm_bsr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, int64_t h, int64_t w, const float *x,
                        const float *data, const int32_t *indices, const int64_t *indptr, const float *bias,
                        const float *residual, int32_t activation, float *y, int64_t y_row, int64_t y_column) {
  const job j = {k, h, w, x, data, indices, indptr, {m, n * h, NULL, bias, residual, activation, y, y_row, y_column}};
  return run_job(&j, n, nnz, run_shared);
}

int PC_FN(spmv_bsr_f32)(int64_t k, int64_t n, int64_t nnz, int64_t w, const float *x, const float *data,
                        const int32_t *indices, const int64_t *indptr, const float *bias, const float *residual,
                        int32_t activation, float *y) {
  const job j = {k, LANES, w, x, data, indices, indptr, {1, n * LANES, NULL, bias, residual, activation, y, n, 1}};
  return run_job(&j, n, nnz, run_column);
}
