/* Hands work to pc_for and notes who was given what: in `seen`, how often each thing was; in `cuts`, where pieces begin. */
#include "table.h"

unsigned pc_fp_enter(void) { return 0; } /* cpu.c's, which is not linked */

typedef struct {
  int32_t *seen;
  uint8_t *cuts;
} notes;

static void note(int64_t begin, int64_t end, const void *context) {
  const notes *to = context;
  if (begin < end) to->cuts[begin] = 1;
  for (int64_t i = begin; i < end; i++) __atomic_fetch_add(&to->seen[i], 1, __ATOMIC_RELAXED);
}

void share(int threads, int64_t n, int64_t grain, int32_t *seen, uint8_t *cuts) {
  pc_set_num_threads(threads);
  pc_for(n, grain, note, &(notes){seen, cuts});
}
