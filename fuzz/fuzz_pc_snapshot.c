/* SPDX-License-Identifier: ISC */
/*
 * A hostile snapshot of a PC. The input is changes to one that was just written (three bytes of offset, one of value, from the header
 * on), or behind a first byte of 255 a whole file's beginning; the checksum is made right, for it guards against accidents only. Whatever
 * is accepted leaves the machine within its limits. There is no kvm behind it: its calls succeed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

#include "pc/pc_priv.h"

#define RAM WH_VMM_PC_MEMORY_MIN
#define SLOTS 2u
#define STATE_SIZE 300u
#define FILE_MAX (64u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	if (request == KVM_GET_MSR_INDEX_LIST)
		((struct kvm_msr_list *)argument)->nmsrs = 0;
	else if (_IOC_DIR(request) & _IOC_READ && request != KVM_GET_IRQCHIP &&
		 request != KVM_GET_MSRS)
		memset(argument, 0, _IOC_SIZE(request));
	return 0;
}

static int save(void *ctx, void *to, size_t size)
{
	memset(to, 7, STATE_SIZE);
	return STATE_SIZE;
}

static int restore(void *ctx, const void *from, size_t size)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < size; i++) /* all of it is there */
		sum += ((const uint8_t *)from)[i];
	return size == STATE_SIZE && sum ? 0 : -WH_EBADMSG;
}

static struct wh_vmm_machine *make(void)
{
	struct pc *pc = calloc(1, sizeof *pc);
	struct wh_vmm_machine *m = calloc(1, sizeof *m);
	wh_assert(pc && m);
	m->engine_state = pc;
	pc->machine = m;
	pc->vm = pc->dev = pc->event = -1;
	pc->stop = m->started = m->paused = true;
	pthread_mutex_init(&pc->lock, NULL);
	pc->vcpu_count = 2;
	pc->vcpu = calloc(pc->vcpu_count, sizeof *pc->vcpu);
	wh_assert(pc->vcpu);
	for (uint32_t i = 0; i < pc->vcpu_count; i++) {
		pc->vcpu[i].pc = pc;
		pc->vcpu[i].index = i;
		pc->vcpu[i].fd = -1;
	}
	m->layout.ram_size = pc->low_size = RAM;
	m->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	wh_assert(m->ram != MAP_FAILED);
	pc_pci_init(pc);
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct wh_vmm_slot *s = &m->slot[m->slot_count++];
		s->machine = m;
		s->index = i;
		s->virtio_id = 1 + i;
		s->queue_count = 2;
		s->ops.save = save;
		s->ops.restore = restore;
		pc_pci_add(pc, s);
		pc->function[i + 1].msix = calloc(3, sizeof *pc->function[0].msix);
		wh_assert(pc->function[i + 1].msix);
	}
	return m;
}

static void unmake(struct wh_vmm_machine *m)
{
	struct pc *pc = pc_of(m);
	for (uint32_t i = 0; i < SLOTS; i++)
		free(pc->function[i + 1].msix);
	pthread_mutex_destroy(&pc->lock);
	munmap(m->ram, RAM);
	free(pc->vcpu);
	free(pc);
	free(m);
}

/* Writes one, and keeps its head. */
static size_t written(uint8_t *to)
{
	static uint8_t kept[FILE_MAX];
	static size_t size;
	if (!size) {
		struct wh_vmm_machine *m = make();
		int fd = memfd_create("snapshot", MFD_CLOEXEC);
		wh_assert(fd >= 0 && pc_save(m, fd, NULL) == 0);
		ssize_t n = pread(fd, kept, sizeof kept, 0);
		wh_assert(n == (ssize_t)sizeof kept);
		size = 64 + wh_load_le64(kept + 32);
		wh_assert(size <= sizeof kept);
		close(fd);
		unmake(m);
	}
	memcpy(to, kept, size);
	return size;
}

static void make_sum_right(uint8_t *file, size_t size)
{
	uint64_t state = wh_load_le64(file + 32), h = 0xcbf29ce484222325ull;
	for (size_t i = 0; i < state && 64 + i < FILE_MAX; i++)
		h = (h ^ (64 + i < size ? file[64 + i] : 0)) * 0x100000001b3ull;
	wh_store_le64(file + 40, h);
}

static int take_up(const uint8_t *file, size_t size)
{
	char path[40];
	struct pc_snapshot s;
	struct wh_diag diag = { "" };
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	wh_assert(fd >= 0 && write(fd, file, size) == (ssize_t)size &&
		  !ftruncate(fd, (off_t)(RAM + FILE_MAX)));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int error = pc_snapshot_open(path, &s, &diag);
	if (error >= 0) {
		struct wh_vmm_machine *m = make();
		struct pc *pc = pc_of(m);
		if (s.cpus < pc->vcpu_count)
			pc->vcpu_count = s.cpus;
		error = pc_state_restore(pc, &s, &diag);
		wh_assert(pc->uart.input_count <= PC_UART_INPUT &&
			  pc->uart.output_count <= PC_UART_OUTPUT);
		for (uint32_t i = 1; i <= SLOTS; i++)
			wh_assert(!(pc->function[i].pending >> pc->function[i].vector_count) &&
				  wh_load_le16(pc->function[i].config) == 0x1af4);
		unmake(m);
	}
	wh_assert(error >= 0 || diag.text[0]); /* every refusal says why */
	pc_snapshot_close(&s);
	close(fd);
	return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[FILE_MAX];
	size_t length;
	memset(file, 0, sizeof file);
	if (size && data[0] == 255) {
		length = size - 1 < sizeof file ? size - 1 : sizeof file;
		memcpy(file, data + 1, length);
	} else {
		length = written(file);
		for (; size >= 4; data += 4, size -= 4)
			file[(data[0] | data[1] << 8 | data[2] << 16) % length] = data[3];
	}
	make_sum_right(file, length);
	int error = take_up(file, length);
	static bool tried;
	if (!tried) { /* one without changes is taken */
		length = written(file);
		wh_assert(take_up(file, length) == 0);
	}
	tried = true;
	(void)error;
	return 0;
}
