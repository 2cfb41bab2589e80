/* What softmax and the losses on it share: a row's maximum m, its terms exp((x - m)/T), and their sum.
 *
 * The argument is kept in two floats from the subtraction on, so that a term is within 1.1 u of its exact value however
 * large |x|/T is; the terms are summed in float64 lanes, so the sum adds no error of its own.
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

/* Terms of a row: e^((x - max)/T) = 2^((x - max) c), c = log2(e)/T in two floats, kept normal so that -inf gives 0. */
typedef struct { vf16 max, c, c_low; } pc_terms;

PC_INLINE pc_terms pc_terms_of(float max, double temperature) {
  const double exact = 0x1.71547652b82fep+0 / temperature; /* log2(e) */
  const double kept = exact < FLT_MIN ? FLT_MIN : exact > FLT_MAX ? FLT_MAX : exact;
  return (pc_terms){vf_set1(max), vf_set1((float)kept), vf_set1((float)(kept - (double)(float)kept))};
}

PC_INLINE vf16 pc_term(vf16 x, pc_terms t) {
  const vf16 z = vf_sub(x, t.max), back = vf_sub(z, x);
  const vf16 z_low = vf_sub(vf_sub(x, vf_sub(z, back)), vf_add(t.max, back)); /* Knuth's exact sum */
  /* Below 2^-160 all is 0. There d, what h lacks, may be anything: both bounds are in the operand that NaN leaves. */
  const vf16 h = vf_max(vf_set1(-160.0f), vf_mul(z, t.c));
  const vf16 d = vf_fnma(z_low, t.c, vf_fnma(z, t.c_low, vf_fnma(z, t.c, h)));
  return vf_exp2(h, vf_min(d, vf_set1(0x1p-6f)));
}

/* The sum of a row's terms; the terms themselves go to `keep`, if given. */
static inline double pc_sum_terms(int64_t n, const float *x, pc_terms t, float *keep) {
  vd16 lanes = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vf16 e = pc_term(pc_load_row(x + i, n - i), t);
    if (keep) pc_store_row(keep + i, n - i, e);
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
#endif
