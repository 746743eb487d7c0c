/* SPDX-License-Identifier: ISC */
/*
 * wherry image --html: image_page.html with the image's data as JSON in it. The page needs nothing else, and a browser lets
 * it load nothing. Names in an image are anybody's: json_string writes no character that means something to HTML, and the page's
 * code puts names into text nodes only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/mem.h>

#include "cli.h"
#include "image_calls.h"
#include "image_html.h"
#include "image_page.h"
#include "json_out.h"

#define MARK "@DATA@"

static void put_chain(FILE *to, const struct units *units, const struct units_entry *e)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	fputs("\"why\": [", to);
	for (uint32_t n = units_chain(units, e, chain); n-- > 0;) {
		if (!strcmp(chain[n]->by, "-")) /* the linker's command line */
			continue;
		fputs("{\"by\": ", to);
		json_string(to, chain[n]->by[0] == '@' ? chain[n]->by + 1 : chain[n]->by);
		fputs(", \"symbol\": ", to);
		json_string(to, chain[n]->symbol);
		fprintf(to, "}%s", n ? ", " : "");
	}
	fputs("]", to);
}

/* The library a part is of: kernel units by their folder, members by their archive, all else is the program. */
static void put_owner(FILE *to, const struct units_entry *e)
{
	const char *name = e->name, *open = strchr(name, '(');
	char owner[256];
	if (e->kind == UNITS_UNIT)
		snprintf(owner, sizeof owner, "kernel: %.*s", (int)strcspn(name, "_"), name);
	else if (open)
		snprintf(owner, sizeof owner, "%.*s", (int)(open - name), name);
	else
		snprintf(owner, sizeof owner, "program");
	json_string(to, owner);
}

static void put_name(FILE *to, const struct units_entry *e)
{
	const char *open = e->kind == UNITS_PART ? strchr(e->name, '(') : NULL;
	char *name = strdup(open ? open + 1 : e->name), *close = name ? strrchr(name, ')') : NULL;
	if (open && close)
		*close = '\0';
	json_string(to, name ? name : "");
	free(name);
}

static void put_parts(FILE *to, const struct units *units)
{
	const char *comma = "";
	fputs("\"parts\": [", to);
	for (uint32_t i = 0; i < units->count; i++) {
		const struct units_entry *e = &units->entry[i];
		if (e->kind != UNITS_UNIT && e->kind != UNITS_PART)
			continue;
		fprintf(to, "%s\n{\"name\": ", comma);
		put_name(to, e);
		fputs(", \"of\": ", to);
		put_owner(to, e);
		fprintf(to, ", \"bytes\": %llu, ", (unsigned long long)e->size);
		put_chain(to, units, e);
		fputc('}', to);
		comma = ",";
	}
	fputs("],\n\"missing\": [", to);
	comma = "";
	for (uint32_t i = 0; i < units->count; i++) {
		if (units->entry[i].kind != UNITS_MISSING)
			continue;
		fprintf(to, "%s{\"call\": ", comma);
		json_string(to, units->entry[i].name);
		fputs(", ", to);
		put_chain(to, units, &units->entry[i]);
		fputc('}', to);
		comma = ", ";
	}
	fputs("]", to);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the handlers inside, sorted; NULL: there are no symbols. */
static const char **handlers(const struct wh_elf_symbols *symbols, size_t *ret_count)
{
	const char **names = calloc((size_t)symbols->count + 1, sizeof *names);
	size_t n = 0;
	for (uint32_t i = 0; names && i < symbols->count; i++) {
		struct wh_elf_symbol s = wh_elf_symbol(symbols, i);
		if (s.section && !strncmp(s.name, "wh_sys_", 7))
			names[n++] = s.name + 7;
	}
	if (names)
		qsort(names, n, sizeof *names, by_text);
	*ret_count = n;
	return names;
}

static void put_calls(FILE *to, const struct wh_elf *elf)
{
	struct wh_elf_symbols symbols = { 0 };
	size_t count = 0;
	const char **inside = NULL;
	if (!wh_elf_symbols_load(elf, &symbols))
		inside = handlers(&symbols, &count);
	fprintf(to, "\"symbols\": %s,\n\"calls\": [", count ? "true" : "false");
	for (unsigned i = 0; i < image_call_count; i++) {
		const struct image_call *c = &image_calls[i];
		bool is_inside = count && bsearch(&c->name, inside, count, sizeof *inside, by_text);
		fprintf(to, "%s{\"name\": \"%s\", \"status\": \"%s\", \"inside\": %s, \"note\": ",
			i ? ",\n" : "", c->name, c->status, is_inside ? "true" : "false");
		json_string(to, c->note);
		fputc('}', to);
	}
	fputs("]", to);
	free(inside);
	wh_elf_symbols_free(&symbols);
}

static void put_data(FILE *to, const char *image, const struct wh_elf *elf,
		     const struct wh_manifest *m, const struct units *units)
{
	fputs("{\"name\": ", to);
	json_string(to, m->name[0] ? m->name : image);
	fprintf(to,
		", \"size\": %llu, \"memory\": %llu, \"memory_min\": %llu, \"available\": %u, "
		"\"units\": %u,\n",
		(unsigned long long)elf->input.size, (unsigned long long)m->memory_default,
		(unsigned long long)m->memory_min, units->available,
		units_count(units, UNITS_UNIT));
	put_parts(to, units);
	fputs(",\n", to);
	put_calls(to, elf);
	fputs("}", to);
}

int image_html_write(const char *path, const char *image, const struct wh_elf *elf,
		     const struct wh_manifest *manifest, const struct units *units)
{
	const char *mark = strstr(image_page, MARK);
	if (!units->entry) {
		cli_error("%s: the image has no list of units (linked by something else than "
			  "wherry cc?)",
			  image);
		return CLI_ERROR;
	}
	FILE *to = strcmp(path, "-") ? fopen(path, "w") : stdout;
	if (!to) {
		cli_error("%s: %s", path, strerror(errno));
		return CLI_ERROR;
	}
	fwrite(image_page, 1, (size_t)(mark - image_page), to);
	put_data(to, image, elf, manifest, units);
	fputs(mark + sizeof MARK - 1, to);
	bool bad = fflush(to) || ferror(to);
	if (to != stdout)
		bad |= fclose(to) != 0;
	if (bad)
		cli_error("%s: %s", path, strerror(errno));
	return bad ? CLI_ERROR : CLI_OK;
}
