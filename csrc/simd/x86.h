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

/* For each of the low eight bits which of the next values a lane takes: the count of set bits below its own, or -1 where that is
 * not set. PC_SET has a 1 in each byte whose bit is set, which multiplied become those below it. */
#define PC_ONES UINT64_C(0x0101010101010101)
#define PC_SET(bits) ((((bits) * PC_ONES & UINT64_C(0x8040201008040201)) + UINT64_C(0x7f7f7f7f7f7f7f7f)) >> 7 & PC_ONES)
#define PC_TAKES(bits) (PC_SET(bits) * (PC_ONES << 8) | ~(PC_SET(bits) * 0xff))
#define PC_TAKES4(n) PC_TAKES(n), PC_TAKES(n + 1), PC_TAKES(n + 2), PC_TAKES(n + 3)
#define PC_TAKES16(n) PC_TAKES4(n), PC_TAKES4(n + 4), PC_TAKES4(n + 8), PC_TAKES4(n + 12)
#define PC_TAKES64(n) PC_TAKES16(n), PC_TAKES16(n + 16), PC_TAKES16(n + 32), PC_TAKES16(n + 48)
PC_INLINE __m256i pc_takes8(uint32_t bits) {
  static const uint64_t takes[256] = {PC_TAKES64(0), PC_TAKES64(64), PC_TAKES64(128), PC_TAKES64(192)};
  return _mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)takes[bits & 0xff]));
}
