/* SPDX-License-Identifier: ISC */
/*
 * --settings REPO@BRANCH: a process of wherry-store keeps a private folder as the branch is, and the gateway follows that folder.
 * The process watches this one, also when that becomes another program, and takes the folder away when it ends: however that is.
 *
 * machine/options on the branch has options of `wherry run`, one argument a line; they stand before those of the command line. What a
 * machine is cannot change while it runs, so these are read once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/os.h>

#include "programs.h"
#include "settings_store.h"

#define OPTIONS_SIZE_MAX 65536u
#define WORDS_MAX 256u

bool settings_in_store(const char *value)
{
	struct stat st;
	return strchr(value, '@') && stat(value, &st);
}

static void become_exporter(const char *value, const char *folder, int out)
{
	char *argv[] = { (char[]){ "store" },
			 (char[]){ "export" },
			 (char[]){ "--follow" },
			 (char[]){ "--delete" },
			 (char *)(uintptr_t)value,
			 (char *)(uintptr_t)folder,
			 NULL };
	dup2(out, 1);
	int null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	(void)syscall(SYS_close_range, 3, ~0u, 0);
	setpgid(0, 0); /* a ^C is for the machine: this one ends behind it */
	_exit(program_exec("store", argv));
}

const char *settings_export(const char *value)
{
	static char folder[64];
	const char *run = getenv("XDG_RUNTIME_DIR");
	char line[32] = "";
	int p[2];
	snprintf(folder, sizeof folder, "%s/wherry-settings-XXXXXX",
		 run && strlen(run) < 32 && !access(run, W_OK) ? run : "/tmp");
	if (!mkdtemp(folder) || pipe2(p, O_CLOEXEC)) {
		cli_error("--settings: %s: %s", folder, strerror(errno));
		return NULL;
	}
	pid_t pid = fork();
	if (!pid)
		become_exporter(value, folder, p[1]);
	close(p[1]);
	size_t n = 0;
	while (pid > 0 && n < sizeof line - 1 && read(p[0], line + n, 1) == 1 && line[n] != '\n')
		n++;
	if (strncmp(line, "exported", 8)) { /* it has said why */
		cli_error("--settings %s cannot be followed", value);
		close(p[0]);
		rmdir(folder);
		return NULL;
	}
	close(p[0]);
	return folder;
}

/* The words of machine/options, into `words`; how many, or -1. */
static int machine_words(const char *folder, char **words)
{
	char path[128];
	int count = 0;
	char *text = malloc(OPTIONS_SIZE_MAX);
	snprintf(path, sizeof path, "%s/machine/options", folder);
	ssize_t size = text ? wh_os_read_text(path, text, OPTIONS_SIZE_MAX) : -1;
	if (size < 0 || (size_t)size >= OPTIONS_SIZE_MAX - 1) {
		free(text);
		return access(path, F_OK) ? 0 : -1;
	}
	for (char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		if (!*line || *line == '#')
			continue;
		if (count == (int)WORDS_MAX)
			return -1;
		words[count++] = line; /* stays for as long as we run */
	}
	return count;
}

int settings_expand(int *argc, char ***argv)
{
	static const char option[] = "--settings";
	char *value = NULL, **at = NULL, *words[WORDS_MAX];
	bool joined = false;
	for (int i = 1; i < *argc && strcmp((*argv)[i], "--") && !value; i++) {
		char *a = (*argv)[i];
		joined = !strncmp(a, "--settings=", sizeof option);
		if (joined || (!strcmp(a, option) && i + 1 < *argc)) {
			value = joined ? a + sizeof option : (*argv)[i + 1];
			at = &(*argv)[joined ? i : i + 1];
		}
	}
	if (!value || !settings_in_store(value))
		return 0;
	const char *folder = settings_export(value);
	int count = folder ? machine_words(folder, words) : -1;
	if (folder && count < 0)
		cli_error("--settings %s: machine/options is not at most %u lines of text", value,
			  WORDS_MAX);
	if (count < 0)
		return CLI_ERROR;
	static char replaced[96];
	snprintf(replaced, sizeof replaced, "%s%s", joined ? "--settings=" : "", folder);
	*at = replaced;
	char **all = calloc((size_t)(*argc + count + 1), sizeof *all);
	if (!all)
		return CLI_ERROR;
	all[0] = (*argv)[0];
	memcpy(all + 1, words, (size_t)count * sizeof *all);
	memcpy(all + 1 + count, *argv + 1, (size_t)(*argc - 1) * sizeof *all);
	*argc += count;
	*argv = all;
	return 0;
}
