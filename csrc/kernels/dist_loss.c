/* Distillation of relations (Huang et al., DIST, 2022): with p and q the softmax of teacher/T and student/T, and rho Pearson's
 * correlation,
 *   row_loss_i = 1 - rho(p[i,:], q[i,:]),   class_loss_j = 1 - rho(p[:,j], q[:,j]),
 * and the gradient of row_scale sum of row_loss + class_scale sum of class_loss by the student.
 *
 * 1 - rho is L = |u - v|^2/2, u = (p - mean p)/|p - mean p| and v that of q, which stays exact where they agree. Its slope by q
 * is ((v - u) - L v)/|q - mean q|, linear in p and q: of_q q - of_p p + constant, the same two numbers where p is q. A softmax
 * does not see a constant along the row, so that of a row's own slope is left out. Where the squares of the deviations add up
 * to no more than 2^-900 there is no direction: u or v is 0, and so is the slope.
 *
 * All in double. Sums along rows follow the lane rule, with 1/n for the mean; those along classes go down the rows, the mean
 * by what lies above row 0. Probabilities are made three times, for rows, classes and the gradient: no matrix is stored.
 * Threads share rows, then blocks of classes, then rows. Limit: the double units, 170 operations an element. */
#include "double_rows.h"
#include "table.h"

enum {
  GRAIN = 1 << 11, /* elements that pay for waking a thread */
  ROOM = 1 << 15   /* probabilities of a block of classes, of both sides, and as many as a vector takes: half of L2 */
};
#define LEAST_SPREAD 0x1p-900

#define TOGETHER PC_DOUBLES_TOGETHER
#define STEP (TOGETHER * LANES)

typedef struct { double max, inverse_sum; } side;
typedef struct {
  side s, t;
  double of_q, of_p;
} row;

typedef struct {
  int64_t m, n;
  int wide; /* doubles, not floats */
  const void *student;
  int64_t ldstudent;
  const void *teacher;
  int64_t ldteacher;
  double inverse_t, row_scale, class_scale;
  double *row_loss, *class_loss;
  void *grad; /* NULL: the loss alone */
  int64_t ldgrad;
  row *rows;
  double *of_q, *of_p, *constant; /* of each class; PC_ROOM(n) */
  int64_t block;                    /* classes at a time */
} job;

/* p and q of row i, `count` vectors from column `at` on; 0 from column `end` on. */
PC_INLINE void pairs(const job *j, int64_t i, int64_t at, int64_t end, int count, vd16 *p, vd16 *q) {
  const row *r = j->rows + i;
  const void *s = pc_element(j->student, j->wide, i * j->ldstudent), *t = pc_element(j->teacher, j->wide, i * j->ldteacher);
  vd16 x[TOGETHER], y[TOGETHER];
  PC_OF_EACH(count) {
    x[c] = pc_load_doubles(s, j->wide, at + c * LANES, end, -INFINITY);
    y[c] = pc_load_doubles(t, j->wide, at + c * LANES, end, -INFINITY);
  }
  pc_probabilities(count, NULL, x, r->s.max, j->inverse_t, r->s.inverse_sum, q);
  pc_probabilities(count, NULL, y, r->t.max, j->inverse_t, r->t.inverse_sum, p);
}

/* The same of a whole row, from what was kept of it, or anew: `kept` has room for p, then for q. */
PC_INLINE void pairs_of_row(const job *j, int64_t i, int64_t at, const double *kept, vd16 *p, vd16 *q) {
  if (!kept) {
    pairs(j, i, at, j->n, TOGETHER, p, q);
    return;
  }
  PC_OF_EACH(TOGETHER) {
    p[c] = vd_load(kept + at + c * LANES);
    q[c] = vd_load(kept + PC_ROOM(j->n) + at + c * LANES);
  }
}

/* v less `mean`; 0 past the end of the row. */
PC_INLINE vd16 deviation(vd16 v, double mean, int64_t left) {
  static const double index[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const vd16 off = vd_sub(v, vd_set1(mean));
  return left >= LANES ? off : vd_select_lt(vd_load(index), vd_set1((double)left), off, vd_zero());
}

PC_INLINE double inverse_spread(double squares) { return squares <= LEAST_SPREAD ? 0.0 : 1.0 / sqrt(squares); }

/* The slope of scale L by q, from 1/|p - mean p| and 1/|q - mean q|. */
PC_INLINE void slope(double scale, double loss, double inverse_p, double inverse_q, double *of_q, double *of_p) {
  const double step = inverse_p == 0.0 ? 0.0 : scale * inverse_q;
  *of_q = step * ((1.0 - loss) * inverse_q);
  *of_p = step * inverse_p;
}

static side side_of(const job *j, const void *x, double *kept) {
  const double max = pc_max_of_doubles(x, j->wide, j->n);
  if (!(max > -INFINITY)) return (side){max, NAN};
  return (side){max, 1.0 / pc_sum_doubles(x, j->wide, j->n, PC_NO_HOLE, max, j->inverse_t, kept)};
}

/* kept: room for p and for q, or NULL. */
static void relate_row(const job *j, int64_t i, double *kept) {
  row *r = j->rows + i;
  const double mean = 1.0 / (double)j->n;
  r->s = side_of(j, pc_element(j->student, j->wide, i * j->ldstudent), kept ? kept + PC_ROOM(j->n) : NULL);
  r->t = side_of(j, pc_element(j->teacher, j->wide, i * j->ldteacher), kept);
  vd16 squares_p = vd_zero(), squares_q = vd_zero(), apart = vd_zero(), p[TOGETHER], q[TOGETHER];
  for (int64_t at = 0; at < j->n; at += STEP) {
    pairs_of_row(j, i, at, kept, p, q);
    PC_OF_EACH(TOGETHER) {
      if (kept) { /* the terms become probabilities */
        p[c] = vd_mul(p[c], vd_set1(r->t.inverse_sum));
        q[c] = vd_mul(q[c], vd_set1(r->s.inverse_sum));
        vd_store(kept + at + c * LANES, p[c]);
        vd_store(kept + PC_ROOM(j->n) + at + c * LANES, q[c]);
      }
      const vd16 a = deviation(p[c], mean, j->n - at - c * LANES), b = deviation(q[c], mean, j->n - at - c * LANES);
      squares_p = vd_fma(a, a, squares_p);
      squares_q = vd_fma(b, b, squares_q);
    }
  }
  const double inverse_p = inverse_spread(vd_fold_add(squares_p)), inverse_q = inverse_spread(vd_fold_add(squares_q));
  for (int64_t at = 0; at < j->n; at += STEP) {
    pairs_of_row(j, i, at, kept, p, q);
    PC_OF_EACH(TOGETHER) {
      const vd16 u = vd_mul(deviation(p[c], mean, j->n - at - c * LANES), vd_set1(inverse_p));
      const vd16 v = vd_mul(deviation(q[c], mean, j->n - at - c * LANES), vd_set1(inverse_q)), w = vd_sub(u, v);
      apart = vd_fma(w, w, apart);
    }
  }
  const double loss = 0.5 * vd_fold_add(apart);
  j->row_loss[i] = loss;
  slope(j->row_scale, loss, inverse_p, inverse_q, &r->of_q, &r->of_p);
}

/* The 16 classes from `at` on. kept: their p from row 0 on, q `apart` behind, rows `width` apart; or NULL. */
static void relate_classes(const job *j, int64_t at, const double *kept, int64_t width, int64_t apart) {
#define PAIR(i, p, q) (kept ? (void)(p = vd_load(kept + (i) * width), q = vd_load(kept + apart + (i) * width)) \
                            : pairs(j, i, at, j->n, 1, &p, &q))
  vd16 p, q, base_p, base_q, sum_p = vd_zero(), sum_q = vd_zero();
  PAIR(0, base_p, base_q);
  for (int64_t i = 0; i < j->m; i++) {
    PAIR(i, p, q);
    sum_p = vd_add(sum_p, vd_sub(p, base_p));
    sum_q = vd_add(sum_q, vd_sub(q, base_q));
  }
  double above_p[LANES], above_q[LANES], lanes_p[LANES], lanes_q[LANES], inverse_p[LANES], inverse_q[LANES], loss[LANES];
  vd_store(above_p, sum_p);
  vd_store(above_q, sum_q);
  for (int l = 0; l < LANES; l++) {
    above_p[l] /= (double)j->m;
    above_q[l] /= (double)j->m;
  }
  const vd16 mean_p = vd_load(above_p), mean_q = vd_load(above_q);
  vd16 squares_p = vd_zero(), squares_q = vd_zero();
  for (int64_t i = 0; i < j->m; i++) {
    PAIR(i, p, q);
    const vd16 a = vd_sub(vd_sub(p, base_p), mean_p), b = vd_sub(vd_sub(q, base_q), mean_q);
    squares_p = vd_fma(a, a, squares_p);
    squares_q = vd_fma(b, b, squares_q);
  }
  vd_store(lanes_p, squares_p);
  vd_store(lanes_q, squares_q);
  for (int l = 0; l < LANES; l++) {
    inverse_p[l] = inverse_spread(lanes_p[l]);
    inverse_q[l] = inverse_spread(lanes_q[l]);
  }
  const vd16 by_p = vd_load(inverse_p), by_q = vd_load(inverse_q);
  vd16 distance = vd_zero();
  for (int64_t i = 0; i < j->m; i++) {
    PAIR(i, p, q);
    const vd16 u = vd_mul(vd_sub(vd_sub(p, base_p), mean_p), by_p), v = vd_mul(vd_sub(vd_sub(q, base_q), mean_q), by_q);
    const vd16 w = vd_sub(u, v);
    distance = vd_fma(w, w, distance);
  }
#undef PAIR
  vd_store(loss, distance);
  vd_store(lanes_p, vd_add(base_p, mean_p));
  vd_store(lanes_q, vd_add(base_q, mean_q));
  for (int l = 0; l < LANES && at + l < j->n; l++) {
    j->class_loss[at + l] = loss[l] = 0.5 * loss[l];
    if (!j->grad) continue;
    slope(j->class_scale, loss[l], inverse_p[l], inverse_q[l], j->of_q + at + l, j->of_p + at + l);
    j->constant[at + l] = j->of_p[at + l] * lanes_p[l] - j->of_q[at + l] * lanes_q[l];
  }
}

static void gradient_of_row(const job *j, int64_t i, double *kept) {
  const row *r = j->rows + i;
  const vd16 of_q = vd_set1(r->of_q), of_p = vd_set1(r->of_p);
  void *grad = pc_result_row(j->grad, j->wide, i * j->ldgrad);
  vd16 sum = vd_zero();
  double along = 0.0;
  for (int second = 0; second < 2; second++) {
    for (int64_t at = 0; at < j->n; at += STEP) {
      vd16 p[TOGETHER], q[TOGETHER], g[TOGETHER];
      if (second && kept) { /* g stands where p stood */
        pairs_of_row(j, i, at, kept, g, q);
      } else {
        pairs(j, i, at, j->n, TOGETHER, p, q);
        PC_OF_EACH(TOGETHER) {
          const vd16 by_q = vd_mul(q[c], vd_add(of_q, vd_load(j->of_q + at + c * LANES)));
          const vd16 by_p = vd_mul(p[c], vd_add(of_p, vd_load(j->of_p + at + c * LANES)));
          g[c] = vd_add(vd_sub(by_q, by_p), vd_load(j->constant + at + c * LANES));
        }
      }
      PC_OF_EACH(TOGETHER) {
        if (second) {
          const vd16 step = vd_mul(vd_sub(g[c], vd_set1(along)), vd_mul(q[c], vd_set1(j->inverse_t)));
          pc_store_doubles(grad, j->wide, at + c * LANES, j->n, step);
          continue;
        }
        sum = vd_fma(q[c], g[c], sum);
        if (kept) {
          vd_store(kept + at + c * LANES, g[c]);
          vd_store(kept + PC_ROOM(j->n) + at + c * LANES, q[c]);
        }
      }
    }
    along = vd_fold_add(sum);
  }
}

/* Room for a row's p and q, or NULL: then they are made anew in every pass. */
static double *room_for_row(const job *j, void **found) {
  *found = NULL;
  return j->n <= PC_KEPT ? pc_heap((size_t)(2 * PC_ROOM(j->n)) * sizeof(double), found) : NULL;
}

static void relate_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  void *found;
  double *kept = room_for_row(j, &found);
  for (int64_t i = begin; i < end; i++) relate_row(j, i, kept);
  free(found);
}

static void relate_blocks(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t apart = j->m * j->block;
  void *found = NULL;
  double *kept = apart <= PC_KEPT ? pc_heap((size_t)(2 * apart) * sizeof *kept, &found) : NULL;
  for (int64_t first = begin * j->block; first < end * j->block && first < j->n; first += j->block) {
    const int64_t last = smaller(first + j->block, j->n);
    for (int64_t i = 0; kept && i < j->m; i++)
      for (int64_t at = first; at < last; at += STEP) {
        vd16 p[TOGETHER], q[TOGETHER];
        pairs(j, i, at, last, TOGETHER, p, q);
        PC_OF_EACH(TOGETHER) {
          vd_store(kept + i * j->block + (at - first) + c * LANES, p[c]);
          vd_store(kept + apart + i * j->block + (at - first) + c * LANES, q[c]);
        }
      }
    for (int64_t at = first; at < last; at += LANES)
      relate_classes(j, at, kept ? kept + (at - first) : NULL, j->block, apart);
  }
  free(found);
}

static void gradient_of_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  void *found;
  double *kept = room_for_row(j, &found);
  for (int64_t i = begin; i < end; i++) gradient_of_row(j, i, kept);
  free(found);
}

static int losses(double temperature, job j) {
  if (j.m < 0 || j.n < 0 || j.ldstudent < j.n || j.ldteacher < j.n || j.ldgrad < j.n) return PC_EINVAL;
  if (!pc_are_temperatures(1, &temperature)) return PC_EINVAL;
  j.inverse_t = pc_inverse_of(temperature);
  for (int64_t i = 0; i < j.m && j.n == 0; i++) j.row_loss[i] = 0.0;
  for (int64_t i = 0; i < j.n && j.m == 0; i++) j.class_loss[i] = 0.0;
  if (j.m == 0 || j.n == 0) return PC_OK;
  const int64_t room = PC_ROOM(j.n), most = ROOM / 2 / j.m / STEP * STEP;
  j.block = most < STEP ? STEP : smaller(most, room);
  const int64_t classes = j.grad ? room : 0;
  void *found;
  j.of_q = pc_heap((size_t)(3 * classes) * sizeof *j.of_q + (size_t)j.m * sizeof *j.rows, &found);
  if (!j.of_q) return PC_ENOMEM;
  j.of_p = j.of_q + classes;
  j.constant = j.of_p + classes;
  j.rows = (row *)(j.constant + classes);
  for (int64_t c = j.n; c < classes; c++) j.of_q[c] = j.of_p[c] = j.constant[c] = 0.0; /* past the last class */
  pc_for(j.m, 1 + GRAIN / (j.n + 1), relate_rows, &j);
  pc_for((j.n - 1) / j.block + 1, 1 + GRAIN / (j.m * j.block), relate_blocks, &j);
  if (j.grad) pc_for(j.m, 1 + GRAIN / (j.n + 1), gradient_of_rows, &j);
  free(found);
  return PC_OK;
}

#define ENTRIES(name, with_grad, type, is_wide)                                                                      \
  int PC_FN(name)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,                 \
                  int64_t ldteacher, double temperature, double *row_loss, double *class_loss) {                     \
    const job j = {.m = m, .n = n, .wide = is_wide, .student = student, .ldstudent = ldstudent, .teacher = teacher,  \
                   .ldteacher = ldteacher, .row_loss = row_loss, .class_loss = class_loss, .ldgrad = n};             \
    return losses(temperature, j);                                                                                   \
  }                                                                                                                  \
  int PC_FN(with_grad)(int64_t m, int64_t n, const type *student, int64_t ldstudent, const type *teacher,            \
                       int64_t ldteacher, double temperature, double row_scale, double class_scale,                  \
                       double *row_loss, double *class_loss, type *grad, int64_t ldgrad) {                           \
    const job j = {.m = m, .n = n, .wide = is_wide, .student = student, .ldstudent = ldstudent, .teacher = teacher,  \
                   .ldteacher = ldteacher, .row_scale = row_scale, .class_scale = class_scale, .row_loss = row_loss, \
                   .class_loss = class_loss, .grad = grad, .ldgrad = ldgrad};                                        \
    return losses(temperature, j);                                                                                   \
  }
ENTRIES(dist_loss_f32, dist_loss_grad_f32, float, 0)
ENTRIES(dist_loss_f64, dist_loss_grad_f64, double, 1)
