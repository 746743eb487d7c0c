/* SPDX-License-Identifier: ISC */
/*
 * One-file commits per second and reads by path, on a repository that is there.
 * usage: bench-store-commits wherry|libgit2|wherry-read|libgit2-read REPO SECONDS BATCH
 * The files are dNNN/fNNN (or fNNN at the root when there are no folders); each commit changes one. BATCH > 1: so many commits
 * share a flush.
 */
#include <git2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wherry/base/assert.h>
#include <wherry/os.h>
#include <wherry/store.h>

void wh_assert_failed(const char *what, const char *file, int line)
{
	fprintf(stderr, "%s %s:%d\n", what, file, line);
	abort();
}

static char **paths;
static size_t path_count;

static void die(const char *what)
{
	const git_error *e = git_error_last();
	fprintf(stderr, "%s: %s\n", what, e ? e->message : "?");
	exit(1);
}

static int collect(void *ctx, char change, const char *path, const struct wh_store_entry *o,
		   const struct wh_store_entry *n)
{
	paths = realloc(paths, (path_count + 1) * sizeof *paths);
	paths[path_count++] = strdup(path);
	return 0;
}

static void list_paths(const char *repo)
{
	struct wh_store_config c = { .size = sizeof c, .path = repo };
	struct wh_store *s;
	struct wh_store_id head, zero = { { 0 } };
	struct wh_store_commit commit;
	if (wh_store_open(&c, &s, NULL) < 0 || wh_store_branch_head(s, "main", &head) < 0 ||
	    wh_store_commit_read(s, &head, &commit) < 0)
		die("list");
	wh_store_diff(s, &zero, &commit.tree, collect, NULL);
	wh_store_commit_fini(&commit);
	wh_store_close(s);
}

static unsigned run_wherry(const char *repo, uint64_t end, unsigned batch)
{
	struct wh_store_config c = { .size = sizeof c, .path = repo };
	struct wh_store *s;
	struct wh_diag diag = { "" };
	unsigned n = 0;
	if (wh_store_open(&c, &s, &diag) < 0)
		die(diag.text);
	while (wh_os_now() < end) {
		struct wh_store_tx *tx;
		char text[64];
		struct wh_store_commit_config k = { .message = "change", .deferred = batch > 1 };
		size_t size = (size_t)snprintf(text, sizeof text, "value %u %llu\n", n,
					       (unsigned long long)wh_os_now());
		if (wh_store_tx_begin(s, "main", &tx, &diag) < 0 ||
		    wh_store_tx_put(tx, paths[(n * 7919u) % path_count], text, size, 0, &diag) <
			    0 ||
		    wh_store_tx_commit(tx, &k, NULL, &diag) < 0)
			die(diag.text);
		wh_store_tx_free(tx);
		n++;
		if (batch > 1 && n % batch == 0 && wh_store_flush(s, &diag) < 0)
			die(diag.text);
	}
	wh_store_flush(s, &diag);
	wh_store_close(s);
	return n;
}

static unsigned run_libgit2(const char *repo, uint64_t end)
{
	git_repository *r;
	git_signature *sig;
	unsigned n = 0;
	if (git_repository_open(&r, repo) || git_signature_new(&sig, "a", "a@b", 1, 0))
		die("open");
	git_libgit2_opts(GIT_OPT_ENABLE_FSYNC_GITDIR, 1);
	while (wh_os_now() < end) {
		git_oid blob, tree_id, head, id;
		git_commit *parent;
		git_tree *tree, *new_tree;
		char text[64];
		size_t size = (size_t)snprintf(text, sizeof text, "value %u %llu\n", n,
					       (unsigned long long)wh_os_now());
		if (git_reference_name_to_id(&head, r, "refs/heads/main") ||
		    git_commit_lookup(&parent, r, &head) || git_commit_tree(&tree, parent) ||
		    git_blob_create_from_buffer(&blob, r, text, size))
			die("begin");
		git_tree_update u = { GIT_TREE_UPDATE_UPSERT, blob, GIT_FILEMODE_BLOB,
				      paths[(n * 7919u) % path_count] };
		if (git_tree_create_updated(&tree_id, r, tree, 1, &u) ||
		    git_tree_lookup(&new_tree, r, &tree_id) ||
		    git_commit_create_v(&id, r, "refs/heads/main", sig, sig, NULL, "change",
					new_tree, 1, parent))
			die("commit");
		git_commit_free(parent);
		git_tree_free(tree);
		git_tree_free(new_tree);
		n++;
	}
	git_signature_free(sig);
	git_repository_free(r);
	return n;
}

static unsigned read_wherry(const char *repo, uint64_t end)
{
	struct wh_store_config c = { .size = sizeof c, .path = repo };
	struct wh_store *s;
	struct wh_store_id head;
	struct wh_store_commit commit;
	struct wh_store_entry e;
	unsigned n = 0;
	void *data;
	size_t size;
	if (wh_store_open(&c, &s, NULL) < 0 || wh_store_branch_head(s, "main", &head) < 0 ||
	    wh_store_commit_read(s, &head, &commit) < 0)
		die("open");
	for (; n % 64 || wh_os_now() < end; n++) {
		if (wh_store_lookup(s, &commit.tree, paths[(n * 7919u) % path_count], &e) < 0 ||
		    wh_store_blob_read(s, &e.id, &data, &size) < 0)
			die("read");
		free(data);
	}
	wh_store_commit_fini(&commit);
	wh_store_close(s);
	return n;
}

static unsigned read_libgit2(const char *repo, uint64_t end)
{
	git_repository *r;
	git_object *tree;
	unsigned n = 0;
	if (git_repository_open(&r, repo) || git_revparse_single(&tree, r, "main^{tree}"))
		die("open");
	for (; n % 64 || wh_os_now() < end; n++) {
		git_tree_entry *e;
		git_blob *b;
		if (git_tree_entry_bypath(&e, (git_tree *)tree, paths[(n * 7919u) % path_count]) ||
		    git_blob_lookup(&b, r, git_tree_entry_id(e)))
			die("read");
		git_blob_free(b);
		git_tree_entry_free(e);
	}
	git_object_free(tree);
	git_repository_free(r);
	return n;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: bench-store-commits MODE REPO SECONDS BATCH\n");
		return 2;
	}
	git_libgit2_init();
	list_paths(argv[2]);
	double seconds = atof(argv[3]);
	uint64_t begin = wh_os_now(), end = begin + (uint64_t)(seconds * 1e9);
	unsigned n = !strcmp(argv[1], "wherry") ? run_wherry(argv[2], end, (unsigned)atoi(argv[4]))
		     : !strcmp(argv[1], "libgit2")     ? run_libgit2(argv[2], end)
		     : !strcmp(argv[1], "wherry-read") ? read_wherry(argv[2], end)
						       : read_libgit2(argv[2], end);
	printf("%.0f\n", n / ((double)(wh_os_now() - begin) / 1e9));
	return 0;
}
