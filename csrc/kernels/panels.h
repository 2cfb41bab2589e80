/* Floats as panels, which kernels read in lines of sixteen: packed[s][l][j] = w[l, 16 s + j]; zero past the last column, and from
 * row k to row `padded`. */
#ifndef PC_PANELS_H
#define PC_PANELS_H

#include "heap.h"
#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  PC_BESIDE = 8,        /* slices whose rows, which lie side by side, are read together, */
  PC_ROWS_AHEAD = 4,    /* and asked for so many rows ahead; */
  PC_FLOATS_AHEAD = 64, /* elements ahead, of columns that lie in a row */
  PC_PACK_GRAIN = 1 << 16, /* elements that pay for waking a thread */
  PC_OWN = 3 << 16,     /* floats, at most, that each thread packs for itself: 768 KB */
  PC_LITTLE = 16        /* multiply-adds of vectors beside which packing a float is little */
};

typedef struct {
  int64_t k, n, padded;
  const float *w;
  int64_t w_row, w_column;
  float *packed;
  int past;      /* whether it goes past the caches */
  int64_t first; /* the slice that lies at its beginning */
} pc_loose;

static inline float *pc_packed_slice(const pc_loose *j, int64_t s) { return j->packed + (s - j->first) * LANES * j->padded; }

/* `count` whole slices from s on, PC_BESIDE at most. */
PC_INLINE void pc_pack_beside(const pc_loose *j, int64_t s, int count) {
  const float *w = j->w + s * LANES;
  float *to = pc_packed_slice(j, s);
  for (int64_t l = 0; l < j->k; l++, w += j->w_row, to += LANES)
#pragma GCC unroll 8
    for (int b = 0; b < count; b++) {
      __builtin_prefetch(w + PC_ROWS_AHEAD * j->w_row + b * LANES);
      pc_store_line(to + b * j->padded * LANES, j->past, vf_load(w + b * LANES));
    }
  for (int64_t l = j->k; l < j->padded; l++, to += LANES)
    for (int b = 0; b < count; b++) vf_store(to + b * j->padded * LANES, vf_zero());
}

/* Slices [begin, end). */
static inline void pc_pack_slices(const pc_loose *j, int64_t begin, int64_t end) {
  int64_t s = begin;
  const int64_t whole = j->w_column == 1 ? smaller(end, j->n / LANES) : begin;
  for (; s + PC_BESIDE <= whole; s += PC_BESIDE) pc_pack_beside(j, s, PC_BESIDE);
  if (s < whole) pc_pack_beside(j, s, (int)(whole - s));
  s = whole > begin ? whole : begin;
  for (; s < end; s++) {
    const float *w = j->w + s * LANES * j->w_column;
    float *to = pc_packed_slice(j, s);
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
    if (j->w_column == 1)
      for (; l < j->k; l++, to += LANES) vf_store(to, vf_load_left(w + l * j->w_row, columns));
    for (; l < j->k; l++, to += LANES)
      for (int64_t c = 0; c < LANES; c++) to[c] = c < columns ? w[l * j->w_row + c * j->w_column] : 0.0f;
    for (; l < j->padded; l++, to += LANES) vf_store(to, vf_zero());
  }
  if (j->past) vf_stream_fence();
}

static void pc_run_pack(int64_t begin, int64_t end, const void *context) { pc_pack_slices(context, begin, end); }

static inline int64_t pc_slices(const pc_loose *j) { return (j->n + LANES - 1) / LANES; }
static inline int64_t pc_packed_floats(const pc_loose *j) { return pc_slices(j) * LANES * j->padded; }

/* All slices, on threads. */
static inline void pc_pack_panels(const pc_loose *j) {
  pc_for(pc_slices(j), 1 + PC_PACK_GRAIN / (LANES * (j->padded + 1)), pc_run_pack, j);
}

/* The same to memory of its own; *found is what to free. NULL if there is none. */
static inline const float *pc_pack_all(pc_loose *j, void **found) {
  j->packed = pc_heap((size_t)pc_packed_floats(j) * sizeof(float), found);
  if (j->packed) pc_pack_panels(j);
  return j->packed;
}

/* Slices [begin, end), to memory of a thread's own: from the cache of another, which has just packed it, each line would come one by
 * one as it is asked for. That is `few` [PC_FEW] if it is enough; else of `most` slices, taken at the first call, and *found is what to
 * free. NULL if there is none. */
static inline const float *pc_pack_own(pc_loose *j, int64_t begin, int64_t end, int64_t most, float *few, void **found) {
  const int64_t floats = most * LANES * j->padded;
  if (!j->packed) j->packed = floats <= PC_FEW ? few : pc_heap((size_t)floats * sizeof(float), found);
  j->first = begin;
  if (j->packed) pc_pack_slices(j, begin, end);
  return j->packed;
}

/* Whether so little is to be packed that each thread may pack all of it. */
static inline int pc_packs_own(const pc_loose *j) { return pc_packed_floats(j) <= PC_OWN; }

/* -- up to four columns of w, which lie side by side */

enum { PC_FOUR = 4 };

/* to[l][j] = w[l, j]; past the last column what the first holds, which is not delivered; zero from row k to row `padded`. */
static inline const float *pc_in_fours(const pc_loose *j, float *to) {
  const float *column[PC_FOUR];
  for (int i = 0; i < PC_FOUR; i++) column[i] = j->w + (i < j->n ? i * j->w_column : 0);
  if (j->w_row == 1) /* of four rows at once */
    for (int64_t l = 0; l < j->k; l++)
      for (int i = 0; i < PC_FOUR; i++) to[PC_FOUR * l + i] = column[i][l];
  else
    for (int64_t l = 0; l < j->k; l++)
      for (int i = 0; i < PC_FOUR; i++) to[PC_FOUR * l + i] = column[i][l * j->w_row];
  for (int64_t q = PC_FOUR * j->k; q < PC_FOUR * j->padded; q++) to[q] = 0.0f;
  return to;
}

/* Whether a thread's stack holds them. */
static inline int pc_fours_are_few(const pc_loose *j) { return PC_FOUR * j->padded <= PC_FEW; }

/* The same in memory of their own; *found is what to free. NULL if there is none. */
static inline const float *pc_all_in_fours(const pc_loose *j, void **found) {
  float *const to = pc_heap((size_t)(PC_FOUR * j->padded) * sizeof *to, found);
  return to ? pc_in_fours(j, to) : NULL;
}

/* run_own_fours(begin, end, context): `run` of a job whose x each thread brings into fours for itself. */
#define PC_RUN_OWN_FOURS(run)                                                         \
  static void run_own_fours(int64_t begin, int64_t end, const void *context) {        \
    _Alignas(64) float few[PC_FEW];                                                   \
    job j = *(const job *)context;                                                    \
    j.x = pc_in_fours(&j.loose, few);                                                 \
    run(begin, end, &j);                                                              \
  }

/* -- any number of them */

/* run_own(begin, end, context): `run` of a job whose x each thread packs whole for itself. */
#define PC_RUN_OWN(run)                                                               \
  static void run_own(int64_t begin, int64_t end, const void *context) {              \
    _Alignas(64) float few[PC_FEW];                                                   \
    job j = *(const job *)context;                                                    \
    const int64_t slices = pc_slices(&j.loose);                                       \
    void *found = NULL;                                                               \
    j.x = pc_pack_own(&j.loose, 0, slices, slices, few, &found);                      \
    if (j.x) run(begin, end, &j);                                                     \
    else __atomic_store_n(j.status, PC_ENOMEM, __ATOMIC_RELAXED);                     \
    free(found);                                                                      \
  }

/* Pieces of work, a unit of which takes so many multiply-adds of vectors, beside which that is little, if there is so much of it for
 * each thread; or `grain` if that is more. */
static inline int64_t pc_own_grain(const pc_loose *j, int64_t vectors, int64_t work, int64_t grain) {
  const int64_t much = smaller(PC_LITTLE * pc_packed_floats(j) / (vectors ? vectors : 1), 1 + work / pc_get_num_threads());
  return much < grain ? grain : much;
}
#endif
