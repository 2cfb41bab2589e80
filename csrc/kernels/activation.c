/* y[i] = activation(x[i]): what products end in, for values that come from elsewhere. Limit: memory, 8 bytes an element. */
#include "activation.h"
#include "table.h"

enum { GRAIN = 1 << 14 /* elements that pay for waking a thread */ };

typedef struct {
  const float *x;
  int32_t activation;
  float *y;
} job;

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  pc_activate_each(end - begin, j->x + begin, j->activation, j->y + begin);
}

int PC_FN(activate_f32)(int64_t n, const float *x, int32_t activation, float *y) {
  if (n < 0 || !pc_is_activation(activation)) return PC_EINVAL;
  const job j = {x, activation, y};
  pc_for(n, GRAIN, run, &j);
  return PC_OK;
}
