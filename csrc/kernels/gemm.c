/* y[i,j] = activation(sum over l ascending of x[i,l]*w[l,j] + bias[j]): one fma chain an output, from +0 or from what is
 * given, lanes and threads across outputs only, so that every level, thread count and batch gives the same bits.
 * Limit: the fma units for m >= 8, the bandwidth of the weights below.
 *
 * Threads share the grid of columns and bands of rows. Some rows of x are copied to where L2 keeps them (any row stride becomes
 * a short, collision-free one), and tiles of rows x vectors run down all of k, or where it is long down blocks of it, between which
 * the chains wait in y: storing and reloading a float is exact. All panels of those rows pass a tile's weights before the next
 * tile's, which are asked for meanwhile; few panels take shorter blocks, which L1 keeps, of one tile after the other. A row alone,
 * which uses nothing twice, is not copied. */
#include <string.h>

#include "activation.h"
#include "heap.h"
#include "table.h"
#include "vocabulary.h"

enum {
  BLOCK = 1024,             /* l in a block, where k is above */
  LONGEST = 2 * BLOCK,      /* (chains that wait cost more than fewer rows that share a tile's weights, unless k is longer) */
  ROOM = 130 * BLOCK,       /* floats of x that are copied at a time: half of an L2 of 1 MB; */
  ON_STACK = 16 * BLOCK,    /* so many wait there */
  FEW = 4,                  /* rows whose weights, read faster than they can be asked for, AMD's hardware follows better by itself,
                               where they are several streams; */
  IN_L2 = 3 << 17,          /* other CPUs lag behind several of more floats than these: */
  EACH_AHEAD = 48,          /* a panel alone asks for each, so many lines ahead; */
  AHEAD = 32 * LANES,       /* one stream, of a tile one vector wide, is asked for so many floats ahead, */
  ASKING = 4,               /* or by so many panels together, each a part of it: one alone would wait for it, */
  SHARED = 3,               /* as two would that asked for one slice each of a tile of so many: they share the last */
  BLOCKED = 3,              /* panels that take weights of more than IN_L2, */
  DEEP = BLOCK / 8,         /* l of a tile so wide at a time, which L1 keeps for all of them */
  FAR = 1 << 23,            /* floats of weights that no cache keeps: four rows of them, */
  NARROW = 4,               /* where one tile of so many has one stream, are two panels, whose tiles have more */
  STREAMS = 4,              /* slices beside each other for a row alone: the latency of an fma, and few enough for the
                               hardware to follow */
  WIDEST = 8,               /* vectors in the widest tile of any level */
  UNITS = 8,                /* for each thread, so that no thread has much more than another */
  SHORTEST = 32,            /* rows of a band where tiles of columns are too few for that */
  SHORT = 64,               /* rows of a band otherwise: whoever takes columns copies all rows beside them */
  BANDS = 4,                /* of such for each thread */
  GRAIN = 1 << 17           /* multiply-adds that pay for waking a thread */
};

typedef struct {
  int64_t m, k, n;
  const float *x;
  int64_t ldx;
  const float *w, *bias;
  const float *start; /* [m,n], where the chains begin; NULL: at +0 */
  int64_t ldstart;
  int32_t activation;
  float *y;
  int64_t ldy;
  int64_t width, tiles, bands; /* columns of a tile; tiles across y; bands of rows */
  int *status;
} job;

/* What a tile asks for, a step: nothing; a line of a slice; that and half a line of another; or a line of each of its own. */
typedef enum { NOTHING, ONE, ONE_AND_HALF, ALL } asking;

/* What a tile works on. */
typedef struct {
  int64_t length;      /* of the block */
  const float *panel;  /* [rows][stride] */
  int64_t stride;
  const float *w;      /* slices, `slice` floats apart */
  int64_t slice;
  asking asks;         /* for what, meanwhile: */
  int64_t soon, also;  /* how far from w is the one slice, and the other */
  int64_t pace;        /* bytes of it a step, for a tile one vector wide; else LANES floats */
  const float *from;   /* what the chains have reached; NULL: they begin */
  int64_t ldfrom;
  float *y;
  int64_t ldy;
  const float *then;   /* rows of y, `apart`, that the next tile will write: asked for meanwhile; or NULL */
  int64_t apart;
} work;

/* All steps of a tile. What it asks for is a constant of the loop, which has no register to find out; and an address serves three
 * rows, the second and third of which lie at sums that an instruction can say: what registers do not hold may come from a vector, by
 * a port that fma use. */
PC_INLINE void steps(int rows, int vectors, asking asks, const work *t, vf16 acc[][WIDEST]) {
  const float *w = t->w, *panel[3] = {t->panel, t->panel + 3 * t->stride, t->panel + 6 * t->stride};
  const int64_t slice = t->slice, stride = t->stride, soon = t->soon, also = t->also, pace = t->pace, length = t->length;
  for (int64_t l = 0; l < length; l++) {
#pragma GCC unroll 3
    for (int g = 0; 3 * g < rows; g++) panel[g] = pc_held(panel[g]);
    if (vectors == 1) __builtin_prefetch((const char *)(w + soon) + pace * l);
    else if (asks == ONE || asks == ONE_AND_HALF) __builtin_prefetch(w + LANES * l + soon);
    if (asks == ONE_AND_HALF) __builtin_prefetch(w + LANES / 2 * l + also);
    vf16 b[WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) {
      const vf16 of_w = vf_load(w + j * slice + LANES * l);
      b[j] = rows > 1 ? vf_held(of_w) : of_w;
      if (asks == ALL) __builtin_prefetch(w + j * slice + LANES * (l + EACH_AHEAD));
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
      const vf16 a = vf_set1(panel[i / 3][i % 3 * stride]);
#pragma GCC unroll 8
      for (int j = 0; j < vectors; j++) acc[i][j] = vf_fma(a, b[j], acc[i][j]);
    }
#pragma GCC unroll 3
    for (int g = 0; 3 * g < rows; g++) panel[g]++;
  }
}

/* Adds a block of the chains of rows x (16*vectors) outputs. */
PC_INLINE void tile(int rows, int vectors, const work *t) {
  const float *from = t->from;
  float *y = t->y;
  const int64_t ldfrom = t->ldfrom, ldy = t->ldy;
  vf16 acc[PC_TILE_ROWS][WIDEST];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) acc[i][j] = from ? vf_load(from + i * ldfrom + LANES * j) : vf_zero();
  if (t->then)
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < vectors; j++) __builtin_prefetch(t->then + i * t->apart + LANES * j, 1, 2);
  if (vectors == 1 || t->asks == NOTHING) steps(rows, vectors, NOTHING, t, acc);
  else if (t->asks == ALL) steps(rows, vectors, ALL, t, acc);
  else if (vectors == SHARED && t->asks == ONE_AND_HALF) steps(rows, vectors, ONE_AND_HALF, t, acc);
  else steps(rows, vectors, ONE, t, acc);
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 8
    for (int j = 0; j < vectors; j++) vf_store(y + i * ldy + LANES * j, acc[i][j]);
}

/* Shapes that the level's registers cannot hold are compiled away. Not inlined: loops need the registers for addresses. */
__attribute__((noinline)) static void run_tile(int rows, int vectors, const work *t) {
#define SHAPE(r, v) \
  case (r) * 16 + (v): if ((r) <= PC_TILE_ROWS && (v) <= PC_TILE_VECTORS(r)) tile(r, v, t); break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3) SHAPE(r, 4) SHAPE(r, 5) SHAPE(r, 6) SHAPE(r, 7) SHAPE(r, 8)
  switch (rows * 16 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
  }
}

static int64_t panels_of(int64_t rows) { return (rows + PC_TILE_ROWS - 1) / PC_TILE_ROWS; }

/* Panels of rows that pass the weights together. */
static int64_t panels_together(const job *j, int64_t rows) {
  const int halved = rows == NARROW && PC_TILE_VECTORS(NARROW) == 1 && PC_TILE_VECTORS(NARROW / 2) > 1;
  return halved && j->k * j->n > FAR ? 2 : panels_of(rows);
}

/* Whether the hardware lags behind several streams of weights. */
static int lags(const job *j) { return j->k * j->n > IN_L2 && !pc_cpu_is_amd(); }

static void copy_rows(int64_t rows, int64_t width, const float *from, int64_t ldfrom, float *to, int64_t ldto) {
  for (int64_t i = 0; i < rows; i++) memcpy(to + i * ldto, from + i * ldfrom, (size_t)width * sizeof(float));
}

PC_INLINE int64_t lanes_of(int64_t left) { return smaller(left, LANES); }

/* y = activation(y + bias) on a finished tile, still in L1. */
static void finish(const job *j, int rows, int64_t width, int64_t column, float *y) {
  for (int i = 0; i < rows; i++)
    for (int64_t c = 0; c < width; c += LANES) {
      const int64_t lanes = lanes_of(width - c);
      vf16 v = vf_load_n(y + i * j->ldy + c, lanes);
      if (j->bias) v = vf_add(v, vf_load_n(j->bias + column + c, lanes));
      vf_store_n(y + i * j->ldy + c, lanes, vf_activate(v, j->activation));
    }
}

/* What panel p of so many asks for meanwhile, of `after` slices of the next tile, the first of which is `next` from its own: a slice;
 * where two panels have three slices, the third is shared. A panel alone asks for its own, ahead: see AHEAD and lags(). */
static void ask(const job *j, int64_t p, int64_t panels, int height, int vectors, int64_t after, int64_t next, work *t) {
  t->pace = LANES * sizeof(float);
  if (vectors == 1 && panels == 1) {
    t->soon = AHEAD;
  } else if (vectors == 1 && after) {
    const int64_t parts = smaller(panels, ASKING);
    t->pace /= parts;
    t->soon = p < parts ? next + t->length * p / parts * LANES : 0;
  } else if (panels == 1) {
    t->asks = lags(j) ? ALL : NOTHING;
  } else if (p < after && (height > FEW || lags(j))) {
    t->asks = panels == 2 && after == SHARED ? ONE_AND_HALF : ONE;
    t->soon = next + p * t->slice;
    t->also = next + 2 * t->slice + p * t->length / 2 * LANES;
  }
}

/* l of a block at a time: see BLOCKED. */
static int64_t depth_of(const job *j, int64_t panels, int vectors, int64_t length) {
  const int blocked = panels > 1 && panels <= BLOCKED && vectors == SHARED && j->k * j->n > IN_L2;
  return blocked ? smaller(DEEP, length) : length;
}

/* A tile of which only so many columns are there, on a copy of what it works on. */
static void run_edge(int height, int64_t width, int vectors, work t) {
  float edge[PC_TILE_ROWS * WIDEST * LANES], *const y = t.y;
  const int64_t ldy = t.ldy;
  t.y = edge;
  t.ldy = LANES * vectors;
  if (t.from) {
    memset(edge, 0, sizeof edge); /* what lies past column n is computed with, and dropped */
    copy_rows(height, width, t.from, t.ldfrom, edge, t.ldy);
    t.from = edge;
    t.ldfrom = t.ldy;
  }
  run_tile(height, vectors, &t);
  copy_rows(height, width, edge, t.ldy, y, ldy);
}

/* A block of rows [top, top + rows) of x, copied to `block` [rows][stride], against the columns [begin, end). */
static void columns_by_rows(const job *j, int64_t rows, int64_t top, int64_t l0, int64_t length, const float *block, int64_t stride,
                            int64_t begin, int64_t end) {
  const int64_t panels = panels_together(j, rows), slice = LANES * j->k;
  const int widest = PC_TILE_VECTORS((rows + panels - 1) / panels), last = l0 + length == j->k;
  const float *reached = l0 == 0 ? j->start : j->y;
  const int64_t ldreached = l0 == 0 ? j->ldstart : j->ldy;
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    const int64_t left = (end - c + LANES - 1) / LANES;
    vectors = (int)smaller(left, widest);
    const int64_t width = smaller(end - c, LANES * vectors), after = smaller(left - vectors, vectors);
    const int64_t depth = depth_of(j, panels, vectors, length);
    for (int64_t l = 0; l < length; l += depth) {
      const int64_t now = smaller(depth, length - l), more = l + now < length;
      const int64_t next = more ? now * LANES : vectors * slice - l * LANES; /* from these weights to the next */
      for (int64_t p = 0; p < panels; p++) { /* of equal height, give or take one */
        const int64_t first = rows * p / panels, row = top + first;
        const int height = (int)(rows * (p + 1) / panels - first);
        float *y = j->y + row * j->ldy + c;
        work t = {.length = now, .panel = block + first * stride + l, .stride = stride, .w = j->w + c * j->k + (l0 + l) * LANES,
                  .slice = slice, .from = l > 0 ? y : reached ? reached + row * ldreached + c : NULL,
                  .ldfrom = l > 0 ? j->ldy : ldreached, .y = y, .ldy = j->ldy,
                  .then = l == 0 && p + 1 < panels && first + 2 * height <= rows ? y + height * j->ldy : NULL, .apart = j->ldy};
        ask(j, p, panels, height, vectors, more ? vectors : after, next, &t);
        if (width == LANES * vectors) run_tile(height, vectors, &t);
        else run_edge(height, width, vectors, t);
        if (last && !more && (j->bias || j->activation)) finish(j, height, width, c, y);
      }
    }
  }
}

/* Rows [top, bottom) x columns [begin, end). */
static void cell(const job *j, int64_t top, int64_t bottom, int64_t begin, int64_t end) {
  _Alignas(64) float few[ON_STACK];
  const int one = panels_together(j, bottom - top) == 1; /* which shares no weights */
  const int64_t longest = one ? ROOM / PC_TILE_ROWS - 2 * LANES : LONGEST;
  const int64_t blocks = j->k <= longest ? 1 : (j->k + BLOCK - 1) / BLOCK; /* of equal length, give or take one */
  const int64_t stride = (((j->k + blocks - 1) / blocks + LANES - 1) / LANES | 1) * LANES; /* an odd number of lines */
  const int64_t room = ROOM / stride / PC_TILE_ROWS * PC_TILE_ROWS, most = smaller(bottom - top, room);
  const int is_small = most * stride <= ON_STACK;
  void *found = NULL;
  float *const block = is_small ? few : pc_heap((size_t)(most * stride) * sizeof(float), &found);
  if (!block) {
    __atomic_store_n(j->status, PC_ENOMEM, __ATOMIC_RELAXED);
    return;
  }
  for (int64_t row = top, rows; row < bottom; row += rows) {
    rows = smaller(bottom - row, most);
    for (int64_t b = 0; b < blocks; b++) {
      const int64_t l0 = j->k * b / blocks, length = j->k * (b + 1) / blocks - l0;
      copy_rows(rows, length, j->x + row * j->ldx + l0, j->ldx, block, stride);
      columns_by_rows(j, rows, row, l0, length, block, stride, begin, end);
    }
  }
  free(found);
}

/* -- a row alone: slices beside each other, down all of k */
PC_INLINE void slices(int vectors, int64_t k, const float *x, const float *w, int64_t columns, const float *start, float *y) {
  vf16 acc[STREAMS];
#pragma GCC unroll 4
  for (int j = 0; j < vectors; j++)
    acc[j] = start ? vf_load_n(start + LANES * j, lanes_of(columns - LANES * j)) : vf_zero();
  for (int64_t l = 0; l < k; l++) {
    const vf16 a = vf_set1(x[l]);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) acc[j] = vf_fma(a, vf_load(w + LANES * (j * k + l)), acc[j]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < vectors; j++) vf_store_n(y + LANES * j, lanes_of(columns - LANES * j), acc[j]);
}

static void row_alone(const job *j, int64_t begin, int64_t end) {
  for (int64_t c = begin, step; c < end; c += step) {
    const float *start = j->start ? j->start + c : NULL, *w = j->w + c * j->k;
    step = end - c < STREAMS * LANES ? LANES : STREAMS * LANES;
    if (step == LANES) slices(1, j->k, j->x, w, end - c, start, j->y + c);
    else slices(STREAMS, j->k, j->x, w, end - c, start, j->y + c);
  }
  if (j->bias || j->activation) finish(j, 1, end - begin, begin, j->y + begin);
}

/* Units are tiles of columns, band after band of rows. */
static void run(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  if (j->m == 1) {
    row_alone(j, begin * j->width, smaller(end * j->width, j->n));
    return;
  }
  while (begin < end) {
    const int64_t band = begin / j->tiles, t = begin % j->tiles;
    const int64_t count = smaller(end - begin, j->tiles - t), panels = panels_of(j->m); /* bands are cut between them */
    cell(j, PC_TILE_ROWS * (panels * band / j->bands), smaller(PC_TILE_ROWS * (panels * (band + 1) / j->bands), j->m),
         t * j->width, smaller((t + count) * j->width, j->n));
    begin += count;
  }
}

/* k = 0: the chains end where they begin. */
static void no_sum(const job *j) {
  for (int64_t i = 0; i < j->m; i++) {
    float *y = j->y + i * j->ldy;
    if (j->start) memmove(y, j->start + i * j->ldstart, (size_t)j->n * sizeof *y);
    else memset(y, 0, (size_t)j->n * sizeof *y);
    finish(j, 1, j->n, 0, y);
  }
}

static int64_t bands_of(int64_t m, int64_t tiles) {
  const int64_t threads = pc_get_num_threads(), wanted = UNITS * threads / tiles, most = m / SHORTEST;
  if (threads == 1) return 1;
  int64_t bands = smaller(m / SHORT, BANDS * threads);
  if (bands < wanted) bands = smaller(wanted, most);
  return bands < 1 ? 1 : bands;
}

static int product(job j) {
  const int64_t m = j.m, k = j.k, n = j.n;
  if (m < 0 || k < 0 || n < 0 || j.ldx < k || j.ldy < n || !pc_is_activation(j.activation)) return PC_EINVAL;
  if (m == 0 || n == 0) return PC_OK;
  if (k == 0) {
    no_sum(&j);
    return PC_OK;
  }
  j.width = LANES * PC_TILE_VECTORS(smaller(m, PC_TILE_ROWS));
  j.tiles = (n + j.width - 1) / j.width;
  j.bands = bands_of(m, j.tiles);
  int status = PC_OK;
  j.status = &status;
  const double unit = (double)m / (double)j.bands * (double)j.width * (double)k;
  pc_for(j.tiles * j.bands, 1 + (int64_t)((double)GRAIN / unit), run, &j);
  return status;
}

int PC_FN(gemm_f32)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const float *w, const float *bias,
                    int32_t activation, float *y, int64_t ldy) {
  return product((job){.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .bias = bias, .activation = activation, .y = y, .ldy = ldy});
}

int PC_FN(gemm_add_f32)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const float *w, const float *start,
                        int64_t ldstart, float *y, int64_t ldy) {
  if (ldstart < n) return PC_EINVAL;
  return product((job){.m = m, .k = k, .n = n, .x = x, .ldx = ldx, .w = w, .start = start, .ldstart = ldstart, .y = y, .ldy = ldy});
}
