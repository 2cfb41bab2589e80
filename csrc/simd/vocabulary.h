/* Sixteen lanes under one set of names. The build defines PC_LEVEL (avx2, ...) and PC_SIMD (the header that implements
 * it); scalar.h is the definition: every other header gives the same bits in every lane, unless it says
 * that anything may stand there.
 *
 *   vf  16 x float      vi  16 x int32      vm  16 x bool      vd  16 x double      vq  4 x float
 *
 * A suffix _n takes a count of leading lanes, 0 to 16: the rest is neither read nor written. */
#ifndef PC_VOCABULARY_H
#define PC_VOCABULARY_H

#include <stdint.h>

enum { LANES = 16 };

#define PC_PASTE_(a, b) a##_##b
#define PC_PASTE(a, b) PC_PASTE_(a, b)
#define PC_QUOTE_(x) #x
#define PC_QUOTE(x) PC_QUOTE_(x)

/* The name of a kernel at the level being compiled: pc_gemm_f32_avx2. */
#define PC_FN(name) PC_PASTE(pc_##name, PC_LEVEL)

#define PC_INLINE static inline __attribute__((always_inline))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pycomp packs codes for little-endian machines"
#endif
#include <float.h>
_Static_assert(FLT_EVAL_METHOD == 0, "each operation must round to its type, or bits would depend on the machine");

#include PC_QUOTE(PC_SIMD.h)

#ifndef PC_SPREADS
#define PC_SPREADS 0 /* whether vf_spread is another way than vf_expand, for CPUs on which that is slow */
#endif

#ifndef PC_GATHERS
#define PC_GATHERS 0 /* whether vf_gather_at_once is another way than vf_gather, for CPUs on which that is slower */
#endif

#ifndef PC_SHUFFLES_DELAY_FMA
#define PC_SHUFFLES_DELAY_FMA 0 /* whether CPUs of the level, AMD's apart, move lanes in a unit that fma needs */
#endif

#ifndef PC_SLOW_FMA
#define PC_SLOW_FMA 0 /* whether vf_fma costs more than a division */
#endif

/* -- sums of products of codes: the step that the 8-bit products are made of. x comes as pc_code, signed codes PC_DOT_MOVE
 * above their value; w as 16 groups of 4 bytes. Tiles are of at most PC_DOT_ROWS rows by PC_DOT_VECTORS(rows), 1 or 3, vectors.
 * An accumulator has PC_DOT_PARTS registers; where those of a tile are too many, the tile runs in PC_DOT_PASSES(rows), each
 * over some of the parts; where they are too few to hide a step's latency, it sums PC_DOT_CHAINS(rows) at a time. A loop takes
 * PC_DOT_TURN(rows) groups of k a turn. Where few rows gain by blocks of k that L1 keeps, PC_DOT_DEPTH is the groups of one: of
 * wide tiles since several panels would read L2, of narrow ones since their CPUs lag behind a stream from memory. A level that
 * widens codes and has PC_DOT_PAIRS can also multiply bytes as they are, for a file that defines PC_PAIRS before this one and
 * weights for which pc_pairs_fit: there two products add up in 16 bits. One that has PC_DOT_SUMS can multiply sums of codes
 * (gemm_int8_sums.c). */
#ifndef PC_DOT_PASSES
#define PC_DOT_PASSES(rows) 1
#endif
#ifndef PC_DOT_DEPTH
#define PC_DOT_DEPTH 0
#endif
#ifndef PC_DOT_CHAINS
#define PC_DOT_CHAINS(rows) 1
#endif
#ifndef PC_DOT_TURN
#define PC_DOT_TURN(rows) PC_DOT_CHAINS(rows)
#endif

/* A level that multiplies bytes as they are needs no more than this: */
#ifndef PC_DOT_WIDE
#define PC_DOT_PARTS 1
typedef uint8_t pc_code;
enum { PC_DOT_MOVE = 128 };
typedef vi16 dot16, dot_w, dot_x;
PC_INLINE dot16 dot_zero(void) { return vi_zero(); }
PC_INLINE dot_w dot_load(const int8_t *w, int part) { (void)part; return vi_load(w); }
PC_INLINE dot_x dot_set1(const pc_code *x) { return vi_set1_bytes(x); }
/* acc + the products of x and some parts of w, from `first` on */
PC_INLINE dot16 dot_add(dot16 acc, int first, int parts, dot_x x, const dot_w *w) { (void)first, (void)parts; return vi_dot_u8s8(acc, x, *w); }
PC_INLINE vi16 dot_sum(dot16 acc) { return acc; }
#endif

/* each lane as a bfloat16, half to even: the upper half of its bits, rounded; NaN stays NaN */
PC_INLINE void vf_store_bf16_n(uint16_t *p, int64_t n, vf16 a) {
  const vi16 bits = vi_from_bits(a), high = vi_shr(bits, 16);
  const vi16 rounded = vi_shr(vi_add(bits, vi_add(vi_and(high, vi_set1(1)), vi_set1(0x7fff))), 16);
  const vi16 nan = vi_or(high, vi_set1(0x40));
  vi_store_halves_n(p, n, vi_select(vi_gt(vi_and(bits, vi_set1(0x7fffffff)), vi_set1(0x7f800000)), nan, rounded));
}

/* bfloat16 widened: the upper half of a float's bits */
PC_INLINE vf16 vf_load_bf16(const uint16_t *p) { return vf_from_bits(vi_shl(vi_load_u16(p), 16)); }

/* What is left of a row, at most a vector; 0 past it: a plain load where the vector is whole */
PC_INLINE vf16 vf_load_left(const float *p, int64_t left) { return left >= LANES ? vf_load(p) : vf_load_n(p, left); }

/* The same of what is stored; past the end of a row nothing */
PC_INLINE void vf_store_left(float *p, int64_t left, vf16 v) {
  if (left >= LANES) vf_store(p, v);
  else if (left > 0) vf_store_n(p, left, v);
}

/* p as it is, in a register: an address that the compiler is not to make again from what it was made of */
PC_INLINE const void *pc_held(const void *p) {
  __asm__("" : "+r"(p));
  return p;
}

/* Bytes, or floats, from p to the next cache line, which holds LANES of them: a vector that straddles two costs twice. */
PC_INLINE int64_t pc_bytes_to_line(const void *p) { return (int64_t)(-(uintptr_t)p % (LANES * sizeof(float))); }
PC_INLINE int64_t pc_to_line(const float *p) { return pc_bytes_to_line(p) / (int64_t)sizeof *p; }

/* max(a, 0); NaN stays NaN, -0 becomes +0 */
PC_INLINE vf16 vf_relu(vf16 a) { return vf_select(vf_isnan(a), a, vf_max(a, vf_zero())); }
#endif
