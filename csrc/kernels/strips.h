/* Packing of 8-bit weights in the layout of their products (int8.h), and the sums of columns: line g of slice s of strip p is
 * w[4 g + i, 48 p + 16 s + j], zero past the last row and column.
 *
 * Most lines are made in registers: of four rows whose codes lie beside each other, or of sixteen columns that do. */
#ifndef PC_STRIPS_H
#define PC_STRIPS_H

#include "int8.h"

enum {
  PASS = 16,           /* strips that take four rows of w in turn: twelve cache lines of each */
  DEEP = LANES * GROUP /* rows of w that fill sixteen lines of a slice */
};

/* Weights as they came and, from the first strip on, where they go. Unsigned ones become signed, 128 less. */
typedef struct loose {
  int64_t k, n;
  const int8_t *w;
  int64_t w_row, w_column;
  int is_unsigned;
  int64_t slices; /* that are filled: all of a strip where it is to be kept, none beyond n where no tile reads them */
  int8_t *packed;
  int32_t *sums;
} loose;

/* Line g of slice s. */
PC_INLINE int8_t *line_of(const loose *j, int64_t s, int64_t g) { return j->packed + slice_at(j->k, s) + g * STEP; }

/* What moves codes by 128, or not: signed ones become unsigned, and unsigned ones signed. */
PC_INLINE vi16 signs(int move) { return vi_set1(move ? (int32_t)0x80808080 : 0); }

/* A line is stored, and counts for the sums of its columns. */
PC_INLINE void put(int8_t *to, vi16 line, vi16 *sums) {
  vi_store(to, line);
  *sums = vi_dot_u8s8(*sums, vi_set1(0x01010101), line);
}

PC_INLINE vi16 bytes_at(const int8_t *w) { return vi_load_u8((const uint8_t *)w); }

/* A line of four rows in which columns lie beside each other. */
PC_INLINE vi16 line_at(const int8_t *w, int64_t row, vi16 move) {
  const vi16 low = vi_or(bytes_at(w), vi_shl(bytes_at(w + row), 8));
  const vi16 high = vi_or(bytes_at(w + 2 * row), vi_shl(bytes_at(w + 3 * row), 8));
  return vi_xor(vi_or(low, vi_shl(high, 16)), move);
}

/* Those of `slices` slices beside each other. */
PC_INLINE void put_rows(int64_t slices, const int8_t *w, int64_t row, vi16 move, int8_t *to, vi16 *sums) {
#pragma GCC unroll 3
  for (int64_t c = 0; c < slices; c++) put(to + LINE * c, line_at(w + LANES * c, row, move), sums + c);
}

/* Lines [0, k / 4) of whole slices, the first of a strip, of rows in which columns lie beside each other. */
static void from_rows(const loose *j, int64_t begin, int64_t end, vi16 *sums) {
  const int64_t row = j->w_row, strip = groups_of(j->k) * STEP, left = (end - begin) % BESIDE;
  const vi16 move = signs(j->is_unsigned);
  for (int64_t g = 0; g < j->k / GROUP; g++) {
    const int8_t *w = j->w + GROUP * g * row + LANES * begin;
    int8_t *to = line_of(j, begin, g);
    int64_t s = 0;
    for (; s < end - begin - left; s += BESIDE, to += strip, w += BESIDE * LANES) put_rows(BESIDE, w, row, move, to, sums + s);
    if (left) put_rows(left, w, row, move, to, sums + s);
  }
}

/* Lines [0, k / 64 * 16) of a whole slice, of columns whose codes lie beside each other. */
static void from_columns(const loose *j, int64_t s, vi16 *sums) {
  const vi16 move = signs(j->is_unsigned);
  for (int64_t l = 0; l + DEEP <= j->k; l += DEEP) {
    const int8_t *w = j->w + LANES * s * j->w_column + l;
    vf16 block[LANES];
    for (int c = 0; c < LANES; c++, w += j->w_column) block[c] = vf_from_bits(vi_load(w));
    vf_transpose(block);
    for (int c = 0; c < LANES; c++) put(line_of(j, s, l / GROUP + c), vi_xor(vi_from_bits(block[c]), move), sums);
  }
}

/* Lines of a slice from g on, code by code. */
static void from_codes(const loose *j, int64_t s, int64_t g, vi16 *sums) {
  const int64_t columns = smaller(j->n - s * LANES, LANES);
  for (; g < groups_of(j->k); g++) {
    int8_t line[LINE] = {0};
    for (int64_t i = 0; columns > 0 && i < GROUP && GROUP * g + i < j->k; i++) {
      const int8_t *w = j->w + (GROUP * g + i) * j->w_row + s * LANES * j->w_column;
      for (int64_t c = 0; c < columns; c++) line[c * GROUP + i] = (int8_t)(w[c * j->w_column] ^ (j->is_unsigned ? -128 : 0));
    }
    put(line_of(j, s, g), vi_load(line), sums);
  }
}

/* Strips [begin, end), and the sums of their columns. */
static void pack_strips(const loose *j, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; p += PASS) {
    const int64_t first = BESIDE * p, last = smaller(BESIDE * smaller(p + PASS, end), j->slices), whole = smaller(last, j->n / LANES);
    vi16 sums[BESIDE * PASS];
    for (int s = 0; s < BESIDE * PASS; s++) sums[s] = vi_zero();
    if (j->w_column == 1) from_rows(j, first, whole, sums);
    for (int64_t s = first; s < last; s++) {
      const int64_t columns = smaller(j->n - s * LANES, LANES);
      int64_t made = 0;
      if (s < whole && j->w_column == 1) made = j->k / GROUP;
      else if (s < whole && j->w_row == 1) from_columns(j, s, sums + (s - first)), made = j->k / DEEP * LANES;
      from_codes(j, s, made, sums + (s - first));
      if (columns > 0) vi_store_n(j->sums + s * LANES, columns, sums[s - first]);
    }
  }
}
#endif
