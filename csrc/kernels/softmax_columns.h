/* softmax, log_softmax and logsumexp of columns: a lane for each, whose chain, and bits, are those of a row in softmax.c. The sixteen
 * lanes of a column's sum stand one below the other, in L1. */
#ifndef PC_SOFTMAX_COLUMNS_H
#define PC_SOFTMAX_COLUMNS_H

#include "softmax.h"
#include "table.h"

enum { PC_WIDE = PC_TOGETHER }; /* vectors of columns that are worked on together, at most */

typedef struct {
  pc_softmax result;
  int64_t c; /* elements of a column */
  double temperature;
} pc_columns;

/* Some columns of a matrix: element l of the first at l apart. */
typedef struct {
  const float *at;
  int64_t apart, columns;
} pc_part;

PC_INLINE vf16 pc_load_columns(const pc_part *p, int64_t l, int v) {
  return vf_load_left(p->at + l * p->apart + v * LANES, p->columns - v * LANES);
}

PC_INLINE void pc_store_columns(float *y, const pc_part *of, int64_t l, int v, vf16 e) {
  vf_store_left(y + l * of->apart + v * LANES, of->columns - v * LANES, e);
}

/* Columns that lie side by side, PC_WIDE vectors a row. */
PC_INLINE pc_part pc_side_by_side(const float *at) { return (pc_part){at, PC_WIDE * LANES, PC_WIDE * LANES}; }

/* Of columns that rows of n elements become. */
PC_INLINE int64_t pc_turned_rows(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Sixteen rows become a column each of a matrix, or less of it where they are fewer: the others are 0. */
PC_INLINE void pc_turn_in(int64_t rows, int64_t n, const float *x, int64_t ldx, float *columns) {
  for (int64_t i = 0; i < n; i += LANES) {
    vf16 block[LANES];
    for (int r = 0; r < LANES; r++) block[r] = r < rows ? vf_load_left(x + r * ldx + i, n - i) : vf_zero();
    vf_transpose(block);
    for (int l = 0; l < LANES; l++) vf_store(columns + (i + l) * PC_WIDE * LANES, block[l]);
  }
}

PC_INLINE void pc_turn_out(int64_t rows, int64_t n, const float *columns, float *y, int64_t ldy) {
  for (int64_t i = 0; i < n; i += LANES) {
    vf16 block[LANES];
    for (int l = 0; l < LANES; l++) block[l] = vf_load(columns + (i + l) * PC_WIDE * LANES);
    vf_transpose(block);
    for (int r = 0; r < LANES && r < rows; r++) vf_store_left(y + r * ldy + i, n - i, block[r]);
  }
}

/* What the maxima of a block's columns tell: what terms are made from, and which columns are finite. */
typedef struct {
  vf16 max[PC_WIDE], base[PC_WIDE], places[PC_WIDE], special[PC_WIDE]; /* special: the result where a column is not finite */
  vd16 rest[PC_WIDE];
  vm16 finite[PC_WIDE];
  int moved, odd; /* whether any base is not 0, any column not finite */
} pc_heads;

/* copy: NULL, or where whole vectors go as they are read. */
PC_INLINE void pc_find_heads(int vectors, const pc_columns *j, const pc_part *x, float *copy, pc_heads *h) {
  const double slope = pc_slope(j->temperature);
  const vd16 most = vd_set1(1 << PC_MOST_BITS), zero = vd_zero(), magic = vd_set1(0x1.8p52); /* rounds to integers */
  vm16 nan[PC_WIDE];
  for (int v = 0; v < vectors; v++) h->max[v] = vf_set1(-INFINITY), nan[v] = vm_first(0);
  for (int64_t l = 0; l < j->c; l++)
    PC_OF_EACH(vectors) {
      const vf16 e = pc_load_columns(x, l, c);
      if (copy) vf_store(copy + (l * PC_WIDE + c) * LANES, e);
      h->max[c] = vf_max(e, h->max[c]);
      nan[c] = vm_or(nan[c], vf_isnan(e));
    }
  h->moved = h->odd = 0;
  for (int v = 0; v < vectors; v++) {
    const vf16 top = vf_select(nan[v], vf_set1(NAN), h->max[v]);
    const vm16 empty = vf_eq(top, vf_set1(-INFINITY));
    h->special[v] = vf_select(empty, vf_set1(j->result == PC_SOFTMAX ? 0.0f : -INFINITY), vf_set1(NAN));
    h->finite[v] = vf_lt(vf_abs(top), vf_set1(INFINITY));
    h->max[v] = vf_select(h->finite[v], top, vf_zero());
    const vd16 max = vd_from_vf(h->max[v]), product = vd_mul(max, vd_set1(slope));
    const vd16 base = vd_select_lt(most, vd_max(product, vd_sub(zero, product)), max, zero);
    const vd16 above = vd_mul(vd_sub(max, base), vd_set1(slope));
    const vd16 down = vd_sub(vd_sub(vd_add(above, magic), magic), vd_set1(24.0));
    h->base[v] = vf_from_vd(base);
    h->places[v] = vf_from_vd(vd_sub(vd_set1(PC_PLACES), down));
    h->rest[v] = vd_add(vd_mul(vd_sub(above, down), vd_set1(PC_LOG2_DOUBLE)), vd_set1(PC_TERM_K_LOG));
    h->odd |= vm_bits(h->finite[v]) != 0xffff;
    h->moved |= vm_bits(vf_eq(h->base[v], vf_zero())) != 0xffff;
  }
}

/* The sums of the lanes of each column, in the order of a row's; those past `used` are 0. */
PC_INLINE void pc_fold_columns(int vectors, int used, vd16 lanes[][PC_WIDE], vd16 *sums) {
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half && l + half < used; l++)
      for (int v = 0; v < vectors; v++) lanes[l][v] = vd_add(lanes[l][v], lanes[l + half][v]);
  for (int v = 0; v < vectors; v++) sums[v] = lanes[0][v];
}

/* The sums of the terms of each column; the terms themselves go to `kept`, laid out as x, if given. */
PC_INLINE void pc_sum_columns(int vectors, int moved, const pc_columns *j, const pc_part *x, const pc_heads *h, float *kept, vd16 *sums) {
  const pc_terms shared = pc_terms_of(0.0f, j->temperature);
  const vf16 high = vf_set1(shared.c), low = vf_set1(shared.c_low);
  const int used = (int)smaller(j->c, LANES);
  vd16 lanes[LANES][PC_WIDE]; /* those past `used` are not looked at */
  for (int v = 0; v < vectors; v++) lanes[0][v] = vd_zero();
  for (int64_t i = 0; i < j->c; i += 2 * LANES)
    for (int64_t l = i; l < i + LANES && l < j->c; l++) {
      vf16 pair[PC_WIDE];
#pragma GCC unroll 2
      for (int second = 0; second < 2; second++) {
        const int64_t at = l + LANES * second;
        vf16 e[PC_WIDE];
        if (at >= j->c) continue;
        PC_OF_EACH(vectors) e[c] = pc_load_columns(x, at, c);
        pc_terms_from(vectors, e, h->base, h->places, high, low, moved, e);
        if (kept)
          PC_OF_EACH(vectors) pc_store_columns(kept, x, at, c, e[c]);
        PC_OF_EACH(vectors) pair[c] = second ? vf_add(pair[c], e[c]) : e[c];
      }
      PC_OF_EACH(vectors) lanes[l - i][c] = i ? vd_add_vf(lanes[l - i][c], pair[c]) : vd_from_vf(pair[c]);
    }
  pc_fold_columns(vectors, used, lanes, sums);
}

PC_INLINE vf16 pc_finished(const pc_heads *h, int v, vf16 e) { return h->odd ? vf_select(h->finite[v], e, h->special[v]) : e; }

PC_INLINE void pc_scale_columns(int vectors, const pc_columns *j, const pc_part *terms, const pc_heads *h, const vd16 *sums, float *y,
                                const pc_part *of) {
  pc_over r[PC_WIDE];
  for (int v = 0; v < vectors; v++) r[v] = pc_over_sum(sums[v]);
  for (int64_t l = 0; l < j->c; l++) {
    vf16 e[PC_WIDE];
    PC_OF_EACH(vectors) e[c] = pc_load_columns(terms, l, c);
    pc_parts_each(vectors, e, r, 0, e);
    PC_OF_EACH(vectors) pc_store_columns(y, of, l, c, pc_finished(h, c, e[c]));
  }
}

/* log of the sum of exp(x/T), from that of exp((x - max)/T) */
PC_INLINE vd16 pc_whole_log_sum(const pc_columns *j, const pc_heads *h, int v, const vd16 *logs) {
  return vd_add(vd_div(vd_from_vf(h->max[v]), vd_set1(j->temperature)), logs[v]);
}

PC_INLINE void pc_subtract_log_sums(int vectors, const pc_columns *j, const pc_part *x, const pc_heads *h, const vd16 *logs, float *y,
                                    const pc_part *of) {
  const double inverse = 1.0 / j->temperature;
  const int far = !pc_has_line(inverse);
  pc_line line[PC_WIDE];
  for (int v = 0; v < vectors; v++)
    line[v] = pc_line_of(inverse, vd_sub(vd_zero(), pc_whole_log_sum(j, h, v, logs)));
  for (int64_t l = 0; l < j->c; l++)
    PC_OF_EACH(vectors) {
      const vf16 e = pc_load_columns(x, l, c);
      vf16 p = pc_on_line(e, line + c);
      if (far || h->moved) {
        const vd16 z = vd_sub(vd_from_vf(e), vd_from_vf(h->max[c]));
        const vf16 exact = vf_from_vd(vd_fma(z, vd_set1(inverse), vd_sub(vd_zero(), logs[c])));
        p = far ? exact : vf_select(vf_eq(h->base[c], vf_zero()), p, exact);
      }
      pc_store_columns(y, of, l, c, pc_finished(h, c, p));
    }
}

PC_INLINE void pc_store_log_sums(int vectors, const pc_columns *j, const pc_heads *h, const vd16 *logs, float *y, const pc_part *of) {
  for (int v = 0; v < vectors; v++) pc_store_columns(y, of, 0, v, pc_finished(h, v, vf_from_vd(pc_whole_log_sum(j, h, v, logs))));
}

/* The result of columns of x, laid out as `of`. copy: NULL where `of` is as x, or room for the columns side by side, PC_WIDE vectors a
 * row. Terms wait there, or in y. */
PC_INLINE void pc_softmax_columns(int vectors, const pc_columns *j, const pc_part *x, float *copy, float *y, const pc_part *of) {
  const pc_part near = copy ? pc_side_by_side(copy) : *x;
  float *const kept = copy ? copy : y, *const terms = j->result == PC_SOFTMAX ? kept : NULL;
  pc_heads h;
  vd16 sums[PC_WIDE], logs[PC_WIDE];
  pc_find_heads(vectors, j, x, copy, &h);
  if (h.moved) pc_sum_columns(vectors, 1, j, &near, &h, terms, sums);
  else pc_sum_columns(vectors, 0, j, &near, &h, terms, sums);
  if (j->result == PC_SOFTMAX) {
    pc_scale_columns(vectors, j, &(pc_part){kept, near.apart, near.columns}, &h, sums, y, of);
    return;
  }
  for (int v = 0; v < vectors; v++) logs[v] = vd_sub(pc_log_lanes(sums[v]), h.rest[v]);
  if (j->result == PC_LOG_SOFTMAX) pc_subtract_log_sums(vectors, j, &near, &h, logs, y, of);
  else pc_store_log_sums(vectors, j, &h, logs, y, of);
}
#endif
