/* SPDX-License-Identifier: ISC */
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>
#include <wherry/base/hash.h>
#include <wherry/test.h>
#include <wherry/virtq.h>

#define RAM_SIZE 65536u
#define RAM_START 0x100000u
#define SIZE_MAX_ 64u

/* A machine: RAM at a guest address that differs from the host's, one queue in it. */
static struct machine {
	_Alignas(16) uint8_t ram[RAM_SIZE];
	struct wh_gmem mem;
	struct wh_virtq_driver_slot slots[SIZE_MAX_];
	struct wh_virtq_driver driver;
	struct wh_virtq_device device;
	struct wh_iov iov[SIZE_MAX_];
	struct wh_virtq_chain chain;
} m;

static void set_up(uint32_t size, uint64_t features)
{
	memset(&m, 0, sizeof m);
	CHECK_EQ(wh_gmem_add(&m.mem, RAM_START, RAM_SIZE, m.ram, true), 0);
	struct wh_virtq_driver_config d = { .size = size,
					    .ring = m.ram,
					    .slots = m.slots,
					    .bias = RAM_START - (uintptr_t)m.ram,
					    .features = features };
	CHECK_EQ(wh_virtq_driver_init(&m.driver, &d), 0);
	struct wh_virtq_device_config c = { .mem = &m.mem,
					    .size = m.driver.size,
					    .desc = m.driver.desc_address,
					    .driver = m.driver.driver_address,
					    .device = m.driver.device_address,
					    .features = features };
	CHECK_EQ(wh_virtq_device_init(&m.device, &c), 0);
	m.chain.iov = m.iov;
	m.chain.iov_max = size;
}

static void gmem_checks(void)
{
	struct wh_gmem g = { 0 };
	uint8_t a[16], b[16];
	CHECK_EQ(wh_gmem_add(&g, 100, 16, a, true), 0);
	CHECK_EQ(wh_gmem_add(&g, 116, 16, b, false), 0);
	CHECK_EQ(wh_gmem_add(&g, 131, 2, b, false), -WH_EINVAL);
	CHECK_EQ(wh_gmem_add(&g, 99, 2, b, false), -WH_EINVAL);
	CHECK_EQ(wh_gmem_add(&g, UINT64_MAX, 2, b, false), -WH_EINVAL);
	CHECK_EQ(wh_gmem_add(&g, 1, 0, b, false), -WH_EINVAL);
	CHECK(wh_gmem_at(&g, 100, 16, true) == a);
	CHECK(wh_gmem_at(&g, 115, 1, true) == a + 15);
	CHECK(!wh_gmem_at(&g, 115, 2, false)); /* crosses into another region */
	CHECK(!wh_gmem_at(&g, 100, UINT64_MAX, false));
	CHECK(!wh_gmem_at(&g, 99, 2, false));
	CHECK(!wh_gmem_at(&g, 100, 0, false));
	CHECK(!wh_gmem_at(&g, 116, 1, true)); /* read-only */
	CHECK(wh_gmem_at(&g, 131, 1, false) == b + 15);
	CHECK(!wh_gmem_at(&g, 132, 1, false));
	for (uint32_t i = 2; i < WH_GMEM_REGIONS_MAX; i++)
		CHECK_EQ(wh_gmem_add(&g, i, 1, b, false), 0);
	CHECK_EQ(wh_gmem_add(&g, 1, 1, b, false), -WH_ENOSPC);
}

static void one_request(void)
{
	set_up(8, 0);
	char *out = (char *)m.ram + 4096, *in = out + 100;
	struct wh_iov v[3] = { { out, 3 }, { out + 3, 2 }, { in, 10 } };
	memcpy(out, "hello", 5);
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 0);
	CHECK_EQ(wh_virtq_driver_add(&m.driver, v, 2, 1, v), 0);
	CHECK(wh_virtq_driver_kick_needed(&m.driver));
	CHECK(!wh_virtq_driver_kick_needed(&m.driver));
	CHECK(wh_virtq_device_pending(&m.device));
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 1);
	CHECK_EQ(m.chain.out_count, 2);
	CHECK_EQ(m.chain.in_count, 1);
	CHECK_EQ(m.chain.out_size, 5);
	CHECK_EQ(m.chain.in_size, 10);
	char got[5];
	CHECK_EQ(wh_iov_read(m.iov, 2, 0, got, 5), 5);
	CHECK_MEM(got, "hello", 5);
	CHECK_EQ(wh_iov_write(m.iov + 2, 1, 0, "worlds", 6), 6);
	wh_virtq_device_push(&m.device, m.chain.head, 6);
	CHECK(wh_virtq_device_interrupt_needed(&m.device));
	CHECK(!wh_virtq_device_interrupt_needed(&m.device));
	void *cookie;
	uint32_t written;
	CHECK_EQ(wh_virtq_driver_get(&m.driver, &cookie, &written), 1);
	CHECK(cookie == v);
	CHECK_EQ(written, 6);
	CHECK_MEM(in, "worlds", 6);
	CHECK_EQ(wh_virtq_driver_get(&m.driver, &cookie, &written), 0);
	CHECK_EQ(wh_virtq_driver_free_count(&m.driver), 8);
}

static void bad_set_up(void)
{
	set_up(8, 0);
	struct wh_virtq_device_config c = { .mem = &m.mem,
					    .size = 8,
					    .desc = RAM_START,
					    .driver = RAM_START + 1024,
					    .device = RAM_START + 2048 };
	struct wh_virtq_device d;
	CHECK_EQ(wh_virtq_device_init(&d, &c), 0);
#define REFUSED(field, value)                                       \
	do {                                                        \
		struct wh_virtq_device_config b = c;                \
		b.field = value;                                    \
		CHECK_EQ(wh_virtq_device_init(&d, &b), -WH_EINVAL); \
		CHECK(!wh_virtq_device_ready(&d));                  \
		CHECK_EQ(wh_virtq_device_pop(&d, &m.chain), 0);     \
	} while (0)
	REFUSED(size, 0);
	REFUSED(size, 3);
	REFUSED(size, 65536);
	REFUSED(desc, RAM_START + 8);
	REFUSED(desc, RAM_START - 16);
	REFUSED(desc, RAM_START + RAM_SIZE - 112);
	REFUSED(driver, RAM_START + 1);
	REFUSED(driver, UINT64_MAX - 1);
	REFUSED(device, RAM_START + RAM_SIZE - 68);
	REFUSED(device, RAM_START + 2);
	wh_virtq_device_push(&d, 0, 0);
	wh_virtq_device_kicks_off(&d);
	CHECK(!wh_virtq_device_kicks_on(&d));
	CHECK(!wh_virtq_device_interrupt_needed(&d));
	struct wh_virtq_driver_config dc = { .size = 6, .ring = m.ram, .slots = m.slots };
	CHECK_EQ(wh_virtq_driver_init(&m.driver, &dc), -WH_EINVAL);
	dc.size = 8, dc.ring = m.ram + 8;
	CHECK_EQ(wh_virtq_driver_init(&m.driver, &dc), -WH_EINVAL);
}

static void desc(uint32_t at, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *p = m.ram + at;
	wh_store_le64(p, addr);
	wh_store_le32(p + 8, len);
	wh_store_le16(p + 12, flags);
	wh_store_le16(p + 14, next);
}

static void offer(uint16_t head)
{
	uint8_t *avail = m.ram + wh_virtq_desc_bytes(8);
	uint16_t index = wh_load_le16(avail + 2);
	wh_store_le16(avail + 4 + 2 * (index % 8), head);
	wh_store_le16(avail + 2, (uint16_t)(index + 1));
}

static void refused(void)
{
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), -WH_EBADMSG);
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), -WH_EBADMSG);
	CHECK_EQ(m.chain.out_count + m.chain.in_count, 0);
	CHECK(!wh_virtq_device_ready(&m.device));
}

#define N 1u
#define W 2u
#define I 4u
#define AT (RAM_START + 4096u)

static void hostile_chains(void)
{
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} one[] = {
		{ AT, 1, N, 0 },                   /* loop to itself */
		{ AT, 1, N, 8 },                   /* next out of range */
		{ AT, 1, N, 65535 },               /* the same, far */
		{ RAM_START + RAM_SIZE, 1, 0, 0 }, /* behind memory */
		{ RAM_START + RAM_SIZE - 1, 2, 0, 0 },
		{ UINT64_MAX, 2, W, 0 },  /* wraps */
		{ AT, 0xffffffff, W, 0 }, /* too long */
		{ AT, 0, N, 0 },          /* loop of empty ones */
		{ AT, 16, I, 0 },         /* indirect, not negotiated */
	};
	for (size_t i = 0; i < WH_ARRAY_COUNT(one); i++) {
		set_up(8, 0);
		desc(0, one[i].addr, one[i].len, one[i].flags, one[i].next);
		offer(0);
		refused();
	}
	set_up(8, 0); /* head out of range */
	offer(8);
	refused();
	set_up(8, 0); /* index jumps */
	wh_store_le16(m.ram + wh_virtq_desc_bytes(8) + 2, 9);
	refused();
	set_up(8, 0); /* out after in */
	desc(0, AT, 4, N | W, 1);
	desc(16, AT, 4, 0, 0);
	offer(0);
	refused();
	set_up(8, 0); /* loop of two */
	desc(0, AT, 4, N, 1);
	desc(16, AT, 4, N, 0);
	offer(0);
	refused();
	set_up(8, 0); /* more entries than the device takes */
	desc(0, AT, 4, N, 1);
	desc(16, AT, 4, N, 2);
	desc(32, AT, 4, 0, 0);
	m.chain.iov_max = 2;
	offer(0);
	refused();
	set_up(8, 0); /* write to a read-only region */
	m.mem.region[0].writable = false;
	desc(0, AT, 4, W, 0);
	offer(0);
	refused();
}

static void indirect(void)
{
	set_up(8, WH_VIRTQ_F_INDIRECT);
	desc(0, AT, 4, N, 3); /* a normal one, then a table */
	desc(48, AT + 1024, 48, I | W, 0);
	desc(4096 + 1024, AT, 8, N, 2);
	desc(4096 + 1024 + 32, AT + 8, 16, W, 0);
	offer(0);
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 1);
	CHECK_EQ(m.chain.out_count, 2);
	CHECK_EQ(m.chain.in_count, 1);
	CHECK_EQ(m.chain.out_size, 12);
	CHECK_EQ(m.chain.in_size, 16);
	static const struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags;
	} bad[] = { { AT + 1024, 0, I },
		    { AT + 1024, 15, I },
		    { AT + 1024, 16 * 9, I }, /* more than the queue's size */
		    { AT + 1024, 48, I | N },
		    { AT + 1026, 48, I },
		    { RAM_START + RAM_SIZE, 16, I },
		    { AT + 2048, 16, I } /* inside: indirect again */ };
	for (size_t i = 0; i < WH_ARRAY_COUNT(bad); i++) {
		set_up(8, WH_VIRTQ_F_INDIRECT);
		desc(0, bad[i].addr, bad[i].len, bad[i].flags, 0);
		desc(4096 + 1024, AT, 1, 0, 0);
		desc(4096 + 2048, AT + 1024, 16, I, 0);
		offer(0);
		refused();
	}
	set_up(8, WH_VIRTQ_F_INDIRECT); /* next out of the table */
	desc(0, AT + 1024, 32, I, 0);
	desc(4096 + 1024, AT, 1, N, 2);
	offer(0);
	refused();
}

static void unpop_and_fill(void)
{
	set_up(8, 0);
	struct wh_iov v = { m.ram + 4096, 16 };
	int cookie[3];
	for (int i = 0; i < 3; i++)
		CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 0, 1, &cookie[i]), 0);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 1);
	CHECK(!wh_virtq_device_kicks_on(&m.device));
	wh_virtq_device_unpop(&m.device, 3);
	CHECK(!wh_virtq_device_kicks_on(&m.device)); /* known, put back on purpose */
	CHECK(wh_virtq_device_pending(&m.device));
	void *got;
	uint32_t written;
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 1);
		wh_virtq_device_fill(&m.device, m.chain.head, i);
		CHECK_EQ(wh_virtq_driver_get(&m.driver, &got, &written), 0);
	}
	wh_virtq_device_publish(&m.device);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK_EQ(wh_virtq_driver_get(&m.driver, &got, &written), 1);
		CHECK(got == &cookie[i]);
		CHECK_EQ(written, i);
	}
	CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 0, 1, &v), 0);
	CHECK(wh_virtq_device_kicks_on(&m.device));
}

static void hostile_device(void)
{
	set_up(8, 0);
	struct wh_iov v = { m.ram + 4096, 16 };
	CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 0, 0, &v), -WH_EINVAL);
	CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 0, 9, &v), -WH_EAGAIN);
	CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 0, 1, &v), 0);
	void *got;
	uint32_t written;
	wh_virtq_device_push(&m.device, 1, 0); /* not in flight */
	CHECK_EQ(wh_virtq_driver_get(&m.driver, &got, &written), -WH_EBADMSG);
	CHECK_EQ(wh_virtq_driver_get(&m.driver, &got, &written), -WH_EBADMSG);
	CHECK(wh_virtq_driver_detach(&m.driver) == &v);
	CHECK(!wh_virtq_driver_detach(&m.driver));
	set_up(8, 0);
	wh_virtq_device_push(&m.device, 65535, 0);
	CHECK_EQ(wh_virtq_driver_get(&m.driver, &got, &written), -WH_EBADMSG);
}

/* Random traffic: every request comes back once, in any order, with its own bytes; a side that
 * was promised a notice is never left asleep with work waiting. */
static void traffic(uint32_t size, uint64_t features)
{
	enum { REQUESTS = 70000 };
	static struct {
		uint32_t id, bytes;
		bool live;
	} req[SIZE_MAX_];
	uint64_t state = test_seed();
	uint32_t sent = 0, back = 0, live = 0;
	uint16_t held[SIZE_MAX_];
	uint32_t held_count = 0;
	bool device_asleep = false, driver_asleep = false;
	set_up(size, features);
	memset(req, 0, sizeof req);
	while (back < REQUESTS) {
		uint64_t r = wh_random_next(&state);
		CHECK(!(device_asleep && driver_asleep && live));
		if (r % 2 && !driver_asleep) {
			for (uint32_t n = (r >> 8) % 5; n && sent < REQUESTS; n--) {
				uint32_t slot = 0;
				while (slot < SIZE_MAX_ && req[slot].live)
					slot++;
				if (slot == SIZE_MAX_)
					break;
				uint8_t *p = m.ram + 8192 + 256 * slot;
				wh_store_le32(p, sent);
				struct wh_iov v[3] = { { p, 2 }, { p + 2, 2 }, { p + 128, 8 } };
				if (wh_virtq_driver_add(&m.driver, v, 2, 1, &req[slot]))
					break;
				req[slot].id = sent++;
				req[slot].live = true;
				live++;
			}
			if (wh_virtq_driver_kick_needed(&m.driver))
				device_asleep = false;
			void *cookie;
			uint32_t written;
			wh_virtq_driver_interrupts_off(&m.driver);
			while (wh_virtq_driver_get(&m.driver, &cookie, &written) > 0) {
				uint32_t slot = (uint32_t)(((uint8_t *)cookie - (uint8_t *)req) /
							   sizeof req[0]);
				CHECK(req[slot].live);
				CHECK_EQ(written, 8);
				CHECK_EQ(wh_load_le32(m.ram + 8192 + 256 * slot + 128),
					 ~req[slot].id);
				req[slot].live = false;
				live--;
				back++;
			}
			if ((r >> 20) % 4 == 0 && live && !wh_virtq_driver_interrupts_on(&m.driver))
				driver_asleep = true;
		} else if (!device_asleep) {
			wh_virtq_device_kicks_off(&m.device);
			static struct wh_iov in[SIZE_MAX_];
			static uint32_t ids[SIZE_MAX_];
			while (held_count < 6 && wh_virtq_device_pop(&m.device, &m.chain) > 0) {
				CHECK_EQ(wh_iov_read(m.iov, m.chain.out_count, 0,
						     &ids[m.chain.head], 4),
					 4);
				in[m.chain.head] = m.iov[m.chain.out_count];
				held[held_count++] = m.chain.head;
			}
			while (held_count && (r >> 30) % 3) {
				uint32_t pick = (r >> 34) % held_count;
				uint16_t head = held[pick];
				held[pick] = held[--held_count];
				wh_store_le32(in[head].base, ~wh_load_le32(&ids[head]));
				wh_virtq_device_push(&m.device, head, 8);
				r = wh_random_next(&state);
			}
			if (wh_virtq_device_interrupt_needed(&m.device))
				driver_asleep = false;
			if (!held_count && !wh_virtq_device_pending(&m.device) &&
			    !wh_virtq_device_kicks_on(&m.device))
				device_asleep = true;
		}
	}
	CHECK_EQ(sent, REQUESTS);
	CHECK_EQ(wh_virtq_driver_free_count(&m.driver), size);
	CHECK(sizeof(uint16_t) == 2 && REQUESTS > 65536); /* indices wrapped */
}

static void traffic_flags(void)
{
	traffic(4, 0);
	traffic(64, 0);
}

static void traffic_event_idx(void)
{
	traffic(4, WH_VIRTQ_F_EVENT_IDX);
	traffic(64, WH_VIRTQ_F_EVENT_IDX);
}

static void event_idx_suppresses(void)
{
	set_up(64, WH_VIRTQ_F_EVENT_IDX);
	struct wh_iov v = { m.ram + 8192, 16 };
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 1, 0, &v), 0);
		CHECK_EQ(wh_virtq_driver_kick_needed(&m.driver), i == 0);
	}
	while (wh_virtq_device_pop(&m.device, &m.chain) > 0)
		wh_virtq_device_push(&m.device, m.chain.head, 0);
	CHECK(wh_virtq_device_interrupt_needed(&m.device));
	CHECK(!wh_virtq_device_kicks_on(&m.device));
	void *cookie;
	uint32_t written;
	while (wh_virtq_driver_get(&m.driver, &cookie, &written) > 0)
		;
	wh_virtq_driver_interrupts_off(&m.driver);
	CHECK_EQ(wh_virtq_driver_add(&m.driver, &v, 1, 0, &v), 0);
	CHECK(wh_virtq_driver_kick_needed(&m.driver));
	CHECK_EQ(wh_virtq_device_pop(&m.device, &m.chain), 1);
	wh_virtq_device_push(&m.device, m.chain.head, 0);
	CHECK(!wh_virtq_device_interrupt_needed(&m.device));
	CHECK(wh_virtq_driver_interrupts_on(&m.driver));
}

int main(void)
{
	RUN(gmem_checks);
	RUN(one_request);
	RUN(bad_set_up);
	RUN(hostile_chains);
	RUN(indirect);
	RUN(unpop_and_fill);
	RUN(hostile_device);
	RUN(traffic_flags);
	RUN(traffic_event_idx);
	RUN(event_idx_suppresses);
	return test_end();
}
