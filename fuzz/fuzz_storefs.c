/* SPDX-License-Identifier: ISC */
/*
 * A stream of 9P messages to the store's tree, as a client that may do anything. The first byte chooses the dialect; version and attach
 * are made for the input, so that it begins where it is interesting. Then the bytes follow as messages with a size each of one
 * byte in front of them (0 = 256), tags in order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/loop.h>
#include <wherry/storefs.h>
#include <wherry/test.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];
static struct wh_loop *loop;
static struct wh_storefs *fs;

static void done(void)
{
	char command[100];
	snprintf(command, sizeof command, "/bin/rm -rf %s", dir);
	if (system(command))
		fprintf(stderr, "%s is left\n", dir);
}

static void start(void)
{
	struct wh_store_tx *tx;
	struct wh_diag diag;
	snprintf(dir, sizeof dir, "/tmp/wherry-fuzz-XXXXXX");
	if (!mkdtemp(dir) || wh_store_init(dir, &diag) < 0 || wh_loop_new(&loop) < 0)
		abort();
	atexit(done);
	setenv("PATH", "/nonexistent", 1); /* remotes must not start anything */
	struct wh_storefs_config c = { .size = sizeof c, .path = dir, .loop = loop };
	if (wh_storefs_new(&c, &fs, &diag) < 0)
		abort();
	struct wh_store *s = wh_storefs_store(fs);
	if (wh_store_tx_begin(s, "main", &tx, &diag) < 0 ||
	    wh_store_tx_put(tx, "a", "text", 4, 0, &diag) < 0 ||
	    wh_store_tx_put(tx, "d/x", "y", 1, WH_STORE_SYMLINK, &diag) < 0 ||
	    wh_store_tx_commit(tx, NULL, NULL, &diag) < 0)
		abort();
	wh_store_tx_free(tx);
}

static void message(int fd, uint8_t type, uint16_t tag, const uint8_t *body, size_t size)
{
	uint8_t m[7 + 300];
	wh_store_le32(m, (uint32_t)(7 + size));
	m[4] = type;
	wh_store_le16(m + 5, tag);
	memcpy(m + 7, body, size);
	ssize_t n = send(fd, m, 7 + size, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* a server that hung up is an outcome */
}

/* Whatever comes back is whole messages. */
static void drain(int fd, uint8_t *kept, size_t *kept_size)
{
	ssize_t n;
	while ((n = recv(fd, kept + *kept_size, 65536 - *kept_size, MSG_DONTWAIT)) > 0) {
		size_t at = 0;
		*kept_size += (size_t)n;
		while (*kept_size - at >= 4) {
			uint32_t size = wh_load_le32(kept + at);
			wh_assert(size >= 7 && size <= 8192);
			if (size > *kept_size - at)
				break;
			wh_assert(kept[at + 4] & 1);
			at += size;
		}
		memmove(kept, kept + at, *kept_size - at);
		*kept_size -= at;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "9P2000", "9P2000.u", "9P2000.L" };
	static uint8_t kept[65536];
	size_t kept_size = 0;
	uint8_t b[64];
	int pair[2];
	if (!fs)
		start();
	if (!size || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return 0;
	if (wh_storefs_serve(fs, pair[1]) < 0)
		abort();
	const char *name = names[data[0] % 3];
	size_t n = strlen(name);
	wh_store_le32(b, 8192);
	wh_store_le16(b + 4, (uint16_t)n);
	memcpy(b + 6, name, n);
	message(pair[0], WH_P9_TVERSION, 0xffff, b, 6 + n);
	memset(b, 0, sizeof b);
	wh_store_le32(b + 4, 0xffffffff);
	message(pair[0], WH_P9_TATTACH, 1, b, data[0] % 3 ? 16 : 12);
	wh_loop_step(loop, 0);
	drain(pair[0], kept, &kept_size);
	data++;
	size--;
	for (uint16_t tag = 2; size >= 2 && tag < 300; tag++) {
		size_t body = data[0] < size - 2 ? data[0] : size - 2;
		message(pair[0], data[1], data[1] == WH_P9_TFLUSH ? 999 : tag, data + 2, body);
		data += 2 + body;
		size -= 2 + body;
		if (tag % 4 == 0)
			wh_loop_step(loop, 0);
	}
	for (int i = 0; i < 6; i++) {
		wh_loop_step(loop, 0);
		drain(pair[0], kept, &kept_size);
	}
	close(pair[0]);
	for (int i = 0; i < 3; i++)
		wh_loop_step(loop, 0);
	struct wh_store_stats stats;
	wh_store_stats(wh_storefs_store(fs), &stats);
	wh_assert(!stats.nodes_live && !stats.transactions_open);
	return 0;
}
