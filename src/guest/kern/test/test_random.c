/* SPDX-License-Identifier: ISC */
#include <kern/plat.h>
#include <wherry/test.h>

extern uint32_t kern_random_key[8];

static struct wh_boot_info boot;
static struct wh_boot_control control;

const struct wh_boot_info *kern_boot(void)
{
	return &boot;
}

struct wh_boot_control *kern_control(void)
{
	return &control;
}

/* Key stream of the zero key, RFC 8439 A.1 test vector 1: its first half becomes the
 * next key, the second half is the output. */
static const uint8_t stream[64] = {
	0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53,
	0x86, 0xbd, 0x28, 0xbd, 0xd2, 0x19, 0xb8, 0xa0, 0x8d, 0xed, 0x1a, 0xa8, 0x36,
	0xef, 0xcc, 0x8b, 0x77, 0x0d, 0xc7, 0xda, 0x41, 0x59, 0x7c, 0x51, 0x57, 0x48,
	0x8d, 0x77, 0x24, 0xe0, 0x3f, 0xb8, 0xd8, 0x4a, 0x37, 0x6a, 0x43, 0xb8, 0xf4,
	0x15, 0x18, 0xa1, 0x1c, 0xc3, 0x87, 0xb6, 0x69, 0xb2, 0xee, 0x65, 0x86,
};

static void matches_chacha20(void)
{
	uint8_t out[32];
	memset(kern_random_key, 0, sizeof kern_random_key);
	kern_random(out, sizeof out);
	CHECK_MEM(out, stream + 32, 32);
	CHECK_MEM(kern_random_key, stream, 32);
}

static void long_requests_do_not_repeat(void)
{
	uint8_t out[1000], again[1000];
	kern_random(out, sizeof out);
	kern_random(again, sizeof again);
	CHECK(memcmp(out, again, sizeof out));
	CHECK(memcmp(out, out + 64, 64));
	CHECK(memcmp(out + 32, out + 96, 64));
}

static void added_entropy_changes_the_stream(void)
{
	uint8_t a[16], b[16];
	memset(kern_random_key, 0, sizeof kern_random_key);
	kern_random(a, sizeof a);
	memset(kern_random_key, 0, sizeof kern_random_key);
	kern_random_add("entropy", 7);
	kern_random(b, sizeof b);
	CHECK(memcmp(a, b, sizeof a));
}

static void copies_differ(void)
{
	uint8_t out[3][16];
	static const uint8_t zero[sizeof boot.entropy];
	for (int i = 0; i < 3; i++) {
		memset(kern_random_key, 0, sizeof kern_random_key);
		memset(boot.entropy, i, sizeof boot.entropy);
		control.generation++;
		kern_random(out[i], sizeof out[i]);
		CHECK_MEM(boot.entropy, zero, sizeof zero);
	}
	CHECK(memcmp(out[0], out[1], 16) && memcmp(out[1], out[2], 16));
}

int main(void)
{
	RUN(matches_chacha20);
	RUN(long_requests_do_not_repeat);
	RUN(added_entropy_changes_the_stream);
	RUN(copies_differ);
	return test_end();
}
