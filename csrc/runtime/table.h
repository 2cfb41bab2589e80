/* What the runtime and the kernels share. */
#ifndef PC_TABLE_H
#define PC_TABLE_H

#include <stdint.h>

#include "pycomp/pycomp.h"

/* One level's kernels. */
typedef struct {
#define PC_KERNEL(name, parameters, arguments) int (*name) parameters;
#include "pycomp/kernels.def"
#undef PC_KERNEL
} pc_table;

/* CPU features as the operating system lets us use them, and what each level needs of them. */
enum {
  PC_CPU_AVX2 = 1,       /* AVX2, FMA, F16C */
  PC_CPU_AVXVNNI = 2,
  PC_CPU_AVX512 = 4,     /* F, BW, DQ, VL */
  PC_CPU_AVX512VNNI = 8,
  PC_CPU_AMX = 16,       /* int8 tiles */
  PC_CPU_DOTPROD = 32,   /* AArch64 */
  PC_NEEDS_generic = 0,
  PC_NEEDS_avx2 = PC_CPU_AVX2,
  PC_NEEDS_avxvnni = PC_CPU_AVX2 | PC_CPU_AVXVNNI,
  PC_NEEDS_avx512 = PC_CPU_AVX2 | PC_CPU_AVX512,
  PC_NEEDS_avx512vnni = PC_CPU_AVX2 | PC_CPU_AVX512 | PC_CPU_AVX512VNNI,
  PC_NEEDS_amx = PC_NEEDS_avx512vnni | PC_CPU_AMX,
  PC_NEEDS_neon = PC_CPU_DOTPROD
};
unsigned pc_cpu_features(void);

/* Whether the CPU is AMD's: some kernels have a way of their own for those. */
int pc_cpu_is_amd(void);

/* Whether the CPU gathers sixteen words at once in less time than one by one. The instruction takes twice as long on Zen, and on
 * those of Intel's that are cured of a leak through it (Gather Data Sampling, 2023). */
int pc_cpu_gathers(void);

/* The kernels to make codes by before the product of m x k of them with k x n. They are of the active level, unless that product
 * is long enough to pay for what floats of 64 bytes do to the clock. */
const pc_table *pc_quantizers(int64_t m, int64_t k, int64_t n);

/* The contract assumes round-to-nearest and denormals kept, whatever the caller has set. */
unsigned pc_fp_enter(void);
void pc_fp_leave(unsigned saved);

/* Several parameters as one argument of a macro that makes entries. */
#define PC_ALL(...) __VA_ARGS__

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Whether m elements are g groups of equal size, both at least 0; no groups are of nothing. */
static inline int pc_divides(int64_t g, int64_t m) { return g == 0 ? m == 0 : m % g == 0; }

/* Runs run(begin, end, context) over [0, n) on at most n/grain threads, rounded up. Cut evenly; where grain is a multiple of 64,
 * every piece begins at one, so that no cache line of an array that begins at a line is two threads'. */
void pc_for(int64_t n, int64_t grain, void (*run)(int64_t begin, int64_t end, const void *context), const void *context);

#endif
