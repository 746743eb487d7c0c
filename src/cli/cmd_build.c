/* SPDX-License-Identifier: ISC */
/*
 * wherry build: an image from a small declarative file, and a bill of what is in it.
 *
 * The same file and sources give the same bytes, whatever folder they lie in and whatever time it is: paths are
 * mapped to the project's folder, times of embedded files are bounded by SOURCE_DATE_EPOCH (when the user has not set
 * it, a constant), language, zone and file mask are fixed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "build.h"
#include "cli.h"

#define EPOCH "315532800" /* 1980: the first time that every archive format can say */

enum { OPTION_FILE = 1, OPTION_OUTPUT, OPTION_SBOM, OPTION_RUN, OPTION_PRINT };

static const struct cli_option options[] = {
	{ OPTION_FILE, "file", 'f', "FILE", "the description, instead of wherry.toml" },
	{ OPTION_OUTPUT, "output", 'o', "FILE", "the image, instead of what the description says" },
	{ OPTION_SBOM, "sbom", 0, "FILE", "the bill of materials, instead of OUTPUT.cdx.json" },
	{ OPTION_RUN, "run", 0, NULL, "then run it as the description says" },
	{ OPTION_PRINT, "print-run", 0, NULL, "then print the command that runs it" },
};

const struct cli_command cli_command_build = {
	.name = "build",
	.synopsis = "[-f FILE] [-o FILE] [--sbom FILE] [--run | --print-run] [-- ARGUMENTS]",
	.summary = "make an image from wherry.toml, with a bill of materials",
	.options = options,
	.option_count = WH_ARRAY_COUNT(options),
	.run = cmd_build,
};

struct job {
	const char *path; /* of the description */
	char *output, *sbom;
	bool run, print;
	char **arguments; /* behind --, NULL-terminated; replace the description's */
	struct build_file file;
	char *wherry, *sysroot;
};

static char *read_file(const char *path, size_t *ret_size)
{
	struct stat st;
	FILE *f = fopen(path, "rb");
	char *text = NULL;
	if (!f || fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
		cli_error("%s: %s", path, !f ? strerror(errno) : "not a file");
	} else if (st.st_size > TOML_TEXT_MAX) {
		cli_error("%s: more than %u bytes", path, TOML_TEXT_MAX);
	} else {
		text = malloc((size_t)st.st_size + 1);
		*ret_size = text ? fread(text, 1, (size_t)st.st_size, f) : 0;
	}
	if (f)
		fclose(f);
	return text;
}

/* 0 or an exit status; the tree stays, the strings are needed to the end. */
static int read_description(struct job *j)
{
	struct wh_diag diag = { "" };
	struct toml *root;
	size_t size;
	char *text = read_file(j->path, &size);
	if (!text)
		return errno == ENOENT ? CLI_NOT_FOUND : CLI_ERROR;
	int error = toml_parse(text, size, &root, &diag);
	if (!error)
		error = build_file_read(root, &j->file, &diag);
	free(text);
	if (error)
		cli_error("%s: %s", j->path, error == -WH_ENOMEM ? "no memory" : diag.text);
	return error ? CLI_ERROR : 0;
}

/* PATH as seen from the project's folder. */
static char *absolute(const char *path)
{
	char here[PATH_MAX];
	if (!path || *path == '/' || !getcwd(here, sizeof here))
		return path ? strdup(path) : NULL;
	return cc_join(cc_join(here, "/"), path);
}

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

/* The command and the sysroot that belong to this program. 0 or an exit status. */
static int find_tools(struct job *j)
{
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
	own[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(own, '/');
	if (slash)
		*slash = '\0';
	char *beside = cc_join(own, "/wherry"), *installed = cc_join(own, "/../../bin/wherry");
	const char *set = getenv("WHERRY_SYSROOT");
	char *const roots[] = { set && *set ? strdup(set) : NULL, cc_join(own, "/../../sysroot"),
				cc_join(own, "/../../lib/wherry/sysroot") };
	j->wherry = exists(beside) ? beside : installed;
	for (size_t i = 0; i < WH_ARRAY_COUNT(roots) && !j->sysroot; i++)
		if (roots[i] && exists(cc_join(roots[i], "/lib/libwherry.a")))
			j->sysroot = roots[i];
	if (exists(j->wherry) && j->sysroot)
		return 0;
	cli_error("build: no %s: build it (make)",
		  j->sysroot ? "wherry beside the command" : "sysroot");
	return CLI_ERROR;
}

static void fix_surroundings(const struct job *j)
{
	setenv("SOURCE_DATE_EPOCH", EPOCH, 0);
	setenv("LC_ALL", "C", 1);
	setenv("TZ", "UTC0", 1);
	setenv("WHERRY_SYSROOT", j->sysroot, 1);
	umask(022);
}

/* -ffile-prefix-map=FOLDER=. and what [image] says. */
static void push_image_flags(const struct job *j, struct cc_words *w)
{
	const struct build_file *f = &j->file;
	const struct {
		const char *option, *value;
	} values[] = {
		{ "--wherry-name=", f->name },     { "--wherry-root=", f->root },
		{ "--wherry-memory=", f->memory }, { "--wherry-memory-min=", f->memory_min },
		{ "--wherry-stack=", f->stack },
	};
	char here[PATH_MAX];
	if (getcwd(here, sizeof here))
		cc_push(w, cc_join(cc_join("-ffile-prefix-map=", here), "=."));
	for (size_t i = 0; i < WH_ARRAY_COUNT(values); i++)
		if (values[i].value)
			cc_push(w, cc_join(values[i].option, values[i].value));
}

/* A shell word that means exactly this. */
static char *quoted(const char *word)
{
	size_t n = 3;
	for (const char *c = word; *c; c++)
		n += *c == '\'' ? 4 : 1;
	char *text = malloc(n), *at = text;
	if (!text)
		cc_out_of_memory();
	*at++ = '\'';
	for (const char *c = word; *c; c++) {
		if (*c == '\'')
			at = stpcpy(at, "'\\''");
		else
			*at++ = *c;
	}
	memcpy(at, "'", 2);
	return text;
}

/* The project's own build gets the compiler as CC; what [image] says goes along. */
static int run_command(const struct job *j)
{
	struct cc_words flags = { 0 };
	char *compiler = cc_join(j->wherry, " cc");
	push_image_flags(j, &flags);
	for (size_t i = 0; i < flags.count; i++) {
		if (strpbrk(flags.at[i], " \t\n'\"\\")) {
			cli_error("build: with a command no path or value may hold blanks or "
				  "quotes: %s",
				  flags.at[i]);
			return CLI_ERROR;
		}
		compiler = cc_join(cc_join(compiler, " "), flags.at[i]);
	}
	setenv("CC", compiler, 1);
	return cc_run((char *[]){ (char[]){ "/bin/sh" }, (char[]){ "-e" }, (char[]){ "-c" },
				  (char *)j->file.command, NULL });
}

static int run_compiler(const struct job *j)
{
	struct cc_words w = { 0 };
	cc_push(&w, j->wherry);
	cc_push(&w, "cc");
	push_image_flags(j, &w);
	cc_push(&w, "-o");
	cc_push(&w, j->output);
	/* Flags first: -x and -D count for what follows; libraries (-l, archives) want to be last. */
	for (size_t i = 0; i < j->file.flags.count; i++)
		if (strncmp(j->file.flags.at[i], "-l", 2))
			cc_push(&w, j->file.flags.at[i]);
	cc_push_all(&w, &j->file.sources);
	for (size_t i = 0; i < j->file.flags.count; i++)
		if (!strncmp(j->file.flags.at[i], "-l", 2))
			cc_push(&w, j->file.flags.at[i]);
	return cc_run(w.at);
}

static int make(struct job *j)
{
	char *made = absolute(j->file.output);
	char *wanted = j->output ? j->output : made;
	int status;
	j->output = wanted;
	if (j->file.command) {
		status = run_command(j);
		if (!status && !exists(made)) {
			cli_error("build: the command made no %s", j->file.output);
			return CLI_ERROR;
		}
		if (!status && strcmp(made, wanted))
			status = cc_run((char *[]){ (char[]){ "cp" }, (char[]){ "--" }, made,
						    wanted, NULL });
	} else {
		status = run_compiler(j);
	}
	if (status)
		return status;
	if (!j->sbom)
		j->sbom = cc_join(wanted, ".cdx.json");
	struct build_file f = j->file;
	f.output = wanted;
	return build_sbom_write(j->sbom, &f, j->sysroot);
}

static int start(const struct job *j)
{
	struct cc_words w = { 0 };
	cc_push(&w, j->wherry);
	cc_push(&w, "run");
	cc_push_all(&w, &j->file.options);
	cc_push(&w, j->output);
	if (j->arguments[0] || j->file.arguments.count)
		cc_push(&w, "--");
	if (!j->arguments[0])
		cc_push_all(&w, &j->file.arguments);
	for (size_t i = 0; j->arguments[i]; i++)
		cc_push(&w, j->arguments[i]);
	if (j->print) {
		for (size_t i = 0; i < w.count; i++)
			printf("%s%s", i ? " " : "", quoted(w.at[i]));
		putchar('\n');
		return fflush(stdout) ? CLI_ERROR : CLI_OK;
	}
	execv(w.at[0], w.at);
	cli_error("build: cannot start %s: %s", w.at[0], strerror(errno));
	return CLI_ERROR;
}

/* Everything in the description is meant from its folder. */
static int enter_folder(struct job *j)
{
	char *folder = strdup(j->path), *slash = folder ? strrchr(folder, '/') : NULL;
	if (!slash)
		return 0;
	*slash = '\0';
	if (*folder && chdir(folder)) {
		cli_error("%s: %s", folder, strerror(errno));
		return CLI_ERROR;
	}
	return 0;
}

static int read_options(struct job *j, int argc, char **argv)
{
	struct cli_parser parser;
	const char *value;
	int id;
	cli_parser_init(&parser, &cli_command_build, argc, argv);
	while ((id = cli_next(&parser, &value)) != CLI_END) {
		if (id == CLI_BAD || id == CLI_HELP)
			return id;
		if (id == OPTION_FILE)
			j->path = value;
		else if (id == OPTION_OUTPUT)
			j->output = absolute(value);
		else if (id == OPTION_SBOM)
			j->sbom = absolute(value);
		else if (id == OPTION_RUN)
			j->run = true;
		else if (id == OPTION_PRINT)
			j->print = true;
		else {
			cli_error("build: %s: no such argument (see: wherry build --help)", value);
			return CLI_BAD;
		}
	}
	j->arguments = argv + parser.index;
	if (j->arguments[0] && !j->run && !j->print) {
		cli_error("build: arguments behind -- are for --run");
		return CLI_BAD;
	}
	return CLI_END;
}

int cmd_build(int argc, char **argv)
{
	struct job j = { .path = "wherry.toml" };
	int id = read_options(&j, argc, argv), status;
	if (id != CLI_END)
		return id == CLI_HELP ? CLI_OK : CLI_ERROR;
	status = read_description(&j);
	if (!status)
		status = find_tools(&j);
	if (!status)
		status = enter_folder(&j);
	if (status)
		return status;
	fix_surroundings(&j);
	status = make(&j);
	return status || !(j.run || j.print) ? status : start(&j);
}
