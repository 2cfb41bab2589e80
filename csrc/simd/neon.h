/* The vocabulary on AArch64 NEON with dotprod: four q registers. Definitions: scalar.h. */
#include <arm_neon.h>
#include <string.h>

/* 32 registers: 24 accumulators, one weight vector in four, four lanes of broadcasts. */
#define PC_TILE_ROWS 6
#define PC_TILE_VECTORS(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 3 : (rows) == 3 ? 2 : 1)
#define PC_DOT_ROWS PC_TILE_ROWS
#define PC_DOT_VECTORS(rows) ((rows) <= 2 ? 3 : 1)

typedef struct { float32x4_t q[4]; } vf16;
typedef struct { int32x4_t q[4]; } vi16;
typedef struct { uint32x4_t q[4]; } vm16; /* all bits of a lane, or none */
typedef struct { float64x2_t d[8]; } vd16;
typedef float32x4_t vf4;
typedef float32x4_t vq4;

#define PC_EACH(type, expression)                  \
  type r;                                          \
  for (int i = 0; i < 4; i++) r.q[i] = expression; \
  return r

/* -- memory */
PC_INLINE vf16 vf_load(const float *p) { PC_EACH(vf16, vld1q_f32(p + 4 * i)); }
PC_INLINE vf16 vf_load_n(const float *p, int64_t n) { float all[16] = {0}; memcpy(all, p, (size_t)(n < 16 ? n : 16) * 4); return vf_load(all); }
PC_INLINE void vf_store(float *p, vf16 a) { for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.q[i]); }
PC_INLINE void vf_store_n(float *p, int64_t n, vf16 a) { float all[16]; vf_store(all, a); memcpy(p, all, (size_t)(n < 16 ? n : 16) * 4); }
PC_INLINE vi16 vi_load(const void *p) { PC_EACH(vi16, vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p + 16 * i))); }
PC_INLINE vi16 vi_load_n(const int32_t *p, int64_t n) { int32_t all[16] = {0}; memcpy(all, p, (size_t)(n < 16 ? n : 16) * 4); return vi_load(all); }
PC_INLINE void vi_store(void *p, vi16 a) { for (int i = 0; i < 4; i++) vst1q_u8((uint8_t *)p + 16 * i, vreinterpretq_u8_s32(a.q[i])); }
PC_INLINE void vi_store_n(int32_t *p, int64_t n, vi16 a) { int32_t all[16]; vi_store(all, a); memcpy(p, all, (size_t)(n < 16 ? n : 16) * 4); }
PC_INLINE void vi_store_halves_n(void *p, int64_t n, vi16 a) {
  int16_t all[16];
  for (int i = 0; i < 4; i++) vst1_s16(all + 4 * i, vmovn_s32(a.q[i]));
  memcpy(p, all, (size_t)(n < 16 ? n : 16) * 2);
}
PC_INLINE void vf_store_f16_n(uint16_t *p, int64_t n, vf16 a) {
  uint16_t all[16];
  for (int i = 0; i < 4; i++) vst1_u16(all + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.q[i])));
  memcpy(p, all, (size_t)(n < 16 ? n : 16) * 2);
}
PC_INLINE void vi_store_bytes_n(void *p, int64_t n, vi16 a) {
  const int16x8_t low = vcombine_s16(vmovn_s32(a.q[0]), vmovn_s32(a.q[1])), high = vcombine_s16(vmovn_s32(a.q[2]), vmovn_s32(a.q[3]));
  int8_t all[16];
  vst1q_s8(all, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
  memcpy(p, all, (size_t)(n < 16 ? n : 16));
}
PC_INLINE int32x4_t pc_codes(int is_signed, vi16 a) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(a.q[0]), vqmovn_s32(a.q[1])), high = vcombine_s16(vqmovn_s32(a.q[2]), vqmovn_s32(a.q[3]));
  if (is_signed) return vreinterpretq_s32_s8(vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
  return vreinterpretq_s32_u8(vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
}
PC_INLINE vi16 vi_codes(int is_signed, vi16 a, vi16 b, vi16 c, vi16 d) {
  return (vi16){{pc_codes(is_signed, a), pc_codes(is_signed, b), pc_codes(is_signed, c), pc_codes(is_signed, d)}};
}
/* No such stores among the intrinsics. */
PC_INLINE void vf_stream(float *p, vf16 a) { vf_store(p, a); }
PC_INLINE void vf_stream_fence(void) {}
PC_INLINE vi16 vi_load_u8(const uint8_t *p) {
  const uint8x16_t b = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(b)), high = vmovl_u8(vget_high_u8(b));
  return (vi16){{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
                 vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}
PC_INLINE vi16 vi_load_s8(const int8_t *p) {
  const int8x16_t b = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(b)), high = vmovl_s8(vget_high_s8(b));
  return (vi16){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)), vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}};
}
PC_INLINE vi16 vi_load_u16(const uint16_t *p) { PC_EACH(vi16, vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p + 4 * i)))); }
PC_INLINE vf16 vf_load_f16(const uint16_t *p) { PC_EACH(vf16, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
PC_INLINE vf16 vf_gather(const float *p, const uint16_t *at) {
  float all[16];
  for (int i = 0; i < 16; i++) all[i] = p[at[i]];
  return vf_load(all);
}
PC_INLINE vi16 vi_gather(const int32_t *p, const uint16_t *at) {
  int32_t all[16];
  for (int i = 0; i < 16; i++) all[i] = p[at[i]];
  return vi_load(all);
}
PC_INLINE vf16 vf_gather_at_once(const float *p, const uint16_t *at) { return vf_gather(p, at); }
PC_INLINE vi16 vi_gather_at_once(const int32_t *p, const uint16_t *at) { return vi_gather(p, at); }
PC_INLINE vf16 vf_expand(const float *p, uint32_t bits) {
  float all[16];
  for (int i = 0; i < 16; i++) all[i] = bits >> i & 1 ? *p++ : 0.0f;
  return vf_load(all);
}
PC_INLINE vf16 vf_spread(const float *p, uint32_t bits) { return vf_expand(p, bits); }

/* -- four lanes */
PC_INLINE vq4 vq_load(const float *p) { return vld1q_f32(p); }
PC_INLINE void vq_store(float *p, vq4 a) { vst1q_f32(p, a); }
PC_INLINE vq4 vq_zero(void) { return vdupq_n_f32(0.0f); }
PC_INLINE vq4 vq_fma1(vq4 a, const float *b, vq4 c) { return vfmaq_f32(c, a, vdupq_n_f32(*b)); }

/* -- constants */
PC_INLINE vf16 vf_set1(float x) { PC_EACH(vf16, vdupq_n_f32(x)); }
PC_INLINE vf4 vf_load4(const float *p) { return vld1q_f32(p); }
PC_INLINE vf16 vf_one_of(vf4 q, int i) {
  const float32x4_t v = i == 0 ? vdupq_laneq_f32(q, 0) : i == 1 ? vdupq_laneq_f32(q, 1) : i == 2 ? vdupq_laneq_f32(q, 2) : vdupq_laneq_f32(q, 3);
  PC_EACH(vf16, v);
}
PC_INLINE vf16 vf_zero(void) { return vf_set1(0.0f); }
PC_INLINE vi16 vi_set1(int32_t x) { PC_EACH(vi16, vdupq_n_s32(x)); }
PC_INLINE vi16 vi_zero(void) { return vi_set1(0); }
PC_INLINE vi16 vi_set1_bytes(const void *p) { int32_t x; memcpy(&x, p, 4); return vi_set1(x); }

/* -- float arithmetic */
PC_INLINE vf16 vf_add(vf16 a, vf16 b) { PC_EACH(vf16, vaddq_f32(a.q[i], b.q[i])); }
PC_INLINE vf16 vf_sub(vf16 a, vf16 b) { PC_EACH(vf16, vsubq_f32(a.q[i], b.q[i])); }
PC_INLINE vf16 vf_mul(vf16 a, vf16 b) { PC_EACH(vf16, vmulq_f32(a.q[i], b.q[i])); }
PC_INLINE vf16 vf_div(vf16 a, vf16 b) { PC_EACH(vf16, vdivq_f32(a.q[i], b.q[i])); }
PC_INLINE vf16 vf_fma(vf16 a, vf16 b, vf16 c) { PC_EACH(vf16, vfmaq_f32(c.q[i], a.q[i], b.q[i])); }
PC_INLINE vf16 vf_fma1(vf16 a, const float *b, vf16 c) { return vf_fma(a, vf_set1(*b), c); }
PC_INLINE vf16 vf_fnma(vf16 a, vf16 b, vf16 c) { PC_EACH(vf16, vfmsq_f32(c.q[i], a.q[i], b.q[i])); }
/* A compare and a choice: FMAX would return NaN where the definition returns b. */
PC_INLINE vf16 vf_max(vf16 a, vf16 b) { PC_EACH(vf16, vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
PC_INLINE vf16 vf_min(vf16 a, vf16 b) { PC_EACH(vf16, vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])); }
PC_INLINE vf16 vf_held(vf16 a) { return a; } /* there are no operands in memory */
PC_INLINE vf16 vf_abs(vf16 a) { PC_EACH(vf16, vabsq_f32(a.q[i])); }
PC_INLINE vf16 vf_rint(vf16 a) { PC_EACH(vf16, vrndnq_f32(a.q[i])); }
/* 2^n in two factors, each a normal number: the first product is exact, the second rounds once. */
PC_INLINE float32x4_t pc_power2(int32x4_t n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)); }
PC_INLINE float32x4_t pc_scale2(float32x4_t x, float32x4_t n) {
  const int32x4_t all = vcvtnq_s32_f32(n), half = vshrq_n_s32(all, 1);
  return vmulq_f32(vmulq_f32(x, pc_power2(half)), pc_power2(vsubq_s32(all, half)));
}
PC_INLINE vf16 vf_scale2(vf16 x, vf16 n) { PC_EACH(vf16, pc_scale2(x.q[i], n.q[i])); }

/* -- comparison and choice */
PC_INLINE vm16 vf_lt(vf16 a, vf16 b) { PC_EACH(vm16, vcltq_f32(a.q[i], b.q[i])); }
PC_INLINE vm16 vf_above(vf16 a, vf16 b) { PC_EACH(vm16, vmvnq_u32(vcleq_f32(a.q[i], b.q[i]))); }
PC_INLINE vm16 vf_eq(vf16 a, vf16 b) { PC_EACH(vm16, vceqq_f32(a.q[i], b.q[i])); }
PC_INLINE vm16 vf_unordered(vf16 a, vf16 b) { PC_EACH(vm16, vmvnq_u32(vandq_u32(vceqq_f32(a.q[i], a.q[i]), vceqq_f32(b.q[i], b.q[i])))); }
PC_INLINE vm16 vf_isnan(vf16 a) { PC_EACH(vm16, vmvnq_u32(vceqq_f32(a.q[i], a.q[i]))); }
PC_INLINE vf16 vf_select(vm16 m, vf16 a, vf16 b) { PC_EACH(vf16, vbslq_f32(m.q[i], a.q[i], b.q[i])); }
PC_INLINE vm16 vi_eq(vi16 a, vi16 b) { PC_EACH(vm16, vceqq_s32(a.q[i], b.q[i])); }
PC_INLINE vm16 vi_gt(vi16 a, vi16 b) { PC_EACH(vm16, vcgtq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_select(vm16 m, vi16 a, vi16 b) { PC_EACH(vi16, vbslq_s32(m.q[i], a.q[i], b.q[i])); }
PC_INLINE vm16 vm_and(vm16 a, vm16 b) { PC_EACH(vm16, vandq_u32(a.q[i], b.q[i])); }
PC_INLINE vm16 vm_or(vm16 a, vm16 b) { PC_EACH(vm16, vorrq_u32(a.q[i], b.q[i])); }
PC_INLINE vm16 vm_first(int64_t n) {
  const int32x4_t iota = {0, 1, 2, 3}, count = vdupq_n_s32(n > 16 ? 16 : (int32_t)n);
  PC_EACH(vm16, vcgtq_s32(count, vaddq_s32(iota, vdupq_n_s32(4 * i))));
}
PC_INLINE vm16 vm_from_bits(uint32_t bits) {
  static const uint32_t first[4] = {1, 2, 4, 8};
  PC_EACH(vm16, vtstq_u32(vdupq_n_u32(bits), vshlq_u32(vld1q_u32(first), vdupq_n_s32(4 * i))));
}
PC_INLINE uint32_t vm_bits(vm16 m) {
  const uint32x4_t weight = {1, 2, 4, 8};
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= vaddvq_u32(vandq_u32(m.q[i], weight)) << (4 * i);
  return r;
}

/* -- int32 arithmetic */
PC_INLINE vi16 vi_held(vi16 a) { return a; } /* there are registers enough */
PC_INLINE vi16 vi_add(vi16 a, vi16 b) { PC_EACH(vi16, vaddq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_sub(vi16 a, vi16 b) { PC_EACH(vi16, vsubq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_mul(vi16 a, vi16 b) { PC_EACH(vi16, vmulq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_max(vi16 a, vi16 b) { PC_EACH(vi16, vmaxq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_min(vi16 a, vi16 b) { PC_EACH(vi16, vminq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_and(vi16 a, vi16 b) { PC_EACH(vi16, vandq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_or(vi16 a, vi16 b) { PC_EACH(vi16, vorrq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_xor(vi16 a, vi16 b) { PC_EACH(vi16, veorq_s32(a.q[i], b.q[i])); }
PC_INLINE vi16 vi_shl(vi16 a, int n) { PC_EACH(vi16, vshlq_s32(a.q[i], vdupq_n_s32(n))); }
PC_INLINE vi16 vi_shr(vi16 a, int n) { PC_EACH(vi16, vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a.q[i]), vdupq_n_s32(-n)))); }
PC_INLINE vi16 vi_shr_each(vi16 a, vi16 n) { PC_EACH(vi16, vshlq_s32(a.q[i], vnegq_s32(n.q[i]))); }
PC_INLINE vi16 vi_mul_fraction(vi16 a, vi16 b) { PC_EACH(vi16, vqrdmulhq_s32(a.q[i], b.q[i])); }
/* u*s = (u-128)*s + 64*s + 64*s: sdot takes signed bytes on both sides. */
PC_INLINE int32x4_t pc_dot_u8s8(int32x4_t acc, int32x4_t u, int32x4_t s) {
  const int8x16_t w = vreinterpretq_s8_s32(s), half = vdupq_n_s8(64);
  acc = vdotq_s32(acc, vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_s32(u), vdupq_n_u8(0x80))), w);
  return vdotq_s32(vdotq_s32(acc, w, half), w, half);
}
PC_INLINE vi16 vi_dot_u8s8(vi16 acc, vi16 u, vi16 s) { PC_EACH(vi16, pc_dot_u8s8(acc.q[i], u.q[i], s.q[i])); }

/* -- lanes moved */
PC_INLINE vf16 vf_take(vf16 a, vi16 at) { /* of the 64 bytes of all lanes, four from four times the place on */
  const uint8x16x4_t all = {{vreinterpretq_u8_f32(a.q[0]), vreinterpretq_u8_f32(a.q[1]), vreinterpretq_u8_f32(a.q[2]),
                             vreinterpretq_u8_f32(a.q[3])}};
  const int32x4_t low = vdupq_n_s32(15), four = vdupq_n_s32(0x04040404), bytes = vdupq_n_s32(0x03020100);
#define PC_TAKEN(i) vreinterpretq_f32_u8(vqtbl4q_u8(all, vreinterpretq_u8_s32(vmlaq_s32(bytes, vandq_s32(at.q[i], low), four))))
  PC_EACH(vf16, PC_TAKEN(i));
#undef PC_TAKEN
}
PC_INLINE vf16 vf_take_of_two(vf16 a, vf16 b, vi16 at) {
  return vf_select(vi_eq(vi_and(at, vi_set1(16)), vi_zero()), vf_take(a, at), vf_take(b, at));
}
PC_INLINE vi16 vi_turn4(vi16 a) { PC_EACH(vi16, vextq_s32(a.q[i], a.q[i], 1)); }
PC_INLINE vi16 vi_swap4(vi16 a) { PC_EACH(vi16, a.q[i ^ 1]); }
PC_INLINE vi16 vi_swap8(vi16 a) { PC_EACH(vi16, a.q[i ^ 2]); }
PC_INLINE void vf_transpose(vf16 *r) {
  float all[16][16];
  for (int i = 0; i < 16; i++) {
    float row[16];
    vf_store(row, r[i]);
    for (int j = 0; j < 16; j++) all[j][i] = row[j];
  }
  for (int i = 0; i < 16; i++) r[i] = vf_load(all[i]);
}

/* -- conversion */
PC_INLINE vf16 vf_from_vi(vi16 a) { PC_EACH(vf16, vcvtq_f32_s32(a.q[i])); }
PC_INLINE vi16 vi_from_vf(vf16 a) { PC_EACH(vi16, vcvtnq_s32_f32(a.q[i])); }
PC_INLINE vi16 vi_from_bits(vf16 a) { PC_EACH(vi16, vreinterpretq_s32_f32(a.q[i])); }
PC_INLINE vf16 vf_from_bits(vi16 a) { PC_EACH(vf16, vreinterpretq_f32_s32(a.q[i])); }

/* -- one row to one number */
PC_INLINE float32x4_t pc_max4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
PC_INLINE float32x4_t pc_min4(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
#define PC_FOLD(op, a)                                                       \
  float32x4_t q = op(op((a).q[0], (a).q[2]), op((a).q[1], (a).q[3]));        \
  q = op(q, vextq_f32(q, q, 2));                                             \
  return vgetq_lane_f32(op(q, vextq_f32(q, q, 1)), 0)
PC_INLINE float vf_fold_add(vf16 a) { PC_FOLD(vaddq_f32, a); }
PC_INLINE float vf_fold_max(vf16 a) { PC_FOLD(pc_max4, a); }
PC_INLINE float vf_fold_min(vf16 a) { PC_FOLD(pc_min4, a); }
#define PC_QUARTER(op, v) op(op((v).q[0], (v).q[2]), op((v).q[1], (v).q[3]))
PC_INLINE int32_t vi_fold_add(vi16 a) { return vaddvq_s32(PC_QUARTER(vaddq_s32, a)); }
PC_INLINE int32_t vi_fold_max(vi16 a) { return vmaxvq_s32(PC_QUARTER(vmaxq_s32, a)); }
PC_INLINE int32x4_t pc_fold_each_add(const vi16 *p) {
  return vpaddq_s32(vpaddq_s32(PC_QUARTER(vaddq_s32, p[0]), PC_QUARTER(vaddq_s32, p[1])),
                    vpaddq_s32(PC_QUARTER(vaddq_s32, p[2]), PC_QUARTER(vaddq_s32, p[3])));
}
PC_INLINE int32x4_t pc_fold_each_max(const vi16 *p) {
  return vpmaxq_s32(vpmaxq_s32(PC_QUARTER(vmaxq_s32, p[0]), PC_QUARTER(vmaxq_s32, p[1])),
                    vpmaxq_s32(PC_QUARTER(vmaxq_s32, p[2]), PC_QUARTER(vmaxq_s32, p[3])));
}
PC_INLINE vi16 vi_fold_add_each(const vi16 *rows) { PC_EACH(vi16, pc_fold_each_add(rows + 4 * i)); }
PC_INLINE vi16 vi_fold_max_each(const vi16 *rows) { PC_EACH(vi16, pc_fold_each_max(rows + 4 * i)); }

/* -- double */
PC_INLINE vd16 vd_load(const double *p) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vld1q_f64(p + 2 * i); return r; }
PC_INLINE void vd_store(double *p, vd16 a) { for (int i = 0; i < 8; i++) vst1q_f64(p + 2 * i, a.d[i]); }
PC_INLINE vd16 vd_zero(void) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vdupq_n_f64(0.0); return r; }
PC_INLINE vd16 vd_add_vf(vd16 a, vf16 b) {
  for (int i = 0; i < 4; i++) {
    a.d[2 * i] = vaddq_f64(a.d[2 * i], vcvt_f64_f32(vget_low_f32(b.q[i])));
    a.d[2 * i + 1] = vaddq_f64(a.d[2 * i + 1], vcvt_high_f64_f32(b.q[i]));
  }
  return a;
}
PC_INLINE double vd_fold_add(vd16 a) {
  for (int h = 4; h; h /= 2) for (int i = 0; i < h; i++) a.d[i] = vaddq_f64(a.d[i], a.d[i + h]);
  return vgetq_lane_f64(a.d[0], 0) + vgetq_lane_f64(a.d[0], 1);
}
PC_INLINE vd16 vd_set1(double x) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vdupq_n_f64(x); return r; }
PC_INLINE vd16 vd_from_vf(vf16 a) {
  vd16 r;
  for (int i = 0; i < 4; i++) {
    r.d[2 * i] = vcvt_f64_f32(vget_low_f32(a.q[i]));
    r.d[2 * i + 1] = vcvt_high_f64_f32(a.q[i]);
  }
  return r;
}
PC_INLINE vf16 vf_from_vd(vd16 a) { PC_EACH(vf16, vcvt_high_f32_f64(vcvt_f32_f64(a.d[2 * i]), a.d[2 * i + 1])); }
PC_INLINE vd16 vd_add(vd16 a, vd16 b) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vaddq_f64(a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_sub(vd16 a, vd16 b) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vsubq_f64(a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_mul(vd16 a, vd16 b) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vmulq_f64(a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_div(vd16 a, vd16 b) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vdivq_f64(a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_fma(vd16 a, vd16 b, vd16 c) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vfmaq_f64(c.d[i], a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_max(vd16 a, vd16 b) { vd16 r; for (int i = 0; i < 8; i++) r.d[i] = vbslq_f64(vcgtq_f64(a.d[i], b.d[i]), a.d[i], b.d[i]); return r; }
PC_INLINE vd16 vd_select_lt(vd16 a, vd16 b, vd16 x, vd16 y) {
  vd16 r;
  for (int i = 0; i < 8; i++) r.d[i] = vbslq_f64(vcltq_f64(a.d[i], b.d[i]), x.d[i], y.d[i]);
  return r;
}
PC_INLINE vd16 vd_scale2(vd16 x, vd16 n) {
  vd16 r;
  for (int i = 0; i < 8; i++) {
    const int64x2_t k = vshlq_n_s64(vreinterpretq_s64_f64(n.d[i]), 52);
    r.d[i] = vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(x.d[i]), k));
  }
  return r;
}
