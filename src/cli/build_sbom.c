/* SPDX-License-Identifier: ISC */
/*
 * The bill of materials: CycloneDX 1.5 (ECMA-424) as JSON. It names the image, the program's sources, the embedded
 * files, the C library, other archives of which something is inside, and each kernel unit, with SHA-256 of what there is a
 * file of. No times, no absolute paths, no serial number: the same input gives the same bill.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/mem.h>

#include "build.h"
#include "cli.h"
#include "json_out.h"
#include "sha256.h"
#include "units_file.h"

#ifndef WHERRY_VERSION
#define WHERRY_VERSION "development"
#endif
#define DEPTH_MAX 64 /* folders in each other */

struct bill {
	FILE *to;
	bool failed;
	bool first; /* component of the list being written */
};

static int fail(struct bill *b, const char *path, int error)
{
	if (!b->failed)
		cli_error("build: %s: %s", path, strerror(error));
	b->failed = true;
	return -1;
}

static void hash_member(struct bill *b, const char *digits)
{
	fprintf(b->to, ", \"hashes\": [{\"alg\": \"SHA-256\", \"content\": \"%s\"}]", digits);
}

/* Opens a component; the caller writes more members and closes it with "}". */
static void begin(struct bill *b, const char *type, const char *name)
{
	fprintf(b->to, "%s\n    {\"type\": \"%s\", \"name\": ", b->first ? "" : ",", type);
	json_string(b->to, name);
	b->first = false;
}

static void hash_file(struct bill *b, const char *path)
{
	char digits[65];
	int error = sha256_file(path, digits);
	if (error)
		(void)fail(b, path, -error);
	else
		hash_member(b, digits);
}

static void property(struct bill *b, const char *name, const char *value)
{
	fprintf(b->to, ", \"properties\": [{\"name\": \"wherry:%s\", \"value\": \"%s\"}]", name,
		value);
}

static void put_sources(struct bill *b, const struct build_file *f)
{
	for (size_t i = 0; i < f->sources.count; i++) {
		begin(b, "file", f->sources.at[i]);
		hash_file(b, f->sources.at[i]);
		property(b, "role", "source");
		fputc('}', b->to);
	}
	/* "zlib 1.2.13": what a build command brings along */
	for (size_t i = 0; i < f->includes.count; i++) {
		char *name = strdup(f->includes.at[i]), *space = name ? strrchr(name, ' ') : NULL;
		if (space)
			*space++ = '\0';
		begin(b, "library", name ? name : "");
		if (space) {
			fputs(", \"version\": ", b->to);
			json_string(b->to, space);
		}
		fputc('}', b->to);
		free(name);
	}
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

static void put_embedded_file(struct bill *b, const char *path, const char *inside)
{
	begin(b, "file", inside);
	hash_file(b, path);
	property(b, "role", "embedded");
	fputc('}', b->to);
}

/* `inside`: the folder's path in the guest, "" for the root. */
static void put_folder(struct bill *b, const char *folder, const char *inside, int depth)
{
	struct dirent **list;
	int n = depth < DEPTH_MAX ? scandir(folder, &list, not_dots, by_name) : -1;
	if (n < 0) {
		(void)fail(b, folder, depth < DEPTH_MAX ? errno : ELOOP);
		return;
	}
	for (int i = 0; i < n; i++) {
		char *path = cc_join(cc_join(folder, "/"), list[i]->d_name);
		char *name = cc_join(cc_join(inside, "/"), list[i]->d_name);
		struct stat st;
		if (lstat(path, &st))
			(void)fail(b, path, errno);
		else if (S_ISDIR(st.st_mode))
			put_folder(b, path, name, depth + 1);
		else if (S_ISREG(st.st_mode))
			put_embedded_file(b, path, name);
		free(path);
		free(name);
		free(list[i]);
	}
	free(list);
}

/* The first line of a small file. */
static void first_line(const char *path, char *to, size_t size)
{
	FILE *f = fopen(path, "r");
	to[0] = '\0';
	if (f && fgets(to, (int)size, f))
		to[strcspn(to, "\n")] = '\0';
	if (f)
		fclose(f);
}

static void put_libc(struct bill *b, const char *sysroot)
{
	char version[64];
	first_line(cc_join(sysroot, "/lib/musl.version"), version, sizeof version);
	begin(b, "library", "musl");
	fputs(", \"version\": ", b->to);
	json_string(b->to, version);
	hash_file(b, cc_join(sysroot, "/lib/libc.a"));
	fputs(", \"licenses\": [{\"license\": {\"id\": \"MIT\"}}], \"purl\": ", b->to);
	json_string(b->to, cc_join("pkg:generic/musl@", version));
	fputc('}', b->to);
}

/* SHA-256 of a member of an ar archive (ar(5), GNU's long names), or false. */
static bool member_hash(const char *data, size_t size, const char *wanted, char ret_digits[65])
{
	const char *names = NULL;
	size_t names_size = 0, wanted_size = strlen(wanted);
	for (size_t at = 8; size >= 8 && size - at >= 60;) {
		const char *h = data + at;
		char number[11] = "";
		memcpy(number, h + 48, 10);
		unsigned long long length = strtoull(number, NULL, 10);
		at += 60;
		if (length > size - at)
			return false;
		const char *name = h;
		size_t room = 16;
		if (!memcmp(h, "// ", 3)) {
			names = data + at;
			names_size = (size_t)length;
		} else if (h[0] == '/' && h[1] >= '0' && h[1] <= '9') {
			unsigned long long offset = strtoull(h + 1, NULL, 10);
			name = offset < names_size ? names + offset : "";
			room = offset < names_size ? names_size - (size_t)offset : 0;
		}
		if (room > wanted_size + 2 && !memcmp(name, wanted, wanted_size) &&
		    !memcmp(name + wanted_size, ".o/", 3)) {
			struct sha256 hash;
			sha256_init(&hash);
			sha256_add(&hash, data + at, (size_t)length);
			sha256_end(&hash, ret_digits);
			return true;
		}
		at += (size_t)length + (length & 1);
		if (at > size)
			return false;
	}
	return false;
}

static char *load(struct bill *b, const char *path, size_t *ret_size)
{
	struct stat st;
	char *data = NULL;
	FILE *f = fopen(path, "rb");
	if (f && !fstat(fileno(f), &st) && st.st_size > 0 && (data = malloc((size_t)st.st_size)))
		*ret_size = fread(data, 1, (size_t)st.st_size, f);
	else
		(void)fail(b, path, errno);
	if (f)
		fclose(f);
	return data;
}

/* The kernel, with its units as parts of it. */
static void put_kernel(struct bill *b, const struct units *units, const char *sysroot)
{
	char *path = cc_join(sysroot, "/lib/libwherry.a"), digits[65], size[24];
	size_t archive_size = 0;
	char *archive = load(b, path, &archive_size);
	begin(b, "library", "wherry-guest");
	fprintf(b->to, ", \"version\": \"%s\"", WHERRY_VERSION);
	hash_file(b, path);
	fputs(", \"licenses\": [{\"license\": {\"id\": \"ISC\"}}], \"components\": [", b->to);
	b->first = true;
	for (uint32_t i = 0; i < units->count; i++) {
		if (units->entry[i].kind != UNITS_UNIT)
			continue;
		begin(b, "library", units->entry[i].name);
		if (archive && member_hash(archive, archive_size, units->entry[i].name, digits))
			hash_member(b, digits);
		snprintf(size, sizeof size, "%llu", (unsigned long long)units->entry[i].size);
		property(b, "bytes", size);
		fputc('}', b->to);
	}
	fputs("]}", b->to);
	b->first = false;
	free(archive);
}

/* Archives of the program's of which members are inside, each once: `libz.a(inflate.o)` is libz.a. */
static void put_archives(struct bill *b, const struct units *units)
{
	for (uint32_t i = 0; i < units->count; i++) {
		const char *name = units->entry[i].name, *open = strchr(name, '(');
		size_t n = open ? (size_t)(open - name) : 0;
		bool seen =
			units->entry[i].kind != UNITS_PART || !open || !strncmp(name, "libc.a(", 7);
		for (uint32_t k = 0; !seen && k < i; k++)
			seen = units->entry[k].kind == UNITS_PART &&
			       !strncmp(units->entry[k].name, name, n + 1);
		if (seen)
			continue;
		char *library = strndup(name, n);
		begin(b, "library", library ? library : "");
		fputc('}', b->to);
		free(library);
	}
}

static void put_metadata(struct bill *b, const struct build_file *f)
{
	struct cc_words compiler = { 0 };
	const char *set = getenv("WHERRY_CC");
	char *first = strdup(set && *set ? set : "gcc");
	if (first)
		first[strcspn(first, " ")] = '\0';
	cc_push(&compiler, first);
	char *version = cc_ask(&compiler, "--version");
	fputs("{\n  \"bomFormat\": \"CycloneDX\",\n  \"specVersion\": \"1.5\",\n  \"version\": "
	      "1,\n  \"metadata\": {\n"
	      "    \"tools\": {\"components\": [{\"type\": \"application\", \"name\": \"wherry\", "
	      "\"version\": \"" WHERRY_VERSION "\"}, {\"type\": \"application\", \"name\": ",
	      b->to);
	json_string(b->to, version ? version : "unknown compiler");
	fputs("}]},\n    \"component\": {\"type\": \"application\", \"bom-ref\": \"image\", "
	      "\"name\": ",
	      b->to);
	json_string(b->to, f->name);
	hash_file(b, f->output);
	fputs("}\n  },\n  \"components\": [", b->to);
	b->first = true;
}

static int load_units_of(struct bill *b, const char *path, struct units *units, char **text)
{
	struct wh_elf elf;
	struct wh_diag diag = { "" };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		if (fd >= 0)
			close(fd);
		return fail(b, path, errno);
	}
	struct wh_elf_input input = { .fd = fd, .size = (uint64_t)st.st_size };
	int error = wh_elf_open(&input, &elf, &diag);
	if (!error)
		error = units_load(&elf, units, text, &diag);
	close(fd);
	if (error)
		cli_error("build: %s: %s", path, diag.text);
	b->failed |= error != 0;
	return error;
}

int build_sbom_write(const char *path, const struct build_file *file, const char *sysroot)
{
	struct bill b = { 0 };
	struct units units = { 0 };
	char *text = NULL, *temporary = cc_join(path, ".new");
	if (!load_units_of(&b, file->output, &units, &text) && !(b.to = fopen(temporary, "w")))
		(void)fail(&b, temporary, errno);
	if (b.to) {
		put_metadata(&b, file);
		put_sources(&b, file);
		if (file->root)
			put_folder(&b, file->root, "", 0);
		put_libc(&b, sysroot);
		put_archives(&b, &units);
		put_kernel(&b, &units, sysroot);
		fputs("\n  ]\n}\n", b.to);
		bool bad = ferror(b.to) != 0;
		if ((fclose(b.to) || bad || (!b.failed && rename(temporary, path))) && !b.failed)
			(void)fail(&b, path, errno);
		if (b.failed)
			(void)unlink(temporary);
	}
	units_free(&units);
	free(text);
	free(temporary);
	return b.failed ? CLI_ERROR : 0;
}
