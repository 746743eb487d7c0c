/* SPDX-License-Identifier: ISC */
/*
 * A kernel gone mad: takes every device away from the drivers, in turn, and does what comes up: rings and buffers
 * anywhere, chains in circles, features that were not offered, changes while the device works, resets in the middle,
 * registers written at random. Wanted: each device answers a reset afterwards, the monitor lives and says how the guest ended. The
 * console is done on its own (CONSOLE in the environment), for it tells of the others.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "attack.h"
#include "mmio.h"
#include <wherry/abi/boot.h>
#include <wherry/abi/shm.h>

const struct wh_boot_info *kern_boot(void) __asm__("wh_kern_boot");
void kern_plat_doorbell(void) __asm__("wh_kern_plat_doorbell");

#define NEEDS_RESET 0x40u
#define DRIVER_OK 15u
#define ROUNDS_SHM 300
#define ROUNDS_MMIO 12 /* an exit each */
#define SIZE 16u
#define QUEUES 4u

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

static struct {
	struct ring {
		struct descriptor desc[SIZE];
		uint16_t avail[4 + SIZE];
		uint8_t used[1024] __attribute__((aligned(16)));
	} ring[QUEUES];
	uint8_t data[8192];
} area __attribute__((aligned(4096)));

static struct wh_shm_device *device; /* over shared memory, or */
static volatile uint32_t *registers; /* virtio-mmio (virtio 1.2, 4.2.2) */
static uint32_t id;
static uint64_t state = 0x9e3779b97f4a7c15ull;

static uint32_t any(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 11) % below;
}

static uint64_t any64(void)
{
	return (uint64_t)any(~0u) << 32 | any(~0u);
}

/* Mostly in our area, else where it hurts. */
static uint64_t any_address(void)
{
	const struct wh_boot_info *boot = kern_boot();
	switch (any(12)) {
	case 0:
		return boot->ram_base + boot->ram_size - any(64);
	case 1:
		return ~0ull - any(4096);
	case 2:
		return boot->image_start + any(4096); /* text */
	case 3:
		return any64();
	default:
		return (uint64_t)area.data + any(sizeof area.data);
	}
}

static uint32_t any_length(void)
{
	return any(6) ? any(2048) : any(3) ? any(1 << 20) : ~0u - any(16);
}

static void kick(uint32_t queues)
{
	if (registers) {
		for (uint32_t q = 0; q < QUEUES; q++)
			if (queues >> q & 1)
				registers[QUEUE_NOTIFY] = q;
	} else {
		__atomic_or_fetch(&device->kick, queues, __ATOMIC_SEQ_CST);
		kern_plat_doorbell();
	}
}

/* Waits: what was kicked before has been seen then. 0 = it does not answer. */
static int reset(void)
{
	struct timespec t = { 0, 50000 };
	if (registers) {
		registers[STATUS] = 0;
		for (int i = 0; i < 40000 && registers[STATUS]; i++)
			nanosleep(&t, 0);
		return registers[STATUS] == 0;
	}
	uint32_t count = device->reset_count + 1;
	device->reset_count = count;
	__atomic_store_n(&device->status, 0, __ATOMIC_SEQ_CST);
	kick(WH_SHM_KICK_CONTROL);
	for (int i = 0; i < 40000; i++) {
		if (__atomic_load_n(&device->reset_ack, __ATOMIC_ACQUIRE) == count)
			return 1;
		nanosleep(&t, 0);
	}
	return 0;
}

static uint32_t status(void)
{
	return registers ? registers[STATUS] : __atomic_load_n(&device->status, __ATOMIC_ACQUIRE);
}

static void set_address(int at, uint64_t address)
{
	registers[at] = (uint32_t)address;
	registers[at + 1] = (uint32_t)(address >> 32);
}

static void begin(void)
{
	uint64_t features = any(4) ? 1ull << 32 | (any(2) ? any64() & 0xff : 0) : any64();
	if (registers) {
		registers[STATUS] = any(8) ? 3 : any(256);
		registers[DRIVER_FEATURES_SEL] = 1;
		registers[DRIVER_FEATURES] = (uint32_t)(features >> 32);
		registers[DRIVER_FEATURES_SEL] = 0;
		registers[DRIVER_FEATURES] = (uint32_t)features;
		registers[STATUS] = any(8) ? 11 : any(256);
	} else {
		device->driver_features = any(4) ? features & device->device_features : features;
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		struct ring *r = &area.ring[q];
		uint64_t desc = any(10) ? (uint64_t)r->desc : any_address(),
			 driver = any(10) ? (uint64_t)r->avail : any_address(),
			 used = any(10) ? (uint64_t)r->used : any_address();
		uint32_t size = any(10) ? SIZE : any(1u << 17);
		if (registers) {
			registers[QUEUE_SEL] = q;
			registers[QUEUE_SIZE] = size;
			set_address(QUEUE_DESC, desc);
			set_address(QUEUE_DRIVER, driver);
			set_address(QUEUE_DEVICE, used);
			registers[QUEUE_READY] = any(10) != 0;
		} else {
			device->queue[q].size = size;
			device->queue[q].desc = desc;
			device->queue[q].driver = driver;
			device->queue[q].device = used;
		}
	}
	if (registers)
		registers[STATUS] = DRIVER_OK;
	else
		__atomic_store_n(&device->status, DRIVER_OK, __ATOMIC_SEQ_CST);
}

/* The beginnings of requests that a device takes apart further. */
static void plausible(uint8_t *to)
{
	uint32_t word = any(12);
	uint64_t sector = any(4) ? any(64) : any64();
	switch (id) {
	case 2: /* block: type, sector */
		memcpy(to, &word, 4);
		memcpy(to + 8, &sector, 8);
		break;
	case 9: /* 9P: size, type, tag, then whatever */
		word = any(4) ? 7 + any(200) : any(~0u);
		memcpy(to, &word, 4);
		to[4] = (uint8_t)(any(3) ? 100 + 2 * any(14) : 8 + 2 * any(40));
		break;
	}
}

static void fill(void)
{
	for (uint32_t i = 0; i + 8 <= sizeof area.data; i += 8) {
		uint64_t v = any(3) ? any(1000) : any64();
		memcpy(area.data + i, &v, 8);
	}
	for (uint32_t q = 0; q < QUEUES; q++) {
		struct ring *r = &area.ring[q];
		for (uint32_t i = 0; i < SIZE; i++) {
			r->desc[i] =
				(struct descriptor){ any_address(), any_length(),
						     (uint16_t)any(any(8) ? 4 : 65536),
						     (uint16_t)(any(8) ? any(SIZE) : any(65536)) };
			r->avail[2 + i] = (uint16_t)(any(10) ? any(SIZE) : any(65536));
		}
		/* One chain as it should be: a head that is read, then room. */
		r->desc[0] = (struct descriptor){ (uint64_t)area.data, 16 + any(256), 1, 1 };
		r->desc[1] = (struct descriptor){ (uint64_t)area.data + 1024, 16 + any(600), 3, 2 };
		r->desc[2] = (struct descriptor){ (uint64_t)area.data + 2048, 1 + any(64), 2, 0 };
		r->avail[2] = 0;
		plausible(area.data);
		__atomic_store_n(&r->avail[1], (uint16_t)(any(12) ? 1 + any(SIZE) : any(65536)),
				 __ATOMIC_SEQ_CST);
	}
}

/* While the device is at it. */
static void meddle(void)
{
	uint8_t *byte = (uint8_t *)&area + any(sizeof area);
	switch (any(5)) {
	case 0:
		*(volatile uint8_t *)byte = (uint8_t)any(256);
		break;
	case 1:
		kick(registers ? any(1 << QUEUES) : any(~0u) & ~WH_SHM_KICK_CONTROL);
		break;
	case 2: /* a reset that nobody waits for, and on */
		if (registers)
			registers[STATUS] = 0;
		else
			__atomic_store_n(&device->status, 0, __ATOMIC_SEQ_CST);
		begin();
		break;
	case 3:
		if (registers)
			registers[any(64)] = any(~0u);
		else /* all but what the handshake of a reset needs */
			((volatile uint8_t *)device)[any(2) ? any(36) : 128 + any(600)] =
				(uint8_t)any(256);
		break;
	default:
		fill();
	}
}

static int attack(int rounds)
{
	int noticed = 0;
	for (int i = 0; i < rounds; i++) {
		if (!reset())
			return -1;
		fill();
		begin();
		kick((1 << QUEUES) - 1);
		for (uint32_t n = any(6); n; n--)
			meddle();
		kick((1 << QUEUES) - 1);
		if (status() & NEEDS_RESET)
			noticed++;
	}
	return reset() ? noticed : -1;
}

int main(void)
{
	const struct wh_boot_info *boot = kern_boot();
	const struct wh_boot_device *d = (const void *)boot->devices;
	struct wh_boot_device copy[32];
	uint32_t count = boot->device_count < 32 ? boot->device_count : 32;
	memcpy(copy, d, count * sizeof *d);
	bool console = getenv("CONSOLE") != NULL;
	for (uint32_t i = 0; i < count; i++) {
		if ((copy[i].virtio_id == 3) != console)
			continue;
		bool shm = copy[i].transport == WH_BOOT_TRANSPORT_SHM;
		id = copy[i].virtio_id;
		device = shm ? (void *)copy[i].regs : 0;
		registers = shm ? 0 : (void *)copy[i].regs;
		int noticed = attack(shm ? ROUNDS_SHM : ROUNDS_MMIO);
		if (noticed < 0)
			_Exit(99);
		if (!console)
			printf("device %u: %d times a reset was asked for\n", id, noticed);
	}
	if (console)
		_Exit(7);
	puts("the monitor lives");
	return 0;
}
