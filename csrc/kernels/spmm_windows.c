/* One row of x or a few against a matrix in slices of 16 rows, a lane for each: every few steps of a slice read a window of 31
 * columns of x, from which lanes take their elements inside registers, so nothing is gathered from memory. Four slices run
 * side by side, since a chain alone waits for itself. A window begins at the first column that a row of its slice still
 * waits for; rows that are ahead may go on to its end. Each output is the chain of spmm.c in one lane. Padding takes a zero
 * times -0, as in spmm_tiles.c.
 * A window serves one turn or two of three steps. What moves lanes takes the port that also widens places, so those of two turns
 * come as they are, as one lane of 32 bits.
 * Limit: memory, 4.7 bytes an entry and the padding (an eighth at half zeros, a third at 80 %); in cache, moving lanes. */
#include "share.h"
#include "sparse_end.h"
#include "stored.h"

enum {
  BESIDE = 4, /* slices of a group */
  STEPS = 3,  /* of a turn, whose places share */
  TURN = 16,  /* bits; a window serves the same number of turns throughout a matrix */
  PLACE = 5,  /* bits of a place in the window: below 16 the column, 16 a zero, above that the column before */
  WIDE = 31,  /* columns of a window */
  MOST = 4,   /* rows of x at a time */
  GRAIN = 250 /* turns of a group that pay for waking a thread */
};

typedef struct {
  int64_t groups, turns;
  const void *x;
  int64_t ldx;
  const void *values;
  const uint16_t *places;
  const int32_t *begins, *rows;
  const int64_t *starts;
  pc_end end;
  const int32_t *offset; /* of the products of codes */
  int32_t *sums;
} job;

typedef struct {
  vf16 low, high;
} window;

PC_INLINE window window_at(const float *x) {
  return (window){vf_load(x), vf_select(vm_from_bits(0xfffe), vf_load(x + LANES - 1), vf_zero())};
}

/* Places of a slice for one turn or two. */
PC_INLINE vi16 places_at(int turns, const uint16_t *places) { return turns == 1 ? vi_load_u16(places) : vi_held(vi_load(places)); }

PC_INLINE vf16 taken(window w, vi16 places, int step) {
  return vf_take_of_two(w.low, w.high, step ? vi_shr(places, step / STEPS * TURN + step % STEPS * PLACE) : places);
}

/* Once for all of the copies that the compiler makes of `groups`. */
static __attribute__((noinline)) void end_group(int rows, const job *j, int64_t i, int64_t group, float (*chains)[MOST][LANES]) {
  for (int r = 0; r < rows; r++) {
    const pc_end e = pc_end_of(&j->end, i + r);
    for (int s = 0; s < BESIDE; s++) pc_finish_scattered(&e, vf_load(chains[s][r]), j->rows + (group * BESIDE + s) * LANES);
  }
}

/* Rows i .. i + rows of x. */
PC_INLINE void groups(int kind, int turns, int rows, const job *j, int64_t i, int64_t from, int64_t to) {
  const float *x = (const float *)j->x + i * j->ldx;
  for (int64_t g = from; g < to; g++) {
    vf16 acc[BESIDE][MOST];
#pragma GCC unroll 4
    for (int s = 0; s < BESIDE; s++)
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) acc[s][r] = vf_zero();
    const int64_t first = j->starts[g] * BESIDE, last = j->starts[g + 1] * BESIDE;
    const uint16_t *places = j->places + first * turns * LANES;
    const char *values = (const char *)j->values + first * turns * STEPS * LANES * pc_bits(kind) / 8;
    for (int64_t w = first; w < last; w += BESIDE)
#pragma GCC unroll 4
      for (int s = 0; s < BESIDE; s++) {
        window of[MOST];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) of[r] = window_at(x + r * j->ldx + j->begins[w + s]);
        const vi16 at = places_at(turns, places);
        places += LANES * turns;
#pragma GCC unroll 6
        for (int e = 0; e < STEPS * turns; e++, values += LANES * pc_bits(kind) / 8) {
          const vf16 v = pc_sixteen(kind, 1, values);
#pragma GCC unroll 4
          for (int r = 0; r < rows; r++) acc[s][r] = vf_fma(taken(of[r], at, e), v, acc[s][r]);
        }
      }
    float chains[BESIDE][MOST][LANES];
#pragma GCC unroll 4
    for (int s = 0; s < BESIDE; s++)
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) vf_store(chains[s][r], acc[s][r]);
    end_group(rows, j, i, g, chains);
  }
}

/* With few registers, rows of x one by one. */
PC_INLINE void run_rows(int kind, int turns, const job *j, int64_t begin, int64_t end) {
  const int64_t from = pc_run_near(j->starts, j->groups, begin), to = pc_run_near(j->starts, j->groups, end);
  const int64_t most = PC_TILE_VECTORS(1) >= 8 ? MOST : 1;
  for (int64_t i = 0; i < j->end.m; i += most) switch (smaller(most, j->end.m - i)) {
      case 1: groups(kind, turns, 1, j, i, from, to); break;
      case 2: groups(kind, turns, 2, j, i, from, to); break;
      case 3: groups(kind, turns, 3, j, i, from, to); break;
      default: groups(kind, turns, MOST, j, i, from, to);
    }
}

#define RUN(name, type, kind, parameters, scale)                                \
  static void run_##name(int64_t begin, int64_t end, const void *context) {     \
    if (((const job *)context)->turns == 1) run_rows(kind, 1, context, begin, end); \
    else run_rows(kind, 2, context, begin, end);                                \
  }
PC_STORED(RUN)

/* Blocks of four codes, by the dot product. */
PC_INLINE void groups_of_codes(int turns, const job *j, int64_t begin, int64_t end) {
  const int64_t from = pc_run_near(j->starts, j->groups, begin), to = pc_run_near(j->starts, j->groups, end);
  for (int64_t g = from; g < to; g++) {
    vi16 acc[BESIDE];
#pragma GCC unroll 4
    for (int s = 0; s < BESIDE; s++) acc[s] = vi_zero();
    const int64_t first = j->starts[g] * BESIDE, last = j->starts[g + 1] * BESIDE;
    const uint16_t *places = j->places + first * turns * LANES;
    const int8_t *values = (const int8_t *)j->values + first * turns * STEPS * LANES * 4;
    for (int64_t w = first; w < last; w += BESIDE)
#pragma GCC unroll 4
      for (int s = 0; s < BESIDE; s++) {
        const window of = window_at((const float *)j->x + j->begins[w + s]);
        const vi16 at = places_at(turns, places);
        places += LANES * turns;
#pragma GCC unroll 6
        for (int e = 0; e < STEPS * turns; e++, values += LANES * 4)
          acc[s] = vi_dot_u8s8(acc[s], vi_from_bits(taken(of, at, e)), vi_load(values));
      }
    for (int s = 0; s < BESIDE; s++) pc_finish_codes(j->offset, acc[s], j->rows + (g * BESIDE + s) * LANES, j->sums);
  }
}

static void run_codes(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  if (j->turns == 1) groups_of_codes(1, j, begin, end);
  else groups_of_codes(2, j, begin, end);
}

/* The ends of groups must fit; windows, places and rows are trusted. */
static int run_job(const job *j, int64_t k, int64_t windows, void (*run)(int64_t, int64_t, const void *)) {
  if (j->end.m < 0 || j->end.n < 0 || windows < 0 || j->groups < 0) return PC_EINVAL;
  if (j->turns != 1 && j->turns != 2) return PC_EINVAL;
  if (!pc_is_activation(j->end.activation)) return PC_EINVAL;
  if (j->end.m == 0 || j->end.n == 0) return PC_OK;
  if (k < WIDE || j->starts[0] || j->starts[j->groups] != windows) return PC_EINVAL;
  pc_for(windows + j->groups, 1 + GRAIN / (j->turns * smaller(j->end.m, MOST)), run, j);
  return PC_OK;
}

#define VALUES(name, type, kind, parameters, scale)                                                                       \
  int PC_FN(spmm_windows_##name)(int64_t m, int64_t k, int64_t n, int64_t windows, int64_t turns, int64_t groups,         \
                                 const float *x, int64_t ldx, const type *values, const uint16_t *places,                 \
                                 const int32_t *begins, const int32_t *rows, const int64_t *starts, parameters,           \
                                 const float *residual, int32_t activation, float *y, int64_t ldy) {                      \
    const pc_end end = {m, n, scale, bias, residual, activation, y, ldy, 1};                                              \
    const job j = {groups, turns, x, ldx, values, places, begins, rows, starts, end, NULL, NULL};                         \
    return ldx < k || ldy < n ? PC_EINVAL : run_job(&j, k, windows, run_##name);                                          \
  }
PC_STORED(VALUES)

int PC_FN(spmv_windows_u8s8)(int64_t k, int64_t n, int64_t windows, int64_t turns, int64_t groups, const uint8_t *x, const int8_t *values,
                             const uint16_t *places, const int32_t *begins, const int32_t *rows, const int64_t *starts,
                             const int32_t *offset, int32_t *y) {
  const pc_end end = {1, n, NULL, NULL, NULL, PC_IDENTITY, NULL, n, 1};
  const job j = {groups, turns, x, 0, values, places, begins, rows, starts, end, offset, y};
  return run_job(&j, k, windows, run_codes);
}
