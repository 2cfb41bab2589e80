/* The product of spmm.c from a packed form of the matrix, made for many rows of x: the same chains, the same bits.
 *
 * A tile is four rows whose entries in a block of columns are interleaved: a step is four values and their columns. The
 * packer sorts a group's rows by their entries in a block, so the four end together, and pads the shorter with entries of
 * value -0 at a column of zeros, which leave every chain as it is, NaN included. So a visit has no branch but its end,
 * and the block's part of x stays in L1; a group's chains wait on the stack between its visits. The tiles of a group and block
 * come in twos, the second no longer than the first (the last may have no steps), whose rows differ: of one vector, two are in
 * flight where CPUs take values singly. Up to four rows of x lie side by side, four lanes of a vector.
 * Limit: the load ports, one load of x an fma and one or two for each step and row. (On Intel's Granite Rapids 16 loads of a
 * whole vector beside 16 fma take 10.4 cycles, not 8.)
 *
 * What is known of a step before its fma, four values and where their x lies, can come as one load each, that registers spread
 * and shift apart; or, `singly`, one by one. The former takes fewer loads, the latter leaves ports to fma. */
#include "panels.h"
#include "share.h"
#include "sparse_end.h"
#include "stored.h"

enum {
  HIGH = 4,             /* rows of a tile */
  WIDEST = PC_TILE_VECTORS(2) < 4 ? PC_TILE_VECTORS(2) : 4, /* vectors of a row in flight */
  WHOLE = PC_TILE_VECTORS(HIGH) >= WIDEST, /* the level's registers hold so wide a tile; else two of its rows at a time */
  NARROWER = 3,         /* at most, where a visit reads more of x than this: */
  IN_L1 = 40 << 10,     /* bytes that L1 holds beside what streams through it */
  MOST = 256,           /* rows of a group: 64 KB of chains on the stack */
  EARLY = 3,            /* steps that columns are read before use */
  TURN = 4,             /* steps of two tiles between which their addresses are passed on */
  CHUNK = 128,          /* steps whose values are widened at a time */
  AHEAD = 1024,         /* entries to prefetch ahead of use */
  FETCHED = 3,          /* vectors that take so long a step that the hardware fetches in time by itself */
  VISIT = 4,            /* what a tile costs beside its steps, in steps */
  GRAIN = 1 << 13       /* steps times vectors that pay for waking a thread */
};

typedef struct {
  int64_t k, groups; /* k: columns of x in panels, the last of which is zeros */
  int kind;
  const void *x, *values; /* x in panels */
  const uint16_t *columns;
  const int32_t *rows;
  const int64_t *starts, *begins, *firsts;
  pc_end end;
  int fours;             /* x has up to four rows, which lie side by side */
  int coded;             /* x and values are codes, and results int32, held as the bits of floats */
  const int32_t *offset; /* of codes, [n]: added to the results; or NULL */
  pc_panels panels;
  pc_loose loose;        /* floats of x as they came */
  int *status;
} job;

PC_INLINE void widen_kind(int kind, const void *values, int64_t s, int64_t n, float *to) {
  const int bits = pc_bits(kind);
  const char *p = (const char *)values + HIGH * s * bits / 8;
  int64_t left = HIGH * n;
  for (; left >= LANES; left -= LANES, p += LANES * bits / 8, to += LANES) {
    __builtin_prefetch(p + AHEAD * bits / 8);
    vf_store(to, pc_sixteen(kind, 0, p));
  }
  if (left) { /* what lies past the end is not read */
    uint16_t rest[LANES] = {0};
    memcpy(rest, p, (size_t)(left * bits / 8));
    vf_store(to, pc_sixteen(kind, 0, rest));
  }
}

/* Values of n steps from step s on, as floats. */
static void widen(int kind, const void *values, int64_t s, int64_t n, float *to) {
  switch (kind) {
    case S4: widen_kind(S4, values, s, n, to); break;
    case S8: widen_kind(S8, values, s, n, to); break;
    case F16: widen_kind(F16, values, s, n, to); break;
    default: widen_kind(BF16, values, s, n, to);
  }
}

/* Where each slice of a panel of x begins, in a register each: added up anew for each row of a step, they cost more. */
typedef struct {
  const char *slices[4];
} panel;

PC_INLINE panel panel_of(const void *x, int vectors, int64_t k) {
  panel p = {{0}};
#pragma GCC unroll 4
  for (int t = 0; t < vectors; t++)
    p.slices[t] = pc_held((const char *)x + 4 * LANES * k * t);
  return p;
}

/* Columns of steps. Where registers hold whole tiles they are read some steps before their use: x at an address that a load has
 * yet to bring is read later than the fma units could use it. They run on from tile to tile; past the last step of all, that
 * step is read again. CPUs that take values singly read a step's columns with it: all at once if so few fma share them that
 * loads are what they wait for, else one by one, as other levels do, which wait for other things. */
typedef struct {
  const uint16_t *at, *last;
  uint64_t read[EARLY];
} columns;

PC_INLINE int reads_early(int singly) { return WHOLE && !singly; }
PC_INLINE int reads_singly(int singly, int vectors) { return !WHOLE || (singly && vectors >= FETCHED); }

PC_INLINE uint64_t columns_at(const uint16_t *at) {
  uint64_t read;
  memcpy(&read, at, sizeof read);
  return read;
}

PC_INLINE uint64_t next_columns(int singly, columns *c) {
  if (!reads_early(singly)) {
    c->at += HIGH;
    return columns_at(c->at - HIGH);
  }
  const uint64_t now = c->read[0];
#pragma GCC unroll 4
  for (int i = 1; i < EARLY; i++) c->read[i - 1] = c->read[i];
  c->read[EARLY - 1] = columns_at(c->at);
  c->at = c->at < c->last ? c->at + HIGH : c->last;
  return now;
}

PC_INLINE columns columns_from(int singly, const uint16_t *first, const uint16_t *last) {
  columns c = {first, last, {0}};
  for (int i = 0; reads_early(singly) && i < EARLY; i++) next_columns(singly, &c);
  return c;
}

/* Where the column of row r of a step lies in a slice of x: sixteen lanes of four bytes each. */
PC_INLINE uint64_t place(uint64_t columns, int r) { return (r ? columns >> (16 * r - 6) : columns << 6) & 0x3fffc0; }

/* One entry more: of codes it is four of them, and the step a dot product of what the bits are. */
PC_INLINE vf16 one_more(int coded, vf16 acc, const char *x, vf16 w) {
  if (coded) return vf_from_bits(vi_dot_u8s8(vi_from_bits(acc), vi_load(x), vi_from_bits(w)));
  return vf_fma(vf_load((const float *)(const void *)x), w, acc);
}

PC_INLINE float *chain_of(float *chains, int vectors, int64_t row) { return chains + row * (vectors * LANES); }

/* The chains of some rows of a tile, from row0 on, for steps of values from v up to end, which lie in L1 if they were widened. */
PC_INLINE void advance_rows(int singly, int coded, int widened, int vectors, int row0, int count, const panel *x, const float *v,
                            const float *end, columns *c, const int32_t *rows, float *chains) {
  vf16 acc[HIGH][4];
  float *own[HIGH];
#pragma GCC unroll 4
  for (int r = 0; r < count; r++) {
    own[r] = chain_of(chains, vectors, rows[row0 + r]);
    if (count < HIGH) own[r] = (float *)(uintptr_t)pc_held(own[r]);
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) acc[r][t] = vf_load(own[r] + t * LANES);
  }
  for (; v != end; v += HIGH) {
    if (WHOLE && vectors < FETCHED) { /* each time: a line at a time was slower, and so is any elsewhere */
      if (!widened) __builtin_prefetch(v + AHEAD);
      if (!singly) __builtin_prefetch(c->at + AHEAD);
    }
    const uint16_t *const at = c->at;
    const uint64_t read = next_columns(singly, c);
    const vf4 each = vf_load4(v);
#pragma GCC unroll 4
    for (int r = 0; r < count; r++) {
      const uint64_t column = reads_singly(singly, vectors) ? (uint64_t)at[row0 + r] << 6 : place(read, row0 + r);
      const vf16 w = singly ? vf_set1(v[row0 + r]) : vf_one_of(each, row0 + r);
#pragma GCC unroll 4
      for (int t = 0; t < vectors; t++) acc[r][t] = one_more(coded, acc[r][t], x->slices[t] + column, w);
    }
  }
  if (count == HIGH) rows = pc_held(rows); /* read again: four would take the registers of the loop */
#pragma GCC unroll 4
  for (int r = 0; r < count; r++) {
    float *to = count == HIGH ? chain_of(chains, vectors, rows[row0 + r]) : own[r];
#pragma GCC unroll 4
    for (int t = 0; t < vectors; t++) vf_store(to + t * LANES, acc[r][t]);
  }
}

/* Where a tile's next step is. */
typedef struct {
  const float *v;
  const uint16_t *at;
} next_step;

/* A step of each of two tiles, some steps on. */
PC_INLINE void step_of_two(int coded, int on, const char *x, const next_step *tiles, vf16 *acc) {
  const uint64_t read[2] = {columns_at(tiles[0].at + HIGH * on), columns_at(tiles[1].at + HIGH * on)};
#pragma GCC unroll 8
  for (int i = 0; i < 2 * HIGH; i++) {
    const int r = i / 2, second = i % 2;
    const char *const from = x + place(read[second], r);
    const float *const w = tiles[second].v + HIGH * on + r;
    vf16 *const chain = &acc[second * HIGH + r];
    *chain = coded ? one_more(1, *chain, from, vf_set1(*w)) : vf_fma1(vf_load((const float *)(const void *)from), w, *chain);
  }
}

/* Both some steps on. */
PC_INLINE void move_on(int steps, next_step *tiles) {
  for (int i = 0; i < 2; i++) {
    tiles[i].v = pc_held(tiles[i].v + HIGH * steps);
    tiles[i].at = pc_held(tiles[i].at + HIGH * steps);
  }
}

/* The chains of two tiles of one vector, of n steps and m: the four of one would wait for their fma. What limits them is how many
 * instructions start in a cycle: a value comes with its fma as one, since it lies at an address that is passed on from turn to turn;
 * x, whose address is a sum, would be split from it. (Compilers may not gather the loads at the head of a step: it was slower.) */
PC_INLINE void advance_two(int coded, int widened, const panel *x, const float *v, int64_t n, int64_t m, columns *c,
                           const int32_t *rows, float *chains) {
  next_step tiles[2] = {{v, c->at}, {v + HIGH * n, c->at + HIGH * n}};
  const float *const first_end = v + HIGH * n, *const end = v + HIGH * m;
  vf16 acc[2 * HIGH];
#pragma GCC unroll 8
  for (int r = 0; r < 2 * HIGH; r++) acc[r] = vf_load(chain_of(chains, 1, rows[r]));
  for (int64_t s = m % TURN; s; s--) {
    step_of_two(coded, 0, x->slices[0], tiles, acc);
    move_on(1, tiles);
  }
  while (tiles[0].v != end) {
    for (int i = 0; i < 2 && !widened; i++) __builtin_prefetch(tiles[i].v + AHEAD);
#pragma GCC unroll 4
    for (int on = 0; on < TURN; on++) step_of_two(coded, on, x->slices[0], tiles, acc);
    move_on(TURN, tiles);
  }
  rows = pc_held(rows); /* read again, as above */
#pragma GCC unroll 8
  for (int r = 0; r < 2 * HIGH; r++) vf_store(chain_of(chains, 1, rows[r]), acc[r]);
  c->at = tiles[0].at;
  if (n > m) advance_rows(1, coded, widened, 1, 0, HIGH, x, end, first_end, c, rows, chains);
  c->at = tiles[1].at;
}

/* Where the column of row r of a step lies in x of fours, in floats. */
PC_INLINE uint64_t place_of_four(uint64_t columns, int r) { return (r ? columns >> (16 * r - 2) : columns << 2) & 0x3fffc; }

PC_INLINE void step_of_fours(const float *x, const float *v, const uint16_t *at, vq4 *acc) {
  const uint64_t read = columns_at(at);
#pragma GCC unroll 4
  for (int r = 0; r < HIGH; r++) acc[r] = vq_fma1(vq_load(x + place_of_four(read, r)), v + r, acc[r]);
}

/* The chains of a tile for up to four rows of x, which lie side by side: four lanes of each sixteen. */
PC_INLINE void advance_fours(int widened, const panel *x, const float *v, const float *end, columns *c, const int32_t *rows,
                             float *chains) {
  const float *const from = (const float *)(const void *)x->slices[0];
  vq4 acc[HIGH];
#pragma GCC unroll 4
  for (int r = 0; r < HIGH; r++) acc[r] = vq_load(chain_of(chains, 1, rows[r]));
  for (int64_t s = (end - v) / HIGH % TURN; s; s--, v += HIGH, c->at += HIGH) step_of_fours(from, v, c->at, acc);
  while (v != end) {
    if (!widened) __builtin_prefetch(v + AHEAD);
    __builtin_prefetch(c->at + AHEAD);
#pragma GCC unroll 4
    for (int on = 0; on < HIGH * TURN; on += HIGH) step_of_fours(from, v + on, c->at + on, acc);
    v = pc_held(v + HIGH * TURN);
    c->at = pc_held(c->at + HIGH * TURN);
  }
#pragma GCC unroll 4
  for (int r = 0; r < HIGH; r++) vq_store(chain_of(chains, 1, rows[r]), acc[r]);
}

/* The chains of a tile; `vectors` 0: of fours. */
PC_INLINE void advance(int singly, int coded, int widened, int vectors, const panel *x, const float *v, const float *end, columns *c,
                       const int32_t *rows, float *chains) {
  if (!vectors) {
    advance_fours(widened, x, v, end, c, rows, chains);
  } else if (PC_TILE_VECTORS(HIGH) < vectors) {
    columns again = *c;
    advance_rows(singly, coded, widened, vectors, 0, HIGH / 2, x, v, end, &again, rows, chains);
    advance_rows(singly, coded, widened, vectors, HIGH / 2, HIGH / 2, x, v, end, c, rows, chains);
  } else {
    advance_rows(singly, coded, widened, vectors, 0, HIGH, x, v, end, c, rows, chains);
  }
}

/* Tiles to take at once from `tile` on: two that come together, unless the second has no steps, or more than the first, or they are
 * to be widened and too long for it. */
PC_INLINE int at_once(int singly, int widens, int vectors, const int64_t *tile, const int64_t *last) {
  if (!singly || vectors > 1 || (last - tile) % 2 || tile[2] == tile[1] || tile[2] - tile[1] > tile[1] - tile[0]) return 1;
  return widens && tile[2] - tile[0] > CHUNK ? 1 : 2;
}

/* A group's entries against some slices of x: chains [rows][vectors][LANES], floats or the bits of int32. Values are made floats
 * of as many tiles at a time as CHUNK steps hold, and of a longer tile by parts. */
PC_INLINE void add(int singly, int coded, int widens, int vectors, const job *j, int64_t slice, int64_t g, float *chains) {
  float wide[HIGH * CHUNK];
  const int64_t *tile = j->starts + j->begins[g], *const last = j->starts + j->begins[g + 1], *widened = tile;
  const int64_t first = *tile, all = j->starts[j->begins[j->groups]];
  if (first == all) return;
  const panel x = panel_of((const float *)j->x + (slice - j->loose.first) * LANES * j->k, vectors ? vectors : 1, j->k);
  columns c = columns_from(singly || !vectors, j->columns + HIGH * first, j->columns + HIGH * (all - 1));
  const int32_t *rows = j->rows + HIGH * j->begins[g];
  const float *v = widens ? wide : (const float *)j->values + HIGH * first;
  while (tile < last) {
    const int tiles = at_once(singly, widens, vectors, tile, last);
    const int64_t s = tile[0], n = tile[1] - s;
    if (widens && n > CHUNK) {
      for (int64_t now, done = 0; done < n; done += now) {
        now = smaller(n - done, CHUNK);
        widen(j->kind, j->values, s + done, now, wide);
        advance(singly, 0, 1, vectors, &x, wide, wide + HIGH * now, &c, rows, chains);
      }
    } else {
      if (widens && tile + tiles > widened) {
        for (widened = tile + tiles; widened < last && widened[1] - s <= CHUNK;) widened++;
        widen(j->kind, j->values, s, *widened - s, wide);
        v = wide;
      }
      if (tiles == 2) advance_two(coded, widens, &x, v, n, tile[2] - tile[1], &c, rows, chains);
      else if (n) advance(singly, coded, widens, vectors, &x, v, v + HIGH * n, &c, rows, chains);
      v += HIGH * (tile[tiles] - s);
    }
    tile += tiles, rows += HIGH * tiles;
  }
}

/* Each by itself: in one function they would lack registers. */
typedef void adder(const job *, int64_t, int64_t, float *);
#define ADD(name, singly, coded, widens, v)                                                                     \
  __attribute__((noinline)) static void name##_##v(const job *j, int64_t slice, int64_t g, float *chains) {     \
    if ((v) <= WIDEST && ((singly) == 0 || PC_SHUFFLES_DELAY_FMA)) add(singly, coded, widens, v, j, slice, g, chains); \
  }
#define ADDS(name, singly, coded, widens)                                                              \
  ADD(name, singly, coded, widens, 1) ADD(name, singly, coded, widens, 2) ADD(name, singly, coded, widens, 3) \
  ADD(name, singly, coded, widens, 4)                                                                  \
  static adder *const name[4] = {name##_1, name##_2, name##_3, name##_4};
ADDS(add_floats, 0, 0, 0)
ADDS(add_stored, 0, 0, 1)
ADDS(add_codes, 0, 1, 0)
ADDS(add_floats_singly, 1, 0, 0)
ADDS(add_stored_singly, 1, 0, 1)
ADDS(add_codes_singly, 1, 1, 0)

ADD(add_floats, 0, 0, 0, 0)
ADD(add_stored, 0, 0, 1, 0)

static int takes_singly(void) { return PC_SHUFFLES_DELAY_FMA && !pc_cpu_is_amd(); }

static void run_group(const job *j, int vectors, int64_t slice, int64_t g) {
  static adder *const *const adds[2][3] = {{add_floats, add_stored, add_codes},
                                           {add_floats_singly, add_stored_singly, add_codes_singly}};
  _Alignas(64) float chains[(MOST + 1) * 4 * LANES]; /* the last row is of what pads a tile */
  const int64_t row = j->firsts[g], rows = j->firsts[g + 1] - row, width = vectors * LANES;
  memset(chains, 0, (size_t)((rows + 1) * width) * sizeof *chains);
  if (j->fours) (j->kind == F32 ? add_floats_0 : add_stored_0)(j, slice, g, chains);
  else adds[takes_singly()][j->coded ? 2 : j->kind != F32][vectors - 1](j, slice, g, chains);
  if (j->offset)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = r * width; c < (r + 1) * width; c += LANES)
        vi_store(chains + c, vi_add(vi_load(chains + c), vi_set1(j->offset[row + r])));
  pc_finish(&j->end, slice * LANES, row, rows, width, chains);
}

/* -- groups of rows, panels of x and threads */

/* Work before a group, for each slice of x: its steps, and what visits cost. */
static int64_t work_before(const job *j, int64_t g) {
  return j->starts[j->begins[g]] + VISIT * (j->begins[g] + j->firsts[g]);
}

/* A group against panel p. */
static void one_panel(const job *j, int64_t g, int64_t p) {
  run_group(j, (int)pc_panel_width(j->panels, p), pc_panel_begin(j->panels, p), g);
}

/* The last group that has so much work or less before it, `times` over. */
static int64_t group_at(const job *j, int64_t times, int64_t work) {
  int64_t low = 0, high = j->groups;
  while (low < high) {
    const int64_t middle = high - (high - low) / 2;
    if (times * work_before(j, middle) <= work) low = middle;
    else high = middle - 1;
  }
  return low;
}

/* Units of work are the panels of a group: the one that begins nearest to so much work. (Not the first after it: where rounding puts
 * a cut between threads a little after the beginning of a unit, one of them would have a unit more.) */
static int64_t unit_at(const job *j, int64_t work) {
  const int64_t slices = j->panels.slices, g = group_at(j, slices, work);
  if (g == j->groups) return g * j->panels.count;
  const int64_t one = work_before(j, g + 1) - work_before(j, g), rest = work - slices * work_before(j, g);
  return g * j->panels.count + pc_panel_near(j->panels, rest, one);
}

/* All the panels pass each group: for matrices that are large beside x. */
static void run_groups(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const int64_t panels = j->panels.count;
  for (int64_t u = unit_at(j, begin), last = unit_at(j, end); u < last; u++) one_panel(j, u / panels, u % panels);
}

/* Units panel by panel: the one that begins nearest to so much work. */
static int64_t unit_of_panels_at(const job *j, int64_t work) {
  const int64_t all = work_before(j, j->groups), p = pc_panel_with(j->panels, work / all);
  const int64_t rest = work - pc_panel_begin(j->panels, p) * all, width = pc_panel_width(j->panels, p), g = group_at(j, width, rest);
  return p * j->groups + g + (2 * rest > width * (work_before(j, g) + work_before(j, g + 1)));
}

/* All the groups pass each panel: a thread reads the panels that it takes, and no others. */
static void run_panels(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  for (int64_t u = unit_of_panels_at(j, begin), last = unit_of_panels_at(j, end); u < last; u++)
    one_panel(j, u % j->groups, u / j->groups);
}

/* The same, and it packs them, one after the other to the same place, which stays in its cache. */
static void run_own_panels(int64_t begin, int64_t end, const void *context) {
  _Alignas(64) float few[PC_FEW];
  job j = *(const job *)context;
  const int64_t most = (j.panels.slices + j.panels.count - 1) / j.panels.count;
  void *found = NULL;
  int64_t packed = -1;
  for (int64_t u = unit_of_panels_at(&j, begin), last = unit_of_panels_at(&j, end); u < last; u++) {
    const int64_t p = u / j.groups;
    if (p != packed) j.x = pc_pack_own(&j.loose, pc_panel_begin(j.panels, p), pc_panel_begin(j.panels, p + 1), most, few, &found);
    packed = p;
    if (!j.x) {
      __atomic_store_n(j.status, PC_ENOMEM, __ATOMIC_RELAXED);
      return;
    }
    one_panel(&j, u % j.groups, p);
  }
  free(found);
}

/* All the panels pass each group, of x that each thread packs for itself. */
PC_RUN_OWN(run_groups)

/* The same of up to four rows of x. */
PC_RUN_OWN_FOURS(run_groups)

static int multiply_few(job *j, int64_t work) {
  void *found = NULL;
  j->fours = 1;
  if (!pc_fours_are_few(&j->loose) && !(j->x = pc_all_in_fours(&j->loose, &found))) return PC_ENOMEM;
  pc_for(work, GRAIN, j->x ? run_groups : run_own_fours, j);
  free(found);
  return PC_OK;
}

/* Words of a group: an entry is one and a half. */
static double words_of(const job *j) { return 1.5 * (double)HIGH * (double)j->starts[j->begins[j->groups]] / (double)j->groups; }

/* Vectors of a panel of x, at most: as many as registers hold, which share a load of a value and its column. Where a visit of such a
 * panel reads more than L1 holds, one less was faster on the CPUs that take values singly: with 256 columns a block 1.09, 1024 1.05.
 * (Of each column a visit reads a line a vector.) */
static int widest(const job *j, int64_t tiles) {
  const double columns = (double)j->k * (double)j->end.n / (double)(HIGH * tiles + 1);
  return WIDEST > NARROWER && takes_singly() && 4 * LANES * WIDEST * columns > IN_L1 ? NARROWER : WIDEST;
}

/* The rows of groups and the ends of tiles must fit, and tiles come in twos; columns and rows of entries are trusted. */
static int run_job(job *j, int64_t steps, int64_t tiles) {
  const pc_end *e = &j->end;
  if (e->m < 0 || j->k < 0 || j->loose.k < 0 || e->n < 0 || steps < 0 || tiles < 0 || j->groups < 0) return PC_EINVAL;
  if (!pc_is_activation(e->activation)) return PC_EINVAL;
  if (e->m == 0 || e->n == 0) return PC_OK;
  if (j->starts[0] || j->begins[0] || j->firsts[0]) return PC_EINVAL;
  if (j->starts[tiles] != steps || j->begins[j->groups] != tiles || j->firsts[j->groups] != e->n) return PC_EINVAL;
  for (int64_t g = 0; g < j->groups; g++) {
    if (j->firsts[g + 1] - j->firsts[g] < 1 || j->firsts[g + 1] - j->firsts[g] > MOST) return PC_EINVAL;
    if ((j->begins[g + 1] - j->begins[g]) % 2) return PC_EINVAL;
  }
  j->panels = pc_panels_of(e->m, widest(j, tiles));
  const int64_t work = j->panels.slices * work_before(j, j->groups);
  if (!j->coded && e->m <= PC_FOUR) return multiply_few(j, work);
  int status = PC_OK;
  j->status = &status;
  if (!j->coded && pc_packs_own(&j->loose)) {
    pc_for(work, pc_own_grain(&j->loose, HIGH, work, GRAIN), run_own, j);
    return status;
  }
  const int panels_first = pc_panels_first(words_of(j), j->panels.count, e->m, j->k);
  if (!j->coded && panels_first && pc_get_num_threads() <= j->panels.count) {
    pc_for(work, 1 + work / pc_get_num_threads(), run_own_panels, j);
    return status;
  }
  void *found = NULL;
  if (!j->coded) {
    j->x = pc_pack_all(&j->loose, &found);
    if (!j->x) return PC_ENOMEM;
  }
  pc_for(work, GRAIN, panels_first ? run_panels : run_groups, j);
  free(found);
  return PC_OK;
}

#define VALUES(name, type, storage, parameters, scale)                                                                 \
  int PC_FN(spmm_tiles_##name)(int64_t m, int64_t k, int64_t n, int64_t steps, int64_t tiles, int64_t groups,          \
                               const float *x, int64_t x_row, int64_t x_column, const type *values,                    \
                               const uint16_t *columns, const int32_t *rows, const int64_t *starts,                    \
                               const int64_t *begins, const int64_t *firsts, parameters, const float *residual,        \
                               int32_t activation, float *y, int64_t y_row, int64_t y_column) {                        \
    const pc_loose loose = {k, m, k + 1, x, x_column, x_row, NULL, 0, 0};                                                 \
    job j = {k + 1, groups, storage, NULL, values, columns, rows, starts, begins, firsts,                              \
             {m, n, scale, bias, residual, activation, y, y_row, y_column}, 0, 0, NULL, {0, 0}, loose, NULL};             \
    return run_job(&j, steps, tiles);                                                                                  \
  }
PC_STORED(VALUES)

int PC_FN(spmm_tiles_u8s8)(int64_t m, int64_t k, int64_t n, int64_t steps, int64_t tiles, int64_t groups,
                           const uint8_t *x, const int8_t *values, const uint16_t *columns, const int32_t *rows,
                           const int64_t *starts, const int64_t *begins, const int64_t *firsts, const int32_t *offset,
                           int32_t *y, int64_t y_row, int64_t y_column) {
  const pc_loose loose = {0, 0, 0, NULL, 0, 0, NULL, 0, 0};
  job j = {k, groups, S8, x, values, columns, rows, starts, begins, firsts,
            {m, n, NULL, NULL, NULL, PC_IDENTITY, (float *)(void *)y, y_row, y_column}, 0, 1, offset, {0, 0}, loose, NULL};
  return run_job(&j, steps, tiles);
}
