/* SPDX-License-Identifier: ISC */
/*
 * A vhost-user front end and its guest that do wrong. First byte: bit 0 = begin with everything set up rightly. Then
 * records, of a kind and what it needs:
 *	0 request, flags, size, bytes: a message   1 the same with the memory's descriptor   2 with an eventfd
 *	3 offset (2), size, bytes: written into guest memory   4 ring: kick
 *	5 the gateway sends a frame of 4 * size bytes   6 size (1): the memory's file is cut
 *	7 the user has no room once; and resumes
 */
#include "../src/host/gateway/test/front_end.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/test.h>

static struct front_end f;

static void bus_error(int signal, siginfo_t *info, void *context)
{
	if (!wh_vhost_port_fault(f.vhost, info->si_addr))
		abort();
}

struct input {
	const uint8_t *at, *end;
};

static uint8_t byte(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static void message(struct input *in, int fd)
{
	uint32_t request = byte(in), flags = byte(in), size = byte(in);
	uint8_t payload[256];
	for (uint32_t i = 0; i < size; i++)
		payload[i] = byte(in);
	front_say(&f, request, flags, payload, size, &fd, fd >= 0);
	uint8_t answers[256];
	(void)!recv(f.peer, answers, sizeof answers, MSG_DONTWAIT);
}

static void frame_send(uint32_t size)
{
	static uint8_t bytes[1024];
	struct wh_iov iov = { bytes, size };
	struct wh_net_frame frame = { .iov = &iov, .iov_count = 1, .size = size };
	(void)f.port->send(f.port, &frame);
	f.port->flush(f.port);
}

static void step(struct input *in)
{
	static const uint64_t one = 1;
	uint32_t offset, size;
	switch (byte(in) % 8) {
	case 0:
		message(in, -1);
		break;
	case 1:
		message(in, f.memory_fd);
		break;
	case 2:
		message(in, f.kick[byte(in) & 1]);
		break;
	case 3:
		offset = (uint32_t)byte(in) << 8;
		offset |= byte(in);
		for (size = byte(in); size; size--)
			(void)!pwrite(f.memory_fd, (uint8_t[1]){ byte(in) }, 1, offset++);
		break;
	case 4:
		(void)!write(f.kick[byte(in) & 1], &one, sizeof one);
		break;
	case 5:
		frame_send(14 + 3 * byte(in));
		break;
	case 6:
		(void)!ftruncate(f.memory_fd, byte(in) * 4096);
		break;
	default:
		f.refuse = 1;
		f.port->resume(f.port);
	}
	front_settle(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sigaction action = { .sa_sigaction = bus_error, .sa_flags = SA_SIGINFO };
	struct input in = { data, data + size };
	sigaction(SIGBUS, &action, NULL);
	front_begin(&f);
	if (byte(&in) & 1)
		front_start(&f, FRONT_FEATURES);
	while (in.at < in.end && !f.gone)
		step(&in);
	front_end(&f);
	return 0;
}
