/* 8-bit weights laid out for their products, once (strips.h).
 * Limit: memory, two bytes a code. */
#include "strips.h"

enum { GRAIN = 1 << 16 /* codes that pay for waking a thread */ };

static void run(int64_t begin, int64_t end, const void *context) { pack_strips(context, begin, end); }

int PC_FN(pack_s8)(int64_t k, int64_t n, const int8_t *w, int64_t w_row, int64_t w_column, int8_t *packed, int32_t *sums) {
  if (k < 0 || n < 0) return PC_EINVAL;
  const loose j = {.k = k, .n = n, .w = w, .w_row = w_row, .w_column = w_column, .slices = BESIDE * strips_of(n),
                   .packed = packed, .sums = sums};
  pc_for(strips_of(n), 1 + GRAIN / (BESIDE * LANES * (k + 1)), run, &j);
  return PC_OK;
}
