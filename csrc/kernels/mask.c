/* Masks of the largest scores: topk (an exact count of a whole array) and nm (n of every m).
 *
 * Order: larger score first, then lower index; -0 equals +0; NaN is refused. Scores become integer keys of the same
 * order, so every comparison is exact and the result cannot depend on level or threads.
 *
 * topk narrows an interval [lo, hi] of keys that holds the k-th largest: a pass counts the keys above it and the keys
 * in each of at most BINS equal parts of it, and the part that holds the k-th becomes the interval. Nothing is sorted
 * or copied. Large arrays start from an interval guessed from a sample, so that few keys fall inside and passes run at
 * the speed of memory; a wrong guess is noticed by the counts and costs a pass, never the result.
 * Limit: memory, usually three passes over the scores (two to narrow, one to write). */
#include <math.h>
#include <string.h>

#include "memory.h"
#include "table.h"
#include "vocabulary.h"

enum {
  BINS = 4096,         /* 32 KB of counts on each worker's stack */
  FEW_BINS = 256,      /* for arrays so short that clearing BINS would cost more than another pass */
  CHUNKS = 1024,       /* most chunks; their number depends on n alone, so ties fall the same way on any threads */
  CHUNK = 1 << 14,     /* fewest elements in a chunk */
  GRAIN = 1 << 16,     /* elements that pay for waking a thread */
  SAMPLE = 1 << 16,    /* elements in the sample */
  SAMPLE_FROM = 1 << 20,
  RANKED = 64          /* widest nm group whose ranks are counted pair by pair */
};

/* -- keys */
PC_INLINE vi16 keys(vf16 x, int magnitude) {
  const vi16 u = vi_from_bits(x);
  if (magnitude) return vi_and(u, vi_set1(INT32_MAX));
  return vi_select(vi_gt(vi_zero(), u), vi_sub(vi_set1(INT32_MIN), u), u); /* -0 becomes 0 */
}

PC_INLINE int32_t key(float x, int magnitude) {
  int32_t u;
  memcpy(&u, &x, sizeof u);
  if (magnitude) return u & INT32_MAX;
  return u < 0 ? (int32_t)((uint32_t)INT32_MIN - (uint32_t)u) : u;
}

/* -- topk */
typedef struct {
  int64_t over;           /* keys above hi */
  int64_t bins[BINS];     /* keys in each part of [lo, hi] */
  int64_t inside[CHUNKS]; /* keys in [lo, hi], by chunk; then the same summed over the chunks before */
  int nan;
} tally;

typedef struct {
  const float *scores;
  int64_t n;     /* elements that are looked at */
  int64_t step;  /* 0: all; otherwise a sample: 16 elements from each `step` */
  int magnitude;
  int64_t chunk;
  int32_t lo, hi;
  int shift; /* a part of the interval has 2^shift keys */
  int few;
  int64_t room; /* how many keys equal to lo are kept */
  uint8_t *mask;
  tally *shared;
} job;

/* A sampled vector lies anywhere in its step: a plain stride could meet the same columns of a matrix again and again. */
PC_INLINE const float *element(const job *j, int64_t i, int sampled) {
  if (!sampled) return j->scores + i;
  const uint32_t v = (uint32_t)(i / LANES);
  return j->scores + v * j->step + (int64_t)(v * 2654435769u) % (j->step - LANES + 1);
}

/* Counts up to 16 keys; returns how many are inside. */
PC_INLINE int count_vector(const job *j, int64_t i, int64_t lanes, int sampled, int magnitude, int64_t *bins, int64_t *over) {
  const float *x = element(j, i, sampled);
  if (!sampled) __builtin_prefetch(x + PC_ASKED, 0, 2);
  const vi16 k = keys(vf_load_left(x, lanes), magnitude);
  const uint32_t valid = (1u << lanes) - 1;
  const uint32_t above = vm_bits(vi_gt(k, vi_set1(j->hi))) & valid;
  uint32_t inside = (vm_bits(vi_gt(k, vi_set1(j->lo - 1))) & valid) ^ above;
  *over += __builtin_popcount(above);
  const int found = __builtin_popcount(inside);
  if (bins && inside == 0xffff) {
    int32_t part[LANES];
    vi_store(part, vi_shr(vi_sub(k, vi_set1(j->lo)), j->shift));
    for (int l = 0; l < LANES; l++) bins[part[l]]++;
  } else if (bins) {
    for (; inside; inside &= inside - 1)
      bins[((uint32_t)key(x[__builtin_ctz(inside)], magnitude) - (uint32_t)j->lo) >> j->shift]++;
  }
  return found;
}

PC_INLINE void count_chunks(const job *j, int64_t begin, int64_t end, int sampled, int magnitude, int64_t *bins, int64_t *over) {
  for (int64_t c = begin; c < end; c++) {
    const int64_t last = smaller((c + 1) * j->chunk, j->n);
    int64_t i = c * j->chunk, inside = 0;
    for (; i + LANES <= last; i += LANES) inside += count_vector(j, i, LANES, sampled, magnitude, bins, over);
    if (i < last) inside += count_vector(j, i, last - i, sampled, magnitude, bins, over);
    j->shared->inside[c] = inside;
  }
}

static void count(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  int64_t bins[BINS], over = 0, *in = j->lo == j->hi ? NULL : bins;
  const int parts = j->few ? FEW_BINS : BINS;
  memset(bins, 0, (size_t)parts * sizeof *bins);
  if (j->step) {
    if (j->magnitude) count_chunks(j, begin, end, 1, 1, in, &over);
    else count_chunks(j, begin, end, 1, 0, in, &over);
  } else {
    if (j->magnitude) count_chunks(j, begin, end, 0, 1, in, &over);
    else count_chunks(j, begin, end, 0, 0, in, &over);
  }
  __atomic_fetch_add(&j->shared->over, over, __ATOMIC_RELAXED);
  for (int b = 0; b < parts; b++)
    if (bins[b]) __atomic_fetch_add(&j->shared->bins[b], bins[b], __ATOMIC_RELAXED);
}

PC_INLINE int64_t chunks(const job *j) { return (j->n + j->chunk - 1) / j->chunk; }
PC_INLINE int64_t width(const job *j) { return (int64_t)j->hi - j->lo; }
PC_INLINE int64_t grain(const job *j) { return j->chunk < GRAIN ? GRAIN / j->chunk : 1; }

/* Narrows [lo, hi] until every key inside it is kept (room 0 after lo is lowered by one), or it is one key, of which
 * `room` are kept; then inside[c] says how many the chunks before c have. 1 <= k <= n. */
static void narrow(job *j, int64_t k) {
  tally *t = j->shared;
  const int32_t lowest = j->magnitude ? 0 : INT32_MIN + 1;
  for (;;) {
    j->shift = 0;
    while (width(j) >> j->shift >= (j->few ? FEW_BINS : BINS)) j->shift++;
    t->over = 0;
    memset(t->bins, 0, sizeof t->bins);
    pc_for(chunks(j), grain(j), count, j);
    int64_t inside = 0;
    for (int64_t c = 0; c < chunks(j); c++) {
      const int64_t here = t->inside[c];
      t->inside[c] = inside;
      inside += here;
    }
    if (t->over >= k) { /* the guess was too low */
      j->lo = j->hi + 1;
      j->hi = INT32_MAX;
    } else if (t->over + inside < k) { /* too high */
      j->hi = j->lo - 1;
      j->lo = lowest;
    } else if (t->over + inside == k) {
      j->room = 0;
      return;
    } else if (j->lo == j->hi) {
      j->room = k - t->over;
      return;
    } else {
      int64_t part = width(j) >> j->shift, most = t->over;
      while ((most += t->bins[part]) < k) part--;
      const int64_t first = j->lo + (part << j->shift);
      j->lo = (int32_t)first;
      j->hi = (int32_t)smaller(first + (1 << j->shift) - 1, j->hi);
      if (most == k) {
        j->room = 0;
        return;
      }
    }
  }
}

/* An interval that very probably holds the k-th key: four standard deviations about its place in the sample. */
static void guess(job *j, int64_t k) {
  job s = *j;
  s.n = SAMPLE;
  s.step = j->n / (SAMPLE / LANES);
  s.chunk = CHUNK;
  const double rank = (double)k / (double)j->n * (double)SAMPLE, spread = 4 * sqrt(rank * (1 - rank / (double)SAMPLE)) + 16;
  if (rank - spread >= 1) {
    narrow(&s, (int64_t)(rank - spread));
    j->hi = s.hi;
  }
  if (rank + spread <= (double)SAMPLE) {
    s.lo = j->lo;
    s.hi = j->hi;
    narrow(&s, (int64_t)(rank + spread));
    j->lo = s.lo;
  }
}

/* mask = key > lo, or key == lo for the first `room` of them. `seen` counts these; only a boundary vector needs a loop. */
PC_INLINE vm16 write_vector(const job *j, int64_t i, int64_t lanes, int magnitude, int64_t *seen) {
  __builtin_prefetch(j->scores + i + PC_ASKED, 0, 2);
  const vf16 x = vf_load_left(j->scores + i, lanes);
  const vi16 k = keys(x, magnitude), edge = vi_set1(j->lo);
  vm16 kept = vi_gt(k, edge);
  if (seen) {
    const uint32_t equal = vm_bits(vi_eq(k, edge)) & ((1u << lanes) - 1);
    const int64_t before = *seen;
    *seen += __builtin_popcount(equal);
    if (*seen <= j->room) kept = vm_or(kept, vi_eq(k, edge));
    else if (before < j->room) {
      int64_t left = j->room - before;
      for (int64_t l = 0; l < lanes; l++) {
        const int32_t one = key(j->scores[i + l], magnitude);
        j->mask[i + l] = one > j->lo || (one == j->lo && left-- > 0);
      }
      return vf_isnan(x);
    }
  }
  vi_store_bytes_n(j->mask + i, lanes, vi_select(kept, vi_set1(1), vi_zero()));
  return vf_isnan(x);
}

PC_INLINE void write_chunks(const job *j, int64_t begin, int64_t end, int magnitude, int ties) {
  vm16 nan = vf_isnan(vf_zero());
  for (int64_t c = begin; c < end; c++) {
    const int64_t last = smaller((c + 1) * j->chunk, j->n);
    int64_t i = c * j->chunk, before = ties ? j->shared->inside[c] : 0, *seen = ties ? &before : NULL;
    for (; i + LANES <= last; i += LANES) nan = vm_or(nan, write_vector(j, i, LANES, magnitude, seen));
    if (i < last) nan = vm_or(nan, write_vector(j, i, last - i, magnitude, seen));
  }
  if (vm_bits(nan)) __atomic_store_n(&j->shared->nan, 1, __ATOMIC_RELAXED);
}

static void write(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  if (j->magnitude) {
    if (j->room) write_chunks(j, begin, end, 1, 1);
    else write_chunks(j, begin, end, 1, 0);
  } else {
    if (j->room) write_chunks(j, begin, end, 0, 1);
    else write_chunks(j, begin, end, 0, 0);
  }
}

static int topk(int64_t n, const float *scores, int magnitude, int64_t k, uint8_t *mask) {
  tally shared;
  job j = {scores, n, 0, magnitude, CHUNK, magnitude ? 0 : INT32_MIN + 1, INT32_MAX, 0, n < BINS, 0, mask, &shared};
  if (n > (int64_t)CHUNK * CHUNKS) j.chunk = ((n + CHUNKS - 1) / CHUNKS + LANES - 1) / LANES * LANES;
  shared.nan = 0;
  if (k == 0) {
    j.lo = INT32_MAX;
  } else if (k == n) {
    j.lo = INT32_MIN;
  } else {
    if (n >= SAMPLE_FROM) guess(&j, k);
    narrow(&j, k);
    if (!j.room) j.lo--;
  }
  pc_for(chunks(&j), grain(&j), write, &j);
  return shared.nan ? PC_ENAN : PC_OK;
}

int PC_FN(topk_mask_f32)(int64_t n, const float *scores, int32_t magnitude, int64_t k, uint8_t *mask) {
  if (n < 0 || k < 0 || k > n) return PC_EINVAL;
  return topk(n, scores, magnitude != 0, k, mask);
}

/* -- nm */
typedef struct {
  int64_t g, m;
  const float *scores;
  int magnitude;
  int32_t keep;
  uint8_t *mask;
  int *nan;
} groups;

/* The q-th arrangement of the fours of a vector in which each lane meets every lane of its group of m, with turn4. */
PC_INLINE vi16 arrange(vi16 a, int q) {
  if (q & 1) a = vi_swap4(a);
  return q & 2 ? vi_swap8(a) : a;
}

/* Vectors begin to end; m divides 16. A lane's rank is the number of others in its group that come before it: larger, or
 * equal and lower. */
PC_INLINE void rank_vectors(const groups *j, int64_t begin, int64_t end, int m, int magnitude) {
  static const int32_t INDEX[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const vi16 index = vi_load(INDEX), one = vi_set1(1), zero = vi_zero(), keep = vi_set1(j->keep);
  vi16 lower[LANES];
#pragma GCC unroll 4
  for (int q = 0; q < m / 4; q++) {
    vi16 other = arrange(index, q);
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++, other = vi_turn4(other)) lower[4 * q + r] = vi_select(vi_gt(index, other), one, zero);
  }
  vm16 nan = vf_isnan(vf_zero());
  for (int64_t i = begin * LANES; i < end * LANES; i += LANES) {
    const int64_t lanes = smaller(j->g * m - i, LANES);
    __builtin_prefetch(j->scores + i + PC_ASKED, 0, 2);
    const vf16 x = vf_load_left(j->scores + i, lanes);
    const vi16 k = keys(x, magnitude);
    vi16 rank = zero;
#pragma GCC unroll 4
    for (int q = 0; q < m / 4; q++) {
      vi16 other = arrange(k, q);
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++, other = vi_turn4(other))
        if (q + r) rank = vi_add(rank, vi_select(vi_gt(other, vi_sub(k, lower[4 * q + r])), one, zero));
    }
    nan = vm_or(nan, vf_isnan(x));
    vi_store_bytes_n(j->mask + i, lanes, vi_select(vi_gt(keep, rank), one, zero));
  }
  if (vm_bits(nan)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static void short_groups(int64_t begin, int64_t end, const void *context) {
  const groups *j = context;
#define SHAPE(m) case m: if (j->magnitude) rank_vectors(j, begin, end, m, 1); else rank_vectors(j, begin, end, m, 0); break;
  switch (j->m) { SHAPE(4) SHAPE(8) SHAPE(16) }
#undef SHAPE
}

static void rank_group(const groups *j, const float *x, uint8_t *mask) {
  const int m = (int)j->m;
  int32_t k[RANKED];
  int nan = 0;
  for (int i = 0; i < m; i++) {
    k[i] = key(x[i], j->magnitude);
    nan |= x[i] != x[i];
  }
  for (int i = 0; i < m; i++) {
    int rank = 0;
    for (int o = 0; o < i; o++) rank += k[o] >= k[i];
    for (int o = i + 1; o < m; o++) rank += k[o] > k[i];
    mask[i] = rank < j->keep;
  }
  if (nan) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
}

static void any_groups(int64_t begin, int64_t end, const void *context) {
  const groups *j = context;
  for (int64_t g = begin; g < end; g++) {
    const float *x = j->scores + g * j->m;
    uint8_t *mask = j->mask + g * j->m;
    if (j->m <= RANKED) rank_group(j, x, mask);
    else if (topk(j->m, x, j->magnitude, j->keep, mask)) __atomic_store_n(j->nan, 1, __ATOMIC_RELAXED);
  }
}

int PC_FN(nm_mask_f32)(int64_t g, int64_t m, const float *scores, int32_t magnitude, int32_t keep, uint8_t *mask) {
  if (g < 0 || m < 0 || keep < 0 || keep > m) return PC_EINVAL;
  int nan = 0;
  const groups j = {g, m, scores, magnitude != 0, keep, mask, &nan};
  if (m == 4 || m == 8 || m == 16) pc_for((g * m + LANES - 1) / LANES, GRAIN / LANES, short_groups, &j);
  else pc_for(g, 1 + GRAIN / (m + 1), any_groups, &j);
  return nan ? PC_ENAN : PC_OK;
}
