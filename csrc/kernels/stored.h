/* How the values of packed sparse matrices are stored. */
#ifndef PC_STORED_H
#define PC_STORED_H

#include "vocabulary.h"

enum { F32, BF16, F16, S8, S4 };

/* Sixteen codes of four bits as floats. Lane l is of the word that bit l of `second` says, shifted right by shifts[l], and takes
 * its float from a table, which looks at no more than the four bits. */
PC_INLINE vf16 pc_floats_of_codes(const uint8_t *p, uint32_t second, const int32_t *shifts) {
  static const float table[16] = {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1};
  int32_t words[2];
  memcpy(words, p, sizeof words);
  const vi16 lanes = vi_select(vm_from_bits(second), vi_set1(words[1]), vi_set1(words[0]));
  return vf_take(vf_load(table), vi_shr_each(lanes, vi_load(shifts)));
}
#endif
