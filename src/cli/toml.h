/* SPDX-License-Identifier: ISC */
#ifndef CLI_TOML_H
#define CLI_TOML_H

/*
 * A strict reader of a part of TOML 1.0: tables, dotted and quoted keys, arrays, inline tables, strings of all four
 * kinds, integers and truth values. Refused, with the line: floats, dates, arrays of tables ([[...]]) and everything that TOML
 * refuses (a key twice, control characters, bad escapes, bytes that are no UTF-8...). Not a library of others because
 * Debian 12 has none for C.
 *
 * Pure: text in, tree out; one allocation a value through the C library.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#define TOML_DEPTH_MAX 16u       /* tables and arrays in each other */
#define TOML_TEXT_MAX (1u << 20) /* bytes of a file */
#define TOML_VALUES_MAX 65536u   /* values in all */

enum toml_type { TOML_TABLE, TOML_ARRAY, TOML_STRING, TOML_INTEGER, TOML_BOOLEAN };

struct toml {
	enum toml_type type;
	uint32_t line;     /* where it begins */
	char *key;         /* in a table; NUL-terminated */
	char *text;        /* string: NUL-terminated, holds no other NUL */
	int64_t number;    /* integer, boolean */
	struct toml *next; /* in the same table or array */
	struct toml *first;
	struct toml **last;
	bool closed; /* table: [its name] was there */
	bool sealed; /* table: inline, takes no more members */
	bool dotted; /* table: made by a dotted key */
	bool taken;  /* for the reader: this member is known */
};

/* 0, -WH_EINVAL with diag ("line 3: ..."), -WH_ENOMEM. */
int toml_parse(const char *text, size_t size, struct toml **ret_root, struct wh_diag *diag);
void toml_free(struct toml *root);

/* Member of a table, or NULL. Marks it as taken. */
struct toml *toml_get(struct toml *table, const char *key);
/* The first member, at any depth of tables, that nobody has taken, or NULL. */
const struct toml *toml_untaken(const struct toml *table);
const char *toml_type_name(enum toml_type type);

#endif
