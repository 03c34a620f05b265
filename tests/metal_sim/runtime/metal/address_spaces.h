// When a kernel runs, address spaces mean nothing; in the check of the text alone (METAL_SIM_CHECK)
// they are clang's, so that a pointer into one cannot become a pointer into another.
#pragma once
#ifdef METAL_SIM_CHECK
#define SIM_DEVICE __attribute__((address_space(1)))
#define SIM_CONSTANT __attribute__((address_space(2)))
#define SIM_THREADGROUP __attribute__((address_space(3)))
#else
#define SIM_DEVICE
#define SIM_CONSTANT
#define SIM_THREADGROUP
#endif
