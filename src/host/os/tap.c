/* SPDX-License-Identifier: ISC */
#include <wherry/tap.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/base/assert.h>
#include <wherry/base/errors.h>
#include <wherry/base/mem.h>

/* Linux 6.2; older headers do not have them. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* ---- netlink ---- */

/* One request: every call ends with the kernel's answer, so nothing is queued. */
struct request {
	struct nlmsghdr header;
	uint8_t body[240];
};

static void request_begin(struct request *r, uint16_t type, uint16_t flags, const void *fixed,
			  size_t size)
{
	memset(r, 0, sizeof *r);
	r->header.nlmsg_len = NLMSG_LENGTH(size);
	r->header.nlmsg_type = type;
	r->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	memcpy(NLMSG_DATA(&r->header), fixed, size);
}

static void request_add(struct request *r, uint16_t type, const void *data, size_t size)
{
	size_t at = NLMSG_ALIGN(r->header.nlmsg_len);
	wh_assert(at + RTA_LENGTH(size) <= sizeof *r);
	struct rtattr a = { .rta_len = (uint16_t)RTA_LENGTH(size), .rta_type = type };
	memcpy((uint8_t *)r + at, &a, sizeof a);
	memcpy((uint8_t *)r + at + RTA_LENGTH(0), data, size);
	r->header.nlmsg_len = (uint32_t)(at + RTA_LENGTH(size));
}

static void request_add_number(struct request *r, uint16_t type, uint32_t value)
{
	request_add(r, type, &value, sizeof value);
}

static int request_send(int fd, const struct request *r)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		uint8_t rest[1024];
	} answer;
	if (send(fd, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	ssize_t n = recv(fd, &answer, sizeof answer, 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof answer.header + sizeof answer.error ||
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return -WH_EPROTO;
	return answer.error.error;
}

static int link_up(int fd, int index, const struct wh_tap_config *config)
{
	static const uint8_t none[6];
	struct ifinfomsg info = { .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	struct request r;
	request_begin(&r, RTM_NEWLINK, 0, &info, sizeof info);
	if (config) {
		request_add_number(&r, IFLA_MTU, config->mtu ? config->mtu : 1500);
		request_add_number(&r, IFLA_TXQLEN, WH_TAP_QUEUE);
		if (memcmp(config->mac, none, 6))
			request_add(&r, IFLA_ADDRESS, config->mac, 6);
	}
	return request_send(fd, &r);
}

static int address_add(int fd, int index, int family, const uint8_t *ip, uint8_t prefix)
{
	size_t size = family == AF_INET ? 4 : 16;
	struct ifaddrmsg m = { .ifa_family = (uint8_t)family,
			       .ifa_prefixlen = prefix,
			       .ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0,
			       .ifa_index = (uint32_t)index };
	struct request r;
	request_begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof m);
	request_add(&r, IFA_LOCAL, ip, size);
	request_add(&r, IFA_ADDRESS, ip, size);
	return request_send(fd, &r);
}

static int route_add(int fd, int index, int family, const uint8_t *gateway)
{
	struct rtmsg m = { .rtm_family = (uint8_t)family,
			   .rtm_table = RT_TABLE_MAIN,
			   .rtm_protocol = RTPROT_STATIC,
			   .rtm_scope = RT_SCOPE_UNIVERSE,
			   .rtm_type = RTN_UNICAST };
	struct request r;
	request_begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof m);
	request_add(&r, RTA_GATEWAY, gateway, family == AF_INET ? 4 : 16);
	request_add_number(&r, RTA_OIF, (uint32_t)index);
	return request_send(fd, &r);
}

static int neighbour_add(int fd, int index, int family, const uint8_t *ip, const uint8_t mac[6])
{
	struct ndmsg m = { .ndm_family = (uint8_t)family,
			   .ndm_ifindex = index,
			   .ndm_state = NUD_PERMANENT };
	struct request r;
	request_begin(&r, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof m);
	request_add(&r, NDA_DST, ip, family == AF_INET ? 4 : 16);
	request_add(&r, NDA_LLADDR, mac, 6);
	return request_send(fd, &r);
}

/* ---- the interface ---- */

static int family_configure(int fd, int index, int family, const uint8_t *ip, uint8_t prefix,
			    const uint8_t *gateway, const uint8_t *gateway_mac, const char **what)
{
	static const uint8_t none[6];
	*what = family == AF_INET ? "its IPv4 address" : "its IPv6 address";
	int error = address_add(fd, index, family, ip, prefix);
	if (error)
		return error;
	*what = "the gateway's MAC address";
	if (memcmp(gateway_mac, none, 6) &&
	    (error = neighbour_add(fd, index, family, gateway, gateway_mac)))
		return error;
	*what = family == AF_INET ? "the IPv4 default route" : "the IPv6 default route";
	return route_add(fd, index, family, gateway);
}

static void setting_write(const char *name, const char *setting, const char *value)
{
	char path[96];
	wh_format(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/%s", name, setting);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = write(fd, value, strlen(value));
	(void)n; /* the defaults work, too, only slower */
	close(fd);
}

static int configure(const char *name, const struct wh_tap_config *config, struct wh_diag *diag)
{
	const char *what = "a netlink socket";
	int index = (int)if_nametoindex(name), error = 0;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0 || !index) {
		error = -errno;
		goto out;
	}
	/* Addresses are given here: no second set from router advertisements, and no
	 * second of waiting for somebody else with the link-local one. */
	setting_write(name, "accept_ra", "0");
	setting_write(name, "accept_dad", "0");
	what = "loopback";
	if ((error = link_up(fd, 1, NULL)))
		goto out;
	what = "MTU and MAC address";
	if ((error = link_up(fd, index, config)))
		goto out;
	if (config->prefix4 &&
	    (error = family_configure(fd, index, AF_INET, config->ip4, config->prefix4,
				      config->gateway4, config->gateway_mac, &what)))
		goto out;
	if (config->prefix6) {
		error = family_configure(fd, index, AF_INET6, config->ip6, config->prefix6,
					 config->gateway6, config->gateway_mac, &what);
		/* A kernel without IPv6 is no error: the guest has IPv4. */
		if ((error == -WH_EAFNOSUPPORT || error == -WH_EOPNOTSUPP || error == -WH_EACCES) &&
		    config->prefix4)
			error = 0;
	}
out:
	if (fd >= 0)
		close(fd);
	return error ? wh_diag_set(diag, error, "interface %s: %s: %s", name, what,
				   strerror(-error))
		     : 0;
}

static uint32_t offloads_set(int fd, bool no_uso)
{
	unsigned long base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	if (!no_uso && !ioctl(fd, TUNSETOFFLOAD, base | TUN_F_USO4 | TUN_F_USO6))
		return WH_TAP_CSUM | WH_TAP_TSO | WH_TAP_USO;
	if (!ioctl(fd, TUNSETOFFLOAD, base))
		return WH_TAP_CSUM | WH_TAP_TSO;
	return 0;
}

int wh_tap_open(const struct wh_tap_config *config, int *ret_fd, uint32_t *ret_offloads,
		struct wh_diag *diag)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	const char *name = config->name ? config->name : "eth0";
	int header_size = WH_TAP_HEADER_SIZE;
	if (config->size != sizeof *config)
		return wh_diag_set(diag, -WH_EINVAL, "the tap's config has another version");
	if (config->mtu && (config->mtu < 1280 || config->mtu > WH_TAP_MTU_MAX))
		return wh_diag_set(diag, -WH_EINVAL, "MTU %u is not in 1280 to %u", config->mtu,
				   WH_TAP_MTU_MAX);
	if (!*name || strlen(name) >= WH_TAP_NAME_SIZE || strchr(name, '/') || strchr(name, '%'))
		return wh_diag_set(diag, -WH_EINVAL, "%s is no name for an interface", name);
	memcpy(request.ifr_name, name, strlen(name));
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return wh_diag_set(diag, -errno, "/dev/net/tun: %s", strerror(errno));
	if (ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETVNETHDRSZ, &header_size)) {
		int error = -errno;
		close(fd);
		return wh_diag_set(diag, error, "cannot make the interface %s: %s", name,
				   strerror(-error));
	}
	uint32_t offloads = offloads_set(fd, config->no_uso);
	int error = configure(name, config, diag);
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	*ret_offloads = offloads;
	return 0;
}
