/* SPDX-License-Identifier: ISC */
#ifndef SCENE_H
#define SCENE_H

/* One small disk of a test and what must be on it, for tests that ask for one thing after the other. */

#include "../qcow2_priv.h"
#include "kit.h"

#define DISK (256u << 10)
static struct kit kit;
static uint8_t below[DISK], buffer[DISK], model[DISK];

static const struct kit_options plain = { 3, 4096, 16, DISK };
static const struct kit_options on_raw = { 3, 4096, 16, DISK, .backing = KIT_RAW_BACKING };

/* An open image over a file whose bytes tell their place. */
static void begin(const struct kit_options *o)
{
	for (uint32_t i = 0; i < DISK; i++)
		below[i] = (uint8_t)(0x80 | i / 512);
	kit_init(&kit, o, below);
	memset(model, 0, sizeof model);
	if (o->backing)
		memcpy(model, below, DISK);
	kit_must_open(&kit, false);
}

static int put(uint64_t at, int byte, uint64_t size, uint32_t flags)
{
	memset(buffer, byte, size);
	int r = wh_block_do(kit.block, WH_BLOCK_WRITE, at, buffer, size, flags);
	if (r >= 0)
		memset(model + at, byte, size);
	return r;
}

static void compare(void)
{
	CHECK_EQ(wh_block_do(kit.block, WH_BLOCK_READ, 0, buffer, DISK, 0), 0);
	CHECK_MEM(buffer, model, DISK);
}

#endif
