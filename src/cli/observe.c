/* SPDX-License-Identifier: ISC */
/*
 * The image is copied into a sealed memfd, with a call of the image's own recorder at the entry of each handler that is to be
 * traced, before there is a guest: so text stays what it was made, read and execute, and a run without --trace pays
 * nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

#include "observe.h"

#define RECORDS 2048u /* half a MiB: what comes between two looks at once */
#define LOOK_NS 10000000ull
#define LINE_MAX_BYTES 640u
#define WANTED_MAX 64u

struct handler {
	uint64_t address; /* in the file */
	const char *name;
};

static struct observe_state {
	struct run *run;
	int fd; /* the copy */
	struct wh_elf elf;
	struct wh_elf_symbols symbols;
	struct handler *handler; /* by address */
	size_t handler_count;
	struct observe_profile *profile;
	struct wh_loop_hook hook;
	struct wh_loop_timer timer;
	uint32_t tail;
	char *wanted[WANTED_MAX];
	size_t wanted_count;
	char out[16384];
	size_t out_size;
} state;

static void flush(void)
{
	(void)wh_os_write_all(STDERR_FILENO, state.out,
			      state.out_size); /* nowhere to complain to */
	state.out_size = 0;
}

/* --- the image --- */

static int read_wanted(const char *list)
{
	char *copy = strdup(list), *at = copy, *word;
	if (!copy)
		return CLI_ERROR;
	while ((word = strsep(&at, ","))) {
		if (!*word)
			continue;
		if (state.wanted_count == WANTED_MAX || !observe_group_known(word)) {
			cli_error("--trace: %s is no call and no group: all, file, net, poll, "
				  "memory, signal, thread, time, process",
				  word);
			return CLI_ERROR;
		}
		state.wanted[state.wanted_count++] = word;
	}
	return 0; /* the words stay */
}

static bool is_wanted(const char *call)
{
	const char *group = observe_call_find(call)->group;
	for (size_t i = 0; i < state.wanted_count; i++)
		if (!strcmp(state.wanted[i], "all") || !strcmp(state.wanted[i], call) ||
		    !strcmp(state.wanted[i], group))
			return true;
	return false;
}

static int copy_image(int *fd)
{
	struct stat st;
	int copy = memfd_create("wherry-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	off_t at = 0;
	if (copy < 0 || fstat(*fd, &st)) {
		cli_error("cannot copy the image (errno %d)", errno);
		return CLI_ERROR;
	}
	while (at < st.st_size) {
		ssize_t n = sendfile(copy, *fd, &at, (size_t)(st.st_size - at));
		if (n <= 0) {
			cli_error("cannot copy the image (errno %d)", n ? errno : EIO);
			close(copy);
			return CLI_ERROR;
		}
	}
	close(*fd);
	*fd = state.fd = copy;
	return 0;
}

/* Place in the file of an address, or -1. */
static int64_t offset_of(uint64_t address, size_t size)
{
	for (uint32_t i = 0; i < state.elf.segment_count; i++) {
		const struct wh_elf_segment *s = &state.elf.segment[i];
		if (s->type == 1 /* PT_LOAD */ && address >= s->vaddr && size <= s->file_size &&
		    address - s->vaddr <= s->file_size - size)
			return (int64_t)(s->offset + address - s->vaddr);
	}
	return -1;
}

static int by_address(const void *a, const void *b)
{
	const struct handler *x = a, *y = b;
	return x->address < y->address ? -1 : x->address > y->address;
}

/* A call of `thunk` in place of the five NOPs at `address`. False: there are none. */
static bool patch(uint64_t address, uint64_t thunk)
{
	static const uint8_t nops[WH_OBSERVE_PATCH_SIZE] = { 0x90, 0x90, 0x90, 0x90, 0x90 };
	uint8_t bytes[WH_OBSERVE_PATCH_SIZE];
	int64_t at = offset_of(address, sizeof bytes);
	uint32_t relative = (uint32_t)(thunk - (address + sizeof bytes));
	if (at < 0 || pread(state.fd, bytes, sizeof bytes, at) != sizeof bytes ||
	    memcmp(bytes, nops, sizeof nops))
		return false;
	bytes[0] = 0xe8; /* call */
	memcpy(bytes + 1, &relative, sizeof relative);
	return pwrite(state.fd, bytes, sizeof bytes, at) == sizeof bytes;
}

static int patch_handlers(const char *path)
{
	uint64_t thunk = 0;
	for (uint32_t i = 0; i < state.symbols.count && !thunk; i++) {
		struct wh_elf_symbol s = wh_elf_symbol(&state.symbols, i);
		if (s.section && !strcmp(s.name, "wh_cpu_trace_thunk"))
			thunk = s.value;
	}
	if (!thunk) {
		cli_error("--trace: %s has no symbols, or is too old: build it again, do not strip "
			  "it",
			  path);
		return CLI_ERROR;
	}
	state.handler = calloc((size_t)state.symbols.count + 1, sizeof *state.handler);
	if (!state.handler)
		return CLI_ERROR;
	for (uint32_t i = 0; i < state.symbols.count; i++) {
		struct wh_elf_symbol s = wh_elf_symbol(&state.symbols, i);
		if (!s.section || strncmp(s.name, "wh_sys_", 7) || !is_wanted(s.name + 7) ||
		    !patch(s.value, thunk))
			continue;
		state.handler[state.handler_count++] = (struct handler){ s.value, s.name + 7 };
	}
	qsort(state.handler, state.handler_count, sizeof *state.handler, by_address);
	return 0;
}

int run_observe_image(struct run *r, int *fd)
{
	struct wh_diag diag = { "" };
	struct stat st;
	const struct run_options *o = &r->options;
	state.run = r;
	if (o->from) {
		cli_error("--trace and --profile are for images, not for snapshots");
		return CLI_ERROR;
	}
	if (o->trace && read_wanted(o->trace))
		return CLI_ERROR;
	if (copy_image(fd) || fstat(*fd, &st))
		return CLI_ERROR;
	struct wh_elf_input input = { .fd = *fd, .size = (uint64_t)st.st_size };
	if (wh_elf_open(&input, &state.elf, &diag))
		return CLI_OK; /* who opens the image says why */
	(void)wh_elf_symbols_load(&state.elf, &state.symbols);
	if (o->trace && patch_handlers(o->image))
		return CLI_ERROR;
	if (fcntl(*fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) {
		cli_error("cannot seal the image (errno %d)", errno);
		return CLI_ERROR;
	}
	r->config.observe_records = RECORDS;
	if (o->profile) {
		r->config.observe_flags = WH_OBSERVE_PROFILE;
		state.profile = observe_profile_new(o->profile, &state.symbols, &state.elf);
		if (!state.profile)
			return CLI_ERROR;
	}
	return CLI_OK;
}

/* --- records --- */

static const char *name_of(uint64_t handler)
{
	struct handler key = { handler - wh_vmm_machine_image_base(state.run->machine) -
				       WH_OBSERVE_PATCH_SIZE,
			       NULL };
	const struct handler *h =
		bsearch(&key, state.handler, state.handler_count, sizeof key, by_address);
	return h ? h->name : "?";
}

static void put_line(const struct wh_observe_record *r)
{
	uint64_t hz;
	const uint64_t *t = wh_vmm_machine_timeline(state.run->machine, &hz);
	uint64_t begin = r->begin - t[WH_BOOT_STAGE_ENTRY], took = r->end - r->begin,
		 per_us = hz / 1000000;
	if (!per_us)
		per_us = 1000;
	if (state.out_size + LINE_MAX_BYTES > sizeof state.out)
		flush();
	char *to = state.out + state.out_size;
	unsigned us = (unsigned)(begin / per_us % 1000000);
	size_t n = wh_format(to, 32, "%llu.", (unsigned long long)(begin / per_us / 1000000));
	for (unsigned digit = 100000; digit; digit /= 10)
		to[n++] = (char)('0' + us / digit % 10);
	n += wh_format(to + n, 32, " [%d] ", r->tid);
	n += observe_call_format(to + n, LINE_MAX_BYTES - 128, name_of(r->handler), r);
	if (r->kind == WH_OBSERVE_CALL)
		n += wh_format(to + n, 64, " <%llu us>", (unsigned long long)(took / per_us));
	to[n++] = '\n';
	state.out_size += n;
}

/* Each record is copied once and then looked at; a count that is too great is the guest's own harm. */
static void take(const struct wh_observe_record *shared)
{
	struct wh_observe_record r;
	memcpy(&r, shared, sizeof r);
	if (r.kind == WH_OBSERVE_SAMPLE && state.profile && r.count <= WH_OBSERVE_FRAMES)
		observe_profile_add(state.profile, r.u.frame, r.count,
				    wh_vmm_machine_image_base(state.run->machine));
	else if ((r.kind == WH_OBSERVE_CALL || r.kind == WH_OBSERVE_ENDING) && state.handler)
		put_line(&r);
}

static void drain(void)
{
	struct wh_observe *o = wh_vmm_machine_observe(state.run->machine);
	uint32_t head = o ? __atomic_load_n(&o->head, __ATOMIC_ACQUIRE) : 0;
	if (!o || head == state.tail)
		return;
	if (head - state.tail > RECORDS) /* nonsense */
		state.tail = head - RECORDS;
	for (; state.tail != head; state.tail++)
		take((const struct wh_observe_record *)(o + 1) + state.tail % RECORDS);
	__atomic_store_n(&o->tail, state.tail, __ATOMIC_RELEASE);
	flush();
	wh_vmm_machine_observed(state.run->machine);
}

static bool before_sleep(struct wh_loop_hook *hook)
{
	drain();
	return false;
}

static void look(struct wh_loop_timer *timer)
{
	drain();
	wh_loop_timer_start(state.run->loop, timer, wh_os_now() + LOOK_NS);
}

int run_observe_start(struct run *r)
{
	if (!wh_vmm_machine_observe(r->machine)) {
		cli_error("%s is too old for --trace and --profile: build it again",
			  r->options.image);
		return CLI_ERROR;
	}
	state.hook = (struct wh_loop_hook){ .before_sleep = before_sleep, .ctx = r };
	wh_loop_hook_add(r->loop, &state.hook);
	wh_loop_timer_init(&state.timer, look, r);
	wh_loop_timer_start(r->loop, &state.timer, wh_os_now() + LOOK_NS);
	return CLI_OK;
}

int run_observe_end(struct run *r)
{
	drain();
	if (!state.profile)
		return CLI_OK;
	return observe_profile_write(state.profile, wh_vmm_machine_observe(r->machine)->lost);
}
