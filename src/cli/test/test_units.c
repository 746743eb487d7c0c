/* SPDX-License-Identifier: ISC */
#include <wherry/base/errors.h>
#include <wherry/test.h>

#include "../units.h"

static struct units units;
static struct wh_diag diag;

static int parse(const char *text)
{
	static char copy[4096];
	units_free(&units);
	memcpy(copy, text, wh_strlen(text) + 1);
	return units_parse(copy, &units, &diag);
}

static void chains(void)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	CHECK_EQ(parse("wherry-units 1\navailable 9\n"
		       "unit write 100 libc.a(w.lo) wh_sys_write\n"
		       "via libc.a(w.lo) main.c puts\n"
		       "unit fd 50 @write fd_get\n"
		       "missing fork main.c fork\n"),
		 0);
	CHECK_EQ(units.available, 9);
	CHECK_EQ(units_count(&units, UNITS_UNIT), 2);
	CHECK_EQ(units_count(&units, UNITS_MISSING), 1);
	CHECK_EQ(units_chain(&units, &units.entry[2], chain), 3);
	CHECK_STR(chain[0]->symbol, "fd_get");
	CHECK_STR(chain[2]->by, "main.c");
	CHECK_EQ(units_chain(&units, &units.entry[3], chain), 1);
}

static void parts(void)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	CHECK_EQ(parse("wherry-units 2\navailable 9\n"
		       "via libc.a(w.lo) main.c puts\n"
		       "part libc.a(w.lo) 70 main.c puts\n"
		       "part main.c 30 - -\n"),
		 0);
	CHECK_EQ(units_count(&units, UNITS_PART), 2);
	CHECK_EQ(units.entry[1].size, 70);
	CHECK_STR(units.entry[2].by, "-");
	CHECK_EQ(units_chain(&units, &units.entry[1], chain), 1);
	CHECK_EQ(parse("wherry-units 2\navailable 9\npart main.c - -\n"), -WH_EINVAL);
}

static void loops_end(void)
{
	const struct units_entry *chain[UNITS_CHAIN_MAX];
	CHECK_EQ(parse("wherry-units 1\navailable 2\nunit a 1 @b x\nunit b 1 @a y\n"), 0);
	CHECK_EQ(units_chain(&units, &units.entry[0], chain), UNITS_CHAIN_MAX);
}

static void refusals(void)
{
	CHECK_EQ(parse(""), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 3\navailable 1\n"), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 1\navailable x\n"), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 1\navailable 1\nunit a b c d\n"), -WH_EINVAL);
	CHECK_STR(diag.text, "unit list: line 3 is malformed");
	CHECK_EQ(parse("wherry-units 1\navailable 1\nunit a 1 b\n"), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 1\navailable 1\nunit a 1 b c d\n"), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 1\navailable 1\nelse a b c\n"), -WH_EINVAL);
	CHECK_EQ(parse("wherry-units 1\navailable 1\n\n"), -WH_EINVAL);
}

int main(void)
{
	RUN(chains);
	RUN(parts);
	RUN(loops_end);
	RUN(refusals);
	units_free(&units);
	return test_end();
}
