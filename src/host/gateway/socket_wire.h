/* SPDX-License-Identifier: ISC */
#ifndef GATEWAY_SOCKET_WIRE_H
#define GATEWAY_SOCKET_WIRE_H

/* Bytes of the protocols in wherry/socket_port.h. Pure functions. */

#include <wherry/socket_port.h>

#define VPNKIT_HELLO_SIZE 49u
#define VPNKIT_COMMAND_SIZE 41u
#define VPNKIT_ANSWER_SIZE 258u
#define VPNKIT_VERSION 22u
#define SOCKET_FRAME_MIN 14u

/* Bytes of the length in front of each frame; 0 = datagrams. */
uint32_t socket_header_size(enum wh_socket_protocol protocol);
void socket_header_emit(enum wh_socket_protocol protocol, uint8_t *to, uint32_t size);
/* Looks at the frame at the front of `size` bytes. 0 with its size, -WH_EAGAIN when it is not all
 * there, -WH_EMSGSIZE when it can never be. */
int socket_frame_parse(enum wh_socket_protocol protocol, const uint8_t *bytes, size_t size,
		       uint32_t *ret_size);

/* NULL or why not. */
const char *vpnkit_hello_check(const uint8_t bytes[VPNKIT_HELLO_SIZE]);
void vpnkit_hello_emit(uint8_t to[VPNKIT_HELLO_SIZE]);
const char *vpnkit_command_parse(const uint8_t bytes[VPNKIT_COMMAND_SIZE],
				 struct wh_socket_request *ret_request);
void vpnkit_vif_emit(uint8_t to[VPNKIT_ANSWER_SIZE], uint32_t mtu, const uint8_t mac[6]);
void vpnkit_disconnect_emit(uint8_t to[VPNKIT_ANSWER_SIZE], const char *reason);

#endif
