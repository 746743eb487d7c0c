/* SPDX-License-Identifier: ISC */
#ifndef STORE_PRIV_H
#define STORE_PRIV_H

#include <git2.h>
#include <pthread.h>
#include <sys/types.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/list.h>
#include <wherry/base/mem.h>
#include <wherry/store.h>

#define ID_SIZE 20u
#define STAGED_BUCKETS 1024u
#define TREE_BUCKETS 1024u
#define KNOWN_COMMITS 64u
#define TREE_CACHE_MAX (64u << 20)      /* bytes of parsed trees kept for nobody in particular */
#define JOURNAL_OBJECT_MAX (256u << 10) /* larger objects are synced as files instead */
#define STAGED_BYTES_MAX (64u << 20)    /* more is written out before the commit */
#define LOCK_WAIT_MS 1000u              /* for a ref that another process has locked */

/* ---- file operations: all that changes the disk goes through here, so that tests can record it ---- */

struct store_io {
	/* Makes `path` with all of the data, as one step that others see whole: a temporary file and a rename. */
	int (*create)(void *ctx, const char *path, const void *data, size_t size, bool sync);
	int (*pwrite)(void *ctx, int fd, const char *path, const void *data, size_t size,
		      uint64_t at);
	int (*datasync)(void *ctx, int fd, const char *path);
	int (*rename)(void *ctx, const char *from, const char *to);
	int (*link)(void *ctx, const char *from, const char *to); /* -WH_EEXIST */
	int (*unlink)(void *ctx, const char *path);
	int (*open_new)(void *ctx, const char *path, int flags); /* O_EXCL */
	int (*syncfs)(void *ctx, int fd);
	int (*exchange)(void *ctx, const char *a, const char *b); /* both names at once */
	int (*sync_path)(void *ctx, const char *path, bool folder);
	void *ctx;
	bool threads; /* datasync may be called in a thread of its own, beside the others */
};

extern const struct store_io store_io_linux;
/* Tests replace it before wh_store_open. */
extern const struct store_io *store_io_default;

/* ---- objects ---- */

struct staged {
	struct wh_list order; /* in store->staged */
	struct staged *next;  /* in its bucket */
	git_oid id;
	git_object_t type;
	bool written; /* its loose file exists */
	size_t size;
	uint8_t *data;
};

struct staged_ref {
	struct wh_list order;
	git_oid old_id, new_id; /* zero = none */
	bool locked;            /* NAME.lock is ours */
	bool loose;             /* the old value is a file of its own */
	bool lazy;
	char name[WH_STORE_BRANCH_SIZE_MAX + 1];
};

struct wh_store_tree {
	unsigned refs;
	struct wh_store *store;
	struct wh_store_tree *next; /* bucket */
	struct wh_list lru;         /* while unreferenced */
	git_oid id;
	uint8_t *raw;
	size_t raw_size;
	uint32_t *at; /* where each entry begins in raw */
	uint32_t count;
};

struct head_note { /* what `moved` was last told */
	struct head_note *next;
	git_oid id;
	bool seen;
	char name[WH_STORE_BRANCH_SIZE_MAX + 1];
};

struct journal;

/* The file that a branch's value was in before, to be written again: see refs.c. */
#define SPARES 16u
struct spare {
	bool there;
	uint64_t generation; /* of the journal; what is in the file is a step in it */
	char name[WH_STORE_BRANCH_SIZE_MAX + 1];
};

struct wh_store {
	git_repository *repo;
	git_odb *odb;
	char *path; /* of the git directory, with '/' at its end */
	int dir;
	const struct store_io *io;
	struct wh_store_config config;
	struct wh_store_stats stats;
	/* the batch */
	struct wh_list staged, staged_refs;
	struct staged *bucket[STAGED_BUCKETS];
	size_t staged_bytes;
	int lock_fd; /* refs.c: the file whose links are our locks; -1 = not made */
	char *lock_path, *value_path;
	struct spare spare[SPARES];
	bool need_syncfs; /* objects of the batch were written without journal */
	struct known_commit {
		git_oid id, tree;
	} known[KNOWN_COMMITS]; /* by their hash's first byte: the next transaction begins at a recent one */
	/* trees */
	struct wh_store_tree *tree_bucket[TREE_BUCKETS];
	struct wh_list tree_lru;
	size_t tree_bytes; /* of all in the cache */
	struct journal *journal;
	/* watching */
	int inotify;
	struct watch_dir *watch_dirs;
	struct head_note *heads;
	uint64_t serial;
};

static inline struct wh_store_id id_of(const git_oid *o)
{
	struct wh_store_id id = { { 0 } };
	memcpy(id.bytes, o->id, ID_SIZE);
	return id;
}

static inline git_oid oid_of(const struct wh_store_id *id)
{
	git_oid o;
	memset(&o, 0, sizeof o);
	memcpy(o.id, id->bytes, ID_SIZE);
	return o;
}

static inline bool oid_is_zero(const git_oid *o)
{
	return git_oid_is_zero(o);
}

static inline bool oid_eq(const git_oid *a, const git_oid *b)
{
	return !memcmp(a->id, b->id, ID_SIZE);
}

static inline uint32_t oid_bucket(const git_oid *o, uint32_t buckets)
{
	return (o->id[0] | (uint32_t)o->id[1] << 8) % buckets;
}

/* libgit2's answer as ours; with its message in diag. */
int store_git_error(int r, struct wh_diag *diag, const char *what);

int object_backend_add(struct wh_store *s);
/* Takes `data` (malloc) over, whatever happens. */
int object_stage(struct wh_store *s, git_object_t type, void *data, size_t size, git_oid *ret_id);
/* malloc'd, with a NUL behind. */
int object_read(struct wh_store *s, const git_oid *id, git_object_t type, void **ret_data,
		size_t *ret_size);
int object_write_loose(struct wh_store *s, const git_oid *id, git_object_t type, const void *data,
		       size_t size, bool sync);
void object_hash(git_object_t type, const void *data, size_t size, git_oid *ret_id);
/* Are the bytes on disk the object? */
bool object_is_whole(struct wh_store *s, const git_oid *id);
void batch_drop(struct wh_store *s);

int ref_read(struct wh_store *s, const char *branch, git_oid *ret_id);
/* recovering: a value that cannot be read counts as none. */
int ref_stage(struct wh_store *s, const char *branch, bool recovering, struct staged_ref **ret_ref,
	      struct wh_diag *diag);
void ref_unstage(struct wh_store *s, struct staged_ref *r); /* gives the lock back */
int ref_publish(struct wh_store *s, struct staged_ref *r);
struct staged_ref *ref_staged(struct wh_store *s, const char *branch);
void ref_recover_locks(struct wh_store *s);
void ref_close(struct wh_store *s);

int journal_open(struct wh_store *s, struct wh_diag *diag);
void journal_close(struct wh_store *s);
/* One record of all that is staged. Its sync goes on beside what the caller does next; the record counts when
 * journal_wait has answered 0. */
int journal_append(struct wh_store *s, bool sync);
int journal_wait(struct wh_store *s);
/* Does what is staged go beside the journal, because it is too much? Then its files must be there before the record. */
bool journal_is_full_of(const struct wh_store *s);
/* What is staged will not be: each branch is noted as it is. */
void journal_take_back(struct wh_store *s);
uint64_t journal_generation(const struct wh_store *s);
int journal_sync(struct wh_store *s);
/* A ref is now what others made it. */
void journal_note_ref(struct wh_store *s, const char *branch, const git_oid *id);

/* pack.c: of objects, in memory until it is written; for any one thread. `objects` = the folder, with '/' at its end. */
struct pack;
struct pack *pack_new(void);
void pack_free(struct pack *p);
int pack_add(struct pack *p, git_object_t type, const uint8_t *id, const uint8_t *data,
	     size_t size);
int pack_write(struct pack *p, const struct store_io *io, const char *objects);
/* After pack_write. */
void pack_remove_loose(struct pack *p, const struct store_io *io, const char *objects);

int tree_get(struct wh_store *s, const git_oid *id, struct wh_store_tree **ret_tree);
/* A tree that was just made: raw and at are taken over. */
int tree_put(struct wh_store *s, const git_oid *id, uint8_t *raw, size_t raw_size, uint32_t *at,
	     uint32_t count, struct wh_store_tree **ret_tree);
void tree_cache_clear(struct wh_store *s);
void tree_entry(const struct wh_store_tree *t, uint32_t i, struct wh_store_entry *ret_entry);
/* Git's order of names: a folder counts as if it ended in '/'. */
int tree_compare(const char *a, size_t a_size, bool a_dir, const char *b, size_t b_size,
		 bool b_dir);
bool tree_name_valid(const char *name, size_t size);
/* As Git has it; tree_entry is as well. */
int tree_find(const struct wh_store_tree *t, const char *name, size_t size,
	      struct wh_store_entry *ret_entry);

int watch_open(struct wh_store *s);
void watch_close(struct wh_store *s);
void watch_told(struct wh_store *s, const char *branch, const git_oid *old_id,
		const git_oid *new_id);

/* ---- large.c ---- */

#define LARGE_SUFFIX_SIZE (sizeof WH_STORE_LARGE_SUFFIX - 1)
#define LARGE_NAME_ROOM (WH_STORE_NAME_SIZE_MAX + LARGE_SUFFIX_SIZE + 1)

struct known_ids {
	git_oid *id;
	size_t count;
};

/* Is it the name of a large file's folder in Git? */
bool large_name(const char *name, size_t size);
size_t large_raw_name(const char *name, size_t size, char *to); /* LARGE_NAME_ROOM */
/* An entry as Git has it becomes one as the store shows it. */
void large_present(struct wh_store_entry *e);
/* old_tree: chunks that it has need not be written again; zero = none. */
int large_from(struct wh_store *s, const void *data, size_t size, const git_oid *old_tree,
	       struct wh_store_file **ret_file);
int large_write(struct wh_store_file *f, uint64_t offset, const void *from, size_t size);
int large_truncate(struct wh_store_file *f, uint64_t size);
int large_store(struct wh_store_file *f, git_oid *ret_tree);
bool large_is_whole(struct wh_store *s, const git_oid *tree);

/* ---- transactions ---- */

struct conflict_list {
	char **path;
	size_t count, room;
};

struct wh_store_tx {
	struct wh_store *store;
	char branch[WH_STORE_BRANCH_SIZE_MAX + 1];
	struct wh_store_node *root;
	git_oid head;      /* at begin */
	git_oid head_tree; /* its tree */
	struct wh_store_id *parents;
	unsigned parent_count;
	struct conflict_list conflicts;
	struct wh_store_sides *sides;
	bool used;
};

struct wh_store_node {
	unsigned refs;
	struct wh_store_tx *tx;
	struct wh_store_node *parent; /* NULL: the root, or removed */
	struct wh_store_node *next;   /* in the parent's bucket */
	uint64_t serial;
	uint32_t mode;
	bool dirty;  /* id is not what it holds */
	bool gone;   /* a name that was removed, remembered in the parent */
	bool loaded; /* data is there */
	git_oid id;  /* zero and not dirty: empty */
	char *name;
	size_t name_size;
	/* folder */
	struct wh_store_tree *base; /* NULL: nothing below the overlay, or not loaded */
	bool base_loaded;
	struct wh_store_node **bucket;
	uint32_t bucket_count, kid_count;
	/* file */
	uint8_t *data;
	size_t size, room;
	struct wh_store_file *large; /* instead of data */
};

struct wh_store_node *node_root_new(struct wh_store_tx *tx, const git_oid *tree);
/* Stages the tree of a folder; the zero id when it is empty. */
int node_write_tree(struct wh_store_node *dir, git_oid *ret_id);
void node_drop_tree(struct wh_store_node *root); /* frees all nodes nobody else holds */
/* Replaces a tree's content wholesale, after a merge. */
void node_set_tree(struct wh_store_node *root, const git_oid *tree);
void node_path(const struct wh_store_node *node, char *ret_path, size_t max);

void conflicts_add(struct conflict_list *c, const char *path);
/* The path and everything below. */
void conflicts_clear(struct conflict_list *c, const char *path);
void conflicts_fini(struct conflict_list *c);

/* ---- merge ---- */

struct merge {
	struct wh_store *store;
	bool keep; /* conflicts become placeholders and paths in the list; else the first one ends it */
	struct conflict_list *conflicts;
	struct wh_diag *diag;
	git_oid our_commit, their_commit; /* for last-writer */
	bool theirs_later;
	struct merge_rules *rules;
};

/* merge_rules.c. A merged file's id, or -WH_STORE_ECONFLICT: no rule, or it does not help. base NULL = none. */
int merge_rules_load(struct merge *m, const git_oid *ours);
void merge_rules_free(struct merge *m);
int merge_by_rule(struct merge *m, const char *path, const git_oid *base, const git_oid *ours,
		  const git_oid *theirs, git_oid *ret_id);
int merge_json(struct wh_store *s, const char *base, const char *ours, const char *theirs,
	       git_oid *ret_id);

/* Zero ids are empty trees. 0 or -WH_STORE_ECONFLICT. */
int merge_trees(struct merge *m, const git_oid *base, const git_oid *ours, const git_oid *theirs,
		git_oid *ret_tree);
int merge_base(struct wh_store *s, const git_oid *a, const git_oid *b, git_oid *ret_base);
int commit_tree(struct wh_store *s, const git_oid *commit, git_oid *ret_tree);
int commit_stage(struct wh_store *s, const git_oid *tree, const struct wh_store_id *parents,
		 unsigned parent_count, const struct wh_store_commit_config *config,
		 git_oid *ret_id);

#endif
