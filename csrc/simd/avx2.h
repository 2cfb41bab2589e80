/* The vocabulary on AVX2, FMA and F16C (AVX-VNNI where the level has it): two ymm registers. Definitions: scalar.h. */
#include "x86.h"

/* 16 registers: 12 accumulators, two halves of a weight vector, one or two broadcasts. */
#define PC_TILE_ROWS 6
#define PC_TILE_VECTORS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 3 : (rows) == 3 ? 2 : 1)
#ifndef __AVXVNNI__
#define PC_DOT_PAIRS
#endif
#if defined __AVXVNNI__ || defined PC_PAIRS
#define PC_DOT_ROWS PC_TILE_ROWS
#define PC_DOT_VECTORS(rows) ((rows) <= 2 ? 3 : 1)
#define PC_DOT_CHAINS(rows) ((rows) == 1 || (rows) == 3 ? 2 : 1)
#else /* four registers an accumulator; of more than two rows two at a time */
#define PC_DOT_ROWS 6
#define PC_DOT_VECTORS(rows) ((rows) == 1 ? 3 : 1)
#define PC_DOT_PASSES(rows) ((rows) <= 2 ? 1 : 2)
#define PC_DOT_TURN(rows) ((rows) == 1 ? 1 : 2)
#define PC_DOT_DEPTH 64
#define PC_DOT_SUMS
#endif

typedef struct { __m256 a, b; } vf16;
typedef struct { __m256i a, b; } vi16;
typedef struct { __m256i a, b; } vm16; /* all bits of a lane, or none */
typedef struct { __m256d a, b, c, d; } vd16;
typedef __m256 vf4; /* the four twice */
typedef __m128 vq4;

#define PC_BOTH(type, op, x, y) return (type){op((x).a, (y).a), op((x).b, (y).b)}

/* -- memory */
PC_INLINE vm16 vm_first(int64_t n) {
  const __m256i count = _mm256_set1_epi32(n > 16 ? 16 : (int32_t)n);
  return (vm16){_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
                _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
PC_INLINE vf16 vf_load(const float *p) { return (vf16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
PC_INLINE vf16 vf_load_n(const float *p, int64_t n) { const vm16 m = vm_first(n); return (vf16){_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b)}; }
PC_INLINE void vf_store(float *p, vf16 a) { _mm256_storeu_ps(p, a.a); _mm256_storeu_ps(p + 8, a.b); }
PC_INLINE void vf_store_n(float *p, int64_t n, vf16 a) { const vm16 m = vm_first(n); _mm256_maskstore_ps(p, m.a, a.a); _mm256_maskstore_ps(p + 8, m.b, a.b); }
PC_INLINE vi16 vi_load(const void *p) { return (vi16){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)}; }
PC_INLINE vi16 vi_load_n(const int32_t *p, int64_t n) { const vm16 m = vm_first(n); return (vi16){_mm256_maskload_epi32(p, m.a), _mm256_maskload_epi32(p + 8, m.b)}; }
PC_INLINE void vi_store(void *p, vi16 a) { _mm256_storeu_si256(p, a.a); _mm256_storeu_si256((__m256i *)p + 1, a.b); }
PC_INLINE void vi_store_n(int32_t *p, int64_t n, vi16 a) { const vm16 m = vm_first(n); _mm256_maskstore_epi32(p, m.a, a.a); _mm256_maskstore_epi32(p + 8, m.b, a.b); }
PC_INLINE __m128i pc_low_bytes(__m256i a) { /* the low byte of 8 lanes, in the low 8 bytes */
  const __m256i low = _mm256_shuffle_epi8(a, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                                             -1, -1, -1, -1, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1));
  return _mm_or_si128(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
}
PC_INLINE void pc_store_n(void *p, int64_t size, __m256i a) { /* the first so many bytes */
  if (size >= 32) { _mm256_storeu_si256(p, a); return; }
  uint8_t all[32];
  _mm256_storeu_si256((__m256i *)all, a);
  __builtin_memcpy(p, all, (size_t)size);
}
PC_INLINE void vi_store_halves_n(void *p, int64_t n, vi16 a) {
  const __m256i low = _mm256_set1_epi32(0xffff);
  pc_store_n(p, 2 * n, _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(a.a, low), _mm256_and_si256(a.b, low)), 0xd8));
}
PC_INLINE void vf_store_f16_n(uint16_t *p, int64_t n, vf16 a) {
  enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
  pc_store_n(p, 2 * n, _mm256_set_m128i(_mm256_cvtps_ph(a.b, NEAREST), _mm256_cvtps_ph(a.a, NEAREST)));
}
PC_INLINE void vi_store_bytes_n(void *p, int64_t n, vi16 a) {
  const __m128i bytes = _mm_unpacklo_epi64(pc_low_bytes(a.a), pc_low_bytes(a.b));
  if (n >= 16) { _mm_storeu_si128(p, bytes); return; }
  uint8_t all[16];
  _mm_storeu_si128((__m128i *)all, bytes);
  __builtin_memcpy(p, all, (size_t)n);
}
PC_INLINE vi16 vi_codes(int is_signed, vi16 a, vi16 b, vi16 c, vi16 d) { /* fours packed: a0 a2 b0 b2 a1 a3 b1 b3 */
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i a0 = _mm256_packs_epi32(a.a, a.b), b0 = _mm256_packs_epi32(b.a, b.b), c0 = _mm256_packs_epi32(c.a, c.b), d0 = _mm256_packs_epi32(d.a, d.b);
  const __m256i ab = is_signed ? _mm256_packs_epi16(a0, b0) : _mm256_packus_epi16(a0, b0), cd = is_signed ? _mm256_packs_epi16(c0, d0) : _mm256_packus_epi16(c0, d0);
  return (vi16){_mm256_permutevar8x32_epi32(ab, order), _mm256_permutevar8x32_epi32(cd, order)};
}
PC_INLINE void vf_stream(float *p, vf16 a) { _mm256_stream_ps(p, a.a); _mm256_stream_ps(p + 8, a.b); }
PC_INLINE void vf_stream_fence(void) { _mm_sfence(); }
PC_INLINE vi16 vi_load_u8(const uint8_t *p) { return (vi16){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)), _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))}; }
PC_INLINE vi16 vi_load_s8(const int8_t *p) { return (vi16){_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)), _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))}; }
PC_INLINE vi16 vi_load_u16(const uint16_t *p) { return (vi16){_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p + 1))}; }
PC_INLINE vf16 vf_load_f16(const uint16_t *p) { return (vf16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))}; }
/* Loads one by one: the gather instruction is slower on most CPUs that stop at AVX2, and QEMU 7.2 gets it wrong. */
PC_INLINE vf16 vf_gather(const float *p, const uint16_t *at) {
  return (vf16){_mm256_set_m128(pc_pick4(p, at + 4), pc_pick4(p, at)), _mm256_set_m128(pc_pick4(p, at + 12), pc_pick4(p, at + 8))};
}
PC_INLINE vi16 vi_gather(const int32_t *p, const uint16_t *at) {
  const vf16 bits = vf_gather((const float *)(const void *)p, at);
  return (vi16){_mm256_castps_si256(bits.a), _mm256_castps_si256(bits.b)};
}
PC_INLINE vf16 vf_gather_at_once(const float *p, const uint16_t *at) { return vf_gather(p, at); }
PC_INLINE vi16 vi_gather_at_once(const int32_t *p, const uint16_t *at) { return vi_gather(p, at); }
PC_INLINE __m256 pc_expand8(const float *p, uint32_t bits) { return _mm256_permutevar8x32_ps(_mm256_loadu_ps(p), pc_takes8(bits)); }
PC_INLINE vf16 vf_expand(const float *p, uint32_t bits) { return (vf16){pc_expand8(p, bits), pc_expand8(p + __builtin_popcount(bits & 0xff), bits >> 8)}; }
PC_INLINE vf16 vf_spread(const float *p, uint32_t bits) { return vf_expand(p, bits); }

/* -- four lanes */
PC_INLINE vq4 vq_load(const float *p) { return _mm_loadu_ps(p); }
PC_INLINE void vq_store(float *p, vq4 a) { _mm_storeu_ps(p, a); }
PC_INLINE vq4 vq_zero(void) { return _mm_setzero_ps(); }
PC_INLINE vq4 vq_fma1(vq4 a, const float *b, vq4 c) { return _mm_fmadd_ps(a, _mm_set1_ps(*b), c); }

/* -- constants */
PC_INLINE vf16 vf_set1(float x) { const __m256 v = _mm256_set1_ps(x); return (vf16){v, v}; }
PC_INLINE vf4 vf_load4(const float *p) { return _mm256_broadcast_ps((const __m128 *)(const void *)p); }
PC_INLINE vf16 vf_one_of(vf4 q, int i) {
  const __m256 v = i == 0 ? _mm256_permute_ps(q, 0) : i == 1 ? _mm256_permute_ps(q, 0x55) : i == 2 ? _mm256_permute_ps(q, 0xaa) : _mm256_permute_ps(q, 0xff);
  return (vf16){v, v};
}
PC_INLINE vf16 vf_zero(void) { return vf_set1(0.0f); }
PC_INLINE vi16 vi_set1(int32_t x) { const __m256i v = _mm256_set1_epi32(x); return (vi16){v, v}; }
PC_INLINE vi16 vi_zero(void) { return vi_set1(0); }
PC_INLINE vi16 vi_set1_bytes(const void *p) { int32_t x; __builtin_memcpy(&x, p, 4); return vi_set1(x); }

/* -- float arithmetic */
PC_INLINE vf16 vf_add(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_add_ps, a, b); }
PC_INLINE vf16 vf_sub(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_sub_ps, a, b); }
PC_INLINE vf16 vf_mul(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_mul_ps, a, b); }
PC_INLINE vf16 vf_div(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_div_ps, a, b); }
PC_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c) { return (vf16){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)}; }
PC_INLINE vf16 vf_fma1(vf16 a, const float *b, vf16 c) { return vf_fma(a, vf_set1(*b), c); }
PC_INLINE vf16 vf_fnma(vf16 a, vf16 b, vf16 c) { return (vf16){_mm256_fnmadd_ps(a.a, b.a, c.a), _mm256_fnmadd_ps(a.b, b.b, c.b)}; }
PC_INLINE vf16 vf_max(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_max_ps, a, b); }
PC_INLINE vf16 vf_min(vf16 a, vf16 b) { PC_BOTH(vf16, _mm256_min_ps, a, b); }
PC_INLINE vf16 vf_held(vf16 a) { return a; } /* too few registers */
PC_INLINE vf16 vf_abs(vf16 a) { const vf16 sign = vf_set1(-0.0f); PC_BOTH(vf16, _mm256_andnot_ps, sign, a); }
PC_INLINE vf16 vf_rint(vf16 a) { enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }; return (vf16){_mm256_round_ps(a.a, NEAREST), _mm256_round_ps(a.b, NEAREST)}; }
/* 2^n in two factors, each a normal number: the first product is exact, the second rounds once. */
PC_INLINE __m256 pc_power2(__m256i n) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)); }
PC_INLINE __m256 pc_scale2(__m256 x, __m256 n) {
  const __m256i all = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(all, 1);
  return _mm256_mul_ps(_mm256_mul_ps(x, pc_power2(half)), pc_power2(_mm256_sub_epi32(all, half)));
}
PC_INLINE vf16 vf_scale2(vf16 x, vf16 n) { PC_BOTH(vf16, pc_scale2, x, n); }

/* -- comparison and choice */
#define PC_COMPARE(x, y, how) return (vm16){_mm256_castps_si256(_mm256_cmp_ps((x).a, (y).a, how)), _mm256_castps_si256(_mm256_cmp_ps((x).b, (y).b, how))}
PC_INLINE vm16 vf_lt(vf16 a, vf16 b) { PC_COMPARE(a, b, _CMP_LT_OQ); }
PC_INLINE vm16 vf_above(vf16 a, vf16 b) { PC_COMPARE(a, b, _CMP_NLE_UQ); }
PC_INLINE vm16 vf_eq(vf16 a, vf16 b) { PC_COMPARE(a, b, _CMP_EQ_OQ); }
PC_INLINE vm16 vf_unordered(vf16 a, vf16 b) { PC_COMPARE(a, b, _CMP_UNORD_Q); }
PC_INLINE vm16 vf_isnan(vf16 a) { PC_COMPARE(a, a, _CMP_UNORD_Q); }
PC_INLINE vf16 vf_select(vm16 m, vf16 a, vf16 b) { return (vf16){_mm256_blendv_ps(b.a, a.a, _mm256_castsi256_ps(m.a)), _mm256_blendv_ps(b.b, a.b, _mm256_castsi256_ps(m.b))}; }
PC_INLINE vm16 vi_eq(vi16 a, vi16 b) { PC_BOTH(vm16, _mm256_cmpeq_epi32, a, b); }
PC_INLINE vm16 vi_gt(vi16 a, vi16 b) { PC_BOTH(vm16, _mm256_cmpgt_epi32, a, b); }
PC_INLINE vi16 vi_select(vm16 m, vi16 a, vi16 b) { return (vi16){_mm256_blendv_epi8(b.a, a.a, m.a), _mm256_blendv_epi8(b.b, a.b, m.b)}; }
PC_INLINE vm16 vm_and(vm16 a, vm16 b) { PC_BOTH(vm16, _mm256_and_si256, a, b); }
PC_INLINE vm16 vm_or(vm16 a, vm16 b) { PC_BOTH(vm16, _mm256_or_si256, a, b); }
PC_INLINE uint32_t vm_bits(vm16 m) {
  return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.a)) | (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(m.b)) << 8;
}
PC_INLINE vm16 vm_from_bits(uint32_t bits) {
  const __m256i none = _mm256_set1_epi32(-1);
  return (vm16){_mm256_cmpgt_epi32(pc_takes8(bits), none), _mm256_cmpgt_epi32(pc_takes8(bits >> 8), none)};
}

/* -- int32 arithmetic */
PC_INLINE vi16 vi_held(vi16 a) {
  __asm__("" : "+x"(a.a), "+x"(a.b));
  return a;
}
PC_INLINE vi16 vi_add(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_add_epi32, a, b); }
PC_INLINE vi16 vi_sub(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_sub_epi32, a, b); }
PC_INLINE vi16 vi_mul(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_mullo_epi32, a, b); }
PC_INLINE vi16 vi_max(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_max_epi32, a, b); }
PC_INLINE vi16 vi_min(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_min_epi32, a, b); }
PC_INLINE vi16 vi_and(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_and_si256, a, b); }
PC_INLINE vi16 vi_or(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_or_si256, a, b); }
PC_INLINE vi16 vi_xor(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_xor_si256, a, b); }
PC_INLINE vi16 vi_shl(vi16 a, int n) { const __m128i c = _mm_cvtsi32_si128(n); return (vi16){_mm256_sll_epi32(a.a, c), _mm256_sll_epi32(a.b, c)}; }
PC_INLINE vi16 vi_shr(vi16 a, int n) { const __m128i c = _mm_cvtsi32_si128(n); return (vi16){_mm256_srl_epi32(a.a, c), _mm256_srl_epi32(a.b, c)}; }
PC_INLINE vi16 vi_shr_each(vi16 a, vi16 n) { PC_BOTH(vi16, _mm256_srav_epi32, a, n); }
PC_INLINE __m256i pc_mul_fraction(__m256i a, __m256i b) { /* of the products of even and of odd lanes bits 31 to 62 */
  const __m256i half = _mm256_set1_epi64x(1 << 30);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), half);
  return _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
}
PC_INLINE vi16 vi_mul_fraction(vi16 a, vi16 b) { PC_BOTH(vi16, pc_mul_fraction, a, b); }
#ifdef __AVXVNNI__
/* Assembly: around the intrinsic GCC 12 copies and spills the accumulators. */
PC_INLINE __m256i pc_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(u), "x"(s));
  return acc;
}
#elif defined PC_PAIRS
/* Assembly: else GCC 12 multiplies all first, and spills; and the ones would take a register. */
PC_INLINE __m256i pc_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  static const _Alignas(32) int16_t ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  __m256i pairs;
  __asm__("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(pairs) : "x"(u), "x"(s), "m"(ones));
  return acc;
}
#else
/* The first and third byte of each lane, and the second and fourth, as 16 bits: no pair of products saturates. What is done to s
 * is done once for all the u that meet it. */
PC_INLINE __m256i pc_even(__m256i a) { return _mm256_maddubs_epi16(_mm256_set1_epi16(1), a); }
PC_INLINE __m256i pc_odd(__m256i a) { return _mm256_srai_epi16(a, 8); }
PC_INLINE __m256i pc_dot_u8s8(__m256i acc, __m256i u, __m256i s) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(0xff)), pc_even(s));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), pc_odd(s));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
#endif
PC_INLINE vi16 vi_dot_u8s8(vi16 acc, vi16 u, vi16 s) { return (vi16){pc_dot_u8s8(acc.a, u.a, s.a), pc_dot_u8s8(acc.b, u.b, s.b)}; }

#ifdef PC_DOT_PAIRS
/* Whether the products of each pair of neighbours of 64 weights with any bytes add up in 16 bits: those of unlike signs do, since
 * each alone does, and those of like signs where |a + b| <= 128, since 255 * 128 < 2^15. */
PC_INLINE int pc_pairs_fit(const int8_t *w) {
  const __m256i ones = _mm256_set1_epi8(1);
  const __m256i a = _mm256_abs_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256((const __m256i *)w)));
  const __m256i b = _mm256_abs_epi16(_mm256_maddubs_epi16(ones, _mm256_loadu_si256((const __m256i *)w + 1)));
  return !_mm256_movemask_epi8(_mm256_cmpgt_epi16(_mm256_max_epi16(a, b), _mm256_set1_epi16(128)));
}
#endif

#if !defined __AVXVNNI__ && !defined PC_PAIRS
/* Without a dot product of bytes both sides are widened to 16 bits, where a pair of products is exact: a quarter of a
 * vector of weights is a part, and each lane's sum waits in two. */
#define PC_DOT_WIDE
#define PC_DOT_PARTS 4
typedef int16_t pc_code;
enum { PC_DOT_MOVE = 0 };
typedef struct { __m256i part[4]; } dot16;
typedef __m256i dot_w, dot_x;
PC_INLINE dot16 dot_zero(void) { const __m256i z = _mm256_setzero_si256(); return (dot16){{z, z, z, z}}; }
PC_INLINE dot_w dot_load(const int8_t *w, int part) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w + part)); }
PC_INLINE dot_x dot_set1(const pc_code *x) { int64_t v; __builtin_memcpy(&v, x, 8); return _mm256_set1_epi64x(v); }
/* Assembly: GCC 12 does all multiplications first, keeps their results, and spills the accumulators for them. Two parts at once are
 * multiplied, then added: by turns, AMD's Zen 3 is a tenth slower. */
PC_INLINE dot16 dot_add(dot16 acc, int first, int parts, dot_x x, const dot_w *w) {
  __m256i pairs;
  if (parts == 1) {
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc.part[first]), "=&x"(pairs) : "x"(x), "x"(*w));
    return acc;
  }
#pragma GCC unroll 2
  for (int p = first; p < first + parts; p += 2, w += 2) {
    dot_x last = x;
    __asm__("vpmaddwd %4, %3, %2\n\tvpmaddwd %5, %3, %3\n\tvpaddd %2, %0, %0\n\tvpaddd %3, %1, %1"
            : "+x"(acc.part[p]), "+x"(acc.part[p + 1]), "=&x"(pairs), "+x"(last) : "x"(w[0]), "x"(w[1]));
  }
  return acc;
}
PC_INLINE __m256i pc_fold_pairs(__m256i a, __m256i b) { return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8); }
PC_INLINE vi16 dot_sum(dot16 acc) { return (vi16){pc_fold_pairs(acc.part[0], acc.part[1]), pc_fold_pairs(acc.part[2], acc.part[3])}; }
#endif

#ifdef PC_DOT_SUMS
/* -- products of sums (gemm_int8_sums.c). Of 16 groups of 4 signed codes, the first and third or the second and fourth: */
PC_INLINE vi16 dot_even(vi16 a) { return (vi16){pc_even(a.a), pc_even(a.b)}; }
PC_INLINE vi16 dot_odd(vi16 a) { return (vi16){pc_odd(a.a), pc_odd(a.b)}; }
PC_INLINE vi16 dot_add_halves(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_add_epi16, a, b); }
PC_INLINE vi16 dot_sub_halves(vi16 a, vi16 b) { PC_BOTH(vi16, _mm256_sub_epi16, a, b); }
/* each lane: acc + the products of both halves of a and b */
PC_INLINE vi16 dot_add_products(vi16 acc, vi16 a, vi16 b) {
  return (vi16){_mm256_add_epi32(acc.a, _mm256_madd_epi16(a.a, b.a)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(a.b, b.b))};
}
/* the same of odd + x[0] and even + x[1]. Assembly: GCC 12 would spill accumulators. */
PC_INLINE vi16 dot_add_sums(vi16 acc, const int32_t *x, vi16 even, vi16 odd) {
  __m256i a, b, c, d;
  __asm__("vpbroadcastd %6, %2\n\tvpbroadcastd %7, %3\n\t"
          "vpaddw %8, %2, %4\n\tvpaddw %9, %2, %2\n\tvpaddw %10, %3, %5\n\tvpaddw %11, %3, %3\n\t"
          "vpmaddwd %5, %4, %4\n\tvpmaddwd %3, %2, %2\n\tvpaddd %4, %0, %0\n\tvpaddd %2, %1, %1"
          : "+x"(acc.a), "+x"(acc.b), "=&x"(a), "=&x"(b), "=&x"(c), "=&x"(d)
          : "m"(x[0]), "m"(x[1]), "x"(odd.a), "x"(odd.b), "x"(even.a), "x"(even.b));
  return acc;
}
/* to[i*stride ..]: lane i of a, then that of b */
PC_INLINE void dot_store_beside(int32_t *to, int64_t stride, int64_t n, vi16 a, vi16 b) {
  int32_t both[2 * 16];
  const __m256i low[2] = {_mm256_unpacklo_epi32(a.a, b.a), _mm256_unpacklo_epi32(a.b, b.b)};
  const __m256i high[2] = {_mm256_unpackhi_epi32(a.a, b.a), _mm256_unpackhi_epi32(a.b, b.b)};
  for (int i = 0; i < 2; i++) {
    _mm256_storeu_si256((__m256i *)both + 2 * i, _mm256_permute2x128_si256(low[i], high[i], 0x20));
    _mm256_storeu_si256((__m256i *)both + 2 * i + 1, _mm256_permute2x128_si256(low[i], high[i], 0x31));
  }
  for (int64_t i = 0; i < n; i++) __builtin_memcpy(to + i * stride, both + 2 * i, 8);
}
#endif

/* -- lanes moved */
PC_INLINE __m256 pc_take8(vf16 a, __m256i at) { /* bit 3 of a lane says which half */
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a.a, at), _mm256_permutevar8x32_ps(a.b, at), _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
PC_INLINE vf16 vf_take(vf16 a, vi16 at) { return (vf16){pc_take8(a, at.a), pc_take8(a, at.b)}; }
PC_INLINE __m256 pc_take8_of_two(vf16 a, vf16 b, __m256i at) { /* bit 4 says which vector */
  return _mm256_blendv_ps(pc_take8(a, at), pc_take8(b, at), _mm256_castsi256_ps(_mm256_slli_epi32(at, 27)));
}
PC_INLINE vf16 vf_take_of_two(vf16 a, vf16 b, vi16 at) { return (vf16){pc_take8_of_two(a, b, at.a), pc_take8_of_two(a, b, at.b)}; }
PC_INLINE vi16 vi_turn4(vi16 a) { return (vi16){_mm256_shuffle_epi32(a.a, 0x39), _mm256_shuffle_epi32(a.b, 0x39)}; }
PC_INLINE vi16 vi_swap4(vi16 a) { return (vi16){_mm256_permute2x128_si256(a.a, a.a, 1), _mm256_permute2x128_si256(a.b, a.b, 1)}; }
PC_INLINE vi16 vi_swap8(vi16 a) { return (vi16){a.b, a.a}; }
PC_INLINE void pc_transpose8(__m256 *r) { /* pairs, fours, then halves of a register */
  __m256 t[8], f[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    f[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44), f[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    f[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44), f[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) r[j] = _mm256_permute2f128_ps(f[j], f[4 + j], 0x20), r[4 + j] = _mm256_permute2f128_ps(f[j], f[4 + j], 0x31);
}
PC_INLINE void vf_transpose(vf16 *r) { /* by eights */
  __m256 low[8], high[8];
#pragma GCC unroll 2
  for (int h = 0; h < 2; h++) { /* those on the diagonal stay */
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) low[i] = h ? r[8 + i].b : r[i].a;
    pc_transpose8(low);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) if (h) r[8 + i].b = low[i]; else r[i].a = low[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) low[i] = r[8 + i].a;
  pc_transpose8(low);
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) high[i] = r[i].b, r[i].b = low[i];
  pc_transpose8(high);
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) r[8 + i].a = high[i];
}

/* -- conversion */
PC_INLINE vf16 vf_from_vi(vi16 a) { return (vf16){_mm256_cvtepi32_ps(a.a), _mm256_cvtepi32_ps(a.b)}; }
PC_INLINE vi16 vi_from_vf(vf16 a) { return (vi16){_mm256_cvtps_epi32(a.a), _mm256_cvtps_epi32(a.b)}; }
PC_INLINE vi16 vi_from_bits(vf16 a) { return (vi16){_mm256_castps_si256(a.a), _mm256_castps_si256(a.b)}; }
PC_INLINE vf16 vf_from_bits(vi16 a) { return (vf16){_mm256_castsi256_ps(a.a), _mm256_castsi256_ps(a.b)}; }

/* -- one row to one number */
PC_INLINE float vf_fold_add(vf16 a) { return pc_fold8_add(_mm256_add_ps(a.a, a.b)); }
PC_INLINE float vf_fold_max(vf16 a) { return pc_fold8_max(_mm256_max_ps(a.a, a.b)); }
PC_INLINE float vf_fold_min(vf16 a) { return pc_fold8_min(_mm256_min_ps(a.a, a.b)); }
PC_INLINE __m256i pc_both(int max, __m256i a, __m256i b) { return max ? _mm256_max_epi32(a, b) : _mm256_add_epi32(a, b); }
PC_INLINE int32_t pc_fold(int max, vi16 a) {
  __m256i h = pc_both(max, a.a, a.b);
  h = pc_both(max, h, _mm256_permute2x128_si256(h, h, 1));
  h = pc_both(max, h, _mm256_unpackhi_epi64(h, h));
  return _mm256_cvtsi256_si32(pc_both(max, h, _mm256_shuffle_epi32(h, 1)));
}
PC_INLINE int32_t vi_fold_add(vi16 a) { return pc_fold(0, a); }
PC_INLINE int32_t vi_fold_max(vi16 a) { return pc_fold(1, a); }
PC_INLINE __m256i pc_both_halves(int max, __m256i a, __m256i b) {
  return pc_both(max, _mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}
PC_INLINE vi16 pc_fold_each(int max, const vi16 *rows) { /* halves of sixteen, pairs, fours, then halves of a register */
  __m256i h[16], t[8], f[4];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) h[i] = pc_both(max, rows[i].a, rows[i].b);
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++)
    t[i] = pc_both(max, _mm256_unpacklo_epi32(h[2 * i], h[2 * i + 1]), _mm256_unpackhi_epi32(h[2 * i], h[2 * i + 1]));
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    f[i] = pc_both(max, _mm256_unpacklo_epi64(t[2 * i], t[2 * i + 1]), _mm256_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
  return (vi16){pc_both_halves(max, f[0], f[1]), pc_both_halves(max, f[2], f[3])};
}
PC_INLINE vi16 vi_fold_add_each(const vi16 *rows) { return pc_fold_each(0, rows); }
PC_INLINE vi16 vi_fold_max_each(const vi16 *rows) { return pc_fold_each(1, rows); }

/* -- double */
PC_INLINE vd16 vd_zero(void) { const __m256d z = _mm256_setzero_pd(); return (vd16){z, z, z, z}; }
PC_INLINE vd16 vd_load(const double *p) { return (vd16){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4), _mm256_loadu_pd(p + 8), _mm256_loadu_pd(p + 12)}; }
PC_INLINE void vd_store(double *p, vd16 s) { _mm256_storeu_pd(p, s.a); _mm256_storeu_pd(p + 4, s.b); _mm256_storeu_pd(p + 8, s.c); _mm256_storeu_pd(p + 12, s.d); }
PC_INLINE __m256d pc_low_pd(__m256 x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
PC_INLINE __m256d pc_high_pd(__m256 x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
PC_INLINE vd16 vd_add_vf(vd16 s, vf16 x) {
  return (vd16){_mm256_add_pd(s.a, pc_low_pd(x.a)), _mm256_add_pd(s.b, pc_high_pd(x.a)),
                _mm256_add_pd(s.c, pc_low_pd(x.b)), _mm256_add_pd(s.d, pc_high_pd(x.b))};
}
PC_INLINE double vd_fold_add(vd16 s) {
  const __m256d h = _mm256_add_pd(_mm256_add_pd(s.a, s.c), _mm256_add_pd(s.b, s.d));
  const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
  return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}
PC_INLINE vd16 vd_set1(double x) { const __m256d v = _mm256_set1_pd(x); return (vd16){v, v, v, v}; }
PC_INLINE vd16 vd_from_vf(vf16 x) { return (vd16){pc_low_pd(x.a), pc_high_pd(x.a), pc_low_pd(x.b), pc_high_pd(x.b)}; }
PC_INLINE vf16 vf_from_vd(vd16 x) { return (vf16){_mm256_set_m128(_mm256_cvtpd_ps(x.b), _mm256_cvtpd_ps(x.a)), _mm256_set_m128(_mm256_cvtpd_ps(x.d), _mm256_cvtpd_ps(x.c))}; }
PC_INLINE vd16 vd_add(vd16 x, vd16 y) { return (vd16){_mm256_add_pd(x.a, y.a), _mm256_add_pd(x.b, y.b), _mm256_add_pd(x.c, y.c), _mm256_add_pd(x.d, y.d)}; }
PC_INLINE vd16 vd_sub(vd16 x, vd16 y) { return (vd16){_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b), _mm256_sub_pd(x.c, y.c), _mm256_sub_pd(x.d, y.d)}; }
PC_INLINE vd16 vd_mul(vd16 x, vd16 y) { return (vd16){_mm256_mul_pd(x.a, y.a), _mm256_mul_pd(x.b, y.b), _mm256_mul_pd(x.c, y.c), _mm256_mul_pd(x.d, y.d)}; }
PC_INLINE vd16 vd_div(vd16 x, vd16 y) { return (vd16){_mm256_div_pd(x.a, y.a), _mm256_div_pd(x.b, y.b), _mm256_div_pd(x.c, y.c), _mm256_div_pd(x.d, y.d)}; }
PC_INLINE vd16 vd_fma(vd16 x, vd16 y, vd16 z) {
  return (vd16){_mm256_fmadd_pd(x.a, y.a, z.a), _mm256_fmadd_pd(x.b, y.b, z.b), _mm256_fmadd_pd(x.c, y.c, z.c), _mm256_fmadd_pd(x.d, y.d, z.d)};
}
PC_INLINE vd16 vd_max(vd16 x, vd16 y) { return (vd16){_mm256_max_pd(x.a, y.a), _mm256_max_pd(x.b, y.b), _mm256_max_pd(x.c, y.c), _mm256_max_pd(x.d, y.d)}; }
PC_INLINE __m256d pc_select_lt_pd(__m256d a, __m256d b, __m256d x, __m256d y) { return _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_LT_OQ)); }
PC_INLINE vd16 vd_select_lt(vd16 a, vd16 b, vd16 x, vd16 y) {
  return (vd16){pc_select_lt_pd(a.a, b.a, x.a, y.a), pc_select_lt_pd(a.b, b.b, x.b, y.b),
                pc_select_lt_pd(a.c, b.c, x.c, y.c), pc_select_lt_pd(a.d, b.d, x.d, y.d)};
}
PC_INLINE __m256d pc_scale2_pd(__m256d x, __m256d n) {
  return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(x), _mm256_slli_epi64(_mm256_castpd_si256(n), 52)));
}
PC_INLINE vd16 vd_scale2(vd16 x, vd16 n) { return (vd16){pc_scale2_pd(x.a, n.a), pc_scale2_pd(x.b, n.b), pc_scale2_pd(x.c, n.c), pc_scale2_pd(x.d, n.d)}; }
