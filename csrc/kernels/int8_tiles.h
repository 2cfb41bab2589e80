/* Tiles of the 8-bit product, on packed weights, and the order in which they pass them: how a level multiplies codes is the
 * vocabulary's (dot_add).
 *
 * Of some rows of x, as many as L2 keeps, copied if they are not as the level multiplies them (signed codes made unsigned, or
 * both widened), tiles of rows x vectors run down all of k: a whole strip wide, or one slice where registers hold no more. All
 * panels of those rows pass a tile's weights, which stay in L1 unless k is large, before the next tile's, which they ask for
 * meanwhile: a panel is a sixth of what its tile of weights is. A panel alone reads a strip once, as one stream, and asks for
 * its next lines. Several share the next strip evenly, since one that asked for all of it would wait for memory, and the others
 * for nothing. Few of them take blocks of k that L1 keeps, where all weights come from beyond L2. */
#ifndef PC_INT8_TILES_H
#define PC_INT8_TILES_H

#include "heap.h"
#include "int8.h"

enum {
  MOST_CHAINS = 4,
  SPAN = BESIDE * LANES, /* columns of a strip */
  GAP = 64,              /* codes that keep rows out of each other's cache sets */
  ROOM = 9 << 16,        /* bytes of x that all tiles pass, which L2 keeps; */
  FEW_BYTES = 1 << 14,   /* so many wait on the stack, */
  TOGETHER = 256,        /* and no more rows than this */
  CACHED = 1 << 22,      /* bytes of weights, or of results, that caches keep from call to call */
  STREAMING = 4,         /* rows alone that ask even for those, */
  AHEAD = 4096,          /* so many bytes ahead of what they read; */
  FAR_AHEAD = 12288,     /* for those of memory; */
  NEAR_AHEAD = 512,      /* for one row whose weights are in L3, which the hardware follows worse than L2 and memory: */
  IN_L2 = 3 << 19,       /* these bytes of each thread are not, */
  IN_L3 = 3 << 22,       /* nor more than these */
  KEPT = 1 << 18,        /* bytes of a strip that L2 keeps while the next one comes, beside x */
  BLOCKED = 4,           /* panels that may share blocks of a strip; */
  BLOCKED_LONG = 8,      /* where L2 does not keep it; */
  BLOCKED_NARROW = 2,    /* where tiles are one slice wide, and not even L3 keeps all weights */
  ASKING = 4,            /* panels that ask for the next, where tiles are one slice wide */
  LONG = 1024            /* k beside which asking for results is little */
};

/* How wide tiles of many rows are; CPUs whose tiles are narrow and that have blocks lag behind a stream from memory. */
enum { WIDE = PC_DOT_VECTORS(PC_DOT_ROWS), LAGS = WIDE == 1 && PC_DOT_DEPTH > 0 };

_Static_assert(PC_DOT_ROWS <= 8, "run_tile has no such shapes");
#define OF(rows)                                                                                                       \
  ((PC_DOT_VECTORS(rows) == 1 || PC_DOT_VECTORS(rows) == BESIDE) && PC_DOT_CHAINS(rows) <= MOST_CHAINS &&                \
   PC_DOT_TURN(rows) % PC_DOT_CHAINS(rows) == 0 && PC_DOT_TURN(rows) % PC_DOT_PASSES(rows) == 0)
_Static_assert(OF(1) && OF(2) && OF(3) && OF(4) && OF(5) && OF(6) && OF(7) && OF(8), "a level's tiles do not fit strips");

/* A panel [rows][stride] against some slices of a strip; how far from them is what to ask for meanwhile, a run of as many bytes a
 * step as it reads, shared by `asking` panels, none if 0; or, of a tile narrower than a strip, a line every `pace` bytes; and what it
 * writes, sums [rows][ld], or, where it ends in registers, the job and where its outputs begin. */
typedef struct {
  int64_t groups, stride, soon, pace, ld;
  int asking;
  const pc_code *panel;
  const int8_t *w;
  int32_t *sums;
  int adds;             /* to the sums there of earlier blocks of k */
  const int8_job *ends; /* or NULL */
  int64_t row, column;
  const int32_t *zero; /* of each row, or NULL */
} tile_job;

/* A line of each slice times its groups of codes, some of the accumulators' parts. What is less waits in registers for what
 * is more. */
PC_INLINE void add_lines(int rows, int vectors, int first, int parts, const pc_code *panel, int64_t stride, const int8_t *w,
                         dot16 acc[][BESIDE]) {
  if (rows <= vectors * parts) {
    dot_x a[PC_DOT_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) a[i] = dot_set1(panel + i * stride);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++)
#pragma GCC unroll 4
      for (int p = 0; p < parts; p++) {
        const dot_w b = dot_load(w + LINE * j, first + p);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) acc[i][j] = dot_add(acc[i][j], first + p, 1, a[i], &b);
      }
    return;
  }
  dot_w b[BESIDE][PC_DOT_PARTS];
#pragma GCC unroll 4
  for (int j = 0; j < vectors; j++)
#pragma GCC unroll 4
    for (int p = 0; p < parts; p++) b[j][p] = dot_load(w + LINE * j, first + p);
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
    const dot_x a = dot_set1(panel + i * stride);
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) acc[i][j] = dot_add(acc[i][j], first, parts, a, b[j]);
  }
}

/* All groups of k. They take `chains` accumulators in turn, where one would wait for itself. The passes of a tile ask for a part
 * of the lines each, evenly. What a whole tile asks for is a constant of the loop, which has no register for it. */
PC_INLINE void all_groups(int rows, int vectors, int asking, const tile_job *of, dot16 acc[][PC_DOT_ROWS][BESIDE]) {
  const int64_t groups = of->groups, stride = of->stride, soon = of->soon;
  const int64_t pace = vectors < BESIDE ? of->pace : asking ? STEP / asking : 0;
  const int lines = vectors < BESIDE ? 1 : (int)(pace + LINE - 1) / LINE;
  const int chains = PC_DOT_CHAINS(rows), turn = PC_DOT_TURN(rows);
  const pc_code *panel = of->panel;
  const int8_t *w = of->w;
  const int passes = PC_DOT_PASSES(rows), parts = PC_DOT_PARTS / passes;
#pragma GCC unroll 2
  for (int pass = 0; pass < passes; pass++) {
    int64_t g = 0;
    for (; g + turn <= groups; g += turn) {
#pragma GCC unroll 4
      for (int t = 0; t < turn; t++) {
        if (t % passes == 0)
#pragma GCC unroll 4
          for (int i = 0; i < lines; i++) __builtin_prefetch(w + pace * (g + t + pass) + soon + LINE * i);
        add_lines(rows, vectors, pass * parts, parts, panel + GROUP * (g + t), stride, w + STEP * (g + t), acc[t % chains]);
        if (turn > chains) __asm__ volatile("" ::: "memory"); /* GCC 12 would load what follows before, and spill */
      }
    }
    if (turn > 1)
      for (; g < groups; g++) add_lines(rows, vectors, pass * parts, parts, panel + GROUP * g, stride, w + STEP * g, acc[0]);
  }
}

PC_INLINE void tile(int rows, int vectors, int ends, const tile_job *of) {
  const int chains = PC_DOT_CHAINS(rows);
  dot16 acc[MOST_CHAINS][PC_DOT_ROWS][BESIDE];
#pragma GCC unroll 4
  for (int c = 0; c < chains; c++)
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) acc[c][i][j] = dot_zero();
  if (vectors < BESIDE || of->asking == 0) all_groups(rows, vectors, 0, of, acc);
  else if (of->asking == 1) all_groups(rows, vectors, 1, of, acc);
  else if (of->asking == 2) all_groups(rows, vectors, 2, of, acc);
  else all_groups(rows, vectors, 3, of, acc);
  /* What follows needs registers too: brought before the loop, it would take them from the accumulators, and so would its
   * copies of them that are not held apart. */
  __asm__ volatile("" ::: "memory");
  vi16 sums[PC_DOT_ROWS][BESIDE];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) {
      sums[i][j] = vi_held(dot_sum(acc[0][i][j]));
#pragma GCC unroll 4
      for (int c = 1; c < chains; c++) sums[i][j] = vi_add(sums[i][j], dot_sum(acc[c][i][j]));
    }
  if (PC_DOT_DEPTH > 0 && of->adds)
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) sums[i][j] = vi_add(sums[i][j], vi_load(of->sums + i * of->ld + LANES * j));
  if (ends) {
    finish_tile(of->ends, rows, vectors, sums, of->row, of->column, of->zero);
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) vi_store(of->sums + i * of->ld + LANES * j, sums[i][j]);
}

/* Shapes that can end in registers: those that most of a product is made of. (One and two rows were slower.) */
PC_INLINE int may_end(int rows, int vectors) {
  return rows > 2 && (vectors == PC_DOT_VECTORS(rows) || vectors == PC_DOT_VECTORS(PC_DOT_ROWS));
}

/* Shapes that the level's registers cannot hold are compiled away. Not inlined: loops need the registers for addresses. */
__attribute__((noinline)) static void run_tile(int rows, int vectors, const tile_job *of) {
#define SHAPE(r, v)                                                     \
  case (r) * 4 + (v):                                                   \
    if ((r) > PC_DOT_ROWS || (v) > PC_DOT_VECTORS(r)) break;            \
    if (may_end(r, v) && of->ends) tile(r, v, 1, of);                   \
    else tile(r, v, 0, of);                                             \
    break;
#define SHAPES(r) SHAPE(r, 1) SHAPE(r, 2) SHAPE(r, 3)
  switch (rows * 4 + vectors) {
    SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) SHAPES(5) SHAPES(6) SHAPES(7) SHAPES(8)
    default: __builtin_unreachable();
  }
}

/* Codes [0, length) of rows of x, as the level multiplies them, to [rows][stride]; zeros up to a whole group. */
static void copy_rows(const int8_job *j, int64_t rows, int64_t row, int64_t l0, int64_t length, pc_code *to, int64_t stride) {
  for (int64_t i = 0; i < rows; i++, to += stride) {
    const uint8_t *from = j->x + (row + i) * j->ldx + l0;
    if (j->is_signed)
      for (int64_t l = 0; l < length; l++) to[l] = (pc_code)((int8_t)from[l] + PC_DOT_MOVE);
    else
      for (int64_t l = 0; l < length; l++) to[l] = from[l];
    for (int64_t l = length; l % GROUP; l++) to[l] = 0;
  }
}

static int32_t moved(const int8_job *j) { return j->is_signed ? PC_DOT_MOVE : 0; }

/* Whether tiles can read x where it lies: as it is multiplied, and in whole groups. */
static int needs_no_copy(const int8_job *j) { return sizeof(pc_code) == 1 && !moved(j) && j->k % GROUP == 0; }

/* Room for a row of so many codes, and how far apart copied rows are. */
static int64_t stride_of(int64_t length) { return (length + GAP - 1) / GAP * GAP + GAP; }

/* Slices from `slice` on that a tile can take: at most so many, and of one strip. */
static int64_t of_strip(int64_t slice, int64_t widest) { return smaller(widest, BESIDE - slice % BESIDE); }

/* Panel p of so many asks for its part of `bytes` that lie `far` from its weights, if it is among the first. (Of tiles narrower
 * than a strip, which are few, for some lines of it.) */
PC_INLINE void ask_for_part(int64_t p, int64_t panels, int64_t far, int64_t bytes, tile_job *of) {
  const int64_t parts = smaller(panels, BESIDE);
  const int asks = p < parts;
  of->asking = asks ? (int)parts : 0;
  of->pace = STEP / parts;
  of->soon = asks ? far + bytes * p / parts : 0;
}

/* What panel p of so many asks for meanwhile. A whole strip's only panel asks for lines ahead of itself. (From caches, a line more
 * that is asked for costs more than it gains, except for a row alone on CPUs that lag behind a stream.) Otherwise panels share
 * the next strip evenly, each a run of lines of its own, and so do the slices of a strip where tiles are one wide: one panel
 * that asked for all would wait for memory, and the others for nothing. */
static void ask(const int8_job *j, int64_t p, int64_t panels, int64_t slice, int height, int widest, int64_t end, tile_job *of) {
  const int64_t strip = groups_of(j->k) * STEP, next = slice / BESIDE + 1;
  const int64_t far = slice_at(j->k, next * BESIDE) - slice_at(j->k, slice);
  of->pace = STEP;
  of->asking = 0;
  of->soon = 0;
  if (widest == BESIDE && panels == 1) {
    const int64_t several = j->k * j->n > CACHED ? FAR_AHEAD : height <= STREAMING ? AHEAD : 0;
    of->soon = height > 1 || LAGS ? several : j->own > IN_L2 && j->own <= IN_L3 ? NEAR_AHEAD : 0;
    of->asking = of->soon > 0;
  } else if (next * SPAN >= end) {
    return;
  } else if (widest == BESIDE) {
    ask_for_part(p, panels, far, strip, of);
  } else if (p < ASKING) {
    const int64_t parts = smaller(panels, ASKING), passes = BESIDE * parts;
    of->pace = STEP / passes;
    of->soon = far + strip * (slice % BESIDE * parts + p) / passes;
  }
}

/* Asks for the lines of y that a tile is going to write, which come from beyond L2. */
PC_INLINE void ask_for_results(const int8_job *j, int rows, int64_t row, int64_t column, int vectors) {
  const int64_t size = size_of(j->to), bytes = vectors * LANES * size;
  const char *y = (const char *)j->y + (row * j->ldy + column) * size;
  for (int i = 0; i < rows; i++, y += j->ldy * size)
    for (int64_t b = 0; b <= bytes; b += LINE) __builtin_prefetch(y + b, 0, 2);
}

/* Rows [row, row + rows) of x, which lie at `codes` [rows][stride], against the columns [begin, end). */
static void columns_by_rows(const int8_job *j, int64_t rows, int64_t row, const pc_code *codes, int64_t stride, int64_t begin,
                            int64_t end) {
  int32_t zero[TOGETHER], shift[TOGETHER], sums[PC_DOT_ROWS * BESIDE * LANES];
  const int64_t panels = (rows + PC_DOT_ROWS - 1) / PC_DOT_ROWS;
  const int owed = j->x_zero || moved(j), widest = PC_DOT_VECTORS((rows + panels - 1) / panels);
  const int plain = j->to == TO_I32 && !j->adds && !owed && !j->w_zero;
  const int light = ends_lightly(j), asks_results = panels > 1 && j->k >= LONG && j->m * j->n * size_of(j->to) > CACHED;
  row_debts(j, (int)rows, row, moved(j), zero, shift);
  tile_job of = {.groups = groups_of(j->k), .stride = stride};
  int vectors;
  for (int64_t c = begin; c < end; c += LANES * vectors) {
    const int64_t left = (end - c + LANES - 1) / LANES, slice = c / LANES;
    vectors = (int)smaller(left, of_strip(slice, widest));
    const int whole = c + LANES * vectors <= end, direct = plain && whole;
    of.w = j->w + slice_at(j->k, slice);
    of.ld = direct ? j->ldy : LANES * vectors;
    of.column = c;
    int height; /* equal, give or take a row */
    for (int64_t p = 0, first = 0; p < panels; p++, first += height) {
      height = (int)(rows / panels) + (p < rows % panels);
      const int ends = light && whole && may_end(height, vectors);
      of.row = row + first;
      of.panel = codes + first * stride;
      of.sums = direct ? (int32_t *)j->y + of.row * j->ldy + c : sums;
      of.ends = ends ? j : NULL;
      of.zero = owed ? zero + first : NULL;
      ask(j, p, panels, slice, height, widest, end, &of);
      if (asks_results) ask_for_results(j, height, of.row, c, vectors);
      run_tile(height, vectors, &of);
      if (!direct && !ends)
        finish(j, height, smaller(end - c, LANES * vectors), of.row, c, of.zero, j->w_zero ? shift + first : NULL, sums, of.ld);
    }
  }
}

/* Whether so few rows take the weights by blocks: where tiles are too narrow to read a strip as one stream, and the CPU lags
 * behind three; and where some panels would each read weights from L2 that came there from beyond it. */
static int by_blocks(const int8_job *j, int64_t rows) {
  const int64_t panels = (rows + PC_DOT_ROWS - 1) / PC_DOT_ROWS;
  if (PC_DOT_DEPTH == 0 || rows == 1) return 0;
  if (LAGS) return panels <= BLOCKED_NARROW && j->k * j->n > IN_L3;
  return panels > 1 && panels <= (groups_of(j->k) * STEP > KEPT ? BLOCKED_LONG : BLOCKED) && j->own > IN_L2;
}

/* The same as columns_by_rows, a block of k of a whole strip at a time, which L1 keeps until it has met each panel: as one tile, or
 * each slice by itself. Narrow tiles ask for one of the lines of the next block every so many tiles; wide ones share it. */
static void columns_by_blocks(const int8_job *j, int64_t rows, int64_t row, const pc_code *codes, int64_t stride, int64_t begin,
                              int64_t end) {
  enum { HIGHEST = BLOCKED_LONG * PC_DOT_ROWS, DEPTH = PC_DOT_DEPTH };
  int32_t zero[HIGHEST], shift[HIGHEST], sums[HIGHEST * SPAN];
  const int64_t panels = (rows + PC_DOT_ROWS - 1) / PC_DOT_ROWS, groups = groups_of(j->k);
  const int owed = j->x_zero || moved(j), light = ends_lightly(j);
  row_debts(j, (int)rows, row, moved(j), zero, shift);
  tile_job of = {.stride = stride, .pace = STEP, .ld = SPAN};
  for (int64_t c = begin, width; c < end; c += width) {
    const int64_t slices = of_strip(c / LANES, smaller((end - c + LANES - 1) / LANES, BESIDE)), across = WIDE == 1 ? slices : 1;
    const int vectors = WIDE == 1 ? 1 : (int)slices;
    int ends = 0;
    width = smaller(LANES * slices, end - c);
    for (int64_t g = 0; g < groups; g += DEPTH) {
      of.groups = smaller(groups - g, DEPTH);
      of.adds = g > 0;
      ends = WIDE > 1 && light && width == SPAN && g + DEPTH >= groups && may_end((int)(rows / panels), vectors);
      for (int64_t t = 0; t < panels * across; t++) {
        const int64_t p = t / across, s = t % across, first = rows * p / panels;
        of.panel = codes + first * stride + g * GROUP;
        of.w = j->w + slice_at(j->k, c / LANES + s) + g * STEP;
        of.sums = sums + first * SPAN + LANES * s;
        of.ends = ends ? j : NULL;
        of.row = row + first;
        of.column = c;
        of.zero = owed ? zero + first : NULL;
        if (WIDE == 1) of.soon = t % panels ? 0 : DEPTH * STEP + LINE * (t / panels - s);
        else ask_for_part(p, panels, of.groups * STEP, of.groups * STEP, &of);
        run_tile((int)(rows * (p + 1) / panels - first), vectors, &of);
      }
    }
    if (!ends) finish(j, (int)rows, width, row, c, owed ? zero : NULL, j->w_zero ? shift : NULL, sums, SPAN);
  }
}

/* Rows [row0, row1) x columns [begin, end). */
static void part_by_rows(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  _Alignas(64) pc_code few[FEW_BYTES / sizeof(pc_code)];
  const int in_place = needs_no_copy(j);
  const int64_t stride = in_place ? j->ldx : stride_of(j->k), size = stride_of(j->k) * (int64_t)sizeof(pc_code);
  const int64_t room = ROOM / size / PC_DOT_ROWS * PC_DOT_ROWS;
  const int64_t most = smaller(row1 - row0, room < PC_DOT_ROWS ? PC_DOT_ROWS : smaller(room, TOGETHER));
  void *found = NULL;
  pc_code *const copy = in_place ? NULL : most * size <= FEW_BYTES ? few : pc_heap((size_t)(most * size), &found);
  if (!copy && !in_place) {
    fail(j, PC_ENOMEM);
    return;
  }
  for (int64_t row = row0; row < row1; row += most) {
    const int64_t rows = smaller(most, row1 - row);
    if (copy) copy_rows(j, rows, row, 0, j->k, copy, stride);
    const pc_code *codes = copy ? copy : (const pc_code *)(j->x + row * stride);
    if (by_blocks(j, rows)) columns_by_blocks(j, rows, row, codes, stride, begin, end);
    else columns_by_rows(j, rows, row, codes, stride, begin, end);
  }
  free(found);
}
#endif
