/* How the values of packed sparse matrices are stored. */
#ifndef PC_STORED_H
#define PC_STORED_H

#include "vocabulary.h"

enum { F32, BF16, F16, S8, S4 };

/* Of a value. */
PC_INLINE int pc_bits(int kind) { return kind == F32 ? 32 : kind == S8 ? 8 : kind == S4 ? 4 : 16; }

/* Each kind: its name in kernels, the type it comes in, and what products end in, for codes with a scale first. */
#define PC_STORED(EACH)                                                      \
  EACH(f32, float, F32, const float *bias, NULL)                             \
  EACH(bf16, uint16_t, BF16, const float *bias, NULL)                        \
  EACH(f16, uint16_t, F16, const float *bias, NULL)                          \
  EACH(s8, int8_t, S8, PC_ALL(const float *scale, const float *bias), scale) \
  EACH(s4, uint8_t, S4, PC_ALL(const float *scale, const float *bias), scale)

/* Sixteen codes of four bits as floats: two a byte, neighbours or, `apart`, eight lanes from each other. A lane's code is in the
 * first word or the second, so far up; it takes its float from a table, which looks at no more than the four bits. */
PC_INLINE vf16 pc_floats_of_codes(int apart, const void *p) {
  static const float table[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
  static const int32_t shifts[2][LANES] = {{0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28},
                                           {0, 8, 16, 24, 0, 8, 16, 24, 4, 12, 20, 28, 4, 12, 20, 28}};
  int32_t words[2];
  memcpy(words, p, sizeof words);
  const vm16 second = vm_from_bits(apart ? 0xf0f0 : 0xff00);
  return vf_take(vf_load(table), vi_shr_each(vi_select(second, vi_set1(words[1]), vi_set1(words[0])), vi_load(shifts[apart])));
}

/* Sixteen values as floats. */
PC_INLINE vf16 pc_sixteen(int kind, int apart, const void *p) {
  switch (kind) {
    case BF16: return vf_load_bf16(p);
    case F16: return vf_load_f16(p);
    case S8: return vf_from_vi(vi_load_s8(p));
    case S4: return pc_floats_of_codes(apart, p);
    default: return vf_load(p);
  }
}
#endif
