/* SPDX-License-Identifier: ISC */
/* The control and what is said through it; --proxy and --no-proxy: the usual variables of the environment, and names of
 * proxies; --settings; --activate. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include <wherry/base/mem.h>

#include "gateway_options.h"
#include "settings_store.h"

#define URL_SIZE 480 /* a request of the control has room for it */

/* The address of the host in text[0..size), in brackets when it is IPv6. */
static int host_resolve(const char *text, size_t size, char *to, size_t to_size)
{
	char name[256];
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	uint8_t ip[16];
	if (size >= sizeof name)
		return CLI_BAD;
	memcpy(name, text, size);
	name[size] = 0;
	if (name[0] == '[' || inet_pton(AF_INET, name, ip) == 1) {
		snprintf(to, to_size, "%s", name);
		return 0;
	}
	int error = getaddrinfo(name, NULL, &hints, &list);
	if (error) {
		cli_error("the proxy %s: %s", name, gai_strerror(error));
		return CLI_BAD;
	}
	bool ip6 = list->ai_family == AF_INET6;
	const void *address =
		ip6 ? (const void *)&((const struct sockaddr_in6 *)list->ai_addr)->sin6_addr
		    : (const void *)&((const struct sockaddr_in *)list->ai_addr)->sin_addr;
	char shown[INET6_ADDRSTRLEN];
	snprintf(to, to_size, ip6 ? "[%s]" : "%s",
		 inet_ntop(list->ai_family, address, shown, sizeof shown));
	freeaddrinfo(list);
	return 0;
}

/* kind = all, http or https. */
static int url_take(struct net_control_options *o, const char *kind, const char *url)
{
	char address[256], whole[URL_SIZE], command[16];
	const char *host = url;
	if (!strncasecmp(url, "http://", 7))
		host += 7;
	size_t size = strcspn(host, "/");
	const char *sign = memrchr(host, '@', size);
	if (sign) {
		size -= (size_t)(sign + 1 - host);
		host = sign + 1;
	}
	size_t name = size;
	if (host[0] == '[')
		name = strcspn(host, "]") + 1;
	else if (memchr(host, ':', size))
		name = strcspn(host, ":");
	/* https:// and what else is wrong is explained by the gateway. */
	if (strncasecmp(url, "https://", 8) && name <= size) {
		if (host_resolve(host, name, address, sizeof address))
			return CLI_BAD;
		int n = snprintf(whole, sizeof whole, "%.*s%s%.*s", (int)(host - url), url, address,
				 (int)(size - name), host + name);
		if (n < 0 || (size_t)n >= sizeof whole) {
			cli_error("the proxy's URL is too long");
			return CLI_BAD;
		}
		url = whole;
	}
	snprintf(command, sizeof command, "proxy %s", kind);
	return net_command_take(o, command, url, 0);
}

static int proxy_except(struct net_control_options *o, const char *list)
{
	char copy[URL_SIZE];
	size_t size = strlen(list);
	if (size >= sizeof copy) {
		cli_error("--no-proxy is longer than %d", URL_SIZE - 1);
		return CLI_BAD;
	}
	for (size_t i = 0; i <= size; i++)
		copy[i] = list[i] == ' ' ? ',' : list[i];
	return *copy ? net_command_take(o, "proxy except", copy, 0) : 0;
}

static const char *variable(const char *lower, const char *upper)
{
	const char *value = getenv(lower);
	if ((!value || !*value) && upper)
		value = getenv(upper);
	return value && *value ? value : NULL;
}

static int proxy_take(struct net_control_options *o, const char *url)
{
	if (strcmp(url, "env"))
		return url_take(o, "all", url);
	const char *all = variable("all_proxy", "ALL_PROXY");
	/* HTTP_PROXY may be a request's header in the environment of a CGI program. */
	const char *http = variable("http_proxy", NULL);
	const char *https = variable("https_proxy", "HTTPS_PROXY");
	const char *except = variable("no_proxy", "NO_PROXY");
	int bad = 0;
	if (http || all)
		bad = url_take(o, "http", http ? http : all);
	if (!bad && (https || all))
		bad = url_take(o, "https", https ? https : all);
	if (!bad && except)
		bad = proxy_except(o, except);
	return bad;
}

/* The command of --activate, which ends by itself: a child of our child, so that nobody waits for it. */
static void activated(void *ctx, uint32_t rule)
{
	const struct gateway_options *o = ctx;
	char text[16];
	pid_t pid = fork();
	if (pid < 0)
		cli_error("--activate: %s", strerror(errno));
	if (pid > 0)
		(void)waitpid(pid, NULL, 0); /* it ends at once */
	if (pid)
		return;
	if (fork())
		_exit(0);
	wh_format(text, sizeof text, "%u", rule);
	(void)setenv("WHERRY_RULE", text, 1); /* the command may do without */
	(void)setsid();
	execl("/bin/sh", "sh", "-c", o->activate, (char *)NULL);
	_exit(CLI_NOT_FOUND);
}

/* Options that are commands of the control. */
static const struct {
	int id;
	const char *command;
	char separator;
} command_options[] = {
	{ GATEWAY_NAME, "dns add", '=' },
	{ GATEWAY_LIMIT, "limits", 0 },
	{ GATEWAY_FORWARD, "forward", 0 },
	{ GATEWAY_SET, NULL, 0 },
};

int gateway_extra_start(const struct gateway_options *o, struct wh_gateway *gateway,
			struct wh_loop *loop)
{
	return net_control_start(&o->control, gateway, loop);
}

void gateway_extra_end(void)
{
	net_control_end();
}

int gateway_extra_take(struct gateway_options *o, int id, const char *value)
{
	for (unsigned i = 0; i < WH_ARRAY_COUNT(command_options); i++)
		if (command_options[i].id == id)
			return net_command_take(&o->control, command_options[i].command, value,
						command_options[i].separator);
	if (id == GATEWAY_CONTROL) {
		o->control.path = value;
		return 0;
	}
	if (id == GATEWAY_PROXY)
		return proxy_take(&o->control, value);
	if (id == GATEWAY_NO_PROXY)
		return proxy_except(&o->control, value);
	if (id == GATEWAY_ACTIVATE) {
		o->activate = value;
		o->activated = activated;
		return 0;
	}
	if (settings_in_store(value) && !(value = settings_export(value)))
		return CLI_ERROR;
	o->control.settings = value;
	o->control.settings_new = wh_gateway_settings_new;
	o->control.settings_free = wh_gateway_settings_free;
	return 0;
}
