/* SPDX-License-Identifier: ISC */
#ifndef CLI_KERNEL_SERIAL_H
#define CLI_KERNEL_SERIAL_H

/*
 * Where the serial port of a kernel leads (--serial):
 *
 *	stdio         our standard streams. A terminal is put into raw mode, so that keys reach the guest; Ctrl-A x
 *	              ends the machine, Ctrl-A Ctrl-A sends one Ctrl-A.
 *	pty[=LINK]    a new pseudo-terminal, with a symbolic link to it
 *	unix=PATH     a Unix socket that one client at a time connects to
 *	null, hvc     nowhere (hvc: the virtio console has our streams)
 *
 * A reader of our standard output that is behind makes the guest wait, not the monitor. With ",log=FILE" the output goes to a ring file as well (docs/spec/console-log.md). Output that nobody takes is lost but for the
 * log: a guest never waits for a terminal that nobody has opened.
 */

#include <termios.h>
#include <wherry/os.h>
#include <wherry/pc.h>

#define KERNEL_SERIAL_BUFFER 256u

struct kernel_serial {
	struct wh_loop *loop;
	struct wh_vmm_machine *machine;
	int in, out; /* -1 = none */
	struct wh_loop_fd watch;
	bool watching, file, ended, raw, escape;
	struct termios before;
	char waiting[KERNEL_SERIAL_BUFFER]; /* read, not yet taken by the guest */
	size_t waiting_size;
	void (*quit)(void *ctx); /* Ctrl-A x */
	void *ctx;

	bool stdio;
	struct wh_loop_fd out_watch; /* stdio: while its reader is behind */
	bool out_watching, out_file; /* file: it never waits, and cannot be watched */
	char *behind;
	size_t behind_size, behind_room;
	int slave;      /* pty: held open, so that a reader may come and go */
	char path[128]; /* of link or socket, "" = none */
	struct wh_loop_fd listen;
	uint8_t *log; /* mapped */
	int log_fd;
};

/* loop, machine, quit and ctx are set. 0 or -1 after a message. */
int kernel_serial_begin(struct kernel_serial *s, const char *where);
void kernel_serial_output(struct kernel_serial *s, const char *text, size_t size);
void kernel_serial_room(struct kernel_serial *s); /* the guest takes more */
void kernel_serial_end(
	struct kernel_serial *s); /* the terminal is as it was, link and socket are gone */

#endif
