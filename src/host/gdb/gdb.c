/* SPDX-License-Identifier: ISC */
/*
 * Packets are $content#checksum; the content of those that come is kept in one buffer, checked, and answered at once.
 * Bytes from gdb are a peer's: lengths have limits, numbers must be hexadecimal and fit, what does not parse is E01.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/gdb.h>

#define SIGNAL_TRAP 5
#define SIGNAL_MAX 31

enum state { BETWEEN, CONTENT, SUM_1, SUM_2 };

struct wh_gdb {
	struct wh_gdb_config config;
	enum state state;
	bool escaped, no_ack, running, ended;
	bool quiet,
		asked; /* it has connected to a guest that ran, and nothing was told yet; it asked for the reason */
	uint8_t sum, sum_sent;
	uint32_t size; /* of the request; over the limit: counted no further, dropped */
	uint32_t thread;
	struct wh_gdb_stop stop;
	int end_signal, end_status;
	uint32_t out_size;
	char request[WH_GDB_PACKET_MAX + 1];
	char out[WH_GDB_PACKET_MAX + 1];
};

static const char digits[] = "0123456789abcdef";

static int nibble(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* ---- answers ---- */

static void flush(struct wh_gdb *g)
{
	char frame[WH_GDB_PACKET_MAX + 8];
	uint8_t sum = 0;
	for (uint32_t i = 0; i < g->out_size; i++)
		sum = (uint8_t)(sum + (uint8_t)g->out[i]);
	frame[0] = '$';
	memcpy(frame + 1, g->out, g->out_size);
	frame[1 + g->out_size] = '#';
	frame[2 + g->out_size] = digits[sum >> 4];
	frame[3 + g->out_size] = digits[sum & 15];
	g->config.send(g->config.ctx, frame, g->out_size + 4);
	g->out_size = 0;
}

static void say(struct wh_gdb *g, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(g->out + g->out_size, sizeof g->out - g->out_size, format, args);
	va_end(args);
	size_t room = sizeof g->out - 1 - g->out_size;
	g->out_size += (uint32_t)(n < room ? n : room);
}

static void hex(struct wh_gdb *g, const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size && g->out_size + 2 < sizeof g->out; i++) {
		g->out[g->out_size++] = digits[bytes[i] >> 4];
		g->out[g->out_size++] = digits[bytes[i] & 15];
	}
}

static void result(struct wh_gdb *g, int error)
{
	if (error < 0)
		say(g, "E%c%c", digits[-error >> 4 & 15], digits[-error & 15]);
	else
		say(g, "OK");
}

/* ---- numbers ---- */

/* A hexadecimal number of at most 64 bits; *at moves behind it. */
static bool number(const char **at, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *at;
	for (; nibble(*p) >= 0; p++) {
		if (v >> 60)
			return false;
		v = v << 4 | (uint64_t)nibble(*p);
	}
	if (p == *at)
		return false;
	*at = p;
	*ret = v;
	return true;
}

static bool comma(const char **at, char wanted)
{
	return *(*at)++ == wanted;
}

/* size bytes; nothing may follow. */
static bool bytes_of(const char *at, uint8_t *to, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		int high = nibble(at[2 * i]), low = high < 0 ? -1 : nibble(at[2 * i + 1]);
		if (low < 0)
			return false;
		to[i] = (uint8_t)(high << 4 | low);
	}
	return !at[2 * size];
}

/* "1", "0" and "-1" (any, all) */
static bool thread_of(struct wh_gdb *g, const char **at, uint32_t *ret)
{
	uint64_t v;
	if ((*at)[0] == '-' && (*at)[1] == '1') {
		*at += 2;
		*ret = g->thread;
		return true;
	}
	if (!number(at, &v) || v > g->config.ops->threads)
		return false;
	*ret = v ? (uint32_t)v : g->thread;
	return true;
}

/* ---- stops ---- */

static void tell_stop(struct wh_gdb *g)
{
	static const char *const watch[] = { NULL, NULL, "watch", "rwatch", "awatch" };
	if (g->ended) {
		if (g->end_signal)
			say(g, "X%c%c", digits[g->end_signal >> 4 & 15],
			    digits[g->end_signal & 15]);
		else
			say(g, "W%c%c", digits[g->end_status >> 4 & 15],
			    digits[g->end_status & 15]);
		return;
	}
	say(g, "T%c%cthread:%x;", digits[g->stop.signal >> 4 & 15], digits[g->stop.signal & 15],
	    g->stop.thread);
	if (g->stop.watch >= WH_GDB_POINT_WRITE)
		say(g, "%s:%llx;", watch[g->stop.watch], (unsigned long long)g->stop.watch_address);
}

void wh_gdb_stopped(struct wh_gdb *g, const struct wh_gdb_stop *stop)
{
	bool waits = g->running && (!g->quiet || g->asked);
	g->stop = *stop;
	g->quiet = g->asked = false;
	g->running = false;
	g->thread = stop->thread;
	if (!waits)
		return;
	tell_stop(g);
	flush(g);
}

void wh_gdb_ended(struct wh_gdb *g, int signal, int status)
{
	bool waits = g->running && (!g->quiet || g->asked);
	g->ended = true;
	g->quiet = g->asked = false;
	g->running = false;
	g->end_signal = signal;
	g->end_status = status & 255;
	if (!waits)
		return;
	tell_stop(g);
	flush(g);
}

bool wh_gdb_running(const struct wh_gdb *g)
{
	return g->running;
}

/* No answer now: the stop is one. */
static void go(struct wh_gdb *g, uint32_t thread, bool step, int signal)
{
	g->running = true;
	g->config.ops->go(g->config.ctx, thread, step, signal);
}

/* ---- requests ---- */

/* g, G, p, P */
static void registers(struct wh_gdb *g, const char *p)
{
	uint8_t bytes[WH_GDB_REGISTERS_SIZE] = { 0 };
	const struct wh_gdb_ops *o = g->config.ops;
	int error = o->registers(g->config.ctx, g->thread, false, bytes);
	if (*p == 'G' && error >= 0)
		error = bytes_of(p + 1, bytes, sizeof bytes) ? 0 : -WH_EINVAL;
	if (*p == 'G') {
		if (error >= 0)
			error = o->registers(g->config.ctx, g->thread, true, bytes);
		result(g, error);
	} else if (error < 0) {
		result(g, error);
	} else {
		hex(g, bytes, sizeof bytes);
	}
}

static bool place_of(uint64_t n, uint32_t *ret_at, uint32_t *ret_size)
{
	static const struct {
		uint8_t count, size;
	} groups[] = { { 17, 8 }, { 7, 4 }, { 8, 10 }, { 8, 4 }, { 16, 16 }, { 1, 4 } };
	uint32_t at = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(groups); i++) {
		if (n < groups[i].count) {
			*ret_at = at + (uint32_t)n * groups[i].size;
			*ret_size = groups[i].size;
			return true;
		}
		n -= groups[i].count;
		at += groups[i].count * groups[i].size;
	}
	return false;
}

static void one_register(struct wh_gdb *g, const char *p)
{
	uint8_t bytes[WH_GDB_REGISTERS_SIZE] = { 0 };
	const struct wh_gdb_ops *o = g->config.ops;
	bool write = *p++ == 'P';
	uint64_t n;
	uint32_t at, size;
	if (!number(&p, &n) || !place_of(n, &at, &size)) {
		result(g, -WH_EINVAL);
		return;
	}
	int error = o->registers(g->config.ctx, g->thread, false, bytes);
	if (error < 0) {
		result(g, error);
	} else if (!write) {
		hex(g, bytes + at, size);
	} else if (*p != '=' || !bytes_of(p + 1, bytes + at, size)) {
		result(g, -WH_EINVAL);
	} else {
		result(g, o->registers(g->config.ctx, g->thread, true, bytes));
	}
}

/* m ADDRESS,SIZE */
static void read_memory(struct wh_gdb *g, const char *p)
{
	uint8_t bytes[WH_GDB_PACKET_MAX / 2];
	uint64_t address, size;
	if (!number(&p, &address) || !comma(&p, ',') || !number(&p, &size) || *p) {
		result(g, -WH_EINVAL);
		return;
	}
	if (size > sizeof bytes - 8)
		size = sizeof bytes - 8; /* gdb asks again for the rest */
	int error = g->config.ops->memory(g->config.ctx, g->thread, false, address, bytes,
					  (size_t)size);
	if (error < 0)
		result(g, error);
	else
		hex(g, bytes, (size_t)size);
}

/* M ADDRESS,SIZE:HEX and X ADDRESS,SIZE:BYTES */
static void write_memory(struct wh_gdb *g, const char *p)
{
	uint8_t bytes[WH_GDB_PACKET_MAX];
	bool binary = *p++ == 'X';
	uint64_t address, size;
	if (!number(&p, &address) || !comma(&p, ',') || !number(&p, &size) || !comma(&p, ':') ||
	    size > sizeof bytes) {
		result(g, -WH_EINVAL);
		return;
	}
	uint32_t left = g->size - (uint32_t)(p - g->request);
	if (binary && left == size)
		memcpy(bytes, p, (size_t)size);
	else if (binary || !bytes_of(p, bytes, (size_t)size)) {
		result(g, -WH_EINVAL);
		return;
	}
	result(g, size ? g->config.ops->memory(g->config.ctx, g->thread, true, address, bytes,
					       (size_t)size)
		       : 0);
}

/* Z KIND,ADDRESS,SIZE */
static void point(struct wh_gdb *g, const char *p)
{
	bool set = *p++ == 'Z';
	uint64_t kind, address, size;
	if (!number(&p, &kind) || !comma(&p, ',') || !number(&p, &address) || !comma(&p, ',') ||
	    !number(&p, &size) || size > 4096) {
		result(g, -WH_EINVAL);
		return;
	}
	if (kind > WH_GDB_POINT_ACCESS || !g->config.ops->point)
		return; /* unknown */
	int error = g->config.ops->point(g->config.ctx, set, (enum wh_gdb_point)kind, address,
					 (uint32_t)size);
	if (error != -WH_EOPNOTSUPP)
		result(g, error);
}

/* c, s [ADDRESS]; C, S SIGNAL[;ADDRESS]. true: it goes on, no answer. */
static bool resume(struct wh_gdb *g, const char *p)
{
	char what = *p++;
	uint64_t signal = 0;
	if ((what == 'C' || what == 'S') && (!number(&p, &signal) || signal > SIGNAL_MAX)) {
		result(g, -WH_EINVAL);
		return false;
	}
	if (*p) { /* gdb sets the register instead, since long */
		result(g, -WH_EINVAL);
		return false;
	}
	go(g, g->thread, what == 's' || what == 'S', (int)signal);
	return true;
}

/* ;ACTION[:THREAD]... The first one counts: gdb puts the thread that steps there, and "c" for the others behind. */
static bool vcont(struct wh_gdb *g, const char *p)
{
	uint64_t signal = 0;
	uint32_t thread = g->thread;
	char what = *p++;
	bool good = what == 'c' || what == 's' ||
		    ((what == 'C' || what == 'S') && number(&p, &signal) && signal <= SIGNAL_MAX);
	if (good && *p == ':') {
		p++;
		good = thread_of(g, &p, &thread);
	}
	if (!good || (*p && *p != ';')) {
		result(g, -WH_EINVAL);
		return false;
	}
	go(g, thread, what == 's' || what == 'S', (int)signal);
	return true;
}

/* OFFSET,SIZE of the target's description. */
static void features(struct wh_gdb *g, const char *p)
{
	static const char description[] =
		"<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
		"<architecture>i386:x86-64</architecture><osabi>none</osabi></target>";
	uint64_t offset, size;
	if (!number(&p, &offset) || !comma(&p, ',') || !number(&p, &size) || *p) {
		result(g, -WH_EINVAL);
		return;
	}
	uint64_t all = sizeof description - 1;
	if (offset > all)
		offset = all;
	uint64_t n = all - offset < size ? all - offset : size;
	say(g, "%c", n == all - offset ? 'l' : 'm');
	memcpy(g->out + g->out_size, description + offset, (size_t)n);
	g->out_size += (uint32_t)n;
}

static bool begins(const char **p, const char *with)
{
	size_t n = strlen(with);
	if (strncmp(*p, with, n))
		return false;
	*p += n;
	return true;
}

static void query(struct wh_gdb *g, const char *p)
{
	if (begins(&p, "qSupported")) {
		say(g, "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+",
		    WH_GDB_PACKET_MAX - 16);
	} else if (begins(&p, "qXfer:features:read:target.xml:")) {
		features(g, p);
	} else if (!strcmp(p, "qAttached")) {
		say(g, "1");
	} else if (!strcmp(p, "qC")) {
		say(g, "QC%x", g->thread);
	} else if (!strcmp(p, "qfThreadInfo")) {
		say(g, "m");
		for (uint32_t i = 1; i <= g->config.ops->threads; i++)
			say(g, i == 1 ? "%x" : ",%x", i);
	} else if (!strcmp(p, "qsThreadInfo")) {
		say(g, "l");
	} else if (!strcmp(p, "qOffsets") && g->config.ops->text) {
		say(g, "TextSeg=%llx", (unsigned long long)g->config.ops->text(g->config.ctx));
	}
}

static void choose_thread(struct wh_gdb *g, const char *p)
{
	uint32_t thread;
	bool select = *p++ == 'H';
	if (select && *p != 'g' && *p != 'c')
		return;
	p += select;
	if (!thread_of(g, &p, &thread) || *p) {
		result(g, -WH_EINVAL);
		return;
	}
	if (select)
		g->thread = thread;
	result(g, 0);
}

/* true: an answer goes out now. */
static bool serve_still(struct wh_gdb *g, const char *p)
{
	switch (*p) {
	case 'g':
	case 'G':
		registers(g, p);
		return true;
	case 'p':
	case 'P':
		one_register(g, p);
		return true;
	case 'm':
		read_memory(g, p + 1);
		return true;
	case 'M':
	case 'X':
		write_memory(g, p);
		return true;
	case 'z':
	case 'Z':
		point(g, p);
		return true;
	case 'c':
	case 'C':
	case 's':
	case 'S':
		return !resume(g, p);
	case 'D':
		result(g, 0);
		flush(g);
		g->running = true;
		g->config.ops->detach(g->config.ctx);
		return false;
	}
	return true;
}

static bool serve(struct wh_gdb *g)
{
	const char *p = g->request;
	if (*p == 'q') {
		query(g, p);
	} else if (!strcmp(p, "QStartNoAckMode")) {
		result(g, 0);
		flush(g);
		g->no_ack = true;
		return false;
	} else if (!strcmp(p, "vCont?")) {
		say(g, "vCont;c;C;s;S");
	} else if (*p == 'H' || *p == 'T') {
		choose_thread(g, p);
	} else if (!strcmp(p, "?") && !g->running) {
		tell_stop(g);
	} else if (!strcmp(p, "?")) {
		g->asked = true;
		return false;
	} else if (!strcmp(p, "!")) {
		result(g, 0);
	} else if (!strcmp(p, "k")) {
		g->config.ops->kill(g->config.ctx);
		return false;
	} else if (g->running) {
		return *p == 'v' &&
		       strncmp(p, "vCont;",
			       6); /* gdb asks a guest that runs nothing but what we know */
	} else if (g->ended) {
		result(g, -WH_ESRCH);
	} else if (begins(&p, "vCont;")) {
		return !vcont(g, p);
	} else {
		return serve_still(g, p);
	}
	return true;
}

/* ---- bytes ---- */

static void take_packet(struct wh_gdb *g)
{
	bool good = g->sum == g->sum_sent && g->size <= WH_GDB_PACKET_MAX;
	if (!g->no_ack)
		g->config.send(g->config.ctx, good ? "+" : "-", 1);
	if (!good)
		return;
	g->request[g->size] = 0;
	if (serve(g))
		flush(g);
}

static void take_content(struct wh_gdb *g, uint8_t c)
{
	if (c == '#') {
		g->state = SUM_1;
		return;
	}
	g->sum = (uint8_t)(g->sum + c);
	if (c == '}' && !g->escaped) {
		g->escaped = true;
		return;
	}
	if (g->size < WH_GDB_PACKET_MAX)
		g->request[g->size] = (char)(g->escaped ? c ^ 0x20 : c);
	if (g->size <= WH_GDB_PACKET_MAX)
		g->size++;
	g->escaped = false;
}

static void take(struct wh_gdb *g, uint8_t c)
{
	int v = nibble((char)c);
	switch (g->state) {
	case BETWEEN:
		if (c == 3 && g->running)
			g->config.ops->interrupt(g->config.ctx);
		if (c != '$')
			return;
		g->state = CONTENT;
		g->sum = 0;
		g->size = 0;
		g->escaped = false;
		return;
	case CONTENT:
		take_content(g, c);
		return;
	case SUM_1:
		g->sum_sent = (uint8_t)(v < 0 ? ~g->sum : v << 4);
		g->state = SUM_2;
		return;
	case SUM_2:
		g->sum_sent = (uint8_t)(v < 0 ? ~g->sum : g->sum_sent | v);
		g->state = BETWEEN;
		take_packet(g);
		return;
	}
}

void wh_gdb_input(struct wh_gdb *g, const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	for (size_t i = 0; i < size; i++)
		take(g, p[i]);
}

void wh_gdb_reset(struct wh_gdb *g)
{
	g->state = BETWEEN;
	g->no_ack = g->asked = false;
	g->quiet = g->running;
	g->out_size = 0;
	if (g->running)
		g->config.ops->interrupt(g->config.ctx);
}

int wh_gdb_new(const struct wh_gdb_config *config, struct wh_gdb **ret_gdb)
{
	if (config->size != sizeof *config || !config->ops->threads)
		return -WH_EINVAL;
	struct wh_gdb *g = calloc(1, sizeof *g);
	if (!g)
		return -WH_ENOMEM;
	g->config = *config;
	g->thread = 1;
	g->running = g->quiet = true;
	g->stop = (struct wh_gdb_stop){ .thread = 1, .signal = SIGNAL_TRAP };
	*ret_gdb = g;
	return 0;
}

void wh_gdb_free(struct wh_gdb *g)
{
	free(g);
}
