/* What softmax and the losses on it share: a row's maximum m, its terms, and their sum.
 *
 * A term is exp(x/T) over a power of two near exp(m/T), which costs nothing: the power goes into the exponent. The product
 * x log2(e)/T is kept in two floats, so that a term is within 1.1 u of its exact value; where |m|/T is so large that two
 * floats do not suffice, m is taken away first, exactly for all x that count (Sterbenz). The terms of elements i and
 * i + 16 are added, and these sums in float64 lanes, so the sum adds one rounding.
 * Special rows need no test of each element: NaN reaches the sum through its own term, -inf gives the term 0. */
#ifndef PC_SOFTMAX_H
#define PC_SOFTMAX_H

#include <float.h>
#include <math.h>

#include "elementary.h"
#include "vocabulary.h"

/* A whole vector, or the end of a row filled up with -inf, which adds nothing to a maximum or to a sum of terms. */
PC_INLINE vf16 pc_load_row(const float *x, int64_t left) {
  if (left >= LANES) return vf_load(x);
  return vf_select(vm_first(left), vf_load_n(x, left), vf_set1(-INFINITY));
}

PC_INLINE void pc_store_row(float *y, int64_t left, vf16 v) {
  if (left >= LANES) vf_store(y, v);
  else vf_store_n(y, left, v);
}

PC_INLINE void pc_fill_row(float *y, int64_t n, float value) {
  for (int64_t i = 0; i < n; i += LANES) pc_store_row(y + i, n - i, vf_set1(value));
}

/* The largest element that is not NaN; -inf where there is none. Exact, so the order does not matter. */
PC_INLINE float pc_row_max(const float *x, int64_t n) {
  enum { CHAINS = 4 };
  vf16 a[CHAINS];
  for (int c = 0; c < CHAINS; c++) a[c] = vf_set1(-INFINITY);
  int64_t i = 0;
  for (; i + CHAINS * LANES <= n; i += CHAINS * LANES)
    for (int c = 0; c < CHAINS; c++) a[c] = vf_max(vf_load(x + i + c * LANES), a[c]);
  for (; i < n; i += LANES) a[0] = vf_max(pc_load_row(x + i, n - i), a[0]);
  return vf_fold_max(vf_max(vf_max(a[0], a[1]), vf_max(a[2], a[3])));
}

/* What a row is, told by its maximum: for all but a finite one the result is known. */
typedef enum { PC_ROW_FINITE, PC_ROW_EMPTY, PC_ROW_NAN } pc_row_kind;

PC_INLINE int pc_row_has_nan(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (x[i] != x[i]) return 1;
  return 0;
}

PC_INLINE pc_row_kind pc_classify_row(const float *x, int64_t n, float max) {
  if (max == INFINITY) return PC_ROW_NAN;
  if (max > -INFINITY) return PC_ROW_FINITE;
  return pc_row_has_nan(x, n) ? PC_ROW_NAN : PC_ROW_EMPTY;
}

/* Terms of a row: 2^((x - base) c - shift), c = log2(e)/T in two floats, kept normal so that -inf gives 0; base is 0 or
 * the maximum, shift the integer next to (max - base) c, and rest the logarithm of exp((max - base)/T) over 2^shift. */
typedef struct {
  vf16 base, c, c_low, shift;
  double rest;
} pc_terms;

PC_INLINE pc_terms pc_terms_of(float max, double temperature) {
  const double exact = 0x1.71547652b82fep+0 / temperature; /* log2(e) */
  const double kept = exact < FLT_MIN ? FLT_MIN : exact > FLT_MAX ? FLT_MAX : exact;
  const float base = fabs(max * kept) > 0x1p17 ? max : 0.0f;
  const double top = ((double)max - base) * kept, shift = rint(top);
  return (pc_terms){vf_set1(base), vf_set1((float)kept), vf_set1((float)(kept - (double)(float)kept)), vf_set1((float)shift),
                    (top - shift) * 0x1.62e42fefa39efp-1};
}

PC_INLINE void pc_term_each(int count, const vf16 *x, const pc_terms *t, vf16 *e) {
  vf16 z[PC_TOGETHER], h[PC_TOGETHER], d[PC_TOGETHER];
  PC_OF_EACH(count) z[c] = vf_sub(x[c], t->base);
  PC_OF_EACH(count) h[c] = vf_mul(z[c], t->c);
  PC_OF_EACH(count) d[c] = vf_fnma(z[c], t->c, h[c]);
  PC_OF_EACH(count) d[c] = vf_fnma(z[c], t->c_low, d[c]);
  vf_exp2_each(count, h, d, t->shift, e);
}

PC_INLINE vf16 pc_term(vf16 x, const pc_terms *t) {
  vf16 e;
  pc_term_each(1, &x, t, &e);
  return e;
}

/* The sum of a row's terms; the terms themselves go to `keep`, if given. */
static inline double pc_sum_terms(int64_t n, const float *x, const pc_terms *terms, float *keep) {
  enum { PART = PC_TOGETHER * LANES };
  const pc_terms t = *terms;
  vd16 lanes = vd_zero();
  int64_t i = 0;
  for (; i + PART <= n; i += PART) {
    vf16 e[PC_TOGETHER];
    PC_OF_EACH(PC_TOGETHER) e[c] = vf_load(x + i + c * LANES);
    pc_term_each(PC_TOGETHER, e, &t, e);
    if (keep)
      PC_OF_EACH(PC_TOGETHER) vf_store(keep + i + c * LANES, e[c]);
    for (int c = 0; c < PC_TOGETHER; c += 2) lanes = vd_add_vf(lanes, vf_add(e[c], e[c + 1]));
  }
  for (; i < n; i += 2 * LANES) { /* what is missing of a pair adds nothing */
    const int64_t left = n - i;
    vf16 e = pc_term(pc_load_row(x + i, left), &t);
    if (keep) pc_store_row(keep + i, left, e);
    if (left > LANES) {
      const vf16 other = pc_term(pc_load_row(x + i + LANES, left - LANES), &t);
      if (keep) pc_store_row(keep + i + LANES, left - LANES, other);
      e = vf_add(e, other);
    }
    lanes = vd_add_vf(lanes, e);
  }
  return vd_fold_add(lanes);
}

/* log of a finite x > 0, within 2^-50 relative to max(1, |log x|): atanh series about sqrt 1/2 .. sqrt 2. */
PC_INLINE double pc_log(double x) {
  int k;
  double m = frexp(x, &k);
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2.0;
    k -= 1;
  }
  const double f = (m - 1.0) / (m + 1.0), s = f * f;
  double p = 1.0 / 23.0;
  for (int i = 21; i > 1; i -= 2) p = fma(p, s, 1.0 / i);
  return fma(k, 0x1.62e42fefa39efp-1, 2.0 * fma(f * s, p, f));
}

/* log of the sum of exp((x - max)/T), from the sum of the terms. */
PC_INLINE double pc_log_sum(double sum, const pc_terms *t) { return pc_log(sum) - t->rest; }
#endif
