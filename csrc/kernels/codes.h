/* What every kernel that ends in 8-bit codes shares. */
#ifndef PC_CODES_H
#define PC_CODES_H

#include "vocabulary.h"

enum { MOST = 512 }; /* beyond it a result saturates whatever the zero */

/* rint(q) + zero, as far as that is near a code */
PC_INLINE vi16 unclamped(vf16 q, vi16 zero) {
  return vi_add(vi_from_vf(vf_min(vf_max(q, vf_set1(-MOST)), vf_set1(MOST))), zero);
}

/* clamp(rint(q) + zero, low, high) */
PC_INLINE vi16 code_of(vf16 q, vi16 zero, vi16 low, vi16 high) { return vi_min(vi_max(unclamped(q, zero), low), high); }
#endif
