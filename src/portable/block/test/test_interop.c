/* SPDX-License-Identifier: ISC */
/*
 * Images that QEMU made are read and written here, images made here are checked and read by
 * QEMU's tools, in turns on one image. Skipped without qemu-img and qemu-io.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "mem_file.h"
#include "zcodec.h"

#define DISK (3u << 20)

static char folder[64];
static struct mem_file file, links[3]; /* data file, files below */
static struct wh_block *block;
static uint8_t model[DISK], buffer[DISK];

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
	char command[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	int status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const char *at(const char *name)
{
	static char path[2][200];
	static int turn;
	turn = !turn;
	snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
	return path[turn];
}

/* What the image names, out of the folder. */
static int link_open(void *ctx, enum wh_block_link what, const struct wh_block_file *parent,
		     const char *name, enum wh_block_format format, bool read_only,
		     struct wh_block_file *ret_file, enum wh_block_format *ret_format,
		     struct wh_diag *diag)
{
	const char *base = strrchr(name, '/');
	struct mem_file *m = &links[what == WH_BLOCK_LINK_DATA ? 0 : links[1].size ? 2 : 1];
	CHECK_EQ(mem_file_load(m, at(base ? base + 1 : name)), 0);
	*ret_file = m->file;
	ret_file->read_only = read_only;
	*ret_format = format;
	return 0;
}

static void link_close(void *ctx, struct wh_block_file *f)
{
}

static void open_ours(void)
{
	static const struct wh_block_resolver resolver = { .open = link_open, .close = link_close };
	struct wh_block_config c = { .size = sizeof c,
				     .file = file.file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .alloc = &test_allocator,
				     .resolver = &resolver,
				     .codec = &zcodec };
	struct wh_diag diag = { "" };
	CHECK_EQ(mem_file_load(&file, at("image")), 0);
	for (int i = 0; i < 3; i++) {
		mem_file_fini(&links[i]);
		mem_file_init(&links[i]);
	}
	if (wh_block_open(&c, &block, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s", diag.text);
}

static void close_ours(void)
{
	CHECK_EQ(wh_block_close(block), 0);
	CHECK_EQ(mem_file_save(&file, at("image")), 0);
	if (links[0].size)
		CHECK_EQ(mem_file_save(&links[0], at("data")), 0);
}

/* Packed clusters of our own. */
static void ours_packed(uint64_t r)
{
	struct wh_block_info info;
	wh_block_info(block, &info);
	uint64_t n = info.cluster_size * (1 + r % 3);
	if (n > DISK || info.data_file_name[0])
		return;
	uint64_t offset = (r >> 8) % (DISK / n) * n;
	for (uint64_t i = 0; i < n; i += 8)
		wh_store_le64(model + offset + i, r / (1 + i / 4096));
	CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, offset, model + offset, n, WH_BLOCK_COMPRESS),
		 0);
}

static void ours(uint64_t *state)
{
	open_ours();
	CHECK_EQ(wh_block_size(block), DISK);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, DISK, 0), 0);
	CHECK_MEM(buffer, model, DISK);
	for (int i = 0; i < 30; i++) {
		uint64_t r = wh_random_next(state), n = (1 + (r >> 8) % 200) * 512;
		uint64_t offset = (r >> 32) % (DISK / 512) * 512;
		if (n > DISK - offset)
			n = DISK - offset;
		if (r % 16 == 2) {
			ours_packed(wh_random_next(state));
		} else if (r % 8 == 0) {
			uint32_t flags = r >> 60 & 1 ? WH_BLOCK_UNMAP : 0;
			CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE_ZEROES, offset, 0, n, flags), 0);
			memset(model + offset, 0, n);
		} else if (r % 8 == 1) {
			CHECK_EQ(wh_block_do(block, WH_BLOCK_DISCARD, offset, 0, n, 0), 0);
			CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, offset, model + offset, n, 0),
				 0);
		} else {
			memset(model + offset, (int)(r >> 24), n);
			CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE, offset, model + offset, n, 0),
				 0);
		}
	}
	close_ours();
}

static void theirs(uint64_t *state)
{
	char commands[4096];
	size_t used = 0;
	for (int i = 0; i < 12; i++) {
		uint64_t r = wh_random_next(state), n = (1 + (r >> 8) % 300) * 512;
		uint64_t offset = (r >> 32) % (DISK / 512) * 512;
		unsigned byte = r >> 24 & 0xff;
		if (n > DISK - offset)
			n = DISK - offset;
		if (r % 4 == 0)
			byte = 0;
		const char *kind = r % 4 ? "-P" : r % 8 ? "-z -u" : "-z";
		used += (size_t)snprintf(
			commands + used, sizeof commands - used,
			r % 4 ? " -c 'write %s %u %llu %llu'" : " -c 'write %s%.0u %llu %llu'",
			kind, r % 4 ? byte : 0, (unsigned long long)offset, (unsigned long long)n);
		memset(model + offset, (int)byte, n);
	}
	CHECK_EQ(run("qemu-io -f qcow2 %s %s >%s", commands, at("image"), at("log")), 0);
}

static void agree(void)
{
	struct mem_file raw;
	CHECK_EQ(run("qemu-img check -q -f qcow2 %s >%s 2>&1", at("image"), at("log")), 0);
	CHECK_EQ(run("qemu-img convert -f qcow2 -O raw %s %s", at("image"), at("raw")), 0);
	mem_file_init(&raw);
	CHECK_EQ(mem_file_load(&raw, at("raw")), 0);
	CHECK_EQ(raw.size, DISK);
	CHECK_MEM(raw.data, model, DISK);
	mem_file_fini(&raw);
}

static void in_turns(const char *options, bool made_here, uint32_t version, uint32_t cluster,
		     uint32_t bits)
{
	uint64_t state = test_seed();
	memset(model, 0, sizeof model);
	mem_file_init(&file);
	if (made_here) {
		struct wh_block_qcow2_config c = { .size = sizeof c,
						   .disk_size = DISK,
						   .version = version,
						   .cluster_size = cluster,
						   .refcount_bits = bits };
		CHECK_EQ(wh_block_qcow2_create(&file.file, &c, &test_allocator, 0), 0);
		CHECK_EQ(mem_file_save(&file, at("image")), 0);
	} else {
		CHECK_EQ(run("qemu-img create -q -f qcow2 -o %s %s %u", options, at("image"), DISK),
			 0);
	}
	for (int i = 0; i < 2; i++) {
		agree();
		ours(&state);
		agree();
		theirs(&state);
	}
	ours(&state);
	agree();
	mem_file_fini(&file);
}

/* An image that is there already, with the content of `model`. */
static void go_on_in_turns(void)
{
	uint64_t state = test_seed();
	mem_file_init(&file);
	for (int i = 0; i < 2; i++) {
		agree();
		ours(&state);
		agree();
		theirs(&state);
	}
	ours(&state);
	agree();
	mem_file_fini(&file);
}

static void fill_model(void)
{
	uint64_t state = test_seed() + 1;
	struct mem_file raw;
	memset(model, 0, sizeof model);
	for (uint64_t i = 0; i < DISK; i += 4096)
		memset(model + i, (int)wh_random_next(&state),
		       wh_random_next(&state) % 3 ? 4096 : 0);
	mem_file_init(&raw);
	struct wh_iov v = { model, DISK };
	struct wh_block_io io = { .kind = WH_BLOCK_IO_WRITE,
				  .flags = WH_BLOCK_IO_NOW,
				  .size = DISK,
				  .iov = &v,
				  .iov_count = 1 };
	CHECK_EQ(raw.file.ops->submit(&raw, &io), 0);
	CHECK_EQ(mem_file_save(&raw, at("base")), 0);
	mem_file_fini(&raw);
}

static void backing(const char *options, bool qcow2)
{
	fill_model();
	if (qcow2) {
		CHECK_EQ(run("cd %s && mv base below && qemu-img create -q -f qcow2 -b below -F "
			     "raw base "
			     "&& qemu-io -f qcow2 -c 'write -P 7 100000 200000' base >log",
			     folder),
			 0);
		memset(model + 100000, 7, 200000);
	}
	CHECK_EQ(
		run("cd %s && rm -f image && qemu-img create -q -f qcow2 -b base -F %s -o %s image",
		    folder, qcow2 ? "qcow2" : "raw", options),
		0);
	go_on_in_turns();
}

static void with_backing(void)
{
	backing("cluster_size=4k", false);
	backing("cluster_size=512", true);
	backing("cluster_size=64k,extended_l2=on", false);
	backing("cluster_size=16k,extended_l2=on", true);
	backing("compat=0.10,cluster_size=4k", false);
}

static void packed(const char *options)
{
	fill_model();
	CHECK_EQ(run("cd %s && rm -f image && qemu-img convert -c -f raw -O qcow2 -o %s base image",
		     folder, options),
		 0);
	go_on_in_turns();
}

static void with_compression(void)
{
	packed("cluster_size=4k");
	packed("cluster_size=64k");
	packed("cluster_size=64k,compression_type=zstd");
	packed("cluster_size=2M,compression_type=zstd");
	packed("cluster_size=16k,extended_l2=on");
	packed("cluster_size=4k,refcount_bits=1");
}

static void with_subclusters(void)
{
	in_turns("cluster_size=16k,extended_l2=on", false, 0, 0, 0);
	in_turns("cluster_size=2M,extended_l2=on", false, 0, 0, 0);
	in_turns("cluster_size=64k,extended_l2=on,preallocation=metadata", false, 0, 0, 0);
}

static void with_data_file(void)
{
	static const char *const options[] = { "cluster_size=4k",
					       "cluster_size=64k,data_file_raw=on",
					       "cluster_size=16k,extended_l2=on" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(options); i++) {
		memset(model, 0, sizeof model);
		/* QEMU takes the name as it is, not from the image's folder. */
		CHECK_EQ(run("cd %s && rm -f image data && qemu-img create -q -f qcow2 -o "
			     "data_file=%s/data,%s image %u",
			     folder, folder, options[i], DISK),
			 0);
		go_on_in_turns();
	}
}

/* Snapshots of theirs and ours; both see what was kept. */
static void kept_as(const char *name, const uint8_t *content)
{
	struct mem_file raw;
	CHECK_EQ(run("qemu-img convert -f qcow2 -O raw -l snapshot.name=%s %s %s", name,
		     at("image"), at("raw")),
		 0);
	mem_file_init(&raw);
	CHECK_EQ(mem_file_load(&raw, at("raw")), 0);
	CHECK_EQ(raw.size, DISK);
	CHECK_MEM(raw.data, content, DISK);
	mem_file_fini(&raw);
}

static void snapshots(const char *options)
{
	static uint8_t one[DISK], two[DISK];
	uint64_t state = test_seed();
	struct wh_block_snapshot about = { .name = "two", .date_s = 1700000000 };
	mem_file_init(&file);
	memset(model, 0, sizeof model);
	CHECK_EQ(run("cd %s && rm -f image && qemu-img create -q -f qcow2 -o %s image %u", folder,
		     options, DISK),
		 0);
	ours(&state);
	theirs(&state);
	CHECK_EQ(run("qemu-img snapshot -c one %s", at("image")), 0);
	memcpy(one, model, DISK);
	ours(&state);
	agree();
	kept_as("one", one);
	open_ours();
	CHECK_EQ(wh_block_snapshot_create(block, &about, 0), 0);
	memcpy(two, model, DISK);
	close_ours();
	theirs(&state);
	ours(&state);
	agree();
	kept_as("one", one);
	kept_as("two", two);
	open_ours();
	CHECK_EQ(wh_block_snapshot_apply(block, "one", 0), 0);
	memcpy(model, one, DISK);
	close_ours();
	agree();
	theirs(&state);
	agree();
	CHECK_EQ(run("qemu-img snapshot -a two %s", at("image")), 0);
	memcpy(model, two, DISK);
	ours(&state);
	agree();
	open_ours();
	CHECK_EQ(wh_block_snapshot_delete(block, "one", 0), 0);
	close_ours();
	agree();
	kept_as("two", two);
	CHECK_EQ(run("qemu-img snapshot -d two %s", at("image")), 0);
	ours(&state);
	agree();
	mem_file_fini(&file);
}

static void with_snapshots(void)
{
	snapshots("cluster_size=4k");
	snapshots("cluster_size=512");
	snapshots("compat=0.10,cluster_size=64k");
	snapshots("cluster_size=16k,extended_l2=on");
	snapshots("cluster_size=4k,refcount_bits=64");
	snapshots("cluster_size=4k,refcount_bits=8");
}

/* Our resize and compaction, judged by theirs. */
static void with_maintenance(void)
{
	static const char *const options[] = { "cluster_size=4k", "cluster_size=512",
					       "cluster_size=16k,extended_l2=on" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(options); i++) {
		uint64_t state = test_seed(), done, total;
		struct wh_block_compaction *c;
		int r;
		mem_file_init(&file);
		memset(model, 0, sizeof model);
		CHECK_EQ(run("cd %s && rm -f image && qemu-img create -q -f qcow2 -o %s image 1M",
			     folder, options[i]),
			 0);
		open_ours();
		CHECK_EQ(wh_block_resize(block, DISK, 0, 0), 0);
		close_ours();
		agree();
		theirs(&state);
		ours(&state);
		open_ours();
		CHECK_EQ(wh_block_do(block, WH_BLOCK_WRITE_ZEROES, 0, 0, DISK / 2, WH_BLOCK_UNMAP),
			 0);
		memset(model, 0, DISK / 2);
		CHECK_EQ(wh_block_compact_begin(block, &c, 0), 0);
		while ((r = wh_block_compact_step(c, 1 << 20, &done, &total)) > 0)
			;
		CHECK_EQ(r, 0);
		wh_block_compact_end(c);
		close_ours();
		agree();
		theirs(&state);
		agree();
		mem_file_fini(&file);
	}
}

/* A bitmap that records writes is marked as not having recorded ours; a clean image all the same. */
static void with_bitmaps(void)
{
	uint64_t state = test_seed();
	mem_file_init(&file);
	memset(model, 0, sizeof model);
	CHECK_EQ(run("cd %s && rm -f image && qemu-img create -q -f qcow2 image %u && qemu-img "
		     "bitmap --add "
		     "--enable image b1 && qemu-img bitmap --add --disable image b2",
		     folder, DISK),
		 0);
	ours(&state);
	agree();
	CHECK_EQ(run("qemu-img info %s | tr -d '\\n ' | grep -qF 'flags:[0]:in-use[1]:autoname:b1'",
		     at("image")),
		 0);
	mem_file_fini(&file);
}

/* QEMU is killed with lazy refcounts: the image is dirty; we repair it. */
static void after_a_crash_of_theirs(void)
{
	memset(model, 0, sizeof model);
	mem_file_init(&file);
	CHECK_EQ(run("cd %s && rm -f image && qemu-img create -q -f qcow2 -o "
		     "lazy_refcounts=on,cluster_size=4k "
		     "image %u && { qemu-io -f qcow2 -c 'write -P 9 4096 100000' -c flush -c "
		     "'abort' image "
		     ">log 2>&1; true; }",
		     folder, DISK),
		 0);
	memset(model + 4096, 9, 100000);
	uint64_t state = test_seed();
	CHECK(run("qemu-img check -q -f qcow2 %s >%s 2>&1", at("image"), at("log")) != 0);
	ours(&state);
	agree();
	theirs(&state);
	agree();
	mem_file_fini(&file);
}

static void made_by_qemu(void)
{
	in_turns("cluster_size=512", false, 0, 0, 0);
	in_turns("cluster_size=4k", false, 0, 0, 0);
	in_turns("cluster_size=64k,lazy_refcounts=on", false, 0, 0, 0);
	in_turns("cluster_size=2M", false, 0, 0, 0);
	in_turns("compat=0.10", false, 0, 0, 0);
	in_turns("cluster_size=4k,refcount_bits=1", false, 0, 0, 0);
	in_turns("cluster_size=4k,refcount_bits=64", false, 0, 0, 0);
	in_turns("cluster_size=4k,preallocation=metadata", false, 0, 0, 0);
	in_turns("cluster_size=4k,preallocation=full", false, 0, 0, 0);
}

static void made_here(void)
{
	in_turns("", true, 3, 512, 16);
	in_turns("", true, 3, 65536, 16);
	in_turns("", true, 2, 4096, 16);
	in_turns("", true, 3, 4096, 2);
	in_turns("", true, 3, 2 << 20, 32);
}

static void refused(const char *options, const char *word)
{
	struct wh_diag diag = { "" };
	struct wh_block_config c = { .size = sizeof c,
				     .file = file.file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .alloc = &test_allocator };
	mem_file_init(&file);
	c.file = file.file;
	CHECK_EQ(run("rm -f %s; qemu-img create -q -f qcow2 %s %s 1M >%s", at("image"), options,
		     at("image"), at("log")),
		 0);
	if (wh_streq(word, "compressed"))
		CHECK_EQ(run("qemu-img create -q -f raw %s 1M && qemu-img convert -c -O qcow2 "
			     "/bin/ls %s",
			     at("raw"), at("image")),
			 0);
	CHECK_EQ(mem_file_load(&file, at("image")), 0);
	CHECK(wh_block_open(&c, &block, &diag) < 0);
	if (!strstr(diag.text, word))
		test_fail(__FILE__, __LINE__, "\"%s\" does not say %s", diag.text, word);
	mem_file_fini(&file);
}

static void says_what_it_cannot(void)
{
	refused("", "compressed");
	refused("-o compression_type=zstd", "zstd");
	refused("-b /bin/ls -F raw", "not allowed");
	CHECK_EQ(run("rm -f %s", at("data")), 0);
	char option[300];
	snprintf(option, sizeof option, "-o data_file=%s", at("data"));
	refused(option, "not allowed");
	refused("--object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s,"
		"encrypt.iter-time=10",
		"LUKS");
}

int main(void)
{
	if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1"))
		test_skip("qemu-img and qemu-io are not installed");
	snprintf(folder, sizeof folder, "/tmp/wherry-test-interop-%d", (int)getpid());
	if (run("mkdir %s", folder))
		return 1;
	RUN(made_by_qemu);
	RUN(made_here);
	RUN(with_backing);
	RUN(with_compression);
	RUN(with_subclusters);
	RUN(with_data_file);
	RUN(with_snapshots);
	RUN(with_maintenance);
	RUN(with_bitmaps);
	RUN(after_a_crash_of_theirs);
	RUN(says_what_it_cannot);
	run("rm -rf %s", folder);
	return test_end();
}
