/* Weights, or rows of x turned, as panels. Limit: memory, 8 bytes an element. */
#include "panels.h"

int PC_FN(pack_f32)(int64_t k, int64_t n, const float *w, int64_t w_row, int64_t w_column, float *packed) {
  if (k < 0 || n < 0) return PC_EINVAL;
  const int past = k * n >= PC_PAST && pc_to_line(packed) == 0;
  const pc_loose j = {k, n, k, w, w_row, w_column, packed, past, 0};
  pc_pack_panels(&j);
  return PC_OK;
}
