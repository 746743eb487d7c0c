/* SPDX-License-Identifier: ISC */
#include <posix/process.h>
#include <wherry/base/errors.h>

#define PERSONALITY_ASK 0xffffffffu

/* Plain Linux, and nothing else. */
long wh_sys_personality(unsigned long personality)
{
	return personality == 0 || (uint32_t)personality == PERSONALITY_ASK ? 0 : -WH_EINVAL;
}
