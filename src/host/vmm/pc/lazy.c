/* SPDX-License-Identifier: ISC */
/*
 * RAM of a snapshot that is fetched when it is touched (userfaultfd): whoever touches a page that is not there - guest, kvm or a device -
 * waits until this file's thread has read it. Unlike a mapping of the file, the pages are the machine's own at once, are read in
 * blocks of the size that the file's medium likes, and the page cache keeps nothing that the guest did not ask for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "pc_priv.h"

#define BLOCK (64u << 10) /* what one fault brings */
#define MESSAGES 16u
#define STACK_SIZE (64u << 10)
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* /dev/userfaultfd, Linux 6.1 */
#endif

struct pc_lazy {
	int faults, stop, file;
	uint8_t *ram;
	uint64_t size, offset; /* of RAM; of it in the file */
	pthread_t thread;
	bool started;
	const struct wh_vmm_machine *machine;
	uint8_t block[BLOCK] __attribute__((aligned(4096)));
};

/* The page's contents where they are wanted; false = it is there already. */
static bool put_page(struct pc_lazy *l, uint64_t at, uint8_t *from)
{
	struct uffdio_copy copy = { .dst = (uint64_t)(uintptr_t)(l->ram + at),
				    .src = (uint64_t)(uintptr_t)from,
				    .len = VMM_PAGE };
	while (ioctl(l->faults, UFFDIO_COPY, &copy))
		if (errno != EAGAIN)
			return false;
	return true;
}

/* The block around an address. What cannot be read is zeros: the guest suffers, as from a bad disk. */
static void fetch(struct pc_lazy *l, uint64_t address)
{
	uint64_t at = wh_align_down(address, BLOCK);
	uint64_t size = l->size - at < BLOCK ? l->size - at : BLOCK;
	ssize_t have = 0, n = 1;
	while (have < (ssize_t)size && n > 0) {
		n = pread(l->file, l->block + have, size - (size_t)have,
			  (off_t)(l->offset + at + (uint64_t)have));
		have += n > 0 ? n : 0;
	}
	memset(l->block + have, 0, size - (size_t)have);
	for (uint64_t page = 0; page < size; page += VMM_PAGE)
		(void)put_page(l, at + page, l->block + page);
	struct uffdio_range wake = { .start = (uint64_t)(uintptr_t)(l->ram + at), .len = size };
	(void)ioctl(l->faults, UFFDIO_WAKE, &wake); /* of a page that was there all the same */
}

static void *serve(void *ctx)
{
	struct pc_lazy *l = ctx;
	struct pollfd p[2] = { { .fd = l->faults, .events = POLLIN },
			       { .fd = l->stop, .events = POLLIN } };
	struct uffd_msg m[MESSAGES];
	const struct pc *pc = pc_of(l->machine);
	if (pc->fetcher_begins)
		pc->fetcher_begins(l->machine->ctx);
	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		if (p[1].revents)
			break;
		ssize_t n = read(l->faults, m, sizeof m);
		for (ssize_t i = 0; i < n / (ssize_t)sizeof m[0]; i++)
			if (m[i].event == UFFD_EVENT_PAGEFAULT)
				fetch(l, m[i].arg.pagefault.address - (uint64_t)(uintptr_t)l->ram);
	}
	return NULL;
}

/* kvm and system calls touch guest memory, so faults of the kernel count, too: that takes a right. */
static int open_faults(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 || (errno != EPERM && errno != ENOSYS))
		return fd < 0 ? -errno : fd;
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	fd = device < 0 ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	int error = fd < 0 ? -WH_EPERM : fd;
	wh_os_close(&device);
	return error;
}

static int register_ram(struct pc_lazy *l)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register r = { .range = { (uint64_t)(uintptr_t)l->ram, l->size },
				     .mode = UFFDIO_REGISTER_MODE_MISSING };
	return ioctl(l->faults, UFFDIO_API, &api) || ioctl(l->faults, UFFDIO_REGISTER, &r) ? -errno
											   : 0;
}

static int start_thread(struct pc_lazy *l)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&l->thread, &attributes, serve, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	l->started = !error;
	return -error;
}

int pc_lazy_new(const struct pc_snapshot *s, struct wh_vmm_machine *m, struct pc_lazy **ret_lazy,
		struct wh_diag *diag)
{
	struct pc_lazy *l = calloc(1, sizeof *l);
	if (!l)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a snapshot");
	*l = (struct pc_lazy){
		.stop = -1, .size = s->ram_size, .offset = s->ram_offset, .machine = m
	};
	l->faults = open_faults();
	l->file = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
	l->stop = eventfd(0, EFD_CLOEXEC);
	int error = l->faults < 0 ? l->faults : l->file < 0 || l->stop < 0 ? -errno : 0;
	void *p = error ? MAP_FAILED
			: mmap(NULL, l->size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!error && p == MAP_FAILED)
		error = -errno;
	if (!error) {
		l->ram = m->ram = p; /* the machine unmaps it */
		error = register_ram(l);
	}
	if (!error)
		error = start_thread(l);
	*ret_lazy = l;
	if (error == -WH_EPERM)
		return wh_diag_set(
			diag, error,
			"memory cannot be fetched lazily by this user: leave --lazy out, or allow "
			"it "
			"(sysctl vm.unprivileged_userfaultfd=1, or the right to /dev/userfaultfd)");
	return error ? wh_diag_set(diag, error, "memory cannot be fetched lazily (errno %d)",
				   -error)
		     : 0;
}

void pc_lazy_free(struct pc_lazy *l)
{
	uint64_t one = 1;
	if (!l)
		return;
	if (l->started) {
		(void)!write(l->stop, &one, sizeof one); /* wakes it for good */
		pthread_join(l->thread, NULL);
	}
	wh_os_close(&l->faults);
	wh_os_close(&l->stop);
	wh_os_close(&l->file);
	free(l);
}
