/* The vocabulary on AVX-512 (F, BW, DQ, VL; VNNI where the level has it): one zmm register. Definitions: scalar.h. */
#include "x86.h"

/* Zen and Intel retire one or two fma of 64 bytes a cycle: 24 accumulators hide their latency and leave room for operands. */
#define PC_TILE_ROWS 8
#define PC_TILE_VECTORS(rows) ((rows) <= 2 ? 8 : (rows) <= 4 ? 6 : 3)
#ifdef __AVX512VNNI__
#define PC_DOT_ROWS PC_TILE_ROWS
#define PC_DOT_VECTORS(rows) 3
#define PC_DOT_CHAINS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#define PC_DOT_DEPTH 64
#else /* two registers an accumulator */
#define PC_DOT_ROWS 8
#define PC_DOT_VECTORS(rows) ((rows) <= 4 ? 3 : 1)
#endif

#define PC_SHUFFLES_DELAY_FMA 1 /* Intel: one of two */

typedef __m512 vf16;
typedef __m512i vi16;
typedef __mmask16 vm16;
typedef struct { __m512d lo, hi; } vd16;
typedef __m512 vf4; /* the four four times */
typedef __m128 vq4;

/* -- memory */
PC_INLINE vm16 vm_first(int64_t n) { return (vm16)(n >= 16 ? 0xffffu : (1u << n) - 1u); }
PC_INLINE vf16 vf_load(const float *p) { return _mm512_loadu_ps(p); }
PC_INLINE vf16 vf_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
PC_INLINE void vf_store(float *p, vf16 a) { _mm512_storeu_ps(p, a); }
PC_INLINE void vf_store_n(float *p, int64_t n, vf16 a) { _mm512_mask_storeu_ps(p, vm_first(n), a); }
PC_INLINE vi16 vi_load(const void *p) { return _mm512_loadu_si512(p); }
PC_INLINE vi16 vi_load_n(const int32_t *p, int64_t n) { return _mm512_maskz_loadu_epi32(vm_first(n), p); }
PC_INLINE void vi_store(void *p, vi16 a) { _mm512_storeu_si512(p, a); }
PC_INLINE void vi_store_n(int32_t *p, int64_t n, vi16 a) { _mm512_mask_storeu_epi32(p, vm_first(n), a); }
PC_INLINE void vi_store_halves_n(void *p, int64_t n, vi16 a) { _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtepi32_epi16(a)); }
PC_INLINE void vf_store_f16_n(uint16_t *p, int64_t n, vf16 a) { _mm256_mask_storeu_epi16(p, vm_first(n), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
PC_INLINE void vi_store_bytes_n(void *p, int64_t n, vi16 a) { _mm_mask_storeu_epi8(p, vm_first(n), _mm512_cvtepi32_epi8(a)); }
PC_INLINE vi16 vi_codes(int is_signed, vi16 a, vi16 b, vi16 c, vi16 d) { /* quarters packed: a0 b0 c0 d0 a1 ... */
  const __m512i ab = _mm512_packs_epi32(a, b), cd = _mm512_packs_epi32(c, d);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, is_signed ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd));
}
PC_INLINE void vf_stream(float *p, vf16 a) { _mm512_stream_ps(p, a); }
PC_INLINE void vf_stream_fence(void) { _mm_sfence(); }
PC_INLINE vi16 vi_load_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
PC_INLINE vi16 vi_load_s8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
PC_INLINE vi16 vi_load_u16(const uint16_t *p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)); }
PC_INLINE vf16 vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
/* Loads one by one, or the gather instruction: see pc_cpu_gathers. */
PC_INLINE vf16 vf_gather(const float *p, const uint16_t *at) {
  const __m256 low = _mm256_set_m128(pc_pick4(p, at + 4), pc_pick4(p, at));
  const __m256 high = _mm256_set_m128(pc_pick4(p, at + 12), pc_pick4(p, at + 8));
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
PC_INLINE vi16 vi_gather(const int32_t *p, const uint16_t *at) { return _mm512_castps_si512(vf_gather((const float *)(const void *)p, at)); }
#define PC_GATHERS 1
PC_INLINE vf16 vf_gather_at_once(const float *p, const uint16_t *at) { return _mm512_i32gather_ps(vi_load_u16(at), p, 4); }
PC_INLINE vi16 vi_gather_at_once(const int32_t *p, const uint16_t *at) { return _mm512_i32gather_epi32(vi_load_u16(at), p, 4); }
PC_INLINE vf16 vf_expand(const float *p, uint32_t bits) { return _mm512_maskz_expand_ps((__mmask16)bits, _mm512_loadu_ps(p)); }
#define PC_SPREADS 1
PC_INLINE vf16 vf_spread(const float *p, uint32_t bits) {
  __asm__("" : "+r"(bits)); /* GCC 12 would take the low byte back from the mask register */
  const uint32_t low = bits & 0xff, high = bits >> 8;
  const __m256 a = _mm256_permutexvar_ps(pc_takes8(low), _mm256_loadu_ps(p));
  const __m256 b = _mm256_permutexvar_ps(pc_takes8(high), _mm256_loadu_ps(p + __builtin_popcount(low)));
  return _mm512_maskz_mov_ps((__mmask16)bits, _mm512_insertf32x8(_mm512_castps256_ps512(a), b, 1));
}

/* -- four lanes */
PC_INLINE vq4 vq_load(const float *p) { return _mm_loadu_ps(p); }
PC_INLINE void vq_store(float *p, vq4 a) { _mm_storeu_ps(p, a); }
PC_INLINE vq4 vq_zero(void) { return _mm_setzero_ps(); }
PC_INLINE vq4 vq_fma1(vq4 a, const float *b, vq4 c) { return _mm_fmadd_ps(a, _mm_set1_ps(*b), c); }

/* -- constants */
PC_INLINE vf16 vf_set1(float x) { return _mm512_set1_ps(x); }
PC_INLINE vf16 vf_zero(void) { return _mm512_setzero_ps(); }
PC_INLINE vf4 vf_load4(const float *p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
PC_INLINE vf16 vf_one_of(vf4 q, int i) {
  return i == 0 ? _mm512_permute_ps(q, 0) : i == 1 ? _mm512_permute_ps(q, 0x55) : i == 2 ? _mm512_permute_ps(q, 0xaa) : _mm512_permute_ps(q, 0xff);
}
PC_INLINE vi16 vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
PC_INLINE vi16 vi_zero(void) { return _mm512_setzero_si512(); }
PC_INLINE vi16 vi_set1_bytes(const void *p) { int32_t x; __builtin_memcpy(&x, p, 4); return _mm512_set1_epi32(x); }

/* -- float arithmetic */
PC_INLINE vf16 vf_add(vf16 a, vf16 b) { return _mm512_add_ps(a, b); }
PC_INLINE vf16 vf_sub(vf16 a, vf16 b) { return _mm512_sub_ps(a, b); }
PC_INLINE vf16 vf_mul(vf16 a, vf16 b) { return _mm512_mul_ps(a, b); }
PC_INLINE vf16 vf_div(vf16 a, vf16 b) { return _mm512_div_ps(a, b); }
PC_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c) { return _mm512_fmadd_ps(a, b, c); }
PC_INLINE vf16 vf_fma1(vf16 a, const float *b, vf16 c) { /* one instruction, as compilers do not always make it */
  __asm__("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(a), "m"(*b));
  return c;
}
PC_INLINE vf16 vf_fnma(vf16 a, vf16 b, vf16 c) { return _mm512_fnmadd_ps(a, b, c); }
PC_INLINE vf16 vf_max(vf16 a, vf16 b) { return _mm512_max_ps(a, b); }
PC_INLINE vf16 vf_min(vf16 a, vf16 b) { return _mm512_min_ps(a, b); }
PC_INLINE vf16 vf_held(vf16 a) {
  __asm__ volatile("" : "+v"(a));
  return a;
}
PC_INLINE vf16 vf_abs(vf16 a) { return _mm512_abs_ps(a); }
PC_INLINE vf16 vf_rint(vf16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PC_INLINE vf16 vf_scale2(vf16 x, vf16 n) { return _mm512_scalef_ps(x, n); }

/* -- comparison and choice */
PC_INLINE vm16 vf_lt(vf16 a, vf16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
PC_INLINE vm16 vf_above(vf16 a, vf16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLE_UQ); }
PC_INLINE vm16 vf_eq(vf16 a, vf16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
PC_INLINE vm16 vf_unordered(vf16 a, vf16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
PC_INLINE vm16 vf_isnan(vf16 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
PC_INLINE vf16 vf_select(vm16 m, vf16 a, vf16 b) { return _mm512_mask_mov_ps(b, m, a); }
PC_INLINE vm16 vi_eq(vi16 a, vi16 b) { return _mm512_cmpeq_epi32_mask(a, b); }
PC_INLINE vm16 vi_gt(vi16 a, vi16 b) { return _mm512_cmpgt_epi32_mask(a, b); }
PC_INLINE vi16 vi_select(vm16 m, vi16 a, vi16 b) { return _mm512_mask_mov_epi32(b, m, a); }
PC_INLINE vm16 vm_and(vm16 a, vm16 b) { return (vm16)(a & b); }
PC_INLINE vm16 vm_or(vm16 a, vm16 b) { return (vm16)(a | b); }
PC_INLINE uint32_t vm_bits(vm16 m) { return m; }
PC_INLINE vm16 vm_from_bits(uint32_t bits) { return (vm16)bits; }

/* -- int32 arithmetic */
PC_INLINE vi16 vi_held(vi16 a) {
  __asm__("" : "+v"(a));
  return a;
}
PC_INLINE vi16 vi_add(vi16 a, vi16 b) { return _mm512_add_epi32(a, b); }
PC_INLINE vi16 vi_sub(vi16 a, vi16 b) { return _mm512_sub_epi32(a, b); }
PC_INLINE vi16 vi_mul(vi16 a, vi16 b) { return _mm512_mullo_epi32(a, b); }
PC_INLINE vi16 vi_max(vi16 a, vi16 b) { return _mm512_max_epi32(a, b); }
PC_INLINE vi16 vi_min(vi16 a, vi16 b) { return _mm512_min_epi32(a, b); }
PC_INLINE vi16 vi_and(vi16 a, vi16 b) { return _mm512_and_si512(a, b); }
PC_INLINE vi16 vi_or(vi16 a, vi16 b) { return _mm512_or_si512(a, b); }
PC_INLINE vi16 vi_xor(vi16 a, vi16 b) { return _mm512_xor_si512(a, b); }
PC_INLINE vi16 vi_shl(vi16 a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
PC_INLINE vi16 vi_shr(vi16 a, int n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n)); }
PC_INLINE vi16 vi_shr_each(vi16 a, vi16 n) { return _mm512_srav_epi32(a, n); }
PC_INLINE vi16 vi_mul_fraction(vi16 a, vi16 b) { /* of the products of even and of odd lanes bits 31 to 62 */
  const __m512i half = _mm512_set1_epi64(1 << 30);
  const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
  const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), half);
  return _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 31), 0xaaaa, _mm512_slli_epi64(odd, 1));
}
#ifdef __AVX512VNNI__
/* Assembly: around the intrinsic GCC 12 copies and spills the accumulators, at half the speed. */
PC_INLINE vi16 vi_dot_u8s8(vi16 acc, vi16 u, vi16 s) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
  return acc;
}
#else
/* u = 2*(u>>1) + (u&1): with u>>1 <= 127 a pair of products is at most 2*127*128 = 32512 and cannot saturate. */
PC_INLINE vi16 vi_dot_u8s8(vi16 acc, vi16 u, vi16 s) {
  const __m512i high = _mm512_and_si512(_mm512_srli_epi16(u, 1), _mm512_set1_epi8(0x7f));
  const __m512i low = _mm512_and_si512(u, _mm512_set1_epi8(1));
  acc = _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(high, s), _mm512_set1_epi16(2)));
  return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(low, s), _mm512_set1_epi16(1)));
}
#endif

#ifndef __AVX512VNNI__
/* Without a dot product of bytes both sides are widened to 16 bits, where a pair of products is exact: half a vector of
 * weights is a part, and each lane's sum waits in two. */
#define PC_DOT_WIDE
#define PC_DOT_PARTS 2
typedef int16_t pc_code;
enum { PC_DOT_MOVE = 0 };
typedef struct { __m512i part[2]; } dot16;
typedef __m512i dot_w, dot_x;
PC_INLINE dot16 dot_zero(void) { return (dot16){{_mm512_setzero_si512(), _mm512_setzero_si512()}}; }
PC_INLINE dot_w dot_load(const int8_t *w, int part) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w + part)); }
PC_INLINE dot_x dot_set1(const pc_code *x) { int64_t v; __builtin_memcpy(&v, x, 8); return _mm512_set1_epi64(v); }
/* Assembly: as in avx2.h */
PC_INLINE dot16 dot_add(dot16 acc, int first, int parts, dot_x x, const dot_w *w) {
#pragma GCC unroll 2
  for (int p = 0; p < parts; p++) {
    __m512i pairs;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(acc.part[first + p]), "=&v"(pairs) : "v"(x), "v"(w[p]));
  }
  return acc;
}
PC_INLINE vi16 dot_sum(dot16 acc) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return _mm512_add_epi32(_mm512_permutex2var_epi32(acc.part[0], even, acc.part[1]), _mm512_permutex2var_epi32(acc.part[0], odd, acc.part[1]));
}
#endif

/* -- lanes moved */
PC_INLINE vf16 vf_take(vf16 a, vi16 at) { return _mm512_permutexvar_ps(at, a); }
PC_INLINE vf16 vf_take_of_two(vf16 a, vf16 b, vi16 at) { return _mm512_permutex2var_ps(a, at, b); }
PC_INLINE vi16 vi_turn4(vi16 a) { return _mm512_shuffle_epi32(a, 0x39); }
PC_INLINE vi16 vi_swap4(vi16 a) { return _mm512_shuffle_i32x4(a, a, 0xb1); }
PC_INLINE vi16 vi_swap8(vi16 a) { return _mm512_shuffle_i32x4(a, a, 0x4e); }
/* pairs, fours, then eights and sixteens by quarters of a register */
PC_INLINE void vf_transpose(vf16 *r) {
  vf16 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
#define PC_PAIR(op, x, y) _mm512_castpd_ps(op(_mm512_castps_pd(x), _mm512_castps_pd(y)))
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    r[i] = PC_PAIR(_mm512_unpacklo_pd, t[i], t[i + 2]), r[i + 1] = PC_PAIR(_mm512_unpackhi_pd, t[i], t[i + 2]);
    r[i + 2] = PC_PAIR(_mm512_unpacklo_pd, t[i + 1], t[i + 3]), r[i + 3] = PC_PAIR(_mm512_unpackhi_pd, t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    t[j] = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88), t[4 + j] = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
    t[8 + j] = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd), t[12 + j] = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    r[j] = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x88), r[8 + j] = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xdd);
    r[4 + j] = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x88), r[12 + j] = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xdd);
  }
}

/* -- conversion */
PC_INLINE vf16 vf_from_vi(vi16 a) { return _mm512_cvtepi32_ps(a); }
PC_INLINE vi16 vi_from_vf(vf16 a) { return _mm512_cvtps_epi32(a); }
PC_INLINE vi16 vi_from_bits(vf16 a) { return _mm512_castps_si512(a); }
PC_INLINE vf16 vf_from_bits(vi16 a) { return _mm512_castsi512_ps(a); }

/* -- one row to one number */
#define PC_HALVES(op, a) op(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1))
PC_INLINE float vf_fold_add(vf16 a) { return pc_fold8_add(PC_HALVES(_mm256_add_ps, a)); }
PC_INLINE float vf_fold_max(vf16 a) { return pc_fold8_max(PC_HALVES(_mm256_max_ps, a)); }
PC_INLINE float vf_fold_min(vf16 a) { return pc_fold8_min(PC_HALVES(_mm256_min_ps, a)); }
PC_INLINE int32_t vi_fold_add(vi16 a) { return _mm512_reduce_add_epi32(a); }
PC_INLINE int32_t vi_fold_max(vi16 a) { return _mm512_reduce_max_epi32(a); }
PC_INLINE vi16 pc_both(int max, vi16 a, vi16 b) { return max ? vi_max(a, b) : vi_add(a, b); }
PC_INLINE vi16 pc_both_quarters(int max, vi16 a, vi16 b) {
  return pc_both(max, _mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}
PC_INLINE vi16 pc_fold_each(int max, const vi16 *rows) { /* pairs, fours, then quarters of a register */
  vi16 t[8], f[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++)
    t[i] = pc_both(max, _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]), _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]));
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    f[i] = pc_both(max, _mm512_unpacklo_epi64(t[2 * i], t[2 * i + 1]), _mm512_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
  return pc_both_quarters(max, pc_both_quarters(max, f[0], f[1]), pc_both_quarters(max, f[2], f[3]));
}
PC_INLINE vi16 vi_fold_add_each(const vi16 *rows) { return pc_fold_each(0, rows); }
PC_INLINE vi16 vi_fold_max_each(const vi16 *rows) { return pc_fold_each(1, rows); }

/* -- double */
PC_INLINE vd16 vd_zero(void) { return (vd16){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
PC_INLINE vd16 vd_load(const double *p) { return (vd16){_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)}; }
PC_INLINE void vd_store(double *p, vd16 a) { _mm512_storeu_pd(p, a.lo); _mm512_storeu_pd(p + 8, a.hi); }
PC_INLINE vd16 vd_add_vf(vd16 a, vf16 b) {
  return (vd16){_mm512_add_pd(a.lo, _mm512_cvtps_pd(_mm512_castps512_ps256(b))),
                _mm512_add_pd(a.hi, _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)))};
}
PC_INLINE double vd_fold_add(vd16 a) {
  const __m512d e = _mm512_add_pd(a.lo, a.hi);
  const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(e), _mm512_extractf64x4_pd(e, 1));
  const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
  return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}
PC_INLINE vd16 vd_set1(double x) { const __m512d v = _mm512_set1_pd(x); return (vd16){v, v}; }
PC_INLINE vd16 vd_from_vf(vf16 a) { return (vd16){_mm512_cvtps_pd(_mm512_castps512_ps256(a)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1))}; }
PC_INLINE vf16 vf_from_vd(vd16 a) { return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.lo)), _mm512_cvtpd_ps(a.hi), 1); }
PC_INLINE vd16 vd_add(vd16 a, vd16 b) { return (vd16){_mm512_add_pd(a.lo, b.lo), _mm512_add_pd(a.hi, b.hi)}; }
PC_INLINE vd16 vd_sub(vd16 a, vd16 b) { return (vd16){_mm512_sub_pd(a.lo, b.lo), _mm512_sub_pd(a.hi, b.hi)}; }
PC_INLINE vd16 vd_mul(vd16 a, vd16 b) { return (vd16){_mm512_mul_pd(a.lo, b.lo), _mm512_mul_pd(a.hi, b.hi)}; }
PC_INLINE vd16 vd_div(vd16 a, vd16 b) { return (vd16){_mm512_div_pd(a.lo, b.lo), _mm512_div_pd(a.hi, b.hi)}; }
PC_INLINE vd16 vd_fma(vd16 a, vd16 b, vd16 c) { return (vd16){_mm512_fmadd_pd(a.lo, b.lo, c.lo), _mm512_fmadd_pd(a.hi, b.hi, c.hi)}; }
PC_INLINE vd16 vd_max(vd16 a, vd16 b) { return (vd16){_mm512_max_pd(a.lo, b.lo), _mm512_max_pd(a.hi, b.hi)}; }
PC_INLINE vd16 vd_select_lt(vd16 a, vd16 b, vd16 x, vd16 y) {
  return (vd16){_mm512_mask_mov_pd(y.lo, _mm512_cmp_pd_mask(a.lo, b.lo, _CMP_LT_OQ), x.lo),
                _mm512_mask_mov_pd(y.hi, _mm512_cmp_pd_mask(a.hi, b.hi, _CMP_LT_OQ), x.hi)};
}
PC_INLINE __m512d pc_scale2_pd(__m512d x, __m512d n) {
  return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(x), _mm512_slli_epi64(_mm512_castpd_si512(n), 52)));
}
PC_INLINE vd16 vd_scale2(vd16 x, vd16 n) { return (vd16){pc_scale2_pd(x.lo, n.lo), pc_scale2_pd(x.hi, n.hi)}; }
