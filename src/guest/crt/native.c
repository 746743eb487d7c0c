/* SPDX-License-Identifier: ISC */
/*
 * What happens when an image is executed as a Linux program: it becomes
 * `wherry run --here IMAGE -- ARGUMENTS...`, so that a build that runs what it has built
 * (configure probes, code generators, tests) works. $WHERRY names the command, else
 * $PATH is searched.
 *
 * Runs on the host's kernel before any relocation and without a thread block: no
 * pointers in data, no stack protector, no libc.
 */
#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/manifest.h>

_Static_assert(sizeof(struct wh_manifest) == 128, "start.S and image.ld spell it out");
_Static_assert(WH_MANIFEST_NOTE_TYPE == 0x57484d31 && WH_MANIFEST_VERSION == 1, "start.S");

enum { SYS_WRITE = 1, SYS_EXECVE = 59, SYS_EXIT_GROUP = 231 };
enum { STDERR = 2, AUX_EXECFN = 31, PATH_SIZE = 4096, STATUS_CANNOT_START = 126 };

__attribute__((noreturn, used)) void wh_native_main(uint64_t *vector);

static long call(long number, const void *a, const void *b, const void *c)
{
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return result;
}

/* The value of environment variable `name` ("PATH="), or null. */
static char *value_of(char **environment, const char *name)
{
	for (; *environment; environment++) {
		uint32_t i = 0;
		while (name[i] && (*environment)[i] == name[i])
			i++;
		if (!name[i])
			return *environment + i;
	}
	return 0;
}

/* Tries DIRECTORY/wherry for each directory of $PATH. Returns only if none starts. */
static void search(const char *path, char **argv, char **environment)
{
	char file[PATH_SIZE];
	while (path && *path) {
		uint32_t n = 0;
		bool fits = true;
		for (; *path && *path != ':'; path++)
			if (n < sizeof file - sizeof "/wherry")
				file[n++] = *path;
			else
				fits = false;
		if (n && fits) {
			const char *tail = "/wherry";
			for (uint32_t i = 0; i < sizeof "/wherry"; i++)
				file[n + i] = tail[i];
			call(SYS_EXECVE, file, argv, environment);
		}
		if (*path == ':')
			path++;
	}
}

void wh_native_main(uint64_t *vector)
{
	static const char message[] = "this is a Wherry image: run it with 'wherry run' (or set "
				      "WHERRY to that command)\n";
	uint64_t argc = vector[0];
	char **argv = (char **)(vector + 1), **environment = argv + argc + 1, **at = environment;
	char *image = argc ? argv[0] : 0;
	while (*at)
		at++;
	for (uint64_t *aux = (uint64_t *)(at + 1); aux[0]; aux += 2)
		if (aux[0] == AUX_EXECFN)
			image = (char *)aux[1];

	char **new_argv = __builtin_alloca((argc + 6) * sizeof *new_argv);
	uint64_t n = 0;
	new_argv[n++] = (char *)"wherry";
	new_argv[n++] = (char *)"run";
	new_argv[n++] = (char *)"--here";
	new_argv[n++] = image;
	new_argv[n++] = (char *)"--";
	for (uint64_t i = 1; i < argc; i++)
		new_argv[n++] = argv[i];
	new_argv[n] = 0;

	char *command = image ? value_of(environment, "WHERRY=") : 0;
	if (command && *command)
		call(SYS_EXECVE, command, new_argv, environment);
	else if (image)
		search(value_of(environment, "PATH="), new_argv, environment);
	call(SYS_WRITE, (void *)STDERR, message, (void *)(sizeof message - 1));
	for (;;)
		call(SYS_EXIT_GROUP, (void *)STATUS_CANNOT_START, 0, 0);
}
