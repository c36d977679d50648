/* What a program of root goes on with after it has given up all other rights. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CAPABILITY(number) (UINT64_C(1) << (number))

/* Those that this process can use now. False: they cannot be read, and errno says why. */
bool read_capabilities(uint64_t *out);

/*
 * Keeps these, as far as the process has them, for itself and for the programs that it runs, for ever. Where it may not take the
 * others from the bounding set, as in a container, "no new privileges" keeps root's programs from getting them back. False:
 * something else is left, and errno says why.
 */
bool keep_capabilities(uint64_t wanted);
