/* SPDX-License-Identifier: ISC */
/*
 * From a GNU linker map to the image's list of kernel units (docs/spec/units.md).
 *
 * Two parts of the map are read. "Archive member included to satisfy reference"
 * names each member with the file and the symbol that wanted it first: those links
 * lead from any unit back to an object of the program. "Linker script and memory
 * map" names each input section that was kept, with its size: a member with none
 * was included and then collected as garbage, and does not count.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wherry/base/mem.h>

#include "cc.h"
#include "cli.h"

#define TEMPORARIES_MAX 256u /* sources on one command line; further ones are "program" */
#define CHAIN_MAX 32u        /* links shown; C library functions nest far less */

struct member {
	char *file;   /* as the map writes it: PATH(MEMBER) */
	char *by;     /* file that wanted it, or NULL: named on the command line */
	char *symbol; /* what it wanted */
	uint64_t size;
	bool written; /* its `via` line is */
};

struct map {
	struct member *members;
	size_t count, room;
	char *text;
	char *archive; /* path of libwherry.a as the linker was given it */
	/* What the compiler's temporary objects are called instead, as they are loaded. */
	const char *const *sources;
	size_t source_count, temporary_count;
	char *temporaries[TEMPORARIES_MAX];
	bool section_counts; /* the section being read is part of the program in memory */
};

static struct member *find(struct map *m, const char *file)
{
	for (size_t i = 0; i < m->count; i++)
		if (!strcmp(m->members[i].file, file))
			return &m->members[i];
	return NULL;
}

static char *skip_spaces(char *s)
{
	return s + strspn(s, " \t");
}

/* `FILE (SYMBOL)` or `(SYMBOL)`. */
static void split_reference(char *reference, struct member *to)
{
	char *open = strrchr(reference, '('), *close = strrchr(reference, ')');
	if (!open || !close || close < open)
		return;
	*close = 0;
	to->symbol = open + 1;
	while (open > reference && open[-1] == ' ')
		open--;
	*open = 0;
	to->by = *reference ? reference : NULL;
}

static int add(struct map *m, char *file, char *reference)
{
	if (m->count == m->room) {
		size_t room = m->room ? m->room * 2 : 512;
		struct member *grown = realloc(m->members, room * sizeof *grown);
		if (!grown)
			return -1;
		m->members = grown;
		m->room = room;
	}
	struct member *to = &m->members[m->count++];
	*to = (struct member){ .file = file };
	split_reference(reference, to);
	return 0;
}

/* Line by line; the map's text is cut in place. */
static char *next_line(char **at)
{
	char *line = *at, *end;
	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	if (end)
		*end = 0;
	*at = end ? end + 1 : NULL;
	return line;
}

/* One entry of the first part: the file, then (on the same line if there is room) the reference. */
static int parse_member(struct map *m, char *line, char **at)
{
	char *reference = NULL;
	for (char *s = line; *s && !reference; s++)
		if (s[0] == ' ' && s[1] == ' ')
			reference = s;
	if (reference) {
		*reference++ = 0;
		reference = skip_spaces(reference);
	} else {
		char *next = next_line(at);
		if (!next)
			return 0;
		reference = skip_spaces(next);
	}
	return add(m, line, reference);
}

/* Objects are known by their sections only. */
static void add_size(struct map *m, char *file, uint64_t size)
{
	struct member *to = find(m, file);
	size_t length = strlen(file);
	bool object = length > 2 && !strcmp(file + length - 2, ".o"); /* else: data of the script */
	if (!to && object && !add(m, file, (char[]){ "" })) {
		to = &m->members[m->count - 1];
		to->by = NULL;
	}
	if (to)
		to->size += size;
}

/* Of the memory map: ` NAME ADDRESS SIZE FILE`, or NAME on a line of its own before the rest. */
static void parse_section(struct map *m, char *line)
{
	char *address = strstr(line, " 0x"), *end;
	if (line[1] == '.')
		m->section_counts =
			strncmp(line + 1, ".debug", 6) && strncmp(line + 1, ".comment", 8);
	if (!address || !m->section_counts)
		return;
	uint64_t start = strtoull(address + 1, &end, 16);
	end = skip_spaces(end);
	if (strncmp(end, "0x", 2))
		return;
	uint64_t size = strtoull(end, &end, 16);
	if (start && size)
		add_size(m, skip_spaces(end), size);
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* ccXXXXXX.o of gcc, NAME-XXXXXX.o of clang, in the folder for such files. */
static bool is_temporary(const char *file)
{
	const char *folder = getenv("TMPDIR");
	size_t length = folder && *folder ? strlen(folder) : 0;
	const char *name = last_part(file), *dash = strrchr(name, '-');
	if (strncmp(file, "/tmp/", 5) && !(length && !strncmp(file, folder, length)))
		return false;
	return (strlen(name) == 10 && !strncmp(name, "cc", 2) && !strcmp(name + 8, ".o")) ||
	       (dash && strlen(dash) == 9 && !strcmp(dash + 7, ".o"));
}

/* The name of the source that a temporary object was made of; under LTO they become one. */
static const char *source_of(const struct map *m, const char *file)
{
	for (size_t i = 0;
	     i < m->temporary_count && !strstr(file, ".lto.o") && !strstr(file, ".ltrans"); i++)
		if (!strcmp(m->temporaries[i], file))
			return i < m->source_count ? last_part(m->sources[i]) : "embedded-files";
	return m->source_count == 1 ? last_part(m->sources[0]) : "program";
}

static int parse(struct map *m)
{
	enum { BEFORE, MEMBERS, BETWEEN, MEMORY } part = BEFORE;
	char *at = m->text, *line;
	while ((line = next_line(&at))) {
		if (!strncmp(line, "Archive member included", 23))
			part = MEMBERS;
		else if (!strncmp(line, "Linker script and memory map", 28))
			part = MEMORY;
		else if (part == MEMBERS && *line && line[0] != ' ' && !strchr(line, '('))
			part = BETWEEN; /* the next heading */
		else if (part == MEMBERS && *line && line[0] != ' ' && parse_member(m, line, &at))
			return -1;
		else if (part == MEMORY && !strncmp(line, "LOAD ", 5) &&
			 strstr(line, "/libwherry.a"))
			m->archive = line + 5;
		else if (part == MEMORY && !strncmp(line, "LOAD ", 5) && is_temporary(line + 5)) {
			if (m->temporary_count < TEMPORARIES_MAX)
				m->temporaries[m->temporary_count++] = line + 5;
		} else if (part == MEMORY && line[0] == ' ')
			parse_section(m, line);
		else if (part == MEMORY && line[0] == '.' && strstr(line, "/DISCARD/"))
			part = BETWEEN;
	}
	return 0;
}

/* Is it a member of that archive? Returns the member's name without the bracket. */
static const char *member_of(const char *file, const char *archive, size_t *ret_length)
{
	const char *at = strstr(file, archive);
	if (!at || at[strlen(archive)] != '(')
		return NULL;
	at += strlen(archive) + 1;
	*ret_length = strcspn(at, ")");
	return at;
}

/* posix_file_write.c.o -> posix_file_write */
static void unit_name(char *to, size_t size, const char *member, size_t length)
{
	while (length > 3 && !strncmp(member, ".._", 3)) {
		member += 3;
		length -= 3;
	}
	static const char *const ends[] = { ".o", ".c" };
	for (size_t i = 0; i < WH_ARRAY_COUNT(ends); i++)
		if (length > 2 && !strncmp(member + length - 2, ends[i], 2))
			length -= 2;
	snprintf(to, size, "%.*s", (int)length, member);
}

/* How a file is called in the list: a unit by its name with @ before it, a member of another
 * archive `libc.a(puts.lo)`, an object without its folder. A temporary object's name
 * (ccXXXXXX.o) is different each time: the source's name stands for it. */
static void list_name(const struct map *m, char *to, size_t size, const char *file)
{
	size_t length;
	const char *member = file ? member_of(file, "libwherry.a", &length) : NULL;
	if (!file) {
		snprintf(to, size, "-");
		return;
	}
	if (member) {
		to[0] = '@';
		unit_name(to + 1, size - 1, member, length);
		return;
	}
	const char *open = strchr(file, '('), *at = open ? open : file + strlen(file);
	while (at > file && at[-1] != '/')
		at--;
	bool temporary =
		!open && (is_temporary(file) || strstr(at, ".ltrans") || strstr(at, ".lto.o"));
	snprintf(to, size, "%s", temporary ? source_of(m, file) : at);
	for (char *c = to; *c; c++)
		if (*c == ' ' || *c == '\n' || *c == '\t')
			*c = '_';
}

/* ` BY SYMBOL`, the end of each line. */
static void write_reference(struct map *m, FILE *to, const struct member *u)
{
	char by[256];
	list_name(m, by, sizeof by, u->by);
	fprintf(to, " %s %s\n", by, u->symbol ? u->symbol : "-");
}

/* The members of other archives that lie on the way from a unit to the program, each once. */
static void write_way(struct map *m, FILE *to, struct member *unit)
{
	char name[256];
	size_t length;
	for (struct member *at = unit->by ? find(m, unit->by) : NULL; at && !at->written;
	     at = at->by ? find(m, at->by) : NULL) {
		at->written = true;
		if (member_of(at->file, "libwherry.a", &length))
			continue; /* has a line of its own */
		list_name(m, name, sizeof name, at->file);
		fprintf(to, "via %s", name);
		write_reference(m, to, at);
	}
}

/* Members of an ar archive (ar(5)): headers of 60 bytes, contents padded to even. */
static unsigned count_members(const char *path)
{
	char header[60];
	unsigned n = 0;
	FILE *f = path ? fopen(path, "rb") : NULL;
	if (!f)
		return 0;
	if (!fseek(f, 8, SEEK_SET))
		while (fread(header, sizeof header, 1, f) == 1 && header[58] == '`') {
			header[58] = 0;
			long size = strtol(header + 48, NULL, 10);
			n += header[0] != '/' || (header[1] >= '0' && header[1] <= '9');
			if (size < 0 || fseek(f, size + (size & 1), SEEK_CUR))
				break;
		}
	fclose(f);
	return n;
}

static void write_units(struct map *m, FILE *to)
{
	fprintf(to, "wherry-units 2\navailable %u\n", count_members(m->archive));
	for (size_t i = 0; i < m->count; i++) {
		struct member *u = &m->members[i];
		size_t length;
		char name[256];
		const char *member = member_of(u->file, "libwherry.a", &length);
		bool missing = !member;
		if (missing)
			member = member_of(u->file, "libwherry-enosys.a", &length);
		if (!u->size)
			continue;
		if (!member) {
			list_name(m, name, sizeof name, u->file);
			fprintf(to, "part %s %llu", name, (unsigned long long)u->size);
			write_reference(m, to, u);
			continue;
		}
		unit_name(name, sizeof name, member, length);
		if (missing)
			fprintf(to, "missing %s",
				u->symbol && !strncmp(u->symbol, "wh_sys_", 7) ? u->symbol + 7
									       : name);
		else
			fprintf(to, "unit %s %llu", name, (unsigned long long)u->size);
		write_reference(m, to, u);
		write_way(m, to, u);
	}
}

/* Is it part of what every image is linked with, not of the program? */
static bool is_ours(const char *file)
{
	size_t length;
	return member_of(file, "libwherry.a", &length) || member_of(file, "libc.a", &length);
}

/* The symbol that the program itself asks for and that leads to each missing call. */
static void report_missing(struct map *m,
			   void (*fn)(void *ctx, const char *call, const char *symbol), void *ctx)
{
	for (size_t i = 0; i < m->count; i++) {
		struct member *u = &m->members[i], *outer = u;
		size_t length;
		if (!u->size || !u->symbol || strncmp(u->symbol, "wh_sys_", 7) ||
		    !member_of(u->file, "libwherry-enosys.a", &length))
			continue;
		for (unsigned n = 0; n < CHAIN_MAX; n++) {
			struct member *by = outer->by ? find(m, outer->by) : NULL;
			if (!by || !is_ours(by->file))
				break; /* an object, or an archive of the program's */
			outer = by;
		}
		fn(ctx, u->symbol + 7, outer->symbol ? outer->symbol : u->symbol);
	}
}

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "rb");
	long size;
	char *text = NULL;
	if (!f)
		return NULL;
	if (!fseek(f, 0, SEEK_END) && (size = ftell(f)) >= 0 && !fseek(f, 0, SEEK_SET)) {
		text = malloc((size_t)size + 1);
		if (text)
			text[fread(text, 1, (size_t)size, f)] = 0;
	}
	fclose(f);
	return text;
}

int cc_units_read(const char *map_path, const char *const *sources, size_t source_count,
		  char **ret_text, void (*missing)(void *ctx, const char *call, const char *symbol),
		  void *ctx)
{
	struct map m = { .text = read_text(map_path),
			 .sources = sources,
			 .source_count = source_count };
	size_t size;
	FILE *to = open_memstream(ret_text, &size);
	int status = 0;
	if (!m.text || !to || parse(&m)) {
		cli_error("cc: cannot read the linker's map %s (errno %d)", map_path, errno);
		status = CLI_ERROR;
	} else {
		write_units(&m, to);
		report_missing(&m, missing, ctx);
	}
	if (to)
		fclose(to);
	free(m.members);
	free(m.text);
	return status;
}
