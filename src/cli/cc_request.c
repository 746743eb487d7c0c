/* SPDX-License-Identifier: ISC */
/* What a command line asks for, decided as gcc does: by options alone. */
#include <stdlib.h>
#include <string.h>
#include <wherry/base/mem.h>

#include "cc.h"
#include "cli.h"

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

/* Images are static and position-independent whatever is asked for, and always linked
 * with the compiler's own library. */
static bool is_link_mode(const char *option)
{
	static const char *const list[] = {
		"-static",        "-static-pie",    "-pie",     "-no-pie",  "-rdynamic",
		"-fno-pie",       "-fno-PIE",       "-fno-pic", "-fno-PIC", "-nopie",
		"-static-libgcc", "-shared-libgcc", "-lgcc",    "-lgcc_s",  "-lgcc_eh",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(list); i++)
		if (!strcmp(option, list[i]))
			return true;
	return false;
}

static void add_input(struct cc_request *r, const char *path)
{
	const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
	r->has_input = true;
	if (!strcmp(path, "-"))
		cc_push(&r->sources, "-");
	else if (!dot || (strcmp(dot, ".o") && strcmp(dot, ".a") && strcmp(dot, ".so")))
		cc_push(&r->sources, slash ? slash + 1 : path);
}

/* Linker options, separated by commas. What keeps every symbol, or asks for shared
 * libraries, would only make the image larger or the link fail. */
static void add_linker_options(struct cc_request *r, const char *text)
{
	static const char *const dropped[] = {
		"--export-dynamic", "-export-dynamic", "-E", "-Bdynamic", "-dy", "-call_shared"
	};
	char *copy = strdup(text), *at = copy;
	if (!copy)
		cc_out_of_memory();
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
		cc_push(&r->args, "-Xlinker");
		cc_push(&r->args, word); /* stays in use: copy is not freed */
	}
	if (r->map)
		((char *)(uintptr_t)r->map)[strcspn(r->map, ",")] = 0;
}

static void take_figure(struct cc_request *r, const char *option, uint64_t max, uint64_t *to)
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
static bool take_own(struct cc_request *r, const char *a)
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
static void note(struct cc_request *r, const char *a)
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

void cc_classify(struct cc_request *r, char **argv, int argc)
{
	r->links = true;
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		if (is_link_mode(a) || take_own(r, a))
			continue;
		if (!strcmp(a, "-pthread")) {
			cc_push(&r->args, "-D_REENTRANT");
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
		cc_push(&r->args, a);
		note(r, a);
		if (takes_value(a) && i + 1 < argc) {
			if (!strcmp(a, "-o"))
				r->output = argv[i + 1];
			cc_push(&r->args, argv[++i]);
		}
	}
	if (!r->has_input) /* `cc -v`, `cc --version`: nothing to link */
		r->links = false;
}
