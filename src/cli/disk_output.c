/* SPDX-License-Identifier: ISC */
/*
 * JSON and progress of `wherry disk`.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/os.h>

#include "disk.h"

#define SHOW_NS 100000000u /* as often as eyes can follow */

static volatile sig_atomic_t interrupted;

/* ---- JSON ---- */

static void text(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		if ((unsigned char)*s < 32)
			printf("\\u%04x", (unsigned char)*s);
		else
			putchar(*s);
	}
	putchar('"');
}

static void begin(struct disk_json *j, const char *name)
{
	if (j->more[j->depth])
		putchar(',');
	if (j->depth)
		printf("\n%*s", (int)j->depth * 4, "");
	j->more[j->depth] = true;
	if (name) {
		text(name);
		printf(": ");
	}
}

void disk_json_open(struct disk_json *j, const char *name, char bracket)
{
	begin(j, name);
	putchar(bracket);
	wh_assert(j->depth + 1 < WH_ARRAY_COUNT(j->more));
	j->more[++j->depth] = false;
}

void disk_json_close(struct disk_json *j, char bracket)
{
	bool any = j->more[j->depth];
	wh_assert(j->depth);
	j->depth--;
	if (any)
		printf("\n%*s", (int)j->depth * 4, "");
	putchar(bracket);
	if (!j->depth)
		putchar('\n');
}

void disk_json_number(struct disk_json *j, const char *name, uint64_t value)
{
	begin(j, name);
	printf("%llu", (unsigned long long)value);
}

void disk_json_bool(struct disk_json *j, const char *name, bool value)
{
	begin(j, name);
	printf(value ? "true" : "false");
}

void disk_json_text(struct disk_json *j, const char *name, const char *value)
{
	begin(j, name);
	text(value);
}

/* ---- progress ---- */

static void on_signal(int number)
{
	interrupted = 1;
}

bool disk_interrupted(void)
{
	return interrupted;
}

static int from_library(void *ctx, uint64_t done, uint64_t total)
{
	disk_progress_show(ctx, done, total);
	return interrupted;
}

void disk_progress_init(struct disk_progress *p, const struct disk_common *c)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESETHAND };
	*p = (struct disk_progress){
		.hook = { .fn = from_library, .ctx = p },
		.lines = c->progress,
		.bar = !c->progress && !c->quiet && (c->bar || isatty(STDERR_FILENO)),
	};
	interrupted = 0;
	sigaction(SIGINT, &action, NULL); /* a second one ends the program */
	sigaction(SIGTERM, &action, NULL);
}

void disk_progress_show(struct disk_progress *p, uint64_t done, uint64_t total)
{
	static const char marks[] = "##################################################";
	double part = total ? (double)done / (double)total : 1;
	if (!p->bar && !p->lines)
		return;
	uint64_t now = wh_os_now();
	if (p->shown && done < total && now - p->last_ns < SHOW_NS)
		return;
	p->last_ns = now;
	p->shown = true;
	if (p->lines)
		fprintf(stderr, "{\"progress\": %.4f, \"done\": %llu, \"total\": %llu}\n", part,
			(unsigned long long)done, (unsigned long long)total);
	else
		fprintf(stderr, "\r[%-50.*s] %5.1f %%", (int)(part * 50), marks, part * 100);
}

void disk_progress_end(struct disk_progress *p)
{
	if (p->bar && p->shown)
		fputc('\n', stderr);
}
