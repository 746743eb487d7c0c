/* SPDX-License-Identifier: ISC */
#ifndef CLI_KERNEL_SERIAL_H
#define CLI_KERNEL_SERIAL_H

/*
 * The serial port of a kernel on our standard streams. A terminal is put into raw mode, so that keys reach the
 * guest; Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends one Ctrl-A.
 */

#include <termios.h>
#include <wherry/os.h>
#include <wherry/pc.h>

#define KERNEL_SERIAL_BUFFER 256u

struct kernel_serial {
	struct wh_loop *loop;
	struct wh_vmm_machine *machine;
	struct wh_loop_fd watch;
	bool watching, file, ended, raw, escape;
	struct termios before;
	char waiting[KERNEL_SERIAL_BUFFER]; /* read, not yet taken by the guest */
	size_t waiting_size;
	void (*quit)(void *ctx); /* Ctrl-A x */
	void *ctx;
};

/* loop, machine, quit and ctx are set. */
void kernel_serial_begin(struct kernel_serial *s);
void kernel_serial_room(struct kernel_serial *s); /* the guest takes more */
void kernel_serial_end(struct kernel_serial *s);  /* the terminal is as it was */

#endif
