/* SPDX-License-Identifier: ISC */
/* Lists of words, and response files: @FILE, split and quoted as GCC's documentation says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cc.h"
#include "cli.h"

#define RESPONSE_SIZE_MAX (16u << 20) /* a response file; argument lists of that size exist */
#define RESPONSE_DEPTH_MAX 8u

void cc_out_of_memory(void)
{
	cli_error("cc: no memory");
	exit(CLI_ERROR);
}

void cc_push(struct cc_words *w, const char *word)
{
	if (w->count + 1 >= w->room) {
		w->room = w->room ? w->room * 2 : 64;
		w->at = realloc(w->at, w->room * sizeof *w->at);
		if (!w->at)
			cc_out_of_memory();
	}
	w->at[w->count++] = (char *)(uintptr_t)word; /* exec's argv is not const; nobody writes */
	w->at[w->count] = NULL;
}

void cc_push_all(struct cc_words *w, const struct cc_words *from)
{
	for (size_t i = 0; i < from->count; i++)
		cc_push(w, from->at[i]);
}

char *cc_join(const char *a, const char *b)
{
	char *s;
	if (asprintf(&s, "%s%s", a, b) < 0)
		cc_out_of_memory();
	return s;
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "r");
	if (!f)
		return NULL;
	char *text = malloc(RESPONSE_SIZE_MAX);
	size_t n = text ? fread(text, 1, RESPONSE_SIZE_MAX - 1, f) : 0;
	if (text)
		text[n] = 0;
	fclose(f);
	return text;
}

static void split(struct cc_words *w, char *text, unsigned depth)
{
	char *from = text;
	while (*from) {
		char *to = from, *word = from, quote = 0;
		if (strchr(" \t\r\n\f\v", *from)) {
			from++;
			continue;
		}
		for (; *from && (quote || !strchr(" \t\r\n\f\v", *from)); from++) {
			if (*from == '\\' && from[1])
				*to++ = *++from;
			else if (quote ? *from == quote : *from == '"' || *from == '\'')
				quote = quote ? 0 : *from;
			else
				*to++ = *from;
		}
		bool last = !*from;
		*to = 0;
		cc_expand(w, word, depth + 1);
		if (last)
			break;
		from++;
	}
}

void cc_expand(struct cc_words *w, const char *argument, unsigned depth)
{
	char *text =
		argument[0] == '@' && depth < RESPONSE_DEPTH_MAX ? read_file(argument + 1) : NULL;
	if (text)
		split(w, text, depth); /* its words stay in use: not freed */
	else
		cc_push(w, argument);
}
