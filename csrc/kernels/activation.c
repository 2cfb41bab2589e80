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
  if (j->activation == PC_RELU) pc_map(vf_activate, PC_RELU, end - begin, x, y, j->past);
  else pc_map(vf_activate, j->activation, end - begin, x, y, j->past);
}

int PC_FN(activate_f32)(int64_t n, const float *x, int32_t activation, float *y) {
  if (n < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  const job j = {x, activation, y, x != y && n >= PC_PAST}; /* in place its line is there */
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}
