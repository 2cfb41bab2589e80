/* y[i,j] = sum over l of (x[i,l] - zx[i]) * (w[l,j] - zw[j]), exact, as int32; or its fused epilogue to float.
 *
 * One tile serves unsigned and signed x: a signed byte becomes unsigned by flipping its top bit, on the way into the
 * panel, and its zero point grows by 128. Zero points come out of the sum,
 *     sum x*w  -  zx * sum w  -  zw * (sum x - k*zx),
 * and every step is exact modulo 2^32, so a result that fits int32 is exact whatever the order. Where k is so large that
 * it might not fit, cells are summed in 64 bits and checked.
 * Limit: the dot-product units for m >= 8, the bandwidth of the weights below. */
#include <string.h>

#include "table.h"
#include "vocabulary.h"

enum {
  GROUP = 4,                           /* l in one lane of a dot product */
  LINE = LANES * GROUP,                /* bytes of weights that one dot product takes */
  BLOCK = 2048,                        /* l in a block at full height: panel 17 KB (L1), weights of a cell 0.5 MB (L2) */
  GAP = 64,                            /* keeps the rows of a panel out of each other's cache sets */
  PANEL = PC_TILE_ROWS * (BLOCK + GAP),
  WIDEST = 8,                          /* vectors in the widest tile of any level */
  CELL = 15,                           /* slices of columns that share a block in L2 */
  AHEAD = 16 * LINE,                   /* bytes of weights to prefetch ahead of use */
  GRAIN = 1 << 19,                     /* multiply-adds that pay for waking a thread */
  FITS = 65793,                        /* k up to which |sum| <= k*255*128 < 2^31 */
  FITS_SHIFTED = 33025                 /* the same with a zero point of w: k*255*255 */
};

/* A panel of few rows may be longer: both come from the same buffer. */
#define STRIDE(rows) (PANEL / (rows) / GAP * GAP)

typedef struct {
  int64_t m, k, n;
  const uint8_t *x;
  int64_t ldx;
  uint8_t flip; /* 0x80 where x is signed */
  const int8_t *w;
  const int32_t *sums, *x_zero, *w_zero;
  const float *x_scale, *w_scale, *bias; /* x_scale NULL: y is int32 */
  int32_t activation;
  int32_t *y; /* floats pass through as sums that wait for their last block */
  int64_t ldy;
  int64_t slices, down; /* columns / 16; parts of rows */
  int *overflow;
} job;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Adds a block to rows x (16*vectors) sums. panel [rows][STRIDE(rows)]; w: `vectors` slices. */
PC_INLINE void tile(int rows, int vectors, int64_t groups, const uint8_t *panel, const int8_t *w, int64_t slice,
                    int32_t *y, int64_t ldy, int first) {
  vi16 acc[PC_TILE_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) acc[i][j] = first ? vi_zero() : vi_load(y + i * ldy + LANES * j);
  for (int64_t g = 0; g < groups; g++) {
    vi16 b[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      b[j] = vi_load(w + j * slice + LINE * g);
      __builtin_prefetch(w + j * slice + LINE * g + AHEAD);
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const vi16 a = vi_set1_bytes(panel + i * STRIDE(rows) + GROUP * g);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) acc[i][j] = vi_dot_u8s8(acc[i][j], a, b[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) vi_store(y + i * ldy + LANES * j, acc[i][j]);
}

/* Shapes that the level's registers cannot hold are compiled away. */
static void run_tile(int rows, int vectors, int64_t groups, const uint8_t *panel, const int8_t *w, int64_t slice,
                     int32_t *y, int64_t ldy, int first) {
#define SHAPE(r, v) \
  case (r) * 16 + (v): if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) tile(r, v, groups, panel, w, slice, y, ldy, first); break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch (rows * 16 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

static void copy_rows(int rows, int64_t width, const int32_t *from, int64_t ldfrom, int32_t *to, int64_t ldto) {
  for (int i = 0; i < rows; i++) memcpy(to + i * ldto, from + i * ldfrom, (size_t)width * sizeof *to);
}

/* Rows of x into a panel, unsigned, zeros up to a whole group. */
static void fill_panel(const job *j, int rows, int64_t row, int64_t l0, int64_t length, uint8_t *panel) {
  for (int i = 0; i < rows; i++) {
    const uint8_t *from = j->x + (row + i) * j->ldx + l0;
    uint8_t *to = panel + i * STRIDE(rows);
    if (j->flip)
      for (int64_t l = 0; l < length; l++) to[l] = from[l] ^ 0x80;
    else
      memcpy(to, from, (size_t)length);
    for (int64_t l = length; l % GROUP; l++) to[l] = 0;
  }
}

static int32_t zero_of(const job *j, int64_t row) { return (j->x_zero ? j->x_zero[row] : 0) + j->flip; }

/* out[i] = sum of the panel's row less length * zx: what a unit of zw takes off each output of the row. */
static void row_shifts(const job *j, int rows, int64_t row, int64_t length, const uint8_t *panel, int32_t *out) {
  for (int i = 0; i < rows; i++) {
    int32_t sum = 0;
    for (int64_t l = 0; l < length; l++) sum += panel[i * STRIDE(rows) + l];
    out[i] = (int32_t)((uint32_t)sum - (uint32_t)length * (uint32_t)zero_of(j, row + i));
  }
}

/* y -= row_shift * zw, for one block. */
static void subtract_shifts(const job *j, int rows, int64_t width, int64_t column, const int32_t *shift, int32_t *y, int64_t ldy) {
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c += LANES) {
      const int64_t lanes = smaller(width - c, LANES);
      const vi16 taken = vi_mul(vi_set1(shift[i]), vi_load_n(j->w_zero + column + c, lanes));
      vi_store_n(y + i * ldy + c, lanes, vi_sub(vi_load_n(y + i * ldy + c, lanes), taken));
    }
}

/* The epilogue of a finished tile, still in L1: y -= zx * sums, where that is still owed; then
 * t = float(y), s = sx*sw, y = activation(fma(t, s, bias)). */
static void finish(const job *j, int rows, int64_t width, int64_t row, int64_t column, int owed, int32_t *y, int64_t ldy) {
  for (int i = 0; i < rows; i++) {
    const vi16 zero = vi_set1(owed ? zero_of(j, row + i) : 0);
    for (int64_t c = 0; c < width; c += LANES) {
      const int64_t lanes = smaller(width - c, LANES), at = column + c;
      int32_t *to = y + i * ldy + c;
      vi16 v = vi_load_n(to, lanes);
      if (owed) v = vi_sub(v, vi_mul(zero, vi_load_n(j->sums + at, lanes)));
      if (!j->x_scale) {
        vi_store_n(to, lanes, v);
        continue;
      }
      const vf16 s = vf_mul(vf_set1(j->x_scale[row + i]), vf_load_n(j->w_scale + at, lanes));
      vf16 f = vf_fma(vf_from_vi(v), s, j->bias ? vf_load_n(j->bias + at, lanes) : vf_zero());
      if (j->activation == PC_RELU) f = vf_relu(f);
      vi_store_n(to, lanes, vi_from_bits(f));
    }
  }
}

/* One panel against the columns [begin, end). A tile that sticks out past column n works on a copy. */
static void panel_by_columns(const job *j, int rows, const uint8_t *panel, int64_t row, int64_t l0, int64_t length,
                             int64_t begin, int64_t end) {
  const int64_t groups = (length + GROUP - 1) / GROUP, slice = (j->k + GROUP - 1) / GROUP * LINE;
  const int widest = PC_TILE_VECTORS(rows), owed = j->x_zero || j->flip;
  const int first = l0 == 0, last = l0 + length == j->k;
  int32_t edge[PC_TILE_ROWS * WIDEST * LANES], shift[PC_TILE_ROWS];
  if (j->w_zero) row_shifts(j, rows, row, length, panel, shift);
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    vectors = (int)smaller((end - c + LANES - 1) / LANES, widest);
    const int64_t width = smaller(end - c, LANES * vectors);
    int32_t *y = j->y + row * j->ldy + c;
    const int8_t *w = j->w + c / LANES * slice + l0 * LANES;
    if (width == LANES * vectors) {
      run_tile(rows, vectors, groups, panel, w, slice, y, j->ldy, first);
    } else {
      if (!first) copy_rows(rows, width, y, j->ldy, edge, LANES * vectors);
      run_tile(rows, vectors, groups, panel, w, slice, edge, LANES * vectors, first);
      copy_rows(rows, width, edge, LANES * vectors, y, j->ldy);
    }
    if (j->w_zero) subtract_shifts(j, rows, width, c, shift, y, j->ldy);
    if (last && (owed || j->x_scale)) finish(j, rows, width, row, c, owed, y, j->ldy);
  }
}

/* One panel's tile where the sums may leave int32: each block is exact, and the total is checked. */
static void wide_tile(const job *j, int rows, int64_t row, int vectors, int64_t column, uint8_t *panel) {
  const int64_t slice = (j->k + GROUP - 1) / GROUP * LINE, block = STRIDE(rows) - GAP;
  const int64_t span = LANES * vectors, width = smaller(j->n - column, span);
  int64_t total[PC_TILE_ROWS * WIDEST * LANES] = {0};
  int32_t part[PC_TILE_ROWS * WIDEST * LANES], shift[PC_TILE_ROWS];
  for (int64_t l0 = 0; l0 < j->k; l0 += block) {
    const int64_t length = smaller(j->k - l0, block), groups = (length + GROUP - 1) / GROUP;
    const int8_t *w = j->w + column / LANES * slice + l0 * LANES;
    fill_panel(j, rows, row, l0, length, panel);
    run_tile(rows, vectors, groups, panel, w, slice, part, span, 1);
    if (j->w_zero) {
      row_shifts(j, rows, row, length, panel, shift);
      subtract_shifts(j, rows, width, column, shift, part, span);
    }
    for (int64_t c = 0; c < width; c++) {
      int64_t sum = 0;
      for (int64_t l = 0; l < GROUP * groups; l++) sum += w[c / LANES * slice + l / GROUP * LINE + c % LANES * GROUP + l % GROUP];
      for (int i = 0; i < rows; i++) total[i * span + c] += part[i * span + c] - zero_of(j, row + i) * sum;
    }
  }
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c++) {
      const int64_t t = total[i * span + c];
      if (t < INT32_MIN || t > INT32_MAX) __atomic_store_n(j->overflow, 1, __ATOMIC_RELAXED);
      j->y[(row + i) * j->ldy + column + c] = (int32_t)t;
    }
  if (j->x_scale) finish(j, rows, width, row, column, 0, j->y + row * j->ldy + column, j->ldy);
}

static void wide_panel(const job *j, int rows, int64_t row, int64_t begin, int64_t end, uint8_t *panel) {
  const int64_t step = LANES * PC_TILE_VECTORS(rows);
  for (int64_t c = begin; c < end; c += step)
    wide_tile(j, rows, row, (int)((smaller(end - c, step) + LANES - 1) / LANES), c, panel);
}

static int may_overflow(const job *j) { return j->k > (j->w_zero ? FITS_SHIFTED : FITS); }

/* Rows [row0, row1) x columns [begin, end). Panels are of equal height, give or take one. */
static void cell(const job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  _Alignas(64) uint8_t panel[PANEL];
  const int64_t panels = (row1 - row0 + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  const int64_t tallest = (row1 - row0 + panels - 1) / panels;
  const int64_t block = may_overflow(j) ? j->k : STRIDE(tallest) - GAP;
  int64_t l0 = 0;
  do {
    const int64_t length = smaller(j->k - l0, block);
    for (int64_t p = 0; p < panels; p++) {
      const int64_t row = row0 + (row1 - row0) * p / panels;
      const int rows = (int)(row0 + (row1 - row0) * (p + 1) / panels - row);
      if (may_overflow(j)) {
        wide_panel(j, rows, row, begin, end, panel);
      } else {
        fill_panel(j, rows, row, l0, length, panel);
        panel_by_columns(j, rows, panel, row, l0, length, begin, end);
      }
    }
    l0 += block;
  } while (l0 < j->k);
}

/* Units [begin, end) of (part of rows, slice of columns); the slices of a part are cut into cells. */
static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t panels = (j->m + PC_TILE_ROWS - 1) / PC_TILE_ROWS;
  for (int64_t d = begin / j->slices; d * j->slices < end; d++) {
    const int64_t row0 = panels * d / j->down * PC_TILE_ROWS, row1 = smaller(panels * (d + 1) / j->down * PC_TILE_ROWS, j->m);
    const int64_t s0 = d * j->slices < begin ? begin - d * j->slices : 0, s1 = smaller(end - d * j->slices, j->slices);
    const int64_t cells = (s1 - s0 + CELL - 1) / CELL;
    for (int64_t i = 0; i < cells; i++)
      cell(j, row0, row1, LANES * (s0 + (s1 - s0) * i / cells), smaller(LANES * (s0 + (s1 - s0) * (i + 1) / cells), j->n));
  }
}

static int multiply(job *j) {
  if (j->m < 0 || j->k < 0 || j->n < 0 || j->ldx < j->k || j->ldy < j->n) return PC_EINVAL;
  if (j->activation < PC_IDENTITY || j->activation > PC_RELU) return PC_EINVAL;
  if (j->m == 0 || j->n == 0) return PC_OK;
  int overflow = 0;
  j->overflow = &overflow;
  j->slices = (j->n + LANES - 1) / LANES;
  j->down = 1; /* threads share columns, so that each reads its own weights; rows too where there are many */
  while (4 * j->down * j->down * j->n <= pc_get_num_threads() * j->m && 2 * j->down * PC_TILE_ROWS <= j->m) j->down *= 2;
  const int64_t unit = (j->m + j->down - 1) / j->down * LANES * (j->k + 1);
  pc_for(j->down * j->slices, 1 + GRAIN / unit, run, j);
  return overflow ? PC_EOVERFLOW : PC_OK;
}

int PC_FN(gemm_u8s8)(int64_t m, int64_t k, int64_t n, const uint8_t *x, int64_t ldx, const int8_t *w, const int32_t *sums,
                     const int32_t *x_zero, const int32_t *w_zero, int32_t *y, int64_t ldy) {
  job j = {.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .y = y, .ldy = ldy};
  return multiply(&j);
}

int PC_FN(gemm_s8s8)(int64_t m, int64_t k, int64_t n, const int8_t *x, int64_t ldx, const int8_t *w, const int32_t *sums,
                     const int32_t *x_zero, const int32_t *w_zero, int32_t *y, int64_t ldy) {
  job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .flip = 0x80, .w = w, .sums = sums,
           .x_zero = x_zero, .w_zero = w_zero, .y = y, .ldy = ldy};
  return multiply(&j);
}

int PC_FN(gemm_u8s8_f32)(int64_t m, int64_t k, int64_t n, const uint8_t *x, int64_t ldx, const float *x_scale,
                         const int32_t *x_zero, const int8_t *w, const int32_t *sums, const float *w_scale,
                         const int32_t *w_zero, const float *bias, int32_t activation, float *y, int64_t ldy) {
  job j = {.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .sums = sums, .x_zero = x_zero, .w_zero = w_zero,
           .x_scale = x_scale, .w_scale = w_scale, .bias = bias, .activation = activation, .y = (int32_t *)y, .ldy = ldy};
  return multiply(&j);
}

int PC_FN(gemm_s8s8_f32)(int64_t m, int64_t k, int64_t n, const int8_t *x, int64_t ldx, const float *x_scale,
                         const int32_t *x_zero, const int8_t *w, const int32_t *sums, const float *w_scale,
                         const int32_t *w_zero, const float *bias, int32_t activation, float *y, int64_t ldy) {
  job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .flip = 0x80, .w = w, .sums = sums,
           .x_zero = x_zero, .w_zero = w_zero, .x_scale = x_scale, .w_scale = w_scale, .bias = bias,
           .activation = activation, .y = (int32_t *)y, .ldy = ldy};
  return multiply(&j);
}
