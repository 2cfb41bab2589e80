/* y[i,j] = sum over l of (x[i,l] - zx[i]) * (w[l,j] - zw[j]), exact, as int32; or its fused epilogue (int8.h) to floats or
 * codes.
 *
 * Zero points come out of the sum,
 *     sum x*w  -  zx * sum w  -  zw * (sum x - k*zx),
 * and every step is exact modulo 2^32, so a result that fits int32 is exact whatever the order. Where k is so large that
 * it might not fit, sums are made in 64 bits and checked.
 *
 * Threads share the strips, and rows where there are many; tiles (int8_tiles.h) multiply, and where a level has another way
 * for many rows, those of gemm_int8_amx.c, _pairs.c and _sums.c.
 * Limit: the dot-product units for m >= 8, the bandwidth of the weights below. */
#include "int8_tiles.h"

enum {
  BLOCK = 2048,          /* l in a block of a product that may overflow */
  SHORTEST = 64,         /* rows of a part, twice as many where adding blocks counts less the more they are; */
  PARTS = 4,             /* at most so many for each thread */
  DEARER = 4,            /* columns of weights that are read like a row of x, which another thread may have just written */
  STRIPS = 4,            /* for each thread, that are enough to cut between strips alone */
  PACKING = 16,          /* rows that take as long as packing loose weights */
  LOOKING = 16,          /* rows that pay for looking at all weights, even where those come from memory */
  SUMMED_ROWS = 20,      /* rows, */
  SUMMED_DEPTH = 256,    /* k, */
  SUMMED_COLUMNS = 192,  /* and columns that pay for widening all codes before they are multiplied */
  GRAIN = 1 << 19        /* multiply-adds that pay for waking a thread */
};

_Static_assert(SUMMED_ROWS >= 6, "panels of products of sums have three rows or four");

/* One tile where the sums may leave int32: each block is exact, and the total is checked. */
static void wide_tile(const int8_job *j, int rows, int64_t row, int vectors, int64_t column) {
  _Alignas(64) pc_code panel[PC_DOT_ROWS * (BLOCK + GAP)];
  const int64_t stride = BLOCK + GAP, span = LANES * vectors, width = smaller(j->n - column, span);
  int64_t total[PC_DOT_ROWS * BESIDE * LANES] = {0};
  int32_t part[PC_DOT_ROWS * BESIDE * LANES];
  for (int64_t l0 = 0; l0 < j->k; l0 += BLOCK) {
    const int64_t length = smaller(j->k - l0, BLOCK), groups = groups_of(length);
    const int8_t *w = j->w + slice_at(j->k, column / LANES) + l0 / GROUP * STEP;
    copy_rows(j, rows, row, l0, length, panel, stride);
    const tile_job of = {.groups = groups, .stride = stride, .ld = span, .panel = panel, .w = w, .sums = part};
    run_tile(rows, vectors, &of);
    int64_t shift[PC_DOT_ROWS];
    for (int i = 0; i < rows; i++) {
      const int64_t zero = (j->x_zero ? j->x_zero[row + i] : 0) + moved(j);
      shift[i] = -length * zero;
      for (int64_t l = 0; l < length; l++) shift[i] += panel[i * stride + l];
    }
    for (int64_t c = 0; c < width; c++) {
      int64_t sum = 0;
      for (int64_t l = 0; l < GROUP * groups; l++) sum += w[l / GROUP * STEP + c * GROUP + l % GROUP];
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

static void part_wide(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  for (int64_t row = row0, rows; row < row1; row += rows) {
    rows = smaller(row1 - row, PC_DOT_ROWS);
    int vectors;
    for (int64_t c = begin; c < end; c += LANES * vectors) {
      vectors = (int)smaller((end - c + LANES - 1) / LANES, of_strip(c / LANES, PC_DOT_VECTORS(rows)));
      wide_tile(j, (int)rows, row, vectors, c);
    }
  }
}

/* Below FEW rows the weights' way through the caches is all that counts, and vectors prefetch them better. */
static int by_amx(const int8_job *j) {
#ifdef __AMX_INT8__
  enum { FEW = 5 };
  return j->m >= FEW && !may_overflow(j->k, j->w_zero != NULL);
#else
  (void)j;
  return 0;
#endif
}

#ifdef PC_DOT_PAIRS
/* Whether all weights of these columns are such that pairs of them, times any bytes, stay in 16 bits: of 7 bits they are. Most
 * others show it within a few lines. */
static int pairs_fit(const int8_job *j, int64_t begin, int64_t end) {
  for (int64_t slice = begin / LANES; slice * LANES < end; slice++) {
    const int8_t *w = j->w + slice_at(j->k, slice);
    for (int64_t g = 0; g < groups_of(j->k); g++)
      if (!pc_pairs_fit(w + STEP * g)) return 0;
  }
  return 1;
}
#endif

/* Whether so many rows and columns are products of sums, unless pairs of their weights fit. */
static int is_summed(const int8_job *j, int64_t rows, int64_t columns) {
#ifdef PC_DOT_SUMS
  return rows >= SUMMED_ROWS && j->k >= SUMMED_DEPTH && columns >= SUMMED_COLUMNS;
#else
  (void)j, (void)rows, (void)columns;
  return 0;
#endif
}

void PC_FN(int8_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  if (may_overflow(j->k, j->w_zero != NULL)) part_wide(j, row0, row1, begin, end);
#ifdef __AMX_INT8__
  else if (by_amx(j)) PC_FN(int8_amx_part)(j, row0, row1, begin, end);
#endif
#ifdef PC_DOT_PAIRS
  else if (row1 - row0 >= LOOKING && pairs_fit(j, begin, end)) PC_FN(int8_pairs_part)(j, row0, row1, begin, end);
#endif
#ifdef PC_DOT_SUMS
  else if (is_summed(j, row1 - row0, end - begin)) PC_FN(int8_sums_part)(j, row0, row1, begin, end);
#endif
  else part_by_rows(j, row0, row1, begin, end);
}

/* Units [begin, end) of (part of rows, columns). */
static void run(int64_t begin, int64_t end, const void *context) {
  const int8_job *j = context;
  for (int64_t d = begin / j->units; d * j->units < end; d++) {
    const int64_t panels = (j->m + PC_DOT_ROWS - 1) / PC_DOT_ROWS; /* parts are cut between them */
    const int64_t row0 = PC_DOT_ROWS * (panels * d / j->down), row1 = smaller(PC_DOT_ROWS * (panels * (d + 1) / j->down), j->m);
    const int64_t u0 = d * j->units < begin ? begin - d * j->units : 0, u1 = smaller(end - d * j->units, j->units);
    const int64_t c0 = j->unit * u0, c1 = smaller(j->unit * u1, j->n);
    if (j->loose) PC_FN(int8_loose_part)(j, row0, row1, c0, c1);
    else PC_FN(int8_part)(j, row0, row1, c0, c1);
  }
}

/* Threads share columns, so that each reads its own weights; and rows where there are many, since whoever takes columns copies
 * all rows beside them. AMX reads x where it is: of p parts of rows, twice as many are better while they save more of x, m/2p rows
 * for each thread, than they add of weights, p*n/threads columns. Loose weights are packed by each part, which counts more. */
static int64_t parts_down(const int8_job *j) {
  const int64_t threads = pc_get_num_threads(), shortest = is_summed(j, j->m, j->n) ? 2 * SHORTEST : SHORTEST;
  int64_t parts = 1;
  if (by_amx(j) || j->loose)
    while (4 * parts * parts * j->n < (j->loose ? 1 : 2 * DEARER) * threads * j->m && SHORTEST * parts <= j->m) parts *= 2;
  else if (threads > 1 && j->m >= 2 * shortest)
    parts = smaller(j->m / shortest, PARTS * threads);
  return parts;
}

/* Units of a share, at least. Where products are of sums each widens x anew: two for each thread, or one of columns enough. */
static int64_t share_of(const int8_job *j, int64_t work) {
  const int64_t least = 1 + GRAIN / work, units = j->down * j->units, threads = pc_get_num_threads();
  if (!is_summed(j, j->m / j->down, j->n)) return least;
  const int64_t shares = threads * (units / (2 * threads) * j->unit >= SUMMED_COLUMNS ? 2 : 1);
  const int64_t even = (units + shares - 1) / shares;
  return even > least ? even : least;
}

int PC_FN(int8_multiply)(int8_job *j) {
  if (j->m < 0 || j->k < 0 || j->n < 0 || j->ldx < j->k || j->ldy < j->n) return PC_EINVAL;
  if (!pc_is_activation(j->activation) || !has_grid(j)) return PC_EINVAL;
  if (j->m == 0 || j->n == 0) return PC_OK;
  int status = PC_OK;
  j->status = &status;
  const int many = j->n >= STRIPS * BESIDE * LANES * pc_get_num_threads(); /* else threads share slices */
  j->unit = LANES * (by_amx(j) ? 4 : many ? BESIDE : 1);
  j->units = (j->n + j->unit - 1) / j->unit;
  j->down = parts_down(j);
  j->own = j->k * j->n / pc_get_num_threads();
  const int64_t work = ((j->m + j->down - 1) / j->down + (j->loose ? PACKING : 0)) * j->unit * (j->k + 1);
  pc_for(j->down * j->units, share_of(j, work), run, j);
  return status;
}

/* -- entries: x unsigned or signed, results of each type */
#define INTEGERS(name, x_type, has_sign)                                                                                  \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const int8_t *w, const int32_t *sums,    \
                  const int32_t *x_zero, const int32_t *w_zero, int32_t *y, int64_t ldy) {                                \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = has_sign, .w = w,             \
                  .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .to = TO_I32, .y = y, .ldy = ldy};                    \
    return PC_FN(int8_multiply)(&j);                                                                                      \
  }
#define RESULTS(name, x_type, has_sign, type, parameters, scale, zero)                                                    \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const float *x_scale,                    \
                  const int32_t *x_zero, const int8_t *w, const int32_t *sums, const float *w_scale,                      \
                  const int32_t *w_zero, const float *bias, const float *residual, int32_t activation, parameters,        \
                  int64_t ldy) {                                                                                          \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = has_sign, .w = w,             \
                  .sums = sums, .x_zero = x_zero, .w_zero = w_zero, .x_scale = x_scale, .w_scale = w_scale, .bias = bias, \
                  .residual = residual, .activation = activation, .to = type, .y_scale = scale, .y_zero = zero,           \
                  .y = y, .ldy = ldy};                                                                                    \
    return PC_FN(int8_multiply)(&j);                                                                                      \
  }
INTEGERS(gemm_u8s8, uint8_t, 0)
INTEGERS(gemm_s8s8, int8_t, 1)
RESULTS(gemm_u8s8_f32, uint8_t, 0, TO_F32, float *y, 0, 0)
RESULTS(gemm_s8s8_f32, int8_t, 1, TO_F32, float *y, 0, 0)
RESULTS(gemm_u8s8_f16, uint8_t, 0, TO_F16, uint16_t *y, 0, 0)
RESULTS(gemm_s8s8_f16, int8_t, 1, TO_F16, uint16_t *y, 0, 0)
RESULTS(gemm_u8s8_bf16, uint8_t, 0, TO_BF16, uint16_t *y, 0, 0)
RESULTS(gemm_s8s8_bf16, int8_t, 1, TO_BF16, uint16_t *y, 0, 0)
RESULTS(gemm_u8s8_s8, uint8_t, 0, TO_S8, PC_ALL(float y_scale, int32_t y_zero, int8_t *y), y_scale, y_zero)
RESULTS(gemm_s8s8_s8, int8_t, 1, TO_S8, PC_ALL(float y_scale, int32_t y_zero, int8_t *y), y_scale, y_zero)
RESULTS(gemm_u8s8_u8, uint8_t, 0, TO_U8, PC_ALL(float y_scale, int32_t y_zero, uint8_t *y), y_scale, y_zero)
RESULTS(gemm_s8s8_u8, int8_t, 1, TO_U8, PC_ALL(float y_scale, int32_t y_zero, uint8_t *y), y_scale, y_zero)
