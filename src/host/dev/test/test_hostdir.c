/* SPDX-License-Identifier: ISC */
/* virtio-9p with a folder of the host behind it: what works, and that there is no way out. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/dev_9p.h>

#include "fake_vmm.h"

static struct wh_p9_hostdir *dir;
static struct wh_dev_9p *p9;
static struct wh_p9_client client;
static uint32_t fid_bits[32];
static char base[64];

static int ask(struct wh_p9_msg *t, struct wh_p9_msg *ret_r)
{
	uint8_t *head = fake.ram + FAKE_DATA, *answer = head + 16384;
	struct wh_p9_call call;
	int n = wh_p9_client_call(&client, &call, t, head, 16384);
	CHECK(n > 0);
	struct wh_iov v[3] = { { head, (size_t)n }, { answer, 100 }, { answer + 100, 12000 } };
	uint32_t size = fake_ask(0, v, 1, 2);
	return wh_p9_client_answer(&client, &call, answer, size, ret_r);
}

static char *at(const char *name)
{
	static char path[200];
	wh_format(path, sizeof path, "%s/%s", base, name);
	return path;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(at(name), "w");
	CHECK(f);
	fputs(text, f);
	fclose(f);
}

/* base/secret is outside, base/shared is what the guest gets. */
static void set_up(bool read_only)
{
	struct wh_diag diag = { "" };
	struct wh_p9_msg r, t = { .type = WH_P9_TVERSION };
	wh_format(base, sizeof base, "/tmp/wherry-test-9p-%d", (int)getpid());
	CHECK(!mkdir(base, 0700) && !mkdir(at("shared"), 0700) && !mkdir(at("shared/sub"), 0700));
	put("secret", "secret");
	put("shared/file", "hello");
	CHECK(!symlink("../secret", at("shared/link")) && !symlink("..", at("shared/up")));
	CHECK(!symlink("file", at("shared/good")) && !mkfifo(at("shared/pipe"), 0600));
	CHECK_EQ(wh_p9_hostdir_open(at("shared"), &dir, &diag), 0);
	struct wh_dev_9p_config c = { .size = sizeof c,
				      .tag = "share",
				      .ops = &wh_p9_hostdir_ops,
				      .ctx = dir,
				      .read_only = read_only };
	CHECK_EQ(wh_dev_9p_new(&c, fake_new(), &p9, NULL), 0);
	CHECK_EQ(wh_load_le16(fake.shm->config), 5);
	CHECK_MEM(fake.shm->config + 2, "share", 5);
	fake_start(WH_VIRTIO_9P_F_MOUNT_TAG, 16);
	wh_p9_client_init(&client, 8192, fid_bits, 32);
	CHECK_EQ(ask(&t, &r), 0);
	t = (struct wh_p9_msg){ .type = WH_P9_TATTACH, .fid = 0, .fid2 = WH_P9_NOFID };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.qid.type, WH_P9_QID_DIR);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void tear_down(void)
{
	char command[120];
	wh_dev_9p_free(p9);
	wh_p9_hostdir_close(dir);
	fake_free();
	wh_format(command, sizeof command, "rm -rf %s", base);
	CHECK_EQ(system(command), 0);
}

static int walk(uint32_t fid, uint32_t to, const char *path)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TWALK, .fid = fid, .fid2 = to };
	while (*path) {
		size_t n = 0;
		while (path[n] && path[n] != '/')
			n++;
		t.names[t.name_count++] = wh_p9_str(path, n);
		path += n + (path[n] == '/');
	}
	int e = ask(&t, &r);
	return e < 0 ? e : r.name_count == t.name_count ? 0 : -1000;
}

static int on(uint8_t type, uint32_t fid, const char *name, uint32_t flags)
{
	struct wh_p9_msg r, t = { .type = type,
				  .fid = fid,
				  .flags = flags,
				  .mode = 0640,
				  .name = wh_p9_str(name, strlen(name)),
				  .name2 = wh_p9_str("target", 6) };
	return ask(&t, &r);
}

static void files(void)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TREAD, .fid = 1, .count = 100 };
	struct stat st;
	set_up(false);
	CHECK_EQ(walk(0, 1, "file"), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDONLY), 0);
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 5);
	CHECK_EQ(walk(0, 2, "sub"), 0);
	CHECK_EQ(on(WH_P9_TLCREATE, 2, "new", O_RDWR | O_EXCL), 0);
	t = (struct wh_p9_msg){
		.type = WH_P9_TWRITE, .fid = 2, .offset = 3, .count = 4, .data = "data"
	};
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.count, 4);
	CHECK_EQ(on(WH_P9_TFSYNC, 2, "", 0), 0);
	CHECK(!stat(at("shared/sub/new"), &st));
	CHECK_EQ(st.st_size, 7);
	t = (struct wh_p9_msg){ .type = WH_P9_TGETATTR, .fid = 2 };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.attr.size, 7);
	CHECK_EQ(r.attr.uid, 0);
	t = (struct wh_p9_msg){ .type = WH_P9_TSETATTR, .fid = 2 };
	t.setattr.valid = WH_P9_SETATTR_SIZE | WH_P9_SETATTR_MODE | WH_P9_SETATTR_MTIME |
			  WH_P9_SETATTR_MTIME_SET;
	t.setattr.size = 2;
	t.setattr.mode = 06755;
	t.setattr.mtime_s = 1000;
	CHECK_EQ(ask(&t, &r), 0);
	CHECK(!stat(at("shared/sub/new"), &st));
	CHECK_EQ(st.st_size, 2);
	CHECK_EQ(st.st_mode & 07777, 0755); /* no set-user-id for a guest */
	CHECK_EQ(st.st_mtime, 1000);
	t.setattr.valid = WH_P9_SETATTR_UID;
	t.setattr.uid = 12345;
	CHECK_EQ(ask(&t, &r), -WH_EPERM);
	tear_down();
}

static void names(void)
{
	struct wh_p9_msg r, t;
	set_up(false);
	CHECK_EQ(on(WH_P9_TMKDIR, 0, "d2", 0), 0);
	CHECK_EQ(on(WH_P9_TMKDIR, 0, "d2", 0), -WH_EEXIST);
	CHECK_EQ(walk(0, 1, "d2"), 0);
	t = (struct wh_p9_msg){ .type = WH_P9_TRENAMEAT,
				.fid = 0,
				.fid2 = 1,
				.name = wh_p9_str("file", 4),
				.name2 = wh_p9_str("moved", 5) };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK(!access(at("shared/d2/moved"), F_OK));
	CHECK_EQ(walk(1, 2, "moved"), 0);
	t = (struct wh_p9_msg){
		.type = WH_P9_TLINK, .fid = 0, .fid2 = 2, .name = wh_p9_str("hard", 4)
	};
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(on(WH_P9_TUNLINKAT, 0, "d2", AT_REMOVEDIR), -WH_ENOTEMPTY);
	CHECK_EQ(on(WH_P9_TUNLINKAT, 1, "moved", 0), 0);
	CHECK_EQ(on(WH_P9_TUNLINKAT, 0, "d2", AT_REMOVEDIR), 0);
	CHECK_EQ(on(WH_P9_TUNLINKAT, 0, "hard", 0x1000), -WH_EINVAL);
	CHECK_EQ(on(WH_P9_TSYMLINK, 0, "s", 0), 0);
	CHECK_EQ(walk(0, 3, "s"), 0);
	t = (struct wh_p9_msg){ .type = WH_P9_TREADLINK, .fid = 3 };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.name.size, 6);
	CHECK_EQ(on(WH_P9_TREADLINK, 0, "", 0), -WH_EINVAL);
	t = (struct wh_p9_msg){ .type = WH_P9_TSTATFS, .fid = 0 };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.statfs.name_size_max, 255);
	tear_down();
}

static void reads_folders(void)
{
	struct wh_p9_msg r, t = { .type = WH_P9_TREADDIR, .fid = 1 };
	unsigned seen = 0;
	char name[20];
	set_up(false);
	for (int i = 0; i < 500; i++) {
		wh_format(name, sizeof name, "shared/sub/%d", i);
		put(name, "");
	}
	CHECK_EQ(walk(0, 1, "sub"), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDONLY), 0);
	for (int round = 0; round < 2; round++) { /* again from the start, in other steps */
		t.offset = 0;
		t.count = round ? 4000 : 300;
		seen = 0;
		for (;;) {
			CHECK_EQ(ask(&t, &r), 0);
			if (!r.count)
				break;
			struct wh_p9_dirent e;
			const uint8_t *p = r.data;
			for (int n; (n = wh_p9_dirent_decode(p, r.count, &e)) > 0;) {
				p += n;
				r.count -= (uint32_t)n;
				t.offset = e.offset;
				seen++;
			}
		}
		CHECK_EQ(seen, 502);
	}
	t.offset = 0;
	t.count = 10; /* no room for one */
	CHECK_EQ(ask(&t, &r), -WH_EINVAL);
	tear_down();
}

static void no_way_out(void)
{
	struct wh_p9_msg r, t;
	set_up(false);
	CHECK_EQ(walk(0, 1, ".."), -WH_EACCES);
	CHECK_EQ(walk(0, 1, "sub/../../secret"), -1000); /* one step, then no further */
	CHECK_EQ(walk(0, 1, "up/secret"), -1000);
	CHECK_EQ(walk(0, 1, "link"), 0); /* the link itself */
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDONLY), -WH_ELOOP);
	t = (struct wh_p9_msg){ .type = WH_P9_TREADLINK, .fid = 1 };
	CHECK_EQ(ask(&t, &r), 0);
	CHECK_EQ(r.name.size, 9);
	CHECK_EQ(walk(0, 2, ""), 0);
	CHECK_EQ(on(WH_P9_TLCREATE, 2, "link", O_RDWR), -WH_ELOOP);
	CHECK_EQ(on(WH_P9_TLCREATE, 2, "good", O_RDWR | O_TRUNC), -WH_ELOOP);
	CHECK_EQ(on(WH_P9_TLCREATE, 2, "../x", O_RDWR), -WH_EINVAL);
	t = (struct wh_p9_msg){
		.type = WH_P9_TLINK, .fid = 0, .fid2 = 1, .name = wh_p9_str("stolen", 6)
	};
	CHECK_EQ(ask(&t, &r), -WH_EPERM);
	t = (struct wh_p9_msg){ .type = WH_P9_TSETATTR, .fid = 1 };
	t.setattr.valid = WH_P9_SETATTR_SIZE | WH_P9_SETATTR_MODE;
	CHECK_EQ(ask(&t, &r), -WH_EOPNOTSUPP);
	CHECK_EQ(walk(0, 3, "pipe"), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 3, "", O_RDONLY), -WH_EPERM);
	CHECK_EQ(on(WH_P9_TLCREATE, 2, "pipe", O_RDWR), -WH_EPERM);
	t = (struct wh_p9_msg){
		.type = WH_P9_TMKNOD, .fid = 0, .mode = S_IFCHR | 0666, .name = wh_p9_str("dev", 3)
	};
	CHECK_EQ(ask(&t, &r), -WH_EPERM);
	/* A folder that is moved away on the host takes its fids with it, but nothing above it. */
	CHECK_EQ(walk(0, 4, "sub"), 0);
	char from[200];
	wh_format(from, sizeof from, "%s", at("shared/sub"));
	CHECK(!rename(from, at("elsewhere")));
	CHECK_EQ(walk(4, 5, "../secret"), -WH_EACCES);
	struct stat st;
	CHECK(!stat(at("secret"), &st));
	CHECK_EQ(st.st_size, 6);
	tear_down();
}

static void read_only(void)
{
	set_up(true);
	CHECK_EQ(walk(0, 1, "file"), 0);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDWR), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDONLY | O_TRUNC), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TUNLINKAT, 0, "file", 0), -WH_EROFS);
	CHECK_EQ(on(WH_P9_TLOPEN, 1, "", O_RDONLY), 0);
	tear_down();
}

static void broken_messages(void)
{
	unsigned before = open_descriptors();
	set_up(false);
	for (uint32_t i = 1; i < 20; i++)
		CHECK_EQ(walk(0, i, "sub"), 0);
	struct wh_iov v[2] = { { fake.ram + FAKE_DATA, 5 }, { fake.ram + FAKE_DATA, 100 } };
	fake_send(0, v, 1, 1, v);
	CHECK(fake_broken());
	fake_reset();
	tear_down();
	CHECK_EQ(open_descriptors(), before);
	struct wh_diag diag = { "" };
	CHECK_EQ(wh_p9_hostdir_open("/nonexistent", &dir, &diag), -WH_ENOENT);
	CHECK(strstr(diag.text, "no such folder"));
	CHECK_EQ(wh_p9_hostdir_open("/dev/null", &dir, &diag), -WH_ENOTDIR);
}

int main(void)
{
	RUN(files);
	RUN(names);
	RUN(reads_folders);
	RUN(no_way_out);
	RUN(read_only);
	RUN(broken_messages);
	return test_end();
}
