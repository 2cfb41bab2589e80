/* Maps of attention (Zagoruyko and Komodakis, 2017)  y[i,j] = sum over l of |x[i,l,j]|^power, and their gradient by x, in double,
 * each output one chain. They run down the channels l, a block of places j at a time, whose sums stay in L1: threads share blocks.
 * Limit: memory. */
#include "table.h"
#include "vocabulary.h"

enum {
  PLACES = 1024,  /* in a block of a map: 8 KB of sums */
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
