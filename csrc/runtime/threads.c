/* The thread limit and the sharing of work. The limit follows OpenMP, so that OMP_NUM_THREADS and threadpoolctl work; the
 * workers are our own. An OpenMP region ends when every thread of the team has passed through it: on a machine that others
 * use too, the caller then spins until the kernel gives a worker its turn, and a call of 0.2 ms took 8. Here the caller
 * works through the pieces like everybody else and waits only for pieces that a worker has begun. */
#ifdef __linux__
#define _GNU_SOURCE /* sched_getcpu, and what follows */
#endif
#define _POSIX_C_SOURCE 200809L /* sigset_t under -std=c11 */
#include "table.h"

static _Thread_local int most;

int pc_most_threads(void) {
  const int found = most;
  most = 0;
  return found;
}

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

enum {
  MOST = 256,            /* workers */
  SHARES = 4,            /* pieces of work for each thread: what a late or slow one leaves, the others take */
  SPIN = 4000,           /* looks at what a thread waits for before it offers its processor to others, about 50 us */
  PATIENCE = 500000,     /* ns in which it goes on looking between such offers, before it sleeps */
  STEP = 64,             /* items: pieces begin at multiples of it where the grain is a multiple too */
  STACK = 1 << 20        /* bytes; kernels keep panels of up to 0.15 MB on it */
};

/* One call's work. It lives here, not on the caller's stack: a late worker may look at `ticket` after the call. The rest is
 * written between calls and read by those who have joined one. */
static struct {
  void (*run)(int64_t, int64_t, const void *);
  const void *context;
  int64_t n, unit, units, shares;
  int threads;
  int cpu; /* where the caller runs; -1: not known */
} work;

/* Of each thread's own shares, the first that nobody has taken: a thread begins with the same part of the work in every
 * call, so that what it reads stays in its own cache. A cache line each, as all counters that threads write. */
typedef struct {
  _Alignas(128) int64_t value;
} counter;
static counter next[MOST + 1];

/* The number of the call, in the upper half, which changes with every call, and how many workers may still join it, in the
 * lower one. So a worker joins by one exchange; a lock here took longer than a row of softmax, with sixteen threads at it. */
static _Alignas(128) uint64_t ticket;
static counter finished;    /* workers that have left the call */
static counter sleeping;    /* workers that must be woken */
static counter waiting;     /* whether the caller must be */

static pthread_mutex_t caller = PTHREAD_MUTEX_INITIALIZER; /* held for a call: the pool serves one at a time */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* of going to sleep: no wake-up falls between look and sleep */
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, left = PTHREAD_COND_INITIALIZER;
static int workers;
static int limit;    /* 0: follow OpenMP */
static int standard; /* OpenMP's own limit when this library was loaded */

static uint64_t call_of(uint64_t t) { return t >> 32; }
static int64_t places_of(uint64_t t) { return (int64_t)(uint32_t)t; }

/* The child of a fork has none of the workers, and locks that somebody may have held: it starts anew. */
static void after_fork(void) {
  caller = lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  posted = left = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
  workers = 0;
  ticket = ticket >> 32 << 32;
  sleeping.value = waiting.value = 0;
}

__attribute__((constructor)) static void install(void) {
  standard = omp_get_max_threads();
  pthread_atfork(NULL, NULL, after_fork);
}

int pc_has_openmp(void) { return 1; }

/* A limit that somebody lowers from outside (threadpoolctl) is kept even under a higher one of our own. */
int pc_get_num_threads(void) {
  const int wanted = __atomic_load_n(&limit, __ATOMIC_RELAXED), outside = omp_get_max_threads();
  if (!wanted || (outside < standard && outside < wanted)) return outside;
  return wanted;
}

void pc_set_num_threads(int n) { __atomic_store_n(&limit, n < 0 ? 0 : n, __ATOMIC_RELAXED); }

static void pause_a_little(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* The system may wake a worker on the caller's own processor and leave the two to take turns there while another idles: on
 * a machine of two, for whole seconds. Such a worker moves; it may run anywhere again afterwards. */
#ifdef __linux__
static int this_cpu(void) { return sched_getcpu(); }

static void move_from(int cpu) {
  cpu_set_t allowed, others;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getcpu() != cpu || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  others = allowed;
  CPU_CLR((size_t)cpu, &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others) != 0) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
static int this_cpu(void) { return -1; }
static void move_from(int cpu) { (void)cpu; }
#endif

/* Where share s begins: shares are even, down to a unit. */
static int64_t cut(int64_t s) {
  const int64_t first = work.units * s / work.shares * work.unit;
  return smaller(first, work.n);
}

/* Takes shares until none is left: those of thread `me`, then what the others have not begun. */
static void take_shares(int me) {
  for (int i = 0; i < work.threads; i++) {
    const int owner = (me + i) % work.threads;
    const int64_t end = work.shares * (owner + 1) / work.threads;
    while (__atomic_load_n(&next[owner].value, __ATOMIC_RELAXED) < end) {
      const int64_t s = __atomic_fetch_add(&next[owner].value, 1, __ATOMIC_RELAXED);
      if (s >= end) break;
      work.run(cut(s), cut(s + 1), work.context);
    }
  }
}

/* Sleeping and waking: one side writes and then looks whether the other sleeps, the other says that it sleeps and then looks
 * again. Both in one order for all threads, so one of the two sees the other. */
static void sleep_until_call(uint64_t seen) {
  pthread_mutex_lock(&lock);
  __atomic_fetch_add(&sleeping.value, 1, __ATOMIC_SEQ_CST);
  while (call_of(__atomic_load_n(&ticket, __ATOMIC_SEQ_CST)) == seen) pthread_cond_wait(&posted, &lock);
  __atomic_fetch_sub(&sleeping.value, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&lock);
}

static void post(uint64_t call, int places) {
  __atomic_store_n(&ticket, call << 32 | (uint64_t)places, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&sleeping.value, __ATOMIC_SEQ_CST)) return;
  pthread_mutex_lock(&lock);
  pthread_cond_broadcast(&posted);
  pthread_mutex_unlock(&lock);
}

static void leave(void) {
  __atomic_fetch_add(&finished.value, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&waiting.value, __ATOMIC_SEQ_CST)) return;
  pthread_mutex_lock(&lock);
  pthread_cond_signal(&left);
  pthread_mutex_unlock(&lock);
}

static int64_t nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Whether a thing comes about soon. A processor whose thread sleeps takes 0.05 ms to start again, on a virtual machine up to
 * 10, and often the next call is only a layer's activation away; but other libraries' threads must not wait for one that
 * only looks. */
static int soon(int (*is_so)(uint64_t), uint64_t what) {
  for (int i = 0; i < SPIN; i++) {
    if (is_so(what)) return 1;
    pause_a_little();
  }
  const int64_t end = nanoseconds() + PATIENCE;
  do {
    if (is_so(what)) return 1;
    sched_yield();
  } while (nanoseconds() < end);
  return 0;
}

static int have_left(uint64_t joined) { return (uint64_t)__atomic_load_n(&finished.value, __ATOMIC_ACQUIRE) == joined; }

static void await_workers(int64_t joined) {
  if (soon(have_left, (uint64_t)joined)) return;
  pthread_mutex_lock(&lock);
  __atomic_store_n(&waiting.value, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&finished.value, __ATOMIC_SEQ_CST) != joined) pthread_cond_wait(&left, &lock);
  __atomic_store_n(&waiting.value, 0, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&lock);
}

static int is_posted(uint64_t seen) { return call_of(__atomic_load_n(&ticket, __ATOMIC_RELAXED)) != seen; }

/* Returns when there is another call than `seen`. */
static void await_call(uint64_t seen) {
  if (!soon(is_posted, seen)) sleep_until_call(seen);
}

/* Joins the present call, which *seen becomes; 0 if it has threads enough or has ended. */
static int join(uint64_t *seen) {
  uint64_t t = __atomic_load_n(&ticket, __ATOMIC_RELAXED);
  while (places_of(t) > 0 && !__atomic_compare_exchange_n(&ticket, &t, t - 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) continue;
  *seen = call_of(t);
  return places_of(t) > 0;
}

static void *worker(void *number) {
  pc_fp_enter(); /* a thread begins with the floating-point mode of the one that made it */
  uint64_t seen = 0;
  for (;;) {
    await_call(seen);
    if (!join(&seen)) continue;
    move_from(work.cpu);
    take_shares((int)(intptr_t)number);
    leave();
  }
  return NULL;
}

/* Makes workers up to `wanted`, as far as the system allows. Signals stay with the caller's own threads. */
static void hire(int wanted) {
  if (workers >= wanted) return;
  sigset_t all, before;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t made;
  while (workers < wanted && workers < MOST && pthread_create(&made, &attributes, worker, (void *)(intptr_t)(workers + 1)) == 0) workers++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

void pc_for(int64_t n, int64_t grain, void (*run)(int64_t, int64_t, const void *), const void *context) {
  if (n <= 0) return;
  const int64_t pieces = (n - 1) / grain + 1;
  int threads = pieces > 1 ? pc_get_num_threads() : 1;
  if (threads > pieces) threads = (int)pieces;
  if (threads > MOST + 1) threads = MOST + 1;
  if (most < 1) most = 1;
  /* A plain branch for one thread; and where another thread is using the workers, each caller is a thread already. */
  if (threads <= 1 || pthread_mutex_trylock(&caller) != 0) {
    run(0, n, context);
    return;
  }
  if (most < threads) most = threads;
  hire(threads - 1);
  work.run = run;
  work.context = context;
  work.n = n;
  work.unit = grain % STEP ? 1 : STEP;
  work.units = (n - 1) / work.unit + 1;
  work.shares = threads * smaller((pieces - 1) / threads + 1, SHARES);
  work.shares = smaller(work.shares, work.units);
  work.threads = threads;
  work.cpu = this_cpu();
  for (int t = 0; t < threads; t++) next[t].value = work.shares * t / threads;
  finished.value = 0;
  post((call_of(__atomic_load_n(&ticket, __ATOMIC_RELAXED)) + 1) & UINT32_MAX, threads - 1);

  take_shares(0);

  const uint64_t closed = __atomic_fetch_and(&ticket, ~(uint64_t)UINT32_MAX, __ATOMIC_RELAXED); /* nobody joins any more */
  await_workers(threads - 1 - places_of(closed));
  pthread_mutex_unlock(&caller);
}

#else
int pc_has_openmp(void) { return 0; }
int pc_get_num_threads(void) { return 1; }
void pc_set_num_threads(int n) { (void)n; }

void pc_for(int64_t n, int64_t grain, void (*run)(int64_t, int64_t, const void *), const void *context) {
  (void)grain;
  if (n <= 0) return;
  most = 1;
  run(0, n, context);
}
#endif
