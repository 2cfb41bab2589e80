/* The 8-bit product on AMX tiles: C [16][16] int32 += A [16][64] codes * B [16][16][4] codes. A is rows of x
 * where they are; 16 lines of a slice are a B. Sums of integers are exact, so the bits are those of every level.
 *
 * Four C tiles are in flight: 2 x 2 where there are rows enough, so that each A and B loaded serves two products, 1 x 4
 * below. The epilogue of a block waits for the products of the next, a few rows for each step of theirs: it runs on the
 * vector units while the tile unit works. Limit: the tile unit where operands come from L1 (64 cycles a step of 2 x 2 against 32
 * for its loads); L2, where the weights come from, and x where it and they do not fit L1 together; the lines of y, which take
 * about as long as the products where L2 does not hold them; the bandwidth of the weights for m <= 16. */
#include "int8.h"

#ifdef __AMX_INT8__
#include <immintrin.h>
#include <string.h>

enum {
  SIDE = 16,              /* rows of a tile, and its columns of int32 */
  DEPTH = 64,             /* l in a tile */
  TILE = SIDE * DEPTH,    /* bytes; */
  NEXT = SIDE * STEP,     /* from a tile of a slice to its next */
  HIGH = 2 * SIDE,        /* rows of the tallest panel */
  MANY = 8,               /* rows of an epilogue that are worth a call, */
  PAIR = 2,               /* slices that it finishes in registers together */
  CELL = 1 << 19,         /* bytes of weights in a cell, in L2; up to twice that where x, which is read again for each cell, is
                             large too: CPUs that have AMX have 2 MB */
  CELL_COLUMNS = 32 * LANES /* at most */
};

/* The layout that LDTILECFG reads (Intel SDM, volume 1, chapter 18). */
typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} configuration;

/* Tiles 0-3 are C, 4 and 5 A, 6 and 7 B, for panels of so many rows; up to SIDE C is 1 x 4 and 5 to 7 are B. Both halves of a
 * tall panel start SIDE rows apart in memory, so the upper one is full. `now`: the rows that tiles are for already, since
 * to configure them anew takes a twentieth of a panel's time. */
static void configure(int rows, int *now) {
  const int upper = rows > SIDE ? SIDE : rows, lower = rows - upper;
  configuration c = {.palette = 1};
  if (rows == *now) return;
  *now = rows;
  for (int t = 0; t < 8; t++) {
    c.bytes[t] = DEPTH;
    c.rows[t] = SIDE;
  }
  c.rows[0] = c.rows[1] = c.rows[4] = (uint8_t)upper;
  c.rows[2] = c.rows[3] = (uint8_t)(lower ? lower : upper);
  if (lower) c.rows[5] = (uint8_t)lower;
  __asm__ volatile("" : : "m"(c)); /* the intrinsic of GCC 12 says that it reads eight bytes of it */
  _tile_loadconfig(&c);
}

/* Operands of one block: `steps` whole tiles deep, then one of `x_tail` and `w_tail` if that is given. */
typedef struct {
  int64_t steps;
  const uint8_t *x;
  int64_t ldx;
  const int8_t *w[4];
  const uint8_t *x_tail; /* [rows][DEPTH], or NULL */
  const int8_t *w_tail[4]; /* [SIDE][DEPTH] */
} operands;

/* Statements, since GCC's intrinsics are: c += a*b. Weights pass by as streams, whose lines L1 gives up before those of x. */
#define DOT(c, a, b)                    \
  do {                                  \
    if (is_signed) _tile_dpbssd(c, a, b); \
    else _tile_dpbusd(c, a, b);         \
  } while (0)
#define STEP_2X2(xp, ld, w0, w1, line)                            \
  do {                                                            \
    _tile_stream_loadd(6, w0, line);                              \
    _tile_loadd(4, xp, ld);                                       \
    DOT(0, 4, 6);                                                 \
    _tile_stream_loadd(7, w1, line);                              \
    DOT(1, 4, 7);                                                 \
    _tile_loadd(5, (xp) + SIDE * (ld), ld);                       \
    DOT(2, 5, 6);                                                 \
    DOT(3, 5, 7);                                                 \
  } while (0)
#define STEP_1X4(xp, ld, w0, w1, w2, w3, line)                    \
  do {                                                            \
    _tile_loadd(4, xp, ld);                                       \
    _tile_stream_loadd(5, w0, line);                              \
    DOT(0, 4, 5);                                                 \
    _tile_stream_loadd(6, w1, line);                              \
    DOT(1, 4, 6);                                                 \
    _tile_stream_loadd(7, w2, line);                              \
    DOT(2, 4, 7);                                                 \
    _tile_stream_loadd(5, w3, line);                              \
    DOT(3, 4, 5);                                                 \
  } while (0)

/* A block whose sums wait for their epilogue. */
typedef struct {
  const int8_job *j;
  int rows, done;
  int64_t row, column, width, ld;
  const int32_t *zero, *shift, *sums;
} epilogue;

/* MANY rows of two slices, in registers. */
PC_INLINE void finish_pair(const epilogue *e, int row, int64_t c) {
  vi16 v[MANY][BESIDE];
#pragma GCC unroll 8
  for (int i = 0; i < MANY; i++)
#pragma GCC unroll 2
    for (int t = 0; t < PAIR; t++) v[i][t] = vi_load(e->sums + (row + i) * e->ld + c + LANES * t);
  finish_tile(e->j, MANY, PAIR, v, e->row + row, e->column + c, e->zero ? e->zero + row : NULL);
}

/* Not inlined: the loop of products needs its registers for addresses. */
__attribute__((noinline)) static void finish_rows(const epilogue *e, int row, int end) {
  const int in_registers = ends_lightly(e->j) && e->width == e->ld;
  for (; in_registers && row + MANY <= end; row += MANY)
    for (int64_t c = 0; c < e->width; c += PAIR * LANES) finish_pair(e, row, c);
  if (row < end)
    finish(e->j, end - row, e->width, e->row + row, e->column, e->zero ? e->zero + row : NULL, e->shift ? e->shift + row : NULL,
           e->sums + row * e->ld, e->ld);
}

/* The epilogue of rows up to `until`, or a few less. */
PC_INLINE void finish_until(epilogue *e, int64_t until) {
  const int end = until < e->rows ? (int)until / MANY * MANY : e->rows;
  if (end <= e->done) return;
  finish_rows(e, e->done, end);
  e->done = end;
}

/* The weights of the next cell, brought to L2 a few lines a step: else only the first panel would wait for memory. */
typedef struct {
  const int8_t *w, *end;
  int64_t each; /* bytes a step */
} stream;

PC_INLINE void fetch(stream *s) {
  for (const int8_t *stop = s->w + smaller(s->each, s->end - s->w); s->w < stop; s->w += DEPTH) __builtin_prefetch(s->w, 0, 2);
}

/* sums [HIGH][2*SIDE] */
PC_INLINE void block_2x2(int is_signed, const operands *o, epilogue *before, stream *soon, int32_t *sums) {
  const uint8_t *x = o->x;
  const int8_t *w0 = o->w[0], *w1 = o->w[1];
  const int64_t ldx = o->ldx;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t each = before->rows / (o->steps + 1) + 1;
  for (int64_t s = 1; s <= o->steps; s++, x += DEPTH, w0 += NEXT, w1 += NEXT) {
    STEP_2X2(x, ldx, w0, w1, STEP);
    fetch(soon);
    finish_until(before, s * each);
  }
  if (o->x_tail) STEP_2X2(o->x_tail, DEPTH, o->w_tail[0], o->w_tail[1], DEPTH);
  enum { LD = 2 * SIDE };
  _tile_stored(0, sums, LD * 4);
  _tile_stored(1, sums + SIDE, LD * 4);
  _tile_stored(2, sums + SIDE * LD, LD * 4);
  _tile_stored(3, sums + SIDE * LD + SIDE, LD * 4);
}

/* sums [SIDE][4*SIDE] */
PC_INLINE void block_1x4(int is_signed, const operands *o, epilogue *before, stream *soon, int32_t *sums) {
  const uint8_t *x = o->x;
  const int8_t *w0 = o->w[0], *w1 = o->w[1], *w2 = o->w[2], *w3 = o->w[3];
  const int64_t ldx = o->ldx;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t each = before->rows / (o->steps + 1) + 1;
  for (int64_t s = 1; s <= o->steps; s++, x += DEPTH, w0 += NEXT, w1 += NEXT, w2 += NEXT, w3 += NEXT) {
    STEP_1X4(x, ldx, w0, w1, w2, w3, STEP);
    fetch(soon);
    finish_until(before, s * each);
  }
  if (o->x_tail) STEP_1X4(o->x_tail, DEPTH, o->w_tail[0], o->w_tail[1], o->w_tail[2], o->w_tail[3], DEPTH);
  enum { LD = 4 * SIDE };
  _tile_stored(0, sums, LD * 4);
  _tile_stored(1, sums + SIDE, LD * 4);
  _tile_stored(2, sums + 2 * SIDE, LD * 4);
  _tile_stored(3, sums + 3 * SIDE, LD * 4);
}

/* One panel of up to HIGH rows, of those above `bottom`, against the columns [begin, end). */
static void panel(const int8_job *j, int64_t row, int64_t bottom, int64_t begin, int64_t end, stream *soon, int *now) {
  _Alignas(64) int32_t sums[2][HIGH * 2 * SIDE];
  _Alignas(64) uint8_t x_tail[HIGH * DEPTH];
  _Alignas(64) int8_t w_tail[4][TILE];
  int32_t zero[HIGH], shift[HIGH];
  const int64_t steps = j->k / DEPTH, left = j->k - steps * DEPTH;
  const int rows = (int)smaller(bottom - row, HIGH), tall = rows > SIDE, across = tall ? 2 : 4;
  const uint8_t *x = j->x + row * j->ldx;
  operands o = {.steps = steps, .x = x, .ldx = j->ldx, .x_tail = left ? x_tail : NULL};
  configure(rows, now);
  row_debts(j, rows, row, 0, zero, shift);
  if (left) {
    memset(x_tail, 0, sizeof x_tail);
    for (int i = 0; i < rows; i++) memcpy(x_tail + i * DEPTH, x + i * j->ldx + steps * DEPTH, (size_t)left);
    memset(w_tail, 0, sizeof w_tail);
  }
  epilogue e = {.j = j, .row = row, .ld = SIDE * across, .zero = j->x_zero ? zero : NULL, .shift = j->w_zero ? shift : NULL};
  int32_t *to = sums[0];
  for (int64_t c = begin; c < end; c += SIDE * across) {
    const int64_t width = smaller(end - c, SIDE * across), slices = (width + SIDE - 1) / SIDE;
    for (int s = 0; s < across; s++) {
      o.w[s] = j->w + slice_at(j->k, c / SIDE + smaller(s, slices - 1)); /* past the last slice: it again, and unused */
      for (int64_t g = 0; g < groups_of(left); g++) memcpy(w_tail[s] + LINE * g, o.w[s] + steps * NEXT + STEP * g, LINE);
      o.w_tail[s] = w_tail[s];
    }
    to = to == sums[0] ? sums[1] : sums[0];
    if (tall && j->is_signed) block_2x2(1, &o, &e, soon, to);
    else if (tall) block_2x2(0, &o, &e, soon, to);
    else if (j->is_signed) block_1x4(1, &o, &e, soon, to);
    else block_1x4(0, &o, &e, soon, to);
    finish_until(&e, e.rows);
    e.rows = rows;
    e.done = 0;
    e.column = c;
    e.width = width;
    e.sums = to;
  }
  finish_until(&e, rows);
}

/* The next cell of the thread ends at column `next`. */
static void cell(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end, int64_t next, int *now) {
  const int64_t panels = (row1 - row0 + HIGH - 1) / HIGH;
  const int64_t steps = panels * ((end - begin + 2 * SIDE - 1) / (2 * SIDE)) * (j->k / DEPTH);
  const int64_t strip = BESIDE * SIDE; /* whole ones: of those that cells share some lines are asked for twice */
  const int8_t *first = j->w + slice_at(j->k, end / strip * BESIDE), *last = j->w + slice_at(j->k, (next + strip - 1) / strip * BESIDE);
  stream soon = {.w = first, .end = panels > 1 && next > end ? last : first,
                 .each = steps ? ((last - first) / steps / DEPTH + 1) * DEPTH : 0};
  for (int64_t row = row0; row < row1; row += HIGH) panel(j, row, row1, begin, end, &soon, now);
}

void PC_FN(int8_amx_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  const int64_t bytes = j->m * j->k > CELL ? smaller(j->m * j->k, 2 * CELL) : CELL;
  const int64_t most = smaller(bytes / (j->k + 1), CELL_COLUMNS) / j->unit, units_most = most > 0 ? most : 1;
  const int64_t units = (end - begin + j->unit - 1) / j->unit, cells = (units + units_most - 1) / units_most;
  int now = 0;
  for (int64_t i = 0; i < cells; i++) {
    int64_t ends[3]; /* of the cell before, of this, and of the next */
    for (int e = 0; e < 3; e++) ends[e] = smaller(begin + j->unit * (units * smaller(i + e, cells) / cells), end);
    cell(j, row0, row1, ends[0], ends[1], ends[2], &now);
  }
  _tile_release(); /* the system need not save tiles that are in their initial state */
}
#endif
