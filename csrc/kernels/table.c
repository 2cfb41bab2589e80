/* The kernels of the level being compiled. */
#include "table.h"
#include "vocabulary.h"

#define PC_KERNEL(name, parameters, arguments) int PC_FN(name) parameters;
#include "pycomp/kernels.def"
#undef PC_KERNEL

extern const pc_table PC_FN(table);
const pc_table PC_FN(table) = {
#define PC_KERNEL(name, parameters, arguments) .name = PC_FN(name),
#include "pycomp/kernels.def"
#undef PC_KERNEL
};
