/* The public C interface of pycomp: plain pointers, int64_t sizes, a status code. No Python, no output; memory of its own only
 * where a kernel says so, given back on return.
 *
 * Every kernel is a function `int pc_<name>(...)` that returns a pc_status; kernels.def documents each one.
 * Bits: a result depends on the operands alone, never on threads, level, alignment or the caller's floating-point mode.
 * Threads: every function may be called from any number of threads at once.
 */
#ifndef PYCOMP_PYCOMP_H
#define PYCOMP_PYCOMP_H

#include <stdint.h>

#define PC_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* <cdef> The Python binding reads the declarations from here to </cdef>. */
typedef enum {
  PC_OK = 0,
  PC_EINVAL = 1, /* an argument is outside what the kernel states: a size, a leading dimension, a number, the end of indptr */
  PC_EISA = 2,   /* no such instruction-set level, or this CPU or operating system lacks it */
  PC_ENAN = 3,   /* an operand holds NaN where the kernel has no meaning for it */
  PC_EOVERFLOW = 4, /* an exact result does not fit its type */
  PC_ENOMEM = 5  /* the memory that the kernel needs for itself is not to be had */
} pc_status;

/* Applied to each output of a fused product: max(x, 0); x Phi(x), Phi the normal distribution, and its approximation by
 * tanh; x / (1 + e^-x). NaN stays NaN, relu(-0) is +0, the others of -0 and -infinity are -0. */
typedef enum { PC_IDENTITY = 0, PC_RELU = 1, PC_GELU = 2, PC_GELU_TANH = 3, PC_SILU = 4 } pc_activation;

/* What is added up of the elements of a block: they themselves, their magnitudes, or their squares. */
typedef enum { PC_SUM = 0, PC_L1 = 1, PC_L2 = 2 } pc_norm;

/* Distances of q = softmax(student/T) from p = softmax(teacher/T). With m = share p + (1 - share) q:
 *   KL(p || q); KL(q || p); share KL(p || m) + (1 - share) KL(q || m); KL(p || m); KL(q || share q + (1 - share) p);
 *   half the sum of |p - q|;
 * of given probabilities p: -sum p log q; KL(p || q);
 * over the logits one by one: the sum of KL between answers yes or no, yes of probability 1/(1 + exp(-logit/T)); that of
 * ((student - teacher)/T)^2. */
typedef enum {
  PC_FORWARD_KL = 0, PC_REVERSE_KL = 1, PC_JSD = 2, PC_SKEW_KL = 3, PC_REVERSE_SKEW_KL = 4, PC_TOTAL_VARIATION = 5,
  PC_CROSS_ENTROPY = 6, PC_GIVEN_KL = 7, PC_BINARY_KL = 8, PC_SQUARED_LOGITS = 9
} pc_divergence;

PC_API const char *pc_version(void);

/* The instruction-set level in use: "generic", "avx2", ... Chosen at the first call, the highest that is supported. */
PC_API const char *pc_level(void);
/* Bytes of its vector registers: 16, 32 or 64. */
PC_API int pc_register_bytes(void);
/* Levels compiled into this library, lowest first: the i-th name, or NULL past the last one. */
PC_API const char *pc_level_name(int i);
/* 1 if this CPU and operating system can run the level of that name. */
PC_API int pc_level_supported(const char *name);
/* Forces a level; NULL chooses the highest again. PC_EISA if it is unknown or unsupported. */
PC_API int pc_set_level(const char *name);

/* Upper limit of threads a call may use; 0 follows OpenMP (OMP_NUM_THREADS, omp_set_num_threads). */
PC_API int pc_get_num_threads(void);
PC_API void pc_set_num_threads(int n);
PC_API int pc_has_openmp(void);
/* The most threads that one step of the caller's kernels was shared among since this was last asked; 0 if nothing ran. */
PC_API int pc_most_threads(void);
/* </cdef> */

#define PC_KERNEL(name, parameters, arguments) PC_API int pc_##name parameters;
#include "pycomp/kernels.def"
#undef PC_KERNEL

#ifdef __cplusplus
}
#endif
#endif
