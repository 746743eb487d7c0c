/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NINEP_H
#define WHERRY_NINEP_H

/*
 * 9P: codec, client and server, without input or output of their own, in the dialects 9P2000,
 * 9P2000.u and 9P2000.L.
 *
 * Threads: an object belongs to one thread. No globals. Messages borrow: strings and
 * data of a decoded message point into the buffer that was decoded.
 *
 * A message can be split for bulk data: the payload of Twrite, Rread and Rreaddir comes last on
 * the wire, so its bytes may stay where they are (a caller's buffer, guest memory)
 * while only the head in front of it is encoded or decoded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/iov.h>
#include <wherry/base/list.h>
#include <wherry/base/mem.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- limits ---- */

#define WH_P9_NAMES_MAX 16u        /* of one walk (protocol) */
#define WH_P9_NAME_SIZE_MAX 255u   /* bytes of a file name: Linux's NAME_MAX */
#define WH_P9_PATH_SIZE_MAX 4095u  /* bytes of a symbolic link's target: PATH_MAX - 1 */
#define WH_P9_MSIZE_MIN 4096u      /* less is refused at version */
#define WH_P9_MSIZE_MAX (1u << 20) /* more is cut down at version */
#define WH_P9_HEAD_SIZE_MAX 8448u  /* any message without its payload (two paths and fields) */
#define WH_P9_HEADER_SIZE 7u       /* size[4] type[1] tag[2] */
#define WH_P9_READ_HEAD_SIZE 11u  /* Rread and Rreaddir in front of the data; also all of Rlerror */
#define WH_P9_WRITE_HEAD_SIZE 23u /* Twrite in front of the data */
#define WH_P9_NOTAG 0xffffu
#define WH_P9_NOFID 0xffffffffu

/* ---- messages ---- */

enum wh_p9_dialect { WH_P9_DIALECT_2000, WH_P9_DIALECT_2000U, WH_P9_DIALECT_2000L };

enum wh_p9_type {
	WH_P9_TLERROR = 6, /* never sent */
	WH_P9_RLERROR = 7,
	WH_P9_TSTATFS = 8,
	WH_P9_TLOPEN = 12,
	WH_P9_TLCREATE = 14,
	WH_P9_TSYMLINK = 16,
	WH_P9_TMKNOD = 18,
	WH_P9_TRENAME = 20,
	WH_P9_TREADLINK = 22,
	WH_P9_TGETATTR = 24,
	WH_P9_TSETATTR = 26,
	WH_P9_TXATTRWALK = 30,
	WH_P9_TXATTRCREATE = 32,
	WH_P9_TREADDIR = 40,
	WH_P9_TFSYNC = 50,
	WH_P9_TLOCK = 52,
	WH_P9_TGETLOCK = 54,
	WH_P9_TLINK = 70,
	WH_P9_TMKDIR = 72,
	WH_P9_TRENAMEAT = 74,
	WH_P9_TUNLINKAT = 76,
	WH_P9_TVERSION = 100,
	WH_P9_TAUTH = 102,
	WH_P9_TATTACH = 104,
	WH_P9_RERROR = 107,
	WH_P9_TFLUSH = 108,
	WH_P9_TWALK = 110,
	WH_P9_TOPEN = 112,
	WH_P9_TCREATE = 114,
	WH_P9_TREAD = 116,
	WH_P9_TWRITE = 118,
	WH_P9_TCLUNK = 120,
	WH_P9_TREMOVE = 122,
	WH_P9_TSTAT = 124,
	WH_P9_TWSTAT = 126
};
/* The answer to T has the number T + 1. */

/* Text as on the wire: not terminated, no NUL inside (the decoder refuses it). */
struct wh_p9_str {
	const char *text;
	uint16_t size;
};

#define WH_P9_QID_DIR 0x80u
#define WH_P9_QID_SYMLINK 0x02u
#define WH_P9_QID_FILE 0x00u

struct wh_p9_qid {
	uint64_t path;
	uint32_t version;
	uint8_t type; /* WH_P9_QID_* */
};

#define WH_P9_GETATTR_BASIC 0x7ffull /* mode .. blocks */

struct wh_p9_attr {     /* Rgetattr */
	uint64_t valid; /* WH_P9_GETATTR_* */
	struct wh_p9_qid qid;
	uint32_t mode, uid, gid; /* mode: Linux's st_mode */
	uint64_t nlink, rdev, size, block_size, blocks;
	uint64_t atime_s, atime_ns, mtime_s, mtime_ns, ctime_s, ctime_ns, btime_s, btime_ns;
	uint64_t generation, data_version;
};

#define WH_P9_SETATTR_MODE 0x1u
#define WH_P9_SETATTR_UID 0x2u
#define WH_P9_SETATTR_GID 0x4u
#define WH_P9_SETATTR_SIZE 0x8u
#define WH_P9_SETATTR_ATIME 0x10u
#define WH_P9_SETATTR_MTIME 0x20u
#define WH_P9_SETATTR_CTIME 0x40u
#define WH_P9_SETATTR_ATIME_SET 0x80u /* to the given time, not to now */
#define WH_P9_SETATTR_MTIME_SET 0x100u

struct wh_p9_setattr {  /* Tsetattr */
	uint32_t valid; /* WH_P9_SETATTR_* */
	uint32_t mode, uid, gid;
	uint64_t size, atime_s, atime_ns, mtime_s, mtime_ns;
};

struct wh_p9_statfs { /* Rstatfs */
	uint32_t type, block_size;
	uint64_t blocks, blocks_free, blocks_available, files, files_free, fsid;
	uint32_t name_size_max;
};

struct wh_p9_lock {   /* Tlock, Tgetlock, Rgetlock */
	uint8_t type; /* 0 read, 1 write, 2 unlock */
	uint32_t flags;
	uint64_t start, length;
	uint32_t pid;
};

struct wh_p9_stat { /* Rstat, Twstat (2000, .u) */
	uint16_t kernel_type;
	uint32_t kernel_dev;
	struct wh_p9_qid qid;
	uint32_t mode, atime, mtime;
	uint64_t length;
	struct wh_p9_str name, uid, gid, muid, extension; /* extension and numbers: .u */
	uint32_t n_uid, n_gid, n_muid;
};

/* Any message: members that its type does not have are ignored and come back zero. The first
 * list names what each type uses where it is not obvious:
 *
 *	version   msize, name = version string	attach   fid, fid2 = afid, name = uname, name2 = aname, number = n_uname
 *	auth      fid = afid, name, name2, number	walk     fid, fid2 = newfid, name_count, names | name_count, qids
 *	flush     flush_tag		lerror   error
 *	error     name, error (.u)		lopen    fid, flags | qid, iounit
 *	lcreate   fid, name, flags, mode, gid	symlink  fid, name, name2 = target, gid
 *	mknod     fid, name, mode, major, minor, gid	rename   fid, fid2 = dfid, name
 *	readlink  fid | name = target		getattr  fid, mask | attr
 *	setattr   fid, setattr			readdir  fid, offset, count | data
 *	link      fid = dfid, fid2 = fid, name	mkdir    fid, name, mode, gid | qid
 *	renameat  fid, name, fid2, name2	unlinkat fid, name, flags
 *	fsync     fid, flags = datasync		lock     fid, lock, name = client | status
 *	xattrwalk fid, fid2 = newfid, name | size	xattrcreate fid, name, size, flags
 *	open      fid, mode8 | qid, iounit	create   fid, name, perm = mode, mode8, name2 = extension (.u)
 */
struct wh_p9_msg {
	uint8_t type; /* enum wh_p9_type or that + 1 */
	uint8_t mode8, status;
	uint16_t tag;
	uint16_t name_count;
	uint16_t flush_tag;
	uint32_t fid, fid2;
	uint32_t msize, number, error, flags, mode, gid, major, minor, iounit;
	uint32_t count; /* bytes asked for, or of the payload */
	uint64_t offset, mask, size;
	const void *data; /* payload; NULL = it is elsewhere */
	struct wh_p9_str name, name2;
	struct wh_p9_qid qid;
	union {
		struct wh_p9_str names[WH_P9_NAMES_MAX];
		struct wh_p9_qid qids[WH_P9_NAMES_MAX];
		struct wh_p9_attr attr;
		struct wh_p9_setattr setattr;
		struct wh_p9_statfs statfs;
		struct wh_p9_lock lock;
		struct wh_p9_stat stat;
	};
};

/* Decodes one message that begins at `head`. head_size may end where the payload begins (data is
 * then NULL); otherwise it must hold the whole message. Bytes behind the message's own size
 * are ignored. Returns the message's size on the wire, or -WH_EBADMSG: too short, size field too small or
 * not what the fields add up to, unknown type, a string with NUL, more than WH_P9_NAMES_MAX names. */
int wh_p9_decode(enum wh_p9_dialect dialect, const void *head, size_t head_size,
		 struct wh_p9_msg *ret_msg);
/* Encodes; returns the bytes put into `to`, or -WH_EMSGSIZE (to_max is too small), -WH_EINVAL (type
 * unknown in this dialect). With data NULL the payload of `count` bytes is left to the
 * caller, and the message's size field counts it. */
int wh_p9_encode(enum wh_p9_dialect dialect, const struct wh_p9_msg *msg, void *to, size_t to_max);

/* Tag of a message of at least WH_P9_HEADER_SIZE bytes, decodable or not. */
uint16_t wh_p9_tag(const void *head);

/* struct wh_p9_stat mode */
#define WH_P9_DMDIR 0x80000000u
#define WH_P9_DMSYMLINK 0x02000000u

/* One entry of a folder in 2000 and .u. Bytes put, or 0 = no room. */
int wh_p9_stat_encode(enum wh_p9_dialect dialect, const struct wh_p9_stat *stat, void *to,
		      size_t to_max);
/* Bytes taken, 0 = end, or -WH_EBADMSG. */
int wh_p9_stat_decode(enum wh_p9_dialect dialect, const void *from, size_t size,
		      struct wh_p9_stat *ret_stat);
/* What servers of the older dialects say for an error number (positive); "I/O error" for unknown ones. */
const char *wh_p9_error_text(uint32_t error);

/* One directory entry of Rreaddir. */
struct wh_p9_dirent {
	struct wh_p9_qid qid;
	uint64_t offset; /* to go on behind this entry */
	uint8_t type;    /* Linux's DT_* */
	struct wh_p9_str name;
};

/* Bytes read from `from`, 0 = end, or -WH_EBADMSG. */
int wh_p9_dirent_decode(const void *from, size_t size, struct wh_p9_dirent *ret_entry);
/* Bytes put, or 0 = no room. */
int wh_p9_dirent_encode(const struct wh_p9_dirent *entry, void *to, size_t to_max);

static inline struct wh_p9_str wh_p9_str(const char *text, size_t size)
{
	struct wh_p9_str s = { text, (uint16_t)size };
	return s;
}
const char *wh_p9_type_name(uint8_t type); /* "Twalk", "Rlerror", or "?" */

/* ---- client ---- */

/*
 * Keeps what one connection needs: msize, tags and fids in use. The transport is the
 * caller's (a virtqueue chain per exchange, a socket):
 *
 *	struct wh_p9_msg t = { .type = WH_P9_TREAD, .fid = f, .offset = o, .count = n }, r;
 *	n = wh_p9_client_call(c, &call, &t, head, sizeof head);	  -WH_EAGAIN: all tags in use
 *	...send head (and the payload of Twrite behind it); receive the answer; for Rread
 *	   give WH_P9_READ_HEAD_SIZE bytes for the head and let the payload go where it belongs...
 *	n = wh_p9_client_answer(c, &call, answer, answer_size, &r);	   -errno of Rlerror
 */

#define WH_P9_CLIENT_TAGS_MAX 64u /* exchanges in flight */

struct wh_p9_client {
	enum wh_p9_dialect dialect;
	uint32_t msize;
	/* Private. */
	uint64_t tags;  /* bit = in use */
	uint32_t *fids; /* bitmap in caller's memory */
	uint32_t fid_words;
	uint32_t fid_hint;
};

struct wh_p9_call {
	uint8_t type; /* of the request */
	uint16_t tag;
	uint32_t count; /* asked for: an answer with more is refused */
};

/* msize: what the client can take; lowered by the server's answer to version. fids: memory for
 * fid_words * 32 fids. */
void wh_p9_client_init(struct wh_p9_client *c, uint32_t msize, uint32_t *fids, uint32_t fid_words);
/* A free fid, or WH_P9_NOFID when all are in use. */
uint32_t wh_p9_client_fid_get(struct wh_p9_client *c);
void wh_p9_client_fid_put(struct wh_p9_client *c, uint32_t fid);
/* Gives `t` a tag and encodes it. Bytes put into head, -WH_EAGAIN, -WH_EMSGSIZE. Tversion is sent
 * with msize and name filled in here. */
int wh_p9_client_call(struct wh_p9_client *c, struct wh_p9_call *call, struct wh_p9_msg *t,
		      void *head, size_t head_max);
/* Takes the answer apart and frees the tag. 0, the -errno that the server sent, or -WH_EPROTO:
 * malformed, other tag or type, more than was asked for, a dialect we do not speak. After -WH_EPROTO the
 * connection is not to be used again. */
int wh_p9_client_answer(struct wh_p9_client *c, struct wh_p9_call *call, const void *answer,
			size_t size, struct wh_p9_msg *ret_r);
/* The exchange will not be answered (reset): frees the tag. */
void wh_p9_client_forget(struct wh_p9_client *c, struct wh_p9_call *call);
/* Payload that one read or write can carry. */
uint32_t wh_p9_client_payload_max(const struct wh_p9_client *c);

/* ---- server ---- */

/*
 * One connection: requests in, answers out, files through an ops struct. The server
 * checks messages, fids, tags, names and limits, then calls; a backend sees only
 * requests that make sense. An operation answers at once or later.
 */

#define WH_P9_FIDS_MAX 16384u   /* default of fids_max: memory and host descriptors of one client */
#define WH_P9_REQUESTS_MAX 128u /* answers that may be outstanding; more are refused with EAGAIN */
#define WH_P9_LATER 1           /* an operation will call wh_p9_request_done */

struct wh_p9_server;

struct wh_p9_fid {
	uint32_t id;
	bool open;
	uint32_t open_flags; /* Linux O_* of lopen, lcreate */
	struct wh_p9_qid qid;
	void *node; /* the backend's */
	/* Private. */
	uint32_t refs;
	bool busy;                      /* being made */
	uint64_t dir_offset, dir_index; /* 2000, .u: where the next read of the folder goes on */
	struct wh_p9_fid *next;
};

struct wh_p9_request {
	struct wh_p9_msg t; /* what was asked, checked */
	struct wh_p9_msg r; /* the answer: the operation fills in the members of its type */
	struct wh_p9_fid *fid, *fid2; /* of t.fid and t.fid2; fid2 is new for walk and xattrwalk */
	const struct wh_iov
		*payload; /* write: the data; read: room for it; shared with the client */
	uint32_t payload_count;
	uint32_t payload_size; /* bytes: write: t.count; read: at most t.count */
	void *token;           /* of wh_p9_server_request */
	enum wh_p9_dialect dialect;
	/* 2000, .u: the text of an error, if the usual one of its number is not right. Valid until the
	 * request is done; text_buffer is for texts that are not constant. */
	const char *error_text;
	char text_buffer[128];
	/* Private. */
	struct wh_p9_server *server;
	struct wh_list node;
	struct wh_p9_request *flushes; /* the one whose end this Tflush waits for */
	const struct wh_iov *out;
	uint32_t out_count;
	uint32_t answer_max;
	bool later, flushed;
	struct wh_iov slice[64];
	uint8_t head[WH_P9_HEAD_SIZE_MAX];
};

/* Operations return 0 with r filled in, -errno, or WH_P9_LATER. NULL = -WH_EOPNOTSUPP, except where
 * it says otherwise. Names are 1..255 bytes without '/' and NUL, never "." or "..", but ".." can be in
 * walk. */
struct wh_p9_fs_ops {
	int (*attach)(void *ctx, struct wh_p9_request *q); /* sets fid->node, r.qid */
	/* Follows t.names from fid: r.qids, r.name_count = how many succeeded, and fid2->node only when
	 * all did. An error is for the first name. No names: clone. */
	int (*walk)(void *ctx, struct wh_p9_request *q);
	int (*open)(void *ctx, struct wh_p9_request *q);    /* t.flags; r.qid, r.iounit */
	int (*create)(void *ctx, struct wh_p9_request *q);  /* fid becomes the new open file */
	int (*read)(void *ctx, struct wh_p9_request *q);    /* fills payload, sets r.count */
	int (*write)(void *ctx, struct wh_p9_request *q);   /* r.count */
	int (*readdir)(void *ctx, struct wh_p9_request *q); /* wh_p9_request_dirent */
	int (*getattr)(void *ctx, struct wh_p9_request *q);
	int (*setattr)(void *ctx, struct wh_p9_request *q);
	int (*statfs)(void *ctx, struct wh_p9_request *q);
	int (*readlink)(void *ctx, struct wh_p9_request *q); /* r.name, valid until it returns */
	int (*symlink)(void *ctx, struct wh_p9_request *q);  /* r.qid; also mknod, mkdir */
	int (*mknod)(void *ctx, struct wh_p9_request *q);
	int (*mkdir)(void *ctx, struct wh_p9_request *q);
	int (*link)(void *ctx, struct wh_p9_request *q);   /* fid2 becomes t.name in fid */
	int (*rename)(void *ctx, struct wh_p9_request *q); /* fid to t.name in fid2 */
	int (*renameat)(void *ctx, struct wh_p9_request *q);
	int (*unlinkat)(void *ctx, struct wh_p9_request *q);
	int (*remove)(void *ctx, struct wh_p9_request *q); /* the server clunks fid in any case */
	int (*fsync)(void *ctx, struct wh_p9_request *q);  /* NULL: does nothing, succeeds */
	int (*lock)(void *ctx, struct wh_p9_request *q);   /* NULL: granted */
	int (*xattrwalk)(void *ctx, struct wh_p9_request *q);
	int (*xattrcreate)(void *ctx, struct wh_p9_request *q);
	/* The older dialects (config.dialects). create9: a file, folder (t.mode has WH_P9_DMDIR) or link (t.mode
	 * has WH_P9_DMSYMLINK, t.name2 = target) becomes the open fid; t.flags as in open. */
	int (*create9)(void *ctx, struct wh_p9_request *q);
	int (*stat)(void *ctx,
		    struct wh_p9_request *q); /* r.stat; its texts valid until it returns */
	int (*wstat)(void *ctx, struct wh_p9_request *q); /* t.stat */
	int (*readstat)(
		void *ctx,
		struct wh_p9_request *q); /* from entry fid->dir_index on: wh_p9_request_stat */
	/* The last use of fid is over: free fid->node. */
	void (*clunk)(void *ctx, struct wh_p9_fid *fid);
	/* The client does not want the answer of `q` (WH_P9_LATER) any more: finish it soon, with -WH_EINTR
	 * or whatever happened. Optional. */
	void (*flush)(void *ctx, struct wh_p9_request *q);
};

struct wh_p9_server_config {
	size_t size; /* sizeof(struct wh_p9_server_config) */
	const struct wh_p9_fs_ops *ops;
	void *ctx;
	const struct wh_alloc *alloc; /* server at new; fids and requests (kept) while running */
	uint32_t msize_max;           /* 0 = WH_P9_MSIZE_MAX */
	uint32_t fids_max;            /* 0 = WH_P9_FIDS_MAX */
	uint32_t requests_max;        /* 0 = WH_P9_REQUESTS_MAX */
	unsigned dialects;            /* 1u << WH_P9_DIALECT_*; 0 = 9P2000.L only */
	bool read_only;               /* whatever would change something: -WH_EROFS */
	/* The answer to a request that came back as WH_P9_LATER is in its out memory. */
	void (*answered)(void *answered_ctx, void *token, uint32_t size);
	void *answered_ctx;
};

int wh_p9_server_new(const struct wh_p9_server_config *config, struct wh_p9_server **ret_server);
/* Clunks every fid. Requests that are still to be answered must have been finished. */
void wh_p9_server_free(struct wh_p9_server *server);
/* Drops fids and dialect, as after a new connection. false = requests are outstanding (they were flushed);
 * call again when they are answered. */
bool wh_p9_server_reset(struct wh_p9_server *server);

/* One request in `in` (hostile, may change meanwhile); the answer goes to `out`. Both stay valid until the
 * answer. Returns the answer's size; 0 = later, through config.answered; -WH_EBADMSG = not
 * answerable: no message, wrong size field, no room for an error: give up the connection. */
int wh_p9_server_request(struct wh_p9_server *server, const struct wh_iov *in, uint32_t in_count,
			 const struct wh_iov *out, uint32_t out_count, void *token);
/* For operations that said WH_P9_LATER, after they returned: result as they would have given it (0
 * or -errno). */
void wh_p9_request_done(struct wh_p9_request *q, int result);
/* For readdir: false = no room: stop. Sets r.count. */
bool wh_p9_request_dirent(struct wh_p9_request *q, const struct wh_p9_dirent *entry);
/* The same for readstat. */
bool wh_p9_request_stat(struct wh_p9_request *q, const struct wh_p9_stat *stat);
/* Sets q->error_text and returns error, as in `return wh_p9_fail(q, -WH_EISDIR, "Is a directory")`. */
int wh_p9_fail(struct wh_p9_request *q, int error, const char *text);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
