/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_VIRTIO_H
#define WHERRY_VIRTIO_H

/*
 * Virtio devices between a model (console, blk, net...) and a transport (shared
 * memory on proc, mmio for images on kvm, PCI for other kernels). A model embeds struct wh_virtio_device, gives it ops,
 * and is plugged into a machine with wh_virtio_attach before the machine starts.
 *
 * The driver on the other side is hostile. The transport checks registers, the queue
 * checks chains; the model checks what is in the buffers, on a copy. A driver that
 * breaks the contract gets DEVICE_NEEDS_RESET and silence until it resets; nothing
 * that it does ends the monitor.
 *
 * Threads: device, machine and loop belong to one thread. No globals.
 *
 *	wh_virtio_init(&c->dev, &(struct wh_virtio_config){ .virtio_id = WH_VIRTIO_ID_RNG,
 *		.queue_count = 1, .queue_size_max = 16, .ops = &ops, .ctx = c });
 *	r = wh_virtio_attach(&c->dev, machine, "", diag);
 *	...
 *	static void notify(void *ctx, uint32_t queue)
 *	{
 *		while (wh_virtio_pop(&c->dev, queue, &chain))
 *			wh_virtio_push(&c->dev, queue, chain.head, serve(&chain));
 *		wh_virtio_raise(&c->dev, queue);
 *	}
 */

#include <stdbool.h>
#include <stdint.h>
#include <wherry/abi/shm.h>
#include <wherry/base/diag.h>
#include <wherry/base/log.h>
#include <wherry/virtio_wire.h>
#include <wherry/virtq.h>
#include <wherry/vmm.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define WH_VIRTIO_QUEUES_MAX WH_SHM_QUEUES_MAX
#define WH_VIRTIO_CONFIG_SIZE WH_SHM_CONFIG_SIZE

/* What a model does. All are called from the loop and may call everything here. */
struct wh_virtio_ops {
	/* The driver said DRIVER_OK: features and queues are valid. Optional. */
	void (*start)(void *ctx);
	/* There may be something in `queue`. Only between start and reset. */
	void (*notify)(void *ctx, uint32_t queue);
	/* Drop all chains. true = done; false = requests still touch guest memory and
	 * wh_virtio_reset_done follows. Queues are gone when this is called. Optional. */
	bool (*reset)(void *ctx);
	/* The guest has ended: finish what it had queued. Its memory is still there. Optional. */
	void (*drain)(void *ctx);
	/* The driver wrote `size` bytes into writable configuration (mmio only). Optional. */
	void (*config_write)(void *ctx, uint32_t offset, const void *from, uint32_t size);
	/* Snapshots. Can the model be saved as it is? 0, or -WH_EOPNOTSUPP: it keeps state of the driver's that
	 * would be lost. Chains in hand are looked for elsewhere. NULL = always. */
	int (*save)(void *ctx);
	/* It runs again from a snapshot; start was called. Optional. */
	void (*restored)(void *ctx);
};

struct wh_virtio_config {
	uint32_t virtio_id;
	uint32_t queue_count;    /* at most WH_VIRTIO_QUEUES_MAX */
	uint32_t queue_size_max; /* of each queue; a power of two */
	uint64_t features;       /* the model's own; VERSION_1, INDIRECT and EVENT_IDX are added */
	const struct wh_virtio_ops *ops;
	void *ctx;
	struct wh_log log;
};

struct wh_virtio_transport;

/* What a driver chose for one queue. */
struct wh_virtio_queue_setup {
	uint32_t size; /* 0 = unused */
	wh_gaddr desc, driver, device;
};

/* Registers that transport_mmio.c and transport_pci.c keep (virtio 1.2, 4.2.2 and 4.1.4.3). */
struct wh_virtio_mmio_state {
	uint32_t status, interrupt_status, config_generation;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint64_t driver_features;
	struct wh_virtio_queue_setup queue[WH_VIRTIO_QUEUES_MAX];
	bool queue_ready[WH_VIRTIO_QUEUES_MAX];
	uint16_t vector[WH_VIRTIO_QUEUES_MAX], config_vector; /* pci: MSI-X, or NO_VECTOR */
};

struct wh_virtio_device {
	bool take_up; /* the next start goes on where a snapshot left the queues */
	struct wh_virtio_config c;
	uint64_t features;         /* negotiated; valid while running */
	bool running;              /* between DRIVER_OK and reset, and not broken */
	bool resetting;            /* reset said false; no start before wh_virtio_reset_done */
	bool broken;               /* NEEDS_RESET was said */
	const struct wh_gmem *mem; /* guest memory, from attach on */
	struct wh_virtq_device queue[WH_VIRTIO_QUEUES_MAX];
	uint8_t config[WH_VIRTIO_CONFIG_SIZE]; /* what the driver reads; set before attach */
	uint64_t errors;                       /* contracts broken by the driver */

	/* Transport's. */
	const struct wh_virtio_transport *transport;
	struct wh_vmm_slot *slot;
	uint32_t shm_reset_count;
	struct wh_virtio_mmio_state mmio;
};

/* ---- for models ---- */

void wh_virtio_init(struct wh_virtio_device *d, const struct wh_virtio_config *config);
/* Plugs the device into a slot of a machine that has not started. name: see
 * wh_vmm_slot_config. The device stays valid until the machine is freed. 0 or -errno of
 * wh_vmm_slot_add. */
int wh_virtio_attach(struct wh_virtio_device *d, struct wh_vmm_machine *machine, const char *name,
		     struct wh_diag *diag);

/* true = chain is filled in (wh_virtq_device_pop); false = nothing there (the driver was asked to
 * notify the next one), not running, or the driver broke the contract, which has then been
 * dealt with. */
bool wh_virtio_pop(struct wh_virtio_device *d, uint32_t queue, struct wh_virtq_chain *chain);
/* Harmless when the device was reset since the pop only if the model dropped its chains: heads
 * of an earlier life must not be pushed. */
void wh_virtio_push(struct wh_virtio_device *d, uint32_t queue, uint16_t head, uint32_t written);
/* After a burst of pushes: interrupts the driver when it wants that. */
void wh_virtio_raise(struct wh_virtio_device *d, uint32_t queue);
/* A guest can offer chains as fast as a device takes them. A model takes at most WH_VIRTIO_TURN of
 * them in one callback, then asks for another, so that the rest of the loop gets its turn. */
#define WH_VIRTIO_TURN 256u
void wh_virtio_again(struct wh_virtio_device *d, uint32_t queue);
/* The driver broke the device's protocol beyond an error answer: NEEDS_RESET. */
void wh_virtio_broken(struct wh_virtio_device *d, const char *why);
/* Changes configuration bytes while attached and tells the driver. */
void wh_virtio_config_set(struct wh_virtio_device *d, uint32_t offset, const void *from,
			  uint32_t size);
/* After ops.reset said false: nothing of the earlier life is in flight any more. */
void wh_virtio_reset_done(struct wh_virtio_device *d);

static inline bool wh_virtio_has(const struct wh_virtio_device *d, uint64_t feature)
{
	return (d->features & feature) == feature;
}

/* ---- for transports ---- */

struct wh_virtio_transport {
	/* Slot is known: publish id, features, queue sizes, configuration. */
	int (*attached)(struct wh_virtio_device *d);
	void (*interrupt)(struct wh_virtio_device *d, uint32_t causes); /* WH_VIRTIO_INTERRUPT_* */
	void (*needs_reset)(struct wh_virtio_device *d); /* set the status bit, interrupt config */
	void (*config_changed)(struct wh_virtio_device *d, uint32_t offset, uint32_t size);
	void (*reset_done)(struct wh_virtio_device *d);
	/* Notify `queue` in the next round of the loop. NULL = cannot. */
	void (*again)(struct wh_virtio_device *d, uint32_t queue);
	/* Interrupt for one queue, where they have interrupts of their own. NULL = interrupt does. */
	void (*queue_interrupt)(struct wh_virtio_device *d, uint32_t queue);
};

extern const struct wh_virtio_transport wh_virtio_transport_shm;
extern const struct wh_virtio_transport wh_virtio_transport_mmio;
extern const struct wh_virtio_transport wh_virtio_transport_pci;

/* Driver said DRIVER_OK: checks features and queues, starts the model. 0, or -WH_EINVAL after
 * NEEDS_RESET. `setup` has queue_count entries and is a private copy. */
int wh_virtio_start(struct wh_virtio_device *d, uint64_t features,
		    const struct wh_virtio_queue_setup *setup);
/* true = done now (transport's reset_done was called), false = it will be. */
bool wh_virtio_reset(struct wh_virtio_device *d);
void wh_virtio_notify(struct wh_virtio_device *d, uint32_t queue);
/* All features on offer. */
uint64_t wh_virtio_features(const struct wh_virtio_device *d);

/* Slot operations of each transport, ctx = struct wh_virtio_device. */
void wh_virtio_shm_kicked(void *ctx);
uint64_t wh_virtio_mmio_read(void *ctx, uint64_t offset, uint32_t size);
void wh_virtio_mmio_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value);
uint64_t wh_virtio_pci_read(void *ctx, uint64_t offset, uint32_t size);
void wh_virtio_pci_write(void *ctx, uint64_t offset, uint32_t size, uint64_t value);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
