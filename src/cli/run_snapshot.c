/* SPDX-License-Identifier: ISC */
/*
 * Snapshots of a running machine: it stands still while its devices finish what they have in hand, is written, and goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <wherry/base/errors.h>

#include "run.h"

#define TRIES 2000u
#define TRY_NS 5000000u

static struct {
	struct run *run;     /* NULL: none is under way */
	bool resume, passed; /* passed: the file is its sender's */
	struct wh_loop_timer timer;
	unsigned tries;
	int fd;
	char path[1024];
	void (*done)(void *ctx, int error, const struct wh_diag *diag);
	void *ctx;
} snapshot;

static void go_on(struct run *r)
{
	if (snapshot.resume)
		(void)wh_vmm_machine_pause(r->machine, false, NULL); /* fails when it has ended */
}

static void try(struct wh_loop_timer *timer)
{
	struct wh_diag diag = { "" };
	struct run *r = snapshot.run;
	int error = wh_vmm_machine_snapshot(r->machine, snapshot.fd, &diag);
	if ((error == -WH_EAGAIN || error == -WH_EBUSY) && ++snapshot.tries < TRIES) {
		wh_loop_timer_start(r->loop, timer, wh_os_now() + TRY_NS);
		return;
	}
	if (error >= 0 && fsync(snapshot.fd))
		error = wh_diag_set(&diag, -errno, "cannot write %s (errno %d)", snapshot.path,
				    errno);
	go_on(r);
	wh_os_close(&snapshot.fd);
	if (error < 0 && !snapshot.passed)
		(void)unlink(snapshot.path);
	snapshot.run = NULL;
	snapshot.done(snapshot.ctx, error, &diag);
}

int run_snapshot(struct run *r, const char *path, int fd,
		 void (*done)(void *ctx, int error, const struct wh_diag *diag), void *ctx,
		 struct wh_diag *diag)
{
	int error = 0;
	if (snapshot.run)
		error = wh_diag_set(diag, -WH_EALREADY, "another snapshot is being written");
	else if (wh_format(snapshot.path, sizeof snapshot.path, "%s", path) >= sizeof snapshot.path)
		error = wh_diag_set(diag, -WH_ENAMETOOLONG, "the path is too long");
	else if ((snapshot.resume = !wh_vmm_machine_paused(r->machine)))
		error = wh_vmm_machine_pause(r->machine, true, diag);
	if (error < 0) {
		wh_os_close(&fd);
		return error;
	}
	snapshot.passed = fd >= 0;
	snapshot.fd =
		fd >= 0 ? fd
			: open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (snapshot.fd < 0) {
		error = wh_diag_set(diag, -errno,
				    errno == EEXIST ? "%s exists already"
				    : errno == EACCES && r->options.confine == RUN_CONFINE_ON
					    ? "%s cannot be made: the monitor is confined; send "
					      "the open file's descriptor along, as wherry "
					      "snapshot does, or start with --confine off"
					    : "%s cannot be made (errno %d)",
				    path, errno);
		go_on(r);
		return error;
	}
	snapshot.run = r;
	snapshot.done = done;
	snapshot.ctx = ctx;
	snapshot.tries = 0;
	wh_loop_timer_init(&snapshot.timer, try, NULL);
	try(&snapshot.timer);
	return 0;
}

void run_snapshot_end(void)
{
	if (snapshot.run && !snapshot.passed)
		(void)unlink(snapshot.path); /* half of one is none */
	snapshot.run = NULL;
}
