/* A layer of 8-bit weights and float activations: quantize_rows_u8 of whole rows, or quantize_s8 or u8 by a scale that is given,
 * then the product of the codes. The bits of these two calls; one, since with few rows calling takes as long as multiplying. The
 * product is called as a C program would, since a level that adds a dot product has one of its own; which level quantizes is
 * pc_quantizers' to say. */
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

/* Room for them, and for a number more a row after the zero points; returns whether there is. */
static int find_room(int64_t m, int64_t k, quantized *q) {
  const int64_t codes = (m * k + PC_LINE - 1) / PC_LINE * PC_LINE, each = m * (int64_t)sizeof(int32_t), all = codes + 3 * each;
  q->found = NULL;
  char *const room = all <= FEW_BYTES ? q->few : pc_heap((size_t)all, &q->found);
  if (!room) return 0;
  q->codes = (uint8_t *)room;
  q->scale = (float *)(void *)(room + codes);
  q->zero = (int32_t *)(void *)(room + codes + each);
  return 1;
}

static int quantize_each(const pc_table *by, int64_t m, int64_t k, const float *x, int64_t ldx, quantized *q) {
  if (!find_room(m, k, q)) return PC_ENOMEM;
  return by->quantize_rows_u8(m, k, 1, x, ldx, q->codes, q->scale, q->zero, q->zero + m);
}

static int quantize_all(const pc_table *by, int64_t m, int64_t k, const float *x, int64_t ldx, float scale, int32_t zero,
                        int is_signed, quantized *q) {
  if (!find_room(m, k, q)) return PC_ENOMEM;
  for (int64_t i = 0; i < m; i++) {
    q->scale[i] = scale;
    q->zero[i] = zero;
  }
  if (is_signed) return by->quantize_s8(m, k, x, ldx, q->scale, q->zero, (int8_t *)q->codes);
  return by->quantize_u8(m, k, x, ldx, q->scale, q->zero, q->codes);
}

static int is_layer(int64_t m, int64_t k, int64_t n, int64_t ldx, int32_t activation, int64_t ldy) {
  return m >= 0 && k >= 0 && n >= 0 && ldx >= k && ldy >= n && pc_is_activation(activation);
}

/* -- entries: results of each type */
#define LAYERS(to, parameters, arguments)                                                                              \
  int PC_FN(linear_dynamic_##to)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, const int8_t *w,        \
                                 const int32_t *sums, const float *w_scale, const int32_t *w_zero, const float *bias,  \
                                 const float *residual, int32_t activation, parameters, int64_t ldy) {                 \
    if (!is_layer(m, k, n, ldx, activation, ldy)) return PC_EINVAL;                                                    \
    if (m == 0 || n == 0) return PC_OK;                                                                                \
    quantized q;                                                                                                       \
    int status = quantize_each(pc_quantizers(m, k, n), m, k, x, ldx, &q);                                              \
    if (status == PC_OK)                                                                                               \
      status = pc_gemm_u8s8_##to(m, k, n, q.codes, k, q.scale, q.zero, w, sums, w_scale, w_zero, bias, residual,       \
                                 activation, arguments, ldy);                                                          \
    free(q.found);                                                                                                     \
    return status;                                                                                                     \
  }                                                                                                                    \
  int PC_FN(linear_static_##to)(int64_t m, int64_t k, int64_t n, const float *x, int64_t ldx, float x_scale,           \
                                int32_t x_zero, int32_t is_signed, const int8_t *w, const int32_t *sums,               \
                                const float *w_scale, const int32_t *w_zero, const float *bias, const float *residual, \
                                int32_t activation, parameters, int64_t ldy) {                                         \
    if (!is_layer(m, k, n, ldx, activation, ldy)) return PC_EINVAL;                                                    \
    quantized q;                                                                                                       \
    int status = quantize_all(pc_quantizers(m, k, n), m, k, x, ldx, x_scale, x_zero, is_signed, &q);                   \
    if (status == PC_OK && is_signed)                                                                                  \
      status = pc_gemm_s8s8_##to(m, k, n, (const int8_t *)q.codes, k, q.scale, q.zero, w, sums, w_scale, w_zero, bias, \
                                 residual, activation, arguments, ldy);                                                \
    else if (status == PC_OK)                                                                                          \
      status = pc_gemm_u8s8_##to(m, k, n, q.codes, k, q.scale, q.zero, w, sums, w_scale, w_zero, bias, residual,       \
                                 activation, arguments, ldy);                                                          \
    free(q.found);                                                                                                     \
    return status;                                                                                                     \
  }
LAYERS(f32, float *y, y)
LAYERS(f16, uint16_t *y, y)
LAYERS(bf16, uint16_t *y, y)
LAYERS(s8, PC_ALL(float y_scale, int32_t y_zero, int8_t *y), PC_ALL(y_scale, y_zero, y))
LAYERS(u8, PC_ALL(float y_scale, int32_t y_zero, uint8_t *y), PC_ALL(y_scale, y_zero, y))
