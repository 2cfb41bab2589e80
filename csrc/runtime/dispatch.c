/* Chooses a level once, and gives every kernel its public entry. PC_LEVELS comes from the build: X(generic) X(avx2) ...,
 * lowest to highest; each level's objects hold its table (csrc/kernels/table.c). */
#include <string.h>

#include "table.h"

#define X(name) extern const pc_table pc_table_##name;
PC_LEVELS
#undef X

typedef struct {
  const char *name;
  unsigned needs;
  const pc_table *table;
} level;

static const level LEVELS[] = {
#define X(name) {#name, PC_NEEDS_##name, &pc_table_##name},
    PC_LEVELS
#undef X
};
enum { COUNT = sizeof LEVELS / sizeof *LEVELS };

static const level *active; /* one atomic pointer: threads that race to choose store the same value */

static int supported(const level *l) { return (l->needs & ~pc_cpu_features()) == 0; }

static const level *find(const char *name) {
  for (int i = COUNT - 1; i >= 0; i--)
    if (name ? strcmp(name, LEVELS[i].name) == 0 : supported(&LEVELS[i])) return &LEVELS[i];
  return NULL;
}

static const level *current(void) {
  const level *l = __atomic_load_n(&active, __ATOMIC_ACQUIRE);
  if (l) return l;
  pc_set_level(NULL);
  return __atomic_load_n(&active, __ATOMIC_ACQUIRE);
}

/* CPUs other than AMD's take their clock down for half a millisecond after arithmetic on floats of 64 bytes, which costs long
 * products of codes a twentieth: AVX2 makes the same codes in registers of 32 bytes. (Tiles take the clock down by themselves.) */
const pc_table *pc_quantizers(int64_t m, int64_t k, int64_t n) {
  enum { LONG = 1 << 27, DOT = PC_CPU_AVX512VNNI }; /* multiply-adds of each thread, a third of a millisecond */
  const level *l = current();
  if ((l->needs & (DOT | PC_CPU_AMX)) != DOT || pc_cpu_is_amd()) return l->table;
  return (double)m * (double)k * (double)n < (double)LONG * pc_get_num_threads() ? l->table : find("avx2")->table;
}

const char *pc_version(void) { return PC_VERSION; }
const char *pc_level(void) { return current()->name; }
int pc_register_bytes(void) {
  const unsigned needs = current()->needs;
  return needs & PC_CPU_AVX512 ? 64 : needs & PC_CPU_AVX2 ? 32 : 16;
}
const char *pc_level_name(int i) { return i >= 0 && i < COUNT ? LEVELS[i].name : NULL; }

int pc_level_supported(const char *name) {
  const level *l = name ? find(name) : NULL;
  return l && supported(l);
}

int pc_set_level(const char *name) {
  const level *l = find(name);
  if (!l || !supported(l)) return PC_EISA;
  __atomic_store_n(&active, l, __ATOMIC_RELEASE);
  return PC_OK;
}

#define PC_KERNEL(name, parameters, arguments)             \
  int pc_##name parameters {                               \
    const unsigned saved = pc_fp_enter();                  \
    const int status = current()->table->name arguments;   \
    pc_fp_leave(saved);                                    \
    return status;                                         \
  }
#include "pycomp/kernels.def"
#undef PC_KERNEL
