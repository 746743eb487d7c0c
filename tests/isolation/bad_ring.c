/* SPDX-License-Identifier: ISC */
/*
 * A driver gone wrong: takes the block device away from the kernel and gives it rings
 * and descriptors that point anywhere. Wanted: the device asks for a reset or refuses, the
 * monitor lives and the console goes on working. Status 0 = that is so.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "attack.h"
#include "mmio.h"
#include <wherry/abi/boot.h>
#include <wherry/abi/shm.h>

const struct wh_boot_info *kern_boot(void) __asm__("wh_kern_boot");
struct wh_boot_control *kern_control(void) __asm__("wh_kern_control");
void kern_plat_doorbell(void) __asm__("wh_kern_plat_doorbell");

#define NEEDS_RESET 0x40u
#define DRIVER_OK 15u

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

static struct {
	struct descriptor desc[16];
	uint16_t avail[4 + 16];
	uint8_t used[4096];
} rings __attribute__((aligned(4096)));

static struct wh_shm_device *device; /* over shared memory, or */
static volatile uint32_t *registers; /* virtio-mmio (virtio 1.2, 4.2.2) */

static void settle(void)
{
	struct timespec t = { 0, 2000000 };
	for (int i = 0; i < 5; i++)
		nanosleep(&t, 0);
}

static void kick(uint32_t bits)
{
	if (registers) {
		registers[QUEUE_NOTIFY] = 0;
	} else {
		__atomic_or_fetch(&device->kick, bits, __ATOMIC_SEQ_CST);
		kern_plat_doorbell();
	}
	settle();
}

static int reset(void)
{
	if (registers) {
		registers[STATUS] = 0;
		settle();
		return registers[STATUS] == 0;
	}
	device->reset_count++;
	__atomic_store_n(&device->status, 0, __ATOMIC_SEQ_CST);
	kick(WH_SHM_KICK_CONTROL);
	return device->reset_ack == device->reset_count;
}

static uint32_t status(void)
{
	return registers ? registers[STATUS] : device->status;
}

static void set_address(int at, uint64_t address)
{
	registers[at] = (uint32_t)address;
	registers[at + 1] = (uint32_t)(address >> 32);
}

static void set_rings(uint64_t desc, uint64_t driver, uint64_t used, uint32_t size)
{
	if (registers) {
		registers[STATUS] = 3;
		registers[DRIVER_FEATURES_SEL] = 1;
		registers[DRIVER_FEATURES] = 1;
		registers[DRIVER_FEATURES_SEL] = 0;
		registers[DRIVER_FEATURES] = 0;
		registers[STATUS] = 11;
		registers[QUEUE_SEL] = 0;
		registers[QUEUE_SIZE] = size;
		set_address(QUEUE_DESC, desc);
		set_address(QUEUE_DRIVER, driver);
		set_address(QUEUE_DEVICE, used);
		registers[QUEUE_READY] = 1;
		registers[STATUS] = DRIVER_OK;
		return;
	}
	device->driver_features = device->device_features & (1ull << 32);
	device->queue[0].size = size;
	device->queue[0].desc = desc;
	device->queue[0].driver = driver;
	device->queue[0].device = used;
	__atomic_store_n(&device->status, DRIVER_OK, __ATOMIC_SEQ_CST);
}

/* One malformed thing; 1 = the device noticed, or at least did nothing. */
static int attempt(const char *name, uint64_t desc, uint64_t driver, uint64_t used, uint32_t size)
{
	if (!reset()) {
		printf("%s: the device does not answer a reset\n", name);
		return 0;
	}
	rings.avail[1] = 1; /* one chain, head 0 */
	set_rings(desc, driver, used, size);
	kick(1);
	int noticed = (status() & NEEDS_RESET) != 0;
	uint16_t used_index;
	memcpy(&used_index, rings.used + 2, 2);
	printf("%s: %s\n", name,
	       noticed      ? "needs reset"
	       : used_index ? "completed"
			    : "nothing happened");
	fflush(stdout);
	memset(&rings, 0, sizeof rings);
	return 1;
}

int main(void)
{
	const struct wh_boot_info *boot = kern_boot();
	const struct wh_boot_device *d = (const void *)boot->devices;
	uint64_t desc = (uint64_t)rings.desc, avail = (uint64_t)rings.avail,
		 used = (uint64_t)rings.used;
	uint64_t outside = boot->ram_base + boot->ram_size - 8;
	int good = 1;
	for (uint32_t i = 0; i < boot->device_count; i++)
		if (d[i].virtio_id == 2 && d[i].transport == WH_BOOT_TRANSPORT_SHM)
			device = (void *)d[i].regs;
		else if (d[i].virtio_id == 2)
			registers = (void *)d[i].regs;
	if (!device && !registers) {
		printf("no block device here\n");
		return 1;
	}
	good &= attempt("rings outside of RAM", outside, outside, outside, 16);
	good &= attempt("rings at the end of the address space", ~0ull - 15, ~0ull - 3, ~0ull - 3,
			16);
	good &= attempt("unaligned rings", desc + 1, avail + 1, used + 1, 16);
	good &= attempt("ring size that is no power of two", desc, avail, used, 15);
	good &= attempt("ring size over the limit", desc, avail, used, 1u << 31);
	rings.desc[0] = (struct descriptor){ outside, 4096, 0, 0 };
	good &= attempt("buffer across the end of RAM", desc, avail, used, 16);
	rings.desc[0] = (struct descriptor){ desc, ~0u, 2, 0 };
	good &= attempt("buffer of 4 GiB", desc, avail, used, 16);
	rings.desc[0] = (struct descriptor){ desc, 16, 1, 0 };
	good &= attempt("chain that points to itself", desc, avail, used, 16);
	rings.desc[0] = (struct descriptor){ desc, 16, 1, 999 };
	good &= attempt("chain that leaves the table", desc, avail, used, 16);
	rings.desc[0] = (struct descriptor){ desc, 17, 4, 0 };
	good &= attempt("indirect table of odd length", desc, avail, used, 16);
	rings.avail[2] = 7777;
	good &= attempt("head outside of the table", desc, avail, used, 16);
	rings.avail[1] = 40000;
	rings.avail[1] = 0x9c40;
	good &= attempt("index far ahead", desc, avail, used, 16);
	puts(good ? "the monitor lives" : "BROKEN: the device did not survive");
	return good ? 0 : 99;
}
