/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_NET_WIRE_H
#define WHERRY_NET_WIRE_H

/*
 * Wire formats: one pair of functions per protocol and direction.
 *
 * `parse` looks at bytes that anybody may have sent. It reads nothing outside
 * [p, p+size), checks every length and rule that can be checked without state,
 * and either fills *ret and returns the bytes of the header (>= 0), or returns
 * -WH_EBADMSG and leaves *ret alone. Bytes may change while they are read (guest
 * memory): parse works on a private copy, so callers copy headers first.
 *
 * `emit` writes a header into memory of the caller that is known to be large
 * enough (the *_SIZE or *_SIZE_MAX beside it) and returns the bytes written. It
 * fails only by wh_assert: its arguments are ours.
 *
 * Ports and numbers are in host order, addresses and MACs in wire order. Nothing here
 * allocates, keeps state or knows the stack. Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wherry/base/iov.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- Internet checksum (RFC 1071) -------------------------------------------- */

/* Sums are 32-bit partial sums in wire order of 16-bit words; feed parts in any
 * order as long as each but the last has an even size (or pass `odd`). */
uint32_t wh_wire_sum(uint32_t sum, const void *data, size_t size);
/* Bytes [offset, offset+size) of a list; the list must hold them. */
uint32_t wh_wire_sum_iov(uint32_t sum, const struct wh_iov *iov, size_t count, size_t offset,
			 size_t size);
/* Pseudo header: address_size is 4 or 16. */
uint32_t wh_wire_sum_pseudo(const uint8_t *from, const uint8_t *to, size_t address_size,
			    uint8_t protocol, uint32_t size);
/* The 16 bits that go into a header (host order: store with wh_store_be16). */
uint16_t wh_wire_sum_finish(uint32_t sum);
/* Folded but not complemented: what NEEDS_CSUM wants in the checksum field. */
uint16_t wh_wire_sum_fold(uint32_t sum);

/* ---- Ethernet ------------------------------------------------------------------ */

#define WH_WIRE_ETH_SIZE 14u
#define WH_WIRE_ETH_IP4 0x0800u
#define WH_WIRE_ETH_ARP 0x0806u
#define WH_WIRE_ETH_IP6 0x86ddu

struct wh_wire_eth {
	uint8_t to[6], from[6];
	uint16_t type;
};
int wh_wire_eth_parse(const uint8_t *p, size_t size, struct wh_wire_eth *ret);
size_t wh_wire_eth_emit(uint8_t *p, const struct wh_wire_eth *eth);

/* ---- ARP (RFC 826, Ethernet and IPv4 only) ---------------------------------- */

#define WH_WIRE_ARP_SIZE 28u
#define WH_WIRE_ARP_REQUEST 1u
#define WH_WIRE_ARP_REPLY 2u

struct wh_wire_arp {
	uint16_t op;
	uint8_t sender_mac[6], sender_ip[4], target_mac[6], target_ip[4];
};
int wh_wire_arp_parse(const uint8_t *p, size_t size, struct wh_wire_arp *ret);
size_t wh_wire_arp_emit(uint8_t *p, const struct wh_wire_arp *arp);

/* ---- IPv4 (RFC 791) ---------------------------------------------------------- */

#define WH_WIRE_IP4_SIZE 20u /* emitted; options are parsed over, never sent */
#define WH_WIRE_IP4_SIZE_MAX 60u

#define WH_WIRE_PROTO_ICMP 1u
#define WH_WIRE_PROTO_IGMP 2u
#define WH_WIRE_PROTO_TCP 6u
#define WH_WIRE_PROTO_UDP 17u
#define WH_WIRE_PROTO_ICMP6 58u

struct wh_wire_ip4 {
	uint8_t header_size;
	uint8_t tos; /* DSCP and ECN */
	uint8_t ttl;
	uint8_t protocol;
	uint16_t total_size; /* header included */
	uint16_t id;
	uint16_t fragment_offset; /* bytes */
	bool dont_fragment, more_fragments;
	uint8_t from[4], to[4];
};
/* size: bytes at p; packet_size: bytes of the packet in all, of which p may be a
 * prefix that holds the header. */
int wh_wire_ip4_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_ip4 *ret);
size_t wh_wire_ip4_emit(uint8_t *p, const struct wh_wire_ip4 *ip); /* with header checksum */

/* ---- IPv6 (RFC 8200) ---------------------------------------------------------- */

#define WH_WIRE_IP6_SIZE 40u
#define WH_WIRE_IP6_FRAGMENT_SIZE 8u

struct wh_wire_ip6 {
	uint8_t traffic_class;
	uint8_t next_header;
	uint8_t hop_limit;
	uint32_t flow;
	uint16_t payload_size;
	uint8_t from[16], to[16];
};
int wh_wire_ip6_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_ip6 *ret);
size_t wh_wire_ip6_emit(uint8_t *p, const struct wh_wire_ip6 *ip);

/* Walks extension headers behind the fixed one. p begins behind the fixed
 * header. Ends at the first header that is not an extension, or behind a fragment header
 * that is not the first fragment's. */
struct wh_wire_ip6_extensions {
	uint8_t protocol;       /* of what follows, 59 = nothing */
	uint8_t unknown_option; /* an option demands that the packet be dropped: its action bits */
	bool fragment;          /* a fragment header was met */
	bool more_fragments;    /* its M bit */
	bool routed;            /* a routing header with segments left: not for us */
	uint16_t problem_at;    /* offset from p of the option's type or routing header's type */
	uint16_t fragment_offset; /* bytes */
	uint16_t fragment_header; /* offset of the fragment header from p */
	uint16_t previous_next;   /* offset from p of the byte that names the fragment header
				   * (0xffff: the fixed header's next_header) */
	uint32_t fragment_id;
};
int wh_wire_ip6_extensions_parse(const uint8_t *p, size_t size, uint8_t next_header,
				 struct wh_wire_ip6_extensions *ret);
size_t wh_wire_ip6_fragment_emit(uint8_t *p, uint8_t next_header, uint16_t offset, bool more,
				 uint32_t id);

/* ---- ICMP and ICMPv6 (RFC 792, 4443) --------------------------------------------- */

#define WH_WIRE_ICMP_SIZE 8u
#define WH_WIRE_ICMP_ECHO_REPLY 0u
#define WH_WIRE_ICMP_UNREACHABLE 3u
#define WH_WIRE_ICMP_ECHO 8u
#define WH_WIRE_ICMP_TIME_EXCEEDED 11u
#define WH_WIRE_ICMP_PARAMETER 12u
#define WH_WIRE_ICMP_CODE_NET 0u
#define WH_WIRE_ICMP_CODE_HOST 1u
#define WH_WIRE_ICMP_CODE_PROTOCOL 2u
#define WH_WIRE_ICMP_CODE_PORT 3u
#define WH_WIRE_ICMP_CODE_TOO_BIG 4u
#define WH_WIRE_ICMP_CODE_ADMIN 13u

#define WH_WIRE_ICMP6_UNREACHABLE 1u
#define WH_WIRE_ICMP6_TOO_BIG 2u
#define WH_WIRE_ICMP6_TIME_EXCEEDED 3u
#define WH_WIRE_ICMP6_PARAMETER 4u
#define WH_WIRE_ICMP6_ECHO 128u
#define WH_WIRE_ICMP6_ECHO_REPLY 129u
#define WH_WIRE_ICMP6_MLD_QUERY 130u
#define WH_WIRE_ICMP6_MLD2_REPORT 143u
#define WH_WIRE_ICMP6_ROUTER_SOLICIT 133u
#define WH_WIRE_ICMP6_ROUTER_ADVERT 134u
#define WH_WIRE_ICMP6_NEIGHBOUR_SOLICIT 135u
#define WH_WIRE_ICMP6_NEIGHBOUR_ADVERT 136u
#define WH_WIRE_ICMP6_CODE_NO_ROUTE 0u
#define WH_WIRE_ICMP6_CODE_ADMIN 1u
#define WH_WIRE_ICMP6_CODE_ADDRESS 3u
#define WH_WIRE_ICMP6_CODE_PORT 4u

struct wh_wire_icmp { /* both versions: the first eight bytes */
	uint8_t type, code;
	uint16_t id, sequence; /* echo; else the two halves of bytes 4..7 */
};
int wh_wire_icmp_parse(const uint8_t *p, size_t size, struct wh_wire_icmp *ret);
/* Writes the checksum as 0; the caller sums header, payload (and pseudo header
 * for ICMPv6) and stores it at offset 2. */
size_t wh_wire_icmp_emit(uint8_t *p, const struct wh_wire_icmp *icmp);

/* ---- Neighbour discovery (RFC 4861, 8106) ------------------------------------------ */

#define WH_WIRE_NDP_PREFIXES_MAX 4u
#define WH_WIRE_NDP_DNS_MAX 3u
#define WH_WIRE_NDP_SOLICIT_SIZE 32u /* with the link-layer option */
#define WH_WIRE_NDP_ADVERT_SIZE 32u
#define WH_WIRE_NDP_ROUTER_SOLICIT_SIZE 16u
#define WH_WIRE_NDP_ROUTER_ADVERT_SIZE_MAX 256u

#define WH_WIRE_NDP_ROUTER 0x80u
#define WH_WIRE_NDP_SOLICITED 0x40u
#define WH_WIRE_NDP_OVERRIDE 0x20u

struct wh_wire_neighbour { /* solicitation and advertisement */
	uint8_t target[16];
	uint8_t flags; /* advertisement: WH_WIRE_NDP_* */
	bool has_mac;  /* source (solicitation) or target (advertisement) link-layer option */
	uint8_t mac[6];
};
/* p begins at the ICMPv6 header; type says which. */
int wh_wire_neighbour_parse(const uint8_t *p, size_t size, struct wh_wire_neighbour *ret);
size_t wh_wire_neighbour_emit(uint8_t *p, uint8_t type, const struct wh_wire_neighbour *n);

struct wh_wire_prefix {
	uint8_t prefix[16];
	uint8_t length;
	bool on_link, autonomous;
	uint32_t valid_s, preferred_s;
};
struct wh_wire_router_advert {
	uint8_t hop_limit;
	bool managed, other; /* DHCPv6 has addresses, other configuration */
	uint16_t lifetime_s; /* 0 = no default router */
	uint32_t mtu;        /* 0 = not given */
	bool has_mac;
	uint8_t mac[6];
	uint32_t prefix_count, dns_count; /* as stored; more are passed over */
	struct wh_wire_prefix prefix[WH_WIRE_NDP_PREFIXES_MAX];
	uint8_t dns[WH_WIRE_NDP_DNS_MAX][16];
	uint32_t dns_lifetime_s;
};
int wh_wire_router_advert_parse(const uint8_t *p, size_t size, struct wh_wire_router_advert *ret);
size_t wh_wire_router_advert_emit(uint8_t *p, const struct wh_wire_router_advert *ra);
size_t wh_wire_router_solicit_emit(uint8_t *p, const uint8_t mac[6]);

/* ---- UDP (RFC 768) --------------------------------------------------------------- */

#define WH_WIRE_UDP_SIZE 8u

struct wh_wire_udp {
	uint16_t from, to;
	uint16_t size; /* header included */
	bool has_checksum;
};
int wh_wire_udp_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_udp *ret);
size_t wh_wire_udp_emit(uint8_t *p, const struct wh_wire_udp *udp); /* checksum field 0 */
#define WH_WIRE_UDP_CHECKSUM_AT 6u

/* ---- TCP (RFC 9293, 7323, 2018) ---------------------------------------------------- */

#define WH_WIRE_TCP_SIZE 20u
#define WH_WIRE_TCP_SIZE_MAX 60u
#define WH_WIRE_TCP_CHECKSUM_AT 16u
#define WH_WIRE_TCP_SACKS_MAX 4u

#define WH_WIRE_TCP_FIN 0x01u
#define WH_WIRE_TCP_SYN 0x02u
#define WH_WIRE_TCP_RST 0x04u
#define WH_WIRE_TCP_PSH 0x08u
#define WH_WIRE_TCP_ACK 0x10u
#define WH_WIRE_TCP_URG 0x20u
#define WH_WIRE_TCP_ECE 0x40u
#define WH_WIRE_TCP_CWR 0x80u

struct wh_wire_tcp {
	uint16_t from, to;
	uint32_t sequence, acknowledgement;
	uint16_t window; /* unscaled */
	uint16_t urgent;
	uint8_t flags; /* WH_WIRE_TCP_* */
	uint8_t header_size;
	/* Options. Malformed ones end the option list; they never make parse fail. */
	bool has_mss, has_scale, sack_permitted, has_timestamp;
	uint8_t scale; /* at most 14 */
	uint8_t sack_count;
	uint16_t mss;
	uint32_t timestamp, timestamp_echo;
	struct {
		uint32_t start, end;
	} sack[WH_WIRE_TCP_SACKS_MAX];
};
int wh_wire_tcp_parse(const uint8_t *p, size_t size, size_t packet_size, struct wh_wire_tcp *ret);
/* Checksum field 0; options that are set are written in an order that fits 40
 * bytes: SACK blocks that do not fit are left out. Returns header_size. */
size_t wh_wire_tcp_emit(uint8_t *p, const struct wh_wire_tcp *tcp);

/* ---- DHCPv4 (RFC 2131, 2132) --------------------------------------------------------- */

#define WH_WIRE_DHCP_SERVER_PORT 67u
#define WH_WIRE_DHCP_CLIENT_PORT 68u
#define WH_WIRE_DHCP_SIZE_MAX 576u /* what emit may write */

enum wh_wire_dhcp_type {
	WH_WIRE_DHCP_DISCOVER = 1,
	WH_WIRE_DHCP_OFFER = 2,
	WH_WIRE_DHCP_REQUEST = 3,
	WH_WIRE_DHCP_DECLINE = 4,
	WH_WIRE_DHCP_ACK = 5,
	WH_WIRE_DHCP_NAK = 6,
	WH_WIRE_DHCP_RELEASE = 7,
	WH_WIRE_DHCP_INFORM = 8
};

#define WH_WIRE_DHCP_ADDRESSES_MAX 3u
#define WH_WIRE_DHCP_NAME_SIZE 64u
#define WH_WIRE_DHCP_SEARCH_SIZE 128u
#define WH_WIRE_DHCP_CLIENT_ID_SIZE 32u

/* Zero = option absent, in both directions. */
struct wh_wire_dhcp {
	uint8_t op;   /* 1 request, 2 reply */
	uint8_t type; /* enum wh_wire_dhcp_type; 0 = plain BOOTP */
	bool broadcast;
	uint32_t transaction;
	uint16_t seconds;
	uint8_t client_ip[4], your_ip[4], server_ip[4], relay_ip[4];
	uint8_t mac[6];
	uint8_t requested_ip[4], server_id[4];
	uint8_t netmask[4];
	uint32_t lease_s;
	uint16_t mtu;
	uint8_t router_count, dns_count, ntp_count;
	uint8_t router[WH_WIRE_DHCP_ADDRESSES_MAX][4];
	uint8_t dns[WH_WIRE_DHCP_ADDRESSES_MAX][4];
	uint8_t ntp[WH_WIRE_DHCP_ADDRESSES_MAX][4];
	char hostname[WH_WIRE_DHCP_NAME_SIZE]; /* NUL-terminated, as all names here */
	char domain[WH_WIRE_DHCP_NAME_SIZE];
	uint8_t search_size; /* option 119, RFC 1035 encoding */
	uint8_t search[WH_WIRE_DHCP_SEARCH_SIZE];
	uint8_t client_id_size;
	uint8_t client_id[WH_WIRE_DHCP_CLIENT_ID_SIZE];
};
int wh_wire_dhcp_parse(const uint8_t *p, size_t size, struct wh_wire_dhcp *ret);
size_t wh_wire_dhcp_emit(uint8_t *p, const struct wh_wire_dhcp *dhcp);

/* ---- DNS (RFC 1035, 6891) ---------------------------------------------------------------- */

#define WH_WIRE_DNS_HEADER_SIZE 12u
#define WH_WIRE_DNS_NAME_SIZE 256u /* text form with NUL; escapes are not used: see below */
#define WH_WIRE_DNS_A 1u
#define WH_WIRE_DNS_CNAME 5u
#define WH_WIRE_DNS_CNAME 5u
#define WH_WIRE_DNS_PTR 12u
#define WH_WIRE_DNS_MX 15u
#define WH_WIRE_DNS_TXT 16u
#define WH_WIRE_DNS_SRV 33u
#define WH_WIRE_DNS_TXT 16u
#define WH_WIRE_DNS_AAAA 28u
#define WH_WIRE_DNS_OPT 41u
#define WH_WIRE_DNS_IN 1u

#define WH_WIRE_DNS_NOERROR 0u
#define WH_WIRE_DNS_FORMERR 1u
#define WH_WIRE_DNS_SERVFAIL 2u
#define WH_WIRE_DNS_NXDOMAIN 3u
#define WH_WIRE_DNS_NOTIMP 4u
#define WH_WIRE_DNS_REFUSED 5u

struct wh_wire_dns {
	uint16_t id;
	bool response, authoritative, truncated, recursion_desired, recursion_available;
	uint8_t opcode, rcode;
	uint16_t questions, answers, authorities, additionals;
	/* First question; valid when questions > 0. */
	char name[WH_WIRE_DNS_NAME_SIZE]; /* "www.example.org", lower case; "" = root */
	uint16_t type, class_;
	uint16_t question_end; /* offset behind the first question */
	uint16_t udp_size;     /* from EDNS OPT, 0 = none */
};
/* Header and first question; -WH_EBADMSG also when questions != 1 in a query.
 * Labels with bytes other than printable, non-dot ASCII are refused. */
int wh_wire_dns_parse(const uint8_t *p, size_t size, struct wh_wire_dns *ret);
/* Header and, when questions is 1, the question. size_max: room at p; returns bytes
 * or -WH_ENOSPC, -WH_EINVAL (bad name). */
int wh_wire_dns_emit(uint8_t *p, size_t size_max, const struct wh_wire_dns *dns);
/* Appends a record whose owner is the question's name (a pointer to offset 12);
 * raises the answer count in the header at `message`. Returns the new size or -WH_ENOSPC. */
int wh_wire_dns_append(uint8_t *message, size_t size, size_t size_max, uint16_t type,
		       uint32_t ttl_s, const void *data, uint16_t data_size);
/* Encodes a text name; returns bytes, -WH_EINVAL or -WH_ENOSPC. */
int wh_wire_dns_name_emit(uint8_t *p, size_t size_max, const char *name);
/* Decodes (following compression) the name at `offset`; returns the offset behind it
 * in the message or -WH_EBADMSG. */
int wh_wire_dns_name_parse(const uint8_t *message, size_t size, size_t offset,
			   char ret_name[WH_WIRE_DNS_NAME_SIZE]);
/* Iterates resource records: *offset starts at question_end (one question) and
 * moves behind the record. Returns 1, 0 at the end, -WH_EBADMSG. */
struct wh_wire_dns_record {
	char name[WH_WIRE_DNS_NAME_SIZE];
	uint16_t type, class_;
	uint32_t ttl_s;
	uint16_t data_offset, data_size;
};
int wh_wire_dns_next(const uint8_t *message, size_t size, size_t *offset,
		     struct wh_wire_dns_record *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
