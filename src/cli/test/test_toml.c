/* SPDX-License-Identifier: ISC */
#include <stdio.h>
#include <string.h>
#include <wherry/base/errors.h>
#include <wherry/test.h>

#include "../toml.h"

static struct wh_diag diag;

static struct toml *parse(const char *text)
{
	struct toml *root = NULL;
	int error = toml_parse(text, wh_strlen(text), &root, &diag);
	CHECK(error == 0 || error == -WH_EINVAL);
	return root;
}

static void values(void)
{
	struct toml *root = parse("# first\r\n"
				  "a = \"x\\ty\\u00e9\\U0001F600\" # behind\n"
				  "'b c' = 'C:\\dir'\n"
				  "\"d\".e-1 = -1_000\n"
				  "d.f = [1, 0xfF, 0o17, 0b11, # more\n  +9223372036854775807,\n]\n"
				  "g = { h = true, i.j = [ [], ['k'] ] }\n"
				  "m = \"\"\"\none\\\n   two\"\"\"\"\n"
				  "n = '''\n'quoted'\n'''\n"
				  "[t.u]\nv = false\n[t]\nw = -9223372036854775808\n");
	CHECK(root);
	CHECK_STR(toml_get(root, "a")->text, "x\ty\xc3\xa9\xf0\x9f\x98\x80");
	CHECK_STR(toml_get(root, "b c")->text, "C:\\dir");
	struct toml *d = toml_get(root, "d");
	CHECK_EQ(toml_get(d, "e-1")->number, -1000);
	const struct toml *n = toml_get(d, "f")->first;
	const int64_t wanted[] = { 1, 255, 15, 3, INT64_MAX };
	for (unsigned i = 0; i < 5; i++, n = n->next)
		CHECK_EQ(n->number, wanted[i]);
	CHECK(!n);
	struct toml *g = toml_get(root, "g");
	CHECK_EQ(toml_get(g, "h")->number, 1);
	CHECK_STR(toml_get(toml_get(g, "i"), "j")->first->next->first->text, "k");
	CHECK_STR(toml_get(root, "m")->text, "onetwo\"");
	CHECK_STR(toml_get(root, "n")->text, "'quoted'\n");
	struct toml *t = toml_get(root, "t");
	CHECK_EQ(toml_get(t, "w")->number, INT64_MIN);
	CHECK_STR(toml_untaken(root)->key, "u");
	CHECK_EQ(toml_get(toml_get(t, "u"), "v")->number, 0);
	CHECK(!toml_untaken(root));
	CHECK(!toml_get(root, "z"));
	toml_free(root);
}

static void refusals(void)
{
	static const char *const bad[] = {
		"a",
		"a = ",
		"= 1",
		"a = 1 b = 2",
		"a = 1\na = 2",
		"a.b = 1\na = 2",
		"a = 1\na.b = 2",
		"[a]\n[a]",
		"[a]\nb = 1\n[a.b]",
		"a = {b = 1}\n[a.c]",
		"a = {b = 1}\na.c = 2",
		"[a.b]\n[a]\nb.c = 1",
		"a.b = 1\n[a]",
		"[[a]]",
		"[a",
		"a = [1",
		"a = [1 2]",
		"a = {b = 1,}",
		"a = {b = 1\n}",
		"a = \"x",
		"a = \"\n\"",
		"a = \"\\q\"",
		"a = \"\\u12\"",
		"a = \"\\ud800\"",
		"a = \"\\u0000\"",
		"a = \"\x01\"",
		"a = \"\xff\"",
		"a = '\xc0\x80'",
		"a = \"\xed\xa0\x80\"",
		"a = 1.5",
		"a = 1979-05-27",
		"a = 012",
		"a = 1__0",
		"a = 1_",
		"a = +0x1",
		"a = 9223372036854775808",
		"a = tru",
		"a = truex",
		"a = nan",
		"# \x01",
		"a = '''x",
		"a\r = 1",
		"[]",
		"[a.]",
		"a = 0x",
		"a = [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]",
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		struct toml *root = parse(bad[i]);
		if (root)
			printf("taken: %s\n", bad[i]);
		CHECK(!root);
		toml_free(root);
	}
	CHECK(!parse("a = 1\n\nb = [1,\n2,\n x]\n"));
	CHECK(!strncmp(diag.text, "line 5: ", 8));
}

static void empty(void)
{
	struct toml *root = parse("");
	CHECK(root && !root->first);
	toml_free(root);
	root = parse("\n# only a comment");
	CHECK(root && !root->first);
	toml_free(root);
}

int main(void)
{
	RUN(values);
	RUN(refusals);
	RUN(empty);
	return test_end();
}
