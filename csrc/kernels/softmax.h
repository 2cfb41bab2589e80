/* What softmax and the losses on it share: a row's maximum m, its terms, and their sum.
 *
 * A term is exp(x/T) over a power of two near exp(m/T), which costs nothing: the power goes into the exponent. The product
 * x log2(e)/T is kept in two floats, so that a term is within 1.4 u of its exact value; where |m|/T is so large that two
 * floats do not suffice, m is taken away first, exactly for all x that count (Sterbenz). The terms of elements i and
 * i + 16 are added, and these sums in float64 lanes, so the sum adds one rounding. -inf gives the term 0, NaN itself. */
#ifndef PC_SOFTMAX_H
#define PC_SOFTMAX_H

#include <float.h>
#include <math.h>

#include "double.h"
#include "elementary.h"
#include "vocabulary.h"

/* Whether T can divide what terms are made of. */
static inline int pc_is_temperature(double t) { return t > 0 && t < INFINITY; }

/* A whole vector, or what is left of a row filled up with -inf, which adds nothing to a maximum or to a sum of terms. */
PC_INLINE vf16 pc_load_row(const float *x, int64_t left) {
  if (left >= LANES) return vf_load(x);
  return left <= 0 ? vf_set1(-INFINITY) : vf_select(vm_first(left), vf_load_n(x, left), vf_set1(-INFINITY));
}

PC_INLINE void pc_fill_row(float *y, int64_t n, float value) {
  for (int64_t i = 0; i < n; i += LANES) vf_store_left(y + i, n - i, vf_set1(value));
}

/* What a pass will need, asked for as it goes. Hardware fetches ahead within a page, but not over its end, and not far enough for
 * memory. So every line is asked for of what is read next. Of what is written only the first lines of the page that follows, once
 * a page: in a cache more would stand in the hardware's way. */
enum {
  PC_AHEAD = 2048,
  PC_PAGE = 4096,
  PC_PAGE_FLOATS = PC_PAGE / sizeof(float),
  PC_LONG = 1 << 16 /* elements of a row that L2 does not keep until they are read again, asked for or not */
};
PC_INLINE void pc_ask_line(const float *p) { __builtin_prefetch(p + PC_AHEAD); }
PC_INLINE void pc_ask_page(const float *p) {
  const char *page = (const char *)p + (PC_PAGE - (uintptr_t)p % PC_PAGE);
  PC_OF_EACH(4) __builtin_prefetch(page + c * 64, 0, 2);
}

/* The largest element, NaN if any is. Exact, so the order does not matter, nor that some elements are looked at twice. */
PC_INLINE float pc_row_max(const float *x, int64_t n) {
  enum { CHAINS = 4 };
  vf16 a[CHAINS];
  const vf16 first = pc_load_row(x, n), last = n > LANES ? vf_load(x + n - LANES) : first;
  vm16 nan = vf_unordered(first, last);
  a[0] = vf_max(first, last);
  for (int c = 1; c < CHAINS; c++) a[c] = a[0];
  int64_t i = pc_to_line(x);
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES)
    for (int c = 0; c < CHAINS; c += 2) {
      const vf16 v = vf_load(x + i + c * LANES), w = vf_load(x + i + (c + 1) * LANES);
      a[c] = vf_max(v, a[c]);
      a[c + 1] = vf_max(w, a[c + 1]);
      nan = vm_or(nan, vf_unordered(v, w));
    }
  for (; i + LANES <= n; i += LANES) {
    const vf16 v = vf_load(x + i);
    a[0] = vf_max(v, a[0]);
    nan = vm_or(nan, vf_unordered(v, v));
  }
  return vm_bits(nan) ? NAN : vf_fold_max(vf_max(vf_max(a[0], a[1]), vf_max(a[2], a[3])));
}

/* What a row is, told by its maximum: for all but a finite one the result is known. */
typedef enum { PC_ROW_FINITE, PC_ROW_EMPTY, PC_ROW_NAN } pc_row_kind;

PC_INLINE pc_row_kind pc_classify_row(float max) {
  return max < INFINITY ? max > -INFINITY ? PC_ROW_FINITE : PC_ROW_EMPTY : PC_ROW_NAN;
}

/* Terms of a row: k 2^(24 - shift + (x - base) c), c = log2(e)/T in two floats, kept normal so that -inf gives 0; base is 0
 * or the maximum, shift the integer next to (max - base) c, and rest the logarithm of a term over exp((x - base)/T). A term
 * is k 2^n 2^f, n in sixteenths: added to `places`, the exponent is rounded to n, whose sixteenths then are the low four bits
 * of the sum, and the whole of it those above. From 2^-149 of the largest down a term is 0. */
typedef struct {
  float base, c, c_low, places;
  double rest;
} pc_terms;

#define PC_PLACES 0x1.8p19

/* k 2^(j/16), less j in the four bits where n's come. A factor k of all terms does not matter; this one lets sixteen powers be
 * floats within 0.26 u. */
#define PC_TERM_K_LOG 0x1.30a875d05a61bp-1 /* of k = 0x1.d026fcp+0 */
static const int32_t pc_powers[LANES] = {0x3fe8137e, 0x3fea59dd, 0x3fed14b1, 0x3fec2491, 0x3fe9fe49, 0x3fe81a50, 0x3fe67b96, 0x3fe5252c,
                                         0x3fe41a45, 0x3fe35e39, 0x3fe2f486, 0x3fe2e0d1, 0x3fe326e9, 0x3fe3cac8, 0x3fe4d094, 0x3fe63ca4};

/* log2(e)/T, within the range of floats */
PC_INLINE double pc_slope(double temperature) {
  const double exact = PC_LOG2E_DOUBLE / temperature;
  return exact < FLT_MIN ? FLT_MIN : exact > FLT_MAX ? FLT_MAX : exact;
}

enum { PC_MOST_BITS = 17 }; /* of max c where two floats suffice */

PC_INLINE pc_terms pc_terms_of(float max, double temperature) {
  const double kept = pc_slope(temperature);
  const float base = fabs(max * kept) > 1 << PC_MOST_BITS ? max : 0.0f;
  const double top = ((double)max - base) * kept, down = rint(top) - 24.0;
  return (pc_terms){base, (float)kept, (float)(kept - (double)(float)kept), (float)(PC_PLACES - down),
                    (top - down) * PC_LOG2_DOUBLE + PC_TERM_K_LOG};
}

/* 2^f - 1 = f (c1 + f (c2 + f c3)), |f| <= 1/32 and a little, minimax: within 0.03 u of 2^f. moved: 0 where base is. */
PC_INLINE void pc_terms_from(int count, const vf16 *x, const vf16 *base, const vf16 *places, vf16 high, vf16 low, int moved,
                             vf16 *e) {
  const vf16 powers = vf_from_bits(vi_load(pc_powers)), least = vf_set1((float)PC_PLACES - 126.0f);
  vf16 z[PC_TOGETHER], n[PC_TOGETHER], f[PC_TOGETHER], power[PC_TOGETHER], q[PC_TOGETHER];
  PC_OF_EACH(count) z[c] = moved ? vf_sub(x[c], base[c]) : x[c];
  PC_OF_EACH(count) n[c] = vf_fma(z[c], high, places[c]);
  PC_OF_EACH(count) f[c] = vf_fma(z[c], high, vf_sub(places[c], n[c]));
  PC_OF_EACH(count) f[c] = vf_fma(z[c], low, f[c]);
  PC_OF_EACH(count) {
    const vi16 bits = vi_from_bits(n[c]);
    const vf16 any = vf_from_bits(vi_add(vi_from_bits(vf_take(powers, bits)), vi_shl(bits, 19)));
    power[c] = vf_select(vf_above(n[c], least), any, vf_zero());
  }
  PC_OF_EACH(count) q[c] = vf_fma(vf_set1(0x1.c6ac6ap-5f), f[c], vf_set1(0x1.ebfff4p-3f));
  PC_OF_EACH(count) q[c] = vf_fma(q[c], f[c], vf_set1(0x1.62e430p-1f));
  PC_OF_EACH(count) q[c] = vf_mul(q[c], f[c]);
  PC_OF_EACH(count) e[c] = vf_select(vf_above(n[c], least), vf_fma(q[c], power[c], power[c]), vf_zero());
}

PC_INLINE void pc_term_each(int count, const vf16 *x, const pc_terms *t, int moved, vf16 *e) {
  vf16 base[PC_TOGETHER], places[PC_TOGETHER];
  PC_OF_EACH(count) base[c] = vf_set1(t->base), places[c] = vf_set1(t->places);
  pc_terms_from(count, x, base, places, vf_set1(t->c), vf_set1(t->c_low), moved, e);
}

PC_INLINE vf16 pc_term(vf16 x, const pc_terms *t) {
  vf16 e;
  pc_term_each(1, &x, t, 1, &e);
  return e;
}

/* What makes terms parts of their sum: its inverse in two floats, a rounding less than in one; the same times 2^PC_RAISED; and a
 * 2^70th of the sum. Where a vector has a smaller term, some products could be subnormal, which takes some CPUs a hundred times as
 * long: there all are raised, and lowered in the end. That changes no bit of the other terms: the lower part of the inverse, if not 0,
 * is at least a 2^53rd of it, so that no product of theirs is subnormal, and a power of two changes no rounding. */
enum { PC_RAISED = 112 };
typedef struct { vf16 high, low, raised_high, raised_low, limit; } pc_over;

PC_INLINE pc_over pc_over_sum(vd16 sum) {
  const vd16 inverse = vd_div(vd_set1(1.0), sum);
  const vf16 high = vf_from_vd(inverse), low = vf_from_vd(vd_sub(inverse, vd_from_vf(high))), raised = vf_set1(ldexpf(1.0f, PC_RAISED));
  return (pc_over){high, low, vf_mul(high, raised), vf_mul(low, raised), vf_from_vd(vd_mul(sum, vd_set1(0x1p-70)))};
}

/* one: all vectors are of one sum */
PC_INLINE void pc_parts_each(int count, const vf16 *e, const pc_over *r, int one, vf16 *part) {
  vf16 low[PC_TOGETHER];
  vm16 small = vm_first(0);
  PC_OF_EACH(count) small = vm_or(small, vf_lt(e[c], r[one ? 0 : c].limit));
  if (vm_bits(small)) {
    PC_OF_EACH(count) low[c] = vf_mul(e[c], r[one ? 0 : c].raised_low);
    PC_OF_EACH(count) part[c] = vf_lowered(vf_fma(e[c], r[one ? 0 : c].raised_high, low[c]), PC_RAISED);
  } else {
    PC_OF_EACH(count) low[c] = vf_mul(e[c], r[one ? 0 : c].low);
    PC_OF_EACH(count) part[c] = vf_fma(e[c], r[one ? 0 : c].high, low[c]);
  }
}

/* The maximum of a row that is looked at while another is worked on, vector by vector: what comes next then costs no pass of
 * its own, and is in the caches. NaN is not looked for: it shows in the sum of the terms, if there will be one. */
PC_INLINE float pc_max_found(vf16 top, int64_t n, const float *x) {
  const float max = vf_fold_max(top);
  return max > -INFINITY ? max : pc_row_max(x, n);
}

/* The terms of a part of a row, PC_TOGETHER vectors of which `left` elements are in it, in place of them, added to the lanes of the
 * sum, and kept if there is room. */
PC_INLINE vd16 pc_add_part(vf16 *e, const pc_terms *terms, int moved, int64_t left, float *kept, vd16 lanes) {
  pc_term_each(PC_TOGETHER, e, terms, moved, e);
  if (kept)
    PC_OF_EACH(PC_TOGETHER) vf_store_left(kept + c * LANES, left - c * LANES, e[c]);
  for (int c = 0; c < PC_TOGETHER; c += 2) lanes = vd_add_vf(lanes, vf_add(e[c], e[c + 1]));
  return lanes;
}

/* What goes on beside the sum of a row's terms; each may be NULL. */
typedef struct {
  float *kept;       /* where the terms go */
  const float *soon; /* what is written after this row: its lines are asked for */
  const float *next; /* a row whose maximum is found meanwhile, NaN or not, for */
  float *next_max;
  int far; /* `kept` comes from memory: every line of it is asked for too */
} pc_beside;

PC_INLINE double pc_sum_terms_moved(int moved, int64_t n, const float *x, const pc_terms *terms, const pc_beside *beside) {
  enum { PART = PC_TOGETHER * LANES };
  const pc_terms t = *terms;
  float *const kept = beside->kept;
  const float *const next = beside->next, *const soon = beside->soon;
  const int far = beside->far;
  vd16 lanes = vd_zero();
  vf16 top = vf_set1(-INFINITY);
  for (int64_t i = 0; i < n; i += PART) {
    const int64_t left = n - i;
    vf16 e[PC_TOGETHER];
    if (soon)
      PC_OF_EACH(PC_TOGETHER) __builtin_prefetch(soon + i + c * LANES, 1, 2);
    if (next)
      PC_OF_EACH(PC_TOGETHER) pc_ask_line(next + i + c * LANES);
    if (kept && far)
      PC_OF_EACH(PC_TOGETHER) pc_ask_line(kept + i + c * LANES);
    else if (kept && i % PC_PAGE_FLOATS == 0)
      pc_ask_page(kept + i);
    if (left >= PART) {
      PC_OF_EACH(PC_TOGETHER) {
        e[c] = vf_load(x + i + c * LANES);
        if (next && c % 2) top = vf_max(vf_max(vf_load(next + i + (c - 1) * LANES), vf_load(next + i + c * LANES)), top);
      }
      lanes = pc_add_part(e, &t, moved, PART, kept ? kept + i : NULL, lanes);
    } else { /* what is missing adds nothing */
      PC_OF_EACH(PC_TOGETHER) {
        e[c] = pc_load_row(x + i + c * LANES, left - c * LANES);
        if (next) top = vf_max(pc_load_row(next + i + c * LANES, left - c * LANES), top);
      }
      lanes = pc_add_part(e, &t, moved, left, kept ? kept + i : NULL, lanes);
    }
  }
  if (next) *beside->next_max = pc_max_found(top, n, next);
  return vd_fold_add(lanes);
}

/* The sum of a row's terms; NaN if any element is. */
static inline double pc_sum_terms(int64_t n, const float *x, const pc_terms *terms, pc_beside beside) {
  return terms->base == 0.0f ? pc_sum_terms_moved(0, n, x, terms, &beside) : pc_sum_terms_moved(1, n, x, terms, &beside);
}

/* log of the sum of exp((x - max)/T), from the sum of the terms. */
PC_INLINE double pc_log_sum(double sum, const pc_terms *t) { return pc_log(sum) - t->rest; }

typedef enum { PC_SOFTMAX, PC_LOG_SOFTMAX, PC_LOGSUMEXP } pc_softmax;

/* A line x a + b in floats, a and b in two each: two roundings of the size of the result are left. The upper part of a > 0 is not
 * above it, so that the lower leaves -inf as it is or makes it NaN, which then counts as finite. */
typedef struct { vf16 a, a_low, b, b_low; } pc_line;

PC_INLINE pc_line pc_line_of(double a, vd16 b) {
  const float nearest = (float)a, high = nearest > a ? nextafterf(nearest, 0.0f) : nearest;
  const vf16 b_high = vf_from_vd(b);
  return (pc_line){vf_set1(high), vf_set1((float)(a - (double)high)), b_high, vf_from_vd(vd_sub(b, vd_from_vf(b_high)))};
}

PC_INLINE vf16 pc_on_line(vf16 x, const pc_line *l) {
  return vf_add(vf_fma(x, l->a, l->b), vf_max(vf_fma(x, l->a_low, l->b_low), vf_set1(-FLT_MAX)));
}

/* Whether 1/T is so near 1 that log_softmax is on such a line, where no base is subtracted. */
PC_INLINE int pc_has_line(double inverse) { return inverse > 0x1p-64 && inverse < 0x1p64; }
#endif
