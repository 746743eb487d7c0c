/* SPDX-License-Identifier: ISC */

/*
 * The files below /etc that a C library reads, made from the boot information where
 * the archive brings none. They are ordinary files from then on.
 */

#include "root_priv.h"
#include <fs/tmpfs.h>
#include <kern/plat.h>
#include <wherry/base/diag.h>

static bool is_zero(const uint8_t *p, uint32_t size)
{
	while (size && !*p)
		p++, size--;
	return !size;
}

static void add(struct fs_node *dir, const char *name, const char *text, size_t size)
{
	(void)fs_tmpfs_add_file(dir, fs_name_of(name), 0644, text, size, 0);
}

static void add_resolv(struct fs_node *dir)
{
	static char text[128];
	const struct wh_boot_net *n = &kern_boot()->net;
	const uint8_t *d = n->dns4;
	size_t at = 0;
	if (!(kern_boot()->flags & WH_BOOT_NET_STATIC))
		return;
	if (!is_zero(d, 4))
		at = wh_format(text, sizeof text, "nameserver %u.%u.%u.%u\n", d[0], d[1], d[2],
			       d[3]);
	if (!is_zero(n->dns6, 16)) {
		at += wh_format(text + at, sizeof text - at, "nameserver ");
		for (int i = 0; i < 16; i += 2)
			at += wh_format(text + at, sizeof text - at, "%s%x", i ? ":" : "",
					n->dns6[i] << 8 | n->dns6[i + 1]);
		at += wh_format(text + at, sizeof text - at, "\n");
	}
	add(dir, "resolv.conf", text, at);
}

void fs_etc_fill(struct fs_node *dir, uint64_t data)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
				     "nobody:x:65534:65534:nobody:/:/bin/false\n";
	static const char group[] = "root:x:0:\nnogroup:x:65534:\n";
	static char hosts[192], hostname[66];
	const char *host = kern_boot()->hostname;
	size_t n = wh_format(hosts, sizeof hosts, "127.0.0.1 localhost%s%s\n::1 localhost\n",
			     *host ? " " : "", host);
	add(dir, "hosts", hosts, n);
	n = wh_format(hostname, sizeof hostname, "%s\n", *host ? host : "localhost");
	add(dir, "hostname", hostname, n);
	add(dir, "passwd", passwd, sizeof passwd - 1);
	add(dir, "group", group, sizeof group - 1);
	add_resolv(dir);
}
