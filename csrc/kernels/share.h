/* Where to cut work that is not even. */
#ifndef PC_SHARE_H
#define PC_SHARE_H

#include "table.h"
#include "vocabulary.h"

/* Whether all the groups of a matrix pass each panel of x [m,k], instead of all panels each group: where reading the words of a
 * group again for each panel is less than reading x again for each group. */
static inline int pc_panels_first(double words, int64_t panels, int64_t m, int64_t k) {
  return words * (double)panels < (double)k * (double)m;
}

/* The rows of x as slices of LANES, in panels of equal width, give or take one slice. */
typedef struct {
  int64_t slices, count;
} pc_panels;

static inline pc_panels pc_panels_of(int64_t m, int64_t widest) {
  const int64_t slices = (m + LANES - 1) / LANES;
  return (pc_panels){slices, (slices + widest - 1) / widest};
}

static inline int64_t pc_panel_begin(pc_panels of, int64_t p) { return of.slices * p / of.count; }
static inline int64_t pc_panel_width(pc_panels of, int64_t p) { return pc_panel_begin(of, p + 1) - pc_panel_begin(of, p); }

/* The panel that a slice is in, and the one that begins nearest to so much work of so much a slice. */
static inline int64_t pc_panel_with(pc_panels of, int64_t slice) { return ((slice + 1) * of.count + of.slices - 1) / of.slices - 1; }
static inline int64_t pc_panel_near(pc_panels of, int64_t work, int64_t slice) {
  const int64_t p = pc_panel_with(of, work / slice);
  return p + (2 * work > slice * (pc_panel_begin(of, p) + pc_panel_begin(of, p + 1)));
}

/* Of the work of a panel, which all of its slices share, what is in [begin, end) of the work of all slices. */
typedef struct {
  int64_t begin, end;
} pc_part;

static inline pc_part pc_part_of_panel(pc_panels of, int64_t p, int64_t work, int64_t begin, int64_t end) {
  const int64_t before = pc_panel_begin(of, p) * work, width = pc_panel_width(of, p);
  return (pc_part){begin > before ? (begin - before) / width : 0, smaller((end - before) / width, work)};
}

/* Of `count` runs, or their end, the one that begins nearest to so much work: that before run i is starts[i] + i, an entry and
 * a run counting alike. */
static inline int64_t pc_run_near(const int64_t *starts, int64_t count, int64_t work) {
  int64_t low = 0, high = count; /* the first that begins there or later */
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (starts[middle] + middle < work) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return 0;
  const int64_t before = starts[low - 1] + low - 1, after = starts[low] + low;
  return low - (work - before < after - work);
}
#endif
