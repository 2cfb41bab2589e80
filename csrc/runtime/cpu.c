/* What the CPU and the operating system support, and the floating-point mode. */
#define _GNU_SOURCE /* syscall */
#include "table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>

/* What is asked once, since a virtual machine takes long to answer: 0: not yet; 1: yes; 2: no. Threads that race to ask get the
 * same answer. */
static int once(int *answer, int (*ask)(void)) {
  int known = __atomic_load_n(answer, __ATOMIC_RELAXED);
  if (!known) {
    known = ask() ? 1 : 2;
    __atomic_store_n(answer, known, __ATOMIC_RELAXED);
  }
  return known == 1;
}

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

/* Linux gives tiles to a process that asks for them (Documentation/arch/x86/xstate.rst). */
static int tiles_asked_for(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static int tiles_permitted(void) {
  static int answer;
  return once(&answer, tiles_asked_for);
}
#else
static int tiles_permitted(void) { return 0; }
#endif

/* XCR0: which register states the operating system saves; without it a wide register is lost at a task switch. */
static uint64_t saved_states(void) {
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

static int bit(uint32_t word, int i) { return (int)(word >> i & 1u); }

unsigned pc_cpu_features(void) {
  uint32_t a, b, c, d, a1 = 0, b1, c1, d1;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
  const int osxsave = bit(c, 27), fma = bit(c, 12), f16c = bit(c, 29);
  if (!osxsave || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
  if (a >= 1) __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1);
  const uint64_t states = saved_states();
  const int ymm = (states & 0x06) == 0x06, zmm = (states & 0xe6) == 0xe6;
  unsigned found = 0;
  if (ymm && fma && f16c && bit(b, 5)) found |= PC_CPU_AVX2;
  if (ymm && bit(a1, 4)) found |= PC_CPU_AVXVNNI;
  if (zmm && bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31)) found |= PC_CPU_AVX512;
  if (zmm && bit(c, 11)) found |= PC_CPU_AVX512VNNI;
  const int tiles = (states & 0x60000) == 0x60000;
  if (tiles && bit(d, 24) && bit(d, 25) && tiles_permitted()) found |= PC_CPU_AMX;
  return found;
}

static int is_amd(void) {
  uint32_t a, b = 0, c = 0, d = 0;
  __get_cpuid(0, &a, &b, &c, &d);
  return b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
}

int pc_cpu_is_amd(void) {
  static int answer;
  return once(&answer, is_amd);
}

/* Of those with AVX-512, Intel lists as leaking: Skylake and its successors on servers, Cannon, Ice, Tiger and Rocket Lake. */
static int gathers(void) {
  static const uint8_t leaking[] = {0x55, 0x66, 0x6a, 0x6c, 0x7d, 0x7e, 0x8c, 0x8d, 0xa7};
  uint32_t a = 0, b, c, d;
  __get_cpuid(1, &a, &b, &c, &d);
  const uint32_t family = a >> 8 & 15, model = (a >> 4 & 15) | (a >> 12 & 0xf0);
  for (size_t i = 0; i < sizeof leaking; i++)
    if (family == 6 && model == leaking[i]) return 0;
  return !pc_cpu_is_amd();
}

int pc_cpu_gathers(void) {
  static int answer;
  return once(&answer, gathers);
}

enum { FTZ_DAZ_ROUNDING = 0xe040 }; /* MXCSR bits 15, 14-13 and 6 */

/* Writing MXCSR stalls the pipeline, and its usual value needs no change. */
unsigned pc_fp_enter(void) {
  const unsigned saved = _mm_getcsr();
  if (saved & FTZ_DAZ_ROUNDING) _mm_setcsr(saved & ~(unsigned)FTZ_DAZ_ROUNDING);
  return saved;
}

void pc_fp_leave(unsigned saved) {
  if (saved & FTZ_DAZ_ROUNDING) _mm_setcsr(saved);
}

#elif defined(__aarch64__)
int pc_cpu_is_amd(void) { return 0; }
int pc_cpu_gathers(void) { return 0; }

#if defined(__linux__)
#include <sys/auxv.h>
enum { HWCAP_ASIMDDP_BIT = 20 };
unsigned pc_cpu_features(void) { return getauxval(AT_HWCAP) >> HWCAP_ASIMDDP_BIT & 1 ? PC_CPU_DOTPROD : 0; }
#else
unsigned pc_cpu_features(void) { return PC_CPU_DOTPROD; } /* every 64-bit Apple CPU since the A13 */
#endif

enum { FLUSH_ROUNDING = 0x01c80000 }; /* FPCR: FZ, RMode, FZ16 */

unsigned pc_fp_enter(void) {
  uint64_t saved;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  if (saved & FLUSH_ROUNDING) __asm__ volatile("msr fpcr, %0" : : "r"(saved & ~(uint64_t)FLUSH_ROUNDING));
  return (unsigned)saved;
}

void pc_fp_leave(unsigned saved) {
  if (saved & FLUSH_ROUNDING) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)saved));
}

#else
#include <fenv.h>
unsigned pc_cpu_features(void) { return 0; }
int pc_cpu_is_amd(void) { return 0; }
int pc_cpu_gathers(void) { return 0; }

unsigned pc_fp_enter(void) { /* C knows the rounding mode alone */
  const int saved = fegetround();
  if (saved != FE_TONEAREST) fesetround(FE_TONEAREST);
  return (unsigned)saved;
}

void pc_fp_leave(unsigned saved) {
  if (saved != FE_TONEAREST) fesetround((int)saved);
}
#endif
