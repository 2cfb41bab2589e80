/* sums[i,j] = sum over a, b of f(scores[i,a,j,b]), f(x) = x, |x| or x^2: of the blocks of a matrix, each by the lane rule over its
 * elements in C order. Threads share blocks. Limit: memory, 4 bytes an element; where rows of blocks are no whole vectors, the
 * divisions that find their elements. */
#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  GRAIN = 1 << 16, /* elements that pay for waking a thread */
  RESET = 1024,    /* elements after which float32 lanes are moved to float64 */
  BESIDE = 64      /* elements of a row between reading and asking, in a block of many: of the blocks beside it, which come next */
};

typedef struct {
  int64_t h, c, w;
  const float *scores;
  int32_t norm;
  float *sums;
} blocks;

PC_INLINE vf16 add_term(vf16 acc, vf16 x, int norm) {
  if (norm == PC_L2) return vf_fma(x, x, acc);
  return vf_add(acc, norm == PC_L1 ? vf_abs(x) : x);
}

/* Elements [e, e+16) of a block whose rows are not whole vectors. */
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

static void sum_blocks(int64_t begin, int64_t end, const void *context) {
  const blocks *j = context;
  for (int64_t b = begin; b < end; b++) {
    const float *x = j->scores + b / j->c * j->h * j->c * j->w + b % j->c * j->w;
    if (j->norm == PC_SUM) j->sums[b] = sum_block(j, x, PC_SUM);
    else if (j->norm == PC_L1) j->sums[b] = sum_block(j, x, PC_L1);
    else j->sums[b] = sum_block(j, x, PC_L2);
  }
}

int PC_FN(block_sum_f32)(int64_t r, int64_t h, int64_t c, int64_t w, const float *scores, int32_t norm, float *sums) {
  if (r < 0 || h < 0 || c < 0 || w < 0 || norm < PC_SUM || norm > PC_L2) return PC_EINVAL;
  blocks j = {h, c, w, scores, norm, sums};
  if (c == 1) { /* a block is one run of elements */
    j.w *= j.h;
    j.h = 1;
  }
  pc_for(r * c, 1 + GRAIN / (h * w + 1), sum_blocks, &j);
  return PC_OK;
}
