/* y[i,j] = activation(sum over groups t of scale[t,j] * (sum over l in t of x[i,l] * (w[l,j] - zero[t,j])) + bias[j] +
 * residual[i,j]): weights as codes, everything else float. One fma chain a group, and one over the groups.
 *
 * A unit of work is a band of rows by a tile of columns, and tiles of rows x vectors run down its blocks. Each turns codes
 * into floats in its registers: the units that do it are idle beside the fma, and floats for all tiles of a band, made once in a
 * buffer, were slower by a tenth on AMD. Where those units are the fma's, tall bands have such a buffer.
 * Limit: the fma units for m >= 16, below it the memory of the codes or turning them into floats. */
#include <string.h>

#include "activation.h"
#include "table.h"

enum {
  BLOCK = 256,                              /* l at once: 12 KB of codes on AVX-512, which L1 keeps for all tiles */
  BAND = 8 * PC_TILE_ROWS,                  /* rows of a unit */
  WIDEST = 8,                               /* vectors in the widest tile of any level */
  TALL = PC_TILE_VECTORS(PC_TILE_ROWS),     /* vectors in the tallest tile */
  CHAINS = BAND * TALL * LANES,             /* of a unit; no tile of fewer rows has more */
  UNITS = 4,                                /* for each thread, if that takes narrower tiles */
  WIDENED = 3,                              /* tiles of a band that pay for making floats of their codes first, */
  HALF = BLOCK / 2,                         /* of so many l: 24 KB */
  ROOM = 1 << 17,                           /* floats of x that L2 keeps */
  NARROW = 4,                               /* vectors that keep one row's chains busy */
  AHEAD = 1024,                             /* bytes of codes to prefetch ahead of use, */
  NEAR = 2,                                 /* into L1 for so few rows */
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
  int64_t width, tiles, bands; /* columns of a tile; tiles across y; bands of rows, */
  int64_t together;            /* of which so many pass all tiles before the next */
  int widens;                  /* whether bands make floats of codes first */
  int near;                    /* whether codes ahead are asked for into L1 */
} job;

/* What a tile works on: `count` groups of `length`, or a part of one. */
typedef struct {
  int64_t count, length;
  int begins, ends;    /* whether a group does, with the part */
  const float *x;
  int64_t ldx;
  const int8_t *codes, *zero;
  const float *scale;
  int64_t slice, table; /* from one slice of codes, and of scales and zeros, to the next */
  float *chains, *sums; /* [rows][vectors][16]: of an unfinished group, and over the groups */
  int near;             /* see the job */
  const float *wide;    /* the codes less their zero points, [count * length][vectors][16], or NULL */
} work;

/* What makes floats of codes: CODES as they are, LESS_ZEROS with zero points, WIDE where they are floats already. */
typedef enum { CODES, LESS_ZEROS, WIDE } source;

/* Sixteen codes as floats; those ahead are asked for, into L2: of L1 they would take the room and the ways. One row or two have
 * no other use for it, and CPUs other than AMD's are quicker so. */
PC_INLINE vf16 floats_of(int near, const int8_t *code) {
  if (near) __builtin_prefetch(code + AHEAD);
  else __builtin_prefetch(code + AHEAD, 0, 2);
  return vf_from_vi(vi_load_s8(code));
}

PC_INLINE void tile(int rows, int vectors, source from, int near, const work t) {
  const int zeros = from == LESS_ZEROS;
  vf16 acc[PC_TILE_ROWS][WIDEST];
  for (int64_t g = 0; g < t.count; g++) {
    vf16 zero[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++)
      zero[j] = zeros ? vf_from_vi(vi_load_s8(t.zero + j * t.table + g * LANES)) : vf_zero();
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) acc[i][j] = t.begins ? vf_zero() : vf_load(t.chains + (i * vectors + j) * LANES);
    const float *x[3] = {t.x + g * t.length, t.x + 3 * t.ldx + g * t.length, t.x + 6 * t.ldx + g * t.length}; /* as in gemm.c */
    for (int64_t l = g * t.length; l < (g + 1) * t.length; l++) {
#pragma GCC unroll 3
      for (int r = 0; 3 * r < rows; r++) x[r] = pc_held(x[r]);
      vf16 b[WIDEST];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) {
        if (from == WIDE) {
          b[j] = vf_held(vf_load(t.wide + (l * vectors + j) * LANES));
          continue;
        }
        b[j] = floats_of(near, t.codes + j * t.slice + l * LANES);
        if (zeros) b[j] = vf_sub(b[j], zero[j]);
      }
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        const vf16 a = vf_set1(x[i / 3][i % 3 * t.ldx]);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++) acc[i][j] = vf_fma(a, b[j], acc[i][j]);
      }
#pragma GCC unroll 3
      for (int r = 0; 3 * r < rows; r++) x[r]++;
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
PC_INLINE void run_from(source from, int near, int rows, int vectors, const work *t) {
#define SHAPE(r, v)                                                                                                 \
  case 16 * (r) + (v):                                                                                              \
    if ((r) <= (near ? NEAR : PC_TILE_ROWS) && (v) <= PC_TILE_VECTORS(r)) tile(r, v, from, near, *t);               \
    break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch (16 * rows + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

/* Each by itself: in one function they were slower. */
#define RUN(name, from, near) \
  __attribute__((noinline)) static void name(int rows, int vectors, const work *t) { run_from(from, near, rows, vectors, t); }
RUN(run_codes, CODES, 0)
RUN(run_codes_near, CODES, 1)
RUN(run_less_zeros, LESS_ZEROS, 0)
RUN(run_less_zeros_near, LESS_ZEROS, 1)
RUN(run_wide, WIDE, 0)

static void run_tile(int rows, int vectors, const work *t) {
  if (PC_SHUFFLES_DELAY_FMA && t->wide) run_wide(rows, vectors, t);
  else if (t->zero) (t->near ? run_less_zeros_near : run_less_zeros)(rows, vectors, t);
  else (t->near ? run_codes_near : run_codes)(rows, vectors, t);
}

/* The floats of a block. */
static void widen(const work *t, int vectors, float *to) {
  for (int64_t g = 0; g < t->count; g++)
    for (int64_t l = g * t->length; l < (g + 1) * t->length; l++)
      for (int j = 0; j < vectors; j++, to += LANES) {
        const vf16 b = floats_of(0, t->codes + j * t->slice + l * LANES);
        vf_store(to, t->zero ? vf_sub(b, vf_from_vi(vi_load_s8(t->zero + j * t->table + g * LANES))) : b);
      }
}

/* One block of the chains of so many rows of x, from t's on. */
static void block(const job *j, work t, int vectors, int64_t rows, float *chains, float *sums) {
  _Alignas(64) float wide[PC_SHUFFLES_DELAY_FMA ? HALF * TALL * LANES : 1];
  const float *x = t.x;
  const int64_t tiles = (rows + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  if (PC_SHUFFLES_DELAY_FMA && j->widens) {
    widen(&t, vectors, wide);
    t.wide = wide;
  }
  for (int64_t p = 0; p < tiles; p++) { /* of equal height, give or take one row */
    const int64_t first = rows * p / tiles;
    t.x = x + first * t.ldx;
    t.chains = chains + first * vectors * LANES;
    t.sums = sums + first * vectors * LANES;
    run_tile((int)(rows * (p + 1) / tiles - first), vectors, &t);
  }
}

static void finish(const job *j, int vectors, int64_t top, int64_t bottom, int64_t column, const float *sums) {
  for (int64_t i = top; i < bottom; i++)
    for (int v = 0; v < vectors; v++, sums += LANES) {
      const int64_t c = column + v * LANES, lanes = smaller(j->n - c, LANES);
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
  const int vectors = (int)smaller(slices, j->width / LANES);
  memset(sums, 0, (size_t)((bottom - top) * vectors * LANES) * sizeof(float));
  const int64_t most = j->widens ? HALF : BLOCK; /* l in a block, */
  const int64_t whole = j->size > 0 && j->size < most ? most / j->size : 1; /* and groups */
  for (int64_t g = 0; j->size > 0 && g < j->groups; g += whole) {
    const int64_t end = (g + 1) * j->size;
    work t = {.count = smaller(whole, j->groups - g), .slice = j->k * LANES, .table = table, .near = j->near,
              .ldx = j->ldx, .scale = j->scale + slice * table + g * LANES, .zero = j->zero ? j->zero + slice * table + g * LANES : NULL};
    for (int64_t l = g * j->size; l < end; l += t.length) {
      t.length = smaller(end - l, most);
      t.begins = l == g * j->size;
      t.ends = l + t.length == end;
      t.x = j->x + top * j->ldx + l;
      t.codes = j->w + slice * t.slice + l * LANES;
      block(j, t, vectors, bottom - top, chains, sums);
    }
  }
  finish(j, vectors, top, bottom, column, sums);
}

/* Bands that L2 keeps share each tile's codes, and pass all tiles, before the next bands. */
static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = begin; u < end; u++) {
    const int64_t first = u / (j->tiles * j->together) * j->together, count = smaller(j->bands - first, j->together);
    const int64_t at = u - first * j->tiles, band = first + at % count;
    unit(j, j->m * band / j->bands, j->m * (band + 1) / j->bands, at / count * j->width);
  }
}

int PC_FN(gemm_f32s8)(int64_t m, int64_t k, int64_t n, int64_t groups, const float *x, int64_t ldx, const int8_t *w,
                      const float *scale, const int8_t *zero, const float *bias, const float *residual,
                      int32_t activation, float *y, int64_t ldy) {
  if (m < 0 || k < 0 || n < 0 || groups < 0 || ldx < k || ldy < n || !pc_is_activation(activation)) return PC_EINVAL;
  if (!pc_divides(groups, k)) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  job j = {.m = m, .k = k, .n = n, .groups = groups, .size = groups ? k / groups : 0, .x = x, .ldx = ldx, .w = w,
           .scale = scale, .zero = zero, .bias = bias, .residual = residual, .activation = activation, .y = y, .ldy = ldy};
  j.bands = (m + BAND - 1) / BAND;
  int64_t vectors = PC_TILE_VECTORS(smaller(m, PC_TILE_ROWS));
  while (vectors > NARROW && j.bands * n < UNITS * pc_get_num_threads() * vectors * LANES) vectors--;
  j.width = vectors * LANES;
  j.widens = PC_SHUFFLES_DELAY_FMA && m / j.bands > (WIDENED - 1) * PC_TILE_ROWS && !pc_cpu_is_amd();
  j.near = m <= NEAR && !pc_cpu_is_amd();
  j.tiles = (n + j.width - 1) / j.width;
  j.together = 1 + ROOM / (BAND * (k + 1));
  pc_for(j.tiles * j.bands, 1 + GRAIN / ((m / j.bands + 1) * j.width * (k + 1)), run, &j);
  return PC_OK;
}
