/* y[i,j] = activation(sum over l ascending of x[i,l]*w[l,j] + bias[j]): one fma chain an output, lanes and threads
 * across outputs only, so that every level, thread count and batch gives the same bits.
 * Limit: the fma units for m >= 8, the bandwidth of the weights below.
 *
 * Cells of columns are shared among threads. A cell walks l in blocks; for each block, panels of rows of x are copied
 * to the stack (any row stride becomes a short, collision-free one), and tiles of rows x vectors run down the block.
 * Between blocks the chains wait in y: storing and reloading a float is exact. */
#include <string.h>

#include "table.h"
#include "vocabulary.h"

enum {
  LANES = 16,
  BLOCK = 512,                         /* l in a block at full height: panel 17 KB (L1), weights of a cell 0.5 MB (L2) */
  GAP = 16,                            /* keeps the rows of a panel out of each other's cache sets */
  PANEL = PC_TILE_ROWS * (BLOCK + GAP),
  WIDEST = 8,                          /* vectors in the widest tile of any level */
  TILES = 5,                           /* full-height tiles in a cell */
  AHEAD = 16 * LANES,                  /* floats of weights to prefetch ahead of use */
  GRAIN = 1 << 17                      /* multiply-adds that pay for waking a thread */
};

/* A panel of few rows may be longer: both come from the same buffer. */
#define STRIDE(rows) (PANEL / (rows) / GAP * GAP)

typedef struct {
  int64_t m, k, n;
  const float *x;
  int64_t ldx;
  const float *w, *bias;
  int32_t activation;
  float *y;
  int64_t ldy;
  int64_t cell; /* columns */
} job;

/* Adds a block of the chains of rows x (16*vectors) outputs. panel [rows][STRIDE(rows)]; w: `vectors` slices. */
PC_INLINE void tile(int rows, int vectors, int64_t length, const float *panel, const float *w, int64_t slice,
                    float *y, int64_t ldy, int first) {
  vf16 acc[PC_TILE_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) acc[i][j] = first ? vf_zero() : vf_load(y + i * ldy + LANES * j);
  for (int64_t l = 0; l < length; l++) {
    vf16 b[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      b[j] = vf_load(w + j * slice + LANES * l);
      __builtin_prefetch(w + j * slice + LANES * l + AHEAD);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const vf16 a = vf_set1(panel[i * STRIDE(rows) + l]);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) acc[i][j] = vf_fma(a, b[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) vf_store(y + i * ldy + LANES * j, acc[i][j]);
}

/* Shapes that the level's registers cannot hold are compiled away. */
static void run_tile(int rows, int vectors, int64_t length, const float *panel, const float *w, int64_t slice,
                     float *y, int64_t ldy, int first) {
#define SHAPE(r, v) \
  case (r) * 16 + (v): if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) tile(r, v, length, panel, w, slice, y, ldy, first); break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch (rows * 16 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

static void copy_rows(int rows, int64_t width, const float *from, int64_t ldfrom, float *to, int64_t ldto) {
  for (int i = 0; i < rows; i++) memcpy(to + i * ldto, from + i * ldfrom, (size_t)width * sizeof(float));
}

/* y = activation(y + bias) on a finished tile, still in L1. */
static void finish(const job *j, int rows, int64_t width, int64_t column, float *y) {
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c += LANES) {
      const int64_t lanes = width - c < LANES ? width - c : LANES;
      vf16 v = vf_load_n(y + i * j->ldy + c, lanes);
      if (j->bias) v = vf_add(v, vf_load_n(j->bias + column + c, lanes));
      if (j->activation == PC_RELU) v = vf_relu(v);
      vf_store_n(y + i * j->ldy + c, lanes, v);
    }
}

/* One panel against the columns [begin, end). A tile that sticks out past column n works on a copy. */
static void panel_by_columns(const job *j, int rows, const float *panel, int64_t row, int64_t l0, int64_t length,
                             int64_t begin, int64_t end) {
  const int widest = PC_TILE_VECTORS(rows);
  const int first = l0 == 0, last = l0 + length == j->k;
  float edge[PC_TILE_ROWS * WIDEST * LANES];
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    const int64_t left = (end - c + LANES - 1) / LANES;
    vectors = left < widest ? (int)left : widest;
    const int64_t width = end - c < LANES * vectors ? end - c : LANES * vectors;
    float *y = j->y + row * j->ldy + c;
    const float *w = j->w + c * j->k + l0 * LANES;
    if (width == LANES * vectors) {
      run_tile(rows, vectors, length, panel, w, LANES * j->k, y, j->ldy, first);
    } else {
      if (!first) copy_rows(rows, width, y, j->ldy, edge, LANES * vectors);
      run_tile(rows, vectors, length, panel, w, LANES * j->k, edge, LANES * vectors, first);
      copy_rows(rows, width, edge, LANES * vectors, y, j->ldy);
    }
    if (last && (j->bias || j->activation)) finish(j, rows, width, c, y);
  }
}

/* Rows [row0, row1) x columns [begin, end). Panels are of equal height, give or take one. */
static void cell(const job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  _Alignas(64) float panel[PANEL];
  const int64_t panels = (row1 - row0 + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  const int64_t tallest = (row1 - row0 + panels - 1) / panels;
  const int64_t block = STRIDE(tallest) - GAP;
  for (int64_t l0 = 0; l0 < j->k; l0 += block) {
    const int64_t length = j->k - l0 < block ? j->k - l0 : block;
    for (int64_t p = 0; p < panels; p++) {
      const int64_t row = row0 + (row1 - row0) * p / panels;
      const int rows = (int)(row0 + (row1 - row0) * (p + 1) / panels - row);
      copy_rows(rows, length, j->x + row * j->ldx + l0, j->ldx, panel, STRIDE(rows));
      panel_by_columns(j, rows, panel, row, l0, length, begin, end);
    }
  }
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t across = (j->n + j->cell - 1) / j->cell, down = (j->m + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  (void)down;
  for (int64_t i = begin; i < end; i++) {
    const int64_t c = i % across * j->cell;
    cell(j, 0, j->m, c, c + j->cell < j->n ? c + j->cell : j->n);
  }
}

static void no_sum(const job *j) {
  for (int64_t i = 0; i < j->m; i++) {
    memset(j->y + i * j->ldy, 0, (size_t)j->n * sizeof(float));
    finish(j, 1, j->n, 0, j->y + i * j->ldy);
  }
}

int PC_FN(gemm_f32)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const float *w, const float *bias,
                    int32_t activation, float *y, int64_t ldy) {
  if (m < 0 || k < 0 || n < 0 || ldx < k || ldy < n || activation < PC_IDENTITY || activation > PC_RELU) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  job j = {m, k, n, x, ldx, w, bias, activation, y, ldy, 0};
  if (k == 0) {
    no_sum(&j);
    return PC_OK;
  }
  j.cell = LANES * PC_TILE_VECTORS(PC_TILE_ROWS) * TILES;
  pc_for((n + j.cell - 1) / j.cell, 1, run, &j);
  return PC_OK;
}
