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
  const float *x = j->x + begin;
  float *y = j->y + begin;
  const int64_t n = end - begin, head = pc_head(y, j->past, n);
  for (int64_t l = 0, lanes; l < n; l += lanes) {
    lanes = pc_lanes_at(l, head, n);
    if (j->past) __builtin_prefetch(x + l + PC_ASKED, 0, 2);
    pc_store_lanes(y + l, lanes, j->past, vf_activate(vf_load_left(x + l, lanes), j->activation));
  }
  if (j->past) vf_stream_fence();
}

int PC_FN(activate_f32)(int64_t n, const float *x, int32_t activation, float *y) {
  if (n < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  const job j = {x, activation, y, x != y && n >= PC_PAST}; /* in place its line is there */
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}
