/* SPDX-License-Identifier: ISC */
/*
 * gdb's packets. First byte 'r': the rest is bytes of the connection as they are; otherwise each line is a packet's
 * content and gets its frame and checksum here, so that mutations reach the requests. A line "~N" is a stop with signal N,
 * "~e" the guest's end, "~c" another connection.
 */
#include <stdlib.h>
#include <string.h>
#include <wherry/base/errors.h>
#include <wherry/gdb.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t registers[WH_GDB_REGISTERS_SIZE], memory[4096];
static bool running;

static void still(uint32_t thread)
{
	if (running || thread < 1 || thread > 3)
		abort();
}

static int on_registers(void *ctx, uint32_t thread, bool write, uint8_t *bytes)
{
	still(thread);
	memcpy(write ? registers : bytes, write ? bytes : registers, sizeof registers);
	return 0;
}

static int on_memory(void *ctx, uint32_t thread, bool write, uint64_t address, void *bytes,
		     size_t size)
{
	still(thread);
	if (address >= sizeof memory || size > sizeof memory - address)
		return -WH_EFAULT;
	memcpy(write ? (void *)(memory + address) : bytes,
	       write ? bytes : (void *)(memory + address), size);
	return 0;
}

static int on_point(void *ctx, bool set, enum wh_gdb_point kind, uint64_t address, uint32_t size)
{
	still(1);
	return kind == WH_GDB_POINT_SOFTWARE ? -WH_EOPNOTSUPP : 0;
}

static void on_go(void *ctx, uint32_t thread, bool step, int signal)
{
	still(thread);
	if (signal < 0 || signal > 31)
		abort();
	running = true;
}

static void on_detach(void *ctx)
{
	still(1);
	running = true;
}

static void on_kill(void *ctx)
{
}

static uint64_t on_text(void *ctx)
{
	return 0x123456000;
}

static void on_send(void *ctx, const void *bytes, size_t size)
{
	const char *p = bytes;
	uint8_t sum = 0;
	if (size == 1 && (*p == '+' || *p == '-'))
		return;
	if (size < 4 || size > WH_GDB_PACKET_MAX + 4 || *p != '$' || p[size - 3] != '#')
		abort();
	for (size_t i = 1; i < size - 3; i++)
		sum = (uint8_t)(sum + (uint8_t)p[i]);
	char digits[] = "0123456789abcdef";
	if (p[size - 2] != digits[sum >> 4] || p[size - 1] != digits[sum & 15])
		abort();
}

static const struct wh_gdb_ops ops = { .registers = on_registers,
				       .memory = on_memory,
				       .point = on_point,
				       .go = on_go,
				       .interrupt = on_kill,
				       .kill = on_kill,
				       .detach = on_detach,
				       .text = on_text,
				       .threads = 3 };

static void packet(struct wh_gdb *g, const uint8_t *content, size_t size)
{
	char tail[4] = "#00";
	uint8_t sum = 0;
	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + content[i]);
	tail[1] = "0123456789abcdef"[sum >> 4];
	tail[2] = "0123456789abcdef"[sum & 15];
	wh_gdb_input(g, "$", 1);
	wh_gdb_input(g, content, size);
	wh_gdb_input(g, tail, 3);
}

static void line(struct wh_gdb *g, const uint8_t *content, size_t size)
{
	struct wh_gdb_stop stop = { .thread = 1 + size % 3, .signal = 5 };
	if (!size || content[0] != '~') {
		packet(g, content, size);
	} else if (size > 1 && content[1] == 'c') {
		wh_gdb_reset(g);
	} else if (size > 1 && content[1] == 'e') {
		running = false;
		wh_gdb_ended(g, size % 2 ? 9 : 0, 300);
	} else {
		stop.watch = (enum wh_gdb_point)(size % 5);
		running = false;
		wh_gdb_stopped(g, &stop);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wh_gdb_config config = { .size = sizeof config, .ops = &ops, .send = on_send };
	struct wh_gdb *g;
	if (wh_gdb_new(&config, &g) < 0)
		return 0;
	running = true;
	if (size && *data == 'r') {
		wh_gdb_input(g, data + 1, size - 1);
	} else {
		for (size_t at = 0; at < size;) {
			const uint8_t *end = memchr(data + at, '\n', size - at);
			size_t n = end ? (size_t)(end - data) - at : size - at;
			line(g, data + at, n);
			at += n + 1;
		}
	}
	wh_gdb_free(g);
	return 0;
}
