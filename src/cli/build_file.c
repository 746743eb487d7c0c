/* SPDX-License-Identifier: ISC */
/*
 * wherry.toml: which keys there are, and what they become. A key that is not known is an error: a misspelt
 * one must not be a silent default.
 */
#include <stdio.h>
#include <string.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "build.h"

static int refuse(struct wh_diag *diag, const struct toml *v, const char *what)
{
	return wh_diag_set(diag, -WH_EINVAL, "line %u: %s: %s", v->line, v->key ? v->key : "value",
			   what);
}

static int get_table(struct toml *in, const char *key, struct toml **ret_table,
		     struct wh_diag *diag)
{
	struct toml *v = toml_get(in, key);
	if (v && v->type != TOML_TABLE)
		return refuse(diag, v, "must be a table");
	*ret_table = v;
	return 0;
}

static int get_text(struct toml *in, const char *key, const char **ret_text, struct wh_diag *diag)
{
	struct toml *v = toml_get(in, key);
	if (!v)
		return 0;
	if (v->type != TOML_STRING || !v->text[0])
		return refuse(diag, v, "must be a string that is not empty");
	*ret_text = v->text;
	return 0;
}

/* An array of strings, or one string. */
static int get_words(struct toml *in, const char *key, struct cc_words *to, struct wh_diag *diag)
{
	struct toml *v = toml_get(in, key);
	if (!v)
		return 0;
	if (v->type == TOML_STRING) {
		cc_push(to, v->text);
		return 0;
	}
	if (v->type != TOML_ARRAY)
		return refuse(diag, v, "must be an array of strings");
	for (struct toml *i = v->first; i; i = i->next) {
		if (i->type != TOML_STRING)
			return refuse(diag, v, "must be an array of strings");
		cc_push(to, i->text);
	}
	return 0;
}

/* Each string behind an option of `wherry run`. */
static int get_options(struct toml *in, const char *key, const char *option, struct cc_words *to,
		       struct wh_diag *diag)
{
	struct cc_words words = { 0 };
	int error = get_words(in, key, &words, diag);
	for (size_t i = 0; !error && i < words.count; i++) {
		cc_push(to, option);
		cc_push(to, words.at[i]);
	}
	return error;
}

static int get_environment(struct toml *in, struct cc_words *to, struct wh_diag *diag)
{
	struct toml *table = NULL;
	int error = get_table(in, "env", &table, diag);
	for (struct toml *v = table ? table->first : NULL; v && !error; v = v->next) {
		v->taken = true;
		if (v->type != TOML_STRING)
			return refuse(diag, v, "must be a string");
		if (!v->key[0] || strchr(v->key, '='))
			return refuse(diag, v, "is no name of a variable");
		cc_push(to, "-e");
		cc_push(to, cc_join(cc_join(v->key, "="), v->text));
	}
	return error;
}

static int read_run(struct toml *run, struct build_file *f, struct wh_diag *diag)
{
	static const struct {
		const char *key, *option;
	} keys[] = {
		{ "engine", "--engine" },   { "memory", "--memory" },   { "publish", "-p" },
		{ "disks", "--disk" },      { "mounts", "-v" },         { "stores", "--store" },
		{ "workdir", "--workdir" }, { "sandbox", "--sandbox" }, { "allow", "--allow" },
		{ "deny", "--deny" },       { "name", "--name" },
	};
	int error = 0;
	if (!run)
		return 0;
	for (size_t i = 0; !error && i < WH_ARRAY_COUNT(keys); i++)
		error = get_options(run, keys[i].key, keys[i].option, &f->options, diag);
	if (!error)
		error = get_environment(run, &f->options, diag);
	return error ? error : get_words(run, "arguments", &f->arguments, diag);
}

static int read_build(struct toml *build, struct build_file *f, struct wh_diag *diag)
{
	int error = get_words(build, "sources", &f->sources, diag);
	if (!error)
		error = get_words(build, "flags", &f->flags, diag);
	if (!error)
		error = get_words(build, "includes", &f->includes, diag);
	if (!error)
		error = get_text(build, "command", &f->command, diag);
	if (!error)
		error = get_text(build, "output", &f->output, diag);
	if (error)
		return error;
	if (!f->command && !f->sources.count)
		return wh_diag_set(diag, -WH_EINVAL, "[build] needs sources or a command");
	if (f->command && f->flags.count)
		return wh_diag_set(diag, -WH_EINVAL,
				   "[build] flags are for sources; the command has its own");
	if (f->command && !f->output)
		return wh_diag_set(diag, -WH_EINVAL,
				   "[build] with a command needs output: the file it makes");
	return 0;
}

static int read_image(struct toml *image, struct build_file *f, struct wh_diag *diag)
{
	const struct {
		const char *key, **to;
	} keys[] = {
		{ "root", &f->root },
		{ "memory", &f->memory },
		{ "memory-min", &f->memory_min },
		{ "stack", &f->stack },
	};
	int error = 0;
	for (size_t i = 0; image && !error && i < WH_ARRAY_COUNT(keys); i++)
		error = get_text(image, keys[i].key, keys[i].to, diag);
	return error;
}

int build_file_read(struct toml *root, struct build_file *ret_file, struct wh_diag *diag)
{
	struct toml *build = NULL, *image = NULL, *run = NULL;
	struct build_file f = { 0 };
	int error = get_text(root, "name", &f.name, diag);
	if (!error)
		error = get_table(root, "build", &build, diag);
	if (!error)
		error = get_table(root, "image", &image, diag);
	if (!error)
		error = get_table(root, "run", &run, diag);
	if (!error && !f.name)
		return wh_diag_set(diag, -WH_EINVAL, "no name");
	if (!error && strchr(f.name, '/'))
		return wh_diag_set(diag, -WH_EINVAL, "name: must not hold a slash");
	if (!error && !build)
		return wh_diag_set(diag, -WH_EINVAL, "no table [build]");
	if (!error)
		error = read_build(build, &f, diag);
	if (!error)
		error = read_image(image, &f, diag);
	if (!error)
		error = read_run(run, &f, diag);
	if (error)
		return error;
	const struct toml *unknown = toml_untaken(root);
	if (unknown)
		return refuse(diag, unknown, "no such key");
	if (!f.output)
		f.output = f.name;
	*ret_file = f;
	return 0;
}
