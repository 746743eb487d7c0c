/* SPDX-License-Identifier: ISC */
#ifndef STOREFS_PRIV_H
#define STOREFS_PRIV_H

#include <sys/types.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/list.h>
#include <wherry/os.h>
#include <wherry/storefs.h>

#define TEXT_SIZE_MAX (16u << 20) /* of msg, parents, one command: what a client can make us keep */
#define STREAM_WINDOW 4096u       /* sent bytes that can be read again: shells seek back */
#define REFLOG_QUEUE_MAX 65536u   /* changes that a slow reader of reflog may be behind */
#define REMOTES_MAX 64u
#define REMOTE_NAME_MAX 100u
#define REMOTE_TIMEOUT_S 600u /* unless `timeout` says otherwise */
#define REMOTE_TIMEOUT_S_MAX 86400u
#define LEASES_MAX 256u           /* transactions that outlive their connections */
#define LEASE_SECONDS_MAX 604800u /* a week */
#define TRACE_SIZE 32u            /* requests of each connection that debug/trace shows */

enum kind {
	K_ROOT,
	K_BRANCHES,
	K_TREES,
	K_COMMITS,
	K_SNAPSHOTS,
	K_REMOTES,
	K_DEBUG,
	K_BRANCH,
	K_HEAD,
	K_HEAD_LIVE,
	K_REFLOG,
	K_FORWARD,
	K_RO,
	K_TRANSACTIONS,
	K_WATCH,
	K_TREE_LIVE,
	K_BRANCH_DIFF,
	K_EVENTS,
	K_LOG,
	K_HISTORY,
	K_AT,
	K_APPLY,
	K_WAIT,
	K_TX,
	K_RW,
	K_MSG,
	K_PARENTS,
	K_ORIGIN,
	K_CTL,
	K_MERGE,
	K_TX_DIFF,
	K_CONFLICTS,
	K_DURABILITY,
	K_LEASE,
	K_SIDE_OURS,
	K_SIDE_THEIRS,
	K_SIDE_BASE,
	K_SNAPSHOT,
	K_SNAP_HASH,
	K_SNAP_MSG,
	K_SNAP_PARENTS,
	K_SNAP_DIFF,
	K_OBJECT, /* something immutable in a tree: mode, id */
	K_COMMIT, /* JSON */
	K_DIFF,   /* text: from commit id2 to what is said by the former kind */
	K_REMOTE,
	K_URL,
	K_FETCH,
	K_PUSH,
	K_REMOTE_HEAD,
	K_REMOTE_STATE,
	K_REMOTE_ERROR,
	K_REMOTE_LAG,
	K_REMOTE_TIMEOUT,
	K_AUTO_PUSH,
	K_STATS,
	K_WHO,
	K_TRACE,
	K_GC,
	K_FSCK,
	K_SRC,
	K_LOGGER,
	K_LEVEL,
	K_DOC,
	K_COUNT
};

/* What a kind is to a client. */
enum nature {
	N_DIR,     /* a folder */
	N_STATUS,  /* text taken at open */
	N_STREAM,  /* waits for news */
	N_COMMAND, /* each write is a command */
	N_TEXT,    /* rw random-access text */
	N_BLOB,    /* immutable content, or the head's */
	N_RW,      /* a transaction's file or folder */
};

struct tx {
	struct wh_list node; /* in session->txs */
	unsigned refs;
	struct session *session;
	struct wh_store_tx *tx;
	char *name, *branch;
	char *msg, *parents; /* texts as clients wrote them */
	size_t msg_size, parents_size;
	bool parents_written, merged, dead;
	enum wh_store_durability durability;
	uint64_t serial;
	uint64_t lease_end_ns; /* 0 = it ends with its connection */
	char owner[64];
};

struct pushed { /* what a remote has of a branch */
	struct pushed *next;
	struct wh_store_id id;
	char branch[WH_STORE_BRANCH_SIZE_MAX + 1];
};

struct remote {
	struct wh_list node;
	unsigned refs;
	struct wh_storefs *fs;
	char *name, *url;
	size_t url_size;
	struct wh_store_id head; /* of the last fetch; zero = none */
	uint64_t fetches;
	struct job *job; /* the fetch or push that runs */
	const char *state;
	char *error;
	struct wh_list orphan;     /* in fs->jobs */
	char *auto_push, *timeout; /* texts as clients wrote them */
	size_t auto_push_size, timeout_size;
	struct pushed *pushed;
	struct wh_loop_timer push_timer;
	unsigned retry_s;
};

struct stream {
	struct wh_list node; /* in fs->streams */
	struct node *owner;
	struct wh_p9_request *waiting;
	char *line; /* being sent */
	size_t line_size, line_at;
	char *last; /* value sent last; NULL = none */
	bool owes_zero;
	uint64_t sent;
	uint8_t window[STREAM_WINDOW];
	/* reflog: lines to send; events: the commit told last */
	char *queue;
	size_t queue_size;
	struct wh_store_id seen;
	uint64_t fetches;
};

struct node { /* one per fid */
	enum kind kind;
	struct session *session;
	uint32_t mode;              /* K_OBJECT, K_RO */
	struct wh_store_id id, id2; /* object, commit */
	char *branch;               /* or the name, where it is another kind of thing */
	char *path;
	struct tx *tx;
	struct wh_store_node *rw;
	struct remote *remote;
	/* open */
	char *text;
	size_t text_size;
	bool text_taken;
	struct wh_store_file *large; /* instead of text */
	struct stream *stream;
	uint64_t command_at;
	struct listing *listing;
};

struct entry {
	char *name;
	enum kind kind;
	uint32_t mode;
	struct wh_store_id id;
};

struct listing {
	struct entry *list;
	size_t count, room;
};

struct session {
	struct wh_list node;
	struct wh_storefs *fs;
	struct wh_p9_server *server;
	struct wh_list txs;
	struct empty_branch {
		struct empty_branch *next;
		char *name;
	} * empty;
	char *replies
		[K_COUNT]; /* of command files, kept on the file; only those without a transaction */
	uint64_t serial;
	char user[64];
	char root[WH_STORE_BRANCH_SIZE_MAX + 1]; /* branch that is the root; "" = the whole tree */
	pid_t pid;
	uid_t uid;
	bool peer_known, read_only, attached;
	/* What its token allows; without one, all. */
	enum wh_storefs_allow allow;
	char path[WH_STOREFS_TOKEN_PATH_MAX]; /* "" = the whole branch */
	int64_t until_s;
	char token[64], mail[128];
	struct {
		uint8_t type;
		uint16_t tag;
		uint32_t fid;
	} trace[TRACE_SIZE];
	uint64_t trace_count;
};

/* Leased transactions are for all who may write anywhere in the branch. */
static inline bool sees_leases(const struct session *s)
{
	return !s->path[0] && !s->read_only;
}

struct care { /* gc or fsck */
	struct wh_storefs *fs;
	struct wh_loop_fd done, out; /* pidfd, terminal */
	struct wh_p9_request *q;     /* who waits for its end */
	pid_t pid;
	bool running, watching, failed;
	int64_t ended_s;
	char line[160], last[160], error[160];
	size_t line_size;
};

struct waiting_commit {
	struct wh_list node;
	struct wh_p9_request *q;
	struct tx *tx;
};

struct wh_storefs {
	struct wh_storefs_config config;
	struct wh_store *store;
	struct wh_loop *loop;
	struct wh_loop_hook hook;
	struct wh_loop_fd store_watch;
	struct wh_list leased; /* transactions */
	struct care care[2];
	struct wh_loop_timer care_timer;
	uint64_t care_flushes;
	struct wh_loop_timer lease_timer;
	struct wh_list sessions, streams, commits, connections, dirty, listeners, jobs;
	struct wh_list remotes;
	unsigned connection_count;
	uint64_t key[2], serial;
	uint64_t requests;
};

/* ---- tree.c ---- */

enum nature nature_of(enum kind kind);
struct node *node_new(struct session *s, enum kind kind);
struct node *node_copy(const struct node *n);
void node_free(struct node *n);
/* One step. `error_text` may be set on q. */
int node_step(struct wh_p9_request *q, const struct node *n, struct wh_p9_str name,
	      struct node **ret_node);
bool node_is_dir(const struct node *n);
struct wh_p9_qid node_qid(const struct node *n);
int node_list(struct node *n, struct listing **ret_listing);
void listing_free(struct listing *l);
/* What the listing's entry will be when it is walked to. */
int node_entry(struct wh_p9_request *q, const struct node *dir, const struct entry *e,
	       struct node **ret_node);
/* A live view of the head: what is there now. */
int ro_resolve(const struct node *n, struct wh_store_entry *ret_entry);
int branch_tree(struct wh_storefs *fs, const char *branch, struct wh_store_id *ret_commit,
		struct wh_store_id *ret_tree);

/* The folder of a transaction that this connection sees; a reference. */
int rw_root(const struct session *s, struct tx *t, struct wh_store_node **ret_node);
/* Does n lie at the top of what the connection's token allows? */
bool path_is_top(const struct node *n);

/* ---- token.c ---- */

bool session_expired(const struct session *s);

/* ---- text.c: the content of status files ---- */

int node_text(const struct node *n, char **ret_text, size_t *ret_size);
int node_size(struct node *n, uint64_t *ret_size);
int diff_text(struct wh_store *s, const struct wh_store_id *old_tree,
	      const struct wh_store_id *new_tree, char **ret_text, size_t *ret_size);

/* ---- stream.c ---- */

int stream_read(struct wh_p9_request *q, struct node *n);
void stream_free(struct stream *s);
/* The request is not wanted any more; false = it is no stream's. */
bool stream_flush(struct wh_storefs *fs, struct wh_p9_request *q);
void streams_moved(struct wh_storefs *fs, const char *branch, const struct wh_store_id *old_id,
		   const struct wh_store_id *new_id);
void streams_remote(struct wh_storefs *fs, struct remote *r);

/* ---- txfs.c ---- */

int tx_new(struct session *s, const char *branch, struct wh_p9_str name, struct tx **ret_tx,
	   struct wh_p9_request *q);
struct tx *tx_find(struct session *s, const char *branch, const char *name, size_t size);
void tx_unref(struct tx *t);
void tx_close(struct tx *t); /* out of the session's list */
/* 0 seconds: it belongs to this connection again. */
int tx_lease(struct wh_p9_request *q, struct node *n, const char *text);
void leases_expire(struct wh_loop_timer *timer);
void leases_free(struct wh_storefs *fs);
int tx_command(struct wh_p9_request *q, struct node *n, char *text);
int tx_merge_command(struct wh_p9_request *q, struct node *n, char *text);
/* Random-access texts (msg, parents, url). */
int text_write(struct wh_p9_request *q, struct node *n);
int text_truncate(struct node *n, uint64_t size);
/* Commits that joined a batch: made durable and answered. */
bool commits_flush(struct wh_storefs *fs);
bool commits_forget(struct wh_storefs *fs, struct wh_p9_request *q);

/* ---- commands.c ---- */

int command_write(struct wh_p9_request *q, struct node *n);

/* ---- remote.c ---- */

struct remote *remote_find(struct wh_storefs *fs, const char *name, size_t size);
int remote_new(struct session *s, struct wh_p9_str name, struct remote **ret_remote);
void remote_unref(struct remote *r);
void remote_remove(struct remote *r);
int remote_command(struct wh_p9_request *q, struct node *n, char *text);
void remotes_free(struct wh_storefs *fs);
bool remote_flush(struct wh_storefs *fs, struct wh_p9_request *q);

int remote_make(struct wh_storefs *fs, const char *name, size_t size, struct remote **ret_remote);
/* Without a client that waits. */
int remote_push(struct remote *r, const char *branch, const struct wh_store_id *id);

/* ---- care.c ---- */

int care_command(struct wh_p9_request *q, struct node *n, const char *text);
void care_text(const struct node *n, char *ret_text, size_t max);
bool care_flush(struct wh_storefs *fs, struct wh_p9_request *q);
void care_init(struct wh_storefs *fs);
void care_fini(struct wh_storefs *fs);

/* ---- remote_auto.c ---- */

bool remote_pushes(const struct remote *r, const char *branch);
struct pushed *remote_pushed(struct remote *r, const char *branch, bool make);
unsigned remote_timeout_s(const struct remote *r);
/* For each branch that is pushed: how many commits the remote lacks. */
void remote_lag(struct remote *r, void (*fn)(void *ctx, const char *branch, unsigned commits),
		void *ctx);
void remote_save(const struct remote *r);
void remote_forget(const struct remote *r);
void remotes_load(struct wh_storefs *fs);
void remote_push_soon(struct remote *r, bool failed);
void remote_push_due(struct wh_loop_timer *timer);
void remotes_moved(struct wh_storefs *fs, const char *branch);

/* ---- ops.c ---- */

extern const struct wh_p9_fs_ops storefs_ops;

/* ---- conn.c ---- */

/* Author and mail of the connection's commits. */
void session_author(const struct session *s, struct wh_store_commit_config *c);

int conn_new(struct wh_storefs *fs, int fd);
void conns_free(struct wh_storefs *fs);
void session_fini(struct session *s);
int session_init(struct wh_storefs *fs, struct session *s,
		 void (*answered)(void *, void *, uint32_t), void *ctx);
bool conns_work(struct wh_storefs *fs);

#endif
