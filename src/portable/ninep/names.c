/* SPDX-License-Identifier: ISC */
#include <wherry/base/errors.h>
#include <wherry/ninep.h>

/* For logs and traces; apart from the codec so that a guest does without. */
const char *wh_p9_type_name(uint8_t type)
{
	static const struct {
		uint8_t type;
		const char *t, *r;
	} names[] = {
		{ WH_P9_TLERROR, "Tlerror", "Rlerror" },
		{ WH_P9_TSTATFS, "Tstatfs", "Rstatfs" },
		{ WH_P9_TLOPEN, "Tlopen", "Rlopen" },
		{ WH_P9_TLCREATE, "Tlcreate", "Rlcreate" },
		{ WH_P9_TSYMLINK, "Tsymlink", "Rsymlink" },
		{ WH_P9_TMKNOD, "Tmknod", "Rmknod" },
		{ WH_P9_TRENAME, "Trename", "Rrename" },
		{ WH_P9_TREADLINK, "Treadlink", "Rreadlink" },
		{ WH_P9_TGETATTR, "Tgetattr", "Rgetattr" },
		{ WH_P9_TSETATTR, "Tsetattr", "Rsetattr" },
		{ WH_P9_TXATTRWALK, "Txattrwalk", "Rxattrwalk" },
		{ WH_P9_TXATTRCREATE, "Txattrcreate", "Rxattrcreate" },
		{ WH_P9_TREADDIR, "Treaddir", "Rreaddir" },
		{ WH_P9_TFSYNC, "Tfsync", "Rfsync" },
		{ WH_P9_TLOCK, "Tlock", "Rlock" },
		{ WH_P9_TGETLOCK, "Tgetlock", "Rgetlock" },
		{ WH_P9_TLINK, "Tlink", "Rlink" },
		{ WH_P9_TMKDIR, "Tmkdir", "Rmkdir" },
		{ WH_P9_TRENAMEAT, "Trenameat", "Rrenameat" },
		{ WH_P9_TUNLINKAT, "Tunlinkat", "Runlinkat" },
		{ WH_P9_TVERSION, "Tversion", "Rversion" },
		{ WH_P9_TAUTH, "Tauth", "Rauth" },
		{ WH_P9_TATTACH, "Tattach", "Rattach" },
		{ WH_P9_RERROR - 1, "Terror", "Rerror" },
		{ WH_P9_TFLUSH, "Tflush", "Rflush" },
		{ WH_P9_TWALK, "Twalk", "Rwalk" },
		{ WH_P9_TOPEN, "Topen", "Ropen" },
		{ WH_P9_TCREATE, "Tcreate", "Rcreate" },
		{ WH_P9_TREAD, "Tread", "Rread" },
		{ WH_P9_TWRITE, "Twrite", "Rwrite" },
		{ WH_P9_TCLUNK, "Tclunk", "Rclunk" },
		{ WH_P9_TREMOVE, "Tremove", "Rremove" },
		{ WH_P9_TSTAT, "Tstat", "Rstat" },
		{ WH_P9_TWSTAT, "Twstat", "Rwstat" },
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(names); i++) {
		if (names[i].type == type)
			return names[i].t;
		if (names[i].type + 1 == type)
			return names[i].r;
	}
	return "?";
}

/* The words are those of DataKit, whose clients compare some of them, and else of Linux. */
const char *wh_p9_error_text(uint32_t error)
{
	static const struct {
		uint32_t error;
		const char *text;
	} texts[] = {
		{ WH_EPERM, "Operation not permitted" },
		{ WH_ENOENT, "No such file or directory" },
		{ WH_EINTR, "Interrupted" },
		{ WH_EIO, "I/O error" },
		{ WH_EBADF, "Unknown fid" },
		{ WH_EAGAIN, "Try again" },
		{ WH_ENOMEM, "Out of memory" },
		{ WH_EACCES, "Permission denied" },
		{ WH_EBUSY, "Device or resource busy" },
		{ WH_EEXIST, "Already exists" },
		{ WH_EXDEV, "Invalid cross-device link" },
		{ WH_ENOTDIR, "Is not a directory" },
		{ WH_EISDIR, "Is a directory" },
		{ WH_EINVAL, "Invalid argument" },
		{ WH_EMFILE, "Too many open files" },
		{ WH_EFBIG, "File too large" },
		{ WH_ENOSPC, "No space left on device" },
		{ WH_EROFS, "Read-only file" },
		{ WH_ENAMETOOLONG, "File name too long" },
		{ WH_ENOTEMPTY, "Directory not empty" },
		{ WH_EPROTO, "Protocol error" },
		{ WH_EMSGSIZE, "Message too long" },
		{ WH_EOPNOTSUPP, "Function not implemented" },
		{ WH_ECANCELED, "Merge conflict" },
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(texts); i++)
		if (texts[i].error == error)
			return texts[i].text;
	return "I/O error";
}
