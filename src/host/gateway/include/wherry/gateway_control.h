/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_GATEWAY_CONTROL_H
#define WHERRY_GATEWAY_CONTROL_H

/*
 * Control of a running gateway through a Unix stream socket: published ports, policy, flows, counters, names,
 * capture. The protocol (lines in, lines of JSON out) is in docs/spec/gateway-control.md;
 * `wherry net rules` and its like are clients.
 *
 * Whoever may connect may do all of it: the socket's file has mode 0600. What clients send is checked as
 * anything else from outside; a client that does not read waits for itself only.
 *
 * Threads: those of the gateway's loop; the gateway and the loop outlive the control. Memory: 1 KiB, and
 * 34 KiB per client, of WH_CONTROL_CLIENTS_MAX at most. Descriptors: one, one per client, one of the capture.
 *
 *	struct wh_gateway_control *control;
 *	wh_gateway_control_new(gateway, loop, "/run/user/1000/web.sock", &control, &diag);
 *	...
 *	wh_gateway_control_free(control);   // removes the file
 */

#include <wherry/gateway.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct wh_gateway_control;

#define WH_CONTROL_CLIENTS_MAX 16u   /* more are closed at once */
#define WH_CONTROL_LINE_SIZE 512u    /* longest request, line feed included */
#define WH_CONTROL_REPLY_SIZE 32768u /* a client's replies that are not read yet */

/* Listens at path; NULL = nowhere, clients come by _add. A socket's file that nobody listens at is replaced.
 * -WH_EADDRINUSE (a listener, or a file of another kind), -WH_ENAMETOOLONG, -errno; diag has a sentence. */
int wh_gateway_control_new(struct wh_gateway *gateway, struct wh_loop *loop, const char *path,
			   struct wh_gateway_control **ret_control, struct wh_diag *diag);
/* A client that is connected already, such as one half of a socketpair. fd is the control's from now on, also
 * after an error: -WH_ENOSPC (clients), -WH_ENOMEM, -errno. */
int wh_gateway_control_add(struct wh_gateway_control *control, int fd);
/* Carries out one request, as if a client had sent it, and without its lines of reply. Requests that list or bring
 * a descriptor have no use here. 0, or what the control would have answered: -WH_E* and its sentence. */
int wh_gateway_control_run(struct wh_gateway_control *control, const char *request,
			   struct wh_diag *diag);
/* Ends a capture that a client began, closes all clients, removes the file if it is still ours. NULL is
 * allowed. Before wh_gateway_free. */
void wh_gateway_control_free(struct wh_gateway_control *control);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
