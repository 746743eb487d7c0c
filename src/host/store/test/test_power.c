/* SPDX-License-Identifier: ISC */
/*
 * Power cuts: the file operations of some commits are recorded; for cuts after each of them, what a disk may hold then is made as a
 * repository, which is opened after a "reboot". What was acknowledged as durable must be there, and whatever is there must be whole.
 *
 * The model of the disk: of the changes to names a prefix is there, at least all before the last sync of a folder; the content of
 * a file is what it was at its last sync, and any choice of what was written to it since then.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/hash.h>
#include <wherry/os.h>
#include <wherry/test.h>

#include "../store_priv.h"

enum what {
	CREATE,
	NEW,
	WRITE,
	DATA_SYNC,
	RENAME,
	EXCHANGE,
	LINK,
	UNLINK,
	SYNC_PATH,
	SYNC_ALL,
	ACK
};

struct op {
	enum what what;
	char *path, *other;
	uint8_t *data;
	size_t size;
	uint64_t at;
	bool sync;
	struct wh_store_id id; /* ACK: of what `path` names */
};

static struct op *ops;
static size_t op_count;
static char dir[64], trial[80];
static struct wh_diag diag;

static struct op *note(enum what what, const char *path, const char *other, const void *data,
		       size_t size)
{
	ops = realloc(ops, (op_count + 1) * sizeof *ops);
	CHECK(ops);
	struct op *o = &ops[op_count++];
	*o = (struct op){ .what = what,
			  .path = strdup(path),
			  .other = other ? strdup(other) : NULL,
			  .size = size };
	if (size) {
		o->data = malloc(size);
		memcpy(o->data, data, size);
	}
	return o;
}

/* ---- recording ---- */

static int rec_create(void *ctx, const char *path, const void *data, size_t size, bool sync)
{
	int r = store_io_linux.create(NULL, path, data, size, sync);
	if (r >= 0)
		note(CREATE, path, NULL, data, size)->sync = sync;
	return r;
}

static int rec_pwrite(void *ctx, int fd, const char *path, const void *data, size_t size,
		      uint64_t at)
{
	note(WRITE, path, NULL, data, size)->at = at;
	return store_io_linux.pwrite(NULL, fd, path, data, size, at);
}

static int rec_datasync(void *ctx, int fd, const char *path)
{
	note(DATA_SYNC, path, NULL, NULL, 0);
	return 0;
}

static int rec_rename(void *ctx, const char *from, const char *to)
{
	int r = store_io_linux.rename(NULL, from, to);
	if (r >= 0)
		note(RENAME, from, to, NULL, 0);
	return r;
}

static int rec_exchange(void *ctx, const char *a, const char *b)
{
	int r = store_io_linux.exchange(NULL, a, b);
	if (r >= 0)
		note(EXCHANGE, a, b, NULL, 0);
	return r;
}

static int rec_link(void *ctx, const char *from, const char *to)
{
	int r = store_io_linux.link(NULL, from, to);
	if (r >= 0)
		note(LINK, from, to, NULL, 0);
	return r;
}

static int rec_unlink(void *ctx, const char *path)
{
	int r = store_io_linux.unlink(NULL, path);
	if (r >= 0)
		note(UNLINK, path, NULL, NULL, 0);
	return r;
}

static int rec_open_new(void *ctx, const char *path, int flags)
{
	int r = store_io_linux.open_new(NULL, path, flags);
	if (r >= 0)
		note(NEW, path, NULL, NULL, 0);
	return r;
}

static int rec_sync_path(void *ctx, const char *path, bool folder)
{
	int r = access(path, F_OK) ? -errno : 0;
	if (r >= 0)
		note(SYNC_PATH, path, NULL, NULL, 0)->sync = folder;
	return r;
}

static int rec_syncfs(void *ctx, int fd)
{
	note(SYNC_ALL, "", NULL, NULL, 0);
	return 0;
}

static const struct store_io recorder = { .create = rec_create,
					  .pwrite = rec_pwrite,
					  .datasync = rec_datasync,
					  .rename = rec_rename,
					  .link = rec_link,
					  .unlink = rec_unlink,
					  .open_new = rec_open_new,
					  .syncfs = rec_syncfs,
					  .exchange = rec_exchange,
					  .sync_path = rec_sync_path };

/* ---- the disk ---- */

#define NAMES 4000u

struct inode {
	char *there;         /* a name it has on the disk that is made */
	uint8_t *disk, *now; /* as synced and with some later writes; as a process sees it */
	size_t disk_size, now_size;
};

struct name {
	const char *path;
	int now, disk; /* inode, -1 = none */
};

static struct inode inodes[NAMES];
static struct name names[NAMES];
static unsigned inode_count, name_count;

static struct name *name_of(const char *path)
{
	for (unsigned i = 0; i < name_count; i++)
		if (!strcmp(names[i].path, path))
			return &names[i];
	CHECK(name_count < NAMES);
	names[name_count] = (struct name){ path, -1, -1 };
	return &names[name_count++];
}

static void set(uint8_t **data, size_t *size, const uint8_t *from, size_t n, uint64_t at)
{
	size_t end = (size_t)at + n;
	if (end > *size) {
		*data = realloc(*data, end);
		memset(*data + *size, 0, end - *size);
		*size = end;
	}
	if (n)
		memcpy(*data + at, from, n);
}

static void sync_inode(int i)
{
	if (i < 0)
		return;
	inodes[i].disk_size = 0;
	set(&inodes[i].disk, &inodes[i].disk_size, inodes[i].now, inodes[i].now_size, 0);
}

static void write_inode(int i, const struct op *o, bool lost)
{
	CHECK(i >= 0);
	set(&inodes[i].now, &inodes[i].now_size, o->data, o->size, o->at);
	if (!lost)
		set(&inodes[i].disk, &inodes[i].disk_size, o->data, o->size, o->at);
}

/* One operation: to what processes see, and, when `kept`, to the names on the disk. */
static void play(const struct op *o, bool kept, bool lost)
{
	struct name *a = o->what == ACK || o->what == SYNC_ALL ? NULL : name_of(o->path),
		    *b = o->other ? name_of(o->other) : NULL;
	if (a)
		a = name_of(o->path); /* the table may not move, but be plain about it */
	switch (o->what) {
	case CREATE:
	case NEW:
		a->now = (int)inode_count++;
		CHECK(inode_count < NAMES);
		if (kept || o->sync)
			a->disk = a->now;
		if (o->what == CREATE)
			write_inode(a->now, o, lost && !o->sync);
		break;
	case WRITE:
		if (a->now < 0) { /* made with open() */
			a->now = (int)inode_count++;
			a->disk = a->now;
		}
		write_inode(a->now, o, lost);
		break;
	case DATA_SYNC:
		sync_inode(a->now);
		break;
	case RENAME:
		b->now = a->now;
		a->now = -1;
		if (kept) {
			b->disk = b->now;
			a->disk = -1;
		}
		break;
	case EXCHANGE: {
		int t = a->now;
		a->now = b->now;
		b->now = t;
		if (kept) {
			a->disk = a->now;
			b->disk = b->now;
		}
		break;
	}
	case LINK:
		b->now = a->now;
		if (kept)
			b->disk = b->now;
		break;
	case UNLINK:
		a->now = -1;
		if (kept)
			a->disk = -1;
		break;
	case SYNC_PATH:
		if (!o->sync)
			sync_inode(a->now);
		break;
	case SYNC_ALL:
		for (unsigned i = 0; i < inode_count; i++)
			sync_inode((int)i);
		break;
	case ACK:
		break;
	}
}

static void make_parents(char *path)
{
	for (char *p = path + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		(void)mkdir(path, 0777);
		*p = '/';
	}
}

static void to_disk(void)
{
	char path[400];
	for (unsigned i = 0; i < name_count; i++) {
		struct inode *n = names[i].disk < 0 ? NULL : &inodes[names[i].disk];
		if (!n)
			continue;
		snprintf(path, sizeof path, "%s%s", trial, names[i].path + strlen(dir));
		make_parents(path);
		if (n->there) {
			CHECK_EQ(link(n->there, path), 0);
			continue;
		}
		n->there = strdup(path);
		FILE *f = fopen(path, "wb");
		CHECK(f);
		if (n->disk_size)
			CHECK_EQ(fwrite(n->disk, 1, n->disk_size, f), n->disk_size);
		fclose(f);
	}
}

static void disk_clear(void)
{
	for (unsigned i = 0; i < inode_count; i++) {
		free(inodes[i].disk);
		free(inodes[i].now);
		free(inodes[i].there);
	}
	memset(inodes, 0, sizeof inodes);
	inode_count = name_count = 0;
}

/* ---- what must hold ---- */

static int read_entry(void *ctx, char change, const char *path, const struct wh_store_entry *o,
		      const struct wh_store_entry *n)
{
	void *data;
	size_t size;
	CHECK_EQ(wh_store_blob_read(ctx, &n->id, &data, &size), 0);
	free(data);
	return 0;
}

static int read_commit(void *ctx, const struct wh_store_id *id, const struct wh_store_commit *c)
{
	struct wh_store_id zero = { { 0 } };
	CHECK_EQ(wh_store_diff(ctx, &zero, &c->tree, read_entry, ctx), 0);
	return 0;
}

static int read_branch(void *ctx, const char *branch, const struct wh_store_id *head)
{
	CHECK_EQ(wh_store_log(ctx, head, NULL, read_commit, ctx), 0);
	return 0;
}

static void cut(size_t at, uint64_t *state, unsigned number)
{
	char command[300], boot[40];
	struct wh_store *s;
	struct wh_store_id head;
	size_t least = 0;
	for (size_t i = 0; i < at; i++)
		if ((ops[i].what == SYNC_PATH && ops[i].sync) || ops[i].what == SYNC_ALL ||
		    (ops[i].what == CREATE && ops[i].sync))
			least = i + 1;
	size_t kept = least + (size_t)(wh_random_next(state) % (at - least + 1));
	bool lose_all = wh_random_next(state) % 3 == 0;
	for (size_t i = 0; i < at; i++)
		play(&ops[i], i < kept, lose_all || wh_random_next(state) % 2);
	snprintf(command, sizeof command, "rm -rf %s && cp -r %s-empty %s", trial, dir, trial);
	CHECK_EQ(system(command), 0);
	to_disk();
	disk_clear();
	snprintf(boot, sizeof boot, "cut-%u", number);
	setenv("WHERRY_STORE_BOOT_ID", boot, 1);
	store_io_default = &store_io_linux;
	struct wh_store_config c = { .size = sizeof c, .path = trial };
	CHECK_EQ(wh_store_open(&c, &s, &diag), 0);
	for (size_t i = 0; i < at; i++)
		if (ops[i].what == ACK) {
			CHECK_EQ(wh_store_branch_head(s, ops[i].path, &head), 0);
			CHECK_EQ(wh_store_leads_to(s, &ops[i].id, &head), 1);
		}
	CHECK_EQ(wh_store_branch_each(s, read_branch, s), 0);
	wh_store_close(s);
	if (number % 20 == 0) {
		snprintf(command, sizeof command,
			 "git -C %s fsck --strict --no-dangling >%s-fsck 2>&1", trial, dir);
		CHECK_EQ(system(command), 0);
	}
}

static void put(struct wh_store *s, const char *branch, unsigned n, size_t size, bool lazy)
{
	struct wh_store_tx *tx;
	char path[32], *text = malloc(size + 1);
	struct wh_store_commit_config k = { .message = "x",
					    .durability = lazy ? WH_STORE_LAZY : WH_STORE_SYNC };
	struct wh_store_id id;
	memset(text, 'a' + (int)(n % 26), size);
	snprintf(text, size, "%u", n);
	snprintf(path, sizeof path, "d%u/f%u", n % 3, n % 7);
	CHECK_EQ(wh_store_tx_begin(s, branch, &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, path, text, size, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_commit(tx, &k, &id, &diag), 0);
	wh_store_tx_free(tx);
	free(text);
	if (!lazy)
		note(ACK, branch, NULL, NULL, 0)->id = id;
}

static void record(void)
{
	struct wh_store *s;
	struct wh_store_id head;
	store_io_default = &recorder;
	setenv("WHERRY_STORE_BOOT_ID", "first", 1);
	/* Two journals, each full after some commits: also their end, the pack and the empty journal are cut. */
	struct wh_store_config c = { .size = sizeof c, .path = dir, .journal_size = 12u << 10 };
	for (unsigned round = 0; round < 2; round++) {
		CHECK_EQ(wh_store_open(&c, &s, &diag), 0);
		for (unsigned n = 0; n < 24; n++) {
			put(s, n % 4 == 3 ? "other" : "main", round * 100 + n, 60 + n * 7,
			    n % 5 == 4);
			if (n == 12) { /* more than the journal takes, and more than it may */
				put(s, "main", 500 + round, 20000, false);
				put(s, "main", 600 + round, (256u << 10) + 9, false);
			}
			if (n == 17) {
				CHECK_EQ(wh_store_branch_head(s, "main", &head), 0);
				CHECK_EQ(wh_store_branch_set(s, round ? "new/b" : "new/a", NULL,
							     &head, &diag),
					 0);
				note(ACK, round ? "new/b" : "new/a", NULL, NULL, 0)->id = head;
			}
		}
		CHECK_EQ(wh_store_sync(s), 0);
		CHECK_EQ(wh_store_branch_head(s, "main", &head), 0);
		note(ACK, "main", NULL, NULL, 0)->id = head;
		wh_store_close(s);
	}
	store_io_default = &store_io_linux;
}

static void power_cuts(void)
{
	char command[300];
	uint64_t state = test_seed();
	/* POWER_CUTS=N: N cuts after each operation; otherwise one after some of them. */
	unsigned packs = 0, exchanges = 0, number = 0,
		 many = getenv("POWER_CUTS") ? (unsigned)atoi(getenv("POWER_CUTS")) : 0;
	snprintf(dir, sizeof dir, "/tmp/wherry-power-XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(trial, sizeof trial, "%s-cut", dir);
	CHECK_EQ(wh_store_init(dir, &diag), 0);
	snprintf(command, sizeof command, "cp -r %s %s-empty", dir, dir);
	CHECK_EQ(system(command), 0);
	record();
	for (size_t i = 0; i < op_count; i++) {
		packs += ops[i].what == CREATE && strstr(ops[i].path, ".idx");
		exchanges += ops[i].what == EXCHANGE;
	}
	CHECK(packs >= 2 && exchanges >= 20); /* else what matters most was not cut */
	for (size_t at = 1; at <= op_count; at += many ? 1 : 1 + wh_random_next(&state) % 6)
		for (unsigned i = 0; i < (many ? many : 1); i++)
			cut(at, &state, number++);
	snprintf(command, sizeof command, "rm -rf %s %s-cut %s-empty %s-fsck", dir, dir, dir, dir);
	CHECK_EQ(system(command), 0);
	for (size_t i = 0; i < op_count; i++) {
		free(ops[i].path);
		free(ops[i].other);
		free(ops[i].data);
	}
	free(ops);
}

int main(void)
{
	RUN(power_cuts);
	return test_end();
}
