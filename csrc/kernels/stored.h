/* How the values of packed sparse matrices are stored. */
#ifndef PC_STORED_H
#define PC_STORED_H

#include <stdint.h>

enum { F32, BF16, F16, S8, S4 };

/* Eight codes of four bits, one in the low half of each byte, as bytes: the sign goes into the upper half. */
static inline uint64_t pc_wide_codes(uint64_t codes) {
  const uint64_t sign = codes & 0x0808080808080808;
  return codes | sign << 1 | sign << 2 | sign << 3 | sign << 4;
}
#endif
