/* Rows of floats or of doubles (`wide`), read and written as doubles: their maximum and the sum of their terms. */
#ifndef PC_DOUBLE_ROWS_H
#define PC_DOUBLE_ROWS_H

#include <float.h>
#include <string.h>

#include "double.h"
#include "heap.h"
#include "softmax.h"
#include "table.h"

static inline const void *pc_element(const void *rows, int wide, int64_t i) {
  return wide ? (const void *)((const double *)rows + i) : (const void *)((const float *)rows + i);
}

/* Where results are written, or NULL if they are not wanted. */
static inline void *pc_result_row(void *rows, int wide, int64_t i) {
  if (!rows) return NULL;
  return wide ? (void *)((double *)rows + i) : (void *)((float *)rows + i);
}

static inline int pc_are_temperatures(int64_t m, const double *t) {
  for (int64_t i = 0; i < m; i++)
    if (!pc_is_temperature(t[i])) return 0;
  return 1;
}

/* Sixteen elements; past the end of the row, which may be before them, `rest`. */
PC_INLINE vd16 pc_load_doubles(const void *x, int wide, int64_t i, int64_t n, double rest) {
  const int64_t left = n - i;
  if (left >= LANES) return wide ? vd_load((const double *)x + i) : vd_from_vf(vf_load((const float *)x + i));
  if (left <= 0) return vd_set1(rest);
  if (!wide) return vd_from_vf(vf_select(vm_first(left), vf_load_n((const float *)x + i, left), vf_set1((float)rest)));
  double lanes[LANES];
  vd_store(lanes, vd_set1(rest));
  memcpy(lanes, (const double *)x + i, (size_t)left * sizeof *lanes);
  return vd_load(lanes);
}

/* The same, with -inf for the element at `hole`, if there is one. */
#define PC_NO_HOLE (-1)
PC_INLINE vd16 pc_load_logits(const void *x, int wide, int64_t i, int64_t n, int64_t hole) {
  const vd16 v = pc_load_doubles(x, wide, i, n, -INFINITY);
  if (hole < i || hole >= i + LANES) return v;
  double lanes[LANES];
  vd_store(lanes, v);
  lanes[hole - i] = -INFINITY;
  return vd_load(lanes);
}

static inline double pc_double_at(const void *x, int wide, int64_t i) {
  return wide ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static inline void pc_set_double_at(void *y, int wide, int64_t i, double value) {
  if (wide) ((double *)y)[i] = value;
  else ((float *)y)[i] = (float)value;
}

PC_INLINE void pc_store_doubles(void *y, int wide, int64_t i, int64_t n, vd16 v) {
  if (!wide) {
    vf_store_left((float *)y + i, n - i, vf_from_vd(v));
  } else if (n - i >= LANES) {
    vd_store((double *)y + i, v);
  } else if (n - i > 0) {
    double lanes[LANES];
    vd_store(lanes, v);
    memcpy((double *)y + i, lanes, (size_t)(n - i) * sizeof *lanes);
  }
}

static inline void pc_fill_doubles(void *y, int wide, int64_t n, double value) {
  for (int64_t i = 0; i < n; i += LANES) pc_store_doubles(y, wide, i, n, vd_set1(value));
}

/* The largest element; NaN if one is NaN or +inf. */
static inline double pc_max_of_doubles(const void *x, int wide, int64_t n) {
  if (!wide) {
    const float max = pc_row_max(x, n);
    return max < INFINITY ? max : NAN;
  }
  const vd16 infinity = vd_set1(INFINITY);
  vd16 top = vd_set1(-INFINITY), odd = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vd16 v = pc_load_doubles(x, wide, i, n, -INFINITY);
    top = vd_max(v, top);
    odd = vd_select_lt(v, infinity, odd, v);
  }
  double tops[LANES], odds[LANES], max = -INFINITY;
  vd_store(tops, top);
  vd_store(odds, odd);
  for (int j = 0; j < LANES; j++) {
    if (odds[j] != 0.0) return NAN;
    if (tops[j] > max) max = tops[j];
  }
  return max;
}

/* 1/T, finite */
static inline double pc_inverse_of(double temperature) { return fmin(1.0 / temperature, DBL_MAX / 2.0); }

/* exp((x - max)/T) */
PC_INLINE void pc_terms_of_doubles(int count, const vd16 *x, double max, double inverse_t, vd16 *e) {
  PC_OF_EACH(count) e[c] = vd_sub(x[c], vd_set1(max));
  vd_exp2_each(count, e, vd_set1(inverse_t * PC_LOG2E_DOUBLE), e);
}

/* Probabilities: from the terms that were kept, or else made anew, and their sum. */
PC_INLINE void pc_probabilities(int count, const double *kept, const vd16 *x, double max, double inverse_t, double inverse_sum, vd16 *p) {
  if (kept) {
    PC_OF_EACH(count) p[c] = vd_load(kept + c * LANES);
  } else {
    pc_terms_of_doubles(count, x, max, inverse_t, p);
  }
  PC_OF_EACH(count) p[c] = vd_mul(p[c], vd_set1(inverse_sum));
}

/* The longest row whose terms are kept, 2 MB of doubles; of others they are made anew, which gives the same bits. */
#define PC_KEPT (1 << 18)

/* The sum of a row's terms by the lane rule, that of the element at `hole` 0; the terms themselves go to `kept`, if given:
 * PC_ROOM(n) of them. */
#define PC_ROOM(n) (((n) + 2 * LANES - 1) / (2 * LANES) * (2 * LANES))
static inline double pc_sum_doubles(const void *x, int wide, int64_t n, int64_t hole, double max, double inverse_t, double *kept) {
  vd16 sum = vd_zero();
  for (int64_t i = 0; i < n; i += PC_DOUBLES_TOGETHER * LANES) {
    vd16 e[PC_DOUBLES_TOGETHER];
    PC_OF_EACH(PC_DOUBLES_TOGETHER) e[c] = pc_load_logits(x, wide, i + c * LANES, n, hole);
    pc_terms_of_doubles(PC_DOUBLES_TOGETHER, e, max, inverse_t, e);
    PC_OF_EACH(PC_DOUBLES_TOGETHER) {
      if (kept) vd_store(kept + i + c * LANES, e[c]);
      sum = vd_add(sum, e[c]);
    }
  }
  return vd_fold_add(sum);
}

/* What losses of rows have in common. */
typedef struct {
  int64_t m, n;
  int wide; /* doubles, not floats */
  const void *student;
  int64_t ldstudent;
  const double *temperature, *scale;
  double *loss;
  void *grad; /* NULL: the loss alone */
  int64_t ldgrad;
} pc_rows;

/* The same from the parameters that entries name alike. */
#define PC_ROWS(is_wide)                                                                                                    \
  {.m = m, .n = n, .wide = is_wide, .student = student, .ldstudent = ldstudent, .temperature = temperature, .scale = scale, \
   .loss = loss, .grad = grad, .ldgrad = ldgrad}

static inline const void *pc_student_row(const pc_rows *r, int64_t i) { return pc_element(r->student, r->wide, i * r->ldstudent); }
static inline void *pc_grad_row(const pc_rows *r, int64_t i) { return pc_result_row(r->grad, r->wide, i * r->ldgrad); }

/* The loss of row i of a job, with room for terms or NULL. */
typedef double pc_loss_of_row(const void *job, int64_t i, double *kept);

typedef struct {
  const pc_rows *rows;
  int rooms; /* for a row's terms, PC_ROOM(n) doubles each */
  pc_loss_of_row *row;
  const void *job;
} pc_losses;

static inline void pc_run_losses(int64_t begin, int64_t end, const void *context) {
  const pc_losses *l = context;
  const int64_t n = l->rows->n;
  void *found = NULL;
  double *kept = n <= PC_KEPT ? pc_heap((size_t)(l->rooms * PC_ROOM(n)) * sizeof *kept, &found) : NULL;
  for (int64_t i = begin; i < end; i++) l->rows->loss[i] = l->row(l->job, i, kept);
  free(found);
}

/* The losses of all rows of a job, which threads share. What the job has beside them has been checked. */
static inline int pc_losses_of_rows(const pc_rows *r, int rooms, pc_loss_of_row *row, const void *job) {
  enum { GRAIN = 1 << 11 }; /* elements that pay for waking a thread */
  const pc_losses losses = {r, rooms, row, job};
  if (r->m < 0 || r->n < 0 || r->ldstudent < r->n || r->ldgrad < r->n) return PC_EINVAL;
  if (!pc_are_temperatures(r->m, r->temperature)) return PC_EINVAL;
  pc_for(r->m, 1 + GRAIN / (r->n + 1), pc_run_losses, &losses);
  return PC_OK;
}
#endif
