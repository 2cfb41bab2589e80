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

PC_INLINE void activate(int32_t activation, int64_t n, const float *x, float *y, int past) {
  const int64_t head = pc_head(y, past, n);
  if (head) vf_store_n(y, head, vf_activate(vf_load_n(x, head), activation));
  int64_t i = head;
  for (; i + LANES <= n; i += LANES) {
    if (past) __builtin_prefetch(x + i + PC_ASKED, 0, 2);
    pc_store_line(y + i, past, vf_activate(vf_load(x + i), activation));
  }
  if (i < n) vf_store_n(y + i, n - i, vf_activate(vf_load_n(x + i, n - i), activation));
  if (past) vf_stream_fence();
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const float *x = j->x + begin;
  float *y = j->y + begin;
  if (j->activation == PC_RELU) activate(PC_RELU, end - begin, x, y, j->past);
  else activate(j->activation, end - begin, x, y, j->past);
}

int PC_FN(activate_f32)(int64_t n, const float *x, int32_t activation, float *y) {
  if (n < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  const job j = {x, activation, y, x != y && n >= PC_PAST}; /* in place its line is there */
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}
