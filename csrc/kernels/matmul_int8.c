/* y[i,j] = sum over l of (x[i,l] - zx[i]) * (w[l,j] - zw[j]) of matrices as they come, exact: the product of gemm_int8.c, of
 * whose weights each thread packs some columns of a block of k at a time, and all rows pass them while L2 has them. (A whole w
 * packed is written to memory and read again: with few rows that is most of the time.) What a block after the first gives is
 * added to y, exact modulo 2^32; where a sum might not fit int32, a block is all of k, and gemm_int8.c checks it. Very few rows
 * without zero points, where columns of w lie beside each other, multiply lines where they are made, and w is read row after row.
 * Limit: making the lines for few rows, 4 loads each, the dot-product units for many. */
#include "heap.h"
#include "strips.h"

enum {
  SHALLOW_ROWS = 32, /* up to so many rows, reading w counts, and blocks are shallow and wide; else adding to y does */
  SHALLOW = 512,     /* k of a block, at most; */
  DEEPEST = 1024,    /* of others */
  ROOM = 1 << 19,    /* bytes of packed weights, */
  WIDEST = 16,       /* and strips, of a block */
  VERY_FEW = PC_DOT_PARTS == 1 ? 4 : 1, /* rows that packing is not worth: fewer where products are of widened codes; */
  SUMS = 256         /* vectors of theirs that are summed at a time: 16 KB, in L1 beside the lines */
};

/* k of a block: all alike, give or take some, and whole lines of columns. */
static int64_t depth_of(int64_t k, int64_t most) {
  const int64_t blocks = k > most ? (k + most - 1) / most : 1;
  return (k + blocks * DEEP - 1) / (blocks * DEEP) * DEEP;
}

/* Columns [c, c + width) of `length` rows from l on: packed, and multiplied by rows [row0, row1) of x. */
static void block(const int8_job *j, int64_t row0, int64_t row1, int64_t l, int64_t length, int64_t c, int64_t width,
                  int8_t *packed) {
  int32_t sums[WIDEST * BESIDE * LANES], zero[WIDEST * BESIDE * LANES];
  loose w = *j->loose;
  w.k = length;
  w.n = width;
  w.slices = (width + LANES - 1) / LANES;
  w.w += l * w.w_row + c * w.w_column;
  w.packed = packed;
  w.sums = sums;
  pack_strips(&w, 0, strips_of(width));
  int8_job of = *j;
  of.k = length;
  of.n = width;
  of.x = j->x + l;
  of.y = (int32_t *)j->y + c;
  of.w = packed;
  of.sums = sums;
  of.adds = l > 0;
  of.unit = 4 * LANES; /* of AMX, whatever threads share */
  if (w.is_unsigned) { /* signed codes are 128 less, and so are their zero points */
    int32_t some = 0;
    for (int64_t i = 0; i < width; i++) some |= zero[i] = (j->w_zero ? j->w_zero[c + i] : 0) - 128;
    of.w_zero = some ? zero : NULL;
  } else if (j->w_zero) {
    of.w_zero = j->w_zero + c;
  }
  PC_FN(int8_part)(&of, row0, row1, 0, width);
}

/* Columns [begin, end), rows of w from l on, block by block. */
static void blocks(const int8_job *j, int64_t row0, int64_t row1, int64_t l, int64_t begin, int64_t end) {
  const int whole = may_overflow(j->k, j->w_zero || j->loose->is_unsigned);
  const int64_t depth = whole ? j->k : depth_of(j->k - l, row1 - row0 > SHALLOW_ROWS ? DEEPEST : SHALLOW);
  const int64_t bytes = groups_of(depth) * STEP;
  const int64_t room = smaller(WIDEST, 1 + ROOM / (bytes + 1)), strips = smaller(room, strips_of(end - begin));
  void *found;
  int8_t *const packed = pc_heap((size_t)(strips * bytes), &found);
  if (!packed) {
    fail(j, PC_ENOMEM);
    return;
  }
  do {
    for (int64_t c = begin; c < end; c += strips * BESIDE * LANES)
      block(j, row0, row1, l, smaller(depth, j->k - l), c, smaller(strips * BESIDE * LANES, end - c), packed);
    l += depth;
  } while (l < j->k);
  free(found);
}

/* -- very few rows of x: lines are multiplied where they are made */

/* So many groups of four rows of w, at most two: what is summed goes to memory half as often. */
PC_INLINE void add_groups(int rows, int groups, int is_signed, const int8_t *w, int64_t row, vi16 move, const uint8_t *x,
                          int64_t ldx, int64_t vectors, vi16 *sums) {
  vi16 codes[VERY_FEW][2];
#pragma GCC unroll 4
  for (int i = 0; i < rows; i++)
    for (int g = 0; g < groups; g++) codes[i][g] = vi_set1_bytes(x + i * ldx + GROUP * g);
  for (int64_t c = 0; c < vectors; c++, w += LANES) {
    vi16 lines[2];
    for (int g = 0; g < groups; g++) lines[g] = line_at(w + GROUP * g * row, row, move);
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
      vi16 sum = sums[i * vectors + c];
#pragma GCC unroll 2
      for (int g = 0; g < groups; g++)
        sum = is_signed ? vi_dot_u8s8(sum, lines[g], codes[i][g]) : vi_dot_u8s8(sum, codes[i][g], lines[g]);
      sums[i * vectors + c] = sum;
    }
  }
}

/* All groups of k rows of w. */
PC_INLINE void add_all(int rows, int is_signed, const int8_t *w, int64_t row, vi16 move, const uint8_t *x, int64_t ldx, int64_t k,
                       int64_t vectors, vi16 *sums) {
  int64_t l = 0;
  for (; l + 2 * GROUP <= k; l += 2 * GROUP) add_groups(rows, 2, is_signed, w + l * row, row, move, x + l, ldx, vectors, sums);
  if (l < k) add_groups(rows, 1, is_signed, w + l * row, row, move, x + l, ldx, vectors, sums);
}

/* Rows [row0, row1) of x; of w whole slices of columns, [begin, end), and rows in whole groups, [0, k). A dot product takes unsigned
 * codes and signed ones: where x and w are alike, w moves, and the sums of a row owe 128 times the row's. */
static void very_few_rows(const int8_job *j, int64_t row0, int64_t row1, int64_t k, int64_t begin, int64_t end) {
  const loose *w = j->loose;
  const int is_signed = j->is_signed, moves = is_signed != w->is_unsigned, rows = (int)(row1 - row0);
  const vi16 move = signs(moves);
  const uint8_t *x = j->x + row0 * j->ldx;
  int32_t *y = (int32_t *)j->y + row0 * j->ldy;
  int32_t total[VERY_FEW] = {0};
  for (int i = 0; i < rows; i++) total[i] = (int32_t)row_sum(j, row0 + i, k);
  for (int64_t c = begin, vectors; c < end; c += LANES * vectors) {
    vi16 sums[SUMS];
    vectors = smaller(SUMS / rows, (end - c) / LANES);
    for (int64_t v = 0; v < rows * vectors; v++) sums[v] = vi_set1(moves ? (is_signed ? -128 : 128) * total[v / vectors] : 0);
#define ROWS(r)                                                                          \
  case r:                                                                                \
    if ((r) > VERY_FEW) break;                                                           \
    if (is_signed) add_all(r, 1, w->w + c, w->w_row, move, x, j->ldx, k, vectors, sums); \
    else add_all(r, 0, w->w + c, w->w_row, move, x, j->ldx, k, vectors, sums);           \
    break;
    switch (rows) { ROWS(1) ROWS(2) ROWS(3) ROWS(4) }
    for (int64_t v = 0; v < rows * vectors; v++) {
      const int64_t i = v / vectors, at = c + LANES * (v % vectors);
      if (j->w_zero) sums[v] = vi_sub(sums[v], vi_mul(vi_set1(total[i]), vi_load(j->w_zero + at)));
      vi_store(y + i * j->ldy + at, sums[v]);
    }
  }
}

void PC_FN(int8_loose_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  const int directly = row1 - row0 <= VERY_FEW && !j->x_zero && j->loose->w_column == 1 && !may_overflow(j->k, 1);
  const int64_t grouped = directly ? j->k / GROUP * GROUP : 0, whole = grouped ? begin + (end - begin) / LANES * LANES : begin;
  if (begin < whole) {
    very_few_rows(j, row0, row1, grouped, begin, whole);
    if (grouped < j->k) blocks(j, row0, row1, grouped, begin, whole);
  }
  if (whole < end) blocks(j, row0, row1, 0, whole, end);
}

/* -- entries: x and w unsigned or signed */
#define ENTRY(name, x_type, x_signed, w_type, w_signed)                                                                   \
  int PC_FN(name)(int64_t m, int64_t k, int64_t n, const x_type *x, int64_t ldx, const w_type *w, int64_t w_row,          \
                  int64_t w_column, const int32_t *x_zero, const int32_t *w_zero, int32_t *y, int64_t ldy) {              \
    const loose codes = {.w = (const int8_t *)w, .w_row = w_row, .w_column = w_column, .is_unsigned = !(w_signed)};       \
    int8_job j = {.m = m, .k = k, .n = n, .x = (const uint8_t *)x, .ldx = ldx, .is_signed = x_signed, .loose = &codes,    \
                  .x_zero = x_zero, .w_zero = w_zero, .to = TO_I32, .y = y, .ldy = ldy};                                  \
    return PC_FN(int8_multiply)(&j);                                                                                      \
  }
ENTRY(matmul_u8s8, uint8_t, 0, int8_t, 1)
ENTRY(matmul_s8s8, int8_t, 1, int8_t, 1)
ENTRY(matmul_u8u8, uint8_t, 0, uint8_t, 0)
ENTRY(matmul_s8u8, int8_t, 1, uint8_t, 0)
