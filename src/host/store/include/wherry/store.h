/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_STORE_H
#define WHERRY_STORE_H

/*
 * A branching data store on Git's format. On disk it is a bare Git repository that `git` may read and
 * write at any moment; on top are branches, transactions with snapshot reads and three-way merge at
 * commit, immutable trees and commits by hash, history, and calls when a branch moves.
 *
 * Durability. A commit's objects are written as ordinary loose objects and, once more, into a journal in
 * `wherry/` inside the repository; one fdatasync of the journal makes the commit durable. After a power cut the next
 * wh_store_open writes again from the journal what the file system lost (README.md has the reasoning).
 *
 * Threads: a store and what was made from it belong to one thread; different processes and stores may use
 * one repository at once. Errors are -WH_E*, with a line for people in the optional diag. Nothing prints.
 *
 *	struct wh_store_config c = { .size = sizeof c, .path = "data.git" };
 *	wh_store_open(&c, &store, &diag);
 *	wh_store_tx_begin(store, "main", &tx, &diag);
 *	wh_store_tx_put(tx, "motd", "hello\n", 6, 0, &diag);
 *	wh_store_tx_commit(tx, &(struct wh_store_commit_config){ .message = "greet" }, &id, &diag);
 *	wh_store_tx_free(tx);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/diag.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_store;
struct wh_store_tx;
struct wh_store_tree;
struct wh_store_node;

/* ---- limits ---- */

#define WH_STORE_NAME_SIZE_MAX 255u   /* of one path element: what 9P and Linux can carry */
#define WH_STORE_PATH_SIZE_MAX 4095u  /* of a whole path: PATH_MAX - 1 */
#define WH_STORE_DEPTH_MAX 256u       /* of nested folders: what recursion may use */
#define WH_STORE_BRANCH_SIZE_MAX 200u /* leaves room for ".lock" in a file name */
#define WH_STORE_FILE_SIZE_MAX \
	(1ull                  \
	 << 30) /* of a file that is held in memory: executables, links, blobs that git wrote */
#define WH_STORE_LARGE_MIN (32u << 20) /* a normal file that is larger is kept in chunks */
#define WH_STORE_LARGE_SIZE_MAX \
	(1ull << 44) /* of such a file: names of chunks have 12 digits, trees must be held */

/* ---- names of objects ---- */

struct wh_store_id {
	uint8_t bytes[32]; /* SHA-1 uses 20, the rest is zero */
};

#define WH_STORE_HEX_SIZE 40u

bool wh_store_id_is_zero(const struct wh_store_id *id);
bool wh_store_id_equal(const struct wh_store_id *a, const struct wh_store_id *b);
/* 40 digits and a NUL. */
void wh_store_id_format(const struct wh_store_id *id, char ret_hex[WH_STORE_HEX_SIZE + 1]);
/* Exactly 40 hexadecimal digits; else -WH_EINVAL. */
int wh_store_id_parse(const char *hex, size_t size, struct wh_store_id *ret_id);

/* Kinds of entries are Git's modes. */
#define WH_STORE_DIR 0040000u
#define WH_STORE_FILE 0100644u
#define WH_STORE_EXECUTABLE 0100755u
#define WH_STORE_SYMLINK 0120000u
#define WH_STORE_LARGE 0100640u     /* a normal file that is kept in chunks: see below */
#define WH_STORE_SUBMODULE 0160000u /* shown as an empty folder, kept as it is */

struct wh_store_entry {
	uint32_t mode;
	struct wh_store_id id;
	const char *name; /* of the entry; borrowed from the tree; not terminated */
	size_t name_size;
};

/* ---- open ---- */

/* Makes an empty repository (or accepts one that is there). */
int wh_store_init(const char *path, struct wh_diag *diag);

struct wh_store_config {
	size_t size;      /* sizeof(struct wh_store_config) */
	const char *path; /* of a bare repository, or of a work tree's .git */
	/* Called inside wh_store_flush and wh_store_poll after a branch moved (zero = none). Must not change the
	 * store; may begin transactions and read. */
	void (*moved)(void *ctx, const char *branch, const struct wh_store_id *old_id,
		      const struct wh_store_id *new_id);
	void *ctx;
	size_t journal_size; /* bytes of one journal file; 0 = 4 MiB */
	bool watch;          /* notice what others do to branches: see wh_store_fd */
};

int wh_store_open(const struct wh_store_config *config, struct wh_store **ret_store,
		  struct wh_diag *diag);
/* Flushes what is staged. Everything made from the store was freed before. */
void wh_store_close(struct wh_store *store);

/* With config.watch: readable when others changed branches; then call wh_store_poll, which calls `moved`. */
int wh_store_fd(const struct wh_store *store);
int wh_store_poll(struct wh_store *store);

struct wh_store_stats {
	uint64_t commits, merges, conflicts, flushes, syncs;
	uint64_t objects_written, bytes_written, journal_bytes;
	uint64_t trees_cached_bytes, transactions_open, nodes_live, checkpoints;
};
void wh_store_stats(const struct wh_store *store, struct wh_store_stats *ret_stats);
const char *wh_store_path(const struct wh_store *store); /* of the Git directory */

/* ---- branches ---- */

/* A-Z a-z 0-9 / - _ . and what Git says about ref names. */
bool wh_store_branch_valid(const char *name);
/* -WH_ENOENT: no such branch, or one without commits. */
int wh_store_branch_head(struct wh_store *store, const char *branch, struct wh_store_id *ret_id);
/* Calls fn for each branch, sorted; stops when it returns nonzero, and returns that. */
int wh_store_branch_each(struct wh_store *store,
			 int (*fn)(void *ctx, const char *branch, const struct wh_store_id *head),
			 void *ctx);
/* Compare and set, durable on return. expected: NULL = whatever is there; zero = must not exist. to: NULL =
 * delete. -WH_EAGAIN: it is something else; -WH_EBUSY: another process holds its lock. */
int wh_store_branch_set(struct wh_store *store, const char *branch,
			const struct wh_store_id *expected, const struct wh_store_id *to,
			struct wh_diag *diag);
/* Moves a branch forward to a commit that its head leads to. -WH_EPERM "not-fast-forward". */
int wh_store_branch_forward(struct wh_store *store, const char *branch,
			    const struct wh_store_id *to, struct wh_diag *diag);
int wh_store_branch_rename(struct wh_store *store, const char *from, const char *to,
			   struct wh_diag *diag);
/* Merges a commit into a branch without a transaction's edits, as wh_store_tx_commit would. */
int wh_store_branch_merge(struct wh_store *store, const char *branch,
			  const struct wh_store_id *commit, const char *message,
			  struct wh_store_id *ret_head, struct wh_diag *diag);

/* ---- reading ---- */

struct wh_store_commit {
	struct wh_store_id tree;
	struct wh_store_id *parents;
	unsigned parent_count;
	int64_t time_s;
	char *author;  /* "name <mail>" */
	char *message; /* NUL-terminated */
};

int wh_store_commit_read(struct wh_store *store, const struct wh_store_id *id,
			 struct wh_store_commit *ret_commit);
void wh_store_commit_fini(struct wh_store_commit *commit);
/* 1 = `old` is `id` or one of its ancestors, 0 = it is not, or an error. */
int wh_store_leads_to(struct wh_store *store, const struct wh_store_id *old,
		      const struct wh_store_id *id);

/* Trees are immutable and kept in a cache; unref when done. The zero id is the empty tree. */
int wh_store_tree_open(struct wh_store *store, const struct wh_store_id *id,
		       struct wh_store_tree **ret_tree);
void wh_store_tree_unref(struct wh_store_tree *tree);
struct wh_store_tree *wh_store_tree_ref(struct wh_store_tree *tree);
size_t wh_store_tree_count(const struct wh_store_tree *tree);
void wh_store_tree_entry(const struct wh_store_tree *tree, size_t index,
			 struct wh_store_entry *ret_entry);
/* -WH_ENOENT. */
int wh_store_tree_find(const struct wh_store_tree *tree, const char *name, size_t name_size,
		       struct wh_store_entry *ret_entry);
void wh_store_tree_id(const struct wh_store_tree *tree, struct wh_store_id *ret_id);
/* Follows a path ("" = the tree itself) from a tree. -WH_ENOENT, -WH_ENOTDIR. ret_entry->name is not set. */
int wh_store_lookup(struct wh_store *store, const struct wh_store_id *tree, const char *path,
		    struct wh_store_entry *ret_entry);
/* The whole content; free() it. A NUL that is not counted follows. */
int wh_store_blob_read(struct wh_store *store, const struct wh_store_id *id, void **ret_data,
		       size_t *ret_size);
int wh_store_blob_size(struct wh_store *store, const struct wh_store_id *id, uint64_t *ret_size);
/* -WH_ENOENT or WH_STORE_OBJECT_*. */
/* Large files (mode WH_STORE_LARGE) are folders NAME.wherry-chunks in Git and files here; their id is that of the folder's tree, and
 * blob_read and blob_size take it as well. docs/spec/store-large.md. */
#define WH_STORE_LARGE_SUFFIX ".wherry-chunks"
struct wh_store_file;
int wh_store_file_open(struct wh_store *store, const struct wh_store_id *id,
		       struct wh_store_file **ret_file);
void wh_store_file_close(struct wh_store_file *file);
uint64_t wh_store_file_size(const struct wh_store_file *file);
/* Bytes read; 0 at the end. Keeps some chunks in memory. */
int64_t wh_store_file_read(struct wh_store_file *file, uint64_t offset, void *to, size_t size);
enum wh_store_object {
	WH_STORE_OBJECT_COMMIT = 1,
	WH_STORE_OBJECT_TREE,
	WH_STORE_OBJECT_BLOB,
	WH_STORE_OBJECT_TAG
};
int wh_store_object_kind(struct wh_store *store, const struct wh_store_id *id);

/* Differences between two trees (zero = empty), files only, sorted by path. `change` is '+', '-' or '*'. */
int wh_store_diff(struct wh_store *store, const struct wh_store_id *old_tree,
		  const struct wh_store_id *new_tree,
		  int (*fn)(void *ctx, char change, const char *path,
			    const struct wh_store_entry *old_entry,
			    const struct wh_store_entry *new_entry),
		  void *ctx);
/* Commits from `from` back, newest first, all parents; with `path` only those that changed it. stops when fn
 * returns nonzero, and returns that. */
int wh_store_log(struct wh_store *store, const struct wh_store_id *from, const char *path,
		 int (*fn)(void *ctx, const struct wh_store_id *id,
			   const struct wh_store_commit *commit),
		 void *ctx);

/* ---- transactions ---- */

int wh_store_tx_begin(struct wh_store *store, const char *branch, struct wh_store_tx **ret_tx,
		      struct wh_diag *diag);
void wh_store_tx_free(struct wh_store_tx *tx); /* drops what was not committed */

/* By path; missing folders are made. mode 0 = keep the present kind, or a normal file. */
int wh_store_tx_put(struct wh_store_tx *tx, const char *path, const void *data, size_t size,
		    uint32_t mode, struct wh_diag *diag);
int wh_store_tx_remove(struct wh_store_tx *tx, const char *path, struct wh_diag *diag);
/* -WH_ENOENT; the data is free()d by the caller. */
int wh_store_tx_get(struct wh_store_tx *tx, const char *path, void **ret_data, size_t *ret_size);

/* Changes as text, one a line: `message TEXT`, `head HASH|-`, `if PATH HASH|-`, `put PATH TEXT`, `data PATH SIZE` and the bytes,
 * `program PATH SIZE`, `rm PATH`, `mv FROM TO`; docs/spec/store-apply.md. text has room for one byte more and is used up;
 * ret_message (NULL = there is none) lies in it. -WH_EAGAIN: a condition does not hold. */
int wh_store_tx_apply(struct wh_store_tx *tx, char *text, size_t size, const char **ret_message,
		      struct wh_diag *diag);

/* Parents as they will be recorded. Initially the head. */
unsigned wh_store_tx_parents(const struct wh_store_tx *tx, const struct wh_store_id **ret_ids);
int wh_store_tx_set_parents(struct wh_store_tx *tx, const struct wh_store_id *ids, unsigned count);

enum wh_store_durability {
	WH_STORE_SYNC, /* on the disk when the call returns (deferred: when wh_store_flush returns) */
	WH_STORE_LAZY, /* on the disk with the next commit that syncs, or wh_store_sync */
};

struct wh_store_commit_config {
	const char *message;       /* NULL or "": "(no commit message)" */
	const char *author, *mail; /* NULL: datakit, datakit@mobyproject.org */
	enum wh_store_durability durability;
	/* Only staged: other commits may join; nobody sees it before wh_store_flush, and it must not be called done
	 * before that has returned 0. */
	bool deferred;
};

/* Makes a commit and merges it into the branch. ret_id: what the branch's head became. The transaction is used up on
 * success; after -WH_ECONFLICT (WH_STORE_ECONFLICT) it is as it was, and diag says "Merge conflict: ...". */
#define WH_STORE_ECONFLICT WH_ECANCELED
int wh_store_tx_commit(struct wh_store_tx *tx, const struct wh_store_commit_config *config,
		       struct wh_store_id *ret_id, struct wh_diag *diag);
/* Makes everything staged durable and visible. On failure none of it is. */
int wh_store_flush(struct wh_store *store, struct wh_diag *diag);
bool wh_store_staged(const struct wh_store *store);
/* Lazy commits become durable. */
int wh_store_sync(struct wh_store *store);

/* Merges a commit into the transaction's tree; conflicts stay as data. The present tree is committed first (dangling)
 * when it differs from the head. ret ids of the three sides may be NULL. Returns the number of new conflicts. */
int wh_store_tx_merge(struct wh_store_tx *tx, const struct wh_store_id *commit,
		      struct wh_diag *diag);
struct wh_store_sides {
	struct wh_store_id ours, theirs, base; /* trees; base zero = none */
};
/* NULL before the first merge. */
const struct wh_store_sides *wh_store_tx_sides(const struct wh_store_tx *tx);
/* Paths that still conflict, sorted. */
size_t wh_store_tx_conflicts(const struct wh_store_tx *tx, const char *const **ret_paths);
/* The tree as it would be committed; staged, so that it can be read. */
int wh_store_tx_tree(struct wh_store_tx *tx, struct wh_store_id *ret_tree);

/* ---- a transaction's tree, node by node (for file systems) ---- */

/* Nodes are counted; a removed node stays readable for who holds it. They outlive neither the transaction nor the store. */
struct wh_store_node *wh_store_tx_root(struct wh_store_tx *tx); /* a reference */
struct wh_store_node *wh_store_node_ref(struct wh_store_node *node);
void wh_store_node_unref(struct wh_store_node *node);
struct wh_store_node *
wh_store_node_parent(struct wh_store_node *node); /* a reference; the root's is the root */
uint32_t wh_store_node_mode(const struct wh_store_node *node);
uint64_t wh_store_node_serial(const struct wh_store_node *node); /* stable, unique in the process */
int wh_store_node_size(struct wh_store_node *node, uint64_t *ret_size);
const char *wh_store_node_name(const struct wh_store_node *node);
int wh_store_node_find(struct wh_store_node *dir, const char *name, size_t size,
		       struct wh_store_node **ret_node);
/* Calls fn with each child's name and mode, in no stated order. */
int wh_store_node_each(struct wh_store_node *dir,
		       int (*fn)(void *ctx, const char *name, size_t size, uint32_t mode),
		       void *ctx);
/* Makes or truncates a file; -WH_EISDIR over a folder. mode WH_STORE_DIR: -WH_EEXIST when something is there. */
int wh_store_node_create(struct wh_store_node *dir, const char *name, size_t size, uint32_t mode,
			 struct wh_store_node **ret_node);
int wh_store_node_remove(struct wh_store_node *node); /* -WH_EPERM: the root */
/* -WH_EISDIR: a folder is there; -WH_EINVAL: into itself. */
int wh_store_node_rename(struct wh_store_node *node, struct wh_store_node *to_dir, const char *name,
			 size_t size);
int64_t wh_store_node_read(struct wh_store_node *file, uint64_t offset, void *to, size_t size);
int wh_store_node_write(struct wh_store_node *file, uint64_t offset, const void *from, size_t size);
int wh_store_node_truncate(struct wh_store_node *file, uint64_t size);
int wh_store_node_set_mode(struct wh_store_node *file, uint32_t mode);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
