/* SPDX-License-Identifier: ISC */
/* Branches, transactions and merges, with git as the judge of what is on disk. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/store.h>
#include <wherry/test.h>

static char dir[64];
static struct wh_store *store;
static struct wh_diag diag;
static unsigned moves;

static int sh(const char *format, const char *a)
{
	char command[1024], full[1200];
	snprintf(command, sizeof command, format, a);
	snprintf(full, sizeof full, "cd %s && %s", dir, command);
	return system(full);
}

static void on_move(void *ctx, const char *branch, const struct wh_store_id *old_id,
		    const struct wh_store_id *new_id)
{
	moves++;
}

static void open_store(void)
{
	struct wh_store_config c = {
		.size = sizeof c, .path = dir, .moved = on_move, .watch = true
	};
	CHECK_EQ(wh_store_open(&c, &store, &diag), 0);
}

static void begin(void)
{
	snprintf(dir, sizeof dir, "/tmp/wherry-store-XXXXXX");
	CHECK(mkdtemp(dir));
	CHECK_EQ(wh_store_init(dir, &diag), 0);
	open_store();
}

static void end(void)
{
	wh_store_close(store);
	store = NULL;
	CHECK_EQ(sh("git fsck --strict --no-dangling >fsck 2>&1%s", ""), 0);
	CHECK_EQ(sh("rm -rf %s", dir), 0);
}

static struct wh_store_id put(const char *branch, const char *path, const char *text)
{
	struct wh_store_tx *tx;
	struct wh_store_id id;
	CHECK_EQ(wh_store_tx_begin(store, branch, &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, path, text, strlen(text), 0, &diag), 0);
	struct wh_store_commit_config c = { .message = path };
	CHECK_EQ(wh_store_tx_commit(tx, &c, &id, &diag), 0);
	wh_store_tx_free(tx);
	return id;
}

static void get_is(const char *branch, const char *path, const char *wanted)
{
	struct wh_store_id head;
	struct wh_store_commit c;
	struct wh_store_entry e;
	void *data;
	size_t size;
	CHECK_EQ(wh_store_branch_head(store, branch, &head), 0);
	CHECK_EQ(wh_store_commit_read(store, &head, &c), 0);
	int r = wh_store_lookup(store, &c.tree, path, &e);
	wh_store_commit_fini(&c);
	if (!wanted) {
		CHECK_EQ(r, -WH_ENOENT);
		return;
	}
	CHECK_EQ(r, 0);
	CHECK_EQ(wh_store_blob_read(store, &e.id, &data, &size), 0);
	CHECK_STR(data, wanted);
	free(data);
}

static void commits(void)
{
	begin();
	struct wh_store_id id, zero = { { 0 } };
	CHECK_EQ(wh_store_branch_head(store, "main", &id), -WH_ENOENT);
	put("main", "a", "1");
	put("main", "d/e/f", "deep");
	put("main", "d.x", "order");
	put("main", "a", "2");
	get_is("main", "a", "2");
	get_is("main", "d/e/f", "deep");
	get_is("main", "d/e/g", NULL);
	CHECK_EQ(sh("test \"$(git log --oneline main | wc -l)\" = 4 %s", ""), 0);
	CHECK_EQ(sh("test \"$(git show main:a)\" = 2 %s", ""), 0);
	/* what git does is seen */
	CHECK_EQ(sh("git update-ref refs/heads/main main~1 && git pack-refs --all && git gc -q %s",
		    ""),
		 0);
	moves = 0;
	CHECK_EQ(wh_store_poll(store), 0);
	CHECK_EQ(moves, 1);
	get_is("main", "a", "1");
	id = put("main", "b", "3");
	CHECK_EQ(wh_store_branch_set(store, "other", &zero, &id, &diag), 0);
	CHECK_EQ(wh_store_branch_set(store, "other", &zero, &id, &diag), -WH_EAGAIN);
	CHECK_EQ(wh_store_branch_rename(store, "other", "x/y", &diag), 0);
	CHECK_EQ(wh_store_branch_head(store, "other", &id), -WH_ENOENT);
	get_is("x/y", "b", "3");
	CHECK_EQ(wh_store_branch_set(store, "x/y", NULL, NULL, &diag), 0);
	put("x", "b", "4"); /* where a folder was */
	get_is("x", "b", "4");
	end();
}

static void removes(void)
{
	begin();
	struct wh_store_tx *tx;
	put("main", "d/a", "1");
	put("main", "d/b", "2");
	put("main", "c", "3");
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "d", &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "d", "now a file", 10, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "c", &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "c", &diag), -WH_ENOENT);
	CHECK_EQ(wh_store_tx_put(tx, "c/x", "now a folder", 12, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, NULL, &diag), 0);
	wh_store_tx_free(tx);
	get_is("main", "d", "now a file");
	get_is("main", "c/x", "now a folder");
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	struct wh_store_node *root = wh_store_tx_root(tx), *c, *x;
	CHECK_EQ(wh_store_node_find(root, "c", 1, &c), 0);
	CHECK_EQ(wh_store_node_find(c, "x", 1, &x), 0);
	CHECK_EQ(wh_store_node_rename(c, c, "in", 2), -WH_EINVAL);
	CHECK_EQ(wh_store_node_rename(x, root, "y", 1), 0);
	CHECK_EQ(wh_store_node_rename(c, root, "e", 1), 0);
	CHECK_EQ(wh_store_node_create(root, ".git", 4, WH_STORE_FILE, &root), -WH_EINVAL);
	wh_store_node_unref(root);
	wh_store_node_unref(c);
	wh_store_node_unref(x);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, NULL, &diag), 0);
	wh_store_tx_free(tx);
	get_is("main", "y", "now a folder");
	get_is("main", "c", NULL);
	get_is("main", "e", NULL); /* empty folders are not kept */
	end();
}

/* The vector of DataKit's own tests. */
static void merge_vector(void)
{
	begin();
	static const char *const base[] = { "a", "b", "c", "d", "e", "f", "dir/a", "dir2/b" };
	struct wh_store_tx *tx;
	struct wh_store_id base_id, theirs;
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(base); i++)
		CHECK_EQ(wh_store_tx_put(tx, base[i], "base", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, &base_id, &diag), 0);
	wh_store_tx_free(tx);
	CHECK_EQ(wh_store_branch_set(store, "theirs", NULL, &base_id, &diag), 0);
	CHECK_EQ(wh_store_tx_begin(store, "theirs", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "a", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "b", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "f", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "e", &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "g", "same", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "h", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "dir/a", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "dir2", &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "dir2", "theirs", 6, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, &theirs, &diag), 0);
	wh_store_tx_free(tx);
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "a", "ours", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "c", "ours", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "d", &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "f", &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "g", "same", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "h", "ours", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_remove(tx, "dir", &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "dir", "ours", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "dir2/b", "ours", 4, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_merge(tx, &theirs, &diag), 5);
	const char *const *paths, *const wanted[] = { "a", "dir", "dir2", "f", "h" };
	CHECK_EQ(wh_store_tx_conflicts(tx, &paths), 5);
	for (unsigned i = 0; i < 5; i++)
		CHECK_STR(paths[i], wanted[i]);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, NULL, &diag), -WH_STORE_ECONFLICT);
	CHECK_STR(diag.text, "conflicts file is not empty");
	void *data;
	size_t size;
	static const char *const now[][2] = { { "b", "theirs" },
					      { "c", "ours" },
					      { "g", "same" },
					      { "f", "** Conflict **\noption: add/del\n" } };
	for (unsigned i = 0; i < WH_ARRAY_COUNT(now); i++) {
		CHECK_EQ(wh_store_tx_get(tx, now[i][0], &data, &size), 0);
		CHECK_STR(data, now[i][1]);
		free(data);
	}
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(wh_store_tx_remove(tx, wanted[i], &diag), 0);
	CHECK_EQ(wh_store_tx_conflicts(tx, NULL), 0);
	CHECK_EQ(wh_store_tx_commit(tx, NULL, NULL, &diag), 0);
	wh_store_tx_free(tx);
	CHECK_EQ(sh("test \"$(git ls-tree --name-only main | tr '\\n' ' ')\" = 'b c g ' && test "
		    "$(git log --format=%%P -1 main | wc -w) = 2 %s",
		    ""),
		 0);
	end();
}

static void concurrent(void)
{
	begin();
	struct wh_store_tx *a, *b;
	struct wh_store_id id;
	put("main", "x", "0");
	CHECK_EQ(wh_store_tx_begin(store, "main", &a, &diag), 0);
	CHECK_EQ(wh_store_tx_begin(store, "main", &b, &diag), 0);
	CHECK_EQ(wh_store_tx_put(a, "a", "1", 1, 0, &diag), 0);
	CHECK_EQ(wh_store_tx_put(b, "b", "1", 1, 0, &diag), 0);
	struct wh_store_commit_config later = { .deferred = true };
	CHECK_EQ(wh_store_tx_commit(a, &later, NULL, &diag), 0);
	CHECK_EQ(wh_store_tx_commit(b, &later, &id, &diag), 0);
	get_is("main", "a", NULL); /* not before the flush */
	CHECK_EQ(wh_store_flush(store, &diag), 0);
	wh_store_tx_free(a);
	wh_store_tx_free(b);
	get_is("main", "a", "1");
	get_is("main", "b", "1");
	CHECK_EQ(wh_store_tx_begin(store, "main", &a, &diag), 0);
	CHECK_EQ(wh_store_tx_put(a, "x", "mine", 4, 0, &diag), 0);
	put("main", "x", "yours");
	diag.text[0] = 0;
	CHECK_EQ(wh_store_tx_commit(a, NULL, NULL, &diag), -WH_STORE_ECONFLICT);
	CHECK_STR(diag.text, "Merge conflict: Changed on both branches");
	wh_store_tx_free(a);
	get_is("main", "x", "yours");
	end();
}

/* Both sides change `path`; what comes out, or NULL for a conflict. */
static void rule_gives(const char *path, const char *base, const char *ours, const char *theirs,
		       const char *wanted)
{
	struct wh_store_tx *tx;
	put("main", path, base);
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, path, theirs, strlen(theirs), 0, &diag), 0);
	put("main", path, ours);
	int r = wh_store_tx_commit(tx, NULL, NULL, &diag);
	wh_store_tx_free(tx);
	CHECK_EQ(r, wanted ? 0 : -WH_STORE_ECONFLICT);
	get_is("main", path, wanted ? wanted : ours);
}

static void merge_rules(void)
{
	begin();
	put("main", ".wherry-merge",
	    "# rules\n*.txt line\nlog/** union\n*.count counter\n*.json json-keys\nlast "
	    "last-writer\nmine ours\nodd future\n");
	rule_gives("a.txt", "1\n2\n3\n4\n5\n", "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n",
		   "one\n2\n3\n4\nfive\n");
	rule_gives("b.txt", "1\n", "2\n", "3\n", NULL);
	rule_gives("sub/c.txt", "1\n", "2\n1\n", "1\n", "2\n1\n");
	rule_gives("log/x/y", "1\n", "1\n2\n", "1\n3\n", "1\n2\n3\n");
	rule_gives("n.count", "10\n", "15\n", "8\n", "13\n");
	rule_gives("bad.count", "10\n", "x\n", "8\n", NULL);
	rule_gives("big.count", "-1", "9223372036854775807", "5", NULL);
	rule_gives("last", "1", "2", "3", "3");
	rule_gives("mine", "1", "2", "3", "2");
	rule_gives("odd", "1", "2", "3", NULL);
	rule_gives("none", "1", "2", "3", NULL);
	rule_gives("bad.json", "{}", "{\"a\":1}", "{\"a\":2}", NULL);
	rule_gives("no.json", "{}", "{\"a\":1}", "not json", NULL);
	put("main", "k.json", "{\"a\":1,\"o\":{\"x\":1,\"y\":2},\"gone\":0}");
	struct wh_store_tx *tx;
	void *data;
	size_t size;
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_put(tx, "k.json", "{\"a\":1,\"o\":{\"x\":5,\"y\":2},\"new\":[1]}", 35,
				 0, &diag),
		 0);
	put("main", "k.json", "{\"a\":2,\"o\":{\"x\":1,\"y\":3},\"gone\":0}");
	CHECK_EQ(wh_store_tx_commit(tx, NULL, NULL, &diag), 0);
	wh_store_tx_free(tx);
	CHECK_EQ(wh_store_tx_begin(store, "main", &tx, &diag), 0);
	CHECK_EQ(wh_store_tx_get(tx, "k.json", &data, &size), 0);
	char flat[200];
	size_t n = 0;
	for (const char *p = data; *p; p++)
		if (*p != ' ' && *p != '\n' && *p != '\t')
			flat[n++] = *p;
	flat[n] = 0;
	free(data);
	wh_store_tx_free(tx);
	CHECK_STR(flat, "{\"a\":2,\"o\":{\"x\":5,\"y\":3},\"new\":[1]}");
	end();
}

static void path_of(unsigned p, char *to, size_t max)
{
	if (p % 3)
		snprintf(to, max, "d%u/f%u", p % 3, p);
	else
		snprintf(to, max, "f%u", p);
}

/* Random changes from several transactions at once, against a model: paths to values, with the merge's rules. */
static void random_operations(void)
{
	enum { TXS = 4, PATHS = 12 };
	struct wh_store_tx *tx[TXS] = { NULL };
	int value[PATHS], base[TXS][PATHS], mine[TXS][PATHS]; /* 0 = not there */
	uint64_t state = test_seed();
	char path[16], text[16];
	begin();
	memset(value, 0, sizeof value);
	for (int step = 0; step < 3000; step++) {
		unsigned t = wh_random_next(&state) % TXS, p = wh_random_next(&state) % PATHS;
		path_of(p, path, sizeof path);
		if (!tx[t]) {
			CHECK_EQ(wh_store_tx_begin(store, "main", &tx[t], &diag), 0);
			memcpy(base[t], value, sizeof value);
			memcpy(mine[t], value, sizeof value);
		}
		switch (wh_random_next(&state) % 8) {
		case 0: { /* commit */
			int merged[PATHS];
			bool conflict = false;
			for (int i = 0; i < PATHS; i++) {
				int b = base[t][i], o = value[i], m = mine[t][i];
				merged[i] = o == m || m == b ? o : m;
				conflict |= o != m && m != b && o != b;
			}
			diag.text[0] = 0;
			int r = wh_store_tx_commit(tx[t], NULL, NULL, &diag);
			CHECK_EQ(r, conflict ? -WH_STORE_ECONFLICT : 0);
			if (!conflict)
				memcpy(value, merged, sizeof value);
			wh_store_tx_free(tx[t]);
			tx[t] = NULL;
			break;
		}
		case 1:
			CHECK_EQ(wh_store_tx_remove(tx[t], path, NULL),
				 mine[t][p] ? 0 : -WH_ENOENT);
			mine[t][p] = 0;
			break;
		case 2: { /* look */
			void *data;
			size_t size;
			int r = wh_store_tx_get(tx[t], path, &data, &size);
			CHECK_EQ(r, mine[t][p] ? 0 : -WH_ENOENT);
			if (r >= 0) {
				CHECK_EQ(atoi(data), mine[t][p]);
				free(data);
			}
			break;
		}
		default: {
			int v = 1 + (int)(wh_random_next(&state) % 3);
			int n = snprintf(text, sizeof text, "%d", v);
			CHECK_EQ(wh_store_tx_put(tx[t], path, text, (size_t)n, 0, &diag), 0);
			mine[t][p] = v;
		}
		}
	}
	for (int t = 0; t < TXS; t++)
		wh_store_tx_free(tx[t]);
	for (unsigned p = 0; p < PATHS; p++) {
		path_of(p, path, sizeof path);
		snprintf(text, sizeof text, "%d", value[p]);
		get_is("main", path, value[p] ? text : NULL);
	}
	end();
}

int main(void)
{
	RUN(commits);
	RUN(removes);
	RUN(merge_vector);
	RUN(concurrent);
	RUN(merge_rules);
	RUN(random_operations);
	return test_end();
}
