/* The terms of a row (softmax.h) that is read once, block by block: over the power of two that belongs to the largest element so far.
 * Where a larger one comes, the sum is brought to its power, which is exact; terms that were kept are when they are read again, by
 * what `places` says of their block. The largest of a block is found while the one before is worked on, of this row or of the
 * last: it costs no pass, and when its turn comes the block is in L1. */
#ifndef PC_TERMS_ONCE_H
#define PC_TERMS_ONCE_H

#include "softmax.h"
#include "table.h"

enum {
  PC_BLOCK = 1024,      /* elements of a block; */
  PC_MOST_BLOCKS = 512, /* in longer rows than these are blocks have twice as many, or four times, .. */
  PC_NO_ELEMENT = 1 << 18, /* places above those of any finite element: terms of -inf alone */
  PC_MOST_RISE = 64     /* octaves from the first of the largest to the last, so that no factor leaves the range of floats */
};

typedef struct {
  pc_terms terms; /* by the largest element so far, */
  float max;      /* which this is */
  float first;    /* places by the first finite one */
  vd16 lanes;     /* of the sum so far */
  double sum;     /* of all */
  float places[PC_MOST_BLOCKS]; /* of each block's terms */
} pc_side;

static inline int64_t pc_block_length(int64_t n) {
  int64_t length = PC_BLOCK;
  while (length * PC_MOST_BLOCKS < n) length *= 2;
  return length;
}

PC_INLINE void pc_side_begin(pc_side *side) {
  side->terms = (pc_terms){.c = 1.0f, .places = (float)(PC_PLACES + (double)PC_NO_ELEMENT)};
  side->max = -INFINITY;
  side->lanes = vd_zero();
}

/* max: the largest element of the block that comes. Returns 0 where the whole row's has to be known first: it rises too far, two
 * floats do not suffice for its exponents, or it is infinite. */
PC_INLINE int pc_side_rise(pc_side *side, float max, double temperature) {
  if (!(max > side->max)) return 1;
  const pc_terms terms = pc_terms_of(max, temperature);
  if (side->max == -INFINITY) side->first = terms.places;
  if (terms.base != 0.0f || side->first - terms.places > (float)PC_MOST_RISE) return 0;
  const float down = terms.places - side->terms.places;
  if (side->max > -INFINITY && down != 0.0f) side->lanes = vd_mul(side->lanes, vd_set1(ldexp(1.0, (int)down)));
  side->terms = terms;
  side->max = max;
  return 1;
}

/* Adds up a block's terms, and keeps them if there is room. Returns the largest element of `next`; NaN may be passed over. */
PC_INLINE float pc_side_read(pc_side *side, int64_t block, int64_t n, const float *x, float *kept, int64_t next_n, const float *next) {
  enum { PART = PC_TOGETHER * LANES, KEPT_AHEAD = 1024 };
  const pc_terms terms = side->terms;
  const int64_t both = smaller(n, next_n);
  vd16 lanes = side->lanes;
  vf16 top = vf_set1(-INFINITY), e[PC_TOGETHER];
  int64_t i = 0;
  side->places[block] = terms.places;
  for (; i + PART <= both; i += PART) {
    PC_OF_EACH(PC_TOGETHER) pc_ask_line(x + i + c * LANES);
    if (kept)
      PC_OF_EACH(PC_TOGETHER) __builtin_prefetch(kept + i + c * LANES + KEPT_AHEAD);
    PC_OF_EACH(PC_TOGETHER) {
      e[c] = vf_held(vf_load(x + i + c * LANES));
      if (c % 2) top = vf_max(vf_max(vf_load(next + i + (c - 1) * LANES), vf_load(next + i + c * LANES)), top);
    }
    lanes = pc_add_part(e, &terms, 0, PART, kept ? kept + i : NULL, lanes);
  }
  for (int64_t l = i; l < next_n; l += LANES) top = vf_max(pc_load_row(next + l, next_n - l), top);
  for (; i < n; i += PART) { /* what is missing adds nothing */
    PC_OF_EACH(PC_TOGETHER) e[c] = pc_load_row(x + i + c * LANES, n - i - c * LANES);
    lanes = pc_add_part(e, &terms, 0, n - i, kept ? kept + i : NULL, lanes);
  }
  side->lanes = lanes;
  return vf_fold_max(top);
}

/* The same for a row whose maximum is known. */
static inline void pc_side_read_known(pc_side *side, int64_t n, const float *x, float max, double temperature, float *kept) {
  side->max = max;
  side->sum = 0.0;
  if (max == -INFINITY) return;
  side->terms = pc_terms_of(max, temperature);
  side->sum = pc_sum_terms(n, x, &side->terms, (pc_beside){.kept = kept});
  for (int k = 0; k < PC_MOST_BLOCKS; k++) side->places[k] = side->terms.places;
}

/* The sum of the row, over the power of a block's terms; infinite for a block of -inf before all else, whose terms are 0. */
PC_INLINE double pc_side_sum(const pc_side *side, int64_t block) {
  const float down = side->terms.places - side->places[block];
  return down == 0.0f ? side->sum : ldexp(side->sum, -(int)down);
}
#endif
