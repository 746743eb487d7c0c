/* SPDX-License-Identifier: ISC */
#include "socket_wire.h"

#include <string.h>
#include <wherry/base/bytes.h>
#include <wherry/base/errors.h>

enum { COMMAND_ETHERNET = 1, COMMAND_BIND_IPV4 = 6, COMMAND_PREFERRED_IPV4 = 8 };
enum { ANSWER_VIF = 1, ANSWER_DISCONNECT = 2 };

/* ---- frames ---- */

uint32_t socket_header_size(enum wh_socket_protocol protocol)
{
	return protocol == WH_SOCKET_QEMU ? 4 : protocol == WH_SOCKET_VPNKIT ? 2 : 0;
}

void socket_header_emit(enum wh_socket_protocol protocol, uint8_t *to, uint32_t size)
{
	if (protocol == WH_SOCKET_QEMU)
		wh_store_be32(to, size);
	else if (protocol == WH_SOCKET_VPNKIT)
		wh_store_le16(to, (uint16_t)size);
}

int socket_frame_parse(enum wh_socket_protocol protocol, const uint8_t *bytes, size_t size,
		       uint32_t *ret_size)
{
	uint32_t header = socket_header_size(protocol), n;
	if (size < header)
		return -WH_EAGAIN;
	n = protocol == WH_SOCKET_QEMU ? wh_load_be32(bytes) : wh_load_le16(bytes);
	if (n > WH_NET_FRAME_SIZE_MAX)
		return -WH_EMSGSIZE;
	if (size - header < n)
		return -WH_EAGAIN;
	*ret_size = n;
	return 0;
}

/* ---- VPNKit's handshake ---- */

static const uint8_t magic[5] = { 'V', 'M', 'N', '3', 'T' };

const char *vpnkit_hello_check(const uint8_t bytes[VPNKIT_HELLO_SIZE])
{
	if (memcmp(bytes, magic, sizeof magic))
		return "this is not VPNKit's protocol";
	return wh_load_le32(bytes + 5) == VPNKIT_VERSION ? NULL : "protocol version 22 is spoken";
}

void vpnkit_hello_emit(uint8_t to[VPNKIT_HELLO_SIZE])
{
	memcpy(to, magic, sizeof magic);
	wh_store_le32(to + 5, VPNKIT_VERSION);
	memset(to + 9, '0', VPNKIT_HELLO_SIZE - 9); /* a commit that nobody compares */
}

static bool is_uuid(const char text[36])
{
	for (int i = 0; i < 36; i++) {
		char c = text[i];
		bool hex = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f');
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? c != '-' : !hex)
			return false;
	}
	return true;
}

const char *vpnkit_command_parse(const uint8_t bytes[VPNKIT_COMMAND_SIZE],
				 struct wh_socket_request *ret_request)
{
	memset(ret_request, 0, sizeof *ret_request);
	if (bytes[0] == COMMAND_BIND_IPV4)
		return "binding addresses is not offered";
	if (bytes[0] != COMMAND_ETHERNET && bytes[0] != COMMAND_PREFERRED_IPV4)
		return "unknown command";
	memcpy(ret_request->uuid, bytes + 1, sizeof ret_request->uuid);
	if (!is_uuid(ret_request->uuid))
		return "malformed UUID";
	if (bytes[0] == COMMAND_PREFERRED_IPV4)
		wh_store_be32(ret_request->ip4, wh_load_le32(bytes + 37));
	return NULL;
}

void vpnkit_vif_emit(uint8_t to[VPNKIT_ANSWER_SIZE], uint32_t mtu, const uint8_t mac[6])
{
	memset(to, 0, VPNKIT_ANSWER_SIZE);
	to[0] = ANSWER_VIF;
	wh_store_le16(to + 1, (uint16_t)mtu);
	wh_store_le16(to + 3, (uint16_t)(mtu > 65485 ? 65535 : mtu + 50));
	memcpy(to + 5, mac, 6);
}

void vpnkit_disconnect_emit(uint8_t to[VPNKIT_ANSWER_SIZE], const char *reason)
{
	size_t n = strlen(reason);
	n = n > 255 ? 255 : n;
	memset(to, 0, VPNKIT_ANSWER_SIZE);
	to[0] = ANSWER_DISCONNECT;
	to[1] = (uint8_t)n;
	memcpy(to + 2, reason, n);
}
