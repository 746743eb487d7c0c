/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_DIAG_H
#define WHERRY_BASE_DIAG_H

/*
 * Detail of an error for people: which field, which offset, what to do. The caller
 * owns it and may pass NULL; a function fills it only when it fails, and never
 * prints. The text is one line without a final full stop or newline.
 */

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_DIAG_SIZE 256

struct wh_diag {
	char text[WH_DIAG_SIZE]; /* NUL-terminated, cut when too long */
};

/* Sets diag->text from `format` and returns `error` unchanged, so that a check
 * reads `return wh_diag_set(diag, -WH_EINVAL, "L1 size %u is over %u", a, b);`.
 * Conversions: %s %d %u %x %c %% and %llu %llx %lld %zu; no widths. diag may be NULL. */
int wh_diag_set(struct wh_diag *diag, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The formatter behind it, usable on its own; returns the length that the whole
 * text would have. size 0 writes nothing. */
size_t wh_format(char *buffer, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
size_t wh_vformat(char *buffer, size_t size, const char *format, __builtin_va_list args)
	__attribute__((format(printf, 3, 0)));

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
