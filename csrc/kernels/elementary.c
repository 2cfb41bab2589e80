/* y[i] = exp(x[i]) or log(x[i]), for callers of the C interface: kernels take the polynomials alone (elementary.h).
 * Limit: memory, 8 bytes an element. */
#include "elementary.h"
#include "memory.h"
#include "table.h"

enum { GRAIN = 1 << 14 /* elements that pay for waking a thread */ };

typedef struct { const float *x; float *y; int past; } job;

#define ELEMENTWISE(function)                                                                   \
  static void run_##function(int64_t begin, int64_t end, const void *context) {                 \
    const job *j = context;                                                                     \
    const float *x = j->x;                                                                      \
    float *y = j->y;                                                                            \
    int64_t i = begin;                                                                          \
    const int64_t head = pc_head(y + i, j->past, end - i);                                      \
    if (head) vf_store_n(y + i, head, vf_##function(vf_load_n(x + i, head)));                   \
    for (i += head; i + LANES <= end; i += LANES) {                                             \
      if (j->past) __builtin_prefetch(x + i + PC_ASKED, 0, 2);                                  \
      pc_store_line(y + i, j->past, vf_##function(vf_load(x + i)));                             \
    }                                                                                           \
    if (i < end) vf_store_n(y + i, end - i, vf_##function(vf_load_n(x + i, end - i)));          \
    if (j->past) vf_stream_fence();                                                             \
  }                                                                                             \
  int PC_FN(function##_f32)(int64_t n, const float *x, float *y) {                              \
    if (n < 0) return PC_EINVAL;                                                                \
    const job j = {x, y, x != y && n >= PC_PAST}; /* in place its line is there */              \
    pc_for(n, GRAIN, run_##function, &j);                                                       \
    return PC_OK;                                                                               \
  }

ELEMENTWISE(exp)
ELEMENTWISE(log)
