/* SPDX-License-Identifier: ISC */

/*
 * The console as three files. All three are readable and writable, as the
 * descriptors of a terminal are; reading any of them reads standard input, and
 * writing to descriptor 2 goes to standard error.
 */

#include <drv/console.h>
#include <fs/console.h>
#include <fs/file.h>
#include <fs/stat.h>
#include <kern/mem.h>
#include <kern/plat.h>
#include <wherry/abi/console.h>
#include <wherry/base/errors.h>

struct console_file {
	struct fs_file file;
	enum wh_console_stream stream;
};

enum { TCGETS = 0x5401, TIOCGPGRP = 0x540f, TIOCGWINSZ = 0x5413, FIONREAD = 0x541b };

struct winsize {
	uint16_t rows, cols, x, y;
};

struct termios { /* the kernel's, x86_64 */
	uint32_t iflag, oflag, cflag, lflag;
	uint8_t line;
	uint8_t cc[19];
};

static int64_t console_read(struct fs_file *f, const struct wh_iov *iov, int count, uint64_t offset,
			    bool nonblock)
{
	(void)offset;
	for (int i = 0; i < count; i++)
		if (iov[i].size)
			return drv_console_read(iov[i].base, iov[i].size, nonblock);
	return 0;
}

static int64_t console_write(struct fs_file *f, const struct wh_iov *iov, int count,
			     uint64_t offset, bool nonblock)
{
	struct console_file *c = WH_CONTAINER_OF(f, struct console_file, file);
	(void)offset;
	return drv_console_write(c->stream, iov, count, nonblock);
}

static uint32_t console_poll(struct fs_file *f)
{
	return drv_console_poll();
}

/* Each of the three is what it is on the host: `echo x | wherry run` has no terminal to read. */
static bool is_tty(const struct fs_file *f);

static int console_stat(struct fs_file *f, struct fs_stat *st)
{
	if (is_tty(f)) {
		st->mode = LX_S_IFCHR | 0620;
		st->rdev = FS_MAKEDEV(5, 1);
	} else {
		st->mode = LX_S_IFIFO | 0600;
	}
	return 0;
}

static int console_ioctl(struct fs_file *f, unsigned long request, unsigned long argument)
{
	void *to = (void *)argument;
	bool answers = request == FIONREAD || request == TCGETS || request == TIOCGWINSZ ||
		       request == TIOCGPGRP;
	if (answers && !kern_user_writable(to, sizeof(struct winsize)))
		return -WH_EFAULT;
	if (request == FIONREAD) {
		*(int *)to = (int)drv_console_pending();
		return 0;
	}
	if (!is_tty(f))
		return -WH_ENOTTY;
	switch (request) {
	case TIOCGWINSZ: {
		struct winsize w = { 25, 80, 0, 0 };
		drv_console_window(&w.cols, &w.rows);
		memcpy(to, &w, sizeof w);
		return 0;
	}
	case TCGETS: { /* a cooked terminal, 38400 baud */
		static const struct termios t = { .iflag = 0x500,
						  .oflag = 5,
						  .cflag = 0xbf,
						  .lflag = 0x8a3b,
						  .cc = { 3, 28, 127, 21, 4 } };
		memcpy(to, &t, sizeof t);
		return 0;
	}
	case 0x5402: /* TCSETS, TCSETSW, TCSETSF: the terminal is the host's; accepted */
	case 0x5403:
	case 0x5404:
	case 0x5409: /* TCSBRK, TCXONC, TCFLSH: nothing is held back here */
	case 0x540a:
	case 0x540b:
	case 0x5414: /* TIOCSWINSZ */
		return 0;
	case TIOCGPGRP:
		*(int *)to = 1;
		return 0;
	default:
		return -WH_ENOTTY;
	}
}

static void console_release(struct fs_file *f)
{
	/* Static: nothing to free. The file can be opened again through /dev. */
}

static const struct fs_file_ops console_ops = {
	.read = console_read,
	.write = console_write,
	.poll = console_poll,
	.stat = console_stat,
	.ioctl = console_ioctl,
	.release = console_release,
	.kind = FS_KIND_CONSOLE,
};

static struct console_file consoles[3] = { { .stream = WH_CONSOLE_STDOUT },
					   { .stream = WH_CONSOLE_STDOUT },
					   { .stream = WH_CONSOLE_STDERR } };

static bool is_tty(const struct fs_file *f)
{
	static const uint32_t flags[3] = { WH_BOOT_STDIN_TTY, WH_BOOT_CONSOLE_TTY,
					   WH_BOOT_STDERR_TTY };
	return kern_boot()->flags & flags[WH_CONTAINER_OF(f, struct console_file, file) - consoles];
}

/* Runs in the driver's poll when input came or output space became free. */
static void console_ready(uint32_t events)
{
	for (int i = 0; i < 3; i++)
		if (consoles[i].file.refs)
			kern_waitq_wake(&consoles[i].file.waitq, events, UINT32_MAX);
}

struct fs_file *fs_console_file(int fd)
{
	struct fs_file *f = &consoles[fd].file;
	if (f->refs) {
		fs_file_ref(f);
	} else {
		fs_file_init(f, &console_ops, LX_O_RDWR);
		drv_console_on_ready(console_ready);
	}
	return f;
}
