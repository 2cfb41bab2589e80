/* packed[s][l][j] = w[l, 16 s + j]; zero past the last column and row. Limit: memory, 8 bytes an element. */
#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  GRAIN = 1 << 16, /* elements that pay for waking a thread */
  BESIDE = 8,      /* slices whose rows, which lie side by side, are read together, */
  ASKED = 4,       /* and asked for so many rows ahead; */
  AHEAD = 64       /* elements ahead, of columns that lie in a row */
};

typedef struct {
  int64_t k, n, padded;
  const float *w;
  int64_t w_row, w_column;
  float *packed;
  int past;
} job;

/* BESIDE whole slices from s on. */
static void pack_beside(const job *j, int64_t s) {
  const float *w = j->w + s * LANES;
  float *to = j->packed + s * j->padded * LANES;
  for (int64_t l = 0; l < j->k; l++, w += j->w_row, to += LANES)
#pragma GCC unroll 8
    for (int b = 0; b < BESIDE; b++) {
      __builtin_prefetch(w + ASKED * j->w_row + b * LANES);
      pc_store_line(to + b * j->padded * LANES, j->past, vf_load(w + b * LANES));
    }
  for (int64_t l = j->k; l < j->padded; l++, to += LANES)
    for (int b = 0; b < BESIDE; b++) vf_store(to + b * j->padded * LANES, vf_zero());
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  int64_t s = begin;
  for (; j->w_column == 1 && s + BESIDE <= end && (s + BESIDE) * LANES <= j->n; s += BESIDE) pack_beside(j, s);
  for (; s < end; s++) {
    const float *w = j->w + s * LANES * j->w_column;
    float *to = j->packed + s * j->padded * LANES;
    const int64_t columns = smaller(j->n - s * LANES, LANES);
    int64_t l = 0;
    if (j->w_row == 1 && columns == LANES)
      for (; l + LANES <= j->k; l += LANES, to += LANES * LANES) { /* columns lie in a row */
        vf16 block[LANES];
        for (int c = 0; c < LANES; c++) {
          __builtin_prefetch(w + l + AHEAD + c * j->w_column);
          block[c] = vf_load(w + l + c * j->w_column);
        }
        vf_transpose(block);
        for (int c = 0; c < LANES; c++) pc_store_line(to + c * LANES, j->past, block[c]);
      }
    if (j->w_column == 1 && columns == LANES)
      for (; l < j->k; l++, to += LANES) vf_store(to, vf_load(w + l * j->w_row));
    for (; l < j->k; l++, to += LANES)
      for (int64_t c = 0; c < LANES; c++) to[c] = c < columns ? w[l * j->w_row + c * j->w_column] : 0.0f;
    for (; l < j->padded; l++, to += LANES) vf_store(to, vf_zero());
  }
  if (j->past) vf_stream_fence();
}

int PC_FN(pack_f32)(int64_t k, int64_t n, int64_t padded, const float *w, int64_t w_row, int64_t w_column, float *packed) {
  if (k < 0 || n < 0 || padded < k) return PC_EINVAL;
  const int past = padded * n >= PC_PAST && pc_to_line(packed) == 0;
  const job j = {k, n, padded, w, w_row, w_column, packed, past};
  pc_for((n + LANES - 1) / LANES, 1 + GRAIN / (LANES * (padded + 1)), run, &j);
  return PC_OK;
}
