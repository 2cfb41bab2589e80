/* A layer of 8-bit weights and float activations: quantize_rows_u8 of whole rows, then the product of its codes. The bits of
 * these two calls; one, since with few rows calling takes as long as multiplying. Both are called as a C program would: a level
 * that adds a dot product has a product of its own, but its quantizer is that of the level below. */
#include "activation.h"
#include "heap.h"
#include "table.h"
#include "vocabulary.h"

enum { FEW_BYTES = 1 << 14 /* that wait on the stack */ };

/* Rows as codes. */
typedef struct {
  _Alignas(64) char few[FEW_BYTES];
  void *found; /* to free */
  uint8_t *codes;
  float *scale;
  int32_t *zero;
} quantized;

static int quantize(int64_t m, int64_t k, const float *x, int64_t ldx, quantized *q) {
  const int64_t codes = (m * k + PC_LINE - 1) / PC_LINE * PC_LINE, each = m * (int64_t)sizeof(int32_t), all = codes + 3 * each;
  q->found = NULL;
  char *const room = all <= FEW_BYTES ? q->few : pc_heap((size_t)all, &q->found);
  if (!room) return PC_ENOMEM;
  q->codes = (uint8_t *)room;
  q->scale = (float *)(void *)(room + codes);
  q->zero = (int32_t *)(void *)(room + codes + each);
  return pc_quantize_rows_u8(m, k, 1, x, ldx, q->codes, q->scale, q->zero, q->zero + m);
}

/* -- entries: results of each type */
#define LAYER(to, parameters, arguments)                                                                               \
  int PC_FN(linear_dynamic_##to)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const int8_t *w,        \
                                 const int32_t *sums, const float *w_scale, const int32_t *w_zero, const float *bias,  \
                                 const float *residual, int32_t activation, parameters, int64_t ldy) {                 \
    if (m < 0 || k < 0 || n < 0 || ldx < k || ldy < n || !pc_is_activation(activation)) return PC_EINVAL;              \
    if (m == 0 || n == 0) return PC_OK;                                                                                \
    quantized q;                                                                                                       \
    int status = quantize(m, k, x, ldx, &q);                                                                           \
    if (status == PC_OK)                                                                                               \
      status = pc_gemm_u8s8_##to(m, k, n, q.codes, k, q.scale, q.zero, w, sums, w_scale, w_zero, bias, residual,       \
                                 activation, arguments, ldy);                                                          \
    free(q.found);                                                                                                     \
    return status;                                                                                                     \
  }
#define ALL(...) __VA_ARGS__
LAYER(f32, float *y, y)
LAYER(f16, uint16_t *y, y)
LAYER(bf16, uint16_t *y, y)
LAYER(s8, ALL(float y_scale, int32_t y_zero, int8_t *y), ALL(y_scale, y_zero, y))
LAYER(u8, ALL(float y_scale, int32_t y_zero, uint8_t *y), ALL(y_scale, y_zero, y))
