/* One row of x against a matrix in slices of 16 rows (SELL, Kreutzer et al. 2014): a step of a slice is sixteen values and
 * their columns, a lane for each row, so each output is the chain of spmm.c in one lane. The packer sorts rows by their
 * entries and pads as in spmm_tiles.c: with values -0 at the column after the last, which is zero: each thread copies x and puts that
 * after it (where a stack does not hold it, the caller, once).
 * Limit: memory, six bytes an entry and less; in cache, the gather of x. */
#include <string.h>

#include "heap.h"
#include "share.h"
#include "sparse_end.h"
#include "stored.h"

enum {
  AHEAD = 2048,    /* entries to prefetch, into L2, ahead of use */
  GRAIN = 1 << 11  /* steps that pay for waking a thread */
};

typedef struct {
  int64_t slices, k;
  const float *plain; /* x as it came, [k] */
  const void *x;      /* the same and the zero; NULL until it is there */
  const void *values;
  const uint16_t *columns;
  const int32_t *rows;
  const int64_t *starts;
  pc_end end;
  const int32_t *offset; /* of the products of codes */
  int32_t *sums;
} job;

static const float *with_zero(const job *j, float *to) {
  if (j->k) memcpy(to, j->plain, (size_t)j->k * sizeof *to);
  to[j->k] = 0.0f;
  return to;
}

PC_INLINE void ahead(const job *j, int bits, int64_t step) {
  __builtin_prefetch((const char *)j->values + (LANES * step + AHEAD) * bits / 8, 0, 2);
  __builtin_prefetch(j->columns + LANES * step + AHEAD, 0, 2);
}

/* (Unrolled: the speed of a short loop of gathers depends on its alignment. Loads one by one are as fast either way.) */
PC_INLINE void slices(int at_once, int kind, const job *j, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; i++) {
    vf16 acc = vf_zero();
#pragma GCC unroll 4
    for (int64_t s = j->starts[i]; s < j->starts[i + 1]; s++) {
      ahead(j, pc_bits(kind), s);
      const uint16_t *at = j->columns + LANES * s;
      const vf16 x = at_once ? vf_gather_at_once(j->x, at) : vf_gather(j->x, at);
      acc = vf_fma(x, pc_sixteen(kind, 1, (const char *)j->values + LANES * pc_bits(kind) / 8 * s), acc);
    }
    pc_finish_scattered(&j->end, acc, j->rows + LANES * i);
  }
}

PC_INLINE void code_slices(int at_once, const job *j, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; i++) {
    vi16 acc = vi_zero();
#pragma GCC unroll 4
    for (int64_t s = j->starts[i]; s < j->starts[i + 1]; s++) {
      ahead(j, 32, s);
      const uint16_t *at = j->columns + LANES * s;
      const vi16 x = at_once ? vi_gather_at_once(j->x, at) : vi_gather(j->x, at);
      acc = vi_dot_u8s8(acc, x, vi_load((const int8_t *)j->values + 4 * LANES * s));
    }
    pc_finish_codes(j->offset, acc, j->rows + LANES * i, j->sums);
  }
}

static int64_t slice_at(const job *j, int64_t work) { return pc_run_near(j->starts, j->slices, work); }

/* Each way is a loop of its own, which would lose a twentieth by asking. */
#define RUN(name, type, kind, parameters, scale)                                \
  static void run_##name(int64_t begin, int64_t end, const void *context) {     \
    const int64_t from = slice_at(context, begin), to = slice_at(context, end); \
    _Alignas(64) float few[PC_FEW];                                             \
    job j = *(const job *)context;                                              \
    if (!j.x) j.x = with_zero(&j, few);                                         \
    if (PC_GATHERS && pc_cpu_gathers()) slices(1, kind, &j, from, to);          \
    else slices(0, kind, &j, from, to);                                         \
  }
PC_STORED(RUN)
static void run_codes(int64_t begin, int64_t end, const void *context) {
  const int64_t from = slice_at(context, begin), to = slice_at(context, end);
  if (PC_GATHERS && pc_cpu_gathers()) code_slices(1, context, from, to);
  else code_slices(0, context, from, to);
}

/* The ends of slices must fit; columns and rows of entries are trusted. */
static int check(const job *j, int64_t steps) {
  if (j->k < 0 || j->end.n < 0 || steps < 0 || j->slices < 0 || !pc_is_activation(j->end.activation)) return PC_EINVAL;
  return j->end.n == 0 || (j->starts[0] == 0 && j->starts[j->slices] == steps) ? PC_OK : PC_EINVAL;
}

static int run_job(job *j, int64_t steps, void (*run)(int64_t, int64_t, const void *)) {
  const int status = check(j, steps);
  void *found = NULL;
  if (status != PC_OK || j->end.n == 0) return status;
  if (j->plain && j->k >= PC_FEW) {
    float *const own = pc_heap((size_t)(j->k + 1) * sizeof *own, &found);
    if (!own) return PC_ENOMEM;
    j->x = with_zero(j, own);
  }
  pc_for(steps + j->slices, GRAIN, run, j);
  free(found);
  return PC_OK;
}

#define VALUES(name, type, kind, parameters, scale)                                                                           \
  int PC_FN(spmv_sell_##name)(int64_t k, int64_t n, int64_t steps, int64_t slices, const float *x, const type *values,        \
                              const uint16_t *columns, const int32_t *rows, const int64_t *starts, parameters,                \
                              const float *residual, int32_t activation, float *y) {                                          \
    job j = {slices, k, x, NULL, values, columns, rows, starts,                                                               \
             {1, n, scale, bias, residual, activation, y, n, 1}, NULL, NULL};                                                 \
    return run_job(&j, steps, run_##name);                                                                                    \
  }
PC_STORED(VALUES)

int PC_FN(spmv_sell_u8s8)(int64_t k, int64_t n, int64_t steps, int64_t slices, const uint8_t *x, const int8_t *values,
                          const uint16_t *columns, const int32_t *rows, const int64_t *starts, const int32_t *offset,
                          int32_t *y) {
  job j = {slices, k, NULL, x, values, columns, rows, starts, {1, n, NULL, NULL, NULL, PC_IDENTITY, NULL, n, 1}, offset, y};
  return run_job(&j, steps, run_codes);
}
