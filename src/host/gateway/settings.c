/* SPDX-License-Identifier: ISC */
/*
 * Settings from a folder. A change of any file reads all of them anew (they are few and small) and compares the
 * lines with those in force:
 *
 *	- lines that publish or forward are one each: those that went are undone, those that came are carried
 *	  out, others are left alone, so that nobody's connection to a port is refused meanwhile;
 *	- all others are taken back and carried out again when one of them changed, as their order counts. That is
 *	  within one event of the loop: no packet sees the gap.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/hash.h>
#include <wherry/gateway_settings.h>
#include <wherry/os.h>

#include "control_priv.h"

#define SETTLE_NS (20 * GATEWAY_MS) /* a change comes as several events */
#define LOOK_NS (2 * GATEWAY_S)
#define NAME_MAX_SIZE 256u

struct line {
	char *text;
	const char *file;
	uint32_t number, id; /* id = of what it made, 0 = nothing that has one */
	bool single;         /* publishes or forwards */
	bool done, kept;
};

struct set {
	char *bytes; /* WH_SETTINGS_SIZE_MAX + 1 */
	uint32_t used, count;
	struct line lines[WH_SETTINGS_LINES_MAX];
	uint32_t file_count;
	char files[WH_SETTINGS_FILES_MAX][NAME_MAX_SIZE];
};

struct wh_gateway_settings {
	struct wh_gateway_control *control;
	struct wh_loop *loop;
	struct wh_loop_fd watch; /* inotify, -1 = none */
	struct wh_loop_timer timer;
	bool looks; /* the filesystem tells nothing */
	uint64_t stamp;
	uint32_t failed;
	struct set sets[2], *now;
	char path[];
};

/* ---- reading ---- */

static int name_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void report(struct wh_gateway_settings *s, const char *file, uint32_t number,
		   const char *text)
{
	struct wh_gateway *gateway = s->control->gateway;
	s->failed++;
	wh_log_write(&gateway->log, WH_LOG_ERROR, "settings", number, "%s/%s line %u: %s", s->path,
		     file, number, text);
	event(gateway, "settings", ",\"line\":%u", number);
}

static int files_list(struct wh_gateway_settings *s, struct set *set)
{
	DIR *folder = opendir(s->path);
	struct dirent *entry;
	if (!folder)
		return -errno;
	set->file_count = 0;
	while ((entry = readdir(folder))) {
		const char *name = entry->d_name;
		size_t size = strlen(name);
		if (name[0] == '.' || name[size - 1] == '~' || size >= NAME_MAX_SIZE)
			continue;
		if (set->file_count == WH_SETTINGS_FILES_MAX) {
			report(s, name, 0, "more files than are read");
			break;
		}
		memcpy(set->files[set->file_count++], name, size + 1);
	}
	closedir(folder);
	qsort(set->files, set->file_count, NAME_MAX_SIZE, name_compare);
	return 0;
}

static bool starts(const char *text, const char *word)
{
	size_t n = wh_strlen(word);
	return !strncmp(text, word, n) && (text[n] == ' ' || !text[n]);
}

static void lines_cut(struct wh_gateway_settings *s, struct set *set, const char *file, char *text)
{
	uint32_t number = 0;
	for (char *next; text; text = next) {
		next = strchr(text, '\n');
		if (next)
			*next++ = 0;
		number++;
		while (*text == ' ' || *text == '\t')
			text++;
		for (size_t n = strlen(text);
		     n && (text[n - 1] == ' ' || text[n - 1] == '\r' || text[n - 1] == '\t');)
			text[--n] = 0;
		if (!*text || *text == '#')
			continue;
		if (set->count == WH_SETTINGS_LINES_MAX) {
			report(s, file, number, "more lines than are read");
			return;
		}
		set->lines[set->count++] = (struct line){ .text = text,
							  .file = file,
							  .number = number,
							  .single = starts(text, "expose") ||
								    starts(text, "forward") };
	}
}

static void file_read(struct wh_gateway_settings *s, struct set *set, const char *file)
{
	char path[4352];
	struct stat st;
	wh_format(path, sizeof path, "%s/%s", s->path, file);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return; /* it went, or is a folder */
	}
	char *text = set->bytes + set->used;
	size_t room = WH_SETTINGS_SIZE_MAX - set->used, size = 0;
	ssize_t n = 1;
	while (size < room && (n = read(fd, text + size, room - size)) > 0)
		size += (size_t)n;
	close(fd);
	if (n < 0 || memchr(text, 0, size)) {
		report(s, file, 0, n < 0 ? "it cannot be read" : "it is no text");
		return;
	}
	if (size == room) {
		report(s, file, 0, "more text than is read");
		return;
	}
	text[size] = 0;
	set->used += (uint32_t)size + 1;
	lines_cut(s, set, file, text);
}

/* ---- doing and undoing ---- */

static void line_do(struct wh_gateway_settings *s, struct line *line)
{
	struct wh_diag diag = { "" };
	line->done = !control_run(s->control, line->text, &line->id, &diag);
	if (!line->done)
		report(s, line->file, line->number, diag.text);
}

/* Requests that take back what a line has said: the first words that fit. %1, %2 = words of the line. */
static const struct {
	const char *line, *undo;
} inverse[] = {
	{ "dns add", "dns remove %2" },
	{ "dns forward", "dns unforward %2" },
	{ "dns servers", "dns servers host" },
	{ "dns filter", "dns filter none" },
	{ "leases fix", "leases remove %2" },
	{ "limits guest", "limits guest %2 none" },
	{ "limits rule", "limits rule %2 flows 0 clients 0" },
	{ "limits", "limits out 0 in 0 connects 0 flows 0 clients 0" },
	{ "proxy except", "proxy except ," },
	{ "proxy", "proxy none" },
};

static void line_undo(struct wh_gateway_settings *s, struct line *line)
{
	char request[WH_CONTROL_LINE_SIZE];
	struct wh_gateway *gateway = s->control->gateway;
	if (!line->done)
		return;
	line->done = false;
	if (starts(line->text, "expose"))
		(void)wh_gateway_unpublish(gateway, line->id); /* somebody may have done it */
	else if (starts(line->text, "forward"))
		(void)wh_gateway_forward_remove(gateway, line->id);
	else if (starts(line->text, "dns record"))
		(void)wh_gateway_record_remove(gateway, line->id);
	else if (starts(line->text, "policy"))
		(void)wh_gateway_policy_remove(gateway, line->id);
	for (unsigned i = 0; i < WH_ARRAY_COUNT(inverse); i++) {
		if (!starts(line->text, inverse[i].line))
			continue;
		const char *word = line->text; /* the third one */
		for (int k = 0; k < 2; k++) {
			word += strcspn(word, " ");
			word += strspn(word, " ");
		}
		size_t n = 0;
		for (const char *p = inverse[i].undo; *p && n < sizeof request - 1; p++) {
			if (*p != '%') {
				request[n++] = *p;
				continue;
			}
			for (const char *q = word; *q && *q != ' ' && n < sizeof request - 1; q++)
				request[n++] = *q;
			p++;
		}
		request[n] = 0;
		(void)control_run(s->control, request, NULL, NULL); /* as above */
		return;
	}
}

static bool others_equal(const struct set *a, const struct set *b)
{
	uint32_t i = 0, k = 0;
	for (;; i++, k++) {
		while (i < a->count && a->lines[i].single)
			i++;
		while (k < b->count && b->lines[k].single)
			k++;
		if (i == a->count || k == b->count)
			return i == a->count && k == b->count;
		if (strcmp(a->lines[i].text, b->lines[k].text))
			return false;
	}
}

/* Takes over what the former set has done and the new one says as well. */
static void singles_keep(struct set *before, struct set *after)
{
	for (uint32_t i = 0; i < after->count; i++) {
		struct line *line = &after->lines[i];
		for (uint32_t k = 0; line->single && k < before->count; k++) {
			struct line *old = &before->lines[k];
			if (!old->done || old->kept || strcmp(old->text, line->text))
				continue;
			line->done = old->kept = true;
			line->id = old->id;
			break;
		}
	}
}

static int settings_apply(struct wh_gateway_settings *s)
{
	struct set *before = s->now, *after = &s->sets[before == &s->sets[0]];
	after->used = after->count = 0;
	s->failed = 0;
	int error = files_list(s, after);
	for (uint32_t i = 0; i < after->file_count && !error; i++)
		file_read(s, after, after->files[i]);
	if (error)
		return error; /* the folder is gone: what was said last counts */
	bool others = !others_equal(before, after);
	singles_keep(before, after);
	for (uint32_t i = before->count; i-- > 0;)
		if (before->lines[i].single ? !before->lines[i].kept : others)
			line_undo(s, &before->lines[i]);
	if (!others) /* in the same order, what they have done goes over */
		for (uint32_t i = 0, k = 0; i < after->count; i++) {
			if (after->lines[i].single)
				continue;
			while (before->lines[k].single)
				k++;
			after->lines[i].done = before->lines[k].done;
			after->lines[i].id = before->lines[k++].id;
		}
	for (uint32_t i = 0; i < after->count; i++)
		if (!after->lines[i].done && (after->lines[i].single || others))
			line_do(s, &after->lines[i]);
	s->now = after;
	event(s->control->gateway, "settings", ",\"lines\":%u,\"failed\":%u", after->count,
	      s->failed);
	return 0;
}

/* ---- following ---- */

static uint64_t stamp_of(struct wh_gateway_settings *s)
{
	static const uint64_t key[2] = { 1, 2 };
	char path[4352];
	struct set *set = &s->sets[s->now == &s->sets[0]]; /* not in use */
	uint64_t stamp = 0;
	struct stat st;
	if (files_list(s, set))
		return stamp;
	for (uint32_t i = 0; i < set->file_count; i++) {
		wh_format(path, sizeof path, "%s/%s", s->path, set->files[i]);
		if (stat(path, &st))
			continue;
		uint64_t parts[4] = { stamp, (uint64_t)st.st_mtim.tv_sec,
				      (uint64_t)st.st_mtim.tv_nsec ^ (uint64_t)st.st_size << 32,
				      st.st_ino };
		stamp = wh_siphash(key, parts, sizeof parts) ^
			wh_siphash(key, set->files[i], strlen(set->files[i]));
	}
	return stamp;
}

static void timer_fired(struct wh_loop_timer *timer)
{
	struct wh_gateway_settings *s = timer->ctx;
	uint64_t stamp = s->looks ? stamp_of(s) : 0;
	if (!s->looks || stamp != s->stamp)
		(void)settings_apply(s); /* a folder that is gone may come again */
	s->stamp = stamp;
	if (s->looks)
		wh_loop_timer_start(s->loop, timer, wh_loop_now(s->loop) + LOOK_NS);
}

static void changed(struct wh_loop_fd *watch, uint32_t events)
{
	struct wh_gateway_settings *s = watch->ctx;
	_Alignas(struct inotify_event) char buffer[4096];
	while (read(watch->fd, buffer, sizeof buffer) > 0) /* what it was does not matter */
		;
	if (!wh_loop_timer_running(&s->timer))
		wh_loop_timer_start(s->loop, &s->timer, wh_loop_now(s->loop) + SETTLE_NS);
}

static bool tells_nothing(const char *path)
{
	struct statfs fs;
	return statfs(path, &fs) || fs.f_type == 0x01021997 /* 9P */ ||
	       fs.f_type == 0x65735546 /* FUSE */ || fs.f_type == 0x6969 /* NFS */;
}

static int follow(struct wh_gateway_settings *s)
{
	s->watch.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (s->watch.fd < 0 || tells_nothing(s->path) ||
	    inotify_add_watch(s->watch.fd, s->path,
			      IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE |
				      IN_ONLYDIR) < 0) {
		wh_os_close(&s->watch.fd);
		s->looks = true;
		s->stamp = stamp_of(s);
		wh_loop_timer_start(s->loop, &s->timer, wh_loop_now(s->loop) + LOOK_NS);
		return 0;
	}
	s->watch.events = WH_LOOP_READ;
	s->watch.fn = changed;
	s->watch.ctx = s;
	return wh_loop_add(s->loop, &s->watch);
}

int wh_gateway_settings_new(struct wh_gateway_control *control, const char *path,
			    struct wh_gateway_settings **ret_settings, struct wh_diag *diag)
{
	const struct wh_alloc *alloc = control->gateway->alloc;
	size_t size = wh_strlen(path) + 1;
	struct stat st;
	if (stat(path, &st))
		return wh_diag_set(diag, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return wh_diag_set(diag, -WH_ENOTDIR, "%s is no folder", path);
	struct wh_gateway_settings *s = wh_alloc_zero(alloc, sizeof *s + size);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the settings");
	memcpy(s->path, path, size);
	s->control = control;
	s->loop = control->loop;
	s->watch.fd = -1;
	s->now = &s->sets[0];
	wh_loop_timer_init(&s->timer, timer_fired, s);
	for (int i = 0; i < 2; i++)
		s->sets[i].bytes = wh_alloc(alloc, WH_SETTINGS_SIZE_MAX + 1);
	int error = s->sets[0].bytes && s->sets[1].bytes ? follow(s) : -WH_ENOMEM;
	if (!error)
		error = settings_apply(s); /* after the watch: nothing is missed */
	if (error) {
		wh_gateway_settings_free(s);
		return wh_diag_set(diag, error, "%s cannot be followed: %s", path,
				   strerror(-error));
	}
	*ret_settings = s;
	return 0;
}

void wh_gateway_settings_free(struct wh_gateway_settings *s)
{
	if (!s)
		return;
	const struct wh_alloc *alloc = s->control->gateway->alloc;
	wh_loop_timer_stop(s->loop, &s->timer);
	if (s->watch.fn)
		wh_loop_remove(s->loop, &s->watch);
	wh_os_close(&s->watch.fd);
	for (int i = 0; i < 2; i++)
		wh_free(alloc, s->sets[i].bytes, WH_SETTINGS_SIZE_MAX + 1);
	wh_free(alloc, s, sizeof *s + wh_strlen(s->path) + 1);
}

void wh_gateway_settings_count(const struct wh_gateway_settings *s, uint32_t *ret_lines,
			       uint32_t *ret_failed)
{
	*ret_lines = s->now->count - s->failed;
	*ret_failed = s->failed;
}
