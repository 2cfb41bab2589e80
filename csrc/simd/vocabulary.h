/* Sixteen lanes under one set of names. The build defines PC_LEVEL (avx2, ...) and PC_SIMD (the header that implements
 * it); scalar.h is the definition: every other header gives the same bits in every lane.
 *
 *   vf  16 x float      vi  16 x int32      vm  16 x bool      vd  16 x double
 *
 * A suffix _n takes a count of leading lanes: the rest is neither read nor written. */
#ifndef PC_VOCABULARY_H
#define PC_VOCABULARY_H

#include <stdint.h>

enum { LANES = 16 };

#define PC_PASTE_(a, b) a##_##b
#define PC_PASTE(a, b) PC_PASTE_(a, b)
#define PC_QUOTE_(x) #x
#define PC_QUOTE(x) PC_QUOTE_(x)

/* The name of a kernel at the level being compiled: pc_axpy_f32_avx2. */
#define PC_FN(name) PC_PASTE(pc_##name, PC_LEVEL)

#define PC_INLINE static inline __attribute__((always_inline))

#include PC_QUOTE(PC_SIMD.h)

/* max(a, 0); NaN stays NaN, -0 becomes +0 */
PC_INLINE vf16 vf_relu(vf16 a) { return vf_select(vf_isnan(a), a, vf_max(a, vf_zero())); }
#endif
