/* Distances of all rows from all (Park et al., RKD, 2019)  d[i,j] = |x_i - x_j|, from differences, so that neighbours keep theirs;
 * and what weights on them pull a row by,  y_i = sum over j of pull[i,j] (x_i - x_j). In double, each output one chain.
 * Distances are made for j >= i, tiles of rows against panels of 16, and mirrored; pulls by tiles of rows against all rows:
 * threads share tiles. Limit: the double units, 4 operations for a pair and a feature, or half that. */
#include <math.h>

#include "table.h"
#include "vocabulary.h"

enum {
  ROWS = 4,       /* in a tile: its sums and its own features in registers */
  GRAIN = 1 << 14 /* elements that pay for waking a thread */
};

typedef struct {
  int64_t m, k;
  const float *x, *panels; /* panels [ceil(m/16)][k][16] */
  double *d;
  const double *pull;
  float *y;
} pairs_job;

static void distances_of_rows(int64_t begin, int64_t end, const void *context) {
  const pairs_job *j = context;
  for (int64_t row = begin * ROWS; row < end * ROWS && row < j->m; row += ROWS)
    for (int64_t s = row / LANES; s * LANES < j->m; s++) {
      const float *panel = j->panels + s * j->k * LANES;
      const float *x[ROWS];
      vd16 sums[ROWS];
      for (int r = 0; r < ROWS; r++) {
        x[r] = j->x + smaller(row + r, j->m - 1) * j->k;
        sums[r] = vd_zero();
      }
      for (int64_t l = 0; l < j->k; l++) {
        const vd16 others = vd_from_vf(vf_load(panel + l * LANES));
        for (int r = 0; r < ROWS; r++) {
          const vd16 apart = vd_sub(vd_set1(x[r][l]), others);
          sums[r] = vd_fma(apart, apart, sums[r]);
        }
      }
      for (int r = 0; r < ROWS && row + r < j->m; r++) {
        double squares[LANES], *to = j->d + (row + r) * j->m + s * LANES;
        vd_store(squares, sums[r]);
        for (int64_t l = 0; l < smaller(j->m - s * LANES, LANES); l++) to[l] = sqrt(squares[l]);
      }
    }
}

/* What lies left of a row's first panel, from the rows above. */
static void mirror_rows(int64_t begin, int64_t end, const void *context) {
  const pairs_job *j = context;
  for (int64_t i = begin; i < end; i++)
    for (int64_t l = 0; l < i / ROWS * ROWS / LANES * LANES; l++) j->d[i * j->m + l] = j->d[l * j->m + i];
}

static void pulls_of_rows(int64_t begin, int64_t end, const void *context) {
  const pairs_job *j = context;
  for (int64_t row = begin * ROWS; row < end * ROWS && row < j->m; row += ROWS)
    for (int64_t l = 0; l < j->k; l += LANES) {
      const int64_t left = j->k - l;
      const double *pull[ROWS];
      vd16 own[ROWS], sums[ROWS];
      for (int r = 0; r < ROWS; r++) {
        const int64_t i = smaller(row + r, j->m - 1);
        pull[r] = j->pull + i * j->m;
        own[r] = vd_from_vf(vf_load_left(j->x + i * j->k + l, left));
        sums[r] = vd_zero();
      }
      for (int64_t i = 0; i < j->m; i++) {
        const vd16 other = vd_from_vf(vf_load_left(j->x + i * j->k + l, left));
        for (int r = 0; r < ROWS; r++) sums[r] = vd_fma(vd_set1(pull[r][i]), vd_sub(own[r], other), sums[r]);
      }
      for (int r = 0; r < ROWS && row + r < j->m; r++)
        vf_store_left(j->y + (row + r) * j->k + l, left, vf_from_vd(sums[r]));
    }
}

static int share_tiles(void (*rows)(int64_t, int64_t, const void *), const pairs_job *j) {
  if (j->m < 0 || j->k < 0) return PC_EINVAL;
  pc_for((j->m + ROWS - 1) / ROWS, 1 + GRAIN / (1 + ROWS * j->m * j->k), rows, j);
  return PC_OK;
}

int PC_FN(row_distances_f32)(int64_t m, int64_t k, const float *x, const float *panels, double *d) {
  const pairs_job j = {m, k, x, panels, d, NULL, NULL};
  const int status = share_tiles(distances_of_rows, &j);
  if (status == PC_OK) pc_for(m, 1 + GRAIN / (1 + m), mirror_rows, &j);
  return status;
}

int PC_FN(row_pulls_f32)(int64_t m, int64_t k, const float *x, const double *pull, float *y) {
  const pairs_job j = {m, k, x, NULL, NULL, pull, y};
  return share_tiles(pulls_of_rows, &j);
}
