/* What AVX2 and AVX-512 share. */
#include <immintrin.h>

/* Four places at a time, loaded one by one. */
typedef float __attribute__((may_alias)) pc_any;
PC_INLINE __m128 pc_pick4(const pc_any *p, const uint16_t *at) {
  uint64_t four;
  __builtin_memcpy(&four, at, sizeof four);
  return _mm_setr_ps(p[four & 0xffff], p[four >> 16 & 0xffff], p[four >> 32 & 0xffff], p[four >> 48]);
}
