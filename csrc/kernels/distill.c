/* Distillation loss of each row and its gradient by the student's logits s; t the teacher's (Hinton et al. 2015):
 *   loss = soft KL(p || q) + hard (log sum_i exp s_i - sum_i y_i s_i),   p = softmax(t/T), q = softmax(s/T)
 *   grad = scale (soft/T (q - p) + hard (softmax(s) - y)),   y_i = smoothing/n, and 1 - smoothing more for the label
 *
 * KL keeps its meaning where the two agree. With d_i = log p_i - log q_i = ((t_i - max t) - (s_i - max s))/T - c, c the
 * logarithm of the ratio of the sums, and because sum p_i expm1(-d_i) = sum q_i - sum p_i = 0,
 *   KL = sum p_i d_i = sum p_i (d_i + expm1(-d_i)):
 * every term is at least 0 and of second order in d, so only relative errors remain. d is taken in two floats from the
 * raw logits. p_i expm1(-d_i) is q_i - p_i, or for |d_i| < 1/2 a polynomial. An error eta of c adds expm1(eta) - eta to
 * the sum; but then b = sum p_i expm1(-d_i), the sum less sum p_i d_i, is expm1(eta), so b - log1p(b) is taken away.
 * Where p_i = 0 the term is q_i, which the same identity asks for; where both are 0 it is 0.
 *
 * Sums: the lane rule. The terms of p and q, by pairs, in float64 lanes; those of KL and of p_i d_i in float32 lanes that
 * are added to float64 lanes every 1024 elements. Threads share rows. Limit: the float units, about 75 operations an
 * element. */
#include <stdlib.h>

#include "softmax_columns.h"
#include "table.h"

enum {
  GRAIN = 1 << 12, /* elements that pay for waking a thread */
  BLOCK = 1024,    /* elements of a float32 chain */
  KEPT = 1 << 18,  /* terms of the teacher that are kept, 1 MB a thread; of longer rows they are made twice */
  TURNED = PC_WIDE > 2 ? 208 : 104, /* elements of rows that are turned into columns, */
  FEW = PC_WIDE > 2 ? 3 : 6         /* and rows that are not worth it, of a few elements each */
};

typedef struct {
  int64_t n;
  const float *student;
  int64_t ldstudent;
  const float *teacher;
  int64_t ldteacher;
  const int64_t *labels;
  double temperature, soft, hard, smoothing;
  const double *scale; /* of each row's gradient */
  double *loss;
  float *grad; /* NULL: the loss alone */
  int64_t ldgrad;
} job;

/* e^-d - 1 + d over d^2 for |d| < 1/2, within 13 u relative */
PC_INLINE vf16 second_order(vf16 d) {
  vf16 g = vf_set1(0x1.6cd0d0p-10f);
  g = vf_fma(g, d, vf_set1(-0x1.13182ep-7f));
  g = vf_fma(g, d, vf_set1(0x1.5556d6p-5f));
  g = vf_fma(g, d, vf_set1(-0x1.555354p-3f));
  return vf_fma(g, d, vf_set1(0x1.fffffep-2f));
}

/* d = (t - s - apart)/T. Near the optimum t - s and `apart` cancel, so both are kept in two floats: the first by Knuth's
 * exact sum. As in the terms, a base that is far off zero is taken away first. Quarters, so that nothing overflows. */
typedef struct { vf16 base_t, base_s, high, low, factor; } gap;

PC_INLINE gap gap_of(vd16 apart, vf16 base_t, vf16 base_s, double temperature) {
  const vd16 most = vd_set1(FLT_MAX), least = vd_set1(-FLT_MAX), quarter = vd_mul(apart, vd_set1(0.25));
  const vd16 c = vd_select_lt(most, quarter, most, vd_select_lt(quarter, least, least, quarter));
  const vf16 high = vf_from_vd(c), minus_quarter = vf_set1(-0.25f);
  return (gap){vf_mul(minus_quarter, base_t), vf_mul(minus_quarter, base_s), high, vf_from_vd(vd_sub(c, vd_from_vf(high))),
               vf_set1((float)fmin(4.0 / temperature, FLT_MAX))};
}

PC_INLINE vf16 gap_between(vf16 t, vf16 s, const gap *g) {
  t = vf_fma(t, vf_set1(0.25f), g->base_t);
  s = vf_fma(s, vf_set1(0.25f), g->base_s);
  const vf16 high = vf_sub(t, s), of_s = vf_sub(t, high), of_t = vf_add(high, of_s);
  const vf16 low = vf_sub(vf_sub(t, of_t), vf_sub(s, of_s));
  const vf16 rest = vf_max(vf_sub(low, g->low), vf_set1(-FLT_MAX)); /* NaN where t - s is infinite */
  return vf_mul(vf_add(vf_sub(high, g->high), rest), g->factor);
}

/* Two rows, whose terms are known up to their sums; or sixteen of them, turned into columns. */
typedef struct {
  const float *s, *t, *kept_s, *kept_t; /* kept: the terms, or NULL */
  float *grad;                          /* NULL, or where step (q - p) goes */
  pc_terms student, teacher;
  vf16 rs, rt, step;
  gap gap;
} rows;

typedef struct { vf16 kl, pd; } sums;

/* The part of KL and of sum p d that the next lanes have. */
PC_INLINE sums diverge(const rows *r, int64_t i, int64_t left, sums to) {
  const vf16 s = pc_load_row(r->s + i, left), t = pc_load_row(r->t + i, left);
  const vf16 q = vf_mul(r->kept_s ? vf_load_left(r->kept_s + i, left) : pc_term(s, &r->student), r->rs);
  const vf16 p = vf_mul(r->kept_t ? vf_load_left(r->kept_t + i, left) : pc_term(t, &r->teacher), r->rt);
  const vf16 d = gap_between(t, s, &r->gap), excess = vf_sub(q, p), dd = vf_mul(d, d), bend = vf_mul(dd, second_order(d));
  const vm16 near = vf_lt(dd, vf_set1(0.25f));
  const vf16 pd = vf_select(vf_eq(p, vf_zero()), p, vf_mul(p, d));
  if (r->grad) pc_store_row(r->grad + i, left, vf_mul(r->step, excess));
  return (sums){vf_add(to.kl, vf_select(near, vf_mul(p, bend), vf_add(pd, excess))), vf_add(to.pd, pd)};
}

/* KL, from the sum of its terms and that of p d. */
static double closed(double sum, double pd) {
  const double b = sum - pd, total = sum - b * b * (0.5 - b * (1.0 / 3.0));
  return sum == INFINITY ? sum : total < 0.0 ? 0.0 : total; /* NaN stays */
}

/* next: NULL, or a row whose maximum is found meanwhile. */
static double divergence(int64_t n, const rows *of, const float *next, float *next_max) {
  const rows r = *of;
  vd16 kl = vd_zero(), pd = vd_zero();
  vf16 top = vf_set1(-INFINITY);
  for (int64_t block = 0; block < n; block += BLOCK) {
    const int64_t end = n - block < BLOCK ? n : block + BLOCK;
    sums lanes = {vf_zero(), vf_zero()};
    int64_t i = block;
    for (; i + LANES <= end; i += LANES) {
      if (next) {
        pc_ask_line(next + i);
        top = vf_max(vf_load(next + i), top);
      }
      lanes = diverge(&r, i, LANES, lanes);
    }
    if (i < end) {
      if (next) top = vf_max(pc_load_row(next + i, end - i), top);
      lanes = diverge(&r, i, end - i, lanes);
    }
    kl = vd_add_vf(kl, lanes.kl);
    pd = vd_add_vf(pd, lanes.pd);
  }
  if (next) *next_max = pc_max_found(top, n, next);
  return closed(vd_fold_add(kl), vd_fold_add(pd));
}

/* The sum of max - s: what smoothed labels see of the others. */
static double below_max(int64_t n, const float *s, float max) {
  vd16 sum = vd_zero();
  for (int64_t i = 0; i < n; i += LANES) {
    const vf16 top = vf_set1(max), v = n - i >= LANES ? vf_load(s + i) : vf_select(vm_first(n - i), vf_load_n(s + i, n - i), top);
    sum = vd_add(sum, vd_sub(vd_from_vf(top), vd_from_vf(v)));
  }
  return vd_fold_add(sum);
}

static double own(const job *j) { return 1.0 - j->smoothing; }
static double even(const job *j) { return j->smoothing / (double)j->n; }

/* The cross entropy, from the logarithm of the sum of exp(s - max) and from what is below max; the label's part of the gradient. */
static double at_label(const job *j, const float *s, float max, int64_t label, double scale, float *grad, double log_sum, double below) {
  if (grad) grad[label] -= (float)(scale * j->hard * own(j));
  const double of_label = own(j) > 0.0 ? own(j) * ((double)max - (double)s[label]) : 0.0;
  return log_sum + of_label + (even(j) > 0.0 ? even(j) * below : 0.0);
}

/* scale hard (softmax(s) - y) added to grad, if given; returns log sum exp s - sum y s, as what is below the maximum. */
static double cross_entropy(const job *j, const float *s, float max, int64_t label, double scale, float *grad) {
  const pc_terms terms = pc_terms_of(max, 1.0);
  const double sum = pc_sum_terms(j->n, s, &terms, (pc_beside){0});
  if (grad) {
    const double step = scale * j->hard;
    const vf16 r = vf_set1((float)(step / sum)), share = vf_set1((float)(step * even(j)));
    for (int64_t i = 0; i < j->n; i += LANES) {
      const vf16 e = pc_term(pc_load_row(s + i, j->n - i), &terms);
      pc_store_row(grad + i, j->n - i, vf_fma(e, r, vf_sub(pc_load_row(grad + i, j->n - i), share)));
    }
  }
  return at_label(j, s, max, label, scale, grad, pc_log_sum(sum, &terms), even(j) > 0.0 ? below_max(j->n, s, max) : 0.0);
}

typedef struct { float s, t; } maxima; /* of a row on either side */

static maxima maxima_of(const job *j, int64_t row) {
  return (maxima){pc_row_max(j->student + row * j->ldstudent, j->n), pc_row_max(j->teacher + row * j->ldteacher, j->n)};
}

static int are_finite(maxima of) { return pc_classify_row(of.s) == PC_ROW_FINITE && pc_classify_row(of.t) == PC_ROW_FINITE; }

static double not_a_number(const job *j, float *grad) {
  if (grad) pc_fill_row(grad, j->n, NAN);
  return NAN;
}

static double soft_part(const job *j, double kl) { return j->soft == 0.0 && kl == INFINITY ? 0.0 : j->soft * kl; }

/* kept: room for a row's terms, or NULL. max: of the row, where NaN may have been passed over; then, if `ahead`, of the next. */
static double loss_of_row(const job *j, int64_t row, int ahead, float *kept, float *grad, maxima *max) {
  const float *s = j->student + row * j->ldstudent, *t = j->teacher + row * j->ldteacher;
  const maxima own = are_finite(*max) ? *max : maxima_of(j, row);
  const float max_s = own.s, max_t = own.t;
  const pc_row_kind kind_s = pc_classify_row(max_s), kind_t = pc_classify_row(max_t);
  const double scale = grad ? j->scale[row] : 0.0;
  if (ahead && !are_finite(own)) *max = maxima_of(j, row + 1);
  if (kind_s == PC_ROW_NAN || kind_t == PC_ROW_NAN) return not_a_number(j, grad);
  double loss = 0.0;
  if (kind_s == PC_ROW_EMPTY || kind_t == PC_ROW_EMPTY) {
    if (grad) pc_fill_row(grad, j->n, 0.0f);
  } else {
    rows r = {.s = s, .t = t, .kept_s = grad, .kept_t = kept, .grad = grad,
              .student = pc_terms_of(max_s, j->temperature), .teacher = pc_terms_of(max_t, j->temperature)};
    const double sum_s = pc_sum_terms(j->n, s, &r.student, (pc_beside){.kept = grad, .far = j->n < PC_LONG});
    const pc_beside beside = {.kept = kept, .next = ahead ? s + j->ldstudent : NULL, .next_max = &max->s, .far = j->n < PC_LONG};
    const double sum_t = pc_sum_terms(j->n, t, &r.teacher, beside);
    if (isnan(sum_s) || isnan(sum_t)) {
      if (ahead) *max = maxima_of(j, row + 1);
      return not_a_number(j, grad);
    }
    const double shift = (r.teacher.rest - r.student.rest) - pc_log(sum_t / sum_s);
    r.rs = vf_set1((float)(1.0 / sum_s));
    r.rt = vf_set1((float)(1.0 / sum_t));
    r.step = vf_set1((float)(scale * j->soft / j->temperature));
    const double top_s = (double)max_s - r.student.base, top_t = (double)max_t - r.teacher.base;
    const double apart = top_t - top_s - shift * j->temperature;
    r.gap = gap_of(vd_set1(apart), vf_set1(r.teacher.base), vf_set1(r.student.base), j->temperature);
    const double kl = divergence(j->n, &r, ahead ? t + j->ldteacher : NULL, &max->t);
    loss = soft_part(j, kl);
  }
  if (j->labels && j->hard != 0.0 && kind_s == PC_ROW_FINITE)
    loss += j->hard * cross_entropy(j, s, max_s, j->labels[row], scale, grad);
  return loss;
}

static void whole_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  float *kept = j->n <= KEPT ? malloc((size_t)j->n * sizeof *kept) : NULL; /* without it they are made twice */
  maxima max = {0};
  if (begin < end) max = maxima_of(j, begin);
  for (int64_t i = begin; i < end; i++)
    j->loss[i] = loss_of_row(j, i, i + 1 < end, kept, j->grad ? j->grad + i * j->ldgrad : NULL, &max);
  free(kept);
}

/* A side of rows that were turned: its terms and what they are made from. */
typedef struct {
  float *x, *terms;
  pc_heads heads;
  vd16 sums[PC_WIDE];
} turned_side;

static pc_part turned(const float *x) { return (pc_part){x, PC_WIDE * LANES, PC_WIDE * LANES}; }

PC_INLINE void turn_side(int vectors, const job *j, int64_t rows, const float *x, int64_t ldx, turned_side *to) {
  const pc_columns columns = {PC_SOFTMAX, j->n, j->temperature};
  const pc_part all = turned(to->x);
  for (int v = 0; v < vectors; v++) pc_turn_in(rows - v * LANES, j->n, x + v * LANES * ldx, ldx, to->x + v * LANES);
  pc_find_heads(vectors, &columns, &all, NULL, &to->heads);
  if (to->heads.moved) pc_sum_columns(vectors, 1, &columns, &all, &to->heads, to->terms, to->sums);
  else pc_sum_columns(vectors, 0, &columns, &all, &to->heads, to->terms, to->sums);
}

/* The row's chains, of sixteen rows: of vector v. step: of each. */
static rows rows_of(const job *j, const turned_side *s, turned_side *t, int v, const float *step) {
  const vd16 one = vd_set1(1.0), ratio = vd_div(t->sums[v], s->sums[v]);
  const vd16 shift = vd_sub(vd_sub(t->heads.rest[v], s->heads.rest[v]), pc_log_lanes(ratio));
  const vd16 top_s = vd_sub(vd_from_vf(s->heads.max[v]), vd_from_vf(s->heads.base[v]));
  const vd16 top_t = vd_sub(vd_from_vf(t->heads.max[v]), vd_from_vf(t->heads.base[v]));
  const vd16 apart = vd_sub(vd_sub(top_t, top_s), vd_mul(shift, vd_set1(j->temperature)));
  return (rows){.s = s->x + v * LANES, .t = t->x + v * LANES, .kept_s = s->terms + v * LANES, .kept_t = t->terms + v * LANES,
                .grad = j->grad ? t->terms + v * LANES : NULL, .rs = vf_from_vd(vd_div(one, s->sums[v])),
                .rt = vf_from_vd(vd_div(one, t->sums[v])), .step = vf_load(step + v * LANES),
                .gap = gap_of(apart, t->heads.base[v], s->heads.base[v], j->temperature)};
}

/* The sums of the lanes of each column, in the order of a row's. */
PC_INLINE vd16 folded(vd16 *lanes) {
  for (int half = LANES / 2; half; half /= 2)
    for (int l = 0; l < half; l++) lanes[l] = vd_add(lanes[l], lanes[l + half]);
  return lanes[0];
}

/* KL of each row, and its gradient to where the teacher's terms were. */
PC_INLINE void diverge_turned(int vectors, const job *j, const turned_side *s, turned_side *t, const float *step, double *kl) {
  rows r[PC_WIDE];
  sums lanes[LANES][PC_WIDE];
  for (int v = 0; v < vectors; v++) r[v] = rows_of(j, s, t, v, step);
  for (int l = 0; l < LANES; l++)
    for (int v = 0; v < vectors; v++) lanes[l][v] = (sums){vf_zero(), vf_zero()};
  for (int64_t l = 0; l < j->n; l++)
    for (int v = 0; v < vectors; v++)
      lanes[l % LANES][v] = diverge(&r[v], l * PC_WIDE * LANES, LANES, lanes[l % LANES][v]);
  for (int v = 0; v < vectors; v++) {
    vd16 of_kl[LANES], of_pd[LANES];
    double pd[LANES];
    for (int l = 0; l < LANES; l++) of_kl[l] = vd_from_vf(lanes[l][v].kl), of_pd[l] = vd_from_vf(lanes[l][v].pd);
    vd_store(kl + v * LANES, folded(of_kl));
    vd_store(pd, folded(of_pd));
    for (int i = 0; i < LANES; i++) kl[v * LANES + i] = closed(kl[v * LANES + i], pd[i]);
  }
}

/* What at_label asks of each row, and the gradient but for the label's part, if given. */
PC_INLINE void cross_entropy_turned(int vectors, const job *j, turned_side *s, const double *scale, float *grad, double *log_sum,
                                    double *below) {
  const pc_columns columns = {PC_SOFTMAX, j->n, 1.0};
  const pc_part all = turned(s->x);
  pc_find_heads(vectors, &columns, &all, NULL, &s->heads);
  pc_sum_columns(vectors, 1, &columns, &all, &s->heads, s->terms, s->sums);
  for (int v = 0; v < vectors; v++) {
    const vd16 step = vd_mul(vd_load(scale + v * LANES), vd_set1(j->hard)), max = vd_from_vf(s->heads.max[v]);
    const vf16 r = vf_from_vd(vd_div(step, s->sums[v])), share = vf_from_vd(vd_mul(step, vd_set1(even(j))));
    vd16 lanes[LANES];
    vd_store(log_sum + v * LANES, vd_sub(pc_log_lanes(s->sums[v]), s->heads.rest[v]));
    for (int l = 0; l < LANES; l++) lanes[l] = vd_zero();
    for (int64_t l = 0, at = v * LANES; l < j->n; l++, at += PC_WIDE * LANES) {
      if (even(j) > 0.0) lanes[l % LANES] = vd_add(lanes[l % LANES], vd_sub(max, vd_from_vf(vf_load(s->x + at))));
      if (grad) vf_store(grad + at, vf_fma(vf_load(s->terms + at), r, vf_sub(vf_load(grad + at), share)));
    }
    vd_store(below + v * LANES, folded(lanes));
  }
}

/* Sixteen times `vectors` rows or less, a lane for each, whose chain is the one above. Those that are not finite are done again alone.
 * room: for four matrices of columns. */
PC_INLINE void rows_turned(int vectors, const job *j, int64_t row, int64_t count, float *room) {
  enum { MOST = PC_WIDE * LANES };
  const int64_t size = pc_turned_rows(j->n) * MOST;
  turned_side s = {.x = room, .terms = room + size}, t = {.x = room + 2 * size, .terms = room + 3 * size};
  float step[MOST] = {0}, max[MOST];
  double scale[MOST] = {0}, kl[MOST], log_sum[MOST], below[MOST];
  vm16 finite_s[PC_WIDE];
  const int has_labels = j->labels && j->hard != 0.0;
  turn_side(vectors, j, count, j->student + row * j->ldstudent, j->ldstudent, &s);
  turn_side(vectors, j, count, j->teacher + row * j->ldteacher, j->ldteacher, &t);
  for (int64_t i = 0; j->grad && i < count; i++) {
    scale[i] = j->scale[row + i];
    step[i] = (float)(scale[i] * j->soft / j->temperature);
  }
  for (int v = 0; v < vectors; v++) { /* the cross entropy has heads of its own */
    vf_store(max + v * LANES, s.heads.max[v]);
    finite_s[v] = s.heads.finite[v];
  }
  diverge_turned(vectors, j, &s, &t, step, kl);
  if (has_labels) cross_entropy_turned(vectors, j, &s, scale, j->grad ? t.terms : NULL, log_sum, below);
  for (int v = 0; j->grad && v < vectors; v++)
    pc_turn_out(count - v * LANES, j->n, t.terms + v * LANES, j->grad + (row + v * LANES) * j->ldgrad, j->ldgrad);
  for (int64_t i = 0; i < count; i++) {
    const float *logits = j->student + (row + i) * j->ldstudent;
    float *grad = j->grad ? j->grad + (row + i) * j->ldgrad : NULL;
    double loss = soft_part(j, kl[i]);
    if (has_labels) loss += j->hard * at_label(j, logits, max[i], j->labels[row + i], scale[i], grad, log_sum[i], below[i]);
    j->loss[row + i] = loss;
  }
  for (int v = 0; v < vectors; v++) {
    const int finite = vm_bits(finite_s[v]) & vm_bits(t.heads.finite[v]);
    for (int64_t i = v * LANES; finite != 0xffff && i < count && i < (v + 1) * LANES; i++)
      if (!(finite >> i % LANES & 1)) whole_rows(row + i, row + i + 1, j);
  }
}

/* Rows so short that the steps from maximum to sum, and from there to the loss, would take longer than their elements. */
static void short_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const size_t bytes = (size_t)(4 * pc_turned_rows(j->n) * PC_WIDE * LANES) * sizeof(float), line = 64;
  char *const found = malloc(bytes + line);
  float *const room = found ? (float *)(found + (line - (uintptr_t)found % line)) : NULL;
  if (!room) {
    whole_rows(begin, end, context);
    return;
  }
  for (int64_t i = begin; i < end;) {
    const int64_t left = end - i, most = left > (PC_WIDE - 1) * LANES ? PC_WIDE * LANES : LANES, count = left < most ? left : most;
    if (most > LANES) rows_turned(PC_WIDE, j, i, count, room);
    else if (count > FEW + j->n / LANES) rows_turned(1, j, i, count, room);
    else whole_rows(i, i + count, context);
    i += count;
  }
  free(found);
}

static int losses(int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldstudent < j->n || j->ldteacher < j->n || (j->grad && j->ldgrad < j->n)) return PC_EINVAL;
  if (!(j->temperature > 0 && j->temperature < INFINITY) || !(j->smoothing >= 0 && j->smoothing <= 1)) return PC_EINVAL;
  for (int64_t i = 0; j->labels && i < m; i++)
    if (j->labels[i] < 0 || j->labels[i] >= j->n) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (j->n + 1), j->n <= TURNED ? short_rows : whole_rows, j);
  return PC_OK;
}

int PC_FN(kd_loss_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                       int64_t ldteacher, const int64_t *labels, double temperature, double soft, double hard,
                       double smoothing, double *loss) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, smoothing, NULL, loss, NULL, 0};
  return losses(m, &j);
}

int PC_FN(kd_loss_grad_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                            int64_t ldteacher, const int64_t *labels, double temperature, double soft, double hard,
                            double smoothing, const double *scale, double *loss, float *grad, int64_t ldgrad) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, smoothing, scale, loss, grad, ldgrad};
  return losses(m, &j);
}
