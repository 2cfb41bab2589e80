/* sums[i,j] = sum over a, b of f(scores[i,a,j,b]), f(x) = x, |x| or x^2: of the blocks of a matrix, each by the lane rule over its
 * elements in C order. Blocks whose rows are no whole vectors are summed sixteen at a time. Threads share blocks.
 * Limit: memory, 4 bytes an element; of narrow blocks, gathering them. */
#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  GRAIN = 1 << 16, /* elements that pay for waking a thread */
  RESET = 1024,    /* elements after which float32 lanes are moved to float64 */
  BESIDE = 64,     /* elements of a row between reading and asking, in a block of many: of the blocks beside it, which come next; */
  FAR_BESIDE = 512 /* where sixteen are read together */
};

/* An element of each of sixteen blocks beside each other. */
typedef enum { BESIDE_EACH_OTHER, ONE_BY_ONE, AT_ONCE } reading;

typedef struct {
  int64_t h, c, w;
  const float *scores;
  int32_t norm;
  float *sums;
  reading by;
  int lanes; /* that the elements of a block take, where sixteen blocks are summed together, or 0 */
  uint16_t at[LANES];
} blocks;

PC_INLINE vf16 add_term(vf16 acc, vf16 x, int norm) {
  if (norm == PC_L2) return vf_fma(x, x, acc);
  return vf_add(acc, norm == PC_L1 ? vf_abs(x) : x);
}

/* Of up to sixteen blocks beside each other, a lane each: sums[l] is lane l of the rule, of the first so many. Elements that are
 * not there are zeros, which leave the sums of lanes as they are: none is -0. */
PC_INLINE void sum_beside(const blocks *j, const float *x, int64_t count, int norm, int lanes, float *sums) {
  uint16_t last[LANES];
  const uint16_t *at = j->at;
  const reading by = j->by;
  if (count < LANES) {
    for (int64_t l = 0; l < LANES; l++) last[l] = j->at[smaller(l, count - 1)];
    at = last;
  }
  vf16 acc[LANES];
#pragma GCC unroll 16
  for (int l = 0; l < lanes; l++) acc[l] = vf_zero();
  int64_t e = 0;
  for (int64_t a = 0; a < j->h; a++, x += j->c * j->w)
    for (int64_t b = 0; b < j->w; b++, e++) {
      __builtin_prefetch(x + b * LANES + FAR_BESIDE, 0, 2);
      const vf16 v = by == AT_ONCE      ? vf_gather_at_once(x + b, at)
                     : by == ONE_BY_ONE ? vf_gather(x + b, at)
                     : count == LANES   ? vf_load(x)
                                        : vf_load_n(x, count);
      acc[e % lanes] = add_term(acc[e % lanes], v, norm);
    }
#pragma GCC unroll 4
  for (int half = lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int l = 0; l < half; l++) acc[l] = vf_add(acc[l], acc[l + half]);
  vf_store_n(sums, count, acc[0]);
}

/* Elements [e, e+16) of a large block whose rows are not whole vectors. */
PC_INLINE vf16 gather(const blocks *j, const float *x, int64_t e) {
  float all[LANES] = {0};
  for (int64_t l = 0; l < LANES && e + l < j->h * j->w; l++) all[l] = x[(e + l) / j->w * j->c * j->w + (e + l) % j->w];
  return vf_load(all);
}

PC_INLINE float sum_block(const blocks *j, const float *x, int norm) {
  const int64_t size = j->h * j->w, row = j->c * j->w;
  const int whole = j->w % LANES == 0 || j->h == 1;
  const int64_t asked = j->h == 1 ? PC_ASKED : BESIDE;
  vf16 acc = vf_zero();
  vd16 wide = vd_zero();
  for (int64_t e = 0, column = 0; e < size; e += LANES, column += LANES) {
    if (column == j->w) {
      column = 0;
      x += row;
    }
    if (whole) __builtin_prefetch(x + column + asked, 0, 2);
    vf16 v;
    if (!whole) v = gather(j, x, e);
    else if (j->w - column >= LANES) v = vf_load(x + column);
    else v = vf_load_n(x + column, j->w - column);
    if (e && e % RESET == 0) {
      wide = vd_add_vf(wide, acc);
      acc = vf_zero();
    }
    acc = add_term(acc, v, norm);
  }
  return size > RESET ? (float)vd_fold_add(vd_add_vf(wide, acc)) : vf_fold_add(acc);
}

PC_INLINE void sum_range(const blocks *j, int64_t begin, int64_t end, int norm) {
  for (int64_t b = begin, last; b < end; b = last) {
    const int64_t first = b % j->c; /* of a row of blocks */
    const float *x = j->scores + (b - first) * j->h * j->w + first * j->w;
    last = smaller(end, b - first + j->c);
    for (int64_t count; b < last; b += count, x += count * j->w) {
      count = j->lanes ? smaller(LANES, last - b) : 1;
      if (j->lanes == 4) sum_beside(j, x, count, norm, 4, j->sums + b);
      else if (j->lanes) sum_beside(j, x, count, norm, LANES, j->sums + b);
      else j->sums[b] = sum_block(j, x, norm);
    }
  }
}

static void sum_blocks(int64_t begin, int64_t end, const void *context) {
  const blocks *j = context;
  if (j->norm == PC_SUM) sum_range(j, begin, end, PC_SUM);
  else if (j->norm == PC_L1) sum_range(j, begin, end, PC_L1);
  else sum_range(j, begin, end, PC_L2);
}

int PC_FN(block_sum_f32)(int64_t r, int64_t h, int64_t c, int64_t w, const float *scores, int32_t norm, float *sums) {
  if (r < 0 || h < 0 || c < 0 || w < 0 || norm < PC_SUM || norm > PC_L2) return PC_EINVAL;
  blocks j = {h, c, w, scores, norm, sums, BESIDE_EACH_OTHER, 0, {0}};
  if (c == 1) { /* a block is one run of elements */
    j.w *= j.h;
    j.h = 1;
  }
  if (j.w % LANES && (j.h > 1 || j.w < LANES) && j.h * j.w <= RESET && c > 1) {
    j.lanes = j.h * j.w <= 4 ? 4 : LANES;
    if (j.w > 1) j.by = PC_GATHERS && pc_cpu_gathers() ? AT_ONCE : ONE_BY_ONE;
    for (int64_t l = 0; l < LANES; l++) j.at[l] = (uint16_t)(l * j.w);
  }
  pc_for(r * c, 1 + GRAIN / (h * w + 1), sum_blocks, &j);
  return PC_OK;
}
