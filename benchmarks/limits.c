/* What this machine can do at most: fma, exact 8-bit dot products and products of tiles in registers, reading from memory. One
 * thread a call. */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { CHAINS = 16, WIDTH = 16 };
typedef __m512 floats;
typedef __m512i ints;
#define FMA(a, x) _mm512_fmadd_ps(a, x, x)
#define SET(v) _mm512_set1_ps(v)
#define LOAD(p) _mm512_load_si512(p)
#define XOR(a, b) _mm512_xor_si512(a, b)
#elif defined(__AVX2__)
enum { CHAINS = 12, WIDTH = 8 };
typedef __m256 floats;
typedef __m256i ints;
#define FMA(a, x) _mm256_fmadd_ps(a, x, x)
#define SET(v) _mm256_set1_ps(v)
#define LOAD(p) _mm256_load_si256((const __m256i *)(p))
#define XOR(a, b) _mm256_xor_si256(a, b)
#endif

/* Gop/s, two operations a multiply-add; 0 where this file knows no instruction for it. */
double fma_limit(double seconds) {
#if defined(__AVX2__)
  floats a[CHAINS];
  const floats x = SET(0.5f);
#pragma GCC unroll 16 /* all of them, or the array would live in memory */
  for (int i = 0; i < CHAINS; i++) a[i] = SET((float)i);
  const double start = now();
  double rounds = 0, took;
  do {
    for (int n = 0; n < 10000; n++) {
#pragma GCC unroll 16
      for (int i = 0; i < CHAINS; i++) a[i] = FMA(a[i], x);
      __asm__ volatile("" : "+v"(a[0]));
    }
    rounds += 10000;
  } while ((took = now() - start) < seconds);
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : : "v"(a[i]));
  return rounds * CHAINS * WIDTH * 2 / took * 1e-9;
#else
  (void)seconds;
  return 0;
#endif
}

#if defined(__AVX512VNNI__)
enum { DOTS = 16, PRODUCTS = 64 };
typedef __m512i codes;
#define ONES _mm512_set1_epi16(0x0101)
#define DOT(a, x) __asm__ volatile("vpdpbusd %1, %1, %0" : "+v"(a) : "v"(x))
#elif defined(__AVXVNNI__)
enum { DOTS = 12, PRODUCTS = 32 };
typedef __m256i codes;
#define ONES _mm256_set1_epi16(0x0101)
#define DOT(a, x) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(a) : "x"(x))
#elif defined(__AVX2__) /* exact: of codes widened to 16 bits, two products as one of sums (csrc/kernels/gemm_int8_sums.c); many
                           * rows, of which blocks are added first, may come to 8/7 of this, and weights of 7 bits to 4/3 */
enum { DOTS = 8, PRODUCTS = 32 };
typedef __m256i codes;
#define ONES _mm256_set1_epi16(1)
#define DOT(a, x)                                                                                                 \
  do {                                                                                                            \
    codes first, second;                                                                                          \
    __asm__ volatile("vpaddw %3, %3, %1\n\tvpaddw %3, %3, %2\n\tvpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0"         \
                     : "+x"(a), "=&x"(first), "=&x"(second) : "x"(x));                                            \
  } while (0)
#endif

double dot_limit(double seconds) {
#if defined(DOT)
  codes a[DOTS];
  const codes x = ONES;
#pragma GCC unroll 16
  for (int i = 0; i < DOTS; i++) a[i] = x;
  const double start = now();
  double rounds = 0, took;
  do {
    for (int n = 0; n < 10000; n++) {
#pragma GCC unroll 16
      for (int i = 0; i < DOTS; i++) DOT(a[i], x);
    }
    rounds += 10000;
  } while ((took = now() - start) < seconds);
#pragma GCC unroll 16
  for (int i = 0; i < DOTS; i++) __asm__ volatile("" : : "x"(a[i]));
  return rounds * DOTS * PRODUCTS * 2 / took * 1e-9;
#else
  (void)seconds;
  return 0;
#endif
}

/* Gop/s of 8-bit products in AMX tiles, which the process must be permitted to use; 0 where compiler or CPU know none. */
double tile_limit(double seconds) {
#if defined(__AMX_INT8__)
  struct { /* what LDTILECFG reads */
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape = {.palette = 1};
  enum { TILES = 8, SIDE = 16, DEPTH = 64, SUMS = 4, OPS = 2 * SIDE * SIDE * DEPTH };
  for (int t = 0; t < TILES; t++) {
    shape.bytes[t] = DEPTH;
    shape.rows[t] = SIDE;
  }
  __asm__ volatile("" : : "m"(shape)); /* the intrinsic of GCC 12 says that it reads eight bytes of it */
  _tile_loadconfig(&shape); /* all tiles are 0 then */
  const double start = now();
  double rounds = 0, took;
  do {
    for (int n = 0; n < 1000; n++) { /* sums 0-3, operands 4-7 */
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
    rounds += 1000;
  } while ((took = now() - start) < seconds);
  _tile_release();
  return rounds * SUMS * OPS / took * 1e-9;
#else
  (void)seconds;
  return 0;
#endif
}

#if defined(__AVX2__)
enum { LINE = 64, MOST = 8, AHEAD = 4096 };

/* The sum of each of some streams, `part` bytes apart, each line asked for ahead of its use or not: inlined with their number, so
 * that sums stay in registers. */
static inline __attribute__((always_inline)) void pass(const char *p, int64_t part, int streams, int asks, ints sums[MOST]) {
  for (int64_t i = 0; i < part; i += LINE)
#pragma GCC unroll 8
    for (int k = 0; k < streams; k++) {
      if (asks) __builtin_prefetch(p + k * part + i + AHEAD);
#pragma GCC unroll 2
      for (int j = 0; j < LINE; j += (int)sizeof(ints)) sums[k] = XOR(sums[k], LOAD(p + k * part + i + j));
    }
}
#endif

/* GB/s of reading `bytes` at p over and over, as 1, 2, 4, 6 or 8 streams beside each other, asking ahead or not. */
double read_limit(const char *p, int64_t bytes, int streams, int asks, double seconds) {
#if defined(__AVX2__)
  ints sums[MOST];
#pragma GCC unroll 8
  for (int k = 0; k < MOST; k++) sums[k] = LOAD(p);
  const int64_t part = bytes / streams / LINE * LINE;
  const double start = now();
  double total = 0, took;
  do {
    switch (streams) {
#define STREAMS(n)                   \
  case n:                            \
    if (asks) pass(p, part, n, 1, sums); \
    else pass(p, part, n, 0, sums);  \
    break;
      STREAMS(1) STREAMS(2) STREAMS(4) STREAMS(6) STREAMS(8)
      default: return 0;
    }
    total += (double)(part * streams);
  } while ((took = now() - start) < seconds);
#pragma GCC unroll 8
  for (int k = 0; k < MOST; k++) __asm__ volatile("" : : "x"(sums[k]));
  return total / took * 1e-9;
#else
  (void)p, (void)bytes, (void)streams, (void)asks, (void)seconds;
  return 0;
#endif
}
