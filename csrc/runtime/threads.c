/* The only file that knows OpenMP: the thread limit, work sharing, the workers' floating-point mode, fork. */
#include "table.h"

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>

static int limit;    /* 0: follow OpenMP */
static int standard; /* OpenMP's own limit when this library was loaded */
static int forked;   /* libgomp's workers do not survive fork: a child that used them would wait for ever */

static void after_fork(void) { __atomic_store_n(&forked, 1, __ATOMIC_RELAXED); }

__attribute__((constructor)) static void install(void) {
  standard = omp_get_max_threads();
  pthread_atfork(NULL, NULL, after_fork);
}

int pc_has_openmp(void) { return 1; }

/* A limit that somebody lowers from outside (threadpoolctl) is kept even under a higher one of our own. */
int pc_get_num_threads(void) {
  if (__atomic_load_n(&forked, __ATOMIC_RELAXED)) return 1;
  const int wanted = __atomic_load_n(&limit, __ATOMIC_RELAXED), outside = omp_get_max_threads();
  if (!wanted || (outside < standard && outside < wanted)) return outside;
  return wanted;
}

void pc_set_num_threads(int n) { __atomic_store_n(&limit, n < 0 ? 0 : n, __ATOMIC_RELAXED); }

void pc_for(int64_t n, int64_t grain, void (*run)(int64_t, int64_t, const void *), const void *context) {
  if (n <= 0) return;
  const int64_t pieces = (n - 1) / grain + 1;
  int threads = pc_get_num_threads();
  if (threads > pieces) threads = (int)pieces;
  if (threads <= 1) { /* a plain branch: a parallel region costs 0.4 us even when it runs one thread */
    run(0, n, context);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const unsigned saved = pc_fp_enter(); /* workers keep the mode of whoever made the pool */
    const int64_t t = omp_get_thread_num(), all = omp_get_num_threads();
    const int64_t begin = pieces * t / all * grain, end = pieces * (t + 1) / all * grain;
    if (begin < end) run(begin, end < n ? end : n, context);
    pc_fp_leave(saved);
  }
}

#else
int pc_has_openmp(void) { return 0; }
int pc_get_num_threads(void) { return 1; }
void pc_set_num_threads(int n) { (void)n; }

void pc_for(int64_t n, int64_t grain, void (*run)(int64_t, int64_t, const void *), const void *context) {
  (void)grain;
  if (n > 0) run(0, n, context);
}
#endif
