/* Distillation loss of each row and its gradient by the student's logits s; t the teacher's (Hinton et al. 2015):
 *   loss = soft KL(p || q) + hard (log sum_i exp s_i - s_label),   p = softmax(t/T), q = softmax(s/T)
 *   grad = scale (soft/T (q - p) + hard (softmax(s) - onehot(label)))
 *
 * KL keeps its meaning where the two agree. With d_i = log p_i - log q_i = ((t_i - max t) - (s_i - max s))/T - c, c the
 * logarithm of the ratio of the sums, and because sum p_i expm1(-d_i) = sum q_i - sum p_i = 0,
 *   KL = sum p_i d_i = sum p_i (d_i + expm1(-d_i)):
 * every term is at least 0 and of second order in d, so only relative errors remain. d is taken in float64 from the
 * raw logits. p_i expm1(-d_i) is q_i - p_i, or for |d_i| < 1/2 a polynomial. An error eta of c
 * adds expm1(eta) - eta to the sum; but then b = sum p_i expm1(-d_i) is expm1(eta), so b - log1p(b) is taken away.
 * Where p_i = 0 the term is q_i, which the same identity asks for; where both are 0 it is 0.
 *
 * Sums: the lane rule. The terms of p and q, by pairs, in float64 lanes; those of KL in float32 lanes that are added to float64
 * lanes every 1024 elements. Threads share rows. Limit: the float units, about 120 operations an element. */
#include "softmax.h"
#include "table.h"

enum {
  GRAIN = 1 << 12, /* elements that pay for waking a thread */
  BLOCK = 1024,    /* elements of a float32 chain */
  KEPT = 1 << 15   /* terms of the teacher that are kept, 128 KB of stack; of longer rows they are made twice */
};

typedef struct {
  int64_t n;
  const float *student;
  int64_t ldstudent;
  const float *teacher;
  int64_t ldteacher;
  const int64_t *labels;
  double temperature, soft, hard, scale;
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

/* Terms that were kept, 0 past the end of the row. */
PC_INLINE vf16 kept_terms(const float *p, int64_t left) { return left >= LANES ? vf_load(p) : vf_load_n(p, left); }

/* KL of a row whose terms are known up to their sums: the teacher's are in `kept`, if given; where grad is given it holds
 * the student's and becomes step (q - p). */
static double divergence(int64_t n, const float *s, const float *t, const pc_terms *student, const pc_terms *teacher,
                         double sum_s, double sum_t, float max_s, float max_t, double temperature, float step,
                         const float *kept, float *grad) {
  const vf16 rs = vf_set1((float)(1.0 / sum_s)), rt = vf_set1((float)(1.0 / sum_t)), steps = vf_set1(step);
  const vd16 top_s = vd_set1(max_s), top_t = vd_set1(max_t);
  const vd16 inverse = vd_set1(1.0 / temperature), shift = vd_set1((teacher->rest - student->rest) - pc_log(sum_t / sum_s));
  vd16 kl = vd_zero(), drift = vd_zero();
  for (int64_t block = 0; block < n; block += BLOCK) {
    const int64_t end = n - block < BLOCK ? n : block + BLOCK;
    vf16 kl_lanes = vf_zero(), drift_lanes = vf_zero();
    for (int64_t i = block; i < end; i += LANES) {
      const vf16 si = pc_load_row(s + i, n - i), ti = pc_load_row(t + i, n - i);
      const vf16 q = vf_mul(grad ? kept_terms(grad + i, n - i) : pc_term(si, student), rs);
      const vf16 p = vf_mul(kept ? kept_terms(kept + i, n - i) : pc_term(ti, teacher), rt);
      const vd16 z = vd_sub(vd_sub(vd_from_vf(ti), top_t), vd_sub(vd_from_vf(si), top_s));
      const vf16 d = vf_from_vd(vd_fma(z, inverse, shift));
      const vf16 excess = vf_sub(q, p);
      const vf16 bend = vf_mul(vf_mul(d, d), second_order(d));
      const vm16 near = vf_lt(vf_abs(d), vf_set1(0.5f));
      const vf16 pd = vf_select(vf_eq(p, vf_zero()), p, vf_mul(p, d));
      kl_lanes = vf_add(kl_lanes, vf_select(near, vf_mul(p, bend), vf_add(pd, excess)));
      drift_lanes = vf_add(drift_lanes, vf_select(near, vf_mul(p, vf_sub(bend, d)), excess));
      if (grad) pc_store_row(grad + i, n - i, vf_mul(steps, excess));
    }
    kl = vd_add_vf(kl, kl_lanes);
    drift = vd_add_vf(drift, drift_lanes);
  }
  const double b = vd_fold_add(drift), total = vd_fold_add(kl) - b * b * (0.5 - b * (1.0 / 3.0)); /* b - log1p(b) */
  return total < 0.0 ? 0.0 : total; /* NaN stays */
}

/* scale hard (softmax(s) - onehot) added to grad, if given; returns log sum exp s - s_label. */
static double cross_entropy(const job *j, const float *s, float max, int64_t label, float *grad) {
  const pc_terms terms = pc_terms_of(max, 1.0);
  const double sum = pc_sum_terms(j->n, s, &terms, NULL);
  if (grad) {
    const double step = j->scale * j->hard;
    const vf16 r = vf_set1((float)(step / sum));
    for (int64_t i = 0; i < j->n; i += LANES) {
      const vf16 e = pc_term(pc_load_row(s + i, j->n - i), &terms);
      pc_store_row(grad + i, j->n - i, vf_fma(e, r, pc_load_row(grad + i, j->n - i)));
    }
    grad[label] -= (float)step;
  }
  return pc_log_sum(sum, &terms) + ((double)max - (double)s[label]);
}

static double loss_of_row(const job *j, int64_t row, float *grad) {
  const float *s = j->student + row * j->ldstudent, *t = j->teacher + row * j->ldteacher;
  const float max_s = pc_row_max(s, j->n), max_t = pc_row_max(t, j->n);
  const pc_row_kind kind_s = pc_classify_row(s, j->n, max_s), kind_t = pc_classify_row(t, j->n, max_t);
  const int empty = kind_s == PC_ROW_EMPTY || kind_t == PC_ROW_EMPTY; /* then no sum will tell of NaN */
  if (kind_s == PC_ROW_NAN || kind_t == PC_ROW_NAN || (empty && (pc_row_has_nan(s, j->n) || pc_row_has_nan(t, j->n)))) {
    if (grad) pc_fill_row(grad, j->n, NAN);
    return NAN;
  }
  double loss = 0.0;
  if (empty) {
    if (grad) pc_fill_row(grad, j->n, 0.0f);
  } else {
    const pc_terms student = pc_terms_of(max_s, j->temperature), teacher = pc_terms_of(max_t, j->temperature);
    float terms[KEPT], *kept = j->n <= KEPT ? terms : NULL;
    const double sum_s = pc_sum_terms(j->n, s, &student, grad), sum_t = pc_sum_terms(j->n, t, &teacher, kept);
    const float step = (float)(j->scale * j->soft / j->temperature);
    const double kl = divergence(j->n, s, t, &student, &teacher, sum_s, sum_t, max_s, max_t, j->temperature, step, kept,
                                 grad);
    loss = j->soft == 0.0 && kl == INFINITY ? 0.0 : j->soft * kl;
  }
  if (j->labels && j->hard != 0.0 && kind_s == PC_ROW_FINITE) loss += j->hard * cross_entropy(j, s, max_s, j->labels[row], grad);
  return loss;
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t i = begin; i < end; i++) j->loss[i] = loss_of_row(j, i, j->grad ? j->grad + i * j->ldgrad : NULL);
}

static int losses(int64_t m, const job *j) {
  if (m < 0 || j->n < 0 || j->ldstudent < j->n || j->ldteacher < j->n || (j->grad && j->ldgrad < j->n)) return PC_EINVAL;
  if (!(j->temperature > 0 && j->temperature < INFINITY)) return PC_EINVAL;
  for (int64_t i = 0; j->labels && i < m; i++)
    if (j->labels[i] < 0 || j->labels[i] >= j->n) return PC_EINVAL;
  pc_for(m, 1 + GRAIN / (j->n + 1), run, j);
  return PC_OK;
}

int PC_FN(kd_loss_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                       int64_t ldteacher, const int64_t *labels, double temperature, double soft, double hard,
                       double *loss) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, 0.0, loss, NULL, 0};
  return losses(m, &j);
}

int PC_FN(kd_loss_grad_f32)(int64_t m, int64_t n, const float *student, int64_t ldstudent, const float *teacher,
                            int64_t ldteacher, const int64_t *labels, double temperature, double soft, double hard,
                            double scale, double *loss, float *grad, int64_t ldgrad) {
  const job j = {n, student, ldstudent, teacher, ldteacher, labels, temperature, soft, hard, scale, loss, grad, ldgrad};
  return losses(m, &j);
}
