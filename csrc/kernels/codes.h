/* The one way from floats to 8-bit codes, for the quantizers and for products that end in codes. */
#ifndef PC_CODES_H
#define PC_CODES_H

#include "vocabulary.h"

/* clamp(rint(x / scale) + zero, low, high), a true division. Beyond 512 a quotient saturates whatever the zero. */
PC_INLINE vi16 codes_of(vf16 x, vf16 scale, vi16 zero, vi16 low, vi16 high) {
  const vf16 q = vf_min(vf_max(vf_div(x, scale), vf_set1(-512.0f)), vf_set1(512.0f));
  return vi_min(vi_max(vi_add(vi_from_vf(q), zero), low), high);
}
#endif
