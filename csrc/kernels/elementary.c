/* y[i] = exp(x[i]) or log(x[i]), for callers of the C interface: kernels take the polynomials alone (elementary.h).
 * Limit: memory, 8 bytes an element. */
#include "elementary.h"
#include "memory.h"
#include "table.h"

enum { GRAIN = 1 << 14 /* elements that pay for waking a thread */ };

typedef struct { const float *x; float *y; int past; } job;

PC_INLINE vf16 exponential(vf16 x, int32_t unused) { return (void)unused, vf_exp(x); }
PC_INLINE vf16 logarithm(vf16 x, int32_t unused) { return (void)unused, vf_log(x); }

static void exps(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  pc_map(exponential, 0, end - begin, j->x + begin, j->y + begin, j->past);
}

static void logs(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  pc_map(logarithm, 0, end - begin, j->x + begin, j->y + begin, j->past);
}

static int share(void (*run)(int64_t, int64_t, const void *), int64_t n, const float *x, float *y) {
  if (n < 0) return PC_EINVAL;
  const job j = {x, y, x != y && n >= PC_PAST}; /* in place its line is there */
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}

int PC_FN(exp_f32)(int64_t n, const float *x, float *y) { return share(exps, n, x, y); }
int PC_FN(log_f32)(int64_t n, const float *x, float *y) { return share(logs, n, x, y); }
