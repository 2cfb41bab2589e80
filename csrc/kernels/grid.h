/* Codes of many elements with one scale: code = saturate(rint(x / scale) + zero), a true division, half to even. Kernels
 * that are given scales of rows (quantize.c) or find them (quantize_rows.c) make grids of them, sixteen at a time. */
#ifndef PC_GRID_H
#define PC_GRID_H

#include "codes.h"
#include "vocabulary.h"

/* Elements between reading again and asking: further than was asked in reading. */
enum { PC_ASKED_AGAIN = PC_ASKED / 2 * 3 };

typedef struct {
  float scale, inverse, rest; /* inverse + rest: 1 / scale; inverse 0: divide */
  float least, most;          /* where codes end: of x, or, without an inverse, of the quotient */
  int32_t zero;
} grid;

typedef struct {
  float scale[LANES], inverse[LANES], rest[LANES], least[LANES], most[LANES];
  int32_t zero[LANES];
} grids;

PC_INLINE grid one_of(const grids *g, int i) {
  return (grid){g->scale[i], g->inverse[i], g->rest[i], g->least[i], g->most[i], g->zero[i]};
}

/* Whether x * inverse + x * rest rounds to the code that the quotient x / scale rounds to. (Two products in place of a division:
 * Brisebarre, Muller and Raina, IEEE Trans. Computers 53, 2004.) Before it is rounded to a float the sum is within 1.5 * 2^-47
 * of the quotient, relatively, so they may differ where it is that near to T, the middle between a half-integer below 2^9 and a
 * float beside it. T is an odd M, 1 beside a multiple of 2^15, times a power of two, and with X and S the significands of x and
 * scale, X * 2^k - M * S would have to be from -6 to 6, k >= 24. That is S or -S, by 2^15, so that no S errs that leaves more;
 * nor one that leaves 0, as X * 2^k would be M * S itself, and 2^24 does not divide S. */
PC_INLINE vm16 multiplies(vf16 scale) {
  const vi16 bits = vi_from_bits(scale), by = vi_set1(0x7fff);
  const vm16 some = vi_gt(vi_and(vi_add(bits, vi_set1(6)), by), vi_set1(12)), none = vi_eq(vi_and(bits, by), vi_zero());
  return vm_and(vm_or(some, none), vm_and(vf_lt(vf_set1(0x1p-60f), scale), vf_lt(scale, vf_set1(0x1p60f))));
}

static inline void make_grids(vf16 scale, vi16 zero, int low, int high, grids *g) {
  enum { BOUND = 1 << 9 }; /* of quotients, for `multiplies` */
  const vf16 bound = vf_set1(BOUND), inverse = vf_div(vf_set1(1), scale);
  const vf16 least = vf_from_vi(vi_sub(vi_set1(low), zero)), most = vf_from_vi(vi_sub(vi_set1(high), zero));
  const vm16 near = vm_and(vf_lt(vf_sub(vf_zero(), bound), least), vf_lt(most, bound));
  const vm16 by_product = vm_and(near, multiplies(scale));
  vf_store(g->scale, scale);
  vf_store(g->inverse, vf_select(by_product, inverse, vf_zero()));
  vf_store(g->rest, vf_mul(vf_fnma(scale, inverse, vf_set1(1)), inverse));
  vf_store(g->least, vf_select(by_product, vf_mul(least, scale), least));
  vf_store(g->most, vf_select(by_product, vf_mul(most, scale), most));
  vi_store(g->zero, zero);
}

/* How codes are found: dividing, multiplying, or multiplying an x of known range: finite, and of no code below the first. */
typedef enum { DIVIDE, MULTIPLY, RANGED } way;

/* Added to a quotient, which it is too little to change the code of. Without it the products of a small x would be subnormal, which
 * takes some CPUs a hundred times as long. */
#define PC_NOTHING 0x1p-100f

PC_INLINE vi16 codes_of(vf16 x, grid g, way by) {
  const vf16 least = vf_set1(g.least), most = vf_set1(g.most);
  vf16 q;
  if (by == DIVIDE) {
    q = vf_min(vf_max(vf_div(x, vf_set1(g.scale)), least), most);
  } else { /* bounded where the codes end, which rounds to the same codes */
    const vf16 bounded = vf_min(by == RANGED ? x : vf_max(x, least), most);
    const vf16 rest = vf_fma(bounded, vf_set1(g.rest), vf_set1(PC_NOTHING));
    q = PC_SLOW_FMA ? vf_div(bounded, vf_set1(g.scale)) : vf_fma(bounded, vf_set1(g.inverse), rest);
  }
  return vi_add(vi_from_vf(q), vi_set1(g.zero));
}

/* What is found of a span besides its codes. */
typedef struct {
  vm16 nan;
  vi16 total;
} found;

/* 64 codes of x. */
PC_INLINE found quantize_four(const float *x, grid g, way by, int is_signed, int asks, int past, uint8_t *codes, found f) {
  vf16 v[4];
  vi16 code[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    v[i] = vf_load(x + i * LANES);
    if (asks) __builtin_prefetch(x + i * LANES + (by == RANGED ? PC_ASKED_AGAIN : PC_ASKED), 0, 2);
    code[i] = codes_of(v[i], g, by);
    f.total = vi_add(f.total, code[i]);
  }
  if (by != RANGED) f.nan = vm_or(f.nan, vm_or(vf_unordered(v[0], v[1]), vf_unordered(v[2], v[3])));
  store_codes(codes, is_signed, past, code);
  return f;
}

/* n codes of x, less than a line in one place. */
PC_INLINE found quantize_few(const float *x, int64_t n, grid g, way by, uint8_t *codes, found f) {
  for (int64_t l = 0, lanes; l < n; l += lanes) {
    lanes = smaller(n - l, LANES);
    const vf16 v = vf_load_left(x + l, lanes);
    const vi16 code = codes_of(v, g, by);
    if (by != RANGED) f.nan = vm_or(f.nan, vf_isnan(v));
    f.total = vi_add(f.total, lanes == LANES ? code : vi_select(vm_first(lanes), code, vi_zero()));
    vi_store_bytes_n(codes + l, lanes, code);
  }
  return f;
}

/* codes[0..n) of x, and their sum; returns whether x holds NaN. */
PC_INLINE int span(const float *x, int64_t n, grid g, way by, int is_signed, int asks, int past, uint8_t *codes, int32_t *sum) {
  const int64_t head = past ? smaller(pc_bytes_to_line(codes), n) : 0;
  found f = quantize_few(x, head, g, by, codes, (found){vm_first(0), vi_zero()});
  int64_t l = head;
  for (; l + PC_FOUR <= n; l += PC_FOUR) f = quantize_four(x + l, g, by, is_signed, asks, past, codes + l, f);
  f = quantize_few(x + l, n - l, g, by, codes + l, f);
  *sum = vi_fold_add(f.total);
  return vm_bits(f.nan) != 0;
}

PC_INLINE int quantize_span(const float *x, int64_t n, grid g, int ranged, int is_signed, int asks, int past, uint8_t *codes,
                            int32_t *sum) {
  return g.inverse == 0 ? span(x, n, g, DIVIDE, is_signed, asks, past, codes, sum)
         : ranged       ? span(x, n, g, RANGED, is_signed, asks, past, codes, sum)
                        : span(x, n, g, MULTIPLY, is_signed, asks, past, codes, sum);
}
#endif
