/* Reading what no cache may hold: asked for ahead of use, as the hardware stops at the end of a page. */
#ifndef PC_MEMORY_H
#define PC_MEMORY_H

enum {
  PC_FAR = 1 << 22,   /* elements of four bytes that no cache may hold: from one, asking costs up to a fifth of the time */
  PC_ASKED = 1 << 12, /* elements between reading and asking */
  PC_PAST = 1 << 24   /* codes that are stored past the caches: 16 MB, beside four times that of floats */
};
#endif
