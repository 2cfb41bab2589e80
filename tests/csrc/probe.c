/* Every operation of the vocabulary on vectors from memory: a, b and c are 128 bytes each, of which
 * operations on 16 lanes of 4 bytes take the first half; n is a count or a shift.
 * A library for the levels of this machine; with PROBE_MAIN a program for an emulated one, which answers records. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vocabulary.h"

typedef void probe_function(const char *a, const char *b, const char *c, int64_t n, char *out);

#define PROBE(op, statement)                                                                    \
  static void probe_##op(const char *a, const char *b, const char *c, int64_t n, char *out) {   \
    uint16_t at[LANES];                                                                         \
    vi16 r16[LANES];                                                                            \
    (void)a, (void)b, (void)c, (void)n, (void)out, (void)at, (void)r16;                         \
    statement;                                                                                  \
  }
PC_INLINE vd16 doubles(const char *p) { vd16 r; memcpy(&r, p, sizeof r); return r; } /* every level has lanes in order */

/* A store that asks for a line of its own. */
PC_INLINE void stream(char *out, vf16 a) { _Alignas(64) float line[LANES]; vf_stream(line, a); vf_stream_fence(); memcpy(out, line, sizeof line); }

/* Sixteen vectors of one: lane j of vector i has the bits of lane j of a and 65537 i more. */
PC_INLINE const vi16 *sixteen(const char *a, vi16 *r) {
  uint32_t bits[LANES], row[LANES];
  memcpy(bits, a, sizeof bits);
  for (uint32_t i = 0; i < LANES; i++) {
    for (int j = 0; j < LANES; j++) row[j] = bits[j] + 65537 * i;
    r[i] = vi_load(row);
  }
  return r;
}

/* One vector in, one out: every element of the result reaches the answer. */
PC_INLINE void transposed(const char *a, char *out) {
  vi16 of[LANES];
  vf16 r[LANES];
  uint32_t row[LANES], sums[LANES] = {0};
  sixteen(a, of);
  for (uint32_t i = 0; i < LANES; i++) r[i] = vf_from_bits(of[i]);
  vf_transpose(r);
  for (uint32_t i = 0; i < LANES; i++) {
    vi_store(row, vi_from_bits(r[i]));
    for (uint32_t j = 0; j < LANES; j++) sums[j] = sums[j] * 31 + row[j] * (1 + i + LANES * j);
  }
  memcpy(out, sums, sizeof sums);
}

/* Sixteen places below sixteen. */
PC_INLINE const uint16_t *places(const char *b, uint16_t *at) {
  memcpy(at, b, 2 * LANES);
  for (int i = 0; i < LANES; i++) at[i] &= 15;
  return at;
}

/* What lies in the other lanes is not said. */
PC_INLINE vf16 where_set(uint32_t bits, vf16 x) { return vf_select(vm_from_bits(bits), x, vf_zero()); }

#define F(p) vf_load((const float *)(p))
#define I(p) vi_load(p)
#define D(p) doubles(p)
#define MASK(p) vi_gt(vi_load(p), vi_zero())
#define FLOAT(op, value) PROBE(op, vf_store((float *)out, value))
#define FOUR(op, value) PROBE(op, vq_store((float *)out, value))
#define INT(op, value) PROBE(op, vi_store(out, value))
#define BITS(op, value) PROBE(op, const uint32_t r = vm_bits(value); memcpy(out, &r, 4))
#define ONE(op, type, value) PROBE(op, const type r = value; memcpy(out, &r, sizeof r))
#define DOUBLE(op, value) PROBE(op, const vd16 r = value; memcpy(out, &r, sizeof r))
#define READ(type, p) (*(const type *)(const void *)(p))

/* One line an operation: how it is made to write at most 128 bytes. */
#define OPERATIONS(FLOAT, FOUR, INT, DOUBLE, BITS, ONE, PROBE)                         \
  FLOAT(vf_load, vf_load((const float *)a))                                            \
  FLOAT(vf_load_n, vf_load_n((const float *)a, n))                                     \
  PROBE(vf_store, vf_store((float *)out, F(a)))                                        \
  PROBE(vf_store_n, vf_store_n((float *)out, n, F(a)))                                 \
  INT(vi_load, vi_load(a))                                                             \
  INT(vi_load_n, vi_load_n((const int32_t *)a, n))                                     \
  PROBE(vi_store, vi_store(out, I(a)))                                                 \
  PROBE(vi_store_n, vi_store_n((int32_t *)out, n, I(a)))                               \
  PROBE(vi_store_bytes_n, vi_store_bytes_n(out, n, I(a)))                              \
  INT(vi_codes, vi_codes((int)n & 1, I(a), I(b), I(c), I(a)))                          \
  PROBE(vi_store_halves_n, vi_store_halves_n(out, n, I(a)))                            \
  PROBE(vf_store_f16_n, vf_store_f16_n((uint16_t *)(void *)out, n, F(a)))              \
  PROBE(vf_stream, stream(out, F(a)))                                                  \
  PROBE(vf_stream_fence, vf_stream_fence())                                            \
  INT(vi_load_u8, vi_load_u8((const uint8_t *)a))                                      \
  INT(vi_load_s8, vi_load_s8((const int8_t *)a))                                       \
  INT(vi_load_u16, vi_load_u16((const uint16_t *)(const void *)a))                     \
  FLOAT(vf_load_f16, vf_load_f16((const uint16_t *)(const void *)a))                   \
  FLOAT(vf_gather, vf_gather((const float *)(const void *)a, places(b, at)))           \
  INT(vi_gather, vi_gather((const int32_t *)(const void *)a, places(b, at)))           \
  FLOAT(vf_gather_at_once, vf_gather_at_once((const float *)(const void *)a, places(b, at)))\
  INT(vi_gather_at_once, vi_gather_at_once((const int32_t *)(const void *)a, places(b, at)))\
  FLOAT(vf_expand, where_set(READ(uint16_t, b), vf_expand((const float *)(const void *)a, (uint32_t)READ(uint16_t, b))))\
  FLOAT(vf_spread, where_set(READ(uint16_t, b), vf_spread((const float *)(const void *)a, (uint32_t)READ(uint16_t, b))))\
  FLOAT(vf_load4, vf_one_of(vf_load4((const float *)a), 3))                            \
  FLOAT(vf_one_of, vf_one_of(vf_load4((const float *)a), (int)n))                      \
  FOUR(vq_load, vq_load((const float *)(const void *)a + 3))                           \
  PROBE(vq_store, vq_store((float *)(void *)out + 5, vq_load((const float *)(const void *)a)))\
  FOUR(vq_zero, vq_zero())                                                             \
  FOUR(vq_fma1, vq_fma1(vq_load((const float *)(const void *)a), (const float *)(const void *)b + n, vq_load((const float *)(const void *)c)))\
  FLOAT(vf_set1, vf_set1(READ(float, a)))                                              \
  FLOAT(vf_zero, vf_zero())                                                            \
  INT(vi_set1, vi_set1(READ(int32_t, a)))                                              \
  INT(vi_zero, vi_zero())                                                              \
  INT(vi_set1_bytes, vi_set1_bytes(a))                                                 \
  FLOAT(vf_add, vf_add(F(a), F(b)))                                                    \
  FLOAT(vf_sub, vf_sub(F(a), F(b)))                                                    \
  FLOAT(vf_mul, vf_mul(F(a), F(b)))                                                    \
  FLOAT(vf_div, vf_div(F(a), F(b)))                                                    \
  FLOAT(vf_fma, vf_fma(F(a), F(b), F(c)))                                              \
  FLOAT(vf_fma1, vf_fma1(F(a), (const float *)(const void *)b + n, F(c)))              \
  FLOAT(vf_fnma, vf_fnma(F(a), F(b), F(c)))                                            \
  FLOAT(vf_max, vf_max(F(a), F(b)))                                                    \
  FLOAT(vf_min, vf_min(F(a), F(b)))                                                    \
  FLOAT(vf_held, vf_held(F(a)))                                                        \
  FLOAT(vf_abs, vf_abs(F(a)))                                                          \
  FLOAT(vf_rint, vf_rint(F(a)))                                                        \
  FLOAT(vf_scale2, vf_scale2(F(a), F(b)))                                              \
  BITS(vf_lt, vf_lt(F(a), F(b)))                                                       \
  BITS(vf_above, vf_above(F(a), F(b)))                                                 \
  BITS(vf_eq, vf_eq(F(a), F(b)))                                                       \
  BITS(vf_unordered, vf_unordered(F(a), F(b)))                                         \
  BITS(vf_isnan, vf_isnan(F(a)))                                                       \
  FLOAT(vf_select, vf_select(MASK(c), F(a), F(b)))                                     \
  BITS(vi_eq, vi_eq(I(a), I(b)))                                                       \
  BITS(vi_gt, vi_gt(I(a), I(b)))                                                       \
  INT(vi_select, vi_select(MASK(c), I(a), I(b)))                                       \
  BITS(vm_and, vm_and(MASK(a), MASK(b)))                                               \
  BITS(vm_or, vm_or(MASK(a), MASK(b)))                                                 \
  BITS(vm_first, vm_first(n))                                                          \
  BITS(vm_bits, MASK(a))                                                               \
  BITS(vm_from_bits, vm_from_bits((uint32_t)READ(uint16_t, a)))                        \
  INT(vi_held, vi_held(I(a)))                                                          \
  INT(vi_add, vi_add(I(a), I(b)))                                                      \
  INT(vi_sub, vi_sub(I(a), I(b)))                                                      \
  INT(vi_mul, vi_mul(I(a), I(b)))                                                      \
  INT(vi_max, vi_max(I(a), I(b)))                                                      \
  INT(vi_min, vi_min(I(a), I(b)))                                                      \
  INT(vi_and, vi_and(I(a), I(b)))                                                      \
  INT(vi_or, vi_or(I(a), I(b)))                                                        \
  INT(vi_xor, vi_xor(I(a), I(b)))                                                      \
  INT(vi_shl, vi_shl(I(a), (int)n))                                                    \
  INT(vi_shr, vi_shr(I(a), (int)n))                                                    \
  INT(vi_shr_each, vi_shr_each(I(a), I(b)))                                            \
  INT(vi_mul_fraction, vi_mul_fraction(I(a), I(b)))                                    \
  INT(vi_dot_u8s8, vi_dot_u8s8(I(a), I(b), I(c)))                                      \
  INT(vi_turn4, vi_turn4(I(a)))                                                        \
  INT(vi_swap4, vi_swap4(I(a)))                                                        \
  INT(vi_swap8, vi_swap8(I(a)))                                                        \
  FLOAT(vf_take, vf_take(F(a), I(b)))                                                  \
  FLOAT(vf_take_of_two, vf_take_of_two(F(a), F(c), I(b)))                              \
  PROBE(vf_transpose, transposed(a, out))                                              \
  FLOAT(vf_from_vi, vf_from_vi(I(a)))                                                  \
  INT(vi_from_vf, vi_from_vf(F(a)))                                                    \
  INT(vi_from_bits, vi_from_bits(F(a)))                                                \
  FLOAT(vf_from_bits, vf_from_bits(I(a)))                                              \
  ONE(vf_fold_add, float, vf_fold_add(F(a)))                                           \
  ONE(vf_fold_max, float, vf_fold_max(F(a)))                                           \
  ONE(vf_fold_min, float, vf_fold_min(F(a)))                                           \
  ONE(vi_fold_add, int32_t, vi_fold_add(I(a)))                                         \
  ONE(vi_fold_max, int32_t, vi_fold_max(I(a)))                                         \
  INT(vi_fold_add_each, vi_fold_add_each(sixteen(a, r16)))                             \
  INT(vi_fold_max_each, vi_fold_max_each(sixteen(a, r16)))                             \
  DOUBLE(vd_zero, vd_zero())                                                           \
  DOUBLE(vd_load, vd_load((const double *)(const void *)a))                            \
  PROBE(vd_store, vd_store((double *)(void *)out, D(a)))                               \
  DOUBLE(vd_set1, vd_set1(READ(double, a)))                                            \
  DOUBLE(vd_add_vf, vd_add_vf(D(a), F(b)))                                             \
  DOUBLE(vd_add, vd_add(D(a), D(b)))                                                   \
  DOUBLE(vd_sub, vd_sub(D(a), D(b)))                                                   \
  DOUBLE(vd_mul, vd_mul(D(a), D(b)))                                                   \
  DOUBLE(vd_div, vd_div(D(a), D(b)))                                                   \
  DOUBLE(vd_fma, vd_fma(D(a), D(b), D(c)))                                             \
  DOUBLE(vd_max, vd_max(D(a), D(b)))                                                   \
  DOUBLE(vd_select_lt, vd_select_lt(D(a), D(b), D(c), D(a)))                           \
  DOUBLE(vd_scale2, vd_scale2(D(a), D(b)))                                             \
  DOUBLE(vd_from_vf, vd_from_vf(F(a)))                                                 \
  FLOAT(vf_from_vd, vf_from_vd(D(a)))                                                  \
  ONE(vd_fold_add, double, vd_fold_add(D(a)))

OPERATIONS(FLOAT, FOUR, INT, DOUBLE, BITS, ONE, PROBE)

#define ENTRY(op, ...) {#op, probe_##op},
static const struct {
  const char *name;
  probe_function *function;
} TABLE[] = {OPERATIONS(ENTRY, ENTRY, ENTRY, ENTRY, ENTRY, ENTRY, ENTRY)};

#if defined(PROBE_MAIN)
#define VISIBLE static
#else
#define VISIBLE __attribute__((visibility("default"))) extern
VISIBLE int probe(const char *name, int64_t count, const char *a, const char *b, const char *c, int64_t n, char *out);
#endif

/* Runs an operation on `count` vectors; -1 if there is none of that name. */
VISIBLE int probe(const char *name, int64_t count, const char *a, const char *b, const char *c, int64_t n, char *out) {
  for (size_t i = 0; i < sizeof TABLE / sizeof *TABLE; i++)
    if (strcmp(TABLE[i].name, name) == 0) {
      for (int64_t v = 0; v < count; v++) TABLE[i].function(a + 128 * v, b + 128 * v, c + 128 * v, n, out + 128 * v);
      return 0;
    }
  return -1;
}

#ifdef PROBE_MAIN
/* A record: the name in 24 bytes, n, count, then a, b, c; the answer: count vectors, which begin as zero. */
int main(void) {
  char name[24];
  int64_t size[2];
  while (fread(name, sizeof name, 1, stdin) == 1) {
    if (fread(size, sizeof size, 1, stdin) != 1) return 1;
    const size_t bytes = (size_t)size[1] * 128;
    char *in = malloc(3 * bytes), *out = calloc(bytes, 1);
    if (!in || !out || fread(in, 1, 3 * bytes, stdin) != 3 * bytes) return 2;
    if (probe(name, size[1], in, in + bytes, in + 2 * bytes, size[0], out)) return 3;
    if (fwrite(out, 1, bytes, stdout) != bytes) return 4;
    free(in);
    free(out);
  }
  return 0;
}
#endif
