/* SPDX-License-Identifier: ISC */
/*
 * A 9P2000.L client that measures a server: operations a second, at depth 1 and 16.
 * usage: bench-store-9p unix:PATH ANAME FOLDER FILE
 * FOLDER can be created in; FILE (in FOLDER) can be read and written. Prints one line a measurement.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/ninep.h>
#include <wherry/os.h>

#define SECONDS 1.0
#define MSIZE (1u << 20)

static int sock;
static uint8_t out[MSIZE], in[MSIZE + 64];
static uint32_t msize;

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s %s:%d\n", what, file, line);
	abort();
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static void put(struct wh_p9_msg *t, uint16_t tag)
{
	t->tag = tag;
	int n = wh_p9_encode(WH_P9_DIALECT_2000L, t, out, sizeof out);
	if (n < 0 || wh_os_write_all(sock, out, (size_t)n) < 0)
		die("send");
}

static size_t have, at;

/* The next answer; its data lies in `in`. */
static void get(struct wh_p9_msg *r)
{
	uint32_t size;
	for (;;) {
		size = have - at >= 4 ? wh_load_le32(in + at) : 0;
		if (size && have - at >= size)
			break;
		if (at) {
			memmove(in, in + at, have - at);
			have -= at;
			at = 0;
		}
		ssize_t n = read(sock, in + have, sizeof in - have);
		if (n <= 0)
			die("receive");
		have += (size_t)n;
	}
	if (wh_p9_decode(WH_P9_DIALECT_2000L, in + at, size, r) < 0)
		die("answer");
	if (r->type == WH_P9_RLERROR) {
		errno = (int)r->error;
		die("server");
	}
	at += size;
}

static struct wh_p9_msg call(struct wh_p9_msg t)
{
	struct wh_p9_msg r;
	put(&t, t.type == WH_P9_TVERSION ? WH_P9_NOTAG : 1);
	get(&r);
	return r;
}

static void walk(uint32_t fid, uint32_t new_fid, const char *path)
{
	struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = fid, .fid2 = new_fid };
	for (const char *p = path; *p;) {
		size_t n = strcspn(p, "/");
		if (n)
			t.names[t.name_count++] = wh_p9_str(p, n);
		p += n + (p[n] == '/');
	}
	call(t);
}

static void clunk(uint32_t fid)
{
	call((struct wh_p9_msg){ .type = WH_P9_TCLUNK, .fid = fid });
}

/* The same message again and again, `depth` of them under way. */
static double repeat(struct wh_p9_msg t, unsigned depth)
{
	struct wh_p9_msg r;
	unsigned long n = 0;
	uint64_t begin = wh_os_now(), end = begin + (uint64_t)(SECONDS * 1e9);
	for (unsigned i = 0; i < depth; i++)
		put(&t, (uint16_t)(i + 1));
	while (wh_os_now() < end) {
		get(&r);
		put(&t, r.tag);
		n++;
	}
	for (unsigned i = 0; i < depth; i++)
		get(&r);
	return (double)n / ((double)(wh_os_now() - begin) / 1e9);
}

static void files(const char *folder, const char *file)
{
	struct wh_p9_str name = wh_p9_str(file, strlen(file));
	char text[32];
	unsigned long n = 0;
	uint64_t begin = wh_os_now();
	for (; wh_os_now() < begin + (uint64_t)(SECONDS * 1e9); n++) {
		struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = 2, .fid2 = 10, .name_count = 1 };
		t.names[0] = name;
		call(t);
		call((struct wh_p9_msg){ .type = WH_P9_TGETATTR, .fid = 10, .mask = 0x7ff });
		clunk(10);
	}
	printf("stat by name, depth 1: %.0f/s\n",
	       (double)n / ((double)(wh_os_now() - begin) / 1e9));
	begin = wh_os_now();
	for (n = 0; wh_os_now() < begin + (uint64_t)(SECONDS * 1e9); n++) {
		int size = snprintf(text, sizeof text, "c%lu", n);
		walk(2, 10, "");
		call((struct wh_p9_msg){ .type = WH_P9_TLCREATE,
					 .fid = 10,
					 .name = wh_p9_str(text, (size_t)size),
					 .flags = 2,
					 .mode = 0644 });
		call((struct wh_p9_msg){
			.type = WH_P9_TWRITE, .fid = 10, .count = 100, .data = out + MSIZE / 2 });
		clunk(10);
	}
	printf("create, write 100 B, depth 1: %.0f/s\n",
	       (double)n / ((double)(wh_os_now() - begin) / 1e9));
	begin = wh_os_now();
	for (n = 0; wh_os_now() < begin + (uint64_t)(SECONDS * 1e9); n++) {
		struct wh_p9_msg t = { .type = WH_P9_TWALK, .fid = 2, .fid2 = 10, .name_count = 1 };
		t.names[0] = wh_p9_str("c0", 2);
		call(t);
		call((struct wh_p9_msg){ .type = WH_P9_TLOPEN, .fid = 10 });
		call((struct wh_p9_msg){ .type = WH_P9_TREAD, .fid = 10, .count = 100 });
		clunk(10);
	}
	printf("open, read 100 B, depth 1: %.0f/s\n",
	       (double)n / ((double)(wh_os_now() - begin) / 1e9));
}

int main(int argc, char **argv)
{
	struct sockaddr_un u = { .sun_family = AF_UNIX };
	if (argc < 5) {
		fprintf(stderr, "usage: bench-store-9p SOCKET ANAME FOLDER FILE\n");
		return 2;
	}
	snprintf(u.sun_path, sizeof u.sun_path, "%s", argv[1]);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(sock, (struct sockaddr *)&u, sizeof u))
		die(argv[1]);
	msize = call((struct wh_p9_msg){ .type = WH_P9_TVERSION,
					 .msize = MSIZE,
					 .name = wh_p9_str("9P2000.L", 8) })
			.msize;
	call((struct wh_p9_msg){ .type = WH_P9_TATTACH,
				 .fid = 1,
				 .fid2 = WH_P9_NOFID,
				 .name = wh_p9_str("root", 4),
				 .name2 = wh_p9_str(argv[2], strlen(argv[2])) });
	if (!strcmp(argv[3], "TX")) { /* a transaction of the store */
		walk(1, 4, "branch");
		call((struct wh_p9_msg){
			.type = WH_P9_TMKDIR, .fid = 4, .name = wh_p9_str("b", 1) });
		walk(4, 5, "b/transactions");
		call((struct wh_p9_msg){
			.type = WH_P9_TMKDIR, .fid = 5, .name = wh_p9_str("t", 1) });
		walk(5, 2, "t/rw");
	} else {
		walk(1, 2, argv[3]);
	}
	walk(2, 3, "");
	call((struct wh_p9_msg){ .type = WH_P9_TLCREATE,
				 .fid = 3,
				 .name = wh_p9_str(argv[4], strlen(argv[4])),
				 .flags = 2,
				 .mode = 0644 });
	uint32_t large = msize < 65536 + 24 ? msize - 24 : 65536;
	struct wh_p9_msg w = { .type = WH_P9_TWRITE, .fid = 3, .count = large, .data = out + 64 };
	static uint8_t zeros[65536];
	w.data = zeros;
	for (uint64_t i = 0; i < 16; i++) {
		w.offset = i * large;
		call(w);
	}
	w.offset = 0;
	struct wh_p9_msg r = { .type = WH_P9_TREAD, .fid = 3, .count = large };
	printf("msize %u\n", msize);
	for (unsigned depth = 1; depth <= 16; depth += 15) {
		w.count = r.count = large;
		printf("write %u KiB, depth %u: %.0f MB/s\n", large >> 10, depth,
		       repeat(w, depth) * large / 1e6);
		printf("read %u KiB, depth %u: %.0f MB/s\n", large >> 10, depth,
		       repeat(r, depth) * large / 1e6);
		w.count = r.count = 4096;
		printf("write 4 KiB, depth %u: %.0f/s\n", depth, repeat(w, depth));
		printf("read 4 KiB, depth %u: %.0f/s\n", depth, repeat(r, depth));
		printf("getattr, depth %u: %.0f/s\n", depth,
		       repeat((struct wh_p9_msg){ .type = WH_P9_TGETATTR, .fid = 3, .mask = 0x7ff },
			      depth));
	}
	clunk(3);
	files(argv[3], argv[4]);
	return 0;
}
