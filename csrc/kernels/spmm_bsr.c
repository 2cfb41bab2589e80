/* The product of spmm.c with a matrix of dense blocks [h,w] (BSR): the rows of a block share every load of x, and an index
 * is read once a block. The chains and the bits are those of the same entries in CSR.
 *
 * A strip is some rows of a row of blocks, as many as the level's registers hold beside some slices of x. A group of strips
 * runs down blocks of columns whose part of x stays in L2; between them the chains wait on the stack.
 * Limit: the fma units. */
#include "panels.h"
#include "share.h"
#include "sparse_end.h"

enum {
  GRAIN = 1 << 19,     /* multiply-adds that pay for waking a thread */
  WIDEST = PC_TILE_VECTORS(1),
  PART = 128 * 1024,   /* floats of x in a block: 512 KB, which L2 holds */
  WAITING = 16 * 1024, /* floats of unfinished chains: 64 KB of stack */
  STRIPS = 64,         /* strips in a group */
  ASKING = 4,          /* rows of a strip, from which on there is time between its steps to ask for the next block's lines */
  FAR = 8,             /* blocks of one column ahead, whose part of x is asked for */
  LARGE = 128,         /* floats of a block that is otherwise asked for by itself */
  AHEAD = 1024         /* floats of blocks between reading and asking: 4 KB, or less of small blocks */
};

typedef struct {
  int64_t k, h, w;
  const float *x, *data; /* x in panels, if it has many rows */
  const int32_t *indices;
  const int64_t *indptr;
  pc_end end; /* its n counts rows of the matrix */
  pc_loose loose; /* floats of x as they came */
  int *status;
} job;

typedef struct {
  int64_t block_row, row, at; /* row within the block, and the next of its blocks */
} strip;

/* Rows of a strip that begins with so many rows left, and the slices of x beside it. */
static int high(int64_t left) {
  if (PC_TILE_ROWS >= 8 && left >= 8) return 8;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}
static int wide(int rows) { (void)rows; return PC_TILE_VECTORS(rows); }

/* Advances a strip's chains by its blocks, of so many columns or (0) of any, below block column `stop`. */
PC_INLINE void advance(int rows, int vectors, int columns, const job *j, const float *x, strip *s, int64_t stop, float *chains,
                       int first) {
  vf16 acc[PC_TILE_ROWS][WIDEST];
  const int64_t apart = LANES * j->k, w = columns ? columns : j->w, size = j->h * w;
  const int64_t ahead = size >= AHEAD ? size : size * 8 <= AHEAD ? size * 8 : AHEAD / size * size;
  const int asks = rows >= ASKING && columns != 1, asks_far = vectors > 2 && columns == 1;
  const int32_t *index = j->indices + s->at, *const end = j->indices + j->indptr[s->block_row + 1];
  if (!first && (index == end || *index >= stop)) return;
#pragma GCC unroll 8
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) acc[a][t] = first ? vf_zero() : vf_load(chains + (a * vectors + t) * LANES);
  const float *block = j->data + size * s->at + s->row * w;
  for (int64_t column = index < end ? *index : stop; column < stop; block += size) {
    const float *from = x + LANES * w * column;
    column = ++index < end ? *index : stop; /* a block ahead: x at an address that a load has yet to bring comes late */
    const float *next = column < stop ? x + LANES * w * column : from;
    if (asks_far && end - index > FAR)
#pragma GCC unroll 8
      for (int t = 0; t < vectors; t++) __builtin_prefetch(x + LANES * (int64_t)index[FAR] + t * apart);
    if (!asks && size < LARGE)
      for (int64_t q = 0; q < rows * w; q += LANES) __builtin_prefetch(block + ahead + q);
    else if (!asks && s->row == 0) /* into L2 only, for the other strips too: of L1 it would take too much */
      for (int64_t q = 0; q < size; q += LANES) __builtin_prefetch(block + ahead + q, 0, 2);
    for (int64_t l = 0; l < w; l++, from += LANES, next += LANES) {
      if (asks) __builtin_prefetch(block + ahead + rows * l);
      if (asks)
#pragma GCC unroll 8
        for (int t = 0; t < vectors; t++) __builtin_prefetch(next + t * apart);
      vf16 part[WIDEST];
#pragma GCC unroll 8
      for (int t = 0; t < vectors; t++) {
        const vf16 of_x = vf_load(from + t * apart);
        part[t] = rows > 1 ? vf_held(of_x) : of_x;
      }
#pragma GCC unroll 8
      for (int a = 0; a < rows; a++) {
        const vf16 value = vf_set1(block[a * w + l]);
#pragma GCC unroll 8
        for (int t = 0; t < vectors; t++) acc[a][t] = vf_fma(part[t], value, acc[a][t]);
      }
    }
  }
  s->at = index - j->indices;
#pragma GCC unroll 8
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) vf_store(chains + (a * vectors + t) * LANES, acc[a][t]);
}

/* The shapes that the registers of a level hold: all slices beside it that are left, up to wide(rows). */
PC_INLINE void advance_any(int rows, int vectors, int columns, const job *j, const float *x, strip *s, int64_t stop,
                           float *chains, int first) {
#define SHAPE(r, v) case 16 * (r) + (v): \
    if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) advance(r, v, columns, j, x, s, stop, chains, first); \
    break;
  switch (16 * rows + vectors) {
    SHAPE(8, 1) SHAPE(8, 2) SHAPE(8, 3)
    SHAPE(4, 1) SHAPE(4, 2) SHAPE(4, 3) SHAPE(4, 4) SHAPE(4, 5) SHAPE(4, 6)
    SHAPE(2, 1) SHAPE(2, 2) SHAPE(2, 3) SHAPE(2, 4) SHAPE(2, 5) SHAPE(2, 6) SHAPE(2, 7) SHAPE(2, 8)
    SHAPE(1, 1) SHAPE(1, 2) SHAPE(1, 3) SHAPE(1, 4) SHAPE(1, 5) SHAPE(1, 6) SHAPE(1, 7) SHAPE(1, 8)
  }
}

/* Block columns whose part of x stays in L2; at least one. (L1 was tried: the chains' waiting costs more than it saves.) */
static int64_t block_of(const job *j, int vectors) {
  const int64_t columns = PART / (LANES * vectors);
  return columns < j->w || j->w == 0 ? 1 : columns / j->w;
}

/* A group of strips of so many rows against `vectors` slices of x; their rows follow one another, from row0 on. */
PC_INLINE void run_group(int columns, const job *j, int rows, int vectors, int64_t slice, strip *strips, int count,
                         int64_t row0) {
  _Alignas(64) float chains[WAITING];
  const int64_t width = LANES * vectors, last = j->k / (j->w ? j->w : 1);
  const int64_t block = block_of(j, vectors);
  int64_t stop = 0;
  for (int s = 0; s < count; s++) strips[s].at = j->indptr[strips[s].block_row];
  do {
    const int first = stop == 0;
    stop = smaller(stop + block, last);
    for (int s = 0; s < count; s++)
      advance_any(rows, vectors, columns, j, j->x + slice * LANES * j->k, strips + s, stop, chains + s * rows * width, first);
  } while (stop < last);
  pc_finish(&j->end, slice * LANES, row0, (int64_t)count * rows, width, chains);
}

/* Blocks of so many columns, or (0) of any. Each is compiled by itself: in one function they would lack registers. */
#define GROUPS(name, columns)                                                                                               \
  __attribute__((noinline)) static void name(const job *j, int rows, int vectors, int64_t slice, strip *strips, int count,  \
                                             int64_t row0) {                                                                \
    run_group(columns, j, rows, vectors, slice, strips, count, row0);                                                       \
  }
GROUPS(run_of_one, 1)
GROUPS(run_of_four, 4)
GROUPS(run_of_any, 0)

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t slices = (j->end.m + LANES - 1) / LANES;
  for (int64_t b = begin, r = 0; b < end;) {
    strip strips[STRIPS];
    const int64_t row0 = b * j->h + r;
    const int rows = high(j->h - r), most = wide(rows); /* strips of one shape, so that each takes the same slices */
    const int room = WAITING / (LANES * most * rows);
    int count = 0;
    while (b < end && count < STRIPS && count < room && high(j->h - r) == rows) {
      strips[count++] = (strip){b, r, 0};
      r += rows;
      if (r == j->h) r = 0, b++;
    }
    const int64_t panels = (slices + most - 1) / most;
    for (int64_t p = 0; p < panels; p++) { /* of equal width, give or take one slice */
      const int64_t slice = slices * p / panels;
      const int vectors = (int)(slices * (p + 1) / panels - slice);
      (j->w == 1 ? run_of_one : j->w == 4 ? run_of_four : run_of_any)(j, rows, vectors, slice, strips, count, row0);
    }
  }
}

static void run_shared(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t rows = j->end.n / j->h;
  run(pc_run_near(j->indptr, rows, begin), pc_run_near(j->indptr, rows, end), j);
}

/* The same of x that each thread packs for itself. */
PC_RUN_OWN(run_shared)

/* One row of x and blocks of 16 rows, stored by columns: a lane for each row. */
static void run_column(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t rows = j->end.n / LANES, first = pc_run_near(j->indptr, rows, begin), last = pc_run_near(j->indptr, rows, end);
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
static int check(const job *j, int64_t n, int64_t nnz) {
  const pc_end *e = &j->end;
  if (e->m < 0 || j->k < 0 || n < 0 || nnz < 0 || j->h < 0 || j->w < 0 || !pc_is_activation(e->activation)) return PC_EINVAL;
  return e->m == 0 || e->n == 0 || (j->indptr[0] == 0 && j->indptr[n] == nnz) ? PC_OK : PC_EINVAL;
}

/* Blocks that pay for waking a thread. */
static int64_t grain_of(const job *j) { return 1 + GRAIN / (j->end.m * j->h * (j->w + 1)); }

int PC_FN(spmm_bsr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, int64_t h, int64_t w, const float *x, int64_t x_row,
                        int64_t x_column, const float *data, const int32_t *indices, const int64_t *indptr, const float *bias,
                        const float *residual, int32_t activation, float *y, int64_t y_row, int64_t y_column) {
  int status = PC_OK;
  job j = {k, h, w, NULL, data, indices, indptr, {m, n * h, NULL, bias, residual, activation, y, y_row, y_column},
           {k, m, k, x, x_column, x_row, NULL, 0, 0}, &status};
  status = check(&j, n, nnz);
  if (status != PC_OK || m == 0 || j.end.n == 0) return status;
  if (pc_packs_own(&j.loose)) {
    pc_for(nnz + n, pc_own_grain(&j.loose, pc_slices(&j.loose) * h * w, nnz + n, grain_of(&j)), run_own, &j);
    return status;
  }
  void *found = NULL;
  j.x = pc_pack_all(&j.loose, &found);
  if (!j.x) return PC_ENOMEM;
  pc_for(nnz + n, grain_of(&j), run_shared, &j);
  free(found);
  return PC_OK;
}

int PC_FN(spmv_bsr_f32)(int64_t k, int64_t n, int64_t nnz, int64_t w, const float *x, const float *data,
                        const int32_t *indices, const int64_t *indptr, const float *bias, const float *residual,
                        int32_t activation, float *y) {
  const job j = {k, LANES, w, x, data, indices, indptr, {1, n * LANES, NULL, bias, residual, activation, y, n, 1},
                 {0, 0, 0, NULL, 0, 0, NULL, 0, 0}, NULL};
  const int status = check(&j, n, nnz);
  if (status == PC_OK && n > 0) pc_for(nnz + n, grain_of(&j), run_column, &j);
  return status;
}
