/* Rows of few classes of the distillation loss, turned into columns: a lane for each, whose chains, and bits, are those of
 * kd_loss.c. */
#ifndef PC_KD_LOSS_COLUMNS_H
#define PC_KD_LOSS_COLUMNS_H

#include "kd_loss.h"
#include "softmax_columns.h"

/* A side of rows that were turned: its terms and what they are made from. */
typedef struct {
  float *x, *terms;
  pc_heads heads;
  vd16 sums[PC_WIDE];
} turned_side;

/* Floats of such a matrix. */
static inline int64_t turned_size(int64_t n) { return pc_turned_rows(n) * PC_WIDE * LANES; }

PC_INLINE void turn_side(int vectors, const job *j, double temperature, int64_t rows, const float *x, int64_t ldx, turned_side *to) {
  const pc_columns columns = {PC_SOFTMAX, j->n, temperature};
  const pc_part all = pc_side_by_side(to->x);
  for (int v = 0; v < vectors; v++) pc_turn_in(rows - v * LANES, j->n, x + v * LANES * ldx, ldx, to->x + v * LANES);
  pc_find_heads(vectors, &columns, &all, NULL, &to->heads);
  if (to->heads.moved) pc_sum_columns(vectors, 1, &columns, &all, &to->heads, to->terms, to->sums);
  else pc_sum_columns(vectors, 0, &columns, &all, &to->heads, to->terms, to->sums);
}

/* The row's chains, of sixteen rows: of vector v. step: of each. */
static inline rows rows_of(const job *j, double temperature, const turned_side *s, turned_side *t, int v, const float *step) {
  const vd16 ratio = vd_div(t->sums[v], s->sums[v]);
  const vd16 shift = vd_sub(vd_sub(t->heads.rest[v], s->heads.rest[v]), pc_log_lanes(ratio));
  const vd16 top_s = vd_sub(vd_from_vf(s->heads.max[v]), vd_from_vf(s->heads.base[v]));
  const vd16 top_t = vd_sub(vd_from_vf(t->heads.max[v]), vd_from_vf(t->heads.base[v]));
  const vd16 apart = vd_sub(vd_sub(top_t, top_s), vd_mul(shift, vd_set1(temperature)));
  return (rows){.s = s->x + v * LANES, .t = t->x + v * LANES, .kept_s = s->terms + v * LANES, .kept_t = t->terms + v * LANES,
                .grad = j->grad ? t->terms + v * LANES : NULL, .of_s = chances_of(s->sums[v]),
                .of_t = chances_of(t->sums[v]), .step = vf_load(step + v * LANES),
                .gap = gap_of(apart, t->heads.base[v], s->heads.base[v], temperature)};
}

/* KL of each row, and its gradient to where the teacher's terms were. */
PC_INLINE void diverge_turned(int vectors, const job *j, double temperature, const turned_side *s, turned_side *t, const float *step,
                              double *kl) {
  rows r[PC_WIDE];
  sums lanes[LANES][PC_WIDE];
  for (int v = 0; v < vectors; v++) r[v] = rows_of(j, temperature, s, t, v, step);
  for (int l = 0; l < LANES; l++)
    for (int v = 0; v < vectors; v++) lanes[l][v] = (sums){vf_zero(), vf_zero()};
  for (int64_t l = 0; l < j->n; l++)
    for (int v = 0; v < vectors; v++)
      lanes[l % LANES][v] = diverge(1, 1, &r[v], l * PC_WIDE * LANES, LANES, lanes[l % LANES][v]);
  vd16 of_kl[LANES][PC_WIDE], of_pd[LANES][PC_WIDE], kls[PC_WIDE], pds[PC_WIDE];
  for (int l = 0; l < LANES; l++)
    for (int v = 0; v < vectors; v++) of_kl[l][v] = vd_from_vf(lanes[l][v].kl), of_pd[l][v] = vd_from_vf(lanes[l][v].pd);
  pc_fold_columns(vectors, LANES, of_kl, kls);
  pc_fold_columns(vectors, LANES, of_pd, pds);
  for (int v = 0; v < vectors; v++) {
    double pd[LANES];
    vd_store(kl + v * LANES, kls[v]);
    vd_store(pd, pds[v]);
    for (int i = 0; i < LANES; i++) kl[v * LANES + i] = closed(kl[v * LANES + i], pd[i]);
  }
}

/* What at_label asks of each row, and the gradient but for the label's part, if given. labelled: whether hard is not 0. */
PC_INLINE void cross_entropy_turned(int vectors, const job *j, turned_side *s, const double *hard, const float *labelled, float *grad,
                                    double *log_sum, double *below) {
  const pc_columns columns = {PC_SOFTMAX, j->n, 1.0};
  const pc_part all = pc_side_by_side(s->x);
  pc_find_heads(vectors, &columns, &all, NULL, &s->heads);
  pc_sum_columns(vectors, 1, &columns, &all, &s->heads, s->terms, s->sums);
  vd16 lanes[LANES][PC_WIDE], sums_below[PC_WIDE];
  for (int v = 0; v < vectors; v++) {
    const vd16 step = vd_load(hard + v * LANES), max = vd_from_vf(s->heads.max[v]);
    const vf16 r = vf_from_vd(vd_div(step, s->sums[v])), share = vf_from_vd(vd_mul(step, vd_set1(even(j))));
    const vm16 left = vf_eq(vf_load(labelled + v * LANES), vf_zero()); /* without a label: nothing is added, not even +0 to -0 */
    vd_store(log_sum + v * LANES, vd_sub(pc_log_lanes(s->sums[v]), s->heads.rest[v]));
    for (int l = 0; l < LANES; l++) lanes[l][v] = vd_zero();
    for (int64_t l = 0, at = v * LANES; l < j->n; l++, at += PC_WIDE * LANES) {
      if (even(j) > 0.0) lanes[l % LANES][v] = vd_add(lanes[l % LANES][v], vd_sub(max, vd_from_vf(vf_load(s->x + at))));
      if (!grad) continue;
      const vf16 soft = vf_load(grad + at);
      vf_store(grad + at, vf_select(left, soft, vf_fma(vf_load(s->terms + at), r, vf_sub(soft, share))));
    }
  }
  pc_fold_columns(vectors, LANES, lanes, sums_below);
  for (int v = 0; v < vectors; v++) vd_store(below + v * LANES, sums_below[v]);
}

/* Sixteen times `vectors` rows or less, of one temperature. Returns a bit for each that is not finite or does not count, whose results
 * mean nothing. room: for four matrices of columns. */
PC_INLINE uint64_t rows_turned(int vectors, const job *j, int64_t row, int64_t count, float *room) {
  enum { MOST = PC_WIDE * LANES };
  const int64_t size = turned_size(j->n);
  turned_side s = {.x = room, .terms = room + size}, t = {.x = room + 2 * size, .terms = room + 3 * size};
  const double temperature = j->temperature[row];
  float step[MOST] = {0}, labelled[MOST] = {0}, max[MOST];
  double hard[MOST] = {0}, kl[MOST], log_sum[MOST], below[MOST];
  vm16 finite_s[PC_WIDE];
  int has_labels = 0;
  uint64_t odd = 0;
  turn_side(vectors, j, temperature, count, j->student + row * j->ldstudent, j->ldstudent, &s);
  turn_side(vectors, j, temperature, count, j->teacher + row * j->ldteacher, j->ldteacher, &t);
  for (int64_t i = 0; i < count; i++) {
    hard[i] = hard_of(j, row + i);
    step[i] = (float)(j->soft[row + i] / temperature);
    labelled[i] = hard[i] != 0.0;
    has_labels |= hard[i] != 0.0;
    odd |= (uint64_t)!counts(j, row + i) << i;
  }
  for (int v = 0; v < vectors; v++) { /* the cross entropy has heads of its own */
    vf_store(max + v * LANES, s.heads.max[v]);
    finite_s[v] = s.heads.finite[v];
  }
  diverge_turned(vectors, j, temperature, &s, &t, step, kl);
  if (has_labels) cross_entropy_turned(vectors, j, &s, hard, labelled, j->grad ? t.terms : NULL, log_sum, below);
  for (int v = 0; j->grad && v < vectors; v++)
    pc_turn_out(count - v * LANES, j->n, t.terms + v * LANES, j->grad + (row + v * LANES) * j->ldgrad, j->ldgrad);
  for (int64_t i = 0; i < count; i++) {
    const float *logits = j->student + (row + i) * j->ldstudent;
    float *grad = j->grad ? j->grad + (row + i) * j->ldgrad : NULL;
    double loss = soft_part(j->soft[row + i], kl[i]);
    if (hard[i] != 0.0) loss += hard[i] * at_label(j, logits, max[i], j->labels[row + i], hard[i], grad, log_sum[i], below[i]);
    j->loss[row + i] = loss;
  }
  for (int v = 0; v < vectors; v++)
    odd |= (uint64_t)(0xffff & ~(vm_bits(finite_s[v]) & vm_bits(t.heads.finite[v]))) << v * LANES;
  return odd;
}
#endif
