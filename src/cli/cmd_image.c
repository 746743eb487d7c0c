/* SPDX-License-Identifier: ISC */
/*
 * wherry image: what is inside an image, as text or as one JSON object. The file is
 * checked as for running (wh_vmm_image_open); its unit list by units.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>
#include <wherry/elf.h>
#include <wherry/vmm.h>

#include "cli.h"
#include "image_html.h"
#include "json_out.h"
#include "units_file.h"

enum { OPTION_JSON = 1, OPTION_HTML };

static const struct cli_option options[] = {
	{ OPTION_JSON, "json", 0, NULL, "print one JSON object" },
	{ OPTION_HTML, "html", 0, "FILE", "write a page that shows it, - = standard output" },
};

const struct cli_command cli_command_image = {
	.name = "image",
	.synopsis = "[--json | --html FILE] IMAGE",
	.summary = "show what is inside an image, and why",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_image,
};

struct subject {
	const char *path;
	uint64_t file_size;
	struct wh_elf elf;
	const struct wh_manifest *manifest;
	struct units units; /* count 0 and entry NULL: the image has no list */
};

/* Control characters of a hostile file do not reach a terminal. */
static void text_string(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < 32 || *s == 127 ? '?' : *s);
}

/* Sections that are in memory, or that carry the list of units. */
static void for_each_section(const struct subject *s,
			     void (*fn)(const char *name, const struct wh_elf_section *section,
					bool first))
{
	bool first = true;
	for (uint32_t i = 1; i < s->elf.section_count; i++) {
		struct wh_elf_section section;
		char name[64];
		if (wh_elf_section(&s->elf, i, &section) ||
		    wh_elf_section_name(&s->elf, &section, name, sizeof name) || !section.size)
			continue;
		if (!(section.flags & 2 /* SHF_ALLOC */) && strcmp(name, WH_MANIFEST_UNITS_SECTION))
			continue;
		fn(name, &section, first);
		first = false;
	}
}

static void section_text(const char *name, const struct wh_elf_section *section, bool first)
{
	printf("  ");
	text_string(name);
	printf("%*s%10llu bytes  %s%s%s\n", (int)(strlen(name) < 20 ? 20 - strlen(name) : 1), "",
	       (unsigned long long)section->size, section->flags & 2 ? "r" : "-",
	       section->flags & 1 ? "w" : "-", section->flags & 4 ? "x" : "-");
}

static void section_json(const char *name, const struct wh_elf_section *section, bool first)
{
	printf("%s{\"name\": ", first ? "" : ", ");
	json_string(stdout, name);
	printf(", \"size\": %llu, \"flags\": \"%s%s%s\"}", (unsigned long long)section->size,
	       section->flags & 2 ? "r" : "", section->flags & 1 ? "w" : "",
	       section->flags & 4 ? "x" : "");
}

/* Outermost first: `main.c puts > libc.a(puts.lo) __stdout_FILE > ...`. */
static void chain_text(const struct units *units, const struct units_entry *e)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	for (uint32_t n = units_chain(units, e, chain); n-- > 0;) {
		text_string(strcmp(chain[n]->by, "-") ? chain[n]->by : "start");
		putchar(' ');
		text_string(chain[n]->symbol);
		if (n)
			printf(" > ");
	}
	putchar('\n');
}

static void chain_json(const struct units *units, const struct units_entry *e)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	printf("[");
	for (uint32_t n = units_chain(units, e, chain); n-- > 0;) {
		printf("{\"by\": ");
		json_string(stdout, chain[n]->by);
		printf(", \"symbol\": ");
		json_string(stdout, chain[n]->symbol);
		printf("}%s", n ? ", " : "");
	}
	printf("]");
}

static uint64_t units_bytes(const struct units *units)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < units->count; i++)
		n += units->entry[i].kind == UNITS_UNIT ? units->entry[i].size : 0;
	return n;
}

static void print_text(const struct subject *s)
{
	const struct wh_manifest *m = s->manifest;
	printf("image: %s, %llu bytes\n", s->path, (unsigned long long)s->file_size);
	printf("name: ");
	text_string(m->name);
	printf("\nmanifest: version %u, boot contract %u\n", m->version, m->boot_version);
	printf("entry: boot 0x%llx, trap 0x%llx\n", (unsigned long long)m->boot_entry,
	       (unsigned long long)m->trap_entry);
	printf("memory: %llu KiB unless said, at least %llu KiB, stack %llu KiB\n",
	       (unsigned long long)m->memory_default >> 10, (unsigned long long)m->memory_min >> 10,
	       (unsigned long long)m->stack_size >> 10);
	printf("sections:\n");
	for_each_section(s, section_text);
	if (!s->units.entry) {
		printf("kernel units: not recorded (linked by something else than wherry cc?)\n");
		return;
	}
	printf("kernel units: %u of %u inside, %llu bytes\n", units_count(&s->units, UNITS_UNIT),
	       s->units.available, (unsigned long long)units_bytes(&s->units));
	for (uint32_t i = 0; i < s->units.count; i++) {
		const struct units_entry *e = &s->units.entry[i];
		if (e->kind != UNITS_UNIT)
			continue;
		printf("  ");
		text_string(e->name);
		printf("%*s%7llu  ", (int)(strlen(e->name) < 28 ? 28 - strlen(e->name) : 1), "",
		       (unsigned long long)e->size);
		chain_text(&s->units, e);
	}
	printf("system calls used but not implemented: %u\n",
	       units_count(&s->units, UNITS_MISSING));
	for (uint32_t i = 0; i < s->units.count; i++) {
		if (s->units.entry[i].kind != UNITS_MISSING)
			continue;
		printf("  ");
		text_string(s->units.entry[i].name);
		printf("  ");
		chain_text(&s->units, &s->units.entry[i]);
	}
}

static void print_json(const struct subject *s)
{
	const struct wh_manifest *m = s->manifest;
	bool first = true;
	printf("{\"image\": ");
	json_string(stdout, s->path);
	printf(", \"size\": %llu, \"name\": ", (unsigned long long)s->file_size);
	json_string(stdout, m->name);
	printf(", \"manifest\": {\"version\": %u, \"boot_version\": %u, \"boot_entry\": %llu, "
	       "\"trap_entry\": %llu, \"memory_default\": %llu, \"memory_min\": %llu, "
	       "\"stack_size\": %llu}",
	       m->version, m->boot_version, (unsigned long long)m->boot_entry,
	       (unsigned long long)m->trap_entry, (unsigned long long)m->memory_default,
	       (unsigned long long)m->memory_min, (unsigned long long)m->stack_size);
	printf(", \"sections\": [");
	for_each_section(s, section_json);
	printf("], \"units_recorded\": %s, \"units_available\": %u, \"units_bytes\": %llu, "
	       "\"units\": [",
	       s->units.entry ? "true" : "false", s->units.available,
	       (unsigned long long)units_bytes(&s->units));
	for (uint32_t i = 0; i < s->units.count; i++) {
		const struct units_entry *e = &s->units.entry[i];
		if (e->kind != UNITS_UNIT)
			continue;
		printf("%s{\"name\": ", first ? "" : ", ");
		json_string(stdout, e->name);
		printf(", \"size\": %llu, \"why\": ", (unsigned long long)e->size);
		chain_json(&s->units, e);
		printf("}");
		first = false;
	}
	printf("], \"missing_calls\": [");
	first = true;
	for (uint32_t i = 0; i < s->units.count; i++) {
		const struct units_entry *e = &s->units.entry[i];
		if (e->kind != UNITS_MISSING)
			continue;
		printf("%s{\"call\": ", first ? "" : ", ");
		json_string(stdout, e->name);
		printf(", \"why\": ");
		chain_json(&s->units, e);
		printf("}");
		first = false;
	}
	printf("]}\n");
}

static int show(const char *path, bool json, const char *html)
{
	struct subject s = { .path = path };
	struct wh_vmm_image *image = NULL;
	struct wh_diag diag = { "" };
	struct stat st;
	char *text = NULL;
	int status = CLI_CANNOT_START, fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		cli_error("%s: %s", path, errno == ENOENT ? "no such file" : strerror(errno));
		return errno == ENOENT ? CLI_NOT_FOUND : CLI_CANNOT_START;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		cli_error("%s: not a file", path);
		goto out;
	}
	s.file_size = (uint64_t)st.st_size;
	struct wh_elf_input input = { .fd = fd, .size = s.file_size };
	if (wh_vmm_image_open_fd(fd, &image, &diag) || wh_elf_open(&input, &s.elf, &diag) ||
	    units_load(&s.elf, &s.units, &text, &diag)) {
		cli_error("%s: %s", path, diag.text);
		goto out;
	}
	s.manifest = wh_vmm_image_manifest(image);
	if (html) {
		status = image_html_write(html, path, &s.elf, s.manifest, &s.units);
		goto out;
	}
	(json ? print_json : print_text)(&s);
	status = fflush(stdout) || ferror(stdout) ? CLI_ERROR : CLI_OK;
out:
	units_free(&s.units);
	free(text);
	wh_vmm_image_close(image);
	close(fd);
	return status;
}

int cmd_image(int argc, char **argv)
{
	struct cli_parser parser;
	const char *path = NULL, *html = NULL, *value;
	bool json = false;
	int id;
	cli_parser_init(&parser, &cli_command_image, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_BAD)
			return CLI_ERROR;
		if (id == CLI_HELP)
			return CLI_OK;
		if (id == OPTION_JSON)
			json = true;
		else if (id == OPTION_HTML)
			html = value;
		else if (id == CLI_OPERAND && !path)
			path = value;
		else {
			cli_error("image: one image at a time");
			return CLI_ERROR;
		}
	}
	if (!path) {
		cli_error("image: which image? (see: wherry image --help)");
		return CLI_ERROR;
	}
	return show(path, json, html);
}
