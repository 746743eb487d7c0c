/* SPDX-License-Identifier: ISC */
/*
 * A hostile kernel on the PC's platform devices: ports, PCI configuration, the MSI-X tables of two devices, with
 * input, power button and device interrupts in between. There is no kvm behind it.
 *
 * Input: steps of 8 bytes: [0] what, [1] size, [2..3] port or offset, [4..7] value.
 */
#include <stdlib.h>
#include <wherry/base/assert.h>
#include <wherry/base/bytes.h>
#include <wherry/virtio_wire.h>

#include "pc/pc_priv.h"

#define STEPS_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct pc *pc)
{
	uint64_t offset;
	wh_assert(pc->uart.input_count <= PC_UART_INPUT && pc->uart.output_count <= PC_UART_OUTPUT);
	wh_assert(pc->function_count == 3);
	for (uint32_t i = 1; i < 3; i++) {
		const struct pc_function *f = &pc->function[i];
		wh_assert(wh_load_le16(f->config) == 0x1af4);
		wh_assert(!(f->pending >> f->vector_count));
	}
	struct pc_function *f = pc_pci_at(pc, PC_BAR_BASE + 0x10, &offset);
	if (f)
		wh_assert(offset < WH_VIRTIO_PCI_BAR_SIZE && f->slot);
}

static void step(struct pc_vcpu *v, struct wh_vmm_machine *m, const uint8_t *p)
{
	static const uint8_t sizes[] = { 1, 1, 2, 4, 4, 8, 1, 2 };
	struct pc *pc = v->pc;
	uint16_t at = wh_load_le16(p + 2);
	uint32_t value = wh_load_le32(p + 4), size = sizes[p[1] % 8], read;
	struct pc_function *f = &pc->function[1 + (at & 1)];
	uint64_t table = WH_VIRTIO_PCI_MSIX + at % 0x1000u;
	switch (p[0] % 7) {
	case 0:
		(void)pc_port_read(v, at, size > 4 ? 4 : size, &read);
		break;
	case 1:
		(void)pc_port_write(v, at, size > 4 ? 4 : size, value);
		break;
	case 2:
		(void)pc_msix_read(&pc->function[1], table, size);
		break;
	case 3:
		pc_msix_write(pc, &pc->function[1], table, size, value * 0x100000001ull);
		break;
	case 4:
		(void)wh_vmm_pc_serial_input(m, (const char *)p, size);
		break;
	case 5:
		pc_msix_send(pc, f, value % (f->vector_count + 2));
		break;
	case 6:
		pc_power_button(pc);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pc *pc = calloc(1, sizeof *pc);
	struct wh_vmm_machine *m = calloc(1, sizeof *m);
	struct pc_vcpu v = { .pc = pc };
	wh_assert(pc && m);
	m->engine_state = pc;
	pc->machine = m;
	pc->vm = pc->event = -1;
	pc->stop = true; /* nobody answers questions */
	pthread_mutex_init(&pc->lock, NULL);
	pc_pci_init(pc);
	for (uint32_t i = 0; i < 2; i++) {
		struct wh_vmm_slot *s = &m->slot[i];
		s->index = i;
		s->queue_count = 2 + i;
		s->virtio_id = i ? WH_VIRTIO_ID_BLK : WH_VIRTIO_ID_NET;
		pc->function[i + 1].msix = calloc(s->queue_count + 1, sizeof(struct pc_msix_entry));
		pc_pci_add(pc, s);
	}
	for (size_t at = 0; at + 8 <= size && at < 8 * STEPS_MAX; at += 8) {
		step(&v, m, data + at);
		check(pc);
	}
	for (uint32_t i = 1; i < 3; i++)
		free(pc->function[i].msix);
	pthread_mutex_destroy(&pc->lock);
	free(m);
	free(pc);
	return 0;
}
