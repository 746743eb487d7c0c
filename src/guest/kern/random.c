/* SPDX-License-Identifier: ISC */
/*
 * Random bytes: ChaCha20 (RFC 8439) with fast key erasure. Each request takes a new
 * key from the first block before a byte goes out, so that a later look at memory
 * cannot reveal earlier output.
 */
#include <kern/plat.h>
#include <wherry/base/bytes.h>
#include <wherry/base/mem.h>
#include "kern_priv.h"

#define KEY_SIZE 32u
#define BLOCK_SIZE 64u

uint32_t kern_random_key[KEY_SIZE / 4];

static void quarter(uint32_t *s, int a, int b, int c, int d)
{
#define ROTATE(v, n) ((v) << (n) | (v) >> (32 - (n)))
	s[a] += s[b], s[d] = ROTATE(s[d] ^ s[a], 16);
	s[c] += s[d], s[b] = ROTATE(s[b] ^ s[c], 12);
	s[a] += s[b], s[d] = ROTATE(s[d] ^ s[a], 8);
	s[c] += s[d], s[b] = ROTATE(s[b] ^ s[c], 7);
#undef ROTATE
}

static void block(const uint32_t *key, uint64_t counter, uint8_t *to)
{
	static const uint32_t constant[4] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };
	uint32_t in[16], s[16];
	memcpy(in, constant, sizeof constant);
	memcpy(in + 4, key, KEY_SIZE);
	in[12] = (uint32_t)counter;
	in[13] = (uint32_t)(counter >> 32);
	in[14] = in[15] = 0;
	memcpy(s, in, sizeof s);
	for (int i = 0; i < 10; i++) {
		for (int column = 0; column < 4; column++)
			quarter(s, column, 4 + column, 8 + column, 12 + column);
		quarter(s, 0, 5, 10, 15);
		quarter(s, 1, 6, 11, 12);
		quarter(s, 2, 7, 8, 13);
		quarter(s, 3, 4, 9, 14);
	}
	for (int i = 0; i < 16; i++)
		wh_store_le32(to + 4 * i, s[i] + in[i]);
}

/* A copy from a snapshot must not say what its siblings say. */
static void refresh(void)
{
	static uint32_t seen;
	uint32_t generation = __atomic_load_n(&kern_control()->generation, __ATOMIC_RELAXED);
	if (generation == seen)
		return;
	struct wh_boot_info *boot = (struct wh_boot_info *)(uintptr_t)kern_boot();
	seen = generation;
	kern_random_add(boot->entropy, sizeof boot->entropy);
	memset(boot->entropy, 0, sizeof boot->entropy);
}

void kern_random(void *to, uint64_t size)
{
	refresh();
	uint8_t out[BLOCK_SIZE], *p = to;
	uint32_t key[KEY_SIZE / 4];
	memcpy(key, kern_random_key, sizeof key);
	block(key, 0, out);
	memcpy(kern_random_key, out, KEY_SIZE);
	uint64_t counter = 1, have = BLOCK_SIZE - KEY_SIZE;
	while (size) {
		uint64_t n = size < have ? size : have;
		memcpy(p, out + BLOCK_SIZE - have, n);
		p += n;
		size -= n;
		if (size) {
			block(key, counter++, out);
			have = BLOCK_SIZE;
		}
	}
	memset(key, 0, sizeof key);
	memset(out, 0, sizeof out);
	__asm__ volatile("" ::"r"(key), "r"(out) : "memory"); /* keep the wiping */
}

void kern_random_add(const void *from, uint64_t size)
{
	const uint8_t *p = from;
	uint8_t out[BLOCK_SIZE];
	while (size) {
		uint64_t n = size < KEY_SIZE ? size : KEY_SIZE;
		for (uint64_t i = 0; i < n; i++)
			((uint8_t *)kern_random_key)[i] ^= p[i];
		block(kern_random_key, 0, out);
		memcpy(kern_random_key, out, KEY_SIZE);
		p += n;
		size -= n;
	}
}
