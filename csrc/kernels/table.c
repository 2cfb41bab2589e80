/* The kernels of the level being compiled. One that only adds a dot product of bytes to another, PC_BASE, compiles those
 * that use it and takes the rest from there. */
#include "table.h"
#include "vocabulary.h"

#ifndef PC_BASE
#define PC_BASE PC_LEVEL
#endif
#define PC_FN_BELOW(name) PC_PASTE(pc_##name, PC_BASE)

#define PC_KERNEL(name, parameters, arguments) int PC_FN_BELOW(name) parameters;
#define PC_KERNEL_DOT(name, parameters, arguments) int PC_FN(name) parameters;
#include "pycomp/kernels.def"
#undef PC_KERNEL

extern const pc_table PC_FN(table);
const pc_table PC_FN(table) = {
#define PC_KERNEL(name, parameters, arguments) .name = PC_FN_BELOW(name),
#define PC_KERNEL_DOT(name, parameters, arguments) .name = PC_FN(name),
#include "pycomp/kernels.def"
#undef PC_KERNEL
};
