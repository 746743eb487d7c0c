/* SPDX-License-Identifier: ISC */
/* The static command has none of it: wherry-run does. */
#include "gateway_options.h"

int gateway_extra_take(struct gateway_options *o, int id, const char *value)
{
	return GATEWAY_ELSEWHERE;
}

int gateway_extra_start(const struct gateway_options *o, struct wh_gateway *gateway,
			struct wh_loop *loop)
{
	return CLI_OK;
}

void gateway_extra_end(void)
{
}
