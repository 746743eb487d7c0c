/* SPDX-License-Identifier: ISC */
#include <stdlib.h>
#include <string.h>
#include <wherry/base/errors.h>

#include "units.h"

/* The next word of a line, cut off in place; NULL = none. */
static char *next_word(char **at)
{
	char *word = *at;
	if (!word || !*word)
		return NULL;
	char *space = strchr(word, ' ');
	if (space)
		*space++ = 0;
	*at = space;
	return *word ? word : NULL;
}

static bool parse_u64(const char *text, uint64_t *ret_value)
{
	uint64_t v = 0;
	if (!text || !*text || strlen(text) > 18)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		v = v * 10 + (uint64_t)(*text - '0');
	}
	*ret_value = v;
	return true;
}

static bool parse_line(char *line, struct units_entry *ret_entry)
{
	struct units_entry e = { 0 };
	const char *kind = next_word(&line);
	if (!kind)
		return false;
	if (!strcmp(kind, "unit"))
		e.kind = UNITS_UNIT;
	else if (!strcmp(kind, "via"))
		e.kind = UNITS_VIA;
	else if (!strcmp(kind, "missing"))
		e.kind = UNITS_MISSING;
	else if (!strcmp(kind, "part"))
		e.kind = UNITS_PART;
	else
		return false;
	e.name = next_word(&line);
	if ((e.kind == UNITS_UNIT || e.kind == UNITS_PART) && !parse_u64(next_word(&line), &e.size))
		return false;
	e.by = next_word(&line);
	e.symbol = next_word(&line);
	*ret_entry = e;
	return e.name && e.by && e.symbol && !line;
}

static char *cut_line(char **at)
{
	char *line = *at, *end = strchr(line, '\n');
	if (!end)
		return NULL;
	*end = 0;
	*at = end + 1;
	return line;
}

int units_parse(char *text, struct units *ret_units, struct wh_diag *diag)
{
	struct units u = { 0 };
	uint64_t available;
	uint32_t number = 2;
	size_t lines = 0;
	char *line = cut_line(&text);
	if (!line || (strcmp(line, "wherry-units 1") && strcmp(line, "wherry-units 2")))
		return wh_diag_set(diag, -WH_EINVAL, "unit list of an unknown version");
	line = cut_line(&text);
	if (!line || strncmp(line, "available ", 10) || !parse_u64(line + 10, &available) ||
	    available > UINT32_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "unit list: line 2 is not \"available N\"");
	for (const char *c = text; *c; c++)
		lines += *c == '\n';
	if (lines > UNITS_ENTRIES_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "unit list: more than %u lines",
				   UNITS_ENTRIES_MAX);
	u.available = (uint32_t)available;
	u.entry = calloc(lines + 1, sizeof *u.entry);
	if (!u.entry)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the unit list");
	while ((line = cut_line(&text))) {
		number++;
		if (!parse_line(line, &u.entry[u.count])) {
			units_free(&u);
			return wh_diag_set(diag, -WH_EINVAL, "unit list: line %u is malformed",
					   number);
		}
		u.count++;
	}
	*ret_units = u;
	return 0;
}

void units_free(struct units *units)
{
	free(units->entry);
	units->entry = NULL;
}

uint32_t units_count(const struct units *units, enum units_kind kind)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < units->count; i++)
		n += units->entry[i].kind == kind;
	return n;
}

/* `by` names a unit with @ before it, or a member. */
static const struct units_entry *find(const struct units *units, const char *by)
{
	enum units_kind kind = *by == '@' ? UNITS_UNIT : UNITS_VIA;
	const char *name = *by == '@' ? by + 1 : by;
	for (uint32_t i = 0; i < units->count; i++)
		if (units->entry[i].kind == kind && !strcmp(units->entry[i].name, name))
			return &units->entry[i];
	return NULL;
}

uint32_t units_chain(const struct units *units, const struct units_entry *entry,
		     const struct units_entry *chain[UNITS_CHAIN_MAX])
{
	uint32_t n = 0;
	for (; entry && n < UNITS_CHAIN_MAX; entry = find(units, entry->by))
		chain[n++] = entry;
	return n;
}
