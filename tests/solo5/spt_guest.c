/* SPDX-License-Identifier: ISC */
/*
 * A guest of Solo5's spt ABI (version 2), written against its documented structures. The command line's first word says what it does;
 * without one: clock, sleep, the disk "data", and ARP on the networks "net" and "other". Status 7 = all went well.
 */
#include <stddef.h>
#include <stdint.h>

__asm__(".section .note.abi, \"a\", @note\n"
	".balign 4\n.long 6, 16, 0x31494241\n.ascii \"Solo5\\0\\0\\0\"\n.long 2, 2, 0, 0\n"
	".section .note.mft, \"a\", @note\n"
	".balign 8\n.long 6, 4 + 8 + 4 * 104, 0x3154464d\n.ascii \"Solo5\\0\\0\\0\"\n.long 0\n"
	".long 1, 4\n"
	".fill 68, 1, 0\n.long 0x40000000\n.fill 32, 1, 0\n"
	".ascii \"data\"\n.fill 64, 1, 0\n.long 1\n.fill 32, 1, 0\n"
	".ascii \"net\"\n.fill 65, 1, 0\n.long 2\n.fill 32, 1, 0\n"
	".ascii \"other\"\n.fill 63, 1, 0\n.long 2\n.fill 32, 1, 0\n"
	".text\n");

struct info {
	uint64_t memory, end, command_line, manifest;
	int32_t epoll, timer;
};

enum {
	CALL_READ = 0,
	CALL_WRITE = 1,
	CALL_MMAP = 9,
	CALL_PREAD = 17,
	CALL_PWRITE = 18,
	CALL_CLOCK = 228,
	CALL_EXIT = 231,
	CALL_EPOLL = 281,
	CALL_TIMER = 286
};

static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static void say(const char *text)
{
	long size = 0;
	while (text[size])
		size++;
	call(CALL_WRITE, 1, (long)text, size, 0, 0, 0);
}

static void halt(int status)
{
	for (;;)
		call(CALL_EXIT, status, 0, 0, 0, 0, 0);
}

static void expect(int good, const char *what)
{
	say(good ? "ok " : "FAIL ");
	say(what);
	say("\n");
	if (!good)
		halt(1);
}

static const uint8_t *entry(const struct info *info, int handle)
{
	return (const uint8_t *)info->manifest + 8 + handle * 104;
}

static int number_of(const struct info *info, int handle)
{
	const uint8_t *e = entry(info, handle);
	expect(e[96] == 1, "attached");
	return *(const int32_t *)(e + 88);
}

static uint8_t buffer[2048], frame[1514];

static void disk(const struct info *info)
{
	int fd = number_of(info, 1);
	expect(*(const uint64_t *)(entry(info, 1) + 72) == 65536, "size of the disk");
	for (int i = 0; i < 512; i++)
		buffer[i] = (uint8_t)(i * 7);
	expect(call(CALL_PWRITE, fd, (long)buffer, 512, 1024, 0, 0) == 512, "write");
	expect(call(CALL_PREAD, fd, (long)buffer + 512, 512, 1024, 0, 0) == 512, "read");
	for (int i = 0; i < 512; i++)
		if (buffer[512 + i] != (uint8_t)(i * 7))
			expect(0, "what was written");
	expect(call(CALL_PREAD, fd, (long)info->memory + 4096, 512, 0, 0, 0) == -14, "EFAULT");
	expect(call(CALL_PREAD, fd, (long)buffer, 512, 65536 - 512, 0, 0) == 512, "last block");
}

/* Bits of handles, after at most so long. */
static uint64_t yield(const struct info *info, uint64_t ns)
{
	struct {
		uint32_t events;
		uint64_t data;
	} __attribute__((packed)) event[3];
	struct {
		uint64_t interval[2], value[2];
	} timer = { { 0, 0 }, { 0, 0 } };
	uint64_t ready = 0;
	call(CALL_CLOCK, 1, (long)timer.value, 0, 0, 0, 0);
	timer.value[1] += ns % 1000000000u;
	timer.value[0] += ns / 1000000000u + timer.value[1] / 1000000000u;
	timer.value[1] = timer.value[1] % 1000000000u | 1;
	call(CALL_TIMER, info->timer, 1, (long)&timer, 0, 0, 0);
	long n = call(CALL_EPOLL, info->epoll, (long)event, 3, -1, 0, 0);
	for (long i = 0; i < n; i++)
		if (event[i].data < 64)
			ready |= 1ull << event[i].data;
	return ready;
}

/* Who has 10.0.2.2? */
static void network(const struct info *info, int handle)
{
	static const uint8_t head[] = { 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1 };
	uint8_t from[] = { 10, 0, 2, (uint8_t)(100 + handle) }, to[] = { 10, 0, 2, 2 };
	const uint8_t *mac = entry(info, handle) + 72;
	int fd = number_of(info, handle);
	for (int i = 0; i < 6; i++) {
		frame[i] = 0xff;
		frame[6 + i] = frame[22 + i] = mac[i];
		frame[32 + i] = 0;
	}
	for (int i = 0; i < 10; i++)
		frame[12 + i] = head[i];
	for (int i = 0; i < 4; i++) {
		frame[28 + i] = from[i];
		frame[38 + i] = to[i];
	}
	expect(call(CALL_WRITE, fd, (long)frame, 42, 0, 0, 0) == 42, "frame out");
	for (int tries = 0; tries < 20; tries++) {
		uint64_t ready = yield(info, 1000000000);
		if (!(ready & 1u << handle)) { /* what one sends to all comes to the other */
			if (ready)
				call(CALL_READ, number_of(info, 5 - handle), (long)buffer,
				     sizeof buffer, 0, 0, 0);
			continue;
		}
		if (call(CALL_READ, fd, (long)frame, sizeof frame, 0, 0, 0) >= 42 &&
		    frame[13] == 6 && frame[21] == 2)
			break;
		frame[21] = 0;
	}
	expect(frame[21] == 2 && frame[31] == 2, "frame in");
	while (call(CALL_READ, fd, (long)frame, sizeof frame, 0, 0, 0) > 0)
		;
	expect(call(CALL_READ, fd, (long)frame, sizeof frame, 0, 0, 0) == -11, "EAGAIN");
}

/* The gateway may say something first: until it is quiet. */
static void sleep(const struct info *info)
{
	uint64_t clock[2] = { 0, 0 }, before[2] = { 0, 0 }, ready;
	do {
		call(CALL_CLOCK, 1, (long)before, 0, 0, 0, 0);
		ready = yield(info, 20000000);
		for (int handle = 2; handle < 4; handle++)
			while (ready & 1u << handle && call(CALL_READ, number_of(info, handle),
							    (long)frame, sizeof frame, 0, 0, 0) > 0)
				;
	} while (ready);
	call(CALL_CLOCK, 1, (long)clock, 0, 0, 0, 0);
	expect((clock[0] - before[0]) * 1000000000u + clock[1] - before[1] >= 20000000, "slept");
}

/* What the filter must not let through, by letter. */
static __attribute__((noinline, used)) void attack(const struct info *info, char what)
{
	int disk_fd = number_of(info, 1), net_fd = number_of(info, 2);
	switch (what) {
	case 't':
		*(volatile uint8_t *)(uintptr_t)attack = 0;
		break;
	case 'o': /* where the stub's first stack, or the vdso, may be */
		*(volatile uint8_t *)(info->memory + 4096);
		break;
	case 'z':
		*(volatile uint8_t *)16;
		break;
	case 'x':
		((void (*)(void))(uintptr_t)buffer)();
		break;
	case 'm':
		call(CALL_MMAP, 0, 4096, 7, 0x22, -1, 0);
		break;
	case 'b': /* behind the disk's end */
		call(CALL_PWRITE, disk_fd, (long)buffer, 512, 65536, 0, 0);
		break;
	case 'w': /* far behind it */
		call(CALL_PWRITE, disk_fd, (long)buffer, 512, -512, 0, 0);
		break;
	case 's': /* more than a block */
		call(CALL_PREAD, disk_fd, (long)buffer, 1024, 0, 0, 0);
		break;
	case 'd':
		call(CALL_READ, disk_fd, (long)buffer, 512, 0, 0, 0);
		break;
	case 'n':
		call(CALL_WRITE, net_fd + 2, (long)buffer, 64, 0, 0, 0);
		break;
	case 'e': /* standard error is not its own */
		call(CALL_WRITE, 2, (long)buffer, 64, 0, 0, 0);
		break;
	case 'r':
		call(CALL_READ, 0, (long)buffer, 64, 0, 0, 0);
		break;
	case 'c':
		call(CALL_CLOCK, 2, (long)buffer, 0, 0, 0, 0);
		break;
	}
	halt(1);
}

static void fill_console(void)
{
	for (int i = 0; i < 1500; i++)
		buffer[i] = i % 50 == 49 ? '\n' : 'x';
	for (int i = 0; i < 1000; i++)
		call(CALL_WRITE, 1, (long)buffer, 1500, 0, 0, 0);
	halt(9);
}

/* What a block costs: wherry run --disk data=FILE spt-guest -- B */
static void measure(const struct info *info)
{
	uint64_t before[2] = { 0, 0 }, after[2] = { 0, 0 };
	char text[] = "         ns a read\n";
	int fd = number_of(info, 1);
	const int reads = 20000;
	call(CALL_CLOCK, 1, (long)before, 0, 0, 0, 0);
	for (int i = 0; i < reads; i++)
		call(CALL_PREAD, fd, (long)buffer, 512, i % 128 * 512, 0, 0);
	call(CALL_CLOCK, 1, (long)after, 0, 0, 0, 0);
	uint64_t ns = (after[0] - before[0]) * 1000000000u + after[1] - before[1];
	ns /= (uint64_t)reads;
	for (int i = 7; i >= 0 && ns; i--, ns /= 10)
		text[i] = (char)('0' + ns % 10);
	say(text);
	halt(0);
}

void start(const struct info *info);
__attribute__((section(".text.start"))) void start(const struct info *info)
{
	const char *line = (const char *)info->command_line;
	uint64_t clock[2] = { 0, 0 };
	if (line[0] == 'A')
		attack(info, line[1]);
	if (line[0] == 'Q')
		halt(5);
	if (line[0] == 'B')
		measure(info);
	if (line[0] == 'F')
		fill_console();
	say("hello from spt\n");
	for (; line[0] == 'S';)
		yield(info, 1000000000);
	call(CALL_CLOCK, 0, (long)clock, 0, 0, 0, 0);
	expect(clock[0] > 1700000000, "clock");
	sleep(info);
	disk(info);
	network(info, 2);
	network(info, 3);
	halt(7);
}
