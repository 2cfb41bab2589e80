/* What every kernel that ends in 8-bit codes shares. */
#ifndef PC_CODES_H
#define PC_CODES_H

#include <stdint.h>

#include "vocabulary.h"

enum { MOST = 512 }; /* beyond it a result saturates whatever the zero */

PC_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* clamp(rint(q) + zero, low, high) */
PC_INLINE vi16 code_of(vf16 q, vi16 zero, vi16 low, vi16 high) {
  const vf16 near = vf_min(vf_max(q, vf_set1(-MOST)), vf_set1(MOST));
  return vi_min(vi_max(vi_add(vi_from_vf(near), zero), low), high);
}

/* One scale for many elements, and where the codes from low to high end. */
typedef struct {
  float scale, inverse; /* inverse 0: divide */
  float least, most;    /* where codes end: of x, or, without an inverse, of the quotient */
  int32_t zero;
} grid;

PC_INLINE grid make_grid(float scale, int32_t zero, int low, int high) {
  const float least = (float)(low - zero), most = (float)(high - zero);
  if (scale >= 0x1p-100f && scale <= 0x1p100f) return (grid){scale, 1.0f / scale, least * scale, most * scale, zero};
  return (grid){scale, 0, least, most, zero};
}

/* How far the codes of 16 elements are above the zero point. With an inverse x is first bounded where the codes end, which
 * rounds to the same codes and keeps the quotient where vf_div_by is a true division or far from a half. */
PC_INLINE vi16 steps_of(vf16 x, grid g, int divide) {
  const vf16 scale = vf_set1(g.scale), least = vf_set1(g.least), most = vf_set1(g.most);
  const vf16 q = divide ? vf_min(vf_max(vf_div(x, scale), least), most)
                        : vf_div_by(vf_min(vf_max(x, least), most), scale, vf_set1(g.inverse));
  return vi_from_vf(q);
}

/* Whether floats [m,k] go past the caches: a store into memory otherwise reads the line first. A row must be so long that
 * the lines at its ends, which are written in parts, do not count. */
PC_INLINE int past_caches(int64_t m, int64_t k) { return k >= 1 << 10 && m * k >= 1 << 23; }

/* Floats to the next line, at most 15. */
PC_INLINE int64_t to_line(const float *p) { return (int64_t)(-(uintptr_t)p % 64 / sizeof *p); }
#endif
