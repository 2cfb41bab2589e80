/* The product of spmm.c with a matrix of dense blocks [h,w] (BSR): the rows of a block share every load of x, and an index
 * is read once a block. The chains and the bits are those of the same entries in CSR.
 *
 * A strip is some rows of a row of blocks, as many as the level's registers hold beside some slices of x, a panel. All strips
 * pass a panel before the next one comes, since x that comes from past L2 comes late, and what is read of the matrix for each
 * panel lies in a row. A group of strips runs down blocks of columns whose part of x stays in L2; between them the chains wait
 * on the stack.
 * Limit: the fma units. */
#include "panels.h"
#include "share.h"
#include "sparse_end.h"

enum {
  GRAIN = 1 << 19,     /* multiply-adds that pay for waking a thread */
  WIDEST = PC_TILE_VECTORS(1),
  HIGHEST = PC_TILE_ROWS < 8 ? PC_TILE_ROWS : LANES, /* rows of a strip beside one slice: eight would share its loads too little */
  THREES = (HIGHEST + 2) / 3,
  PART = 192 * 1024,   /* floats of x in a block: 768 KB, which L2 holds */
  WAITING = 16 * 1024, /* floats of unfinished chains: 64 KB of stack */
  STRIPS = 64,         /* strips in a group */
  ASKING = 4,          /* rows of a strip, from which on there is time between its steps to ask for the next block's lines */
  FAR = 8,             /* blocks of one column ahead, whose part of x is asked for */
  LARGE = 128,         /* floats of a block that is otherwise asked for by itself */
  AHEAD = 1024         /* floats of blocks between reading and asking: 4 KB, or less of small blocks */
};

typedef struct {
  int64_t k, h, w;
  const float *x, *data; /* x: one row as it is */
  const int32_t *indices;
  const int64_t *indptr;
  pc_end end; /* its n counts rows of the matrix */
  pc_loose loose; /* floats of x as they came */
  pc_panels panels;
  int *status;
} job;

typedef struct {
  int64_t block_row, row, at; /* row within the block, and the next of its blocks */
} strip;

/* Rows of a strip that begins with so many rows left, beside so many slices of x. */
static int high(int64_t left, int vectors) {
  if (HIGHEST > PC_TILE_ROWS && vectors == 1 && left >= HIGHEST) return HIGHEST;
  if (PC_TILE_ROWS >= 8 && left >= 8) return 8;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* Advances a strip's chains by its blocks, of so many columns or (0) of any, below block column `stop`.
 *
 * Where a block's values and x lie must not wait for fma. Compilers keep numbers for which they lack registers in vectors, and moving
 * them back takes a port that fma use, after all that are waiting there: blocks of 8 x 8 took 1.15 times as long. So one address
 * serves three rows or three slices, the second and third of which lie at sums that an instruction can say; and what is asked for
 * once a block comes from memory. */
PC_INLINE void advance(int rows, int vectors, int columns, const job *j, const float *x, strip *s, int64_t stop, float *chains,
                       int first) {
  vf16 acc[HIGHEST][WIDEST];
  const int64_t apart = LANES * j->k, w = columns ? columns : j->w, size = j->h * w;
  const int64_t ahead = size >= AHEAD ? size : size * 8 <= AHEAD ? size * 8 : AHEAD / size * size;
  const int asks = rows >= ASKING && columns != 1, asks_far = vectors > 2 && columns == 1;
  const float *volatile const in_memory = x;
  const int32_t *index = j->indices + s->at, *const end = j->indices + j->indptr[s->block_row + 1];
  if (!first && (index == end || *index >= stop)) return;
#pragma GCC unroll 16
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) acc[a][t] = first ? vf_zero() : vf_load(chains + (a * vectors + t) * LANES);
  const float *block = j->data + size * s->at + s->row * w;
  for (int64_t column = index < end ? *index : stop; column < stop; block += size) {
    const float *const panel = in_memory, *const now = panel + LANES * w * column;
    column = ++index < end ? *index : stop; /* a block ahead: x at an address that a load has yet to bring comes late */
    const float *const next = column < stop ? panel + LANES * w * column : now;
    if (asks_far && end - index > FAR)
#pragma GCC unroll 8
      for (int t = 0; t < vectors; t++) __builtin_prefetch(panel + LANES * (int64_t)index[FAR] + t * apart);
    if (!asks && size < LARGE)
      for (int64_t q = 0; q < rows * w; q += LANES) __builtin_prefetch(block + ahead + q);
    else if (!asks && s->row == 0) /* into L2 only, for the other strips too: of L1 it would take too much */
      for (int64_t q = 0; q < size; q += LANES) __builtin_prefetch(block + ahead + q, 0, 2);
    const float *values[THREES], *of_x[THREES], *of_next[THREES]; /* those of rows or slices 3g, 3g + 1 and 3g + 2 */
#pragma GCC unroll 6
    for (int g = 0; g < THREES; g++) {
      values[g] = block + 3 * g * w;
      of_x[g] = now + 3 * g * apart;
      of_next[g] = next + 3 * g * apart;
    }
    for (int64_t l = 0; l < w; l++) {
#pragma GCC unroll 6
      for (int g = 0; g < THREES; g++) {
        if (3 * g < rows && !columns) values[g] = pc_held(values[g]);
        if (3 * g < vectors) of_x[g] = pc_held(of_x[g]);
        if (3 * g < vectors && asks) of_next[g] = pc_held(of_next[g]);
      }
      if (asks) __builtin_prefetch(block + ahead + rows * l);
      if (asks)
#pragma GCC unroll 8
        for (int t = 0; t < vectors; t++) __builtin_prefetch(of_next[t / 3] + t % 3 * apart);
      vf16 part[WIDEST];
#pragma GCC unroll 8
      for (int t = 0; t < vectors; t++) {
        const vf16 loaded = vf_load(of_x[t / 3] + t % 3 * apart);
        part[t] = rows > 1 ? vf_held(loaded) : loaded;
      }
#pragma GCC unroll 16
      for (int a = 0; a < rows; a++) {
        const vf16 value = vf_set1(columns ? block[a * w + l] : values[a / 3][a % 3 * w]);
#pragma GCC unroll 8
        for (int t = 0; t < vectors; t++) acc[a][t] = vf_fma(part[t], value, acc[a][t]);
      }
#pragma GCC unroll 6
      for (int g = 0; g < THREES; g++) values[g]++, of_x[g] += LANES, of_next[g] += LANES;
    }
  }
  s->at = index - j->indices;
#pragma GCC unroll 16
  for (int a = 0; a < rows; a++)
#pragma GCC unroll 8
    for (int t = 0; t < vectors; t++) vf_store(chains + (a * vectors + t) * LANES, acc[a][t]);
}

/* The shapes that the registers of a level hold, of blocks of 1, 4, 16 or (0) any columns. Each is a function of its own: in one
 * they would lack registers. */
typedef void shape(const job *j, const float *x, strip *s, int64_t stop, float *chains, int first);
#define SHAPE(columns, r, v)                                                                                              \
  __attribute__((noinline)) static void advance_##columns##_##r##_##v(const job *j, const float *x, strip *s,             \
                                                                      int64_t stop, float *chains, int first) {           \
    if ((r) <= ((v) == 1 ? HIGHEST : PC_TILE_ROWS) && (v) <= PC_TILE_VECTORS(r))                                          \
      advance(r, v, columns, j, x, s, stop, chains, first);                                                               \
  }
#define NAME(columns, r, v) [r][v] = advance_##columns##_##r##_##v,
#define SHAPES(of, c)                                                                                                     \
  of(c, 16, 1) of(c, 8, 1) of(c, 8, 2) of(c, 8, 3)                                                                        \
  of(c, 4, 1) of(c, 4, 2) of(c, 4, 3) of(c, 4, 4) of(c, 4, 5) of(c, 4, 6)                                                 \
  of(c, 2, 1) of(c, 2, 2) of(c, 2, 3) of(c, 2, 4) of(c, 2, 5) of(c, 2, 6) of(c, 2, 7) of(c, 2, 8)                         \
  of(c, 1, 1) of(c, 1, 2) of(c, 1, 3) of(c, 1, 4) of(c, 1, 5) of(c, 1, 6) of(c, 1, 7) of(c, 1, 8)
SHAPES(SHAPE, 1)
SHAPES(SHAPE, 4)
SHAPES(SHAPE, 16)
SHAPES(SHAPE, 0)

static shape *shape_of(int64_t columns, int rows, int vectors) {
  static shape *const one[LANES + 1][9] = {SHAPES(NAME, 1)}, *const four[LANES + 1][9] = {SHAPES(NAME, 4)};
  static shape *const sixteen[LANES + 1][9] = {SHAPES(NAME, 16)}, *const any[LANES + 1][9] = {SHAPES(NAME, 0)};
  return (columns == 1 ? one : columns == 4 ? four : columns == 16 ? sixteen : any)[rows][vectors];
}

/* Block columns whose part of x stays in L2; at least one. (L1 was tried: the chains' waiting costs more than it saves.) */
static int64_t block_of(const job *j, int vectors) {
  const int64_t columns = PART / (LANES * vectors);
  return columns < j->w || j->w == 0 ? 1 : columns / j->w;
}

/* A group of strips of so many rows against `vectors` slices of x; their rows follow one another, from row0 on. Those of LANES
 * rows are delivered together, while the next ones are at work. */
static void run_group(const job *j, int rows, int vectors, int64_t slice, strip *strips, int count, int64_t row0) {
  _Alignas(64) float chains[WAITING];
  const int64_t width = LANES * vectors, last = j->k / (j->w ? j->w : 1);
  const int64_t block = block_of(j, vectors);
  shape *const advance_one = shape_of(j->w, rows, vectors);
  const int together = LANES / rows;
  int64_t stop = 0;
  for (int s = 0; s < count; s++) strips[s].at = j->indptr[strips[s].block_row];
  do {
    const int first = stop == 0;
    stop = smaller(stop + block, last);
    for (int s = 0; s < count; s++) {
      advance_one(j, pc_packed_slice(&j->loose, slice), strips + s, stop, chains + s * rows * width, first);
      if (stop < last || ((s + 1) % together && s + 1 < count)) continue;
      const int from = s / together * together;
      pc_finish(&j->end, slice * LANES, row0 + from * rows, (s + 1 - from) * rows, width, chains + from * rows * width);
    }
  } while (stop < last);
}

/* Rows [begin, end) of blocks against panel p. */
static void one_panel(const job *j, int64_t p, int64_t begin, int64_t end) {
  const int64_t slice = pc_panel_begin(j->panels, p);
  const int vectors = (int)pc_panel_width(j->panels, p);
  for (int64_t b = begin, r = 0; b < end;) {
    strip strips[STRIPS];
    const int64_t row0 = b * j->h + r;
    const int rows = high(j->h - r, vectors), room = WAITING / (LANES * vectors * rows); /* strips of one shape */
    int count = 0;
    while (b < end && count < STRIPS && count < room && high(j->h - r, vectors) == rows) {
      strips[count++] = (strip){b, r, 0};
      r += rows;
      if (r == j->h) r = 0, b++;
    }
    run_group(j, rows, vectors, slice, strips, count, row0);
  }
}

/* The work up to row i of blocks is indptr[i] + i: a block and a row count alike. */
static int64_t work_of(const job *j) { return j->indptr[j->end.n / j->h] + j->end.n / j->h; }
static int64_t row_at(const job *j, int64_t work) { return pc_run_near(j->indptr, j->end.n / j->h, work); }

/* All rows pass each panel, and so does the work, once a slice: a thread reads the panels that it takes, and no others. If they are
 * not packed it packs them, one after the other to the same place, which stays in its cache. */
static void run_panels(int64_t begin, int64_t end, const void *context) {
  _Alignas(64) float few[PC_FEW];
  job j = *(const job *)context;
  const int own = !j.loose.packed;
  const pc_panels panels = j.panels;
  const int64_t work = work_of(&j), most = (panels.slices + panels.count - 1) / panels.count;
  void *found = NULL;
  for (int64_t p = pc_panel_with(panels, begin / work), slice; (slice = pc_panel_begin(panels, p)) * work < end; p++) {
    const pc_part part = pc_part_of_panel(panels, p, work, begin, end);
    const int64_t first = row_at(&j, part.begin), last = row_at(&j, part.end);
    if (first == last) continue;
    if (own && !pc_pack_own(&j.loose, slice, slice + pc_panel_width(panels, p), most, few, &found)) {
      __atomic_store_n(j.status, PC_ENOMEM, __ATOMIC_RELAXED);
      return;
    }
    one_panel(&j, p, first, last);
  }
  free(found);
}

/* Blocks, beside so many rows of x, that pay for waking a thread. */
static int64_t grain_of(const job *j, int64_t rows) { return 1 + GRAIN / (rows * j->h * (j->w + 1)); }

/* One row of x and blocks of 16 rows, stored by columns: a lane for each row. */
static void run_column(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t rows = j->end.n / LANES, first = pc_run_near(j->indptr, rows, begin), last = pc_run_near(j->indptr, rows, end);
  for (int64_t b = first; b < last; b++) {
    vf16 acc = vf_zero();
    for (int64_t p = j->indptr[b]; p < j->indptr[b + 1]; p++) {
      const float *x = j->x + j->w * j->indices[p], *block = j->data + LANES * j->w * p;
      for (int64_t l = 0; l < j->w; l++) acc = vf_fma(vf_set1(x[l]), vf_load(block + l * LANES), acc);
    }
    vf_store(j->end.y + b * LANES, acc);
  }
  pc_finish_row(&j->end, first * LANES, (last - first) * LANES);
}

/* n counts rows of blocks; the rows of a job are cut at its entries. */
static int check(const job *j, int64_t n, int64_t nnz) {
  const pc_end *e = &j->end;
  if (e->m < 0 || j->k < 0 || n < 0 || nnz < 0 || j->h < 0 || j->w < 0 || !pc_is_activation(e->activation)) return PC_EINVAL;
  return e->m == 0 || e->n == 0 || (j->indptr[0] == 0 && j->indptr[n] == nnz) ? PC_OK : PC_EINVAL;
}

int PC_FN(spmm_bsr_f32)(int64_t m, int64_t k, int64_t n, int64_t nnz, int64_t h, int64_t w, const float *x, int64_t x_row,
                        int64_t x_column, const float *data, const int32_t *indices, const int64_t *indptr, const float *bias,
                        const float *residual, int32_t activation, float *y, int64_t y_row, int64_t y_column) {
  int status = PC_OK;
  job j = {k, h, w, NULL, data, indices, indptr, {m, n * h, NULL, bias, residual, activation, y, y_row, y_column},
           {k, m, k, x, x_column, x_row, NULL, 0, 0}, {0, 0}, &status};
  status = check(&j, n, nnz);
  if (status != PC_OK || m == 0 || j.end.n == 0) return status;
  j.panels = pc_panels_of(m, PC_TILE_VECTORS(high(h, WIDEST)));
  const int64_t all = work_of(&j) * j.panels.slices, grain = grain_of(&j, LANES);
  void *found = NULL;
  if (pc_packs_own(&j.loose)) {
    pc_for(all, pc_own_grain(&j.loose, h * w, all, grain), run_panels, &j);
  } else if (pc_get_num_threads() <= j.panels.count || pc_pack_all(&j.loose, &found)) {
    pc_for(all, grain, run_panels, &j);
    free(found);
  } else {
    status = PC_ENOMEM;
  }
  return status;
}

int PC_FN(spmv_bsr_f32)(int64_t k, int64_t n, int64_t nnz, int64_t w, const float *x, const float *data,
                        const int32_t *indices, const int64_t *indptr, const float *bias, const float *residual,
                        int32_t activation, float *y) {
  const job j = {k, LANES, w, x, data, indices, indptr, {1, n * LANES, NULL, bias, residual, activation, y, n, 1},
                 {0, 0, 0, NULL, 0, 0, NULL, 0, 0}, {0, 0}, NULL};
  const int status = check(&j, n, nnz);
  if (status == PC_OK && n > 0) pc_for(nnz + n, grain_of(&j, 1), run_column, &j);
  return status;
}
