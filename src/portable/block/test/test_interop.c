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
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>

#include "mem_file.h"

#define DISK (3u << 20)

static char folder[64];
static struct mem_file file;
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

static void ours(uint64_t *state)
{
	struct wh_block_config c = { .size = sizeof c,
				     .file = file.file,
				     .format = WH_BLOCK_FORMAT_QCOW2,
				     .alloc = &test_allocator };
	struct wh_diag diag = { "" };
	CHECK_EQ(mem_file_load(&file, at("image")), 0);
	if (wh_block_open(&c, &block, &diag) < 0)
		test_fail(__FILE__, __LINE__, "%s", diag.text);
	CHECK_EQ(wh_block_size(block), DISK);
	CHECK_EQ(wh_block_do(block, WH_BLOCK_READ, 0, buffer, DISK, 0), 0);
	CHECK_MEM(buffer, model, DISK);
	for (int i = 0; i < 30; i++) {
		uint64_t r = wh_random_next(state), n = (1 + (r >> 8) % 200) * 512;
		uint64_t offset = (r >> 32) % (DISK / 512) * 512;
		if (n > DISK - offset)
			n = DISK - offset;
		if (r % 8 == 0) {
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
	CHECK_EQ(wh_block_close(block), 0);
	CHECK_EQ(mem_file_save(&file, at("image")), 0);
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
	RUN(says_what_it_cannot);
	run("rm -rf %s", folder);
	return test_end();
}
