/* packed[s][l][j] = w[l, 16 s + j]; zero past the last column and row. Limit: memory, 8 bytes an element. */
#include "table.h"
#include "vocabulary.h"

enum { GRAIN = 1 << 16 /* elements that pay for waking a thread */ };

typedef struct {
  int64_t k, n, padded;
  const float *w;
  int64_t w_row, w_column;
  float *packed;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t s = begin; s < end; s++) {
    const float *w = j->w + s * LANES * j->w_column;
    float *to = j->packed + s * j->padded * LANES;
    const int64_t columns = smaller(j->n - s * LANES, LANES);
    int64_t l = 0;
    if (j->w_row == 1 && columns == LANES)
      for (; l + LANES <= j->k; l += LANES, to += LANES * LANES) { /* columns lie in a row */
        vf16 block[LANES];
        for (int c = 0; c < LANES; c++) block[c] = vf_load(w + l + c * j->w_column);
        vf_transpose(block);
        for (int c = 0; c < LANES; c++) vf_store(to + c * LANES, block[c]);
      }
    if (j->w_column == 1 && columns == LANES)
      for (; l < j->k; l++, to += LANES) vf_store(to, vf_load(w + l * j->w_row));
    for (; l < j->k; l++, to += LANES)
      for (int64_t c = 0; c < LANES; c++) to[c] = c < columns ? w[l * j->w_row + c * j->w_column] : 0.0f;
    for (; l < j->padded; l++, to += LANES) vf_store(to, vf_zero());
  }
}

int PC_FN(pack_f32)(int64_t k, int64_t n, int64_t padded, const float *w, int64_t w_row, int64_t w_column, float *packed) {
  if (k < 0 || n < 0 || padded < k) return PC_EINVAL;
  const job j = {k, n, padded, w, w_row, w_column, packed};
  pc_for((n + LANES - 1) / LANES, 1 + GRAIN / (LANES * (padded + 1)), run, &j);
  return PC_OK;
}
