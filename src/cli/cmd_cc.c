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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/abi/manifest.h>
#include <wherry/base/mem.h>

#include "cc.h"
#include "cli.h"

#define RESPONSE_SIZE_MAX (16u << 20) /* a response file; argument lists of that size exist */
#define RESPONSE_DEPTH_MAX 8u

struct words {
	char **at;
	size_t count, room;
};

static void out_of_memory(void)
{
	cli_error("cc: no memory");
	exit(CLI_ERROR);
}

static void push(struct words *w, const char *word)
{
	if (w->count + 1 >= w->room) {
		w->room = w->room ? w->room * 2 : 64;
		w->at = realloc(w->at, w->room * sizeof *w->at);
		if (!w->at)
			out_of_memory();
	}
	w->at[w->count++] = (char *)(uintptr_t)word; /* exec's argv is not const; nobody writes */
	w->at[w->count] = NULL;
}

static void push_all(struct words *w, const struct words *from)
{
	for (size_t i = 0; i < from->count; i++)
		push(w, from->at[i]);
}

static char *join(const char *a, const char *b)
{
	char *s;
	if (asprintf(&s, "%s%s", a, b) < 0)
		out_of_memory();
	return s;
}

/* ---- response files: @FILE, words split and quoted as GCC's documentation says ---- */

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

static void expand(struct words *w, const char *argument, unsigned depth);

static void split(struct words *w, char *text, unsigned depth)
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
		expand(w, word, depth + 1);
		if (last)
			break;
		from++;
	}
}

static void expand(struct words *w, const char *argument, unsigned depth)
{
	char *text =
		argument[0] == '@' && depth < RESPONSE_DEPTH_MAX ? read_file(argument + 1) : NULL;
	if (text)
		split(w, text, depth); /* its words stay in use: not freed */
	else
		push(w, argument);
}

/* ---- what the command line asks for ---- */

struct request {
	struct words args; /* to pass on */
	const char *output;
	const char *root;  /* --wherry-root */
	const char *name;  /* --wherry-name */
	const char *map;   /* the user's own -Map, or NULL */
	const char *asked; /* -print-file-name=ASKED */
	struct words sources;
	struct wh_manifest manifest; /* what is not 0 replaces the linker script's figure */
	bool links;
	bool has_input;
	bool shared;
	bool other_abi; /* -m32, -mx32 */
	bool bare;      /* -nostdlib, -nostartfiles, -r: the user names everything */
	bool failed;    /* said why already */
};

/* Options whose value is the next word. */
static bool takes_value(const char *option)
{
	static const char *const list[] = {
		"-o",
		"-x",
		"-I",
		"-L",
		"-l",
		"-D",
		"-U",
		"-include",
		"-isystem",
		"-idirafter",
		"-iquote",
		"-imacros",
		"-iprefix",
		"-iwithprefix",
		"-iwithprefixbefore",
		"-isysroot",
		"-MF",
		"-MT",
		"-MQ",
		"-Xlinker",
		"-Xassembler",
		"-Xpreprocessor",
		"-T",
		"-u",
		"-z",
		"-e",
		"-aux-info",
		"--param",
		"-dumpbase",
		"-dumpdir",
		"-wrapper",
		"-B",
		"-A",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(list); i++)
		if (!strcmp(option, list[i]))
			return true;
	return false;
}

/* The compiler stops before the linker, or only says something about itself. */
static bool stops_early(const char *option)
{
	static const char *const list[] = {
		"-c",
		"-S",
		"-E",
		"-M",
		"-MM",
		"-fsyntax-only",
		"-###",
		"--version",
		"-dumpversion",
		"-dumpfullversion",
		"-dumpspecs",
		"-print-search-dirs",
		"-print-libgcc-file-name",
		"-print-multiarch",
		"-print-multi-directory",
		"-print-multi-lib",
		"-print-sysroot",
		"--help",
		"--target-help",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(list); i++)
		if (!strcmp(option, list[i]))
			return true;
	return !strncmp(option, "-print-file-name=", 17) ||
	       !strncmp(option, "-print-prog-name=", 17) || !strncmp(option, "--help=", 7);
}

/* Images are static and position-independent whatever is asked for. */
static bool is_link_mode(const char *option)
{
	static const char *const list[] = {
		"-static",   "-static-pie", "-pie",           "-no-pie",
		"-rdynamic", "-fno-pie",    "-fno-PIE",       "-fno-pic",
		"-fno-PIC",  "-nopie",      "-static-libgcc", "-shared-libgcc",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(list); i++)
		if (!strcmp(option, list[i]))
			return true;
	return false;
}

static void add_input(struct request *r, const char *path)
{
	const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
	r->has_input = true;
	if (!strcmp(path, "-"))
		push(&r->sources, "-");
	else if (!dot || (strcmp(dot, ".o") && strcmp(dot, ".a") && strcmp(dot, ".so")))
		push(&r->sources, slash ? slash + 1 : path);
}

/* Linker options, separated by commas. What keeps every symbol, or asks for shared
 * libraries, would only make the image larger or the link fail. */
static void add_linker_options(struct request *r, const char *text)
{
	static const char *const dropped[] = {
		"--export-dynamic", "-export-dynamic", "-E", "-Bdynamic", "-dy", "-call_shared"
	};
	char *copy = strdup(text), *at = copy;
	if (!copy)
		out_of_memory();
	for (char *word; (word = strsep(&at, ","));) {
		bool drop = false;
		for (size_t i = 0; i < WH_ARRAY_COUNT(dropped); i++)
			drop = drop || !strcmp(word, dropped[i]);
		if (drop)
			continue;
		if (!strncmp(word, "-Map=", 5) || !strncmp(word, "--Map=", 6))
			r->map = strchr(word, '=') + 1;
		else if ((!strcmp(word, "-Map") || !strcmp(word, "--Map")) && at)
			r->map = strdup(at); /* until the next comma */
		push(&r->args, "-Xlinker");
		push(&r->args, word); /* stays in use: copy is not freed */
	}
	if (r->map)
		((char *)(uintptr_t)r->map)[strcspn(r->map, ",")] = 0;
}

static void take_figure(struct request *r, const char *option, uint64_t max, uint64_t *to)
{
	uint64_t value;
	if (!cli_parse_size(strchr(option, '=') + 1, &value) && value && value <= max) {
		*to = value;
		return;
	}
	cli_error("cc: %s: a size such as 8M is wanted, at most %llu bytes", option,
		  (unsigned long long)max);
	r->failed = true;
}

/* Options of our own. */
static bool take_own(struct request *r, const char *a)
{
	if (strncmp(a, "--wherry-", 9))
		return false;
	if (!strncmp(a, "--wherry-root=", 14))
		r->root = a + 14;
	else if (!strncmp(a, "--wherry-name=", 14))
		r->name = a + 14;
	else if (!strncmp(a, "--wherry-memory=", 16))
		take_figure(r, a, WH_MANIFEST_MEMORY_MAX, &r->manifest.memory_default);
	else if (!strncmp(a, "--wherry-memory-min=", 20))
		take_figure(r, a, WH_MANIFEST_MEMORY_MAX, &r->manifest.memory_min);
	else if (!strncmp(a, "--wherry-stack=", 15))
		take_figure(r, a, WH_MANIFEST_STACK_MAX, &r->manifest.stack_size);
	else {
		cli_error("cc: unknown option %s (known: --wherry-root=DIR, -name=NAME, "
			  "-memory=SIZE, -memory-min=SIZE, -stack=SIZE)",
			  a);
		r->failed = true;
	}
	return true;
}

/* What one option says about the command as a whole. */
static void note(struct request *r, const char *a)
{
	if (stops_early(a))
		r->links = false;
	else if (!strcmp(a, "-shared") || !strcmp(a, "--shared"))
		r->shared = true;
	else if (!strcmp(a, "-m32") || !strcmp(a, "-mx32") || !strcmp(a, "-m16"))
		r->other_abi = true;
	else if (!strcmp(a, "-nostdlib") || !strcmp(a, "-nostartfiles") || !strcmp(a, "-r"))
		r->bare = true;
	else if (!strncmp(a, "-o", 2) && a[2])
		r->output = a + 2;
	else if (a[0] != '-' || !a[1])
		add_input(r, a);
	else if (!strncmp(a, "-l", 2))
		r->has_input = true;
	if (!strncmp(a, "-print-file-name=", 17))
		r->asked = a + 17;
}

static void classify(struct request *r, char **argv, int argc)
{
	r->links = true;
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		if (is_link_mode(a) || take_own(r, a))
			continue;
		if (!strcmp(a, "-pthread")) {
			push(&r->args, "-D_REENTRANT");
			continue;
		}
		if (!strncmp(a, "-Wl,", 4)) {
			add_linker_options(r, a + 4);
			continue;
		}
		if (!strcmp(a, "-Xlinker") && i + 1 < argc) {
			add_linker_options(r, argv[++i]);
			continue;
		}
		push(&r->args, a);
		note(r, a);
		if (takes_value(a) && i + 1 < argc) {
			if (!strcmp(a, "-o"))
				r->output = argv[i + 1];
			push(&r->args, argv[++i]);
		}
	}
	if (!r->has_input) /* `cc -v`, `cc --version`: nothing to link */
		r->links = false;
}

/* ---- running the compiler ---- */

static int run(char **argv)
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		cli_error("cc: cannot start a process (errno %d)", errno);
		return CLI_ERROR;
	}
	if (!pid) {
		execvp(argv[0], argv);
		cli_error("cc: cannot run %s (errno %d): install gcc, or name a compiler in "
			  "WHERRY_CC",
			  argv[0], errno);
		_exit(CLI_ERROR);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return CLI_ERROR;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* One line that the compiler prints, e.g. for -print-file-name=include; NULL = nothing. */
static char *ask(const struct words *compiler, const char *question)
{
	static char line[4096];
	struct words w = { 0 };
	int pipes[2];
	push_all(&w, compiler);
	push(&w, question);
	if (pipe(pipes))
		return NULL;
	pid_t pid = fork();
	if (!pid) {
		dup2(pipes[1], 1);
		execvp(w.at[0], w.at);
		_exit(127);
	}
	close(pipes[1]);
	FILE *f = fdopen(pipes[0], "r");
	char *got = f && pid > 0 ? fgets(line, sizeof line, f) : NULL;
	if (f)
		fclose(f);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	free(w.at);
	if (got)
		got[strcspn(got, "\n")] = 0;
	return got && *got ? strdup(got) : NULL;
}

/* The compiler's name decides between the two families of drivers. */
static bool is_clang(const struct words *compiler)
{
	for (size_t i = 0; i < compiler->count; i++)
		if (strstr(compiler->at[i], "clang"))
			return true;
	return false;
}

/* Beside the command in a build tree, under lib/ where it is installed. */
static char *find_sysroot(void)
{
	static const char *const places[] = { "/../../sysroot", "/../lib/wherry/sysroot" };
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
		char *path = join(self, places[i]), *probe = join(path, "/lib/libc.a");
		char *real = access(probe, R_OK) ? NULL : realpath(path, NULL);
		free(path);
		free(probe);
		if (real)
			return real;
	}
	return NULL;
}

static void add_headers(struct words *w, const struct words *compiler, const char *sysroot)
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
	char *own = ask(compiler, "-print-file-name=include");
	push(w, "-nostdinc");
	for (size_t i = 0; i < WH_ARRAY_COUNT(defaults); i++)
		push(w, defaults[i]);
	push(w, "-isystem");
	push(w, join(sysroot, "/include"));
	if (own) {
		push(w, "-isystem");
		push(w, own);
	}
}

static void add_flags(struct words *w, const struct request *r, const struct words *compiler,
		      const char *sysroot, const char *map)
{
	push(w, "-nostdlib");
	push(w, "-static-pie");
	/* Neither driver may offer the host's libraries for -l. */
	push(w, is_clang(compiler) ? join("--sysroot=", sysroot)
				   : join(join("-specs=", sysroot), "/lib/image.specs"));
	push(w, "-Wl,--gc-sections,-z,text,-z,relro,-z,now,-z,separate-code,-z,noexecstack");
	push(w, "-Wl,--no-dynamic-linker,--build-id=none,--hash-style=gnu,--no-eh-frame-hdr");
	push(w, join(join("-Wl,-T,", sysroot), "/lib/image.ld"));
	if (!r->map)
		push(w, join("-Wl,-Map=", map));
}

static void add_libraries(struct words *w, const struct words *compiler, const char *lib)
{
	char *libgcc = ask(compiler, "-print-libgcc-file-name");
	push(w, "-xnone");
	push(w, join("-L", lib));
	push(w, "-Wl,--start-group");
	push(w, join(lib, "libc.a"));
	push(w, join(lib, "libwherry.a"));
	push(w, join(lib, "libwherry-enosys.a"));
	if (libgcc)
		push(w, libgcc);
	push(w, "-Wl,--end-group");
}

/* The whole linker command; `first` is an input that must come before all others, or NULL. */
static int run_link(struct request *r, const struct words *compiler, const char *sysroot,
		    const char *map, const char *first, const char *archive)
{
	struct words w = { 0 };
	char *lib = join(sysroot, "/lib/");
	push_all(&w, compiler);
	add_headers(&w, compiler, sysroot);
	add_flags(&w, r, compiler, sysroot, map);
	if (first) {
		push(&w, "-xassembler");
		push(&w, first);
		push(&w, "-xnone");
	}
	if (!r->bare)
		push(&w, join(lib, "crt1.o"));
	push_all(&w, &r->args);
	if (archive) {
		push(&w, "-xnone");
		push(&w, archive);
	}
	if (!r->bare)
		add_libraries(&w, compiler, lib);
	int status = run(w.at);
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

static int finish_manifest(struct request *r, const char *output)
{
	const char *name = r->name ? r->name : output, *slash = strrchr(name, '/');
	strncpy(r->manifest.name, slash ? slash + 1 : name, sizeof r->manifest.name - 1);
	return cc_manifest_set(output, &r->manifest);
}

static int link_image(struct request *r, const struct words *compiler, const char *sysroot)
{
	char map[] = "/tmp/wherry-cc-XXXXXX", warnings[] = "/tmp/wherry-cc-XXXXXX";
	struct cc_archive archive = { 0 };
	struct missing missing = { 0 };
	const char *output = r->output ? r->output : "a.out", *map_path = r->map ? r->map : map;
	char *units = NULL;
	int status = CLI_ERROR, map_fd = mkstemp(map), warnings_fd = mkstemp(warnings);

	if (map_fd < 0 || warnings_fd < 0) {
		cli_error("cc: cannot make a temporary file in /tmp (errno %d)", errno);
		goto out;
	}
	if (r->root && (status = cc_archive_build(r->root, &archive)))
		goto out;
	status = run_link(r, compiler, sysroot, map, NULL, archive.object);
	if (status || r->bare)
		goto out;
	status = cc_units_read(map_path, (const char *const *)r->sources.at, r->sources.count,
			       &units, add_missing, &missing);
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
	if (map_fd >= 0 && !close(map_fd))
		unlink(map);
	if (warnings_fd >= 0 && !close(warnings_fd))
		unlink(warnings);
	return status;
}

/* -print-file-name=libc.a must find the sysroot's; what it lacks the compiler may answer. */
static bool print_file_name(const char *sysroot, const char *name)
{
	char *path = join(join(sysroot, "/lib/"), name);
	bool found = *name && !access(path, F_OK);
	if (found)
		cli_print("%s", path);
	free(path);
	return found;
}

static int refuse(const struct request *r)
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
	struct words given = { 0 }, compiler = { 0 };
	struct request r = { 0 };
	char *set = getenv("WHERRY_CC");
	for (char *at = strdup(set && *set ? set : "gcc"), *word; (word = strsep(&at, " "));)
		if (*word)
			push(&compiler, word);
	for (int i = 1; i < argc; i++)
		expand(&given, argv[i], 0);
	classify(&r, given.at, (int)given.count);
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
	struct words w = { 0 };
	push_all(&w, &compiler);
	add_headers(&w, &compiler, sysroot);
	push_all(&w, &r.args);
	execvp(w.at[0], w.at);
	cli_error("cc: cannot run %s (errno %d): install gcc, or name a compiler in WHERRY_CC",
		  w.at[0], errno);
	return CLI_ERROR;
}
