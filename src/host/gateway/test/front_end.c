/* SPDX-License-Identifier: ISC */
#include "front_end.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/errors.h>
#include <wherry/os.h>
#include <wherry/test.h>

static int receive(struct wh_net_port *port, const struct wh_net_frame *frame)
{
	struct front_end *f = port->user;
	if (f->refuse) {
		f->refuse--;
		return -WH_EAGAIN;
	}
	wh_iov_read(frame->iov, frame->iov_count, 0, f->last, sizeof f->last);
	/* All of it, as a user does. */
	uint8_t byte;
	CHECK(wh_iov_read(frame->iov, frame->iov_count, frame->size - 1, &byte, 1) == 1);
	f->last_frame = *frame;
	f->received++;
	f->received_bytes += frame->size;
	return 0;
}

static void writable(struct wh_net_port *port)
{
	struct front_end *f = port->user;
	f->writable++;
}

static void gone(void *ctx, const char *why)
{
	struct front_end *f = ctx;
	f->gone = why;
}

void front_begin(struct front_end *f)
{
	int pair[2];
	memset(f, 0, sizeof *f);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	f->fd = pair[0];
	f->peer = pair[1];
	f->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	CHECK(f->memory_fd >= 0 && !ftruncate(f->memory_fd, FRONT_MEMORY));
	f->memory = mmap(NULL, FRONT_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory_fd, 0);
	CHECK(f->memory != MAP_FAILED);
	for (uint32_t i = 0; i < FRONT_RINGS; i++) {
		f->kick[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f->call[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		f->err[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	CHECK_EQ(wh_loop_new(&f->loop), 0);
	struct wh_vhost_config config = {
		.size = sizeof config, .fd = f->fd, .gone = gone, .ctx = f, .alloc = &test_allocator
	};
	CHECK_EQ(wh_vhost_port_new(&config, f->loop, &f->vhost), 0);
	f->port = wh_vhost_port_port(f->vhost);
	f->port->receive = receive;
	f->port->writable = writable;
	f->port->user = f;
}

void front_end(struct front_end *f)
{
	wh_vhost_port_free(f->vhost);
	wh_loop_free(f->loop);
	wh_os_close(&f->fd);
	wh_os_close(&f->peer);
	for (uint32_t i = 0; i < FRONT_RINGS; i++) {
		wh_os_close(&f->kick[i]);
		wh_os_close(&f->call[i]);
		wh_os_close(&f->err[i]);
	}
	munmap(f->memory, FRONT_MEMORY);
	wh_os_close(&f->memory_fd);
}

void front_settle(struct front_end *f)
{
	for (int i = 0; i < 100 && wh_loop_step(f->loop, 0) > 0; i++)
		;
}

void front_say(struct front_end *f, uint32_t request, uint32_t flags, const void *payload,
	       uint32_t size, const int *fds, unsigned fd_count)
{
	uint32_t header[3] = { request, flags | VHOST_VERSION, size };
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov[2] = { { header, sizeof header }, { (void *)payload, size } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = payload ? 2 : 1 };
	if (fd_count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
	}
	(void)!sendmsg(f->peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	front_settle(f);
}

void front_u64(struct front_end *f, uint32_t request, uint64_t value)
{
	front_say(f, request, 0, &value, sizeof value, NULL, 0);
}

void front_state(struct front_end *f, uint32_t request, uint32_t index, uint32_t value)
{
	uint32_t state[2] = { index, value };
	front_say(f, request, 0, state, sizeof state, NULL, 0);
}

void front_ring_fd(struct front_end *f, uint32_t request, uint32_t index, int fd)
{
	uint64_t word = fd < 0 ? index | VHOST_VRING_NO_FD : index;
	front_say(f, request, 0, &word, sizeof word, &fd, fd >= 0);
}

void front_region(struct front_end *f, uint32_t request, uint64_t guest, uint64_t size,
		  uint64_t user, uint64_t offset, int fd)
{
	uint64_t payload[5] = { request == VHOST_SET_MEM_TABLE ? 1 : 0, guest, size, user, offset };
	front_say(f, request, 0, payload, sizeof payload, &fd, fd >= 0);
}

void front_addresses(struct front_end *f, uint32_t index)
{
	const struct wh_virtq_driver *q = &f->ring[index];
	uint64_t to_user = FRONT_USER - FRONT_GUEST;
	uint64_t payload[5] = { index, q->desc_address + to_user, q->device_address + to_user,
				q->driver_address + to_user, 0 };
	front_say(f, VHOST_SET_VRING_ADDR, 0, payload, sizeof payload, NULL, 0);
}

int64_t front_answer(struct front_end *f, uint32_t request)
{
	uint32_t header[3];
	int64_t value = 0;
	if (recv(f->peer, header, sizeof header, MSG_DONTWAIT) != sizeof header)
		return -1;
	CHECK_EQ(header[0], request);
	CHECK_EQ(header[1], VHOST_VERSION | VHOST_REPLY);
	CHECK_EQ(header[2], 8);
	CHECK_EQ(recv(f->peer, &value, 8, MSG_DONTWAIT), 8);
	return value;
}

void front_start_ring(struct front_end *f, uint32_t index, uint32_t base)
{
	front_state(f, VHOST_SET_VRING_NUM, index, FRONT_RING_SIZE);
	front_state(f, VHOST_SET_VRING_BASE, index, base);
	front_addresses(f, index);
	front_ring_fd(f, VHOST_SET_VRING_KICK, index, f->kick[index]);
	front_ring_fd(f, VHOST_SET_VRING_CALL, index, f->call[index]);
	front_ring_fd(f, VHOST_SET_VRING_ERR, index, f->err[index]);
	front_state(f, VHOST_SET_VRING_ENABLE, index, 1);
}

void front_start_pair(struct front_end *f, uint64_t features, uint32_t pair)
{
	for (uint32_t i = 2 * pair; i < 2 * pair + 2; i++) {
		struct wh_virtq_driver_config ring = { .size = FRONT_RING_SIZE,
						       .ring = f->memory + i * 8192,
						       .slots = f->slots[i],
						       .bias = FRONT_GUEST - (uintptr_t)f->memory,
						       .features = features };
		CHECK_EQ(wh_virtq_driver_init(&f->ring[i], &ring), 0);
		front_start_ring(f, i, 0);
	}
}

void front_start(struct front_end *f, uint64_t features)
{
	front_say(f, VHOST_GET_FEATURES, 0, NULL, 0, NULL, 0);
	uint64_t offered = (uint64_t)front_answer(f, VHOST_GET_FEATURES);
	CHECK_EQ(features & ~offered, 0);
	front_say(f, VHOST_GET_PROTOCOL_FEATURES, 0, NULL, 0, NULL, 0);
	front_u64(f, VHOST_SET_PROTOCOL_FEATURES,
		  (uint64_t)front_answer(f, VHOST_GET_PROTOCOL_FEATURES));
	front_say(f, VHOST_SET_OWNER, 0, NULL, 0, NULL, 0);
	front_u64(f, VHOST_SET_FEATURES, features);
	front_region(f, VHOST_SET_MEM_TABLE, FRONT_GUEST, FRONT_MEMORY, FRONT_USER, 0,
		     f->memory_fd);
	front_start_pair(f, features, 0);
	CHECK(!f->gone);
}

static void kick(struct front_end *f, uint32_t index)
{
	static const uint64_t one = 1;
	(void)!write(f->kick[index], &one, sizeof one);
	front_settle(f);
}

void front_offer_to(struct front_end *f, uint32_t pair, uint32_t offset, uint32_t size)
{
	struct wh_iov iov = { f->memory + offset, size };
	CHECK_EQ(wh_virtq_driver_add(&f->ring[2 * pair], &iov, 0, 1, iov.base), 0);
	if (wh_virtq_driver_kick_needed(&f->ring[2 * pair]))
		kick(f, 2 * pair);
}

void front_send_on(struct front_end *f, uint32_t pair, uint32_t offset, uint32_t size)
{
	struct wh_iov iov = { f->memory + offset, size };
	CHECK_EQ(wh_virtq_driver_add(&f->ring[2 * pair + 1], &iov, 1, 0, iov.base), 0);
	if (wh_virtq_driver_kick_needed(&f->ring[2 * pair + 1]))
		kick(f, 2 * pair + 1);
}

void front_offer(struct front_end *f, uint32_t offset, uint32_t size)
{
	front_offer_to(f, 0, offset, size);
}

void front_send(struct front_end *f, uint32_t offset, uint32_t size)
{
	front_send_on(f, 0, offset, size);
}

bool front_called(struct front_end *f, uint32_t index)
{
	uint64_t count;
	return read(f->call[index], &count, sizeof count) == sizeof count;
}
