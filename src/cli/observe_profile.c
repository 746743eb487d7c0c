/* SPDX-License-Identifier: ISC */
/*
 * Samples become folded stacks: `main;serve;wh_sys_read 12`, outermost first, a line a stack, which flame graph tools
 * take; or a flame graph of our own, an SVG that needs nothing. Stacks are kept as text in a hash table.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wherry/base/hash.h>
#include <wherry/base/mem.h>

#include "observe.h"

#define STACK_TEXT_MAX 2048u
#define STACKS_MAX 65536u /* more are counted as [other] */
#define BUCKETS 4096u

struct stack {
	struct stack *next;
	uint64_t count;
	char text[];
};

struct observe_profile {
	const char *path;
	FILE *to;
	const struct wh_elf *elf;
	const struct wh_elf_symbols *symbols;
	struct stack *bucket[BUCKETS];
	uint32_t stacks;
	uint64_t total;
};

struct observe_profile *observe_profile_new(const char *path, const struct wh_elf_symbols *symbols,
					    const struct wh_elf *elf)
{
	struct observe_profile *p = calloc(1, sizeof *p);
	FILE *f = p ? fopen(path, "w") : NULL;
	if (!f) {
		cli_error("--profile %s: %s", path, strerror(errno));
		free(p);
		return NULL;
	}
	p->path = path;
	p->to = f;
	p->symbols = symbols;
	p->elf = elf;
	return p;
}

static void count(struct observe_profile *p, const char *text)
{
	uint32_t h = 5381;
	for (const char *c = text; *c; c++)
		h = h * 33 + (unsigned char)*c;
	struct stack **at = &p->bucket[h % BUCKETS];
	while (*at && strcmp((*at)->text, text))
		at = &(*at)->next;
	if (!*at) {
		size_t size = strlen(text) + 1;
		if (p->stacks == STACKS_MAX && strcmp(text, "[other]")) {
			count(p, "[other]");
			return;
		}
		*at = calloc(1, sizeof **at + size);
		if (!*at)
			return;
		memcpy((*at)->text, text, size);
		p->stacks++;
	}
	(*at)->count++;
}

/* A symbol without what would be a separator. */
static size_t put_symbol(char *to, size_t size, const struct observe_profile *p, uint64_t address)
{
	struct wh_elf_symbol s;
	size_t n = wh_elf_symbol_at(p->symbols, address, &s) || !s.name[0]
			   ? wh_format(to, size, "0x%llx", (unsigned long long)address)
			   : wh_format(to, size, "%s", s.name);
	if (n >= size)
		n = size - 1;
	for (size_t i = 0; i < n; i++)
		if (to[i] == ';' || to[i] <= ' ' || to[i] > '~')
			to[i] = '_';
	return n;
}

void observe_profile_add(struct observe_profile *p, const uint64_t *frames, uint32_t n,
			 uint64_t image_base)
{
	char text[STACK_TEXT_MAX];
	size_t at = 0;
	for (uint32_t i = n; i-- > 0;) {
		/* a return address lies behind the call */
		uint64_t address = frames[i] - image_base - (i ? 1 : 0);
		if (at && at + 1 < sizeof text)
			text[at++] = ';';
		at += put_symbol(text + at, sizeof text - at, p, address);
	}
	text[at < sizeof text ? at : sizeof text - 1] = '\0';
	p->total++;
	count(p, text);
}

static int by_text(const void *a, const void *b)
{
	return strcmp((*(struct stack *const *)a)->text, (*(struct stack *const *)b)->text);
}

static struct stack **sorted(const struct observe_profile *p)
{
	struct stack **all = calloc((size_t)p->stacks + 1, sizeof *all);
	uint32_t n = 0;
	for (unsigned b = 0; all && b < BUCKETS; b++)
		for (struct stack *s = p->bucket[b]; s; s = s->next)
			all[n++] = s;
	if (all)
		qsort(all, n, sizeof *all, by_text);
	return all;
}

/* --- flame graph --- */

#define WIDTH 1200.0
#define ROW 17

static size_t name_length(const char *text)
{
	return strcspn(text, ";");
}

/* The depth'th name of a stack, or NULL. */
static const char *name_at(const char *text, unsigned depth)
{
	while (depth-- && text) {
		text = strchr(text, ';');
		text = text ? text + 1 : NULL;
	}
	return text;
}

static void put_escaped(FILE *f, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '<')
			fputs("&lt;", f);
		else if (s[i] == '>')
			fputs("&gt;", f);
		else if (s[i] == '&')
			fputs("&amp;", f);
		else if (s[i] == '"')
			fputs("&quot;", f);
		else
			fputc(s[i], f);
	}
}

static void put_box(FILE *f, const struct observe_profile *p, const char *name, size_t length,
		    uint64_t begin, uint64_t samples, unsigned depth, unsigned depth_max)
{
	double x = WIDTH * (double)begin / (double)p->total,
	       w = WIDTH * (double)samples / (double)p->total;
	unsigned y = (depth_max - depth) * ROW + 30, hue = 0;
	if (w < 0.3)
		return;
	for (size_t i = 0; i < length; i++)
		hue = hue * 31 + (unsigned char)name[i];
	/* the kernel's calls are blue, the rest of what is warm */
	bool kernel = length > 3 && !strncmp(name, "wh_", 3);
	fprintf(f, "<g><title>");
	put_escaped(f, name, length);
	fprintf(f,
		" (%llu samples, %.2f%%)</title><rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" "
		"height=\"%d\" fill=\"hsl(%u,%u%%,%u%%)\"/>",
		(unsigned long long)samples, 100.0 * (double)samples / (double)p->total, x, y, w,
		ROW - 1, kernel ? 200 + hue % 30 : 20 + hue % 40, 75u, 62 + hue / 64 % 12);
	size_t fits = (size_t)(w / 7);
	if (fits >= 3) {
		fprintf(f, "<text x=\"%.1f\" y=\"%u\">", x + 3, y + 12);
		put_escaped(f, name, length < fits ? length : fits);
		fputs("</text>", f);
	}
	fputs("</g>\n", f);
}

/* Neighbours in the sorted list that share a way share a box. */
static void put_level(FILE *f, const struct observe_profile *p, struct stack **all, uint32_t n,
		      uint64_t begin, unsigned depth, unsigned depth_max)
{
	for (uint32_t i = 0; i < n;) {
		const char *name = name_at(all[i]->text, depth);
		uint64_t samples = 0;
		uint32_t k = i;
		size_t length = name ? name_length(name) : 0;
		for (; k < n; k++) {
			const char *other = name_at(all[k]->text, depth);
			if (!name || !other
				    ? name != other
				    : name_length(other) != length || strncmp(name, other, length))
				break;
			samples += all[k]->count;
		}
		if (k == i) { /* a stack that ends here */
			samples = all[i]->count;
			k = i + 1;
		}
		if (name) {
			put_box(f, p, name, length, begin, samples, depth, depth_max);
			put_level(f, p, all + i, k - i, begin, depth + 1, depth_max);
		}
		begin += samples;
		i = k;
	}
}

static void write_svg(FILE *f, const struct observe_profile *p, struct stack **all)
{
	unsigned depth_max = 1;
	for (uint32_t i = 0; i < p->stacks; i++) {
		unsigned d = 1;
		for (const char *c = all[i]->text; *c; c++)
			d += *c == ';';
		if (d > depth_max)
			depth_max = d;
	}
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1200 %u\" width=\"1200\" "
		"font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%%\" "
		"height=\"100%%\" fill=\"#fff\"/>"
		"<text x=\"3\" y=\"18\" font-size=\"14\">%llu samples</text>\n",
		(depth_max + 1) * ROW + 36, (unsigned long long)p->total);
	put_level(f, p, all, p->stacks, 0, 0, depth_max);
	fputs("</svg>\n", f);
}

int observe_profile_write(struct observe_profile *p, uint32_t lost)
{
	const char *path = p->path;
	size_t n = strlen(path);
	struct stack **all = sorted(p);
	FILE *f = p->to;
	if (!all) {
		cli_error("--profile: no memory");
		return CLI_ERROR;
	}
	if (n > 4 && !strcmp(path + n - 4, ".svg"))
		write_svg(f, p, all);
	else
		for (uint32_t i = 0; i < p->stacks; i++)
			fprintf(f, "%s %llu\n", all[i]->text, (unsigned long long)all[i]->count);
	free(all);
	bool bad = ferror(f) != 0;
	if (fclose(f) || bad) {
		cli_error("--profile %s: cannot write it", path);
		return CLI_ERROR;
	}
	if (!p->total)
		cli_error("--profile: no samples: the guest used too little processor time, or its "
			  "image does not tick "
			  "(on kvm: build it with threads or signals)");
	if (lost)
		cli_error("--profile: %u samples were lost", lost);
	return CLI_OK;
}
