/* SPDX-License-Identifier: ISC */
/* The static command has none of it: wherry-run does. */
#include "gateway_options.h"

int gateway_extra_take(struct gateway_options *o, int id, const char *value)
{
	return GATEWAY_ELSEWHERE;
}
