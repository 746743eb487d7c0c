/* SPDX-License-Identifier: ISC */
#ifndef POSIX_SOCKET_H
#define POSIX_SOCKET_H

/* System calls on sockets, and the part of the Linux ABI they use. Each returns >= 0 or
 * -errno as Linux does; see its manual page, section 2. */

#include <stddef.h>
#include <stdint.h>
#include <fs/linux.h>
#include <wherry/base/iov.h>
#include <kern/trace.h>

#define LX_AF_UNSPEC 0
#define LX_AF_UNIX 1
#define LX_AF_INET 2
#define LX_AF_INET6 10
#define LX_SOCK_STREAM 1
#define LX_SOCK_DGRAM 2
#define LX_SOCK_SEQPACKET 5
#define LX_SOCK_TYPE 15
#define LX_SOCK_CLOEXEC ((int)LX_O_CLOEXEC)
#define LX_SOCK_NONBLOCK ((int)LX_O_NONBLOCK)

#define LX_MSG_OOB 0x1
#define LX_MSG_PEEK 0x2
#define LX_MSG_DONTROUTE 0x4
#define LX_MSG_CTRUNC 0x8
#define LX_MSG_TRUNC 0x20
#define LX_MSG_DONTWAIT 0x40
#define LX_MSG_EOR 0x80
#define LX_MSG_WAITALL 0x100
#define LX_MSG_ERRQUEUE 0x2000
#define LX_MSG_NOSIGNAL 0x4000
#define LX_MSG_MORE 0x8000
#define LX_MSG_WAITFORONE 0x10000
#define LX_MSG_FASTOPEN 0x20000000
#define LX_MSG_CMSG_CLOEXEC 0x40000000

#define LX_SHUT_RD 0
#define LX_SHUT_WR 1
#define LX_SHUT_RDWR 2

#define LX_SOL_SOCKET 1
#define LX_SO_DEBUG 1
#define LX_SO_REUSEADDR 2
#define LX_SO_TYPE 3
#define LX_SO_ERROR 4
#define LX_SO_DONTROUTE 5
#define LX_SO_BROADCAST 6
#define LX_SO_SNDBUF 7
#define LX_SO_RCVBUF 8
#define LX_SO_KEEPALIVE 9
#define LX_SO_OOBINLINE 10
#define LX_SO_PRIORITY 12
#define LX_SO_LINGER 13
#define LX_SO_REUSEPORT 15
#define LX_SO_RCVLOWAT 18
#define LX_SO_SNDLOWAT 19
#define LX_SO_RCVTIMEO 20
#define LX_SO_SNDTIMEO 21
#define LX_SO_ACCEPTCONN 30
#define LX_SO_SNDBUFFORCE 32
#define LX_SO_RCVBUFFORCE 33
#define LX_SO_PROTOCOL 38
#define LX_SO_DOMAIN 39
#define LX_SO_INCOMING_CPU 49

#define LX_IPPROTO_IP 0
#define LX_IP_TOS 1
#define LX_IP_TTL 2
#define LX_IP_PKTINFO 8
#define LX_IP_MTU_DISCOVER 10
#define LX_IP_RECVERR 11
#define LX_IP_MTU 14
#define LX_IP_FREEBIND 15
#define LX_IP_BIND_ADDRESS_NO_PORT 24
#define LX_IP_MULTICAST_IF 32
#define LX_IP_MULTICAST_TTL 33
#define LX_IP_MULTICAST_LOOP 34
#define LX_IP_ADD_MEMBERSHIP 35
#define LX_IP_DROP_MEMBERSHIP 36
#define LX_MCAST_JOIN_GROUP 42
#define LX_MCAST_LEAVE_GROUP 45
#define LX_IPPROTO_IPV6 41
#define LX_IPV6_UNICAST_HOPS 16
#define LX_IPV6_MULTICAST_IF 17
#define LX_IPV6_MULTICAST_HOPS 18
#define LX_IPV6_MULTICAST_LOOP 19
#define LX_IPV6_ADD_MEMBERSHIP 20
#define LX_IPV6_DROP_MEMBERSHIP 21
#define LX_IPV6_MTU_DISCOVER 23
#define LX_IPV6_MTU 24
#define LX_IPV6_RECVERR 25
#define LX_IPV6_V6ONLY 26
#define LX_IPV6_RECVPKTINFO 49
#define LX_IPV6_PKTINFO 50
#define LX_IPV6_TCLASS 67
#define LX_IPPROTO_TCP 6
#define LX_IPPROTO_UDP 17
#define LX_TCP_NODELAY 1
#define LX_TCP_MAXSEG 2
#define LX_TCP_CORK 3
#define LX_TCP_KEEPIDLE 4
#define LX_TCP_KEEPINTVL 5
#define LX_TCP_KEEPCNT 6
#define LX_TCP_SYNCNT 7
#define LX_TCP_LINGER2 8
#define LX_TCP_DEFER_ACCEPT 9
#define LX_TCP_WINDOW_CLAMP 10
#define LX_TCP_INFO 11
#define LX_TCP_QUICKACK 12
#define LX_TCP_CONGESTION 13
#define LX_TCP_USER_TIMEOUT 18
#define LX_TCP_FASTOPEN 23
#define LX_TCP_NOTSENT_LOWAT 25

#define LX_FIONREAD 0x541bu
#define LX_TIOCOUTQ 0x5411u
#define LX_SIOCATMARK 0x8905u

struct lx_sockaddr_in {
	uint16_t family;
	uint8_t port[2];
	uint8_t address[4];
	uint8_t zero[8];
};
struct lx_sockaddr_in6 {
	uint16_t family;
	uint8_t port[2];
	uint32_t flow;
	uint8_t address[16];
	uint32_t scope;
};
#define LX_SOCKADDR_SIZE 28u /* the larger of the two */

struct lx_msghdr {
	void *name;
	uint32_t name_size;
	uint32_t pad0;
	struct wh_iov *iov;
	uint64_t iov_count; /* the C library zeroes the upper half */
	void *control;
	uint64_t control_size;
	int32_t flags;
	uint32_t pad1;
};
_Static_assert(sizeof(struct lx_msghdr) == 56, "Linux ABI");

struct lx_mmsghdr {
	struct lx_msghdr header;
	uint32_t size;
	uint32_t pad;
};

struct lx_linger {
	int32_t on, seconds;
};

/* struct tcp_info up to what we can say. */
struct lx_tcp_info {
	uint8_t state, ca_state, retransmits, probes, backoff, options, scales, flags;
	uint32_t rto_us, ato_us, mss_send, mss_receive;
	uint32_t unacked, sacked, lost, retrans, fackets;
	uint32_t last_data_sent, last_ack_sent, last_data_received, last_ack_received;
	uint32_t pmtu, rcv_ssthresh, rtt_us, rttvar_us, snd_ssthresh, snd_cwnd, advmss, reordering;
	uint32_t rcv_rtt, rcv_space, total_retrans;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
	uint32_t segments_out, segments_in, notsent_bytes;
};

KERN_CALL long wh_sys_socket(int family, int type, int protocol);
KERN_CALL long wh_sys_socketpair(int family, int type, int protocol, int *ret_fds);
KERN_CALL long wh_sys_bind(int fd, const void *address, uint32_t size);
KERN_CALL long wh_sys_listen(int fd, int backlog);
KERN_CALL long wh_sys_accept(int fd, void *ret_address, uint32_t *size);
KERN_CALL long wh_sys_accept4(int fd, void *ret_address, uint32_t *size, int flags);
KERN_CALL long wh_sys_connect(int fd, const void *address, uint32_t size);
KERN_CALL long wh_sys_getsockname(int fd, void *ret_address, uint32_t *size);
KERN_CALL long wh_sys_getpeername(int fd, void *ret_address, uint32_t *size);
KERN_CALL long wh_sys_setsockopt(int fd, int level, int option, const void *value, uint32_t size);
KERN_CALL long wh_sys_getsockopt(int fd, int level, int option, void *ret_value, uint32_t *size);
KERN_CALL long wh_sys_sendto(int fd, const void *data, size_t size, int flags, const void *address,
			     uint32_t address_size);
KERN_CALL long wh_sys_recvfrom(int fd, void *to, size_t size, int flags, void *ret_address,
			       uint32_t *address_size);
KERN_CALL long wh_sys_sendmsg(int fd, const struct lx_msghdr *message, int flags);
KERN_CALL long wh_sys_recvmsg(int fd, struct lx_msghdr *message, int flags);
KERN_CALL long wh_sys_sendmmsg(int fd, struct lx_mmsghdr *messages, unsigned count, int flags);
KERN_CALL long wh_sys_recvmmsg(int fd, struct lx_mmsghdr *messages, unsigned count, int flags,
			       const struct lx_timespec *timeout);
KERN_CALL long wh_sys_shutdown(int fd, int how);

/* The TCP/IP stack of the image; called by the kernel's start-up when linked. */
int net_guest_init(void);

#endif
