/* SPDX-License-Identifier: ISC */
/* Capture of the guest's link in pcap's nanosecond format (link type Ethernet). Segments are
 * written as they cross the link: up to 64 KiB, checksums of offloaded ones unfinished. */
#include "gateway_priv.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wherry/os.h>

#define PCAP_MAGIC_NS 0xa1b23c4du
#define PCAP_ETHERNET 1u
#define PCAP_SNAPLEN 262144u

int wh_gateway_pcap(struct wh_gateway *gateway, int fd)
{
	const struct {
		uint32_t magic;
		uint16_t major, minor;
		uint32_t zone, accuracy, snaplen, type;
	} header = { PCAP_MAGIC_NS, 2, 4, 0, 0, PCAP_SNAPLEN, PCAP_ETHERNET };
	gateway->pcap_fd = -1;
	if (fd < 0)
		return 0;
	int error = wh_os_write_all(fd, &header, sizeof header);
	if (!error)
		gateway->pcap_fd = fd;
	return error;
}

bool wh_gateway_capturing(const struct wh_gateway *gateway)
{
	return gateway->pcap_fd >= 0;
}

void pcap_frame(struct wh_gateway *gateway, const struct wh_net_frame *frame)
{
	uint64_t now = wh_os_wall_clock();
	uint32_t header[4] = { (uint32_t)(now / GATEWAY_S), (uint32_t)(now % GATEWAY_S),
			       frame->size, frame->size };
	struct iovec iov[WH_NET_FRAME_IOV_MAX + 1] = { { header, sizeof header } };
	uint32_t count = frame->iov_count;
	if (count > WH_NET_FRAME_IOV_MAX)
		return;
	for (uint32_t i = 0; i < count; i++)
		iov[i + 1] = (struct iovec){ frame->iov[i].base, frame->iov[i].size };
	ssize_t wanted = (ssize_t)(sizeof header + frame->size);
	if (writev(gateway->pcap_fd, iov, (int)count + 1) != wanted)
		gateway->pcap_fd = -1; /* a torn record would make the rest unreadable */
}
