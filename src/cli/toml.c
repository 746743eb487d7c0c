/* SPDX-License-Identifier: ISC */
/*
 * One pass over the text; numbers in comments are sections of TOML 1.0 (toml.io/en/v1.0.0).
 */
#include <stdlib.h>
#include <string.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "toml.h"

struct reader {
	const char *at, *end;
	uint32_t line, depth, values;
	struct wh_diag *diag;
	int error;
};

static const char *const type_names[] = { "a table", "an array", "a string", "an integer",
					  "true or false" };

const char *toml_type_name(enum toml_type type)
{
	return type_names[type];
}

static bool fail(struct reader *r, const char *what)
{
	if (!r->error)
		r->error = wh_diag_set(r->diag, -WH_EINVAL, "line %u: %s", r->line, what);
	return false;
}

static struct toml *new_value(struct reader *r, enum toml_type type)
{
	struct toml *v = ++r->values <= TOML_VALUES_MAX ? calloc(1, sizeof *v) : NULL;
	if (!v) {
		if (!r->error)
			r->error = r->values > TOML_VALUES_MAX
					   ? wh_diag_set(r->diag, -WH_EINVAL, "more than %u values",
							 TOML_VALUES_MAX)
					   : -WH_ENOMEM;
		return NULL;
	}
	v->type = type;
	v->line = r->line;
	v->last = &v->first;
	return v;
}

void toml_free(struct toml *root)
{
	if (!root)
		return;
	for (struct toml *v = root->first, *next; v; v = next) {
		next = v->next;
		toml_free(v);
	}
	free(root->key);
	free(root->text);
	free(root);
}

static void append(struct toml *to, struct toml *v)
{
	*to->last = v;
	to->last = &v->next;
}

/* --- characters --- */

static int peek(const struct reader *r)
{
	return r->at < r->end ? (unsigned char)*r->at : -1;
}

static bool take(struct reader *r, char c)
{
	if (peek(r) != c)
		return false;
	r->at++;
	return true;
}

static bool starts(const struct reader *r, const char *text)
{
	size_t n = strlen(text);
	return (size_t)(r->end - r->at) >= n && !memcmp(r->at, text, n);
}

static void skip_blanks(struct reader *r)
{
	while (peek(r) == ' ' || peek(r) == '\t')
		r->at++;
}

/* Length of the well-formed UTF-8 sequence at r->at (RFC 3629, section 4), or 0. */
static unsigned utf8_length(const struct reader *r)
{
	const unsigned char *s = (const unsigned char *)r->at;
	size_t left = (size_t)(r->end - r->at);
	if (s[0] < 0x80)
		return 1;
	unsigned n = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
		     : s[0] >= 0xe0 && s[0] <= 0xef ? 3
		     : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
						    : 0;
	if (!n || left < n)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* A character of a comment or string: no control characters but tab. Its length, or 0 after an error. */
static unsigned plain(struct reader *r)
{
	int c = peek(r);
	if ((c < 32 && c != '\t') || c == 127) {
		fail(r, c < 0 ? "the file ends too early" : "a control character");
		return 0;
	}
	unsigned n = utf8_length(r);
	if (!n)
		fail(r, "bytes that are no UTF-8");
	return n;
}

static bool take_newline(struct reader *r)
{
	if (starts(r, "\r\n"))
		r->at++;
	if (!take(r, '\n'))
		return false;
	r->line++;
	return true;
}

static bool skip_comment(struct reader *r)
{
	if (peek(r) != '#')
		return true;
	while (peek(r) >= 0 && peek(r) != '\n' && !starts(r, "\r\n")) {
		unsigned n = plain(r);
		if (!n)
			return false;
		r->at += n;
	}
	return true;
}

/* Blanks, comments and line ends. */
static bool skip_lines(struct reader *r)
{
	do {
		skip_blanks(r);
		if (!skip_comment(r))
			return false;
	} while (take_newline(r));
	return true;
}

/* --- strings --- */

struct text {
	char *at;
	size_t size, room;
};

static bool put(struct reader *r, struct text *t, const char *bytes, size_t n)
{
	if (t->size + n + 1 > t->room) {
		size_t room = (t->size + n + 1) * 2;
		char *more = realloc(t->at, room);
		if (!more) {
			r->error = r->error ? r->error : -WH_ENOMEM;
			return false;
		}
		t->at = more;
		t->room = room;
	}
	memcpy(t->at + t->size, bytes, n);
	t->size += n;
	t->at[t->size] = '\0';
	return true;
}

static bool put_scalar(struct reader *r, struct text *t, uint32_t c)
{
	char b[4];
	if (!c || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return fail(r, c ? "no such character" : "a NUL in a string");
	if (c < 0x80) {
		b[0] = (char)c;
		return put(r, t, b, 1);
	}
	unsigned n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (unsigned i = n; --i > 0; c >>= 6)
		b[i] = (char)(0x80 | (c & 63));
	b[0] = (char)((0xf00u >> n & 0xf0) | c); /* 110, 1110, 11110 */
	return put(r, t, b, n);
}

static int hex(int c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Behind the backslash. */
static bool escape(struct reader *r, struct text *t)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	int c = peek(r);
	const char *known = c > 0 ? strchr(from, c) : NULL;
	if (known) {
		r->at++;
		return put(r, t, &to[known - from], 1);
	}
	if (c != 'u' && c != 'U')
		return fail(r, "an escape that TOML does not know");
	r->at++;
	uint32_t value = 0;
	for (int i = c == 'u' ? 4 : 8; i > 0; i--) {
		int digit = hex(peek(r));
		if (digit < 0)
			return fail(r, "an escape with too few digits");
		value = value << 4 | (uint32_t)digit;
		r->at++;
	}
	return put_scalar(r, t, value);
}

/* What stands for itself, at least one byte. */
static bool take_plain(struct reader *r, struct text *t)
{
	unsigned n = plain(r);
	if (!n || !put(r, t, r->at, n))
		return false;
	r->at += n;
	return true;
}

static bool take_line_string(struct reader *r, struct text *t, char quote)
{
	while (!take(r, quote)) {
		if (quote == '"' && take(r, '\\')) {
			if (!escape(r, t))
				return false;
			continue;
		}
		if (!take_plain(r, t))
			return false;
	}
	return true;
}

/* A backslash at the end of a line takes all blanks and line ends behind it. */
static bool take_line_end(struct reader *r)
{
	const char *before = r->at;
	skip_blanks(r);
	if (!take_newline(r)) {
		r->at = before;
		return false;
	}
	do
		skip_blanks(r);
	while (take_newline(r));
	return true;
}

/* Behind the three quotes. Up to two quotes may stand before the closing three. */
static bool take_multi_string(struct reader *r, struct text *t, char quote)
{
	const char close[] = { quote, quote, quote, '\0' };
	(void)take_newline(r);
	for (;;) {
		if (starts(r, close)) {
			unsigned n = 3;
			while (n < 5 && r->at + n < r->end && r->at[n] == quote)
				n++;
			bool good = put(r, t, close, n - 3);
			r->at += n;
			return good;
		}
		if (quote == '"' && take(r, '\\')) {
			if (!take_line_end(r) && !escape(r, t))
				return false;
			continue;
		}
		if (take_newline(r)) {
			if (!put(r, t, "\n", 1))
				return false;
			continue;
		}
		if (!take_plain(r, t))
			return false;
	}
}

/* At a quote. The text, or NULL after an error. */
static char *take_string(struct reader *r, bool may_be_multi)
{
	char quote = *r->at;
	const char three[] = { quote, quote, quote, '\0' };
	struct text t = { 0 };
	bool good = put(r, &t, "", 0);
	if (may_be_multi && starts(r, three)) {
		r->at += 3;
		good = good && take_multi_string(r, &t, quote);
	} else {
		r->at++;
		good = good && take_line_string(r, &t, quote);
	}
	if (good)
		return t.at;
	free(t.at);
	return NULL;
}

/* --- keys --- */

static bool is_bare(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static char *take_key(struct reader *r)
{
	const char *begin = r->at;
	if (peek(r) == '"' || peek(r) == '\'')
		return take_string(r, false);
	while (is_bare(peek(r)))
		r->at++;
	if (r->at == begin) {
		fail(r, "a key was expected");
		return NULL;
	}
	char *key = strndup(begin, (size_t)(r->at - begin));
	if (!key && !r->error)
		r->error = -WH_ENOMEM;
	return key;
}

static struct toml *find(const struct toml *table, const char *key)
{
	struct toml *v = table->first;
	while (v && strcmp(v->key, key))
		v = v->next;
	return v;
}

/* The table `key` of `in`, made when missing; takes the key over. NULL after an error. */
static struct toml *enter(struct reader *r, struct toml *in, char *key, bool dotted)
{
	struct toml *t = find(in, key);
	if (!t) {
		t = new_value(r, TOML_TABLE);
		if (!t) {
			free(key);
			return NULL;
		}
		t->key = key;
		t->dotted = dotted;
		append(in, t);
		return t;
	}
	free(key);
	/* A table of a header is not added to by dotted keys of another, and the other way round. */
	if (t->type != TOML_TABLE || t->sealed || dotted != t->dotted) {
		fail(r, "this key has a value already");
		return NULL;
	}
	return t;
}

/* Key parts up to the last, whose name is returned; *table moves along. */
static char *take_path(struct reader *r, struct toml **table, bool dotted)
{
	for (unsigned depth = 0; depth < TOML_DEPTH_MAX; depth++) {
		char *key = take_key(r);
		if (!key)
			return NULL;
		skip_blanks(r);
		if (!take(r, '.'))
			return key;
		skip_blanks(r);
		*table = enter(r, *table, key, dotted);
		if (!*table)
			return NULL;
	}
	fail(r, "a key of too many parts");
	return NULL;
}

/* --- values --- */

static struct toml *take_value(struct reader *r);

/* Decimal, 0x, 0o, 0b, with underscores between digits. */
static struct toml *take_integer(struct reader *r)
{
	bool negative = peek(r) == '-', sign = negative || peek(r) == '+';
	if (sign)
		r->at++;
	unsigned base = starts(r, "0x") ? 16 : starts(r, "0o") ? 8 : starts(r, "0b") ? 2 : 10;
	const char *digits = r->at += base == 10 ? 0 : 2;
	uint64_t value = 0, most = (uint64_t)INT64_MAX + (negative ? 1 : 0);
	bool after_digit = false;
	if (base != 10 && sign)
		return fail(r, "a sign before 0x, 0o or 0b"), NULL;
	for (;; r->at++) {
		int c = peek(r), digit = hex(c);
		if (c == '_' && after_digit) {
			after_digit = false;
			continue;
		}
		if (digit < 0 || (unsigned)digit >= base)
			break;
		if (value > (most - (unsigned)digit) / base)
			return fail(r, "a number out of range"), NULL;
		value = value * base + (unsigned)digit;
		after_digit = true;
	}
	if (!after_digit || is_bare(peek(r)) || peek(r) == '.' || peek(r) == ':' || peek(r) == '+')
		return fail(r, "not a value (floats and dates are not known here)"), NULL;
	if (base == 10 && *digits == '0' && r->at - digits > 1)
		return fail(r, "a number with leading zeros"), NULL;
	struct toml *v = new_value(r, TOML_INTEGER);
	if (v)
		v->number = negative ? (int64_t)(0 - value) : (int64_t)value;
	return v;
}

static struct toml *take_array(struct reader *r)
{
	struct toml *array = new_value(r, TOML_ARRAY);
	r->at++;
	while (array && skip_lines(r)) {
		if (take(r, ']'))
			return array;
		struct toml *v = take_value(r);
		if (!v)
			break;
		append(array, v);
		if (!skip_lines(r))
			break;
		if (!take(r, ',') && peek(r) != ']') {
			fail(r, "a comma or ] was expected");
			break;
		}
	}
	toml_free(array);
	return NULL;
}

static bool take_pair(struct reader *r, struct toml *table);

/* On one line, no comma at its end. */
static struct toml *take_inline_table(struct reader *r)
{
	struct toml *table = new_value(r, TOML_TABLE);
	r->at++;
	skip_blanks(r);
	if (table && take(r, '}')) {
		table->sealed = true;
		return table;
	}
	while (table && take_pair(r, table)) {
		skip_blanks(r);
		if (take(r, '}')) {
			table->sealed = true;
			return table;
		}
		if (!take(r, ',')) {
			fail(r, "a comma or } was expected");
			break;
		}
		skip_blanks(r);
	}
	toml_free(table);
	return NULL;
}

static struct toml *take_word(struct reader *r)
{
	bool yes = starts(r, "true");
	struct toml *v;
	if (!yes && !starts(r, "false"))
		return fail(r, "not a value"), NULL;
	r->at += yes ? 4 : 5;
	if (is_bare(peek(r)))
		return fail(r, "not a value"), NULL;
	v = new_value(r, TOML_BOOLEAN);
	if (v)
		v->number = yes;
	return v;
}

static struct toml *take_value(struct reader *r)
{
	struct toml *v = NULL;
	int c = peek(r);
	if (r->depth == TOML_DEPTH_MAX)
		return fail(r, "too deep"), NULL;
	r->depth++;
	if (c == '"' || c == '\'') {
		v = new_value(r, TOML_STRING);
		if (v && !(v->text = take_string(r, true))) {
			toml_free(v);
			v = NULL;
		}
	} else if (c == '[') {
		v = take_array(r);
	} else if (c == '{') {
		v = take_inline_table(r);
	} else if ((c >= '0' && c <= '9') || c == '-' || c == '+') {
		v = take_integer(r);
	} else {
		v = take_word(r);
	}
	r->depth--;
	return v;
}

/* key = value */
static bool take_pair(struct reader *r, struct toml *table)
{
	char *key = take_path(r, &table, true);
	if (!key)
		return false;
	if (!take(r, '=')) {
		free(key);
		return fail(r, "= was expected");
	}
	skip_blanks(r);
	if (find(table, key)) {
		free(key);
		return fail(r, "this key has a value already");
	}
	struct toml *v = take_value(r);
	if (!v) {
		free(key);
		return false;
	}
	v->key = key;
	append(table, v);
	return true;
}

/* [a.b.c] */
static struct toml *take_header(struct reader *r, struct toml *root)
{
	struct toml *table = root;
	r->at++;
	if (peek(r) == '[')
		return fail(r, "arrays of tables ([[...]]) are not known here"), NULL;
	skip_blanks(r);
	char *key = take_path(r, &table, false);
	if (!key)
		return NULL;
	if (!take(r, ']')) {
		free(key);
		return fail(r, "] was expected"), NULL;
	}
	struct toml *t = enter(r, table, key, false);
	if (t && t->closed)
		return fail(r, "this table was there already"), NULL;
	if (t)
		t->closed = true;
	return t;
}

static void parse(struct reader *r, struct toml *root)
{
	struct toml *table = root;
	while (!r->error && skip_lines(r) && r->at < r->end) {
		if (peek(r) == '[') {
			table = take_header(r, root);
			if (!table)
				return;
		} else if (!take_pair(r, table)) {
			return;
		}
		skip_blanks(r);
		if (!skip_comment(r))
			return;
		if (r->at < r->end && !take_newline(r))
			fail(r, "something behind the end of the line's value");
	}
}

int toml_parse(const char *text, size_t size, struct toml **ret_root, struct wh_diag *diag)
{
	struct reader r = { .at = text, .end = text + size, .line = 1, .diag = diag };
	if (size > TOML_TEXT_MAX)
		return wh_diag_set(diag, -WH_EINVAL, "more than %u bytes", TOML_TEXT_MAX);
	struct toml *root = new_value(&r, TOML_TABLE);
	if (root)
		parse(&r, root);
	if (r.error) {
		toml_free(root);
		return r.error;
	}
	*ret_root = root;
	return 0;
}

struct toml *toml_get(struct toml *table, const char *key)
{
	struct toml *v = table ? find(table, key) : NULL;
	if (v)
		v->taken = true;
	return v;
}

const struct toml *toml_untaken(const struct toml *table)
{
	for (const struct toml *v = table->first; v; v = v->next) {
		if (!v->taken)
			return v;
		const struct toml *inner = v->type == TOML_TABLE ? toml_untaken(v) : NULL;
		if (inner)
			return inner;
	}
	return NULL;
}
