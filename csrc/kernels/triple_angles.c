/* What the distances of examples tell of the angles between them (Park et al., RKD-A, 2019). At j, between i and k, the cosine is
 *   c = (d_ij^2 + d_kj^2 - d_ik^2)/(2 d_ij d_kj),
 * 0 where an inverse is given as 0: of squares of distances, so that neighbours keep theirs. With x = c of the student - c of the
 * teacher and g = x, or -1 or 1 beyond, for each i, over j and k where no two of the three are the same,
 *   value[i]         = sum over j, k of g (x - g/2)
 *   by_arm[i,j]      = sum over k of g (1/d_kj - c/d_ij)/d_ij
 *   by_opposite[i,k] = sum over j of g/(d_ij d_kj),
 * the student's d. So x_i is pulled by 2 by_arm[i,j] + 2 by_arm[j,i] - by_opposite[i,j] - by_opposite[j,i] times x_i - x_j.
 * In double; sums over k by the lane rule, those over j one chain. Threads share i. Limit: the double units, 17 operations a triple. */
#include "table.h"
#include "vocabulary.h"

enum { GRAIN = 1 << 12 /* triples that pay for waking a thread */ };

typedef struct {
  int64_t m, wide; /* of rows: distances and inverses stand `wide` apart, zeros past m */
  const double *student, *student_inverse, *teacher, *teacher_inverse;
  double *value, *by_arm, *by_opposite;
} job;

/* Of i and j, what does not depend on k. */
typedef struct { vd16 square, inverse, half; } arm;

PC_INLINE arm arm_of(double distance, double inverse) {
  return (arm){vd_set1(distance * distance), vd_set1(inverse), vd_set1(0.5 * inverse)};
}

/* The cosine at j: b = d_kj and its inverse, o = d_ik. */
PC_INLINE vd16 cosine(const arm *a, vd16 b, vd16 inverse, vd16 o) {
  const vd16 minus_o = vd_sub(vd_zero(), o);
  return vd_mul(vd_fma(minus_o, o, vd_fma(b, b, a->square)), vd_mul(a->half, inverse));
}

static void angles_of_rows(int64_t begin, int64_t end, const void *context) {
  const job *j = context;
  const vd16 one = vd_set1(1.0), minus_one = vd_set1(-1.0), minus_half = vd_set1(-0.5);
  for (int64_t i = begin; i < end; i++) {
    const double *student_i = j->student + i * j->wide, *teacher_i = j->teacher + i * j->wide;
    double *opposite = j->by_opposite + i * j->wide;
    double but_i[LANES];
    vd_store(but_i, one);
    but_i[i % LANES] = 0.0;
    for (int64_t k = 0; k < j->wide; k += LANES) vd_store(opposite + k, vd_zero());
    vd16 value = vd_zero();
    for (int64_t l = 0; l < j->m; l++) {
      if (l == i) {
        j->by_arm[i * j->m + l] = 0.0;
        continue;
      }
      const int64_t row = l * j->wide;
      const double inverse = j->student_inverse[i * j->wide + l];
      const arm of_student = arm_of(student_i[l], inverse);
      const arm of_teacher = arm_of(teacher_i[l], j->teacher_inverse[i * j->wide + l]);
      vd16 sum = vd_zero();
      for (int64_t k = 0; k < j->wide; k += LANES) {
        const vd16 near = vd_load(j->student_inverse + row + k);
        const vd16 c = cosine(&of_student, vd_load(j->student + row + k), near, vd_load(student_i + k));
        const vd16 wanted = cosine(&of_teacher, vd_load(j->teacher + row + k), vd_load(j->teacher_inverse + row + k),
                                   vd_load(teacher_i + k));
        vd16 x = vd_sub(c, wanted);
        if (k == i / LANES * LANES) x = vd_mul(x, vd_load(but_i));
        const vd16 low = vd_select_lt(x, minus_one, minus_one, x), g = vd_select_lt(one, low, one, low);
        value = vd_fma(g, vd_fma(g, minus_half, x), value);
        sum = vd_fma(g, vd_fma(vd_sub(vd_zero(), c), of_student.inverse, near), sum);
        vd_store(opposite + k, vd_fma(g, vd_mul(near, of_student.inverse), vd_load(opposite + k)));
      }
      j->by_arm[i * j->m + l] = inverse * vd_fold_add(sum);
    }
    j->value[i] = vd_fold_add(value);
  }
}

int PC_FN(triple_angles_f64)(int64_t m, const double *student, const double *student_inverse, const double *teacher,
                             const double *teacher_inverse, double *value, double *by_arm, double *by_opposite) {
  if (m < 0) return PC_EINVAL;
  const int64_t wide = (m + LANES - 1) / LANES * LANES;
  const job j = {m, wide, student, student_inverse, teacher, teacher_inverse, value, by_arm, by_opposite};
  pc_for(m, 1 + GRAIN / (m * wide + 1), angles_of_rows, &j);
  return PC_OK;
}
