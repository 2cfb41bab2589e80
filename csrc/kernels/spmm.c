/* y[i,j] = activation(sum over the stored entries p of row j, in order, of x[i, indices[p]] * data[p] + bias[j] +
 * residual[i,j]): one fma chain an output, the chain of gemm_f32 without the zeros. Lanes go across i, threads across j, so
 * that every level, thread count and batch gives the same bits.
 * Limit: one load of x for each fma, from L2; at few entries a row, the branch that ends a row.
 *
 * Threads share the rows of the matrix by stored entries; where it is small beside x, panels of x first. A thread takes a
 * group of rows and runs it down blocks of columns, whose part of x stays in L2; between blocks the chains wait on the
 * stack: storing and reloading a float is exact. (Blocks for L1, which spmm_tiles.c has, were slower here: a visit costs
 * more than it saves.) */
#include <math.h>
#include <string.h>

#include "panels.h"
#include "share.h"
#include "sparse_end.h"

enum {
  CHAINS = PC_TILE_VECTORS(1),         /* vectors that the level's registers hold as chains in flight */
  WIDEST = CHAINS < 2 ? CHAINS : 2,    /* vectors of a row in flight: more make x too wide for L2 */
  FLIGHT = 4,                          /* rows in flight: the latency of an fma, in cycles */
  PART = 128 * 1024,                   /* floats of x in a block: 512 KB, which L2 holds */
  WAITING = 8 * 1024,                  /* floats of unfinished chains: 32 KB of stack, read and written in order */
  ROWS = WAITING / LANES,
  GRAIN = 1 << 16,                     /* multiply-adds that pay for waking a thread, */
  GRAIN_ALONE = 1 << 14                /* and those of one row */
};

/* Rows of a tile of that many vectors. */
#define HEIGHT(vectors) (CHAINS / (vectors) < FLIGHT ? CHAINS / (vectors) : FLIGHT)

typedef struct {
  int64_t k;
  const float *x, *data; /* x in panels, or in fours; one row as it is */
  const int32_t *indices;
  const int64_t *indptr;
  pc_end end;
  pc_loose loose; /* floats of x as they came */
  int *status;
} job;

/* The first entry of a row, from p on, whose column is not below stop. */
PC_INLINE int64_t find(const job *j, int64_t p, int64_t end, int64_t stop) {
  if (stop >= j->k) return end;
  const vi16 limit = vi_set1((int32_t)stop);
  for (; p < end; p += LANES) {
    const int64_t lanes = smaller(end - p, LANES);
    const uint32_t below = vm_bits(vi_gt(limit, vi_load_n(j->indices + p, lanes))) & ((1u << lanes) - 1);
    if (below != 0xffff) return p + __builtin_popcount(below);
  }
  return end;
}

/* acc += the entry p of a row */
PC_INLINE void add(int vectors, const job *j, const float *x, int64_t p, vf16 *acc) {
  const float *row = x + LANES * (int64_t)j->indices[p];
  const vf16 w = vf_set1(j->data[p]);
#pragma GCC unroll 4
  for (int t = 0; t < vectors; t++) acc[t] = vf_fma(vf_load(row + t * LANES * j->k), w, acc[t]);
}

/* Advances the chains of `rows` rows by their entries from at[] on whose column is below stop. */
PC_INLINE void tile(int rows, int vectors, const job *j, const float *x, const int64_t *indptr, int64_t stop,
                    int64_t *at, float *chains, int first) {
  vf16 acc[FLIGHT][WIDEST];
  int64_t left[FLIGHT], common = INT64_MAX;
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) acc[r][t] = first ? vf_zero() : vf_load(chains + (r * vectors + t) * LANES);
    left[r] = find(j, at[r], indptr[r + 1], stop) - at[r];
    common = smaller(left[r], common);
  }
  for (int64_t q = 0; q < common; q++)
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) add(vectors, j, x, at[r] + q, acc[r]);
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++) {
    for (int64_t q = common; q < left[r]; q++) add(vectors, j, x, at[r] + q, acc[r]);
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) vf_store(chains + (r * vectors + t) * LANES, acc[r][t]);
    at[r] += left[r];
  }
}

/* One block of columns, the ones below stop, for `rows` rows; at[] is where each row's next entry is. */
PC_INLINE void down(int vectors, const job *j, const float *x, const int64_t *indptr, int64_t rows, int64_t stop,
                    int64_t *at, float *chains, int first) {
  const int high = HEIGHT(vectors);
  const int64_t width = LANES * vectors;
  int64_t r = 0;
  for (; r + high <= rows; r += high) tile(high, vectors, j, x, indptr + r, stop, at + r, chains + r * width, first);
  for (; r < rows; r++) tile(1, vectors, j, x, indptr + r, stop, at + r, chains + r * width, first);
}

static void run_down(int vectors, const job *j, const float *x, const int64_t *indptr, int64_t rows, int64_t stop,
                     int64_t *at, float *chains, int first) {
  if (vectors == 1) down(1, j, x, indptr, rows, stop, at, chains, first);
  else down(WIDEST, j, x, indptr, rows, stop, at, chains, first);
}

/* A group of rows against `vectors` slices of x. */
static void group(const job *j, int vectors, int64_t slice, int64_t row, int64_t rows) {
  float chains[WAITING];
  int64_t at[ROWS], stop = 0;
  const int64_t *indptr = j->indptr + row;
  const int64_t block = PART / (LANES * vectors);
  memcpy(at, indptr, (size_t)rows * sizeof *at);
  do {
    const int first = stop == 0;
    stop = smaller(stop + block, j->k);
    run_down(vectors, j, j->x + slice * LANES * j->k, indptr, rows, stop, at, chains, first);
  } while (stop < j->k);
  pc_finish(&j->end, slice * LANES, row, rows, LANES * vectors, chains);
}

/* -- how the work is shared */

/* The work up to row i is indptr[i] + i: an entry and a row count alike. */
static int64_t work_of(const job *j) { return j->indptr[j->end.n] + j->end.n; }
static int64_t row_at(const job *j, int64_t work) { return pc_run_near(j->indptr, j->end.n, work); }

static pc_panels panels_of(const job *j) { return pc_panels_of(j->end.m, WIDEST); }

/* Rows whose chains of one panel fit in WAITING. */
static int64_t most_rows(const job *j) { return WAITING / (panels_of(j).slices > 1 ? WIDEST * LANES : LANES); }

/* A group against panel p. */
static void one_panel(const job *j, int64_t p, int64_t row, int64_t last) {
  group(j, (int)pc_panel_width(panels_of(j), p), pc_panel_begin(panels_of(j), p), row, smaller(last - row, most_rows(j)));
}

/* All the panels pass each group: for matrices that are large beside x. */
static void run_groups(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t last = row_at(j, end), panels = panels_of(j).count;
  for (int64_t row = row_at(j, begin); row < last; row += most_rows(j))
    for (int64_t p = 0; p < panels; p++) one_panel(j, p, row, last);
}

/* All the groups pass each panel, and so does the work, once a slice: a thread reads the panels that it takes, and no others. */
static void run_panels(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t work = work_of(j);
  const pc_panels panels = panels_of(j);
  for (int64_t p = pc_panel_with(panels, begin / work); pc_panel_begin(panels, p) * work < end; p++) {
    const pc_part part = pc_part_of_panel(panels, p, work, begin, end);
    const int64_t last = row_at(j, part.end);
    for (int64_t row = row_at(j, part.begin); row < last; row += most_rows(j)) one_panel(j, p, row, last);
  }
}

/* The same of x that each thread packs for itself. */
PC_RUN_OWN(run_groups)

/* Words of a group: an entry is two. */
static double words_of(const job *j) { return 2.0 * (double)j->indptr[j->end.n] / (double)j->end.n * (double)most_rows(j); }

/* The rows of a job are cut at its entries; a matrix whose ends do not fit its entries is refused. */
static int check(const job *j, int64_t nnz) {
  const pc_end *e = &j->end;
  if (e->m < 0 || j->k < 0 || e->n < 0 || nnz < 0 || !pc_is_activation(e->activation)) return PC_EINVAL;
  return e->m == 0 || e->n == 0 || (j->indptr[0] == 0 && j->indptr[e->n] == nnz) ? PC_OK : PC_EINVAL;
}

/* -- one row of x, or up to four, which lie side by side: each output is one chain of its own, so several rows of the matrix are in
 * flight. A row that ends makes room for the next, and heavy rows stay in flight beside light ones. Limit: of one row memory, 8 bytes
 * an entry; of four also the loads, three an entry. */

enum {
  TURN = 4,         /* entries of a row at a time */
  ALONE = 32,       /* entries that a row may have left when another ends: the two overlap by themselves */
  AHEAD = 4 * 1024, /* entries to prefetch ahead of use: past the rows in flight, which the hardware follows itself */
  CACHED = 1 << 17  /* entries that L2 holds, and that need no prefetching */
};

/* The chain of one row of x, or those of four. */
typedef struct {
  float one;
  vq4 four;
} chain;

PC_INLINE chain no_entries(void) { return (chain){0.0f, vq_zero()}; }

/* One entry more, whose value comes with the fma as one instruction if it lies at no sum of registers. */
PC_INLINE chain one_more(int fours, const float *x, int64_t column, const float *value, chain c) {
  if (fours) {
    c.four = vq_fma1(vq_load(x + PC_FOUR * column), value, c.four);
  } else {
    const float of_x = x[column];
    c.one = fmaf(of_x, *value, c.one);
  }
  return c;
}

typedef struct {
  int64_t row, at, left; /* at: its next entry */
  chain chain;
} slot;

/* Rows of the matrix from `next` up to `last`, and where their chains go, those of row `first` foremost. */
typedef struct {
  int64_t first, next, last;
  float *to;
} span;

PC_INLINE void put(int fours, const span *rows, int64_t row, chain c) {
  if (fours) vq_store(rows->to + (row - rows->first) * LANES, c.four);
  else rows->to[row - rows->first] = c.one;
}

/* Fills a slot with the next row that has entries; 0 if there is none. */
PC_INLINE int take(int fours, const job *j, slot *s, span *rows) {
  while (rows->next < rows->last) {
    const int64_t row = rows->next++, at = j->indptr[row], left = j->indptr[row + 1] - at;
    *s = (slot){row, at, left, no_entries()};
    if (left) return 1;
    put(fours, rows, row, no_entries());
  }
  return 0;
}

/* Two columns by one load. */
PC_INLINE uint64_t two_at(const int32_t *indices) {
  uint64_t two;
  memcpy(&two, indices, sizeof two);
  return two;
}

/* Advances the chains by as many entries as the shortest has left, and prefetches every `stretch` entries. Values lie at addresses
 * that are passed on from turn to turn, not at sums. */
PC_INLINE void advance(int fours, const job *j, slot *s, int slots, int64_t stretch) {
  int64_t steps = s->left;
  const float *x = j->x, *data[FLIGHT];
  const int32_t *indices[FLIGHT];
  chain c[FLIGHT];
  for (int r = 0; r < slots; r++) {
    steps = smaller(s[r].left, steps);
    data[r] = j->data + s[r].at;
    indices[r] = j->indices + s[r].at;
    c[r] = s[r].chain;
  }
  int64_t q = 0;
  while (steps - q >= TURN) {
    const int64_t stop = q + smaller((steps - q) / TURN * TURN, stretch);
#pragma GCC unroll 4
    for (int r = 0; r < slots; r++) {
      __builtin_prefetch(data[r] + AHEAD, 0, 2); /* into L2: L1 has too little room for so many streams */
      __builtin_prefetch(indices[r] + q + AHEAD, 0, 2);
    }
    for (; q < stop; q += TURN) {
#pragma GCC unroll 4
      for (int i = 0; i < TURN; i += 2)
#pragma GCC unroll 4
        for (int r = 0; r < slots; r++) {
          const uint64_t two = two_at(indices[r] + q + i);
          c[r] = one_more(fours, x, (uint32_t)two, data[r] + i, c[r]);
          c[r] = one_more(fours, x, (int64_t)(two >> 32), data[r] + i + 1, c[r]);
        }
#pragma GCC unroll 4
      for (int r = 0; r < slots; r++) data[r] = pc_held(data[r] + TURN);
    }
  }
  for (; q < steps; q++)
#pragma GCC unroll 4
    for (int r = 0; r < slots; r++) c[r] = one_more(fours, x, indices[r][q], data[r]++, c[r]);
  for (int r = 0; r < slots; r++) {
    s[r].at += steps;
    s[r].left -= steps;
    s[r].chain = c[r];
  }
}

PC_INLINE void run_span(int fours, const job *j, span rows) {
  const int64_t stretch = j->indptr[j->end.n] > CACHED ? LANES : INT64_MAX; /* a cache line */
  slot s[FLIGHT];
  int full = 0;
  while (full < FLIGHT && take(fours, j, s + full, &rows)) full++;
  while (full == FLIGHT) {
    advance(fours, j, s, FLIGHT, stretch);
    for (int r = 0; r < full; r++)
      if (s[r].left <= ALONE) {
        advance(fours, j, s + r, 1, stretch);
        put(fours, &rows, s[r].row, s[r].chain);
        if (!take(fours, j, s + r, &rows)) s[r--] = s[--full];
      }
  }
  while (full--) {
    advance(fours, j, s + full, 1, stretch);
    put(fours, &rows, s[full].row, s[full].chain);
  }
}

static void run_one(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t begun = row_at(j, begin), last = row_at(j, end);
  run_span(0, j, (span){begun, begun, last, j->end.y + begun});
  pc_finish_row(&j->end, begun, last - begun);
}

static void run_four(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t last = row_at(j, end);
  float chains[WAITING]; /* four lanes of each sixteen */
  for (int64_t row = row_at(j, begin), rows; row < last; row += rows) {
    rows = smaller(last - row, ROWS);
    memset(chains, 0, (size_t)(rows * LANES) * sizeof *chains);
    run_span(1, j, (span){row, row, row + rows, chains});
    pc_finish(&j->end, 0, row, rows, LANES, chains);
  }
}

PC_RUN_OWN_FOURS(run_four)

static int multiply_few(job *j) {
  const int64_t work = work_of(j), grain = 1 + GRAIN_ALONE;
  void *found = NULL;
  if (j->loose.n == PC_FOUR && j->loose.w_column == 1 && j->loose.w_row == PC_FOUR) j->x = j->loose.w; /* as they are */
  else if (!pc_fours_are_few(&j->loose) && !(j->x = pc_all_in_fours(&j->loose, &found))) return PC_ENOMEM;
  pc_for(work, grain, j->x ? run_four : run_own_fours, j);
  free(found);
  return PC_OK;
}

/* -- any rows of x, and one that is contiguous */

int PC_FN(spmm_csr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, const float *x, int64_t x_row, int64_t x_column,
                        const float *data, const int32_t *indices, const int64_t *indptr, const float *bias,
                        const float *residual, int32_t activation, float *y, int64_t y_row, int64_t y_column) {
  int status = PC_OK;
  job j = {k, NULL, data, indices, indptr, {m, n, NULL, bias, residual, activation, y, y_row, y_column},
           {k, m, k, x, x_column, x_row, NULL, 0, 0}, &status};
  status = check(&j, nnz);
  if (status != PC_OK || m == 0 || n == 0) return status;
  if (m <= PC_FOUR) return multiply_few(&j);
  const pc_panels panels = panels_of(&j);
  const int64_t grain = 1 + GRAIN / m;
  if (pc_packs_own(&j.loose)) {
    pc_for(work_of(&j), pc_own_grain(&j.loose, panels.slices, work_of(&j), grain), run_own, &j);
    return status;
  }
  void *found = NULL;
  j.x = pc_pack_all(&j.loose, &found);
  if (!j.x) return PC_ENOMEM;
  if (pc_panels_first(words_of(&j), panels.count, m, k)) pc_for(work_of(&j) * panels.slices, 1 + GRAIN / LANES, run_panels, &j);
  else pc_for(work_of(&j), grain, run_groups, &j);
  free(found);
  return PC_OK;
}

int PC_FN(spmv_csr_f32)(int64_t k, int64_t n, int64_t nnz, const float *x, const float *data, const int32_t *indices,
                        const int64_t *indptr, const float *bias, const float *residual, int32_t activation, float *y) {
  const job j = {k, x, data, indices, indptr, {1, n, NULL, bias, residual, activation, y, n, 1}, {0, 0, 0, NULL, 0, 0, NULL, 0, 0}, NULL};
  const int status = check(&j, nnz);
  if (status == PC_OK && n > 0) pc_for(work_of(&j), 1 + GRAIN_ALONE, run_one, &j);
  return status;
}
