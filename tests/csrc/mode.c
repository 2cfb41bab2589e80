/* Sets and reads the floating-point mode of the calling thread, as a careless library would. */
float divide(float a, float b) { return a / b; } /* whether the mode is felt */

#if defined(__x86_64__)
#include <xmmintrin.h>
void set_mode(unsigned mode) { _mm_setcsr(mode); }
unsigned get_mode(void) { return _mm_getcsr(); }
#elif defined(__aarch64__)
void set_mode(unsigned mode) { __asm__ volatile("msr fpcr, %0" : : "r"((unsigned long)mode)); }
unsigned get_mode(void) {
  unsigned long mode;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  return (unsigned)mode;
}
#endif
