/* y[i,j] = activation(sum over l ascending of x[i,l]*w[l,j] + bias[j]): one fma chain an output, from +0 or from what is
 * given, lanes and threads across outputs only, so that every level, thread count and batch gives the same bits.
 * Limit: the fma units for m >= 8, the bandwidth of the weights below.
 *
 * Threads share the grid of cells (rows x columns). A cell walks l in blocks; for each block, panels of
 * rows of x are copied to the stack (any row stride becomes a short, collision-free one), and tiles of rows x vectors
 * run down the block. Between blocks the chains wait in y: storing and reloading a float is exact. A row alone, which uses
 * nothing twice, runs down all of k at once. */
#include <string.h>

#include "activation.h"
#include "table.h"
#include "vocabulary.h"

enum {
  BLOCK = 512,                 /* l in a block at full height: a panel is 17 KB, in L1 */
  GAP = 16,                    /* keeps the rows of a panel out of each other's cache sets */
  PANEL = PC_TILE_ROWS * (BLOCK + GAP),
  FEW = 4,                     /* rows whose x is not worth fetching ahead */
  STREAMS = 4,                 /* slices beside each other for a row alone: the latency of an fma, and few enough for the
                                  hardware to follow */
  WIDEST = 8,                  /* vectors in the widest tile of any level */
  TILES = 5,                   /* full-height tiles across a cell: its block of weights is 0.5 MB, in L2 */
  UNITS = 8,                   /* for each thread, so that no thread has much more than another */
  SHORTEST = 32,               /* rows of a band */
  GRAIN = 1 << 17              /* multiply-adds that pay for waking a thread */
};

/* A panel of few rows may be longer: both come from the same buffer. */
#define STRIDE(rows) (PANEL / (rows) / GAP * GAP)

typedef struct {
  int64_t m, k, n;
  const float *x;
  int64_t ldx;
  const float *w, *bias;
  const float *start; /* [m,n], where the chains begin; NULL: at +0 */
  int64_t ldstart;
  int32_t activation;
  float *y;
  int64_t ldy;
  int64_t width, tiles, bands; /* columns of a tile; tiles across y; bands of rows */
} job;

/* What a tile works on. */
typedef struct {
  int64_t length;      /* of the block */
  const float *panel;  /* [rows][STRIDE(rows)] */
  const float *w;      /* slices, `slice` floats apart */
  int64_t slice;
  const float *soon;   /* two rows of x, ldx apart, that the next panel will copy: fetched meanwhile */
  int64_t ldx;
  const float *from;   /* what the chains have reached; NULL: they begin */
  int64_t ldfrom;
  float *y;
  int64_t ldy;
  const float *then;   /* rows of y, `apart`, that the next tile will write: fetched meanwhile; or NULL */
  int64_t apart;
} work;

/* Adds a block of the chains of rows x (16*vectors) outputs. */
PC_INLINE void tile(int rows, int vectors, const work t) {
  const float *panel = t.panel, *w = t.w, *from = t.from;
  float *y = t.y;
  const int64_t ldfrom = t.ldfrom, ldy = t.ldy, slice = t.slice;
  vf16 acc[PC_TILE_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) acc[i][j] = from ? vf_load(from + i * ldfrom + LANES * j) : vf_zero();
  if (t.then)
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < vectors; j++) __builtin_prefetch(t.then + i * t.apart + LANES * j, 1, 2);
  for (int64_t l = 0; l < t.length; l++) {
    if (rows > FEW) {
      __builtin_prefetch(t.soon + l, 0, 2);
      __builtin_prefetch(t.soon + t.ldx + l, 0, 2);
    }
    vf16 b[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      const vf16 of_w = vf_load(w + j * slice + LANES * l);
      b[j] = rows > 1 ? vf_held(of_w) : of_w;
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
static void run_tile(int rows, int vectors, const work *t) {
#define SHAPE(r, v) \
  case (r) * 16 + (v): if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) tile(r, v, *t); break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch (rows * 16 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

static void copy_rows(int rows, int64_t width, const float *from, int64_t ldfrom, float *to, int64_t ldto) {
  for (int i = 0; i < rows; i++) memcpy(to + i * ldto, from + i * ldfrom, (size_t)width * sizeof(float));
}

PC_INLINE int64_t lanes_of(int64_t left) { return left < LANES ? left : LANES; }

/* y = activation(y + bias) on a finished tile, still in L1. */
static void finish(const job *j, int rows, int64_t width, int64_t column, float *y) {
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c += LANES) {
      const int64_t lanes = lanes_of(width - c);
      vf16 v = vf_load_n(y + i * j->ldy + c, lanes);
      if (j->bias) v = vf_add(v, vf_load_n(j->bias + column + c, lanes));
      vf_store_n(y + i * j->ldy + c, lanes, vf_activate(v, j->activation));
    }
}

/* One panel against the columns [begin, end). A tile that sticks out past column n works on a copy. */
static void panel_by_columns(const job *j, int rows, const float *panel, int64_t row, int64_t l0, int64_t length,
                             int64_t begin, int64_t end) {
  const int widest = PC_TILE_VECTORS(rows), last = l0 + length == j->k;
  const float *reached = l0 == 0 ? j->start : j->y;
  const int64_t ldreached = l0 == 0 ? j->ldstart : j->ldy;
  float edge[PC_TILE_ROWS * WIDEST * LANES];
  work t = {.length = length, .panel = panel, .slice = LANES * j->k, .ldx = j->ldx};
  int64_t soon = row + rows;
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    const int64_t left = (end - c + LANES - 1) / LANES;
    vectors = left < widest ? (int)left : widest;
    const int64_t width = end - c < LANES * vectors ? end - c : LANES * vectors;
    float *y = j->y + row * j->ldy + c;
    t.w = j->w + c * j->k + l0 * LANES;
    t.soon = j->x + (soon + 2 <= j->m ? soon : 0) * j->ldx + l0;
    soon += 2;
    t.then = c + width < end ? y + width : row + 2 * rows <= j->m ? j->y + (row + rows) * j->ldy + begin : NULL;
    t.apart = j->ldy;
    t.from = reached ? reached + row * ldreached + c : NULL;
    t.ldfrom = ldreached;
    if (width == LANES * vectors) {
      t.y = y;
      t.ldy = j->ldy;
      run_tile(rows, vectors, &t);
    } else {
      t.y = edge;
      t.ldy = LANES * vectors;
      if (t.from) {
        copy_rows(rows, width, t.from, t.ldfrom, edge, t.ldy);
        t.from = edge;
        t.ldfrom = t.ldy;
      }
      run_tile(rows, vectors, &t);
      copy_rows(rows, width, edge, t.ldy, y, j->ldy);
    }
    if (last && (j->bias || j->activation)) finish(j, rows, width, c, y);
  }
}

/* Rows [top, bottom) x columns [begin, end). Panels are of equal height, give or take one. */
static void cell(const job *j, int64_t top, int64_t bottom, int64_t begin, int64_t end) {
  _Alignas(64) float panel[PANEL];
  const int64_t rows = bottom - top, panels = (rows + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  const int64_t block = STRIDE((rows + panels - 1) / panels) - GAP;
  for (int64_t l0 = 0; l0 < j->k; l0 += block) {
    const int64_t length = j->k - l0 < block ? j->k - l0 : block;
    for (int64_t p = 0; p < panels; p++) {
      const int64_t row = top + rows * p / panels;
      const int height = (int)(top + rows * (p + 1) / panels - row);
      copy_rows(height, length, j->x + row * j->ldx + l0, j->ldx, panel, STRIDE(height));
      panel_by_columns(j, height, panel, row, l0, length, begin, end);
    }
  }
}

/* -- a row alone: slices beside each other, down all of k */
PC_INLINE void slices(int vectors, int64_t k, const float *x, const float *w, int64_t columns, const float *start, float *y) {
  vf16 acc[STREAMS];
#pragma GCC unroll 4
  for (int j = 0; j < vectors; j++)
    acc[j] = start ? vf_load_n(start + LANES * j, lanes_of(columns - LANES * j)) : vf_zero();
  for (int64_t l = 0; l < k; l++) {
    const vf16 a = vf_set1(x[l]);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) acc[j] = vf_fma(a, vf_load(w + LANES * (j * k + l)), acc[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < vectors; j++) vf_store_n(y + LANES * j, lanes_of(columns - LANES * j), acc[j]);
}

static void row_alone(const job *j, int64_t begin, int64_t end) {
  for (int64_t c = begin, step; c < end; c += step) {
    const float *start = j->start ? j->start + c : NULL, *w = j->w + c * j->k;
    step = end - c < STREAMS * LANES ? LANES : STREAMS * LANES;
    if (step == LANES) slices(1, j->k, j->x, w, end - c, start, j->y + c);
    else slices(STREAMS, j->k, j->x, w, end - c, start, j->y + c);
  }
  if (j->bias || j->activation) finish(j, 1, end - begin, begin, j->y + begin);
}

/* Units are tiles of columns, band after band of rows. Within a band a thread's units are cut into equal cells. */
static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  if (j->m == 1) {
    row_alone(j, begin * j->width, end * j->width < j->n ? end * j->width : j->n);
    return;
  }
  while (begin < end) {
    const int64_t band = begin / j->tiles, t = begin % j->tiles;
    const int64_t count = end - begin < j->tiles - t ? end - begin : j->tiles - t, cells = (count + TILES - 1) / TILES;
    for (int64_t c = 0; c < cells; c++) {
      const int64_t left = (t + count * c / cells) * j->width, right = (t + count * (c + 1) / cells) * j->width;
      cell(j, j->m * band / j->bands, j->m * (band + 1) / j->bands, left, right < j->n ? right : j->n);
    }
    begin += count;
  }
}

/* k = 0: the chains end where they begin. */
static void no_sum(const job *j) {
  for (int64_t i = 0; i < j->m; i++) {
    float *y = j->y + i * j->ldy;
    if (j->start) memmove(y, j->start + i * j->ldstart, (size_t)j->n * sizeof *y);
    else memset(y, 0, (size_t)j->n * sizeof *y);
    finish(j, 1, j->n, 0, y);
  }
}

static int product(job j) {
  const int64_t m = j.m, k = j.k, n = j.n;
  if (m < 0 || k < 0 || n < 0 || j.ldx < k || j.ldy < n || !pc_is_activation(j.activation)) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  if (k == 0) {
    no_sum(&j);
    return PC_OK;
  }
  j.width = LANES * PC_TILE_VECTORS(m < PC_TILE_ROWS ? m : PC_TILE_ROWS);
  j.tiles = (n + j.width - 1) / j.width;
  /* Tiles of columns alone may be too few to balance many threads; bands of rows cost a second reading of the weights. */
  const int64_t wanted = UNITS * pc_get_num_threads() / j.tiles, most = m / SHORTEST;
  j.bands = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
  const double unit = (double)m / (double)j.bands * (double)j.width * (double)k;
  pc_for(j.tiles * j.bands, 1 + (int64_t)(GRAIN / unit), run, &j);
  return PC_OK;
}

int PC_FN(gemm_f32)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const float *w, const float *bias,
                    int32_t activation, float *y, int64_t ldy) {
  return product((job){.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .bias = bias, .activation = activation, .y = y, .ldy = ldy});
}

int PC_FN(gemm_add_f32)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const float *w, const float *start,
                        int64_t ldstart, float *y, int64_t ldy) {
  if (ldstart < n) return PC_EINVAL;
  return product((job){.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .start = start, .ldstart = ldstart, .y = y, .ldy = ldy});
}
