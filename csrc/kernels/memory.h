/* Memory that no cache holds: read by asking ahead of use, as the hardware stops at the end of a page; written past the caches,
 * as a store otherwise reads its line first. */
#ifndef PC_MEMORY_H
#define PC_MEMORY_H

#include "table.h"
#include "vocabulary.h"

enum {
  PC_FAR = 1 << 22,       /* elements of four bytes that no cache may hold: from one, asking costs up to a fifth of the time */
  PC_ASKED = 1 << 12,     /* elements between reading and asking */
  PC_PAST = 1 << 23,      /* floats of a result that goes past the caches: 32 MB */
  PC_PAST_CODES = 1 << 24 /* codes, that come of four times as many bytes: 16 MB */
};

/* Whether m rows of n elements, together so many or more, go past the caches: not short rows, whose lines at their ends are
 * written in parts. */
static inline int pc_go_past(int64_t m, int64_t n, int64_t many) { return n >= 1 << 10 && m * n >= many; }

/* A vector to p, which is on a line where it goes `past` the caches; whoever sends some there ends with vf_stream_fence. */
PC_INLINE void pc_store_line(float *p, int past, vf16 v) {
  if (past) vf_stream(p, v);
  else vf_store(p, v);
}

/* The first lanes of one; past the caches goes what is whole. */
PC_INLINE void pc_store_lanes(float *p, int64_t lanes, int past, vf16 v) {
  if (lanes == LANES) pc_store_line(p, past, v);
  else vf_store_n(p, lanes, v);
}

/* How many of n floats to p stand before a line, where they go past the caches; */
PC_INLINE int64_t pc_head(const float *p, int past, int64_t n) { return past ? smaller(pc_to_line(p), n) : 0; }

/* and how many to store from l on: those of the head, then whole vectors. */
PC_INLINE int64_t pc_lanes_at(int64_t l, int64_t head, int64_t n) { return l < head ? head : smaller(n - l, LANES); }

/* y[i] = f(x[i], of) */
PC_INLINE void pc_map(vf16 f(vf16, int32_t), int32_t of, int64_t n, const float *x, float *y, int past) {
  const int64_t head = pc_head(y, past, n);
  if (head) vf_store_n(y, head, f(vf_load_n(x, head), of));
  int64_t i = head;
  for (; i + LANES <= n; i += LANES) {
    if (past) __builtin_prefetch(x + i + PC_ASKED, 0, 2);
    pc_store_line(y + i, past, f(vf_load(x + i), of));
  }
  if (i < n) vf_store_n(y + i, n - i, f(vf_load_n(x + i, n - i), of));
  if (past) vf_stream_fence();
}
#endif
