/* y[i] = activation(x[i]): what products end in, for values that come from elsewhere. Limit: memory, 8 bytes an element. */
#include "activation.h"
#include "memory.h"
#include "table.h"

enum { GRAIN = 1 << 14 /* elements that pay for waking a thread */ };

typedef struct {
  const float *x;
  int32_t activation;
  float *y;
  int past;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t first = begin + pc_head(j->y + begin, j->past, end - begin);
  for (int64_t i = begin, lanes; i < end; i += lanes) {
    lanes = i < first ? first - i : smaller(end - i, LANES);
    if (j->past) __builtin_prefetch(j->x + i + PC_ASKED, 0, 2);
    const vf16 v = vf_activate(vf_load_left(j->x + i, lanes), j->activation);
    if (lanes == LANES) pc_store_line(j->y + i, j->past, v);
    else vf_store_n(j->y + i, lanes, v);
  }
  if (j->past) vf_stream_fence();
}

int PC_FN(activate_f32)(int64_t n, const float *x, int32_t activation, float *y) {
  if (n < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  const job j = {x, activation, y, x != y && n >= PC_PAST}; /* in place its line is there */
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}
