/* SPDX-License-Identifier: ISC */
/* Other programs, and files for them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cc.h"
#include "cli.h"

/* From the first temporary file on, the signals that would end this process go to the
 * program that it waits for, and this process ends in order afterwards. */
static volatile sig_atomic_t child, taken;

static void on_signal(int signo)
{
	taken = signo;
	if (child > 0)
		kill((pid_t)child, signo);
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
}

/* In the child. exec gives caught signals their default action. */
__attribute__((noreturn)) static void become(char **argv)
{
	execvp(argv[0], argv);
	cli_error("cc: cannot run %s (errno %d): install gcc, or name a compiler in WHERRY_CC",
		  argv[0], errno);
	_exit(CLI_ERROR);
}

static int wait_for_child(void)
{
	int status = 0;
	while (child > 0 && waitpid((pid_t)child, &status, 0) < 0)
		if (errno != EINTR)
			return CLI_ERROR;
	child = 0;
	if (taken)
		return CLI_SIGNAL_BASE + taken;
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_SIGNAL_BASE + WTERMSIG(status);
}

int cc_run(char **argv)
{
	fflush(NULL);
	if (taken)
		return CLI_SIGNAL_BASE + taken;
	child = fork();
	if (child < 0) {
		cli_error("cc: cannot start a process (errno %d)", errno);
		return CLI_ERROR;
	}
	if (!child)
		become(argv);
	return wait_for_child();
}

/* The linker's map and messages are read: in English, with the user's characters. */
void cc_plain_language(void)
{
	const char *all = getenv("LC_ALL");
	if (all && *all)
		setenv("LC_CTYPE", all, 1);
	unsetenv("LC_ALL");
	setenv("LC_MESSAGES", "C", 1);
	setenv("LANGUAGE", "C", 1);
}

int cc_temporary(const char *end, char **ret_path)
{
	const char *folder = getenv("TMPDIR");
	catch_signals();
	char *path =
		cc_join(cc_join(folder && *folder ? folder : "/tmp", "/wherry-cc-XXXXXX"), end);
	int fd = mkstemps(path, (int)strlen(end));
	if (fd < 0) {
		cli_error("cc: cannot make a temporary file %s (errno %d)", path, errno);
		free(path);
		return -1;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	*ret_path = path;
	return fd;
}

void cc_temporary_remove(int fd, char *path)
{
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	free(path);
}

/* One line that the compiler prints, e.g. for -print-file-name=include; NULL = nothing. */
char *cc_ask(const struct cc_words *compiler, const char *question)
{
	static char line[4096];
	struct cc_words w = { 0 };
	int pipes[2];
	cc_push_all(&w, compiler);
	cc_push(&w, question);
	if (pipe(pipes))
		return NULL;
	child = fork();
	if (!child) {
		dup2(pipes[1], 1);
		execvp(w.at[0], w.at);
		_exit(127);
	}
	close(pipes[1]);
	FILE *f = fdopen(pipes[0], "r");
	char *got = f && child > 0 ? fgets(line, sizeof line, f) : NULL;
	if (f)
		fclose(f);
	(void)wait_for_child(); /* what it said is all that counts */
	free(w.at);
	if (got)
		got[strcspn(got, "\n")] = 0;
	return got && *got ? strdup(got) : NULL;
}
