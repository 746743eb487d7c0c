/* SPDX-License-Identifier: ISC */
#ifndef CLI_H
#define CLI_H

/*
 * The command line: what main.c and the cmd_<verb>.c files share. Only code in this
 * folder parses argv, prints and decides on exit statuses.
 *
 * One table of struct cli_option per command feeds the parser, `--help` and the
 * test that compares both with the man page. Printing goes straight to the
 * descriptor: starting stdio costs more than the rest of a small command.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

/* Exit statuses of every command; 0..123 of `wherry run` are the guest's own. */
enum cli_status {
	CLI_OK = 0,
	CLI_GUEST_BROKE = 124,  /* processor fault, kernel panic, or a forbidden system call */
	CLI_ERROR = 125,        /* wherry's own: usage, host resources, devices */
	CLI_CANNOT_START = 126, /* the file is not an image, or not one for this machine */
	CLI_NOT_FOUND = 127,    /* no such file */
	CLI_SIGNAL_BASE = 128,  /* + n: the guest ended by signal n */
};

struct cli_option {
	int id;            /* what cli_next returns; > 0, unique in its table */
	const char *name;  /* long name without dashes, or NULL */
	char letter;       /* short name, or 0 */
	const char *value; /* name of the value for --help; NULL = takes none */
	const char *help;  /* one line */
};

struct cli_command {
	const char *name;
	const char *synopsis; /* after "wherry NAME " */
	const char *summary;  /* one line, for the list of commands */
	const char *details;  /* paragraphs under the options, or NULL */
	const struct cli_option *options;
	unsigned option_count;
	int (*run)(int argc, char **argv); /* argv[0] = command name; returns an exit status */
};

/* The commands. A command that parses for itself (cc) has an empty table. */
int cmd_run(int argc, char **argv);
int cmd_cc(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_build(int argc, char **argv);
int cmd_disk(int argc, char **argv);
int cmd_net(int argc, char **argv);
int cmd_store(int argc, char **argv);
extern const struct cli_command cli_command_run;
extern const struct cli_command cli_command_image;
extern const struct cli_command cli_command_build;
extern const struct cli_command cli_command_disk;
extern const struct cli_command cli_command_net;
extern const struct cli_command cli_command_store;
/* cmd_machine.c */
extern const struct cli_command cli_command_ps, cli_command_stop, cli_command_kill,
	cli_command_pause, cli_command_resume, cli_command_snapshot, cli_command_stats,
	cli_command_events, cli_command_inspect;
extern const struct cli_command cli_command_logs, cli_command_console; /* cmd_console.c */

/* Ids that every table may use. */
#define CLI_END 0        /* no more arguments */
#define CLI_BAD (-1)     /* the error is printed already: return CLI_ERROR */
#define CLI_OPERAND (-2) /* value = an argument that is no option */
#define CLI_HELP (-3)    /* --help was printed already: return CLI_OK */

struct cli_parser {
	const struct cli_command *command;
	int argc;
	char **argv;
	int index;           /* next argument; after CLI_END the first one behind "--" */
	const char *cluster; /* rest of a group of short options */
};

void cli_parser_init(struct cli_parser *parser, const struct cli_command *command, int argc,
		     char **argv);
/* The next option's id, or one of the CLI_ codes. Long options take `--name VALUE` and
 * `--name=VALUE`, short ones `-n VALUE` and `-nVALUE`; "--" ends both options and operands. */
int cli_next(struct cli_parser *parser, const char **ret_value);

void cli_help(const struct cli_command *command); /* on standard output */

/* One line each: `wherry: TEXT` on standard error; TEXT on standard output. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void cli_print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes all of it, or gives up on an error. */
void cli_write(int fd, const char *text, size_t size);

/* 64M, 2G, 4096K, 1048576. 0 or -WH_EINVAL, -WH_ERANGE. */
int cli_parse_size(const char *text, uint64_t *ret_size);
/* Decimal number up to max. 0 or -WH_EINVAL, -WH_ERANGE. */
int cli_parse_number(const char *text, size_t length, uint64_t max, uint64_t *ret_number);

#endif
