/* The 8-bit product on levels that have PC_DOT_PAIRS, where weights are such that the products of two neighbours with any bytes
 * add up in 16 bits (gemm_int8.c looks): bytes are multiplied as they are, three instructions for 32 products in place of four,
 * and half the registers. Libraries that do so with all weights saturate; here sums are exact, and the same. */
#define PC_PAIRS
#include "vocabulary.h"

#ifdef PC_DOT_PAIRS
#include "int8_tiles.h"

void PC_FN(int8_pairs_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  part_by_rows(j, row0, row1, begin, end);
}
#endif
