/* y[i,j] = sum over l of (x[i,l] - zx[i]) * (w[l,j] - zw[j]), exact, as int32; or its fused epilogue (int8.h) to floats or
 * codes.
 *
 * Zero points come out of the sum,
 *     sum x*w  -  zx * sum w  -  zw * (sum x - k*zx),
 * and every step is exact modulo 2^32, so a result that fits int32 is exact whatever the order. Where k is so large that
 * it might not fit, sums are made in 64 bits and checked.
 *
 * Threads share the columns, in cells; a block of k of a cell's weights stays in L2 while panels of rows pass. Of each, x is
 * copied to the stack (signed codes made unsigned or both widened, as the level multiplies), and tiles of rows x vectors run
 * down it. Between blocks sums wait on the stack.
 * Limit: the dot-product units for m >= 8, the bandwidth of the weights below. */
#include <string.h>

#include "int8.h"

enum {
  BLOCK = 2048,                        /* l in a block at full height */
  GAP = 64,                            /* keeps the rows of a panel out of each other's cache sets */
  PANEL = PC_DOT_ROWS * (BLOCK + GAP), /* codes: 17 KB as bytes, in L1 */
  CELL = 1 << 19,                      /* bytes of weights in a block of a cell, in L2; with AMX, whose CPUs have 2 MB, up
                                          to twice that where x, which is read again for each cell, is large too */
  CELL_COLUMNS = 32 * LANES,           /* at most */
  SUMS = 32 * 1024,                    /* unfinished sums: 128 KB of stack */
  AHEAD = 16 * LINE,                   /* bytes of weights to prefetch ahead of use */
  FAR = 6 << 20,                       /* bytes of weights that no cache may keep: they are asked for a tile ahead */
  FOLLOWED = 4,                        /* rows whose weights, read faster than they can be asked for, the hardware follows
                                          better by itself */
  ALONE = PC_DOT_PARTS == 1 ? 2 : 1,   /* rows that take slice by slice, as they lie in memory: side by side was slower */
  CHAINS = 4 / PC_DOT_PARTS,           /* accumulators of a row alone: the latency of a dot product; and of each of two, */
  CHAINS_OF_TWO = PC_TILE_VECTORS(1) >= 8 ? 4 : 2, /* as registers hold */
  GRAIN = 1 << 19,                     /* multiply-adds that pay for waking a thread */
  FITS = 65793,                        /* k up to which |sum| <= k*255*128 < 2^31 */
  FITS_SHIFTED = 33025                 /* the same with a zero point of w: k*255*255 */
};

/* A panel of few rows may be longer: both come from the same buffer. */
#define STRIDE(rows) (PANEL / (rows) / GAP * GAP)

/* A block of a panel [rows][STRIDE(rows)] against some slices of weights, `slice` apart, which come from memory if `far`; what it
 * adds to, [rows][ld], or starts if `first`; and, where it ends in registers, the job and where its outputs begin. */
typedef struct {
  int64_t groups, slice, ld;
  const pc_code *panel;
  const int8_t *w;
  int32_t *sums;
  int first, far;
  const int8_job *ends; /* or NULL */
  int64_t row, column;
  const int32_t *zero; /* of each row, or NULL */
} tile_job;

PC_INLINE void tile(int rows, int vectors, int far, int ends, const tile_job *of) {
  const int64_t groups = of->groups, slice = of->slice, ahead = far ? vectors * slice : AHEAD;
  const pc_code *panel = of->panel;
  const int8_t *w = of->w;
  dot16 acc[PC_DOT_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) acc[i][j] = dot_zero();
  const int passes = PC_DOT_PASSES(rows), parts = PC_DOT_PARTS / passes;
#pragma GCC unroll 2
  for (int pass = 0; pass < passes; pass++)
    for (int64_t g = 0; g < groups; g++) {
      dot_w b[WIDEST][PC_DOT_PARTS];
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) {
        if (pass == 0 && rows > FOLLOWED) __builtin_prefetch(w + j * slice + LINE * g + ahead);
#pragma GCC unroll 4
        for (int p = 0; p < parts; p++) b[j][p] = dot_load(w + j * slice + LINE * g, pass * parts + p);
      }
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        const dot_x a = dot_set1(panel + i * STRIDE(rows) + GROUP * g);
#pragma GCC unroll 8
        for (int j = 0; j < vectors; j++)
#pragma GCC unroll 4
          for (int p = 0; p < parts; p++) acc[i][j] = dot_add(acc[i][j], pass * parts + p, a, b[j][p]);
      }
    }
  vi16 sums[PC_DOT_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) sums[i][j] = dot_sum(acc[i][j]);
  if (!of->first)
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) sums[i][j] = vi_add(vi_load(of->sums + i * of->ld + LANES * j), sums[i][j]);
  if (ends) {
    finish_tile(of->ends, rows, vectors, sums, of->row, of->column, of->zero);
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) vi_store(of->sums + i * of->ld + LANES * j, sums[i][j]);
}

/* A group of codes of few rows times its line of weights, added to chain c. */
PC_INLINE void add_group(int rows, const pc_code *panel, const int8_t *w, dot16 acc[][4], int c) {
  dot_x a[ALONE];
#pragma GCC unroll 2
  for (int i = 0; i < rows; i++) a[i] = dot_set1(panel + i * STRIDE(rows));
#pragma GCC unroll 4
  for (int p = 0; p < PC_DOT_PARTS; p++) {
    const dot_w b = dot_load(w, p);
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) acc[i][c] = dot_add(acc[i][c], p, a[i], b);
  }
}

/* At most ALONE rows. (Slices that end in registers were slower.) */
PC_INLINE void by_slices(int rows, int chains, int vectors, const tile_job *of) {
  const int8_t *w = of->w;
  int32_t *sums = of->sums;
  for (int j = 0; j < vectors; j++, w += of->slice, sums += LANES) {
    dot16 acc[ALONE][4];
    int64_t g = 0;
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int c = 0; c < chains; c++) acc[i][c] = dot_zero();
    for (; g + chains <= of->groups; g += chains)
#pragma GCC unroll 4
      for (int c = 0; c < chains; c++) add_group(rows, of->panel + GROUP * (g + c), w + LINE * (g + c), acc, c);
    for (; g < of->groups; g++) add_group(rows, of->panel + GROUP * g, w + LINE * g, acc, 0);
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++) {
      vi16 sum = of->first ? vi_zero() : vi_load(sums + i * of->ld);
#pragma GCC unroll 4
      for (int c = 0; c < chains; c++) sum = vi_add(sum, dot_sum(acc[i][c]));
      vi_store(sums + i * of->ld, sum);
    }
  }
}

/* Shapes that can end in registers: those that most of a product is made of. */
PC_INLINE int may_end(int rows, int vectors) { return rows > ALONE && vectors == PC_DOT_VECTORS(rows); }

/* Shapes that the level's registers cannot hold are compiled away. */
static void run_tile(int rows, int vectors, const tile_job *of) {
#define SHAPE(r, v)                                                          \
  case (r) * 16 + (v):                                                       \
    if ((r) <= ALONE || (r) > PC_DOT_ROWS || (v) > PC_DOT_VECTORS(r)) break; \
    if (may_end(r, v) && of->ends) tile(r, v, 0, 1, of);                     \
    else tile(r, v, 0, 0, of);                                               \
    break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  if (rows == 1) {
    by_slices(1, CHAINS, vectors, of);
    return;
  }
  if (rows <= ALONE) {
    by_slices(ALONE, CHAINS_OF_TWO, vectors, of);
    return;
  }
  if (of->far && rows == PC_DOT_ROWS && vectors == PC_DOT_VECTORS(PC_DOT_ROWS)) {
    if (of->ends) tile(PC_DOT_ROWS, PC_DOT_VECTORS(PC_DOT_ROWS), 1, 1, of);
    else tile(PC_DOT_ROWS, PC_DOT_VECTORS(PC_DOT_ROWS), 1, 0, of);
    return;
  }
  switch (rows * 16 + vectors) {
    SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

/* Codes [0, length) of rows of x into a panel, as the level multiplies them; zeros up to a whole group. */
static void fill_panel(const int8_job *j, int rows, int64_t row, int64_t l0, int64_t length, pc_code *panel) {
  for (int i = 0; i < rows; i++) {
    const uint8_t *from = j->x + (row + i) * j->ldx + l0;
    pc_code *to = panel + i * STRIDE(rows);
    if (j->is_signed)
      for (int64_t l = 0; l < length; l++) to[l] = (pc_code)((int8_t)from[l] + PC_DOT_MOVE);
    else
      for (int64_t l = 0; l < length; l++) to[l] = from[l];
    for (int64_t l = length; l % GROUP; l++) to[l] = 0;
  }
}

static int32_t moved(const int8_job *j) { return j->is_signed ? PC_DOT_MOVE : 0; }

/* Codes in a block where panels have at most so many rows. */
static int64_t block_of(int64_t rows) { return STRIDE(rows) - GAP; }

/* One block of a panel against the columns [begin, end): adds to its sums [rows][ld], or to y itself where sums are all that
 * is asked for, and finishes them with the last block. fresh: these weights have not been read before. */
static void panel_by_columns(const int8_job *j, int rows, int64_t row, int64_t l0, int64_t length, int64_t begin, int64_t end,
                             int fresh, pc_code *panel, int32_t *sums, int64_t ld) {
  int32_t zero[PC_DOT_ROWS], shift[PC_DOT_ROWS];
  const int64_t slice = slice_bytes(j), groups = (length + GROUP - 1) / GROUP;
  const int owed = j->x_zero || moved(j), widest = PC_DOT_VECTORS(rows), last = l0 + length == j->k;
  const int plain = j->to == TO_I32 && !owed && !j->w_zero;
  const int light = last && j->to == TO_F32 && !j->w_zero && ends_plainly(j);
  if (last) row_debts(j, rows, row, moved(j), zero, shift);
  fill_panel(j, rows, row, l0, length, panel);
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    vectors = (int)smaller((end - c + LANES - 1) / LANES, widest);
    const int whole = c + LANES * vectors <= end, direct = plain && whole, ends = light && whole && may_end(rows, vectors);
    const tile_job of = {.groups = groups, .slice = slice, .ld = direct ? j->ldy : ld, .panel = panel,
                      .w = j->w + c / LANES * slice + l0 * LANES,
                      .sums = direct ? (int32_t *)j->y + row * j->ldy + c : sums + (c - begin), .first = l0 == 0, .far = fresh,
                      .ends = ends ? j : NULL, .row = row, .column = c, .zero = owed ? zero : NULL};
    run_tile(rows, vectors, &of);
    if (last && !direct && !ends)
      finish(j, rows, smaller(end - c, LANES * vectors), row, c, owed ? zero : NULL, j->w_zero ? shift : NULL, of.sums, ld);
  }
}

/* One tile where the sums may leave int32: each block is exact, and the total is checked. */
static void wide_tile(const int8_job *j, int rows, int64_t row, int vectors, int64_t column, pc_code *panel) {
  const int64_t slice = slice_bytes(j), block = smaller(block_of(rows), FITS_SHIFTED / GAP * GAP);
  const int64_t span = LANES * vectors, width = smaller(j->n - column, span);
  int64_t total[PC_DOT_ROWS * WIDEST * LANES] = {0};
  int32_t part[PC_DOT_ROWS * WIDEST * LANES];
  for (int64_t l0 = 0; l0 < j->k; l0 += block) {
    const int64_t length = smaller(j->k - l0, block), groups = (length + GROUP - 1) / GROUP;
    const int8_t *w = j->w + column / LANES * slice + l0 * LANES;
    fill_panel(j, rows, row, l0, length, panel);
    const tile_job of = {.groups = groups, .slice = slice, .ld = span, .panel = panel, .w = w, .sums = part, .first = 1};
    run_tile(rows, vectors, &of);
    int64_t shift[PC_DOT_ROWS];
    for (int i = 0; i < rows; i++) {
      const int64_t zero = (j->x_zero ? j->x_zero[row + i] : 0) + moved(j);
      shift[i] = -length * zero;
      for (int64_t l = 0; l < length; l++) shift[i] += panel[i * STRIDE(rows) + l];
    }
    for (int64_t c = 0; c < width; c++) {
      int64_t sum = 0;
      for (int64_t l = 0; l < GROUP * groups; l++) sum += w[c / LANES * slice + l / GROUP * LINE + c % LANES * GROUP + l % GROUP];
      const int64_t w_zero = j->w_zero ? j->w_zero[column + c] : 0;
      for (int i = 0; i < rows; i++) {
        const int64_t zero = (j->x_zero ? j->x_zero[row + i] : 0) + moved(j);
        total[i * span + c] += part[i * span + c] - zero * sum - w_zero * shift[i];
      }
    }
  }
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c++) {
      const int64_t t = total[i * span + c];
      if (t < INT32_MIN || t > INT32_MAX) fail(j, PC_EOVERFLOW);
      part[i * span + c] = (int32_t)t;
    }
  finish(j, rows, width, row, column, NULL, NULL, part, span);
}

static void wide_panel(const int8_job *j, int rows, int64_t row, int64_t begin, int64_t end, pc_code *panel) {
  const int64_t step = LANES * PC_DOT_VECTORS(rows);
  for (int64_t c = begin; c < end; c += step)
    wide_tile(j, rows, row, (int)((smaller(end - c, step) + LANES - 1) / LANES), c, panel);
}

static int may_overflow(const int8_job *j) { return j->k > (j->w_zero ? FITS_SHIFTED : FITS); }

/* Below FEW rows the weights' way through the caches is all that counts, and vectors prefetch them better. */
static int by_amx(const int8_job *j) {
#ifdef __AMX_INT8__
  enum { FEW = 5 };
  return j->m >= FEW && !may_overflow(j);
#else
  (void)j;
  return 0;
#endif
}

/* Rows [row0, row1) x columns [begin, end). Panels are of equal height, give or take one. */
static void cell(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end, int64_t next) {
#ifdef __AMX_INT8__
  if (by_amx(j)) {
    PC_FN(int8_amx_cell)(j, row0, row1, begin, end, next);
    return;
  }
#endif
  (void)next;
  _Alignas(64) pc_code panel[PANEL];
  _Alignas(64) int32_t sums[SUMS];
  const int64_t rows = row1 - row0, panels = (rows + PC_DOT_ROWS - 1) / PC_DOT_ROWS;
  const int far = j->k * j->n > FAR;
  const int64_t block = block_of((rows + panels - 1) / panels), ld = (end - begin + LANES - 1) / LANES * LANES;
  /* Panels whose sums wait together for the next block; where there is but one block, sums that stay in L1. */
  const int64_t together = j->k > block ? SUMS / (PC_DOT_ROWS * ld) : 1;
  for (int64_t p0 = 0, l0 = 0; p0 < panels;) {
    const int64_t p1 = smaller(p0 + together, panels), first = row0 + rows * p0 / panels;
    for (int64_t p = p0; p < p1; p++) {
      const int64_t row = row0 + rows * p / panels;
      const int height = (int)(row0 + rows * (p + 1) / panels - row);
      if (may_overflow(j)) wide_panel(j, height, row, begin, end, panel);
      else panel_by_columns(j, height, row, l0, smaller(j->k - l0, block), begin, end, far && p == p0, panel,
                            sums + (row - first) * ld, ld);
    }
    l0 += block;
    if (l0 >= j->k || may_overflow(j)) p0 = p1, l0 = 0;
  }
}

/* Units [begin, end) of (part of rows, columns); the columns of a part are cut into cells of whole tiles, but for its end. */
static void run(int64_t begin, int64_t end, const void *context) {
  const int8_job *j = context;
  const int64_t bytes = by_amx(j) && j->m * j->k > CELL ? smaller(j->m * j->k, 2 * CELL) : CELL;
  const int64_t depth = by_amx(j) ? j->k : smaller(j->k, block_of(smaller(j->m, PC_DOT_ROWS)));
  const int64_t most = smaller(bytes / (depth + 1), CELL_COLUMNS) / (j->unit * j->wide), tiles_most = most > 0 ? most : 1;
  for (int64_t d = begin / j->units; d * j->units < end; d++) {
    const int64_t row0 = j->m * d / j->down, row1 = j->m * (d + 1) / j->down;
    const int64_t u0 = d * j->units < begin ? begin - d * j->units : 0, u1 = smaller(end - d * j->units, j->units);
    const int64_t tiles = (u1 - u0 + j->wide - 1) / j->wide, cells = (tiles + tiles_most - 1) / tiles_most;
    for (int64_t i = 0; i < cells; i++) {
      int64_t ends[3]; /* of the cell before, of this, and of the next */
      for (int e = 0; e < 3; e++)
        ends[e] = smaller(j->unit * smaller(u0 + j->wide * (tiles * smaller(i + e, cells) / cells), u1), j->n);
      cell(j, row0, row1, ends[0], ends[1], ends[2]);
    }
  }
}

static int multiply(int8_job *j) {
  if (j->m < 0 || j->k < 0 || j->n < 0 || j->ldx < j->k || j->ldy < j->n) return PC_EINVAL;
  if (!pc_is_activation(j->activation)) return PC_EINVAL;
  if (j->m == 0 || j->n == 0) return PC_OK;
  int status = PC_OK;
  j->status = &status;
  j->unit = LANES * (by_amx(j) ? 4 : 1);
  j->wide = by_amx(j) ? 1 : PC_DOT_VECTORS(smaller(j->m, PC_DOT_ROWS));
  j->units = (j->n + j->unit - 1) / j->unit;
  j->down = 1; /* threads share columns, so that each reads its own weights; rows too where there are many */
  while (4 * j->down * j->down * j->n <= pc_get_num_threads() * j->m && 64 * j->down <= j->m) j->down *= 2;
  const int64_t work = (j->m + j->down - 1) / j->down * j->unit * (j->k + 1);
  pc_for(j->down * j->units, 1 + GRAIN / work, run, j);
  return status;
}

/* -- entries: x unsigned or signed, results of each type */
#define INTEGERS(name, x_type, has_sign)                                                                                  \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const int8_t *w, const int32_t *sums,    \
                  const int32_t *x_zero, const int32_t *w_zero, int32_t *y, int64_t ldy) {                                \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = has_sign, .w = w,             \
                  .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .to = TO_I32, .y = y, .ldy = ldy};                    \
    return multiply(&j);                                                                                                  \
  }
#define FLOATS(name, x_type, has_sign, y_type, type)                                                                      \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const float *x_scale,                    \
                  const int32_t *x_zero, const int8_t *w, const int32_t *sums, const float *w_scale,                      \
                  const int32_t *w_zero, const float *bias, const float *residual, int32_t activation, y_type *y,         \
                  int64_t ldy) {                                                                                          \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = has_sign, .w = w,             \
                  .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .x_scale = x_scale, .w_scale = w_scale, .bias = bias, \
                  .residual = residual, .activation = activation, .to = type, .y = y, .ldy = ldy};                        \
    return multiply(&j);                                                                                                  \
  }
#define CODES(name, x_type, has_sign, y_type, type)                                                                       \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const float *x_scale,                    \
                  const int32_t *x_zero, const int8_t *w, const int32_t *sums, const float *w_scale,                      \
                  const int32_t *w_zero, const float *bias, const float *residual, int32_t activation, float y_scale,     \
                  int32_t y_zero, y_type *y, int64_t ldy) {                                                               \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = has_sign, .w = w,             \
                  .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .x_scale = x_scale, .w_scale = w_scale, .bias = bias, \
                  .residual = residual, .activation = activation, .to = type, .y_scale = y_scale, .y_zero = y_zero,       \
                  .y = y, .ldy = ldy};                                                                                    \
    return multiply(&j);                                                                                                  \
  }
INTEGERS(gemm_u8s8, uint8_t, 0)
INTEGERS(gemm_s8s8, int8_t, 1)
FLOATS(gemm_u8s8_f32, uint8_t, 0, float, TO_F32)
FLOATS(gemm_s8s8_f32, int8_t, 1, float, TO_F32)
FLOATS(gemm_u8s8_f16, uint8_t, 0, uint16_t, TO_F16)
FLOATS(gemm_s8s8_f16, int8_t, 1, uint16_t, TO_F16)
FLOATS(gemm_u8s8_bf16, uint8_t, 0, uint16_t, TO_BF16)
FLOATS(gemm_s8s8_bf16, int8_t, 1, uint16_t, TO_BF16)
CODES(gemm_u8s8_s8, uint8_t, 0, int8_t, TO_S8)
CODES(gemm_s8s8_s8, int8_t, 1, int8_t, TO_S8)
CODES(gemm_u8s8_u8, uint8_t, 0, uint8_t, TO_U8)
CODES(gemm_s8s8_u8, int8_t, 1, uint8_t, TO_U8)
