/* Where to cut work that is not even. */
#ifndef PC_SHARE_H
#define PC_SHARE_H

#include <stdint.h>

/* The first of `count` runs that begins at so much work or more: the work before run i is starts[i] + i, an entry and a run
 * counting alike. */
static inline int64_t pc_run_at(const int64_t *starts, int64_t count, int64_t work) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (starts[middle] + middle < work) low = middle + 1;
    else high = middle;
  }
  return low;
}
#endif
