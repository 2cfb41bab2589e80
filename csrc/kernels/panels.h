/* Floats as panels, which kernels read in lines of sixteen: packed[s][l][j] = w[l, 16 s + j]; zero past the last column, and from
 * row k to row `padded`. */
#ifndef PC_PANELS_H
#define PC_PANELS_H

#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  PC_BESIDE = 8,        /* slices whose rows, which lie side by side, are read together, */
  PC_ROWS_AHEAD = 4,    /* and asked for so many rows ahead; */
  PC_FLOATS_AHEAD = 64, /* elements ahead, of columns that lie in a row */
  PC_PACK_GRAIN = 1 << 16 /* elements that pay for waking a thread */
};

typedef struct {
  int64_t k, n, padded;
  const float *w;
  int64_t w_row, w_column;
  float *packed;
  int past; /* whether it goes past the caches */
} pc_loose;

/* PC_BESIDE whole slices from s on. */
static inline void pc_pack_beside(const pc_loose *j, int64_t s) {
  const float *w = j->w + s * LANES;
  float *to = j->packed + s * j->padded * LANES;
  for (int64_t l = 0; l < j->k; l++, w += j->w_row, to += LANES)
#pragma GCC unroll 8
    for (int b = 0; b < PC_BESIDE; b++) {
      __builtin_prefetch(w + PC_ROWS_AHEAD * j->w_row + b * LANES);
      pc_store_line(to + b * j->padded * LANES, j->past, vf_load(w + b * LANES));
    }
  for (int64_t l = j->k; l < j->padded; l++, to += LANES)
    for (int b = 0; b < PC_BESIDE; b++) vf_store(to + b * j->padded * LANES, vf_zero());
}

/* Slices [begin, end). */
static inline void pc_pack_slices(const pc_loose *j, int64_t begin, int64_t end) {
  int64_t s = begin;
  for (; j->w_column == 1 && s + PC_BESIDE <= end && (s + PC_BESIDE) * LANES <= j->n; s += PC_BESIDE) pc_pack_beside(j, s);
  for (; s < end; s++) {
    const float *w = j->w + s * LANES * j->w_column;
    float *to = j->packed + s * j->padded * LANES;
    const int64_t columns = smaller(j->n - s * LANES, LANES);
    int64_t l = 0;
    if (j->w_row == 1)
      for (; l + LANES <= j->k; l += LANES, to += LANES * LANES) { /* columns lie in a row */
        vf16 block[LANES];
        for (int c = 0; c < LANES; c++) {
          block[c] = vf_zero();
          if (c >= columns) continue;
          __builtin_prefetch(w + l + PC_FLOATS_AHEAD + c * j->w_column);
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

static void pc_run_pack(int64_t begin, int64_t end, const void *context) { pc_pack_slices(context, begin, end); }

/* All slices, on threads. */
static inline void pc_pack_panels(const pc_loose *j) {
  pc_for((j->n + LANES - 1) / LANES, 1 + PC_PACK_GRAIN / (LANES * (j->padded + 1)), pc_run_pack, j);
}
#endif
