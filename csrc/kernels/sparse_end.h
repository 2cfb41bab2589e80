/* How a product with a sparse matrix ends: y = activation(chain + bias + residual), each step rounded. */
#ifndef PC_SPARSE_END_H
#define PC_SPARSE_END_H

#include <string.h>

#include "activation.h"
#include "table.h"
#include "vocabulary.h"

typedef struct {
  int64_t m, n;
  const float *scale, *bias; /* [n] or NULL; scale multiplies the chain first */
  const float *residual;     /* [m,n] or NULL */
  int32_t activation;
  float *y;
  int64_t y_row, y_column;
} pc_end;

static inline int pc_end_is_plain(const pc_end *e) {
  return !e->scale && !e->bias && !e->residual && e->activation == PC_IDENTITY;
}

/* That of row i of x alone. */
static inline pc_end pc_end_of(const pc_end *e, int64_t i) {
  pc_end row = *e;
  row.y += i * row.y_row;
  if (row.residual) row.residual += i * row.n;
  return row;
}

/* residual[i0 .. i0 + 16, row] */
PC_INLINE vf16 pc_residual_column(const pc_end *e, int64_t i0, int64_t row) {
  float column[LANES] = {0};
  for (int64_t i = 0; i < LANES && i0 + i < e->m; i++) column[i] = e->residual[(i0 + i) * e->n + row];
  return vf_load(column);
}

/* y[i][r] = chains[r][i] for at most sixteen of each. */
PC_INLINE void pc_deliver(float *y, int64_t y_row, const float *chains, int64_t width, int64_t rows, int64_t lanes) {
  vf16 block[LANES];
  if (rows >= LANES && lanes >= LANES) { /* nothing asked of each: most blocks are whole */
#pragma GCC unroll 16
    for (int r = 0; r < LANES; r++) block[r] = vf_load(chains + r * width);
    vf_transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) vf_store(y + i * y_row, block[i]);
    return;
  }
  for (int r = 0; r < LANES; r++) block[r] = r < rows ? vf_load(chains + r * width) : vf_zero();
  vf_transpose(block);
  for (int i = 0; i < LANES && i < lanes; i++)
    if (rows >= LANES) vf_store(y + i * y_row, block[i]);
    else vf_store_n(y + i * y_row, rows, block[i]);
}

/* The same for any number of either. Where rows of y lie whole pages apart, their lines share a set of the first cache, which
 * does not hold sixteen: there four lines of a row at a time are put together first. */
static inline void pc_deliver_all(float *y, int64_t y_row, const float *chains, int64_t width, int64_t rows, int64_t lanes) {
  enum { PAGE = 1024, SIDE = 4 * LANES };
  _Alignas(64) float together[LANES * SIDE];
  for (int64_t i = 0; i < lanes; i += LANES) /* few rows of y at a time, each line after line */
    for (int64_t r = 0, step; r < rows; r += step) {
      const float *from = chains + r * width + i;
      float *to = y + i * y_row + r;
      if (y_row % PAGE || rows - r < SIDE) {
        step = LANES;
        pc_deliver(to, y_row, from, width, rows - r, lanes - i);
        continue;
      }
      step = SIDE;
      for (int s = 0; s < SIDE; s += LANES) pc_deliver(together + s, SIDE, from + s * width, width, LANES, LANES);
      for (int l = 0; l < LANES && i + l < lanes; l++) memcpy(to + l * y_row, together + l * SIDE, SIDE * sizeof *to);
    }
}

/* Rows row0 .. row0 + rows of the matrix are finished, against x's rows from i0 on: chains [rows][width] to y. */
static inline void pc_finish(const pc_end *e, int64_t i0, int64_t row0, int64_t rows, int64_t width, float *chains) {
  const int64_t lanes = smaller(e->m - i0, width);
  float *y = e->y + i0 * e->y_row + row0 * e->y_column;
  if (!pc_end_is_plain(e))
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < width; c += LANES) {
        vf16 v = vf_load(chains + r * width + c);
        if (e->scale) v = vf_mul(v, vf_set1(e->scale[row0 + r]));
        if (e->bias) v = vf_add(v, vf_set1(e->bias[row0 + r]));
        if (e->residual) v = vf_add(v, pc_residual_column(e, i0 + c, row0 + r));
        vf_store(chains + r * width + c, vf_activate(v, e->activation));
      }
  if (e->y_row == 1)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < lanes; i += LANES)
        vf_store_left(y + r * e->y_column + i, lanes - i, vf_load(chains + r * width + i));
  else if (e->y_column == 1)
    pc_deliver_all(y, e->y_row, chains, width, rows, lanes);
  else
    for (int64_t i = 0; i < lanes; i++)
      for (int64_t r = 0; r < rows; r++) memcpy(y + i * e->y_row + r * e->y_column, chains + r * width + i, sizeof *y); /* or int32 */
}

/* One row of x: y[row0 .. row0 + count) holds the chains. */
static inline void pc_finish_row(const pc_end *e, int64_t row0, int64_t count) {
  if (pc_end_is_plain(e)) return;
  for (int64_t j = row0; j < row0 + count; j += LANES) {
    const int64_t lanes = smaller(row0 + count - j, LANES);
    vf16 v = vf_load_n(e->y + j, lanes);
    if (e->scale) v = vf_mul(v, vf_load_n(e->scale + j, lanes));
    if (e->bias) v = vf_add(v, vf_load_n(e->bias + j, lanes));
    if (e->residual) v = vf_add(v, vf_load_n(e->residual + j, lanes));
    vf_store_n(e->y + j, lanes, vf_activate(v, e->activation));
  }
}

/* from[rows[i]] in lane i, anything where that is negative */
PC_INLINE vf16 pc_of_rows(const float *from, const int32_t *rows) {
  float lanes[LANES];
  for (int i = 0; i < LANES; i++) lanes[i] = from[rows[i] < 0 ? 0 : rows[i]];
  return vf_load(lanes);
}

/* One row of x, 16 rows of the matrix that lie anywhere: lane i is row rows[i], none where that is negative. */
PC_INLINE void pc_finish_scattered(const pc_end *e, vf16 v, const int32_t *rows) {
  if (!pc_end_is_plain(e)) {
    if (e->scale) v = vf_mul(v, pc_of_rows(e->scale, rows));
    if (e->bias) v = vf_add(v, pc_of_rows(e->bias, rows));
    if (e->residual) v = vf_add(v, pc_of_rows(e->residual, rows));
    v = vf_activate(v, e->activation);
  }
  float lanes[LANES];
  vf_store(lanes, v);
  for (int i = 0; i < LANES; i++)
    if (rows[i] >= 0) e->y[rows[i]] = lanes[i];
}

/* The same of sums of products of codes: y = sum + offset, which may be NULL. */
PC_INLINE void pc_finish_codes(const int32_t *offset, vi16 sums, const int32_t *rows, int32_t *y) {
  int32_t lanes[LANES];
  vi_store(lanes, sums);
  for (int i = 0; i < LANES; i++)
    if (rows[i] >= 0) y[rows[i]] = (int32_t)((uint32_t)lanes[i] + (offset ? (uint32_t)offset[rows[i]] : 0));
}
#endif
