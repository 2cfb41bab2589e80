/* What losses on features are made of, in double, each output one chain:
 *   maps of attention (Zagoruyko and Komodakis, 2017)  y[i,j] = sum over l of |x[i,l,j]|^power, and their gradient by x;
 *   distances of all rows from all (Park et al., RKD, 2019)  d[i,j] = |x_i - x_j|, from differences, so that neighbours keep
 *   theirs; and what weights on them pull a row by:  sum over j of pull[i,j] (x_i - x_j).
 * Maps run down the channels, a block of places at a time, whose sums stay in L1: threads share blocks. Limit: memory.
 * Distances are made for j >= i, tiles of rows against panels of 16, and mirrored; pulls by tiles of rows against all rows:
 * threads share tiles. Limit: the double units, 4 operations for a pair and a feature, or half that. */
#include <math.h>

#include "softmax.h"
#include "table.h"

enum {
  PLACES = 1024, /* in a block of a map: 8 KB of sums */
  ROWS = 4,      /* in a tile: its sums and its own features in registers */
  GRAIN = 1 << 14 /* elements that pay for waking a thread */
};

typedef struct {
  int64_t c, n, blocks; /* blocks of places in a map */
  const float *x;
  int32_t power;
  double *y;           /* maps; or */
  const double *slope; /* the loss's by a map, times power, and */
  float *grad;
} maps_job;

/* |x|^exponent, from 1 by multiplications */
PC_INLINE vd16 raised(vf16 x, int32_t exponent) {
  const vd16 size = vd_from_vf(vf_abs(x));
  vd16 r = vd_set1(1.0);
  for (int32_t k = 0; k < exponent; k++) r = vd_mul(r, size);
  return r;
}

PC_INLINE void map_block(const maps_job *j, int32_t power, const float *x, int64_t width, double *y) {
  double sums[PLACES] = {0};
  for (int64_t l = 0; l < j->c; l++, x += j->n)
    for (int64_t p = 0; p < width; p += LANES) {
      const vf16 v = vf_load_left(x + p, width - p);
      vd_store(sums + p, vd_fma(raised(v, power - 1), vd_from_vf(vf_abs(v)), vd_load(sums + p)));
    }
  for (int64_t p = 0; p < width; p++) y[p] = sums[p];
}

PC_INLINE void grad_block(const maps_job *j, int32_t power, const float *x, int64_t width, const double *slope, float *grad) {
  double slopes[PLACES] = {0};
  for (int64_t p = 0; p < width; p++) slopes[p] = slope[p];
  const vd16 zero = vd_zero(), one = vd_set1(1.0), minus = vd_set1(-1.0);
  for (int64_t l = 0; l < j->c; l++, x += j->n, grad += j->n)
    for (int64_t p = 0; p < width; p += LANES) {
      const vf16 v = vf_load_left(x + p, width - p);
      const vd16 w = vd_from_vf(v), sign = vd_select_lt(zero, w, one, vd_select_lt(w, zero, minus, vd_add(w, zero)));
      const vd16 by_x = power == 1 ? sign : vd_mul(w, raised(v, power - 2)); /* sign |x|^(power - 1) */
      vf_store_left(grad + p, width - p, vf_from_vd(vd_mul(by_x, vd_load(slopes + p))));
    }
}

static void run_maps(int64_t begin, int64_t end, const void *context) {
  const maps_job *j = context;
  for (int64_t b = begin; b < end; b++) {
    const int64_t i = b / j->blocks, first = b % j->blocks * PLACES, width = smaller(j->n - first, PLACES);
    const float *x = j->x + i * j->c * j->n + first;
    if (j->y && j->power == 2) map_block(j, 2, x, width, j->y + i * j->n + first);
    else if (j->y) map_block(j, j->power, x, width, j->y + i * j->n + first);
    else if (j->power == 2) grad_block(j, 2, x, width, j->slope + i * j->n + first, j->grad + i * j->c * j->n + first);
    else grad_block(j, j->power, x, width, j->slope + i * j->n + first, j->grad + i * j->c * j->n + first);
  }
}

static int share_maps(int64_t m, maps_job j) {
  if (m < 0 || j.c < 0 || j.n < 0 || j.power < 1) return PC_EINVAL;
  j.blocks = (j.n + PLACES - 1) / PLACES;
  pc_for(m * j.blocks, 1 + GRAIN / (1 + j.c * smaller(j.n, PLACES)), run_maps, &j);
  return PC_OK;
}

int PC_FN(attention_map_f32)(int64_t m, int64_t c, int64_t n, const float *x, int32_t power, double *y) {
  return share_maps(m, (maps_job){c, n, 0, x, power, y, NULL, NULL});
}

int PC_FN(attention_map_grad_f32)(int64_t m, int64_t c, int64_t n, const float *x, int32_t power, const double *slope,
                                  float *grad) {
  return share_maps(m, (maps_job){c, n, 0, x, power, NULL, slope, grad});
}

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
