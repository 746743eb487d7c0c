/* SPDX-License-Identifier: ISC */
/*
 * wherry net expose | unexpose | rules | flows | stats and others, which ask a gateway that runs. The protocol is docs/spec/gateway-control.md; with --json its lines are printed as they come.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <wherry/os.h>

#include "net_control.h"

#define ANSWER_TIMEOUT_S 10
#define LINE_SIZE 8192 /* longest line of a reply */
#define FIELD_SIZE 512

/* ---- replies: objects of one level ---- */

/* The string or word at *at as text; *at moves behind it. false: the line is broken. */
static bool value_read(const char **at, char to[FIELD_SIZE])
{
	const char *p = *at;
	size_t n = 0;
	bool quoted = *p == '"';
	for (p += quoted; *p && (quoted ? *p != '"' : *p != ',' && *p != '}'); p++) {
		if (quoted && *p == '\\' && p[1])
			p++;
		if (n < FIELD_SIZE - 1)
			to[n++] = *p;
	}
	to[n] = 0;
	if (quoted && *p != '"')
		return false;
	*at = p + quoted;
	return true;
}

/* The member at *at, which is behind '{' or ','. false: there is none, or the line is broken. */
static bool member_read(const char **at, char key[FIELD_SIZE], char value[FIELD_SIZE])
{
	if ((**at != '{' && **at != ',') || (*at)[1] != '"')
		return false;
	++*at;
	if (!value_read(at, key) || **at != ':')
		return false;
	++*at;
	return value_read(at, value);
}

/* The value of a member, "" when there is none. */
static const char *field(const char *line, const char *name, char to[FIELD_SIZE])
{
	char key[FIELD_SIZE];
	const char *at = line;
	while (member_read(&at, key, to))
		if (!strcmp(key, name))
			return to;
	to[0] = 0;
	return to;
}

/* ---- as text ---- */

#define FIELD(line, name) field((line), (name), (char[FIELD_SIZE]){ 0 })

static void published_show(const char *line)
{
	const char *path = FIELD(line, "path"), *machine = FIELD(line, "machine");
	printf("%-4s %s  %-28s -> %s%s%-5s  %s waiting%s\n", FIELD(line, "id"),
	       FIELD(line, "protocol"), *path ? path : FIELD(line, "host"), machine,
	       *machine ? ":" : "", FIELD(line, "guest_port"), FIELD(line, "waiting"),
	       strcmp(FIELD(line, "activated"), "true") ? "" : ", was used");
}

static void flow_show(const char *line)
{
	bool in = !strcmp(FIELD(line, "direction"), "in");
	const char *state = FIELD(line, "state");
	printf("%-6s %s  %-24s %s %-24s %-12s out %s in %s bytes, rtt %s us, %s ms old\n",
	       FIELD(line, "id"), FIELD(line, "protocol"), FIELD(line, "guest"), in ? "<-" : "->",
	       FIELD(line, "peer"), *state ? state : "-", FIELD(line, "bytes_out"),
	       FIELD(line, "bytes_in"), FIELD(line, "rtt_us"), FIELD(line, "age_ms"));
}

static void stats_show(const char *line)
{
	char key[FIELD_SIZE], value[FIELD_SIZE];
	while (member_read(&line, key, value))
		printf("%-28s %s\n", key, value);
}

/* OpenMetrics: counters but for these. */
static void metrics_show(const char *line)
{
	static const char *const gauges[] = { "capturing",
					      "tcp_flows",
					      "tcp_pending",
					      "udp_flows",
					      "echo_flows",
					      "rules",
					      "descriptors",
					      "stack_tcp_sockets",
					      "stack_tcp_time_wait",
					      "stack_tcp_half_open",
					      "stack_tcp_buffer_bytes" };
	char key[FIELD_SIZE], value[FIELD_SIZE];
	while (member_read(&line, key, value)) {
		bool gauge = false;
		for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
			gauge |= !strcmp(key, gauges[i]);
		if (!strcmp(value, "true") || !strcmp(value, "false"))
			strcpy(value, *value == 't' ? "1" : "0");
		printf("# TYPE wherry_net_%s %s\nwherry_net_%s%s %s\n", key,
		       gauge ? "gauge" : "counter", key, gauge ? "" : "_total", value);
	}
	printf("# EOF\n");
}

static void event_show(const char *line)
{
	fputs(line, stdout); /* they are lines of JSON in any case */
	fflush(stdout);
}

static void dns_show(const char *line)
{
	const char *resolver = FIELD(line, "resolver");
	if (*resolver)
		printf("server %s%s%s\n", resolver, *FIELD(line, "domain") ? " for " : "",
		       FIELD(line, "domain"));
	else if (*FIELD(line, "type"))
		printf("%-6s %s %s %s\n", FIELD(line, "id"), FIELD(line, "name"),
		       FIELD(line, "type"), FIELD(line, "data"));
	else if (*FIELD(line, "name"))
		printf("name   %s %s\n", FIELD(line, "name"), FIELD(line, "address"));
	else
		printf("%s\n", FIELD(line, "id"));
}

static void policy_show(const char *line)
{
	if (*FIELD(line, "rule"))
		printf("%-4s %-5s %-44s %s hits\n", FIELD(line, "id"), FIELD(line, "action"),
		       FIELD(line, "rule"), FIELD(line, "hits"));
	else
		printf("%s\n", FIELD(line, "id"));
}

static void forward_show(const char *line)
{
	const char *path = FIELD(line, "path");
	if (*FIELD(line, "meant"))
		printf("%-4s %s  %-28s -> %s%s  %s used\n", FIELD(line, "id"),
		       FIELD(line, "protocol"), FIELD(line, "meant"), *path ? "unix:" : "",
		       *path ? path : FIELD(line, "to"), FIELD(line, "hits"));
	else
		printf("%s\n", FIELD(line, "id"));
}

static void lease_show(const char *line)
{
	printf("%s  %-15s %-28s %s, %s s left\n", FIELD(line, "mac"), FIELD(line, "ip4"),
	       FIELD(line, "ip6"), FIELD(line, "state"), FIELD(line, "left_s"));
}

static const struct verb {
	const char *name;
	unsigned min, max; /* operands */
	void (*show)(const char *line);
	const char *usage;
	const char *request; /* NULL = the name */
} verbs[] = {
	{ "events", 0, 0, event_show, "", NULL },
	{ "metrics", 0, 0, metrics_show, "", "stats" },
	{ "expose", 1, 1, published_show, "[ADDR:]HOST:GUEST[/udp]" },
	{ "unexpose", 1, 1, NULL, "ID" },
	{ "rules", 0, 0, published_show, "" },
	{ "flows", 0, 0, flow_show, "" },
	{ "stats", 0, 0, stats_show, "" },
	{ "pcap", 1, 6, NULL,
	  "start FILE [snap N] [guest MAC] | stop | ring SIZE [snap N] [guest MAC] | dump FILE" },
	{ "dns", 0, 8, dns_show,
	  "[add NAME ADDRESS | remove NAME | record NAME TYPE DATA | unrecord ID | forward DOMAIN "
	  "SERVER... | unforward DOMAIN | "
	  "servers SERVER...|host | filter aaaa|a|none]" },
	{ "proxy", 0, 2, stats_show, "[all|http|https URL | none | except LIST]" },
	{ "forward", 1, 1, forward_show, "[ADDR:]PORT=HOST:PORT[/udp] | [ADDR:]PORT=unix:PATH" },
	{ "unforward", 1, 1, NULL, "ID" },
	{ "forwards", 0, 0, forward_show, "" },
	{ "limits", 0, 12, stats_show,
	  "[guest MAC] [out BYTES] [in BYTES] [connects N] [flows N] [clients N] | guest MAC none "
	  "| "
	  "rule ID [flows N] [clients N]" },
	{ "leases", 0, 3, lease_show, "[fix MAC ADDRESS | remove MAC]" },
	{ "policy", 0, 3, policy_show,
	  "[allow RULE [BEFORE-ID] | deny RULE [BEFORE-ID] | remove ID]" },
};

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

bool net_control_verb(const char *verb)
{
	return verb_find(verb) != NULL;
}

/* ---- the request ---- */

/* pcap start FILE, pcap dump FILE */
static bool takes_file(const struct net_control_request *r)
{
	return !strcmp(r->verb, "pcap") && r->operand_count &&
	       (!strcmp(r->operands[0], "start") || !strcmp(r->operands[0], "dump"));
}

static int request_text(const struct net_control_request *r, const struct verb *verb, char *to,
			size_t size)
{
	size_t n = (size_t)snprintf(to, size, "%s", verb->request ? verb->request : r->verb);
	unsigned count = r->operand_count;
	bool pcap = !strcmp(r->verb, "pcap");
	if (count < verb->min || count > verb->max || (pcap && takes_file(r) && count < 2)) {
		cli_error("net %s takes: %s", r->verb, *verb->usage ? verb->usage : "nothing");
		return CLI_ERROR;
	}
	for (unsigned i = 0; i < count; i++) {
		const char *word = r->operands[i];
		if (i == 1 && takes_file(r))
			continue; /* we open it */
		if (!*word || strpbrk(word, " \n") || n + strlen(word) + 2 >= size) {
			cli_error("net %s: %s cannot be sent", r->verb, *word ? word : "''");
			return CLI_ERROR;
		}
		n += (size_t)snprintf(to + n, size - n, " %s", word);
	}
	memcpy(to + n, "\n", 2);
	return CLI_OK;
}

static int request_send(int fd, const char *text, int file)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (file >= 0) {
		h.msg_control = control.space;
		h.msg_controllen = sizeof control.space;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof file);
		memcpy(CMSG_DATA(c), &file, sizeof file);
	}
	/* One line fits into a socket's buffer: it goes whole. */
	return sendmsg(fd, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int control_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = ANSWER_TIMEOUT_S };
	if (strlen(path) >= sizeof address.sun_path) {
		cli_error("--control %s: too long for a socket's name", path);
		return -1;
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof address) &&
	    !setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) &&
	    !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit))
		return fd;
	cli_error("--control %s: %s", path,
		  errno == ECONNREFUSED ? "its gateway has ended" : strerror(errno));
	wh_os_close(&fd);
	return -1;
}

/* Shows lines until the one that says how it went. */
static int reply_show(const struct net_control_request *r, const struct verb *verb, int fd)
{
	char line[LINE_SIZE];
	bool events = !strcmp(r->verb, "events"), going = false;
	FILE *in = fdopen(fd, "r");
	while (in && fgets(line, sizeof line, in) && strchr(line, '\n')) {
		bool ok = !strncmp(line, "{\"ok\":true", 10);
		if (ok && !events)
			return CLI_OK;
		if (ok) { /* they come from now on, when they like */
			const struct timeval forever = { 0 };
			(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
			going = true;
			continue;
		}
		if (!strncmp(line, "{\"ok\"", 5)) {
			cli_error("net %s: %s", r->verb, FIELD(line, "message"));
			return CLI_ERROR;
		}
		if (r->json)
			fputs(line, stdout);
		else if (verb->show)
			verb->show(line);
	}
	if (going)
		return CLI_OK; /* the gateway has ended */
	cli_error("net %s: the gateway did not answer", r->verb);
	return CLI_ERROR;
}

int net_control_ask(const struct net_control_request *r)
{
	const struct verb *verb = verb_find(r->verb);
	const char *path = r->path ? r->path : getenv("WHERRY_CONTROL");
	char text[WH_CONTROL_LINE_SIZE];
	int file = -1;
	int status = request_text(r, verb, text, sizeof text);
	if (status)
		return status;
	if (!path || !*path) {
		cli_error("net %s: --control PATH or WHERRY_CONTROL must say where the gateway "
			  "listens",
			  r->verb);
		return CLI_ERROR;
	}
	int fd = control_connect(path);
	if (fd < 0)
		return CLI_ERROR;
	if (takes_file(r)) {
		file = open(r->operands[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (file < 0) {
			cli_error("%s: %s", r->operands[1], strerror(errno));
			return CLI_ERROR;
		}
	}
	int error = request_send(fd, text, file);
	if (error) {
		cli_error("--control %s: %s", path, strerror(-error));
		return CLI_ERROR;
	}
	status = reply_show(r, verb, fd);
	if (fflush(stdout) && !status)
		status = CLI_ERROR;
	return status;
}
