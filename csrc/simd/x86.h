/* What AVX2 and AVX-512 share. */
#include <immintrin.h>

/* The fold of eight lanes, halves by halves. */
PC_INLINE __m128 pc_low(__m256 h) { return _mm256_castps256_ps128(h); }
PC_INLINE __m128 pc_high(__m256 h) { return _mm256_extractf128_ps(h, 1); }
PC_INLINE float pc_fold8_add(__m256 h) {
  __m128 q = _mm_add_ps(pc_low(h), pc_high(h));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ps(q, _mm_shuffle_ps(q, q, 1)));
}
PC_INLINE float pc_fold8_max(__m256 h) {
  __m128 q = _mm_max_ps(pc_low(h), pc_high(h));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ps(q, _mm_shuffle_ps(q, q, 1)));
}
PC_INLINE float pc_fold8_min(__m256 h) {
  __m128 q = _mm_min_ps(pc_low(h), pc_high(h));
  q = _mm_min_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_min_ps(q, _mm_shuffle_ps(q, q, 1)));
}

/* Four places at a time, loaded one by one. */
typedef float __attribute__((may_alias)) pc_any;
PC_INLINE __m128 pc_pick4(const pc_any *p, const uint16_t *at) {
  uint64_t four;
  __builtin_memcpy(&four, at, sizeof four);
  return _mm_setr_ps(p[four & 0xffff], p[four >> 16 & 0xffff], p[four >> 32 & 0xffff], p[four >> 48]);
}
