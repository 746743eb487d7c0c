/* SPDX-License-Identifier: ISC */
/*
 * A guest of Solo5's hvt ABI (version 2), written against its documented structures: clock, console, a poll that times out, a disk
 * "data" that keeps what it is given, a network "net" whose gateway answers ARP. Status 7 when all went well; the command line
 * "write" writes to its text, "outside" passes an address outside of memory.
 */
#include <stddef.h>
#include <stdint.h>

__asm__(".section .note.abi, \"a\", @note\n"
	".balign 4\n.long 6, 16, 0x31494241\n.ascii \"Solo5\\0\\0\\0\"\n.long 1, 2, 0, 0\n"
	".section .note.mft, \"a\", @note\n"
	".balign 8\n.long 6, 4 + 8 + 3 * 104, 0x3154464d\n.ascii \"Solo5\\0\\0\\0\"\n.long 0\n"
	".long 1, 3\n"
	".fill 68, 1, 0\n.long 0x40000000\n.fill 32, 1, 0\n"
	".ascii \"data\"\n.fill 64, 1, 0\n.long 1\n.fill 32, 1, 0\n"
	".ascii \"net\"\n.fill 65, 1, 0\n.long 2\n.fill 32, 1, 0\n"
	".text\n");

struct info {
	uint64_t memory, end, hz, command_line, manifest;
	uint32_t host_features, guest_features;
	uint64_t ring;
};

static void call(uint16_t n, volatile void *argument)
{
	__asm__ volatile("outl %0, %1"
			 :
			 : "a"((uint32_t)(uintptr_t)argument), "d"((uint16_t)(0x500 + n))
			 : "memory");
}

static void say(const char *text)
{
	volatile struct {
		uint64_t data, size;
	} a = { (uintptr_t)text, 0 };
	while (text[a.size])
		a.size++;
	call(2, &a);
}

static void halt(int status)
{
	volatile struct {
		uint64_t cookie;
		int32_t status;
	} a = { 0, status };
	for (;;)
		call(8, &a);
}

static void expect(int good, const char *what)
{
	say(good ? "ok " : "FAIL ");
	say(what);
	say("\n");
	if (!good)
		halt(1);
}

static int block(int write, uint64_t offset, void *data, uint64_t size)
{
	volatile struct {
		uint64_t handle, offset, data, size;
		int32_t result;
	} a = { 1, offset, (uintptr_t)data, size, -1 };
	call(write ? 4 : 5, &a);
	return a.result;
}

static uint64_t poll(uint64_t timeout)
{
	volatile struct {
		uint64_t timeout, ready;
		int32_t result;
	} a = { timeout, 0, -1 };
	call(3, &a);
	return a.ready;
}

static int net(int write, void *frame, uint64_t *size)
{
	volatile struct {
		uint64_t handle, data, size;
		int32_t result;
	} a = { 2, (uintptr_t)frame, *size, -1 };
	call(write ? 6 : 7, &a);
	*size = a.size;
	return a.result;
}

static uint8_t buffer[2048], frame[1514];

static void disk(const struct info *info)
{
	const uint8_t *entry = (const uint8_t *)info->manifest + 8 + 104;
	expect(*(const uint64_t *)(entry + 72) == 65536 && entry[96] == 1, "disk is attached");
	for (int i = 0; i < 512; i++)
		buffer[i] = (uint8_t)(i * 7);
	expect(block(1, 1024, buffer, 512) == 0, "write");
	expect(block(0, 1024, buffer + 512, 512) == 0, "read");
	for (int i = 0; i < 512; i++)
		if (buffer[512 + i] != (uint8_t)(i * 7))
			expect(0, "what was written");
	expect(block(0, 65536, buffer, 512) == 2 && block(0, 100, buffer, 512) == 2,
	       "bad offsets are refused");
}

/* Who has 10.0.2.2? */
static void network(const struct info *info)
{
	const uint8_t *mac = (const uint8_t *)info->manifest + 8 + 2 * 104 + 72;
	static const uint8_t head[] = { 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 };
	static const uint8_t from[] = { 10, 0, 2, 15 }, to[] = { 10, 0, 2, 2 };
	uint64_t size = 42;
	for (int i = 0; i < 6; i++) {
		frame[i] = 0xff;
		frame[6 + i] = frame[22 + i] = mac[i];
	}
	for (int i = 0; i < 10; i++)
		frame[12 + i] = head[i];
	for (int i = 0; i < 4; i++) {
		frame[28 + i] = from[i];
		frame[38 + i] = to[i];
	}
	expect(net(1, frame, &size) == 0, "frame out");
	for (int tries = 0; tries < 20; tries++) {
		if (!(poll(1000000000) & 4))
			continue;
		size = sizeof frame;
		if (net(0, frame, &size) == 0 && size >= 42 && frame[13] == 6 && frame[21] == 2)
			break;
		frame[21] = 0;
	}
	expect(frame[21] == 2 && frame[31] == 2, "frame in");
	size = sizeof frame;
	while (net(0, frame, &size) == 0)
		size = sizeof frame;
	expect(poll(1000000) == 0, "poll times out");
}

void start(const struct info *info);
__attribute__((section(".text.start"))) void start(const struct info *info)
{
	const char *line = (const char *)info->command_line;
	volatile uint64_t clock = 0;
	say("hello from hvt\n");
	if (line[0] == 'w')
		*(volatile uint8_t *)(uintptr_t)start = 0;
	if (line[0] == 'o')
		call(1, (void *)(uintptr_t)(info->memory + 4096));
	call(1, &clock);
	expect(clock > 1700000000ull * 1000000000ull && info->hz > 1000000, "clock");
	disk(info);
	network(info);
	halt(7);
}
