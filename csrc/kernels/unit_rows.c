/* Rows x brought to length 1, u = x/|x|, 0 for rows of zeros, and what losses on them need:
 *   unit_rows          u, and 1/|x|;
 *   unit_rows_grad     (g - u <u, g>)/|x|: the gradient by x of what has the gradient g by u;
 *   units_apart        |u - v|^2 of a student's row and its teacher's, and its gradient by the student, 2 (d - u <u, d>)/|x| with
 *                      d = u - v, which keeps its meaning where they are close.
 * In double, sums by the lane rule. For units_apart rows are first brought near 1 by a power of two, so that no square is out of
 * range. Threads share rows. Limit: memory. */
#include <float.h>
#include <math.h>

#include "double_rows.h"

enum {
  GRAIN = 1 << 13, /* elements that pay for waking a thread */
  FAR = 1021       /* powers of two as far from 1 have inverses that are no denormals */
};

typedef struct {
  int64_t n;
  const float *x;
  double *to_inverse; /* written; or, by the gradient, */
  const double *inverse;
  const float *by_unit;
  float *y;
} units_job;

/* 1/length of a row times a power of two, 0 for none. */
PC_INLINE double inverse_length(const void *x, int wide, int64_t n, double power) {
  vd16 lanes = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 v = vd_mul(pc_load_doubles(x, wide, i, n, 0.0), vd_set1(power));
    lanes = vd_fma(v, v, lanes);
  }
  const double squares = vd_fold_add(lanes);
  return squares == 0.0 ? 0.0 : 1.0 / sqrt(squares);
}

static int share(int64_t m, int64_t n, void (*run)(int64_t, int64_t, const void *), const void *job) {
  if (m < 0 || n < 0) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (1 + n), run, job);
  return PC_OK;
}

static void run_units(int64_t begin, int64_t end, const void *context) {
  const units_job *j = context;
  for (int64_t row = begin; row < end; row++) {
    const float *x = j->x + row * j->n;
    float *y = j->y + row * j->n;
    const double inverse = j->to_inverse[row] = inverse_length(x, 0, j->n, 1.0);
    for (int64_t i = 0; i < j->n; i += LANES)
      pc_store_doubles(y, 0, i, j->n, vd_mul(pc_load_doubles(x, 0, i, j->n, 0.0), vd_set1(inverse)));
  }
}

static void run_units_grad(int64_t begin, int64_t end, const void *context) {
  const units_job *j = context;
  for (int64_t row = begin; row < end; row++) {
    const float *u = j->x + row * j->n, *slope = j->by_unit + row * j->n;
    vd16 sum = vd_zero();
    for (int64_t i = 0; i < j->n; i += LANES)
      sum = vd_fma(pc_load_doubles(u, 0, i, j->n, 0.0), pc_load_doubles(slope, 0, i, j->n, 0.0), sum);
    const vd16 minus_along = vd_set1(-vd_fold_add(sum)), inverse = vd_set1(j->inverse[row]);
    for (int64_t i = 0; i < j->n; i += LANES) {
      const vd16 across = vd_fma(minus_along, pc_load_doubles(u, 0, i, j->n, 0.0), pc_load_doubles(slope, 0, i, j->n, 0.0));
      pc_store_doubles(j->y + row * j->n, 0, i, j->n, vd_mul(across, inverse));
    }
  }
}

int PC_FN(unit_rows_f32)(int64_t m, int64_t n, const float *x, double *inverse, float *unit) {
  const units_job j = {.n = n, .x = x, .to_inverse = inverse, .y = unit};
  return share(m, n, run_units, &j);
}

int PC_FN(unit_rows_grad_f32)(int64_t m, int64_t n, const float *unit, const double *inverse, const float *by_unit, float *grad) {
  const units_job j = {.n = n, .x = unit, .inverse = inverse, .by_unit = by_unit, .y = grad};
  return share(m, n, run_units_grad, &j);
}

typedef struct {
  int64_t n;
  int wide; /* doubles, not floats */
  const void *student, *teacher;
  double scale, *loss;
  void *grad; /* NULL: the loss alone */
} apart_job;

/* A row, the power of two that brings it near 1, and 1/length of what that gives. */
typedef struct {
  const void *x;
  double power, inverse;
} side;

PC_INLINE side side_of(const void *x, int wide, int64_t n) {
  vd16 top = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 v = pc_load_doubles(x, wide, i, n, 0.0);
    top = vd_max(top, vd_max(v, vd_sub(vd_zero(), v)));
  }
  double tops[LANES], max = 0.0;
  vd_store(tops, top);
  for (int c = 0; c < LANES; c++) max = fmax(max, tops[c]);
  int exponent;
  frexp(max, &exponent);
  const double power = ldexp(1.0, exponent < -FAR ? FAR : exponent > FAR ? -FAR : -exponent);
  return (side){x, power, inverse_length(x, wide, n, power)};
}

PC_INLINE vd16 unit_at(const side *s, int wide, int64_t i, int64_t n) {
  return vd_mul(vd_mul(pc_load_doubles(s->x, wide, i, n, 0.0), vd_set1(s->power)), vd_set1(s->inverse));
}

PC_INLINE void row_apart(const apart_job *j, int wide, int64_t row) {
  const int64_t n = j->n;
  const side student = side_of(pc_element(j->student, wide, row * n), wide, n);
  const side teacher = side_of(pc_element(j->teacher, wide, row * n), wide, n);
  vd16 squares = vd_zero(), along = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 u = unit_at(&student, wide, i, n), d = vd_sub(u, unit_at(&teacher, wide, i, n));
    squares = vd_fma(d, d, squares);
    along = vd_fma(u, d, along);
  }
  j->loss[row] = vd_fold_add(squares);
  if (!j->grad) return;
  const vd16 minus_along = vd_set1(-vd_fold_add(along)), twice = vd_set1(2.0 * j->scale);
  const vd16 inverse = vd_set1(fmin(student.inverse * student.power, DBL_MAX));
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 u = unit_at(&student, wide, i, n), d = vd_sub(u, unit_at(&teacher, wide, i, n));
    const vd16 g = vd_mul(vd_mul(vd_fma(minus_along, u, d), twice), inverse);
    pc_store_doubles(pc_result_row(j->grad, wide, row * n), wide, i, n, g);
  }
}

static void run_apart(int64_t begin, int64_t end, const void *context) {
  const apart_job *j = context;
  for (int64_t row = begin; row < end; row++) {
    if (j->wide) row_apart(j, 1, row);
    else row_apart(j, 0, row);
  }
}

int PC_FN(units_apart_f32)(int64_t m, int64_t n, const float *student, const float *teacher, double *loss) {
  return share(m, n, run_apart, &(apart_job){n, 0, student, teacher, 0.0, loss, NULL});
}

int PC_FN(units_apart_f64)(int64_t m, int64_t n, const double *student, const double *teacher, double *loss) {
  return share(m, n, run_apart, &(apart_job){n, 1, student, teacher, 0.0, loss, NULL});
}

int PC_FN(units_apart_grad_f32)(int64_t m, int64_t n, const float *student, const float *teacher, double scale, double *loss, float *grad) {
  return share(m, n, run_apart, &(apart_job){n, 0, student, teacher, scale, loss, grad});
}

int PC_FN(units_apart_grad_f64)(int64_t m, int64_t n, const double *student, const double *teacher, double scale, double *loss, double *grad) {
  return share(m, n, run_apart, &(apart_job){n, 1, student, teacher, scale, loss, grad});
}
