/* SPDX-License-Identifier: ISC */
/*
 * Prints the addresses of every instruction that a static program runs, each once: single-steps it.
 * Children are left alone. bench/start/order makes src/cli/start_order.ld from it.
 *
 *	order PROGRAM [ARG...]
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_START 0x400000u
#define TEXT_SIZE 0x200000u

static unsigned char seen[TEXT_SIZE];

int main(int argc, char **argv)
{
	int status;
	pid_t pid = argc > 1 ? fork() : -1;
	if (!pid) {
		int null = open("/dev/null", O_RDWR);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		dup2(null, 0);
		dup2(null, 1);
		execv(argv[1], argv + 1);
		_exit(127);
	}
	if (pid < 0)
		return 1;
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		struct user_regs_struct r;
		int signal = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (ptrace(PTRACE_GETREGS, pid, NULL, &r) == 0 && r.rip - TEXT_START < TEXT_SIZE)
			seen[r.rip - TEXT_START] = 1;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(long)signal))
			break;
	}
	for (unsigned i = 0; i < TEXT_SIZE; i++)
		if (seen[i])
			printf("%x\n", TEXT_START + i);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
