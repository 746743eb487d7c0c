/* SPDX-License-Identifier: ISC */
/*
 * The engine for Solo5's spt guests: a process that makes system calls, exactly those of the ABI (include/spt_abi.h), and has no other
 * descriptors than those that the ABI gives it. The stub of proc/ becomes the guest; spt_plan.c writes what it does first.
 *
 *	console		a pipe; what it brings goes to ops.puts
 *	network		a socket pair for each device, one frame a datagram, the guest's end does not wait
 *	clock, sleep	a timerfd in an epoll set, with the network's descriptors, as the ABI says
 *	disk		the file itself when the device is `direct`; else a number that no file has: a filter leads such calls
 *			to the monitor, which moves the block to or from guest memory and answers
 *
 * The guest's memory is the machine's memfd at its own addresses. A guest that scribbles over the plan in its low
 * memory changes nothing: nobody reads it again but to explain a start that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/checked.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>

#include "spt_priv.h"

#define INTERNAL_TIMER (~1u) /* SPT_INTERNAL_TIMERFD */
#define STUB_PLACE 0x100000000000ull
#define TEXT_AT_ONCE 16384u
#define FRAMES_AT_ONCE 64u
#define P_PIDFD_TYPE 3 /* sys/wait.h of older libcs lacks it */

struct spt_net {
	struct spt *spt;
	struct wh_loop_fd watch; /* our end */
	uint32_t handle;
	uint32_t room, held; /* of the frame; held: its size, 0 = none waits */
	uint8_t frame[];
};

static struct spt *spt_of(const struct wh_vmm_machine *m)
{
	return m->engine_state;
}

/* ---- console ---- */

/* true = there may be more. */
static bool take_text(struct spt *s)
{
	char text[TEXT_AT_ONCE];
	ssize_t n = read(s->console_watch.fd, text, sizeof text);
	if (n > 0)
		s->ops.puts(s->ops_ctx, text, (size_t)n);
	return n > 0;
}

static void unwatch(struct spt *s, struct wh_loop_fd *watch)
{
	if (watch->fd >= 0 && watch->ctx)
		wh_loop_remove(s->machine->loop, watch);
	wh_os_close(&watch->fd);
}

static void text_came(struct wh_loop_fd *watch, uint32_t events)
{
	struct spt *s = watch->ctx;
	if (!take_text(s) && events & WH_LOOP_HANGUP)
		unwatch(s, watch);
}

/* ---- network ---- */

static void take_frames(struct spt_net *n)
{
	struct spt *s = n->spt;
	uint8_t frame[SPT_FRAME_MAX];
	for (unsigned i = 0; i < FRAMES_AT_ONCE; i++) {
		ssize_t size = recv(n->watch.fd, frame, sizeof frame, MSG_DONTWAIT | MSG_TRUNC);
		if (size < 0)
			break;
		if ((size_t)size <= n->room) /* others are dropped, as a card does */
			(void)s->ops.net_write(s->ops_ctx, n->handle, frame, (size_t)size);
	}
}

static bool send_held(struct spt_net *n)
{
	if (n->held && send(n->watch.fd, n->frame, n->held, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    (errno == EAGAIN || errno == ENOBUFS))
		return false;
	n->held = 0; /* sent, or lost as on a wire */
	return true;
}

/* What waits for the guest goes into its socket until that is full. */
static void give_frames(struct spt_net *n)
{
	struct spt *s = n->spt;
	uint32_t wanted = WH_LOOP_READ;
	while (send_held(n)) {
		int size = s->ops.net_read(s->ops_ctx, n->handle, n->frame, n->room);
		if (size <= 0)
			break;
		n->held = (uint32_t)size;
	}
	if (n->held)
		wanted |= WH_LOOP_WRITE;
	if (n->watch.events != wanted)
		(void)wh_loop_modify(s->machine->loop, &n->watch, wanted); /* late frames then */
}

static void net_event(struct wh_loop_fd *watch, uint32_t events)
{
	struct spt_net *n = watch->ctx;
	if (events & WH_LOOP_READ)
		take_frames(n);
	if (events & WH_LOOP_WRITE)
		give_frames(n);
}

void solo5_spt_ready(struct wh_vmm_machine *m)
{
	struct spt *s = spt_of(m);
	for (uint32_t i = 0; s->running && i < s->net_count; i++)
		if (!s->net[i]->held)
			give_frames(s->net[i]);
}

/* ---- disks that the guest asks for ---- */

static int disk_call(struct spt *s, const struct seccomp_data *d)
{
	const struct wh_vmm_solo5_device *device = NULL;
	bool write = d->nr == SYS_pwrite64;
	uint64_t size = d->args[2], offset = d->args[3];
	uint32_t handle = 1;
	for (; (device = wh_vmm_solo5_device(s->solo5, handle)); handle++)
		if (device->kind == WH_VMM_SOLO5_BLOCK && !device->direct &&
		    (uint64_t)device->guest_fd == d->args[0])
			break;
	if (!device || (!write && d->nr != SYS_pread64))
		return -WH_EBADF;
	if (size != device->block_size || !solo5_block_range(device, offset, size))
		return -WH_EINVAL;
	void *data = wh_gmem_at(&s->machine->memory, d->args[1], size, !write);
	if (!data)
		return -WH_EFAULT;
	int error = s->ops.block(s->ops_ctx, handle, write, offset, data, size);
	return error < 0 ? -WH_EIO : (int)size;
}

static void guest_asked(struct wh_loop_fd *watch, uint32_t events)
{
	struct spt *s = watch->ctx;
	union {
		struct seccomp_notif n;
		uint8_t room[512]; /* newer kernels' may be larger */
	} q = { .room = { 0 } };
	union {
		struct seccomp_notif_resp r;
		uint8_t room[512];
	} a = { .room = { 0 } };
	if (!(events & WH_LOOP_READ)) {
		unwatch(s, watch);
		return;
	}
	if (ioctl(watch->fd, SECCOMP_IOCTL_NOTIF_RECV, &q))
		return; /* it was ended meanwhile */
	int result = disk_call(s, &q.n.data);
	a.r.id = q.n.id;
	a.r.val = result < 0 ? 0 : result;
	a.r.error = result < 0 ? result : 0;
	(void)ioctl(watch->fd, SECCOMP_IOCTL_NOTIF_SEND, &a); /* nobody waits for it any more */
}

/* The stub hands over where its calls can be answered. */
static void listener_came(struct wh_loop_fd *watch, uint32_t events)
{
	struct spt *s = watch->ctx;
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof control };
	ssize_t n = recvmsg(watch->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	if (n < 0 && errno == EAGAIN && !(events & WH_LOOP_HANGUP))
		return;
	if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
		s->asked_watch = (struct wh_loop_fd){ .events = WH_LOOP_READ, .fn = guest_asked };
		memcpy(&s->asked_watch.fd, CMSG_DATA(c), sizeof(int));
		if (wh_loop_add(s->machine->loop, &s->asked_watch) >= 0)
			s->asked_watch.ctx = s;
		else /* the guest's disk fails: its calls get ENOSYS when nobody listens */
			wh_os_close(&s->asked_watch.fd);
	}
	unwatch(s, watch);
}

/* ---- its end ---- */

static void stop_watching(struct spt *s)
{
	if (s->running)
		wh_loop_remove(s->machine->loop, &s->exit_watch);
	s->running = false;
	unwatch(s, &s->console_watch);
	unwatch(s, &s->pass_watch);
	unwatch(s, &s->asked_watch);
	for (uint32_t i = 0; i < s->net_count; i++)
		unwatch(s, &s->net[i]->watch);
}

static void describe_fault(struct wh_boot_control *c, int signal)
{
	static const char *const names[] = {
		[SIGILL] = "invalid instruction",
		[SIGTRAP] = "breakpoint",
		[SIGBUS] = "bus error",
		[SIGFPE] = "arithmetic error",
		[SIGSEGV] = "access outside its memory, write to its text, "
			    "or execution of its data"
	};
	c->exit_kind = WH_BOOT_EXIT_FAULT;
	c->exit_value = signal;
	wh_format(c->message, sizeof c->message, "%s", names[signal]);
}

static void process_ended(struct wh_loop_fd *watch, uint32_t events)
{
	struct spt *s = watch->ctx;
	struct wh_vmm_machine *m = s->machine;
	int status = 0, error = 0;
	int signal = proc_reap(s->process, &status);
	while (s->console_watch.fd >= 0 && take_text(s))
		;
	for (uint32_t i = 0; i < s->net_count; i++)
		take_frames(s->net[i]);
	stop_watching(s);
	wh_os_close(&s->process->pidfd);
	const char *what = s->process->child_error ? "its process" : NULL;
	if (what)
		error = s->process->child_error;
	else if (!signal && status == 1)
		what = proc_steps_failure((void *)(m->ram + SPT_PLAN), SPT_STEPS_MAX, &error);
	if (what)
		wh_format(m->failure, sizeof m->failure,
			  "the guest's sandbox could not be set up: %s failed (errno %d)", what,
			  error);
	else if (!signal)
		s->control = (struct wh_boot_control){ .exit_kind = WH_BOOT_EXIT_STATUS,
						       .exit_value = status };
	else if (signal == SIGILL || signal == SIGTRAP || signal == SIGBUS || signal == SIGFPE ||
		 signal == SIGSEGV)
		describe_fault(&s->control, signal);
	vmm_machine_ended(m, s->control.exit_kind ? 0 : signal);
}

static void send_signal(struct spt *s, int signal)
{
	syscall(SYS_pidfd_send_signal, s->process->pidfd, signal, NULL, 0);
}

static void spt_kill(struct wh_vmm_machine *m)
{
	send_signal(spt_of(m), SIGKILL);
}

static void spt_signal(struct wh_vmm_machine *m, int signal)
{
	spt_kill(m);
}

/* None of its calls is one that the kernel would go on with by another number (restart_syscall). */
static int spt_pause(struct wh_vmm_machine *m, bool on, struct wh_diag *diag)
{
	struct spt *s = spt_of(m);
	siginfo_t info = { 0 };
	send_signal(s, on ? SIGSTOP : SIGCONT);
	while (on && waitid((idtype_t)P_PIDFD_TYPE, (id_t)s->process->pidfd, &info,
			    WSTOPPED | WEXITED | WNOWAIT | __WALL) < 0)
		if (errno != EINTR)
			return wh_diag_set(diag, -errno, "the guest cannot be stopped (errno %d)",
					   errno);
	return 0;
}

/* The list itself stays as it is: the child reads it until it has exec'ed. */
static void close_given(struct spt *s)
{
	for (uint32_t i = 0; !s->given_closed && i < s->given_count; i++) {
		int fd = s->given[i];
		wh_os_close(&fd);
	}
	s->given_closed = true;
}

static void spt_fini(struct wh_vmm_machine *m)
{
	struct spt *s = spt_of(m);
	if (!s)
		return;
	stop_watching(s);
	if (s->process) {
		s->process->ram_given |= m->ram_fd == s->process->ram_fd;
		wh_vmm_spare_free(s->process);
	}
	close_given(s);
	for (uint32_t i = 0; i < s->net_count; i++)
		free(s->net[i]);
	free(s);
	m->engine_state = NULL;
}

/* ---- making it ---- */

/* Takes the descriptor over, or a copy of a borrowed one: the child has it at `number` in the end. */
static int give(struct spt *s, int fd, bool borrowed, int number)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, SPT_GIVEN_MIN);
	int error = copy < 0 ? -errno : 0;
	if (!borrowed)
		wh_os_close(&fd);
	if (error < 0)
		return error;
	wh_assert(s->given_count < SPT_GIVEN_MAX);
	s->number[s->given_count] = number;
	s->given[s->given_count++] = copy;
	return copy;
}

static int watch_set(struct spt *s, int epoll, int fd, uint64_t data)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = data };
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static int make_console(struct spt *s)
{
	int end[2];
	if (pipe2(end, O_CLOEXEC))
		return -errno;
	s->console_watch = (struct wh_loop_fd){ .fd = end[0], .fn = text_came };
	s->console_watch.events = WH_LOOP_READ;
	(void)fcntl(end[0], F_SETFL, O_NONBLOCK); /* cannot fail */
	return give(s, end[1], false, SPT_CONSOLE);
}

static int make_net(struct spt *s, int epoll, uint32_t handle, struct wh_vmm_solo5_device *d)
{
	int end[2];
	uint32_t room = d->mtu + 14u;
	struct spt_net *n = calloc(1, sizeof *n + room);
	if (!n)
		return -WH_ENOMEM;
	*n = (struct spt_net){ .spt = s,
			       .handle = handle,
			       .room = room,
			       .watch = { .fd = -1, .events = WH_LOOP_READ, .fn = net_event } };
	d->guest_fd = SPT_NET_FIRST + (int)s->net_count;
	s->net[s->net_count++] = n;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, end))
		return -errno;
	n->watch.fd = end[0];
	int fd = give(s, end[1], false, d->guest_fd);
	return fd < 0 ? fd : watch_set(s, epoll, fd, handle);
}

static int make_disk(struct spt *s, uint32_t handle, struct wh_vmm_solo5_device *d, int *next)
{
	int error = 0;
	if (d->direct) {
		d->guest_fd = (*next)++;
		error = give(s, d->fd, true, d->guest_fd);
	} else {
		d->guest_fd = SPT_ASKED_FIRST + (int)handle;
		s->asks = true;
	}
	struct spt_filter_disk *f = &s->filter.disk[s->filter.disk_count++];
	*f = (struct spt_filter_disk){ d->guest_fd, d->block_size, d->capacity };
	return error;
}

static int make_pass(struct spt *s)
{
	int end[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, end))
		return -errno;
	s->pass_watch =
		(struct wh_loop_fd){ .fd = end[0], .events = WH_LOOP_READ, .fn = listener_came };
	return give(s, end[1], false, SPT_PASS);
}

static int make_descriptors(struct spt *s)
{
	struct wh_vmm_solo5_device *d;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int error = epoll < 0 ? -errno : give(s, epoll, false, SPT_EPOLL);
	if (error < 0)
		return error;
	epoll = error;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	error = timer < 0 ? -errno : give(s, timer, false, SPT_TIMER);
	timer = error;
	if (error >= 0)
		error = watch_set(s, epoll, timer, INTERNAL_TIMER);
	if (error >= 0)
		error = make_console(s);
	for (uint32_t i = 1; error >= 0 && (d = wh_vmm_solo5_device(s->solo5, i)); i++)
		if (d->kind == WH_VMM_SOLO5_NET)
			error = make_net(s, epoll, i, d);
	int next = SPT_NET_FIRST + (int)s->net_count;
	for (uint32_t i = 1; error >= 0 && (d = wh_vmm_solo5_device(s->solo5, i)); i++)
		if (d->kind == WH_VMM_SOLO5_BLOCK)
			error = make_disk(s, i, d, &next);
	if (error >= 0 && s->asks)
		error = make_pass(s);
	s->numbers_end = next;
	s->filter.console_fd = SPT_CONSOLE;
	s->filter.epoll_fd = SPT_EPOLL;
	s->filter.timer_fd = SPT_TIMER;
	s->filter.net_first_fd = SPT_NET_FIRST;
	s->filter.net_count = s->net_count;
	return error;
}

/* The child copies our descriptors when it is made; those that are given away are closed here. */
static int make_process(struct spt *s, struct wh_diag *diag)
{
	struct wh_vmm_machine *m = s->machine;
	uint32_t random;
	struct wh_vmm_spare *p = calloc(1, sizeof *p);
	if (!p)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for the engine");
	s->process = p;
	p->pidfd = p->doorbell = p->image_fd = -1;
	p->sandbox = m->sandbox;
	p->more = s->given;
	p->more_count = s->given_count;
	wh_os_random(&random, sizeof random);
	p->stub_address = STUB_PLACE + ((uint64_t)random << 12);
	m->ram_fd = p->ram_fd = vmm_ram_open(diag);
	if (p->ram_fd < 0)
		return p->ram_fd;
	p->doorbell = eventfd(0, EFD_CLOEXEC);
	if (p->doorbell < 0)
		return wh_diag_set(diag, -errno, "cannot make a doorbell (errno %d)", errno);
	return proc_spawn(p, diag);
}

/* What the monitor may touch on the guest's behalf. */
static void describe_memory(struct wh_vmm_machine *m, const struct wh_vmm_solo5 *solo5)
{
	struct spt_piece piece[SPT_PIECES_MAX];
	uint32_t count = spt_pieces(solo5, m->layout.ram_size, piece);
	for (uint32_t i = 0; i < count; i++)
		wh_assert(wh_gmem_add(&m->memory, piece[i].start, piece[i].end - piece[i].start,
				      m->ram + piece[i].start, piece[i].write) == 0);
}

static void write_info(struct spt *s, const char *command_line)
{
	uint8_t *info = s->machine->ram + SPT_INFO;
	uint32_t manifest = SPT_INFO + SPT_INFO_SIZE;
	uint32_t line = manifest + s->solo5->manifest_size;
	wh_store_le64(info, s->machine->layout.ram_size);
	wh_store_le64(info + 8, s->solo5->end);
	wh_store_le64(info + 16, line);
	wh_store_le64(info + 24, manifest);
	wh_store_le32(info + 32, SPT_EPOLL);
	wh_store_le32(info + 36, SPT_TIMER);
	solo5_manifest_fill(s->solo5);
	memcpy(s->machine->ram + manifest, s->solo5->manifest, s->solo5->manifest_size);
	memcpy(s->machine->ram + line, command_line, wh_strlen(command_line) + 1);
}

int solo5_spt_build(struct wh_vmm_machine *m, const struct wh_vmm_solo5_config *config,
		    struct wh_vmm_solo5 *solo5, struct wh_diag *diag)
{
	struct spt *s = calloc(1, sizeof *s);
	if (!s)
		return wh_diag_set(diag, -WH_ENOMEM, "no memory for a machine");
	m->engine_state = s;
	m->info = &s->info;
	m->control = &s->control;
	s->machine = m;
	s->solo5 = solo5;
	s->ops = *config->ops;
	s->ops_ctx = config->ops_ctx;
	s->console_watch.fd = s->pass_watch.fd = s->asked_watch.fd = -1;
	if (m->layout.ram_size < solo5->end + SPT_STACK_MIN)
		return wh_diag_set(diag, -WH_ENOMEM,
				   "too little memory: it needs %llu KiB; say more with --memory",
				   (unsigned long long)(solo5->end + SPT_STACK_MIN) >> 10);
	int error = make_descriptors(s);
	if (error < 0)
		return wh_diag_set(diag, error, "no descriptors for the guest (errno %d)", -error);
	error = make_process(s, diag);
	if (error < 0)
		return error;
	close_given(s);
	error = vmm_ram_map(m, diag);
	if (error >= 0)
		error = solo5_load(solo5, m->ram, diag);
	if (error < 0)
		return error;
	describe_memory(m, solo5);
	write_info(s, config->command_line ? config->command_line : "");
	return 0;
}

static int watch_all(struct spt *s)
{
	struct wh_loop *loop = s->machine->loop;
	struct wh_loop_fd *const watches[] = { &s->console_watch, &s->pass_watch };
	int error;
	s->exit_watch = (struct wh_loop_fd){
		.fd = s->process->pidfd, .events = WH_LOOP_READ, .fn = process_ended, .ctx = s
	};
	error = wh_loop_add(loop, &s->exit_watch);
	if (error < 0)
		return error;
	s->running = true;
	for (uint32_t i = 0; error >= 0 && i < WH_ARRAY_COUNT(watches) + s->net_count; i++) {
		uint32_t n = i - (uint32_t)WH_ARRAY_COUNT(watches);
		struct wh_loop_fd *watch =
			i < WH_ARRAY_COUNT(watches) ? watches[i] : &s->net[n]->watch;
		if (watch->fd < 0)
			continue;
		error = wh_loop_add(loop, watch);
		if (error >= 0) /* ctx tells that it is watched */
			watch->ctx = i < WH_ARRAY_COUNT(watches) ? (void *)s : s->net[n];
	}
	return error;
}

static int spt_start(struct wh_vmm_machine *m, struct wh_diag *diag)
{
	struct spt *s = spt_of(m);
	uint64_t plan_page = (VMM_RAM_OFFSET + SPT_PLAN) / VMM_PAGE;
	spt_plan_write(s);
	int error = proc_spawn_wait(s->process, diag);
	if (error < 0)
		return error;
	error = watch_all(s);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot watch the guest (errno %d)", -error);
	error = wh_os_write_all(s->process->doorbell, &plan_page, sizeof plan_page);
	if (error < 0)
		return wh_diag_set(diag, error, "cannot ring the guest (errno %d)", -error);
	return 0;
}

const struct vmm_engine_ops solo5_engine_spt = {
	.name = "proc",
	.id = WH_VMM_ENGINE_PROC,
	.boot_id = WH_BOOT_ENGINE_PROC,
	.transport = WH_BOOT_TRANSPORT_SHM, /* no slots are added */
	.memory_max = WH_VMM_SOLO5_MEMORY_MAX,
	.start = spt_start,
	.kill = spt_kill,
	.fini = spt_fini,
	.pause = spt_pause,
	.signal = spt_signal,
};
