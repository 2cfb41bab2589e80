/* y[i,j] = activation(sum over groups t of scale[t,j] * (sum over l in t of x[i,l] * (w[l,j] - zero[t,j])) + bias[j] +
 * residual[i,j]): weights as codes, everything else float. One fma chain a group, and one over the groups.
 *
 * A unit of work is a band of rows by a tile of columns. Its codes become floats block by block on the stack, and tiles of
 * rows x vectors run down the block; where one tile has all the rows, codes become floats in its registers instead.
 * Limit: the fma units for m >= 16, below it the memory of the codes or turning them into floats. */
#include <string.h>

#include "activation.h"
#include "table.h"

enum {
  BLOCK = 256,                              /* l at once: a panel of x is 8 KB, the floats of a tile 48 KB on AVX-512 */
  STRIDE = BLOCK + 16,                      /* of a panel: keeps its rows out of each other's cache sets */
  BAND = 8 * PC_TILE_ROWS,                  /* rows that share the floats */
  WIDEST = 8,                               /* vectors in the widest tile of any level */
  TALL = PC_TILE_VECTORS(PC_TILE_ROWS),     /* vectors in the tallest tile */
  CHAINS = BAND * TALL * LANES,             /* of a unit; no tile of fewer rows has more */
  UNITS = 4,                                /* for each thread, if that takes narrower tiles */
  NARROW = 4,                               /* vectors that keep one row's chains busy */
  AHEAD = 1024,                             /* bytes of codes to prefetch ahead of use */
  GRAIN = 1 << 17                           /* multiply-adds that pay for waking a thread */
};

typedef struct {
  int64_t m, k, n, groups, size; /* size: of a group */
  const float *x;
  int64_t ldx;
  const int8_t *w;
  const float *scale;
  const int8_t *zero;
  const float *bias, *residual;
  int32_t activation;
  float *y;
  int64_t ldy;
  int64_t width, tiles, bands; /* columns of a tile; tiles across y; bands of rows */
} job;

typedef enum { FLOATS, CODES, CODES_LESS_ZERO } weights;

/* What a tile works on: `count` groups of `length`, or a part of one. */
typedef struct {
  int64_t count, length;
  int begins, ends;    /* whether a group does, with the part */
  const float *x;
  int64_t ldx;
  const float *floats; /* [vectors][BLOCK][16] */
  const int8_t *codes, *zero;
  const float *scale;
  int64_t slice, table; /* from one slice of codes, and of scales and zeros, to the next */
  float *chains, *sums; /* [rows][vectors][16]: of an unfinished group, and over the groups */
} work;

PC_INLINE vf16 weight(weights kind, const work *t, int j, int64_t l, vf16 zero) {
  if (kind == FLOATS) return vf_load(t->floats + (j * BLOCK + l) * LANES);
  const int8_t *code = t->codes + j * t->slice + l * LANES;
  __builtin_prefetch(code + AHEAD);
  const vf16 q = vf_from_vi(vi_load_s8(code));
  return kind == CODES ? q : vf_sub(q, zero);
}

PC_INLINE void tile(int rows, int vectors, weights kind, const work t) {
  vf16 acc[PC_TILE_ROWS][WIDEST];
  for (int64_t g = 0; g < t.count; g++) {
    vf16 zero[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
      zero[j] = kind == CODES_LESS_ZERO ? vf_from_vi(vi_load_s8(t.zero + j * t.table + g * LANES)) : vf_zero();
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) acc[i][j] = t.begins ? vf_zero() : vf_load(t.chains + (i * vectors + j) * LANES);
    for (int64_t l = g * t.length; l < (g + 1) * t.length; l++) {
      vf16 b[WIDEST];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) b[j] = weight(kind, &t, j, l, zero[j]);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        const vf16 a = vf_set1(t.x[i * t.ldx + l]);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) acc[i][j] = vf_fma(a, b[j], acc[i][j]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) {
        float *sum = t.sums + (i * vectors + j) * LANES;
        if (t.ends) vf_store(sum, vf_fma(acc[i][j], vf_load(t.scale + j * t.table + g * LANES), vf_load(sum)));
        else vf_store(t.chains + (i * vectors + j) * LANES, acc[i][j]);
      }
  }
}

/* Shapes that the level's registers cannot hold are compiled away. */
static void run_tile(int rows, int vectors, weights kind, const work *t) {
#define KIND(r, v, kind) \
  case (kind) * 256 + (r) * 16 + (v): if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) tile(r, v, kind, *t); break;
#define SHAPE(r, v) KIND(r, v, FLOATS) KIND(r, v, CODES) KIND(r, v, CODES_LESS_ZERO)
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch ((int)kind * 256 + rows * 16 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

static void expand(const job *j, int vectors, const work *t, float *floats) {
  for (int v = 0; v < vectors; v++)
    for (int64_t g = 0; g < t->count; g++) {
      const vf16 zero = j->zero ? vf_from_vi(vi_load_s8(t->zero + v * t->table + g * LANES)) : vf_zero();
      for (int64_t l = g * t->length; l < (g + 1) * t->length; l++)
        vf_store(floats + (v * BLOCK + l) * LANES, vf_sub(vf_from_vi(vi_load_s8(t->codes + v * t->slice + l * LANES)), zero));
    }
}

/* One block of the chains of rows [top, bottom). */
static void block(const job *j, work t, int vectors, int64_t l0, int64_t top, int64_t bottom, float *chains, float *sums) {
  _Alignas(64) float floats[TALL * BLOCK * LANES], panel[PC_TILE_ROWS * STRIDE];
  const int64_t rows = bottom - top, panels = (rows + PC_TILE_ROWS - 1) / PC_TILE_ROWS, length = t.count * t.length;
  const weights kind = panels > 1 ? FLOATS : j->zero ? CODES_LESS_ZERO : CODES;
  t.floats = floats;
  if (kind == FLOATS) expand(j, vectors, &t, floats);
  for (int64_t p = 0; p < panels; p++) {
    const int64_t first = rows * p / panels;
    const int height = (int)(rows * (p + 1) / panels - first);
    t.x = j->x + (top + first) * j->ldx + l0;
    t.ldx = j->ldx;
    if (kind == FLOATS) {
      for (int i = 0; i < height; i++) memcpy(panel + i * STRIDE, t.x + i * t.ldx, (size_t)length * sizeof(float));
      t.x = panel;
      t.ldx = STRIDE;
    }
    t.chains = chains + first * vectors * LANES;
    t.sums = sums + first * vectors * LANES;
    run_tile(height, vectors, kind, &t);
  }
}

static void finish(const job *j, int vectors, int64_t top, int64_t bottom, int64_t column, const float *sums) {
  for (int64_t i = top; i < bottom; i++)
    for (int v = 0; v < vectors; v++, sums += LANES) {
      const int64_t c = column + v * LANES, lanes = j->n - c < LANES ? j->n - c : LANES;
      vf16 f = vf_load(sums);
      if (j->bias) f = vf_add(f, vf_load_n(j->bias + c, lanes));
      if (j->residual) f = vf_add(f, vf_load_n(j->residual + i * j->n + c, lanes));
      vf_store_n(j->y + i * j->ldy + c, lanes, vf_activate(f, j->activation));
    }
}

/* Whole groups at once, or a part of one. */
static void unit(const job *j, int64_t top, int64_t bottom, int64_t column) {
  _Alignas(64) float chains[CHAINS], sums[CHAINS];
  const int64_t slice = column / LANES, slices = (j->n - column + LANES - 1) / LANES, table = j->groups * LANES;
  const int vectors = (int)(slices < j->width / LANES ? slices : j->width / LANES);
  memset(sums, 0, (size_t)((bottom - top) * vectors * LANES) * sizeof(float));
  const int64_t whole = j->size > 0 && j->size < BLOCK ? BLOCK / j->size : 1; /* groups in a block */
  for (int64_t g = 0; j->size > 0 && g < j->groups; g += whole) {
    const int64_t end = (g + 1) * j->size;
    work t = {.count = whole < j->groups - g ? whole : j->groups - g, .slice = j->k * LANES, .table = table,
              .scale = j->scale + slice * table + g * LANES, .zero = j->zero ? j->zero + slice * table + g * LANES : NULL};
    for (int64_t l = g * j->size; l < end; l += t.length) {
      t.length = end - l < BLOCK ? end - l : BLOCK;
      t.begins = l == g * j->size;
      t.ends = l + t.length == end;
      t.codes = j->w + slice * t.slice + l * LANES;
      block(j, t, vectors, l, top, bottom, chains, sums);
    }
  }
  finish(j, vectors, top, bottom, column, sums);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t band = u % j->bands, column = u / j->bands * j->width; /* the bands of a tile share its codes */
    unit(j, j->m * band / j->bands, j->m * (band + 1) / j->bands, column);
  }
}

int PC_FN(gemm_f32s8)(int64_t m, int64_t k, int64_t n, int64_t groups, const float *x, int64_t ldx, const int8_t *w,
                      const float *scale, const int8_t *zero, const float *bias, const float *residual,
                      int32_t activation, float *y, int64_t ldy) {
  if (m < 0 || k < 0 || n < 0 || groups < 0 || ldx < k || ldy < n || !pc_is_activation(activation)) return PC_EINVAL;
  if (groups ? k % groups : k) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  job j = {.m = m, .k = k, .n = n, .groups = groups, .size = groups ? k / groups : 0, .x = x, .ldx = ldx, .w = w,
           .scale = scale, .zero = zero, .bias = bias, .residual = residual, .activation = activation, .y = y, .ldy = ldy};
  j.bands = (m + BAND - 1) / BAND;
  int64_t vectors = PC_TILE_VECTORS(m < PC_TILE_ROWS ? m : PC_TILE_ROWS);
  while (vectors > NARROW && j.bands * n < UNITS * pc_get_num_threads() * vectors * LANES) vectors--;
  j.width = vectors * LANES;
  j.tiles = (n + j.width - 1) / j.width;
  pc_for(j.tiles * j.bands, 1 + GRAIN / ((m / j.bands + 1) * j.width * (k + 1)), run, &j);
  return PC_OK;
}
