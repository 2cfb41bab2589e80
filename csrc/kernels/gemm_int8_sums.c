/* The 8-bit product of many rows on levels that have PC_DOT_SUMS: widened codes take four instructions for 32 products, two of
 * which multiply, and CPUs have fewer units that multiply than that add. Two ways to multiply less, exact modulo 2^32, where the
 * order of additions does not matter: results have the bits of every other order.
 *
 * - The inner product of S. Winograd ("A New Algorithm for Inner Product", IEEE Transactions on Computers C-17, 1968),
 *     x0*w0 + x1*w1  =  (x0 + w1) * (x1 + w0)  -  x0*x1  -  w0*w1,
 *   makes two products one, since what it takes off is a row's or a column's own: four instructions, one of which multiplies.
 * - The product of 2 x 2 blocks of V. Strassen ("Gaussian Elimination is not Optimal", Numerische Mathematik 13, 1969) takes
 *   seven products of blocks in place of eight, where rows are so many that adding blocks counts little.
 *
 * Nothing leaves 16 bits: |x| <= 255 and |w| <= 128, of two blocks twice as much, so that x + w is at most 766.
 *
 * Threads share parts (gemm_int8.c). Of a part, codes of x are widened first; then weights of a slice, or of the blocks of two, a
 * step of k at a time, for all panels of rows, which ask for the next ones meanwhile.
 * Limit: instructions; AMD's CPUs from Zen 3 on do four of 32 bytes a cycle, of which two may multiply. */
#include <string.h>

#include "vocabulary.h"

#ifdef PC_DOT_SUMS
#include "heap.h"
#include "int8.h"

enum {
  HEIGHT = 4,          /* rows of a panel: as many as registers hold, */
  LOWEST = 3,          /* or one less: six rows or more are made of these */
  DEPTH = 512 / GROUP, /* groups of a block, at most: 16 KB of widened weights, which L1 keeps beside what they meet */
  TOGETHER = 256,      /* rows that share widened weights, */
  ROOM = 1 << 24,      /* if their codes take no more bytes than this */
  ASKING = 2,          /* tiles that ask for a block of the next weights, a line of each two groups */
  MANY = 48,           /* rows that pay for adding blocks */
  WORDS = GROUP / 2,   /* of a group: two codes as 16 bits each */
  BLOCKS = 4,          /* 0 1 / 2 3, of x, w and y */
  PRODUCTS = 7,        /* of such blocks */
  MOVE = 128           /* of signed codes, which become unsigned */
};

/* One block; or, where sign is not 0, that and another, added or taken off. */
typedef struct {
  int at, sign, other;
} blocks;

/* A product of blocks of x and w, and the blocks of y that it is added to, or taken off: Strassen's I to VII. */
typedef struct {
  blocks x, w, y;
} product;

static const product WHOLE[] = {{{0, 0, 0}, {0, 0, 0}, {0, 0, 0}}};
static const product SEVEN[PRODUCTS] = {
  {{0, 1, 3}, {0, 1, 3}, {0, 1, 3}},  {{2, 1, 3}, {0, 0, 0}, {2, -1, 3}}, {{0, 0, 0}, {1, -1, 3}, {1, 1, 3}},
  {{3, 0, 0}, {2, -1, 0}, {0, 1, 2}}, {{0, 1, 1}, {3, 0, 0}, {1, -1, 0}}, {{2, -1, 0}, {0, 1, 1}, {3, 0, 0}},
  {{1, -1, 3}, {2, 1, 3}, {0, 0, 0}}};

/* Rows of x widened, and how they meet weights: in one piece, or cut in two along rows, k and columns, slice by slice. */
typedef struct {
  const int8_job *j;
  int cut, count; /* 1, or 2; of products */
  const product *products;
  int64_t row, rows, high;         /* rows of a block: cut * high >= rows */
  int64_t panels, low, taller;     /* of a block's rows, low of each, and one more of the first `taller` */
  int64_t groups, steps, deep;     /* of k; and groups of a step's blocks, at most */
  int32_t *x;                      /* [steps][count][high][deep][WORDS], by panels, then by groups: x0 x2, x1 x3 of each row */
  int32_t *owed;                   /* sums of x0*x1 [steps][count][high] */
} plan;

/* Where the groups of a step begin, the groups of each block of it, and where block b's begin: those of an odd number meet in one
 * group, which is zero in the second block of x. */
static int64_t start_of(const plan *p, int64_t step) { return p->groups * step / p->steps; }
static int64_t depth_of(const plan *p, int64_t step) { return (start_of(p, step + 1) - start_of(p, step) + p->cut - 1) / p->cut; }
static int64_t block_at(const plan *p, int64_t step, int second) {
  return second ? start_of(p, step + 1) - depth_of(p, step) : start_of(p, step);
}

/* Where the rows of x begin that product n of a step takes. */
static int64_t rows_at(const plan *p, int64_t step, int n) { return (step * p->count + n) * p->high; }

static int64_t height_of(const plan *p, int64_t panel) { return p->low + (panel < p->taller); }

/* Codes of some groups of a row, at most 16, from group g on, unsigned; zeros of rows, groups and k that are not there. */
static vi16 codes_at(const plan *p, int64_t row, int64_t g, int64_t some) {
  const int8_job *j = p->j;
  if (row >= p->rows) return vi_zero();
  const int64_t left = smaller(j->k - GROUP * g, GROUP * some);
  const uint8_t *x = j->x + (p->row + row) * j->ldx + GROUP * g;
  uint8_t codes[LINE];
  if (left < LINE) {
    memset(codes, j->is_signed ? MOVE : 0, sizeof codes); /* what becomes zero */
    memcpy(codes, x, (size_t)left);
    x = codes;
  }
  return vi_xor(vi_load(x), vi_set1(j->is_signed ? (int32_t)0x80808080 : 0));
}

/* a, and b added or taken off where sign is not 0 */
PC_INLINE vi16 combined(vi16 a, int sign, vi16 b) {
  return sign == 0 ? a : sign > 0 ? dot_add_halves(a, b) : dot_sub_halves(a, b);
}

/* Row i of each block of x, of the panel that begins with row `first`. */
static void widen_row(const plan *p, int64_t step, int64_t i, int64_t first, int64_t height) {
  const int64_t groups = depth_of(p, step), begin[2] = {block_at(p, step, 0), block_at(p, step, 1)};
  const int meet = p->cut == 2 && begin[1] < begin[0] + groups;
  const vi16 low = vi_set1(0x00ff00ff);
  vi16 owed[PRODUCTS];
  for (int n = 0; n < p->count; n++) owed[n] = vi_zero();
  for (int64_t g = 0; g < groups; g += LANES) {
    const int64_t some = smaller(LANES, groups - g);
    vi16 even[BLOCKS], odd[BLOCKS];
    for (int b = 0; b < p->cut * p->cut; b++) {
      vi16 codes = codes_at(p, i + b / 2 * p->high, begin[b % 2] + g, some);
      if (meet && b % 2 && g == 0) codes = vi_select(vm_first(1), vi_zero(), codes);
      even[b] = vi_and(codes, low);
      odd[b] = vi_and(vi_shr(codes, 8), low);
    }
    for (int n = 0; n < p->count; n++) {
      const blocks of = p->products[n].x;
      const vi16 a = combined(even[of.at], of.sign, even[of.other]), b = combined(odd[of.at], of.sign, odd[of.other]);
      int32_t *to = p->x + ((rows_at(p, step, n) + first) * p->deep + g * height + i - first) * WORDS;
      owed[n] = dot_add_products(owed[n], a, b);
      dot_store_beside(to, height * WORDS, some, a, b);
    }
  }
  for (int n = 0; n < p->count; n++) p->owed[rows_at(p, step, n) + i] = vi_fold_add(owed[n]);
}

static void widen_rows(const plan *p) {
  for (int64_t step = 0; step < p->steps; step++)
    for (int64_t panel = 0, first = 0, height; panel < p->panels; panel++, first += height) {
      height = height_of(p, panel);
      for (int64_t i = first; i < first + height; i++) widen_row(p, step, i, first, height);
    }
}

/* Weights that one product takes: of each group the even and the odd ones; and the sums of w0*w1. */
typedef struct {
  _Alignas(64) int16_t codes[DEPTH][2][2 * LANES];
  _Alignas(64) int32_t owed[LANES];
} weights;

PC_INLINE void widen(const int8_t *w, int sign, const int8_t *other, int64_t groups, weights *to) {
  vi16 owed = vi_zero();
  for (int64_t g = 0; g < groups; g++) {
    const vi16 line = vi_load(w + g * STEP), more = sign ? vi_load(other + g * STEP) : line;
    const vi16 even = combined(dot_even(line), sign, dot_even(more)), odd = combined(dot_odd(line), sign, dot_odd(more));
    owed = dot_add_products(owed, even, odd);
    vi_store(to->codes[g][0], even);
    vi_store(to->codes[g][1], odd);
  }
  vi_store(to->owed, owed);
}

static void widen_weights(blocks of, const int8_t *const *w, int64_t groups, weights *to) {
  if (of.sign == 0) widen(w[of.at], 0, NULL, groups, to);
  else if (of.sign > 0) widen(w[of.at], 1, w[of.other], groups, to);
  else widen(w[of.at], -1, w[of.other], groups, to);
}

/* A panel of rows against weights; what it asks for meanwhile, `pace` bytes a group; and sums [height][ld] that it is added to. */
typedef struct {
  int64_t groups, pace, ld;
  const int32_t *x, *owed;
  const weights *w;
  const int8_t *soon;
  int32_t *sums;
  int sign;
  int32_t *others;
} tile_job;

PC_INLINE void add_group(int height, const int32_t *x, const int16_t *w, vi16 *acc) {
  const vi16 even = vi_load(w), odd = vi_load(w + 2 * LANES);
#pragma GCC unroll 4
  for (int i = 0; i < height; i++) acc[i] = dot_add_sums(acc[i], x + WORDS * i, even, odd);
  __asm__ volatile("" ::: "memory"); /* GCC 12 would load what follows before, and spill */
}

PC_INLINE void tile(int height, int sign, const tile_job *of) {
  const int64_t groups = of->groups, pace = of->pace;
  const int32_t *x = of->x;
  const int16_t *w = of->w->codes[0][0];
  const int8_t *soon = of->soon;
  vi16 acc[HEIGHT];
#pragma GCC unroll 4
  for (int i = 0; i < height; i++) acc[i] = vi_zero();
  int64_t g = 0;
  for (; g + 2 <= groups; g += 2, x += 2 * WORDS * height, w += 2 * LINE, soon += 2 * pace) {
    __builtin_prefetch(soon, 0, 2);
    add_group(height, x, w, acc);
    add_group(height, x + WORDS * height, w + LINE, acc);
  }
  if (g < groups) add_group(height, x, w, acc);
  const vi16 owed = vi_load(of->w->owed);
#pragma GCC unroll 4
  for (int i = 0; i < height; i++) {
    int32_t *sums = of->sums + i * of->ld, *others = of->others + i * of->ld;
    const vi16 sum = vi_sub(acc[i], vi_add(owed, vi_set1(of->owed[i])));
    vi_store(sums, vi_add(vi_load(sums), sum));
    if (sign) vi_store(others, sign > 0 ? vi_add(vi_load(others), sum) : vi_sub(vi_load(others), sum));
  }
}

/* Not inlined: loops need the registers for addresses. */
#define ROWS(name, height)                                                   \
  __attribute__((noinline)) static void name##_rows(const tile_job *of) {    \
    if (of->sign == 0) tile(height, 0, of);                                  \
    else if (of->sign > 0) tile(height, 1, of);                              \
    else tile(height, -1, of);                                               \
  }
ROWS(four, HEIGHT)
ROWS(three, LOWEST)
#undef ROWS

/* Where the blocks of weights begin that a step has of the slices from `slice` on. */
static void weights_at(const plan *p, int64_t slice, int64_t step, const int8_t **w) {
  for (int b = 0; b < p->cut * p->cut; b++) w[b] = p->j->w + slice_at(p->j->k, slice + b % 2) + block_at(p, step, b / 2) * STEP;
}

/* A step of the slices from `slice` on, added to sums [cut * high][ld]. Its first tiles ask for the weights of another. */
static void add_step(const plan *p, int64_t slice, int64_t step, int64_t next_slice, int64_t next_step, weights *widened,
                     int32_t *sums, int64_t ld) {
  const int8_t *w[BLOCKS], *next[BLOCKS];
  const int64_t groups = depth_of(p, step);
  weights_at(p, slice, step, w);
  weights_at(p, next_slice, next_step, next);
  int64_t tiles = 0;
  for (int n = 0; n < p->count; n++) {
    const product *of = p->products + n;
    const int64_t at = rows_at(p, step, n);
    widen_weights(of->w, w, groups, widened);
    tile_job job = {.groups = groups, .ld = ld, .x = p->x + at * p->deep * WORDS, .owed = p->owed + at, .w = widened,
                    .sums = sums + of->y.at / 2 * p->high * ld + of->y.at % 2 * LANES, .sign = of->y.sign,
                    .others = sums + of->y.other / 2 * p->high * ld + of->y.other % 2 * LANES};
    for (int64_t panel = 0; panel < p->panels; panel++, tiles++) {
      const int64_t height = height_of(p, panel), block = tiles / ASKING;
      const int asks = block < p->cut * p->cut;
      job.soon = asks ? next[block] + tiles % ASKING * (groups / ASKING) * STEP : w[0];
      job.pace = asks ? STEP / ASKING : 0;
      if (height == HEIGHT) four_rows(&job);
      else three_rows(&job);
      job.x += height * p->deep * WORDS;
      job.owed += height;
      job.sums += height * ld;
      job.others += height * ld;
    }
  }
}

/* Columns [begin, end), whole pairs of slices where the plan is cut. */
static void columns(const plan *p, int64_t begin, int64_t end, weights *widened, int32_t *sums) {
  int32_t zero[TOGETHER], shift[TOGETHER];
  const int8_job *j = p->j;
  const int32_t moved = j->is_signed ? MOVE : 0;
  const int64_t span = LANES * p->cut;
  row_debts(j, (int)p->rows, p->row, moved, zero, shift);
  for (int64_t c = begin; c < end; c += span) {
    const int64_t slice = c / LANES, next = c + span < end ? slice + p->cut : slice;
    memset(sums, 0, sizeof(int32_t) * (size_t)(p->cut * p->high * span));
    for (int64_t step = 0; step < p->steps; step++) {
      const int last = step + 1 == p->steps;
      add_step(p, slice, step, last ? next : slice, last ? 0 : step + 1, widened, sums, span);
    }
    finish(j, (int)p->rows, smaller(end - c, span), p->row, c, j->x_zero || moved ? zero : NULL, j->w_zero ? shift : NULL, sums,
           span);
  }
}

static plan planned(const int8_job *j, int64_t row, int64_t rows, int cut) {
  plan p = {.j = j, .cut = cut, .count = cut == 2 ? PRODUCTS : 1, .products = cut == 2 ? SEVEN : WHOLE, .row = row, .rows = rows};
  p.high = (rows + cut - 1) / cut;
  p.panels = (p.high + HEIGHT - 1) / HEIGHT;
  p.low = p.high / p.panels;
  p.taller = p.high % p.panels;
  p.groups = groups_of(j->k);
  p.steps = p.groups > cut * DEPTH ? (p.groups + cut * DEPTH - 1) / (cut * DEPTH) : 1;
  p.deep = (p.groups + p.steps * cut - 1) / (p.steps * cut);
  return p;
}

/* Some rows, at most TOGETHER, of columns as `columns` takes them. */
static void rows_together(const int8_job *j, int64_t row, int64_t rows, int cut, int64_t begin, int64_t end) {
  plan p = planned(j, row, rows, cut);
  const int64_t sums = cut * p.high * cut * LANES, owed = p.steps * p.count * p.high, codes = owed * p.deep * WORDS;
  void *found;
  weights *const widened = pc_heap(sizeof(weights) + (size_t)(sums + owed + codes) * sizeof(int32_t), &found);
  if (!widened) {
    fail(j, PC_ENOMEM);
    return;
  }
  int32_t *const room = (int32_t *)(void *)(widened + 1);
  p.owed = room + sums;
  p.x = p.owed + owed;
  widen_rows(&p);
  columns(&p, begin, end, widened, room);
  free(found);
}

void PC_FN(int8_sums_part)(const int8_job *j, int64_t row0, int64_t row1, int64_t begin, int64_t end) {
  const int64_t room = ROOM / (4 * GROUP * (groups_of(j->k) + 1)), most = smaller(TOGETHER, room); /* of 3.5 bytes a code */
  const int64_t parts = (row1 - row0 + most - 1) / most;
  for (int64_t part = 0; part < parts; part++) {
    const int64_t row = row0 + (row1 - row0) * part / parts, rows = row0 + (row1 - row0) * (part + 1) / parts - row;
    const int64_t middle = rows >= MANY ? begin + (end - begin) / (2 * LANES) * (2 * LANES) : begin;
    if (begin < middle) rows_together(j, row, rows, 2, begin, middle);
    if (middle < end) rows_together(j, row, rows, 1, middle, end);
  }
}
#endif
