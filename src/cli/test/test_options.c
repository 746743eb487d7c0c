/* SPDX-License-Identifier: ISC */
#include <wherry/base/errors.h>
#include <wherry/test.h>

#include "../cli.h"

static const struct cli_option options[] = {
	{ 1, "memory", 'm', "SIZE", "memory" },
	{ 2, "verbose", 'v', NULL, "more" },
	{ 3, NULL, 'p', "PORTS", "ports" },
};
static const struct cli_command command = { .name = "run", .options = options, .option_count = 3 };

static int parse(struct cli_parser *p, const char **ret_value)
{
	*ret_value = NULL;
	return cli_next(p, ret_value);
}

static void takes_all_spellings(void)
{
	const char *argv[] = { "run", "--memory=1M", "--memory", "2M", "-m3M", "-vm",
			       "4M",  "image",       "-v",       "--", "-x" };
	struct cli_parser p;
	const char *value;
	cli_parser_init(&p, &command, 11, (char **)argv);
	CHECK_EQ(parse(&p, &value), 1);
	CHECK_STR(value, "1M");
	CHECK_EQ(parse(&p, &value), 1);
	CHECK_STR(value, "2M");
	CHECK_EQ(parse(&p, &value), 1);
	CHECK_STR(value, "3M");
	CHECK_EQ(parse(&p, &value), 2);
	CHECK_EQ(parse(&p, &value), 1);
	CHECK_STR(value, "4M");
	CHECK_EQ(parse(&p, &value), CLI_OPERAND);
	CHECK_STR(value, "image");
	CHECK_EQ(parse(&p, &value), 2);
	CHECK_EQ(parse(&p, &value), CLI_END);
	CHECK_STR(argv[p.index], "-x");
}

static void refuses(void)
{
	static const char *const bad[] = { "--memroy", "--verbose=1", "--memory",
					   "-q",       "-p",          "--mem" };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		const char *argv[] = { "run", bad[i] };
		struct cli_parser p;
		const char *value;
		cli_parser_init(&p, &command, 2, (char **)argv);
		CHECK_EQ(parse(&p, &value), CLI_BAD);
	}
}

static void reads_sizes(void)
{
	uint64_t v = 0;
	CHECK_EQ(cli_parse_size("64M", &v), 0);
	CHECK_EQ(v, 64 << 20);
	CHECK_EQ(cli_parse_size("2g", &v), 0);
	CHECK_EQ(v, 2ll << 30);
	CHECK_EQ(cli_parse_size("4096", &v), 0);
	CHECK_EQ(v, 4096);
	CHECK_EQ(cli_parse_size("", &v), -WH_EINVAL);
	CHECK_EQ(cli_parse_size("M", &v), -WH_EINVAL);
	CHECK_EQ(cli_parse_size("1MM", &v), -WH_EINVAL);
	CHECK_EQ(cli_parse_size("-1", &v), -WH_EINVAL);
	CHECK_EQ(cli_parse_size("99999999999999999999", &v), -WH_ERANGE);
	CHECK_EQ(cli_parse_size("99999999T", &v), -WH_ERANGE);
}

int main(void)
{
	RUN(takes_all_spellings);
	RUN(refuses);
	RUN(reads_sizes);
	return test_end();
}
