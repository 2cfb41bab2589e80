/* softmax, log_softmax and logsumexp of x/T along the middle axis of x[m,c,n], by columns (softmax_columns.h).
 * Threads share blocks of columns. Limit: the float units, as for rows; memory where a block is longer than L2. */
#include "softmax_columns.h"
#include "table.h"

enum {
  GRAIN = 1 << 13, /* elements that pay for waking a thread */
  LONG = 1 << 11,  /* columns so long stay in L2 only a vector at a time, */
  LONGER = 1 << 12, /* so long not even then: lines of one that are far apart meet in a few sets, and come alone */
  SHORT = 512      /* columns so short are copied, or their lines would stand in each other's way: 128 KB of stack */
};

typedef struct {
  pc_columns of;
  int64_t m, n;
  const float *x;
  float *y;
  int64_t width, blocks; /* columns of a block; blocks of c x n */
} job;

PC_INLINE void block(int vectors, const job *j, const pc_part *x, float *y) {
  _Alignas(64) float copy[SHORT * PC_WIDE * LANES];
  pc_softmax_columns(vectors, &j->of, x, j->of.c <= SHORT ? copy : NULL, y, x);
}

static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t size = j->of.c * j->n;
  for (int64_t u = begin; u < end; u++) {
    const int64_t i = u / j->blocks, first = u % j->blocks * j->width;
    const int64_t columns = smaller(j->n - first, j->width);
    const float *x = j->x + i * size + first;
    float *y = j->y + (j->of.result == PC_LOGSUMEXP ? i * j->n : i * size) + first;
    if (columns > (PC_WIDE - 1) * LANES) block(PC_WIDE, j, &(pc_part){x, j->n, columns}, y);
    else
      for (int64_t c = 0; c < columns; c += LANES)
        block(1, j, &(pc_part){x + c, j->n, smaller(columns - c, LANES)}, y + c);
  }
}

/* Columns of a block. Those a vector wide take three times as long where L2 does not keep them, unless threads share them all. */
static int64_t width_of(const job *j) {
  const int64_t wide = PC_WIDE * LANES, vectors = j->m * ((j->n + LANES - 1) / LANES);
  if (j->of.c < LONG || (j->of.c >= LONGER && vectors > pc_get_num_threads())) return wide;
  return LANES;
}

static int share_blocks(job j) {
  if (j.m < 0 || j.of.c < 0 || j.n < 0 || !pc_is_temperature(j.of.temperature)) return PC_EINVAL;
  j.width = width_of(&j);
  j.blocks = (j.n + j.width - 1) / j.width;
  pc_for(j.m * j.blocks, 1 + GRAIN / (j.width * (j.of.c + 1)), run, &j);
  return PC_OK;
}

#define ENTRY(name, result)                                                                         \
  int PC_FN(name)(int64_t m, int64_t c, int64_t n, const float *x, double temperature, float *y) {  \
    return share_blocks((job){{result, c, temperature}, m, n, x, y, 0, 0});                         \
  }
ENTRY(softmax_columns_f32, PC_SOFTMAX)
ENTRY(log_softmax_columns_f32, PC_LOG_SOFTMAX)
ENTRY(logsumexp_columns_f32, PC_LOGSUMEXP)
