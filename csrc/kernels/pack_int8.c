/* The layout of the 8-bit products (int8.h), and the sums of columns: packed[p][g][s][j][i] = w[4 g + i, 48 p + 16 s + j], zero
 * past the last row and column.
 *
 * Most lines are made in registers: of four rows whose codes lie beside each other, or of sixteen columns that do.
 * Limit: memory, two bytes a code. */
#include "int8.h"

enum {
  TOGETHER = 8,        /* strips that take four rows of w in turn: six cache lines of each */
  GRAIN = 1 << 16,     /* codes that pay for waking a thread */
  DEEP = LANES * GROUP /* rows of w that fill sixteen lines of a slice */
};

typedef struct {
  int64_t k, n;
  const int8_t *w;
  int64_t w_row, w_column;
  int8_t *packed;
  int32_t *sums;
} job;

/* Line g of slice s. */
PC_INLINE int8_t *line_of(const job *j, int64_t s, int64_t g) {
  return j->packed + slice_at(j->k, s) + g * STEP;
}

/* A line is stored, and counts for the sums of its columns. */
PC_INLINE void put(int8_t *to, vi16 line, vi16 *sums) {
  vi_store(to, line);
  *sums = vi_dot_u8s8(*sums, vi_set1(0x01010101), line);
}

PC_INLINE vi16 bytes_at(const int8_t *w) { return vi_load_u8((const uint8_t *)w); }

/* Lines [0, k / 4) of whole slices, the first of a strip, of rows in which columns lie beside each other. */
static void from_rows(const job *j, int64_t begin, int64_t end, vi16 *sums) {
  const int64_t row = j->w_row, strip = groups_of(j->k) * STEP;
  for (int64_t g = 0; g < j->k / GROUP; g++) {
    const int8_t *w = j->w + GROUP * g * row + LANES * begin;
    int8_t *to = line_of(j, begin, g);
    for (int64_t s = 0; s < end - begin; s += BESIDE, to += strip)
      for (int64_t c = 0; c < smaller(BESIDE, end - begin - s); c++, w += LANES) {
        const vi16 low = vi_or(bytes_at(w), vi_shl(bytes_at(w + row), 8));
        const vi16 high = vi_or(bytes_at(w + 2 * row), vi_shl(bytes_at(w + 3 * row), 8));
        put(to + LINE * c, vi_or(low, vi_shl(high, 16)), sums + s + c);
      }
  }
}

/* Lines [0, k / 64 * 16) of a whole slice, of columns whose codes lie beside each other. */
static void from_columns(const job *j, int64_t s, vi16 *sums) {
  for (int64_t l = 0; l + DEEP <= j->k; l += DEEP) {
    const int8_t *w = j->w + LANES * s * j->w_column + l;
    vf16 block[LANES];
    for (int c = 0; c < LANES; c++, w += j->w_column) block[c] = vf_from_bits(vi_load(w));
    vf_transpose(block);
    for (int c = 0; c < LANES; c++) put(line_of(j, s, l / GROUP + c), vi_from_bits(block[c]), sums);
  }
}

/* Lines of a slice from g on, code by code. */
static void from_codes(const job *j, int64_t s, int64_t g, vi16 *sums) {
  const int64_t columns = smaller(j->n - s * LANES, LANES);
  for (; g < groups_of(j->k); g++) {
    int8_t line[LINE] = {0};
    for (int64_t i = 0; columns > 0 && i < GROUP && GROUP * g + i < j->k; i++) {
      const int8_t *w = j->w + (GROUP * g + i) * j->w_row + s * LANES * j->w_column;
      for (int64_t c = 0; c < columns; c++) line[c * GROUP + i] = w[c * j->w_column];
    }
    put(line_of(j, s, g), vi_load(line), sums);
  }
}

/* Strips [begin, end). */
static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t p = begin; p < end; p += TOGETHER) {
    const int64_t first = BESIDE * p, last = BESIDE * smaller(p + TOGETHER, end), whole = smaller(last, j->n / LANES);
    vi16 sums[BESIDE * TOGETHER];
    for (int s = 0; s < BESIDE * TOGETHER; s++) sums[s] = vi_zero();
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

int PC_FN(pack_s8)(int64_t k, int64_t n, const int8_t *w, int64_t w_row, int64_t w_column, int8_t *packed, int32_t *sums) {
  if (k < 0 || n < 0) return PC_EINVAL;
  const job j = {k, n, w, w_row, w_column, packed, sums};
  pc_for((n + BESIDE * LANES - 1) / (BESIDE * LANES), 1 + GRAIN / (BESIDE * LANES * (k + 1)), run, &j);
  return PC_OK;
}
