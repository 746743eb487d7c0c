/* SPDX-License-Identifier: ISC */
#ifndef NET_TEST_ENDS_H
#define NET_TEST_ENDS_H

#include "sim.h"

/* One end of a transfer: sends `send_total` patterned bytes, then its FIN, and checks what comes.
 * The other end's pattern is this one's ^ 0x55. ctx of its socket, with end_ops. */
struct end {
	struct sim_side *side;
	struct wh_net_tcp *s;
	uint64_t sent, send_total, received, receive_total;
	uint8_t pattern;
	bool connected, peer_closed, drained, failed, shut, slow, direct;
	int error;
};

extern const struct wh_net_tcp_ops end_ops;
void end_pump(struct end *e);
void end_read(struct end *e, uint32_t most);

#endif
