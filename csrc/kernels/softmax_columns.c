/* softmax, log_softmax and logsumexp of x/T along the middle axis of x[m,c,n]: a lane for each column, whose chain, and bits, are
 * those of a row in softmax.c. The sixteen lanes of a column's sum stand one below the other, in L1.
 * Threads share blocks of columns. Limit: the float units, as there; memory where a block is longer than L2. */
#include "softmax.h"
#include "table.h"

enum {
  GRAIN = 1 << 13,    /* elements that pay for waking a thread */
  WIDE = PC_TOGETHER, /* vectors of columns in a block, */
  LONG = 1 << 11,     /* unless columns are longer, which then stay in L2 a vector at a time */
  SHORT = 512         /* columns so short are copied, or their lines would stand in each other's way: 128 KB of stack */
};

typedef struct {
  pc_softmax result;
  int64_t m, c, n;
  const float *x;
  double temperature;
  float *y;
  int64_t width, blocks; /* columns of a block; blocks of c x n */
} job;

/* Some columns of a matrix: element l of the first at l apart. */
typedef struct {
  const float *at;
  int64_t apart, columns;
} part;

PC_INLINE vf16 load(const part *p, int64_t l, int v) {
  return vf_load_left(p->at + l * p->apart + v * LANES, p->columns - v * LANES);
}

PC_INLINE void store(float *y, const part *of, int64_t l, int v, vf16 e) {
  pc_store_row(y + l * of->apart + v * LANES, of->columns - v * LANES, e);
}

/* What the maxima of a block's columns tell: what terms are made from, and which columns are finite. */
typedef struct {
  vf16 max[WIDE], base[WIDE], places[WIDE], special[WIDE]; /* special: the result where a column is not finite */
  vd16 rest[WIDE];
  vm16 finite[WIDE];
  int moved, odd; /* whether any base is not 0, any column not finite */
} heads;

/* copy: NULL, or where whole vectors go as they are read. */
PC_INLINE void find_heads(int vectors, const job *j, const part *x, float *copy, heads *h) {
  const double slope = pc_slope(j->temperature);
  const vd16 most = vd_set1(1 << PC_MOST_BITS), zero = vd_zero(), magic = vd_set1(0x1.8p52); /* rounds to integers */
  vm16 nan[WIDE];
  for (int v = 0; v < vectors; v++) h->max[v] = vf_set1(-INFINITY), nan[v] = vm_first(0);
  for (int64_t l = 0; l < j->c; l++)
    PC_OF_EACH(vectors) {
      const vf16 e = load(x, l, c);
      if (copy) vf_store(copy + (l * WIDE + c) * LANES, e);
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
    h->rest[v] = vd_add(vd_mul(vd_sub(above, down), vd_set1(PC_LOG_2)), vd_set1(PC_TERM_K_LOG));
    h->odd |= vm_bits(h->finite[v]) != 0xffff;
    h->moved |= vm_bits(vf_eq(h->base[v], vf_zero())) != 0xffff;
  }
}

/* The sums of the terms of each column; the terms themselves go to `kept`, laid out as x, if given. */
PC_INLINE void sum_columns(int vectors, int moved, const job *j, const part *x, const heads *h, float *kept, vd16 *sums) {
  const pc_terms shared = pc_terms_of(0.0f, j->temperature);
  const vf16 high = vf_set1(shared.c), low = vf_set1(shared.c_low);
  const int used = j->c < LANES ? (int)j->c : LANES;
  vd16 lanes[LANES][WIDE]; /* those past `used` are 0 */
  for (int v = 0; v < vectors; v++) lanes[0][v] = vd_zero();
  for (int64_t i = 0; i < j->c; i += 2 * LANES)
    for (int64_t l = i; l < i + LANES && l < j->c; l++) {
      vf16 pair[WIDE];
#pragma GCC unroll 2
      for (int second = 0; second < 2; second++) {
        const int64_t at = l + LANES * second;
        vf16 e[WIDE];
        if (at >= j->c) continue;
        PC_OF_EACH(vectors) e[c] = load(x, at, c);
        pc_terms_from(vectors, e, h->base, h->places, high, low, moved, e);
        if (kept)
          PC_OF_EACH(vectors) store(kept, x, at, c, e[c]);
        PC_OF_EACH(vectors) pair[c] = second ? vf_add(pair[c], e[c]) : e[c];
      }
      PC_OF_EACH(vectors) lanes[l - i][c] = i ? vd_add_vf(lanes[l - i][c], pair[c]) : vd_from_vf(pair[c]);
    }
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half && l + half < used; l++)
      for (int v = 0; v < vectors; v++) lanes[l][v] = vd_add(lanes[l][v], lanes[l + half][v]);
  for (int v = 0; v < vectors; v++) sums[v] = lanes[0][v];
}

PC_INLINE vf16 finished(const heads *h, int v, vf16 e) { return h->odd ? vf_select(h->finite[v], e, h->special[v]) : e; }

PC_INLINE void scale_columns(int vectors, const job *j, const part *terms, const heads *h, const vd16 *sums, float *y,
                             const part *of) {
  vf16 high[WIDE], low[WIDE];
  for (int v = 0; v < vectors; v++) {
    const vd16 inverse = vd_div(vd_set1(1.0), sums[v]);
    high[v] = vf_from_vd(inverse);
    low[v] = vf_from_vd(vd_sub(inverse, vd_from_vf(high[v])));
  }
  for (int64_t l = 0; l < j->c; l++)
    PC_OF_EACH(vectors) {
      const vf16 e = load(terms, l, c);
      store(y, of, l, c, finished(h, c, vf_fma(e, high[c], vf_mul(e, low[c]))));
    }
}

/* log of the sum of exp(x/T), from that of exp((x - max)/T) */
PC_INLINE vd16 whole_log_sum(const job *j, const heads *h, int v, const vd16 *logs) {
  return vd_add(vd_div(vd_from_vf(h->max[v]), vd_set1(j->temperature)), logs[v]);
}

PC_INLINE void subtract_log_sums(int vectors, const job *j, const part *x, const heads *h, const vd16 *logs, float *y,
                                 const part *of) {
  const double inverse = 1.0 / j->temperature;
  const int far = !pc_has_line(inverse);
  pc_line line[WIDE];
  for (int v = 0; v < vectors; v++)
    line[v] = pc_line_of(inverse, vd_sub(vd_zero(), whole_log_sum(j, h, v, logs)));
  for (int64_t l = 0; l < j->c; l++)
    PC_OF_EACH(vectors) {
      const vf16 e = load(x, l, c);
      vf16 p = pc_on_line(e, line + c);
      if (far || h->moved) {
        const vd16 z = vd_sub(vd_from_vf(e), vd_from_vf(h->max[c]));
        const vf16 exact = vf_from_vd(vd_fma(z, vd_set1(inverse), vd_sub(vd_zero(), logs[c])));
        p = far ? exact : vf_select(vf_eq(h->base[c], vf_zero()), p, exact);
      }
      store(y, of, l, c, finished(h, c, p));
    }
}

PC_INLINE void store_log_sums(int vectors, const job *j, const heads *h, const vd16 *logs, float *y, const part *of) {
  for (int v = 0; v < vectors; v++) store(y, of, 0, v, finished(h, v, vf_from_vd(whole_log_sum(j, h, v, logs))));
}

PC_INLINE void block(int vectors, const job *j, const part *x, float *y) {
  _Alignas(64) float copy[SHORT * WIDE * LANES];
  const int is_short = j->c <= SHORT;
  const part near = is_short ? (part){copy, WIDE * LANES, WIDE * LANES} : *x;
  float *kept = j->result != PC_SOFTMAX ? NULL : is_short ? copy : y;
  heads h;
  vd16 sums[WIDE], logs[WIDE];
  find_heads(vectors, j, x, is_short ? copy : NULL, &h);
  if (h.moved) sum_columns(vectors, 1, j, &near, &h, kept, sums);
  else sum_columns(vectors, 0, j, &near, &h, kept, sums);
  if (j->result == PC_SOFTMAX) {
    scale_columns(vectors, j, &(part){kept, near.apart, near.columns}, &h, sums, y, x);
    return;
  }
  for (int v = 0; v < vectors; v++) logs[v] = vd_sub(pc_log_lanes(sums[v]), h.rest[v]);
  if (j->result == PC_LOG_SOFTMAX) subtract_log_sums(vectors, j, &near, &h, logs, y, x);
  else store_log_sums(vectors, j, &h, logs, y, x);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t size = j->c * j->n;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->blocks, first = u % j->blocks * j->width;
    const int64_t columns = j->n - first < j->width ? j->n - first : j->width;
    const float *x = j->x + i * size + first;
    float *y = j->y + (j->result == PC_LOGSUMEXP ? i * j->n : i * size) + first;
    if (columns > (WIDE - 1) * LANES) block(WIDE, j, &(part){x, j->n, columns}, y);
    else
      for (int64_t c = 0; c < columns; c += LANES)
        block(1, j, &(part){x + c, j->n, columns - c < LANES ? columns - c : LANES}, y + c);
  }
}

static int share_blocks(job j) {
  if (j.m < 0 || j.c < 0 || j.n < 0 || !(j.temperature > 0 && j.temperature < INFINITY)) return PC_EINVAL;
  j.width = j.c < LONG ? WIDE * LANES : LANES;
  j.blocks = (j.n + j.width - 1) / j.width;
  pc_for(j.m * j.blocks, 1 + GRAIN / (j.width * (j.c + 1)), run, &j);
  return PC_OK;
}

#define ENTRY(name, result)                                                                         \
  int PC_FN(name)(int64_t m, int64_t c, int64_t n, const float *x, double temperature, float *y) {  \
    return share_blocks((job){result, m, c, n, x, temperature, y, 0, 0});                           \
  }
ENTRY(softmax_columns_f32, PC_SOFTMAX)
ENTRY(log_softmax_columns_f32, PC_LOG_SOFTMAX)
ENTRY(logsumexp_columns_f32, PC_LOGSUMEXP)
