/* SPDX-License-Identifier: ISC */

/* /proc: the few files that programs read. Each is a text made when it is opened. */

#include "root_priv.h"
#include <stdarg.h>
#include <cpu/image.h>
#include <fs/tmpfs.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/base/checked.h>
#include <wherry/base/diag.h>
#include <wherry/base/errors.h>

#define TEXT_SIZE 4096u

struct text {
	char *at;
	uint32_t size;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(t->at + t->size, TEXT_SIZE - t->size, format, args);
	va_end(args);
	t->size = t->size + n < TEXT_SIZE ? t->size + (uint32_t)n : TEXT_SIZE - 1;
}

static void put_kib(struct text *t, const char *name, uint64_t bytes)
{
	put(t, "%s: %llu kB\n", name, (unsigned long long)(bytes >> 10));
}

static uint64_t total_bytes(void)
{
	return (uint64_t)kern_pages_total_count() * KERN_PAGE;
}

static uint64_t free_bytes(void)
{
	return (uint64_t)kern_pages_free_count() * KERN_PAGE;
}

/* Name of the program: argv[0] without its directory. */
static const char *comm(void)
{
	const char *name = "wherry";
	const struct wh_boot_info *b = kern_boot();
	if (!b->argc)
		return name;
	name = (const char *)b->strings;
	for (const char *s = name; *s; s++)
		if (*s == '/')
			name = s + 1;
	return name;
}

static void proc_meminfo(struct text *t)
{
	put_kib(t, "MemTotal", total_bytes());
	put_kib(t, "MemFree", free_bytes());
	put_kib(t, "MemAvailable", free_bytes());
	put_kib(t, "Buffers", 0);
	put_kib(t, "Cached", 0);
	put_kib(t, "SwapTotal", 0);
	put_kib(t, "SwapFree", 0);
}

static void proc_cpuinfo(struct text *t)
{
	put(t,
	    "processor\t: 0\nvendor_id\t: Wherry\nmodel name\t: virtual processor\n"
	    "cpu MHz\t\t: %llu.000\nphysical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: "
	    "1\n\n",
	    (unsigned long long)(kern_boot()->tsc_hz / 1000000));
}

static void put_seconds(struct text *t, uint64_t ns)
{
	unsigned hundredths = (unsigned)(ns / 10000000 % 100);
	put(t, "%llu.%u%u", (unsigned long long)(ns / 1000000000), hundredths / 10,
	    hundredths % 10);
}

static void proc_uptime(struct text *t)
{
	put_seconds(t, kern_time_monotonic());
	put(t, " 0.00\n");
}

static void proc_stat(struct text *t)
{
	uint64_t ticks = kern_time_monotonic() / 10000000;
	uint64_t boot = (kern_time_realtime() - kern_time_monotonic()) / 1000000000;
	put(t, "cpu %llu 0 0 0 0 0 0 0 0 0\ncpu0 %llu 0 0 0 0 0 0 0 0 0\n",
	    (unsigned long long)ticks, (unsigned long long)ticks);
	put(t, "ctxt 0\nbtime %llu\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n",
	    (unsigned long long)boot);
}

static void proc_loadavg(struct text *t)
{
	put(t, "0.00 0.00 0.00 1/1 1\n");
}

static void proc_version(struct text *t)
{
	put(t, "Linux version 6.1.0 (wherry) #1\n");
}

static void proc_mounts(struct text *t)
{
	char path[WH_BOOT_PATH_SIZE];
	for (struct fs_super *s = fs_supers; s; s = s->next) {
		if (fs_node_path(s->root, path, sizeof path) < 0)
			continue;
		put(t, "%s %s %s %s 0 0\n", s->source, path, s->type, s->read_only ? "ro" : "rw");
	}
	put(t, "proc /proc proc rw 0 0\n");
}

static void proc_filesystems(struct text *t)
{
	put(t, "nodev\ttmpfs\nnodev\tproc\nnodev\t9p\n");
}

static void put_map(struct text *t, uint64_t start, uint64_t end, const char *access,
		    const char *name)
{
	if (start < end)
		put(t, "%llx-%llx %s 00000000 00:00 0 %s\n", (unsigned long long)start,
		    (unsigned long long)end, access, name);
}

/* As the machine protects them: what was sealed after relocation is not writable. */
static void proc_self_maps(struct text *t)
{
	const struct wh_boot_info *b = kern_boot();
	const struct elf_segment *s = cpu_image_segments();
	uint64_t sealed_end = 0;
	for (unsigned i = 0; i < cpu_image_header.phnum; i++)
		if (s[i].type == PT_GNU_RELRO)
			sealed_end =
				wh_align_down(b->image_base + s[i].vaddr + s[i].memsz, KERN_PAGE);
	for (unsigned i = 0; i < cpu_image_header.phnum; i++) {
		uint64_t start = wh_align_down(b->image_base + s[i].vaddr, KERN_PAGE);
		uint64_t end = wh_align_up(b->image_base + s[i].vaddr + s[i].memsz, KERN_PAGE);
		if (s[i].type != PT_LOAD)
			continue;
		if (!(s[i].flags & PF_W)) {
			put_map(t, start, end, s[i].flags & PF_X ? "r-xp" : "r--p", comm());
			continue;
		}
		put_map(t, start, sealed_end, "r--p", comm());
		put_map(t, start > sealed_end ? start : sealed_end, end, "rw-p", comm());
		put_map(t, end, b->heap_start, "r--p", "[tables]"); /* in a virtual machine */
	}
	put_map(t, b->heap_start, b->heap_end, "rw-p", "[heap]");
	put_map(t, b->stack_low, b->stack_top, "rw-p", "[stack]");
}

static void proc_self_stat(struct text *t)
{
	uint64_t used = total_bytes() - free_bytes();
	put(t, "1 (%s) R 0 1 1 0 -1 0 0 0 0 0 %llu 0 0 0 20 0 1 0 0 %llu %llu", comm(),
	    (unsigned long long)(kern_time_monotonic() / 10000000),
	    (unsigned long long)total_bytes(), (unsigned long long)(used / KERN_PAGE));
	for (int i = 25; i <= 52; i++)
		put(t, " 0");
	put(t, "\n");
}

static void proc_self_statm(struct text *t)
{
	uint64_t used = (total_bytes() - free_bytes()) / KERN_PAGE;
	put(t, "%llu %llu 0 0 0 %llu 0\n", (unsigned long long)(total_bytes() / KERN_PAGE),
	    (unsigned long long)used, (unsigned long long)used);
}

static void proc_self_status(struct text *t)
{
	uint64_t used = total_bytes() - free_bytes();
	put(t, "Name:\t%s\nUmask:\t0%x%x%x\nState:\tR (running)\nTgid:\t1\nPid:\t1\nPPid:\t0\n",
	    comm(), fs_umask >> 6 & 7, fs_umask >> 3 & 7, fs_umask & 7);
	put(t, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nFDSize:\t%u\n", FS_FDS_MAX);
	put_kib(t, "VmPeak", total_bytes());
	put_kib(t, "VmSize", total_bytes());
	put_kib(t, "VmHWM", used);
	put_kib(t, "VmRSS", used);
	put(t, "Threads:\t1\nCpus_allowed:\t1\n");
}

static void proc_self_cmdline(struct text *t)
{
	const struct wh_boot_info *b = kern_boot();
	const char *s = (const char *)b->strings;
	for (uint32_t i = 0; i < b->argc; i++) {
		size_t n = wh_strlen(s) + 1;
		if (n > TEXT_SIZE - t->size)
			return;
		memcpy(t->at + t->size, s, n);
		t->size += (uint32_t)n;
		s += n;
	}
}

static void proc_self_comm(struct text *t)
{
	put(t, "%s\n", comm());
}

static void proc_somaxconn(struct text *t)
{
	put(t, "4096\n");
}

static void proc_hostname(struct text *t)
{
	put(t, "%s\n", kern_boot()->hostname);
}

static void proc_ostype(struct text *t)
{
	put(t, "Linux\n");
}

static void proc_osrelease(struct text *t)
{
	put(t, "6.1.0-wherry\n");
}

static void proc_one(struct text *t)
{
	put(t, "1\n");
}

static int self_exe(struct fs_node *n, uint64_t data, char *to, uint32_t size)
{
	const struct wh_boot_info *b = kern_boot();
	const char *path = b->argc ? (const char *)b->strings : "/";
	char text[WH_BOOT_PATH_SIZE];
	size_t length = wh_format(text, sizeof text, "%s%s", *path == '/' ? "" : "/", path);
	if (length >= sizeof text)
		length = sizeof text - 1;
	if (length > size)
		length = size;
	memcpy(to, text, length);
	return (int)length;
}

static const struct fs_tmpfs_special exe_special = { .readlink = self_exe };

struct entry {
	const char *name;
	void (*fn)(struct text *t);
};

#define FILE_MODE (LX_S_IFREG | 0444)

static int text_open(struct fs_node *n, uint64_t data, uint32_t flags, struct fs_file **ret_file)
{
	const struct entry *e = (const void *)data;
	struct text t = { kern_alloc(TEXT_SIZE), 0 };
	if (!t.at)
		return -WH_ENOMEM;
	e->fn(&t);
	return fs_text_open(n, t.at, t.size, TEXT_SIZE, flags, ret_file);
}

static const struct fs_tmpfs_special text_special = { .open = text_open };

static void add_texts(struct fs_node *dir, const struct entry *e, size_t count)
{
	for (size_t i = 0; i < count; i++)
		(void)fs_tmpfs_add_special(dir, fs_name_of(e[i].name), FILE_MODE, 0, &text_special,
					   (uintptr_t)&e[i]);
}

static void self_fill(struct fs_node *dir, uint64_t data)
{
	static const struct entry texts[] = {
		{ "maps", proc_self_maps },       { "stat", proc_self_stat },
		{ "statm", proc_self_statm },     { "status", proc_self_status },
		{ "cmdline", proc_self_cmdline }, { "comm", proc_self_comm },
		{ "mounts", proc_mounts },
	};
	add_texts(dir, texts, WH_ARRAY_COUNT(texts));
	(void)fs_tmpfs_add_special(dir, fs_name_of("exe"), LX_S_IFLNK | 0777, 0, &exe_special, 0);
	(void)fs_tmpfs_add_special(dir, fs_name_of("fd"), LX_S_IFDIR | 0500, 0, &fs_fdlink_dir, 0);
}

static void sys_net_core_fill(struct fs_node *dir, uint64_t data)
{
	static const struct entry texts[] = { { "somaxconn", proc_somaxconn } };
	add_texts(dir, texts, WH_ARRAY_COUNT(texts));
}

static void sys_net_fill(struct fs_node *dir, uint64_t data)
{
	(void)fs_tmpfs_add_dir(dir, fs_name_of("core"), 0555, sys_net_core_fill, 0);
}

static void sys_kernel_fill(struct fs_node *dir, uint64_t data)
{
	static const struct entry texts[] = { { "hostname", proc_hostname },
					      { "ostype", proc_ostype },
					      { "osrelease", proc_osrelease } };
	add_texts(dir, texts, WH_ARRAY_COUNT(texts));
}

static void sys_vm_fill(struct fs_node *dir, uint64_t data)
{
	static const struct entry texts[] = { { "overcommit_memory", proc_one } };
	add_texts(dir, texts, WH_ARRAY_COUNT(texts));
}

static void sys_fill(struct fs_node *dir, uint64_t data)
{
	(void)fs_tmpfs_add_dir(dir, fs_name_of("net"), 0555, sys_net_fill, 0);
	(void)fs_tmpfs_add_dir(dir, fs_name_of("kernel"), 0555, sys_kernel_fill, 0);
	(void)fs_tmpfs_add_dir(dir, fs_name_of("vm"), 0555, sys_vm_fill, 0);
}

void fs_proc_fill(struct fs_node *dir, uint64_t data)
{
	static const struct entry texts[] = {
		{ "meminfo", proc_meminfo },         { "cpuinfo", proc_cpuinfo },
		{ "uptime", proc_uptime },           { "stat", proc_stat },
		{ "loadavg", proc_loadavg },         { "version", proc_version },
		{ "filesystems", proc_filesystems },
	};
	add_texts(dir, texts, WH_ARRAY_COUNT(texts));
	(void)fs_tmpfs_add_dir(dir, fs_name_of("1"), 0555, self_fill, 0);
	(void)fs_tmpfs_add_link(dir, fs_name_of("self"), fs_name_of("1"));
	(void)fs_tmpfs_add_link(dir, fs_name_of("mounts"), fs_name_of("self/mounts"));
	(void)fs_tmpfs_add_dir(dir, fs_name_of("sys"), 0555, sys_fill, 0);
}
