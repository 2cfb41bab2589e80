/* Reading what no cache may hold: asked for ahead of use, as the hardware stops at the end of a page. */
#ifndef PC_MEMORY_H
#define PC_MEMORY_H

enum {
  PC_FAR = 1 << 22,  /* elements of four bytes that no cache may hold: from one, asking costs up to a fifth of the time */
  PC_ASKED = 1 << 12 /* elements between reading and asking */
};
#endif
