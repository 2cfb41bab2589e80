/* y[i] = exp(x[i]) or log(x[i]): the functions of elementary.h, which other kernels use inline, within anybody's reach.
 * Limit: memory, 8 bytes an element. */
#include "elementary.h"
#include "table.h"

enum { GRAIN = 1 << 14 /* elements that pay for waking a thread */ };

typedef struct { const float *x; float *y; } job;

#define ELEMENTWISE(function)                                                                   \
  static void run_##function(int64_t begin, int64_t end, const void *context) {                 \
    const job *j = context;                                                                     \
    int64_t i = begin;                                                                          \
    for (; i + LANES <= end; i += LANES) vf_store(j->y + i, vf_##function(vf_load(j->x + i)));  \
    if (i < end) vf_store_n(j->y + i, end - i, vf_##function(vf_load_n(j->x + i, end - i)));    \
  }                                                                                             \
  int PC_FN(function##_f32)(int64_t n, const float *x, float *y) {                              \
    if (n < 0) return PC_EINVAL;                                                                \
    const job j = {x, y};                                                                       \
    pc_for(n, GRAIN, run_##function, &j);                                                       \
    return PC_OK;                                                                               \
  }

ELEMENTWISE(exp)
ELEMENTWISE(log)
