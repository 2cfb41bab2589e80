/* Memory of a kernel's own. */
#ifndef PC_HEAP_H
#define PC_HEAP_H

#include <stdint.h>
#include <stdlib.h>

enum {
  PC_LINE = 64,     /* bytes */
  PC_FEW = 17 << 10 /* floats of a kernel's own that are few enough for the stack: 68 KB */
};

/* So many bytes from a cache line on, since a vector that straddles two costs twice; *found is what to free. NULL both if they are
 * not to be had. */
static inline void *pc_heap(size_t bytes, void **found) {
  char *const at = malloc(bytes + PC_LINE);
  *found = at;
  return at ? at + (PC_LINE - (uintptr_t)at % PC_LINE) : NULL;
}
#endif
