/* What every kernel that ends in 8-bit codes shares. */
#ifndef PC_CODES_H
#define PC_CODES_H

#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  PC_MOST_STEPS = 512, /* beyond so many a result saturates whatever the zero */
  PC_FOUR = 4 * LANES  /* elements whose codes fill a line */
};

/* rint(q) + zero, as far as that is near a code */
PC_INLINE vi16 unclamped(vf16 q, vi16 zero) {
  return vi_add(vi_from_vf(vf_min(vf_max(q, vf_set1(-PC_MOST_STEPS)), vf_set1(PC_MOST_STEPS))), zero);
}

/* clamp(rint(q) + zero, low, high) */
PC_INLINE vi16 code_of(vf16 q, vi16 zero, vi16 low, vi16 high) { return vi_min(vi_max(unclamped(q, zero), low), high); }

/* A line of codes, of four vectors. */
PC_INLINE void store_codes(uint8_t *codes, int is_signed, int past, const vi16 *code) {
  const vi16 line = vi_codes(is_signed, code[0], code[1], code[2], code[3]);
  if (past) vf_stream((float *)(void *)codes, vf_from_bits(line));
  else vi_store(codes, line);
}

/* The codes of the elements of a row from l on, so many. */
typedef vi16 coder(void *row, int64_t l, int64_t lanes);

PC_INLINE void few_codes(coder *code, void *row, int64_t l, int64_t end, uint8_t *codes) {
  for (int64_t lanes; l < end; l += lanes) {
    lanes = smaller(end - l, LANES);
    vi_store_bytes_n(codes + l, lanes, code(row, l, lanes));
  }
}

/* The codes of n elements of a row, by whole lines where that can be. */
PC_INLINE void row_codes(coder *code, void *row, int64_t n, int is_signed, int past, uint8_t *codes) {
  const int64_t head = past ? smaller(pc_bytes_to_line(codes), n) : 0;
  few_codes(code, row, 0, head, codes);
  int64_t l = head;
  for (; l + PC_FOUR <= n; l += PC_FOUR) {
    vi16 line[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) line[i] = code(row, l + i * LANES, LANES);
    store_codes(codes + l, is_signed, past, line);
  }
  few_codes(code, row, l, n, codes);
}
#endif
