/* SPDX-License-Identifier: ISC */
/* The static command has no gdb server and writes no core files: wherry-run does. */
#include "gateway_options.h"
#include "run.h"

int run_gdb_take(struct run_options *o, const char *value)
{
	return GATEWAY_ELSEWHERE;
}

int run_gdb_open(struct run *r)
{
	return CLI_OK;
}

int run_gdb_start(struct run *r)
{
	return CLI_OK;
}

void run_gdb_look(struct run *r)
{
}

void run_gdb_ended(struct run *r)
{
}

int run_core_take(struct run_options *o, const char *value)
{
	return GATEWAY_ELSEWHERE;
}

int run_core_open(struct run *r)
{
	return CLI_OK;
}

void run_core_write(struct run *r)
{
}
