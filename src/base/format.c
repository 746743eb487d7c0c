/* SPDX-License-Identifier: ISC */
/* A small printf for freestanding code: enough for messages, nothing that needs
 * locale, floating point or allocation. */
#include <stdarg.h>
#include <stdbool.h>
#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/base/mem.h>

struct out {
	char *buffer;
	size_t size, used;
};

static void put(struct out *o, char c)
{
	if (o->size && o->used < o->size - 1)
		o->buffer[o->used] = c;
	o->used++;
}

static void put_number(struct out *o, unsigned long long v, unsigned base)
{
	char digits[24];
	unsigned n = 0;
	do
		digits[n++] = "0123456789abcdef"[v % base];
	while (v /= base);
	while (n)
		put(o, digits[--n]);
}

static void put_signed(struct out *o, long long v)
{
	if (v < 0)
		put(o, '-');
	put_number(o, v < 0 ? 0ull - (unsigned long long)v : (unsigned long long)v, 10);
}

size_t wh_vformat(char *buffer, size_t size, const char *format, __builtin_va_list args)
{
	struct out o = { buffer, size, 0 };
	for (const char *f = format; *f; f++) {
		if (*f != '%') {
			put(&o, *f);
			continue;
		}
		unsigned longs = 0;
		for (f++; *f == 'l' || *f == 'z'; f++)
			longs++;
		switch (*f) {
		case 's': {
			const char *s = va_arg(args, const char *);
			for (s = s ? s : "(null)"; *s; s++)
				put(&o, *s);
			break;
		}
		case 'c':
			put(&o, (char)va_arg(args, int));
			break;
		case 'd':
			put_signed(&o, longs ? va_arg(args, long long) : va_arg(args, int));
			break;
		case 'u':
		case 'x':
			put_number(&o,
				   longs ? va_arg(args, unsigned long long)
					 : va_arg(args, unsigned),
				   *f == 'x' ? 16 : 10);
			break;
		case '%':
			put(&o, '%');
			break;
		default: /* a conversion we do not know: show it and stop using arguments */
			put(&o, '%');
			if (!*f)
				f--;
			else
				put(&o, *f);
		}
	}
	if (size)
		buffer[o.used < size ? o.used : size - 1] = 0;
	return o.used;
}

size_t wh_format(char *buffer, size_t size, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	size_t n = wh_vformat(buffer, size, format, args);
	va_end(args);
	return n;
}

int wh_diag_set(struct wh_diag *diag, int error, const char *format, ...)
{
	if (diag) {
		va_list args;
		va_start(args, format);
		(void)wh_vformat(diag->text, sizeof diag->text, format, args); /* cut is fine */
		va_end(args);
	}
	return error;
}

void wh_log_write(const struct wh_log *log, enum wh_log_level level, const char *subsystem,
		  unsigned long long id, const char *format, ...)
{
	if (!log || !log->fn || level > log->level)
		return;
	char text[256];
	va_list args;
	va_start(args, format);
	(void)wh_vformat(text, sizeof text, format, args); /* cut is fine */
	va_end(args);
	log->fn(log->ctx, level, subsystem, id, text);
}
