/* The vocabulary in plain C: the definition of every operation. Slow; correct everywhere.
 * fmaf is hardware where the C library finds it and correctly rounded software elsewhere. */
#include <math.h>
#include <string.h>

#define PC_TILE_ROWS 4
#define PC_TILE_VECTORS(rows) 1
#define PC_DOT_ROWS PC_TILE_ROWS
#define PC_DOT_VECTORS(rows) 1
#define PC_SLOW_FMA 1

/* Sixteen lanes of plain C, inlined wherever kernels ask for it, take a compiler minutes: it may choose. Templates are then not
 * always cut to their constants, and GCC warns of arrays of which they read no more than they wrote. */
#undef PC_INLINE
#define PC_INLINE static inline
#if defined __GNUC__ && !defined __clang__
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

typedef struct { float v[16]; } vf16;
typedef struct { int32_t v[16]; } vi16;
typedef struct { uint8_t v[16]; } vm16; /* 0 or 1 */
typedef struct { double v[16]; } vd16;
typedef struct { float v[4]; } vf4;
typedef struct { float v[4]; } vq4;

#define PC_EACH(type, expression)                  \
  type r;                                          \
  for (int i = 0; i < 16; i++) r.v[i] = expression; \
  return r
#define PC_WRAP(expression) (int32_t)(uint32_t)(expression)

/* -- memory */
PC_INLINE vf16 vf_load(const float *p) { PC_EACH(vf16, p[i]); }
PC_INLINE vf16 vf_load_n(const float *p, int64_t n) { PC_EACH(vf16, i < n ? p[i] : 0.0f); }
PC_INLINE void vf_store(float *p, vf16 a) { memcpy(p, a.v, sizeof a.v); }
PC_INLINE void vf_store_n(float *p, int64_t n, vf16 a) { memcpy(p, a.v, (size_t)n * 4); }
PC_INLINE vi16 vi_load(const void *p) { vi16 r; memcpy(r.v, p, sizeof r.v); return r; }
PC_INLINE vi16 vi_load_n(const int32_t *p, int64_t n) { PC_EACH(vi16, i < n ? p[i] : 0); }
PC_INLINE void vi_store(void *p, vi16 a) { memcpy(p, a.v, sizeof a.v); }
PC_INLINE void vi_store_n(int32_t *p, int64_t n, vi16 a) { memcpy(p, a.v, (size_t)n * 4); }
/* the low 16 bits of each lane; each lane as a half-precision float, half to even */
PC_INLINE void vi_store_halves_n(void *p, int64_t n, vi16 a) { for (int i = 0; i < n; i++) ((uint16_t *)p)[i] = (uint16_t)a.v[i]; }
PC_INLINE uint16_t pc_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff)); /* NaN, quiet */
  if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                       /* 65520 and above round to infinity */
  if (size < 0x38800000) { /* subnormal: the last bit of 1/2 + |x| is that of a half, so the sum rounds as it must */
    const float shifted = fabsf(x) + 0.5f;
    memcpy(&bits, &shifted, 4);
    return (uint16_t)(sign | (bits - 0x3f000000));
  }
  return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
}
PC_INLINE void vf_store_f16_n(uint16_t *p, int64_t n, vf16 a) { for (int i = 0; i < n; i++) p[i] = pc_half(a.v[i]); }
/* past the caches, for what is too large for them: p on a line of 64 bytes; the thread ends with vf_stream_fence */
PC_INLINE void vf_stream(float *p, vf16 a) { vf_store(p, a); }
PC_INLINE void vf_stream_fence(void) {}
/* the low byte of each lane, and bytes widened to lanes */
PC_INLINE void vi_store_bytes_n(void *p, int64_t n, vi16 a) { for (int i = 0; i < n; i++) ((uint8_t *)p)[i] = (uint8_t)a.v[i]; }
PC_INLINE void pc_saturate(uint8_t *p, int32_t low, int32_t high, vi16 a) {
  for (int i = 0; i < 16; i++) {
    const int32_t v = a.v[i] < low ? low : a.v[i];
    p[i] = (uint8_t)(v > high ? high : v);
  }
}
/* 64 bytes: lanes saturated to -128..127 or 0..255, those of a first */
PC_INLINE vi16 vi_codes(int is_signed, vi16 a, vi16 b, vi16 c, vi16 d) {
  const int32_t low = is_signed ? -128 : 0, high = low + 255;
  uint8_t all[64];
  pc_saturate(all, low, high, a), pc_saturate(all + 16, low, high, b), pc_saturate(all + 32, low, high, c), pc_saturate(all + 48, low, high, d);
  return vi_load(all);
}
PC_INLINE vi16 vi_load_u8(const uint8_t *p) { PC_EACH(vi16, p[i]); }
PC_INLINE vi16 vi_load_s8(const int8_t *p) { PC_EACH(vi16, p[i]); }
PC_INLINE vi16 vi_load_u16(const uint16_t *p) { PC_EACH(vi16, p[i]); }
/* half-precision floats widened, exact; a NaN stays one */
PC_INLINE float pc_from_half(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, size = h & 0x7fff;
  if (size < 0x400) return sign ? -0x1p-24f * (float)size : 0x1p-24f * (float)size;
  const uint32_t bits = sign | (size < 0x7c00 ? (size << 13) + 0x38000000 : 0x7f800000 | size << 13);
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
PC_INLINE vf16 vf_load_f16(const uint16_t *p) { PC_EACH(vf16, pc_from_half(p[i])); }
/* lane i from p[at[i]]; from p for the set bits one after the other, anything elsewhere: 16 floats may be read */
PC_INLINE vf16 vf_gather(const float *p, const uint16_t *at) { PC_EACH(vf16, p[at[i]]); }
PC_INLINE vi16 vi_gather(const int32_t *p, const uint16_t *at) { PC_EACH(vi16, p[at[i]]); }
PC_INLINE vf16 vf_gather_at_once(const float *p, const uint16_t *at) { return vf_gather(p, at); }
PC_INLINE vi16 vi_gather_at_once(const int32_t *p, const uint16_t *at) { return vi_gather(p, at); }
PC_INLINE vf16 vf_expand(const float *p, uint32_t bits) { PC_EACH(vf16, bits >> i & 1 ? *p++ : 0.0f); }
PC_INLINE vf16 vf_spread(const float *p, uint32_t bits) { return vf_expand(p, bits); }

/* -- four lanes */
PC_INLINE vq4 vq_load(const float *p) { vq4 r; memcpy(r.v, p, sizeof r.v); return r; }
PC_INLINE void vq_store(float *p, vq4 a) { memcpy(p, a.v, sizeof a.v); }
PC_INLINE vq4 vq_zero(void) { return (vq4){{0}}; }
PC_INLINE vq4 vq_fma1(vq4 a, const float *b, vq4 c) { /* a*b[0] + c */
  for (int i = 0; i < 4; i++) c.v[i] = fmaf(a.v[i], *b, c.v[i]);
  return c;
}

/* -- constants */
PC_INLINE vf16 vf_set1(float x) { PC_EACH(vf16, x); }
PC_INLINE vf4 vf_load4(const float *p) { vf4 r; memcpy(r.v, p, sizeof r.v); return r; }
PC_INLINE vf16 vf_one_of(vf4 q, int i) { return vf_set1(q.v[i]); } /* one of the four in every lane; i is a constant */
PC_INLINE vf16 vf_zero(void) { return vf_set1(0.0f); }
PC_INLINE vi16 vi_set1(int32_t x) { PC_EACH(vi16, x); }
PC_INLINE vi16 vi_zero(void) { return vi_set1(0); }
PC_INLINE vi16 vi_set1_bytes(const void *p) { int32_t x; memcpy(&x, p, 4); return vi_set1(x); } /* the 4 bytes at p in every lane */

/* -- float arithmetic, one rounding each */
PC_INLINE vf16 vf_add(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] + b.v[i]); }
PC_INLINE vf16 vf_sub(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] - b.v[i]); }
PC_INLINE vf16 vf_mul(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] * b.v[i]); }
PC_INLINE vf16 vf_div(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] / b.v[i]); }
PC_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c) { PC_EACH(vf16, fmaf(a.v[i], b.v[i], c.v[i])); }   /*  a*b + c */
PC_INLINE vf16 vf_fma1(vf16 a, const float *b, vf16 c) { return vf_fma(a, vf_set1(*b), c); }     /*  a*b[0] + c */
PC_INLINE vf16 vf_fnma(vf16 a, vf16 b, vf16 c) { PC_EACH(vf16, fmaf(-a.v[i], b.v[i], c.v[i])); } /* -a*b + c */
PC_INLINE vf16 vf_max(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); } /* b if either is NaN */
PC_INLINE vf16 vf_min(vf16 a, vf16 b) { PC_EACH(vf16, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); } /* b if either is NaN */
/* a, in a register from here on: what was loaded and is used two or three times GCC may read anew each time, which L1 can't keep up
 * with, least of all where it straddles two lines. (Where there are registers for it: on AVX-512, where what is held also stays in
 * the order of the code.) */
PC_INLINE vf16 vf_held(vf16 a) { return a; }
PC_INLINE vf16 vf_abs(vf16 a) { PC_EACH(vf16, fabsf(a.v[i])); }
PC_INLINE vf16 vf_rint(vf16 a) { PC_EACH(vf16, rintf(a.v[i])); } /* half to even */
/* x * 2^n in one rounding; n integral, |n| <= 160; n = 0, or x NaN, 0, or 2^-20 <= |x| <= 2^20: else the lane means nothing */
PC_INLINE vf16 vf_scale2(vf16 x, vf16 n) { PC_EACH(vf16, x.v[i] == x.v[i] ? ldexpf(x.v[i], (int)n.v[i]) : x.v[i]); }

/* -- comparison and choice; NaN compares false */
PC_INLINE vm16 vf_lt(vf16 a, vf16 b) { PC_EACH(vm16, a.v[i] < b.v[i]); }
PC_INLINE vm16 vf_above(vf16 a, vf16 b) { PC_EACH(vm16, (uint8_t)!(a.v[i] <= b.v[i])); } /* or either is NaN */
PC_INLINE vm16 vf_eq(vf16 a, vf16 b) { PC_EACH(vm16, a.v[i] == b.v[i]); }
PC_INLINE vm16 vf_unordered(vf16 a, vf16 b) { PC_EACH(vm16, a.v[i] != a.v[i] || b.v[i] != b.v[i]); } /* either NaN */
PC_INLINE vm16 vf_isnan(vf16 a) { PC_EACH(vm16, a.v[i] != a.v[i]); }
PC_INLINE vf16 vf_select(vm16 m, vf16 a, vf16 b) { PC_EACH(vf16, m.v[i] ? a.v[i] : b.v[i]); }
PC_INLINE vm16 vi_eq(vi16 a, vi16 b) { PC_EACH(vm16, a.v[i] == b.v[i]); }
PC_INLINE vm16 vi_gt(vi16 a, vi16 b) { PC_EACH(vm16, a.v[i] > b.v[i]); }
PC_INLINE vi16 vi_select(vm16 m, vi16 a, vi16 b) { PC_EACH(vi16, m.v[i] ? a.v[i] : b.v[i]); }
PC_INLINE vm16 vm_and(vm16 a, vm16 b) { PC_EACH(vm16, a.v[i] & b.v[i]); }
PC_INLINE vm16 vm_or(vm16 a, vm16 b) { PC_EACH(vm16, a.v[i] | b.v[i]); }
PC_INLINE vm16 vm_first(int64_t n) { PC_EACH(vm16, i < n); }
PC_INLINE uint32_t vm_bits(vm16 m) { uint32_t r = 0; for (int i = 0; i < 16; i++) r |= (uint32_t)m.v[i] << i; return r; }
PC_INLINE vm16 vm_from_bits(uint32_t bits) { PC_EACH(vm16, bits >> i & 1); } /* of bits 0 to 15 */

/* -- int32 arithmetic, modulo 2^32 */
/* a, by another name from here on: where what follows a loop needs more registers than there are, GCC may keep the loop's
 * accumulators in memory, in the loop too, if they are one and the same with what follows */
PC_INLINE vi16 vi_held(vi16 a) { return a; }
PC_INLINE vi16 vi_add(vi16 a, vi16 b) { PC_EACH(vi16, PC_WRAP((uint32_t)a.v[i] + (uint32_t)b.v[i])); }
PC_INLINE vi16 vi_sub(vi16 a, vi16 b) { PC_EACH(vi16, PC_WRAP((uint32_t)a.v[i] - (uint32_t)b.v[i])); }
PC_INLINE vi16 vi_mul(vi16 a, vi16 b) { PC_EACH(vi16, PC_WRAP((uint32_t)a.v[i] * (uint32_t)b.v[i])); }
PC_INLINE vi16 vi_max(vi16 a, vi16 b) { PC_EACH(vi16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
PC_INLINE vi16 vi_min(vi16 a, vi16 b) { PC_EACH(vi16, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
PC_INLINE vi16 vi_and(vi16 a, vi16 b) { PC_EACH(vi16, a.v[i] & b.v[i]); }
PC_INLINE vi16 vi_or(vi16 a, vi16 b) { PC_EACH(vi16, a.v[i] | b.v[i]); }
PC_INLINE vi16 vi_xor(vi16 a, vi16 b) { PC_EACH(vi16, a.v[i] ^ b.v[i]); }
PC_INLINE vi16 vi_shl(vi16 a, int n) { PC_EACH(vi16, PC_WRAP((uint32_t)a.v[i] << n)); }
PC_INLINE vi16 vi_shr(vi16 a, int n) { PC_EACH(vi16, PC_WRAP((uint32_t)a.v[i] >> n)); } /* zeros come in */
PC_INLINE vi16 vi_shr_each(vi16 a, vi16 n) { PC_EACH(vi16, a.v[i] >> n.v[i]); } /* the sign comes in; 0 <= n <= 31 */
/* (a*b + 2^30) >> 31 in 64 bits: a times the fraction b / 2^31, half up; b >= 0 */
PC_INLINE vi16 vi_mul_fraction(vi16 a, vi16 b) { PC_EACH(vi16, (int32_t)(((int64_t)a.v[i] * b.v[i] + (1 << 30)) >> 31)); }
/* acc + sum of the lane's 4 products u8 * s8, exact modulo 2^32: never the saturating 16-bit form. Lane by lane and from 16 bits,
 * which compilers turn into vectors. */
PC_INLINE vi16 vi_dot_u8s8(vi16 acc, vi16 u, vi16 s) {
  for (int i = 0; i < 16; i++) {
    const uint32_t x = (uint32_t)u.v[i], w = (uint32_t)s.v[i];
    const int16_t x0 = (uint8_t)x, x1 = (uint8_t)(x >> 8), x2 = (uint8_t)(x >> 16), x3 = (uint8_t)(x >> 24);
    const int16_t w0 = (int8_t)w, w1 = (int8_t)(w >> 8), w2 = (int8_t)(w >> 16), w3 = (int8_t)(w >> 24);
    acc.v[i] = PC_WRAP((uint32_t)acc.v[i] + (uint32_t)(x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3));
  }
  return acc;
}

/* -- lanes moved: each four turned by one (0 takes 1, 3 takes 0), neighbouring fours or eights exchanged */
PC_INLINE vf16 vf_take(vf16 a, vi16 at) { PC_EACH(vf16, a.v[at.v[i] & 15]); } /* lane i from the lane of the low 4 bits */
PC_INLINE vf16 vf_take_of_two(vf16 a, vf16 b, vi16 at) { PC_EACH(vf16, at.v[i] & 16 ? b.v[at.v[i] & 15] : a.v[at.v[i] & 15]); } /* the low 5 bits */
PC_INLINE vi16 vi_turn4(vi16 a) { PC_EACH(vi16, a.v[(i & ~3) | ((i + 1) & 3)]); }
PC_INLINE vi16 vi_swap4(vi16 a) { PC_EACH(vi16, a.v[i ^ 4]); }
PC_INLINE vi16 vi_swap8(vi16 a) { PC_EACH(vi16, a.v[i ^ 8]); }
/* sixteen vectors as a matrix, lane j of vector i becomes lane i of vector j */
PC_INLINE void vf_transpose(vf16 *r) {
  for (int i = 0; i < 16; i++) for (int j = 0; j < i; j++) { const float x = r[i].v[j]; r[i].v[j] = r[j].v[i]; r[j].v[i] = x; }
}

/* -- conversion */
PC_INLINE vf16 vf_from_vi(vi16 a) { PC_EACH(vf16, (float)a.v[i]); }           /* half to even */
PC_INLINE vi16 vi_from_vf(vf16 a) { PC_EACH(vi16, (int32_t)rintf(a.v[i])); }  /* half to even; |a| < 2^31, not NaN */
PC_INLINE vi16 vi_from_bits(vf16 a) { vi16 r; memcpy(r.v, a.v, 64); return r; }
PC_INLINE vf16 vf_from_bits(vi16 a) { vf16 r; memcpy(r.v, a.v, 64); return r; }

/* -- one row to one number: j <- j op (j+8), then 4, 2, 1 */
#define PC_FOLD(type, a, op)                                             \
  for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) { type x = (a).v[i], y = (a).v[i + h]; (a).v[i] = op; } \
  return (a).v[0]
PC_INLINE float vf_fold_add(vf16 a) { PC_FOLD(float, a, x + y); }
PC_INLINE float vf_fold_max(vf16 a) { PC_FOLD(float, a, x > y ? x : y); }
PC_INLINE float vf_fold_min(vf16 a) { PC_FOLD(float, a, x < y ? x : y); }
PC_INLINE int32_t vi_fold_add(vi16 a) { PC_FOLD(int32_t, a, PC_WRAP((uint32_t)x + (uint32_t)y)); }
PC_INLINE int32_t vi_fold_max(vi16 a) { PC_FOLD(int32_t, a, x > y ? x : y); }
/* of sixteen rows, lane i of the i-th */
PC_INLINE vi16 vi_fold_add_each(const vi16 *rows) { PC_EACH(vi16, vi_fold_add(rows[i])); }
PC_INLINE vi16 vi_fold_max_each(const vi16 *rows) { PC_EACH(vi16, vi_fold_max(rows[i])); }

/* -- double, for sums that must not lose what float32 lanes hold */
PC_INLINE vd16 vd_zero(void) { PC_EACH(vd16, 0.0); }
PC_INLINE vd16 vd_load(const double *p) { PC_EACH(vd16, p[i]); }
PC_INLINE void vd_store(double *p, vd16 a) { memcpy(p, a.v, sizeof a.v); }
PC_INLINE vd16 vd_add_vf(vd16 a, vf16 b) { PC_EACH(vd16, a.v[i] + (double)b.v[i]); }
PC_INLINE double vd_fold_add(vd16 a) { PC_FOLD(double, a, x + y); }
PC_INLINE vd16 vd_set1(double x) { PC_EACH(vd16, x); }
PC_INLINE vd16 vd_from_vf(vf16 a) { PC_EACH(vd16, (double)a.v[i]); }
PC_INLINE vf16 vf_from_vd(vd16 a) { PC_EACH(vf16, (float)a.v[i]); } /* half to even */
PC_INLINE vd16 vd_add(vd16 a, vd16 b) { PC_EACH(vd16, a.v[i] + b.v[i]); }
PC_INLINE vd16 vd_sub(vd16 a, vd16 b) { PC_EACH(vd16, a.v[i] - b.v[i]); }
PC_INLINE vd16 vd_mul(vd16 a, vd16 b) { PC_EACH(vd16, a.v[i] * b.v[i]); }
PC_INLINE vd16 vd_div(vd16 a, vd16 b) { PC_EACH(vd16, a.v[i] / b.v[i]); }
PC_INLINE vd16 vd_fma(vd16 a, vd16 b, vd16 c) { PC_EACH(vd16, fma(a.v[i], b.v[i], c.v[i])); }
PC_INLINE vd16 vd_max(vd16 a, vd16 b) { PC_EACH(vd16, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); } /* b if either is NaN */
PC_INLINE vd16 vd_select_lt(vd16 a, vd16 b, vd16 x, vd16 y) { PC_EACH(vd16, a.v[i] < b.v[i] ? x.v[i] : y.v[i]); } /* NaN: y */
/* x * 2^k, n = 1.5 * 2^52 + k: a sum that was rounded to an integer; x and the result are normal */
PC_INLINE vd16 vd_scale2(vd16 x, vd16 n) {
  for (int i = 0; i < 16; i++) {
    uint64_t bits, k;
    memcpy(&bits, &x.v[i], 8);
    memcpy(&k, &n.v[i], 8);
    bits += k << 52;
    memcpy(&x.v[i], &bits, 8);
  }
  return x;
}
