/* SPDX-License-Identifier: ISC */
/*
 * wherry cc: a C compiler driver that makes images.
 *
 * It is a thin layer over the host's compiler: every option is passed on, after
 * those that replace the host's headers by the sysroot's. When the command links, it also
 * names the start code, libraries and linker script of the sysroot, has the
 * linker write its map, and records from it which kernel units the image holds
 * and why (cc_units.c). Nothing else happens to the program.
 *
 * What the command does (compile, link, only answer a question) is decided as gcc
 * does: by options alone.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wherry/abi/manifest.h>
#include <wherry/base/mem.h>

#include "cc.h"
#include "cli.h"

/* The compiler's name decides between the two families of drivers. */
static bool is_clang(const struct cc_words *compiler)
{
	for (size_t i = 0; i < compiler->count; i++)
		if (strstr(compiler->at[i], "clang"))
			return true;
	return false;
}

/* Beside the program in a build tree, under lib/ where it is in libexec/wherry. */
static char *find_sysroot(void)
{
	static const char *const places[] = { "/../../sysroot", "/../../lib/wherry/sysroot" };
	char self[4096], *slash;
	const char *set = getenv("WHERRY_SYSROOT");
	if (set && *set)
		return strdup(set);
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	if (n <= 0)
		return NULL;
	self[n] = 0;
	slash = strrchr(self, '/');
	*slash = 0;
	for (size_t i = 0; i < WH_ARRAY_COUNT(places); i++) {
		char *path = cc_join(self, places[i]), *probe = cc_join(path, "/lib/libc.a");
		char *real = access(probe, R_OK) ? NULL : realpath(path, NULL);
		free(path);
		free(probe);
		if (real)
			return real;
	}
	return NULL;
}

static void add_headers(struct cc_words *w, const struct cc_words *compiler, const char *sysroot)
{
	/* Defaults; the user's options come behind them and win. */
	static const char *const defaults[] = {
		"-fPIE",
		"-fstack-protector-strong",
		"-ffunction-sections",
		"-fdata-sections",
		"-fno-omit-frame-pointer", /* a crash shows the chain of callers */
		"-fno-asynchronous-unwind-tables",
		"-D__wherry__=1",
	};
	char *own = cc_ask(compiler, "-print-file-name=include");
	cc_push(w, "-nostdinc");
	for (size_t i = 0; i < WH_ARRAY_COUNT(defaults); i++)
		cc_push(w, defaults[i]);
	cc_push(w, "-isystem");
	cc_push(w, cc_join(sysroot, "/include"));
	if (own) {
		cc_push(w, "-isystem");
		cc_push(w, own);
	}
}

static void add_flags(struct cc_words *w, const struct cc_request *r,
		      const struct cc_words *compiler, const char *sysroot, const char *map)
{
	cc_push(w, "-nostdlib");
	cc_push(w, "-static-pie");
	/* Neither driver may offer the host's libraries for -l. */
	cc_push(w, is_clang(compiler) ? cc_join("--sysroot=", sysroot)
				      : cc_join(cc_join("-specs=", sysroot), "/lib/image.specs"));
	cc_push(w, "-Wl,--gc-sections,-z,text,-z,relro,-z,now,-z,separate-code,-z,noexecstack");
	cc_push(w, "-Wl,--no-dynamic-linker,--build-id=none,--hash-style=gnu,--eh-frame-hdr");
	cc_push(w, cc_join(cc_join("-Wl,-T,", sysroot), "/lib/image.ld"));
	if (!r->map)
		cc_push(w, cc_join("-Wl,-Map=", map));
}

static void add_libraries(struct cc_words *w, const struct cc_words *compiler, const char *lib)
{
	char *libgcc = cc_ask(compiler, "-print-libgcc-file-name");
	cc_push(w, "-xnone");
	cc_push(w, cc_join("-L", lib));
	cc_push(w, "-Wl,--start-group");
	cc_push(w, cc_join(lib, "libc.a"));
	cc_push(w, cc_join(lib, "libwherry.a"));
	cc_push(w, cc_join(lib, "libwherry-enosys.a"));
	if (libgcc) {
		char *unwinder = cc_join(cc_join(dirname(strdup(libgcc)), "/"), "libgcc_eh.a");
		cc_push(w, libgcc);
		if (!access(unwinder, R_OK))
			cc_push(w, unwinder);
	}
	cc_push(w, "-Wl,--end-group");
}

/* The whole linker command; `first` is an input that must come before all others, or NULL. */
static int run_link(struct cc_request *r, const struct cc_words *compiler, const char *sysroot,
		    const char *map, const char *first, const char *archive)
{
	struct cc_words w = { 0 };
	char *lib = cc_join(sysroot, "/lib/");
	cc_push_all(&w, compiler);
	add_headers(&w, compiler, sysroot);
	add_flags(&w, r, compiler, sysroot, map);
	if (first) {
		cc_push(&w, "-xassembler");
		cc_push(&w, first);
		cc_push(&w, "-xnone");
	}
	if (!r->bare)
		cc_push(&w, cc_join(lib, "crt1.o"));
	cc_push_all(&w, &r->args);
	if (archive) {
		cc_push(&w, "-xnone");
		cc_push(&w, archive);
	}
	if (!r->bare)
		add_libraries(&w, compiler, lib);
	int status = cc_run(w.at);
	free(w.at);
	free(lib);
	return status;
}

/* Unimplemented calls: the second link carries a warning on each symbol of the program's
 * that leads to one, so that the linker itself names the place, with the line where
 * there is debug information. */
#define MISSING_MAX 64u /* pairs of symbol and call that are warned of; the image lists all */

struct missing {
	char *symbol[MISSING_MAX], *call[MISSING_MAX];
	unsigned count;
};

static void add_missing(void *ctx, const char *call, const char *symbol)
{
	struct missing *m = ctx;
	if (m->count == MISSING_MAX)
		return;
	m->symbol[m->count] = strdup(symbol);
	m->call[m->count++] = strdup(call);
}

/* The calls that the program's symbol leads to, each once; the first entry is spared. */
static unsigned take_calls(struct missing *m, unsigned first, char *to, size_t size)
{
	unsigned count = 0;
	size_t at = 0;
	for (unsigned k = first; k < m->count; k++) {
		if (!m->symbol[k] || strcmp(m->symbol[k], m->symbol[first]))
			continue;
		int n = snprintf(to + at, size - at, count++ ? ", %s" : "%s", m->call[k]);
		at = n < 0 || (size_t)n >= size - at ? size - 1 : at + (size_t)n;
		if (k != first)
			m->symbol[k] = NULL;
	}
	return count;
}

/* One warning a symbol. */
static void write_warnings(struct missing *m, FILE *to)
{
	char calls[512];
	for (unsigned i = 0; i < m->count; i++) {
		if (!m->symbol[i])
			continue;
		bool several = take_calls(m, i, calls, sizeof calls) > 1;
		fprintf(to, "\t.section .gnu.warning.%s, \"\", @progbits\n\t.ascii \"",
			m->symbol[i]);
		fprintf(to, "system call%s %s %s not implemented", several ? "s" : "", calls,
			several ? "are" : "is");
		if (several || strcmp(m->symbol[i], m->call[i]))
			fprintf(to, " (which %s uses)", m->symbol[i]);
		fputs(" and will fail with ENOSYS\"\n\t.section .note.GNU-stack, \"\", @progbits\n",
		      to);
	}
}

static int finish_manifest(struct cc_request *r, const char *output)
{
	const char *name = r->name ? r->name : output, *slash = strrchr(name, '/');
	strncpy(r->manifest.name, slash ? slash + 1 : name, sizeof r->manifest.name - 1);
	return cc_manifest_set(output, &r->manifest);
}

static int link_image(struct cc_request *r, const struct cc_words *compiler, const char *sysroot)
{
	char *map = NULL, *warnings = NULL;
	struct cc_archive archive = { 0 };
	struct missing missing = { 0 };
	const char *output = r->output ? r->output : "a.out";
	char *units = NULL;
	int status = CLI_ERROR, map_fd = cc_temporary(".map", &map),
	    warnings_fd = cc_temporary(".s", &warnings);

	if (map_fd < 0 || warnings_fd < 0)
		goto out;
	cc_plain_language();
	if (r->root && (status = cc_archive_build(r->root, &archive)))
		goto out;
	status = run_link(r, compiler, sysroot, map, NULL, archive.object);
	if (status || r->bare)
		goto out;
	status = cc_units_read(r->map ? r->map : map, (const char *const *)r->sources.at,
			       r->sources.count, &units, add_missing, &missing);
	if (!status && missing.count) {
		FILE *to = fopen(warnings, "w");
		if (to) {
			write_warnings(&missing, to);
			fclose(to);
			status = run_link(r, compiler, sysroot, map, warnings, archive.object);
		}
	}
	if (!status)
		status = cc_section_add(output, WH_MANIFEST_UNITS_SECTION, units, strlen(units));
	if (!status)
		status = finish_manifest(r, output);
out:
	free(units);
	cc_archive_remove(&archive);
	cc_temporary_remove(map_fd, map);
	cc_temporary_remove(warnings_fd, warnings);
	return status;
}

/* -print-file-name=libc.a must find the sysroot's; what it lacks the compiler may answer. */
static bool print_file_name(const char *sysroot, const char *name)
{
	char *path = cc_join(cc_join(sysroot, "/lib/"), name);
	bool found = *name && !access(path, F_OK);
	if (found)
		cli_print("%s", path);
	free(path);
	return found;
}

static int refuse(const struct cc_request *r)
{
	if (r->shared && r->links)
		cli_error("cc: -shared: images have no dynamic linker; link the objects into the "
			  "program");
	else if (r->other_abi)
		cli_error("cc: images are 64-bit: leave out -m32, -mx32");
	return (r->shared && r->links) || r->other_abi || r->failed;
}

int cmd_cc(int argc, char **argv)
{
	struct cc_words given = { 0 }, compiler = { 0 };
	struct cc_request r = { 0 };
	char *set = getenv("WHERRY_CC");
	for (char *at = strdup(set && *set ? set : "gcc"), *word; (word = strsep(&at, " "));)
		if (*word)
			cc_push(&compiler, word);
	for (int i = 1; i < argc; i++)
		cc_expand(&given, argv[i], 0);
	cc_classify(&r, given.at, (int)given.count);
	if (refuse(&r))
		return 1;
	char *sysroot = find_sysroot();
	if (!sysroot) {
		cli_error("cc: no sysroot beside the command: build it (make), or name one in "
			  "WHERRY_SYSROOT");
		return CLI_ERROR;
	}
	if (r.asked && print_file_name(sysroot, r.asked))
		return CLI_OK;
	if (r.links)
		return link_image(&r, &compiler, sysroot);
	struct cc_words w = { 0 };
	cc_push_all(&w, &compiler);
	add_headers(&w, &compiler, sysroot);
	cc_push_all(&w, &r.args);
	execvp(w.at[0], w.at);
	cli_error("cc: cannot run %s (errno %d): install gcc, or name a compiler in WHERRY_CC",
		  w.at[0], errno);
	return CLI_ERROR;
}
