/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_LOG_H
#define WHERRY_BASE_LOG_H

/* Log hook: libraries never print. Each instance gets a hook at init; NULL fn
 * means silence. What a guest or a peer causes is WH_LOG_DEBUG. */

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum wh_log_level { WH_LOG_ERROR, WH_LOG_WARNING, WH_LOG_INFO, WH_LOG_DEBUG, WH_LOG_TRACE };

struct wh_log {
	/* subsystem: "net", "blk"...; id: connection, vCPU, fid or 0; text: one line */
	void (*fn)(void *ctx, enum wh_log_level level, const char *subsystem, unsigned long long id,
		   const char *text);
	void *ctx;
	enum wh_log_level level; /* lines above it are not even formatted */
};

void wh_log_write(const struct wh_log *log, enum wh_log_level level, const char *subsystem,
		  unsigned long long id, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
