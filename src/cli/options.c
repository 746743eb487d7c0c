/* SPDX-License-Identifier: ISC */
/*
 * Parser and help text, both fed by a command's option table.
 */
#include <stdarg.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "cli.h"

#define LINE_SIZE 2048 /* longest line that is printed whole */

void cli_write(int fd, const char *text, size_t size)
{
	while (size) {
		ssize_t n = write(fd, text, size);
		if (n <= 0)
			return;
		text += n;
		size -= (size_t)n;
	}
}

static void print_line(int fd, const char *prefix, const char *format, va_list args)
{
	char line[LINE_SIZE];
	size_t n = wh_format(line, sizeof line, "%s", prefix);
	size_t m = wh_vformat(line + n, sizeof line - n - 1, format, args);
	n += m < sizeof line - n - 1 ? m : sizeof line - n - 2;
	line[n++] = '\n';
	cli_write(fd, line, n);
}

void cli_error(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	print_line(STDERR_FILENO, "wherry: ", format, args);
	va_end(args);
}

void cli_print(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	print_line(STDOUT_FILENO, "", format, args);
	va_end(args);
}

void cli_parser_init(struct cli_parser *parser, const struct cli_command *command, int argc,
		     char **argv)
{
	*parser = (struct cli_parser){ .command = command, .argc = argc, .argv = argv, .index = 1 };
}

static int complain(const struct cli_parser *p, const char *what, const char *text, size_t size)
{
	char name[80];
	if (size >= sizeof name)
		size = sizeof name - 1;
	memcpy(name, text, size);
	name[size] = 0;
	cli_error("%s %s (see: wherry %s --help)", what, name, p->command->name);
	return CLI_BAD;
}

static int next_long(struct cli_parser *p, const char *argument, const char **ret_value)
{
	const char *name = argument + 2;
	size_t size = wh_strlen(name);
	const char *equals = memchr(name, '=', size);
	if (equals)
		size = (size_t)(equals - name);
	for (unsigned i = 0; i < p->command->option_count; i++) {
		const struct cli_option *o = &p->command->options[i];
		if (!o->name || wh_strlen(o->name) != size || memcmp(o->name, name, size))
			continue;
		if (!o->value && equals)
			return complain(p, "no value may follow", argument, size + 2);
		if (!o->value)
			return o->id;
		if (equals)
			*ret_value = equals + 1;
		else if (p->index < p->argc)
			*ret_value = p->argv[p->index++];
		else
			return complain(p, "a value must follow", argument, size + 2);
		return o->id;
	}
	if (size == 4 && !equals && !memcmp(name, "help", 4)) {
		cli_help(p->command);
		return CLI_HELP;
	}
	return complain(p, "unknown option", argument, size + 2);
}

static int next_short(struct cli_parser *p, const char **ret_value)
{
	char shown[3] = { '-', *p->cluster++, 0 };
	for (unsigned i = 0; i < p->command->option_count; i++) {
		const struct cli_option *o = &p->command->options[i];
		if (!o->letter || o->letter != shown[1])
			continue;
		if (!o->value)
			return o->id;
		if (*p->cluster)
			*ret_value = p->cluster;
		else if (p->index < p->argc)
			*ret_value = p->argv[p->index++];
		else
			return complain(p, "a value must follow", shown, 2);
		p->cluster = "";
		return o->id;
	}
	if (shown[1] == 'h') {
		cli_help(p->command);
		return CLI_HELP;
	}
	return complain(p, "unknown option", shown, 2);
}

int cli_next(struct cli_parser *p, const char **ret_value)
{
	if (p->cluster && *p->cluster)
		return next_short(p, ret_value);
	if (p->index >= p->argc)
		return CLI_END;
	const char *argument = p->argv[p->index++];
	if (argument[0] == '-' && argument[1] == '-' && !argument[2])
		return CLI_END;
	if (argument[0] == '-' && argument[1] == '-')
		return next_long(p, argument, ret_value);
	if (argument[0] == '-' && argument[1]) {
		p->cluster = argument + 1;
		return next_short(p, ret_value);
	}
	*ret_value = argument;
	return CLI_OPERAND;
}

void cli_help(const struct cli_command *command)
{
	cli_print("usage: wherry %s %s\n\n%s", command->name, command->synopsis, command->summary);
	for (unsigned i = 0; i < command->option_count; i++) {
		const struct cli_option *o = &command->options[i];
		char left[64];
		char letter[5] = { '-', o->letter, o->name ? ',' : 0, ' ', 0 };
		size_t n = wh_format(left, sizeof left, "%s%s%s%s%s", o->letter ? letter : "    ",
				     o->name ? "--" : "", o->name ? o->name : "",
				     o->value ? " " : "", o->value ? o->value : "");
		if (n >= sizeof left)
			n = sizeof left - 1;
		while (n < 36)
			left[n++] = ' ';
		left[n] = 0;
		cli_print("%s  %s  %s", i ? "" : "\n", left, o->help);
	}
	if (command->details)
		cli_print("\n%s", command->details);
}

int cli_parse_number(const char *text, size_t length, uint64_t max, uint64_t *ret_number)
{
	uint64_t v = 0;
	if (!length)
		return -WH_EINVAL;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -WH_EINVAL;
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v) || v > max)
			return -WH_ERANGE;
	}
	*ret_number = v;
	return 0;
}

int cli_parse_size(const char *text, uint64_t *ret_size)
{
	static const char units[] = "KMGT";
	size_t n = wh_strlen(text);
	unsigned shift = 0;
	for (unsigned i = 0; n && units[i]; i++)
		if ((text[n - 1] & ~0x20) == units[i])
			shift = 10 * (i + 1);
	uint64_t v;
	int error = cli_parse_number(text, shift ? n - 1 : n, UINT64_MAX >> shift, &v);
	if (error < 0)
		return error;
	*ret_size = v << shift;
	return 0;
}
