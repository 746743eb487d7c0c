/* SPDX-License-Identifier: ISC */
#ifndef ATTACK_H
#define ATTACK_H

/*
 * Each attack is a tiny guest that breaks one rule. `holds` means: the guest is
 * ended at the attack. A guest that comes back from it says so with this line and
 * ends with status 99: the protection is not there.
 */
#include <stdio.h>
#include <unistd.h>

static inline int attack_succeeded(const char *what)
{
	printf("BROKEN: %s\n", what);
	fflush(stdout);
	return 99;
}

#endif
