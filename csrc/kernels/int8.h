/* What the drivers of the 8-bit products share: the call, where its weights lie, and the epilogue of a finished tile of sums.
 *
 * Weights are slices of 16 columns. A line of a slice is GROUP rows of it: what one dot product takes. BESIDE slices make a
 * strip, line by line beside each other, so that a product of few rows, whose limit is the reading, reads one stream. */
#ifndef PC_INT8_H
#define PC_INT8_H

#include "activation.h"
#include "codes.h"
#include "table.h"
#include "vocabulary.h"

enum {
  GROUP = 4,            /* l in one lane of a dot product */
  LINE = LANES * GROUP, /* bytes of weights that one dot product takes */
  BESIDE = 3,           /* slices of a strip, and vectors in the widest tile of any level */
  STEP = BESIDE * LINE  /* from one line of a slice to its next */
};

typedef enum { TO_I32, TO_F32, TO_F16, TO_BF16, TO_S8, TO_U8 } output;

typedef struct {
  int64_t m, k, n;
  const uint8_t *x;
  int64_t ldx;
  int is_signed;
  const int8_t *w;
  const int32_t *sums, *x_zero, *w_zero;
  const float *x_scale, *w_scale, *bias, *residual; /* none for TO_I32 */
  int32_t activation;
  output to;
  float y_scale; /* of codes */
  int32_t y_zero;
  void *y;
  int64_t ldy;
  int adds; /* sums TO_I32 are added to y */
  const struct loose *loose; /* weights in place of w and sums, or NULL */
  int64_t unit, units, down; /* columns of a unit of work; units across y; parts of rows */
  int64_t own;               /* bytes of weights for each thread, where they share columns alone */
  int *status;
} int8_job;

/* Bytes of a result. */
static inline int64_t size_of(output to) { return to == TO_I32 || to == TO_F32 ? 4 : to == TO_F16 || to == TO_BF16 ? 2 : 1; }

static inline int64_t groups_of(int64_t k) { return (k + GROUP - 1) / GROUP; }

static inline int64_t strips_of(int64_t n) { return (n + BESIDE * LANES - 1) / (BESIDE * LANES); }

/* Where slice s of weights of k rows begins. */
static inline int64_t slice_at(int64_t k, int64_t s) { return s / BESIDE * groups_of(k) * STEP + s % BESIDE * LINE; }

/* Of what several threads find, the largest is kept: the same whichever is last. */
PC_INLINE void fail(const int8_job *j, int status) {
  int found = __atomic_load_n(j->status, __ATOMIC_RELAXED);
  while (found < status && !__atomic_compare_exchange_n(j->status, &found, status, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
}

/* Stores one vector of float results at y[at..], as `to`. */
PC_INLINE void store_as(output to, const int8_job *j, int64_t at, int64_t lanes, vf16 f) {
  if (to == TO_F32) {
    vf_store_left((float *)j->y + at, lanes, f);
  } else if (to == TO_F16) {
    vf_store_f16_n((uint16_t *)j->y + at, lanes, f);
  } else if (to == TO_BF16) {
    vf_store_bf16_n((uint16_t *)j->y + at, lanes, f);
  } else {
    const int is_signed = to == TO_S8;
    const vm16 nan = vm_and(vf_isnan(f), vm_first(lanes));
    if (vm_bits(nan)) fail(j, PC_ENAN);
    const vf16 q = vf_div(f, vf_set1(j->y_scale));
    const vi16 low = vi_set1(is_signed ? -128 : 0), high = vi_set1(is_signed ? 127 : 255);
    vi_store_bytes_n((uint8_t *)j->y + at, lanes, code_of(q, vi_set1(j->y_zero), low, high));
  }
}

/* What a tile's epilogue works on: sums [rows][ld] of outputs from (row, column) on; zero, shift: of each row, or NULL. */
typedef struct {
  int rows;
  int64_t row, column, ld;
  const int32_t *zero, *shift, *sums;
} part;

/* Whether results can be codes of this scale and zero point, where they are codes. */
static inline int has_grid(const int8_job *j) {
  if (j->to != TO_S8 && j->to != TO_U8) return 1;
  const int32_t low = j->to == TO_S8 ? -128 : 0;
  return j->y_scale > 0.0f && j->y_scale < INFINITY && j->y_zero >= low && j->y_zero <= low + 255;
}

/* Whether sums end with scales and bias alone, but for zero points of w. */
static inline int ends_plainly(const int8_job *j) { return !j->residual && j->activation == PC_IDENTITY; }

/* Whether whole tiles of sums can end in registers (finish_tile). */
static inline int ends_lightly(const int8_job *j) { return (j->to == TO_F32 || j->to == TO_I32) && !j->w_zero && ends_plainly(j); }

PC_INLINE vf16 scaled(vi16 v, vf16 x_scale, vf16 w_scale, vf16 bias) { return vf_fma(vf_from_vi(v), vf_mul(x_scale, w_scale), bias); }
PC_INLINE vi16 less_zero(vi16 v, int32_t zero, vi16 sums) { return vi_sub(v, vi_mul(vi_set1(zero), sums)); }

/* One vector of columns, from column c of the part on, all rows. First, what zero points still owe:
 * v -= zx*sums + zw*shift. Then t = float(v), s = sx*sw, f = activation(fma(t, s, bias) + residual), stored as `to`; NULL
 * bias or residual: nothing is added but +0. For TO_I32, v itself, or y + v. `plain`: there are no zw, residual and activation; the
 * loop is a third as long then, and where tiles multiply, the epilogue is what a product waits for. */
PC_INLINE void finish_columns(output to, int plain, const int8_job *j, const part *p, int64_t c, int64_t lanes) {
  const int64_t column = p->column + c, ld = p->ld, ldy = j->ldy;
  const int32_t *from = p->sums + c, *zero = p->zero, *shift = plain ? NULL : p->shift;
  const float *x_scale = j->x_scale, *residual = plain ? NULL : j->residual;
  const int32_t activation = plain ? PC_IDENTITY : j->activation;
  const vi16 none = vi_zero(), sums = zero ? vi_load_n(j->sums + column, lanes) : none;
  const vi16 w_zero = shift ? vi_load_n(j->w_zero + column, lanes) : none;
  const vf16 w_scale = to == TO_I32 ? vf_zero() : vf_load_n(j->w_scale + column, lanes);
  const vf16 bias = to != TO_I32 && j->bias ? vf_load_n(j->bias + column, lanes) : vf_zero();
  int64_t row = p->row, at = row * ldy + column;
  for (int i = 0; i < p->rows; i++, row++, from += ld, at += ldy) {
    vi16 v = vi_load(from);
    if (zero) v = less_zero(v, zero[i], sums);
    if (shift) v = less_zero(v, shift[i], w_zero);
    if (to == TO_I32) {
      int32_t *y = (int32_t *)j->y + at;
      if (j->adds) v = vi_add(v, vi_load_n(y, lanes));
      if (lanes == LANES) vi_store(y, v);
      else vi_store_n(y, lanes, v);
      continue;
    }
    vf16 f = scaled(v, vf_set1(x_scale[row]), w_scale, bias);
    if (residual) f = vf_add(f, vf_load_n(residual + row * j->n + column, lanes));
    store_as(to, j, at, lanes, vf_activate(f, activation));
  }
}

PC_INLINE void finish_as(output to, const int8_job *j, const part *p, int64_t width) {
  const int plain = !p->shift && ends_plainly(j);
  int64_t c = 0;
  if (plain)
    for (; c + LANES <= width; c += LANES) finish_columns(to, 1, j, p, c, LANES);
  for (; c + LANES <= width; c += LANES) finish_columns(to, 0, j, p, c, LANES);
  if (c < width) finish_columns(to, 0, j, p, c, width - c);
}

/* The epilogue of rows x width sums [rows][ld], whole vectors of which can be read. */
static inline void finish(const int8_job *j, int rows, int64_t width, int64_t row, int64_t column, const int32_t *zero,
                          const int32_t *shift, const int32_t *sums, int64_t ld) {
  const part p = {rows, row, column, ld, zero, shift, sums};
#define CASE(to) case to: finish_as(to, j, &p, width); break
  switch (j->to) {
    CASE(TO_I32);
    CASE(TO_F32);
    CASE(TO_F16);
    CASE(TO_BF16);
    CASE(TO_S8);
    CASE(TO_U8);
  }
#undef CASE
}

/* A tile of sums or floats that owes nothing but zero points of x, finished in registers: the same steps. */
PC_INLINE void finish_tile(const int8_job *j, int rows, int vectors, vi16 v[][BESIDE], int64_t row, int64_t column,
                           const int32_t *zero) {
  const int64_t ldy = j->ldy;
  if (zero)
#pragma GCC unroll 8
    for (int c = 0; c < vectors; c++) {
      const vi16 sums = vi_load(j->sums + column + LANES * c);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) v[i][c] = less_zero(v[i][c], zero[i], sums);
    }
  if (j->to == TO_I32) {
    int32_t *y = (int32_t *)j->y + row * ldy + column;
    if (j->adds)
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
        for (int c = 0; c < vectors; c++) v[i][c] = vi_add(v[i][c], vi_load(y + i * ldy + LANES * c));
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++, y += ldy)
#pragma GCC unroll 8
      for (int c = 0; c < vectors; c++) vi_store(y + LANES * c, v[i][c]);
    return;
  }
  const float *x_scale = j->x_scale + row, *w_scale = j->w_scale + column, *bias = j->bias ? j->bias + column : NULL;
  float *y = (float *)j->y + row * ldy + column;
  vf16 scales[BESIDE], biases[BESIDE];
#pragma GCC unroll 8
  for (int c = 0; c < vectors; c++) {
    scales[c] = vf_load(w_scale + LANES * c);
    biases[c] = bias ? vf_load(bias + LANES * c) : vf_zero();
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++, y += ldy) {
    const vf16 scale = vf_set1(x_scale[i]);
#pragma GCC unroll 8
    for (int c = 0; c < vectors; c++) vf_store(y + LANES * c, scaled(v[i][c], scale, scales[c], biases[c]));
  }
}

/* The sum of the first k codes of a row of x, modulo 2^32. */
static inline uint32_t row_sum(const int8_job *j, int64_t row, int64_t k) {
  const uint8_t *x = j->x + row * j->ldx;
  const vi16 ones = vi_set1(0x01010101), signs = vi_set1(j->is_signed ? (int32_t)0x80808080 : 0);
  vi16 sums = vi_zero(); /* of unsigned codes: signed ones count 128 above their value */
  int64_t l = 0;
  for (; l + LINE <= k; l += LINE) sums = vi_dot_u8s8(sums, vi_xor(vi_load(x + l), signs), ones);
  uint32_t sum = (uint32_t)vi_fold_add(sums);
  if (j->is_signed) sum -= 128 * (uint32_t)l;
  for (; l < k; l++) sum += j->is_signed ? (uint32_t)(int8_t)x[l] : x[l];
  return sum;
}

/* What rows of x owe: zero[i], the zero point of x as it was multiplied, `moved` above the true one; and, where w has zero
 * points, shift[i] = sum of the row less k * zero point: what a unit of zw takes off each of its outputs. */
static inline void row_debts(const int8_job *j, int rows, int64_t row, int32_t moved, int32_t *zero, int32_t *shift) {
  for (int i = 0; i < rows; i++) {
    const int32_t z = j->x_zero ? j->x_zero[row + i] : 0;
    zero[i] = z + moved;
    if (!j->w_zero) continue;
    shift[i] = (int32_t)(row_sum(j, row + i, j->k) - (uint32_t)j->k * (uint32_t)z);
  }
}

/* The product, shared among threads. */
int PC_FN(int8_multiply)(int8_job *j);

/* Rows [row0, row1) and columns [begin, end) of a product of packed weights. */
void PC_FN(int8_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end);

/* The same by AMX tiles; only on levels that have them. */
void PC_FN(int8_amx_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end);

/* The same of weights whose pairs fit 16 bits; only on levels that have PC_DOT_PAIRS. */
void PC_FN(int8_pairs_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end);

/* The same of six rows or more; only on levels that have PC_DOT_SUMS. */
void PC_FN(int8_sums_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end);

/* The same of loose weights. */
void PC_FN(int8_loose_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end);

/* Whether a sum of k products can leave int32. */
static inline int may_overflow(int64_t k, int w_has_zeros) {
  enum { FITS = 65793, FITS_SHIFTED = 33025 }; /* |sum| <= k*255*128 < 2^31, and with a zero point of w k*255*255 */
  return k > (w_has_zeros ? FITS_SHIFTED : FITS);
}

#endif
