/* SPDX-License-Identifier: ISC */
/*
 * The verbs that talk to running machines, by docs/spec/machine-api.md.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <wherry/base/mem.h>

#include "machine_client.h"
#include "machine_folder.h"

#define REPLY_MAX 131072u /* inspect: threads and descriptors */
#define STOP_MS 15000     /* `wherry run` itself kills after 10 s */

enum { OPT_JSON = 1 };

static const struct cli_option ps_options[] = { { OPT_JSON, "json", 0, NULL,
						  "one JSON object a line" } };

static int cmd_ps(int argc, char **argv);
static int cmd_stop(int argc, char **argv);
static int cmd_kill(int argc, char **argv);
static int cmd_pause(int argc, char **argv);
static int cmd_resume(int argc, char **argv);
static int cmd_snapshot(int argc, char **argv);
static int cmd_stats(int argc, char **argv);
static int cmd_inspect(int argc, char **argv);
static int cmd_events(int argc, char **argv);

const struct cli_command cli_command_ps = { .name = "ps",
					    .synopsis = "[--json]",
					    .summary = "list named machines",
					    .options = ps_options,
					    .option_count = WH_ARRAY_COUNT(ps_options),
					    .run = cmd_ps };
#define SIMPLE(verb, what, text, more)                                    \
	const struct cli_command cli_command_##verb = { .name = #verb,    \
							.synopsis = what, \
							.summary = text,  \
							.details = more,  \
							.run = cmd_##verb }
SIMPLE(stop, "NAME", "ask a machine to end",
       "The guest gets SIGTERM; one that has not ended after 10 seconds is killed. Comes back\n"
       "when the machine is gone.");
SIMPLE(kill, "NAME", "end a machine at once", "Comes back when the machine is gone.");
SIMPLE(pause, "NAME", "let a machine stand still", "Its clocks go on.");
SIMPLE(resume, "NAME", "let a machine go on", NULL);
SIMPLE(snapshot, "NAME FILE", "write a machine to a file, from which copies go on",
       "FILE must not exist. The machine goes on. See wherry run --from.");
SIMPLE(inspect, "NAME", "show threads, descriptors, sockets and memory of a machine",
       "Asks the guest's kernel, one line a thing.");
SIMPLE(stats, "NAME", "figures of a machine, as OpenMetrics", NULL);
SIMPLE(events, "NAME", "follow what happens to a machine, as JSON lines", "Ends with the machine.");

/* ---- requests ---- */

/* The text of a member of a flat JSON object. */
static const char *member(const char *json, const char *name, char *to, size_t size)
{
	char key[64];
	snprintf(key, sizeof key, "\"%s\":", name);
	const char *p = strstr(json, key);
	size_t n = 0;
	if (p) {
		p += strlen(key);
		bool quoted = *p == '"';
		p += quoted;
		n = quoted ? strcspn(p, "\"") : strcspn(p, ",}");
	}
	snprintf(to, size, "%.*s", (int)n, p ? p : "");
	return to;
}

/* One request, with a descriptor unless `passed` is -1; prints the body when `show`. An exit status. */
static int request_with(const char *name, const char *method, const char *path, const char *body,
			int passed, bool show)
{
	char text[REPLY_MAX], message[512];
	const char *reply = "";
	int fd = machine_connect(name);
	if (fd < 0)
		return machine_missing(name, fd);
	int status = machine_ask(fd, method, path, body, passed);
	if (!status)
		status = machine_answer(fd, text, sizeof text, &reply);
	close(fd);
	if (status < 0)
		return machine_missing(name, status);
	if (status != 200) {
		cli_error("%s: %s", name, member(reply, "error", message, sizeof message));
		return CLI_ERROR;
	}
	if (show)
		cli_write(STDOUT_FILENO, reply, strlen(reply));
	return CLI_OK;
}

static int request(const char *name, const char *method, const char *path, const char *body,
		   bool show)
{
	return request_with(name, method, path, body, -1, show);
}

/* ---- verbs ---- */

static int simple(const struct cli_command *command, int argc, char **argv, const char *method,
		  const char *path, bool show)
{
	const char *name;
	int status = machine_operands(command, argc, argv, &name, 1, NULL);
	return status >= 0 ? status : request(name, method, path, "", show);
}

static void show_row(const char *json)
{
	char name[80], state[16], engine[16], pid[16], image[72], memory[32], touched[32],
		started[32];
	unsigned long long size =
		strtoull(member(json, "memory_bytes", memory, sizeof memory), NULL, 10);
	unsigned long long used =
		strtoull(member(json, "memory_touched_bytes", touched, sizeof touched), NULL, 10);
	long long since =
		time(NULL) - strtoll(member(json, "started_s", started, sizeof started), NULL, 10);
	printf("%-20s %-8s %-6s %8s %7lluM %8lluK %8llds %s\n",
	       member(json, "name", name, sizeof name), member(json, "state", state, sizeof state),
	       member(json, "engine", engine, sizeof engine), member(json, "pid", pid, sizeof pid),
	       size >> 20, used >> 10, since < 0 ? 0 : since,
	       member(json, "image", image, sizeof image));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_socket(const struct dirent *e)
{
	size_t n = strlen(e->d_name);
	return n > 5 && wh_streq(e->d_name + n - 5, ".sock");
}

static int cmd_ps(int argc, char **argv)
{
	char folder[PATH_MAX], text[REPLY_MAX];
	struct dirent **entry = NULL;
	bool json = false;
	int status = machine_operands(&cli_command_ps, argc, argv, NULL, 0, &json);
	if (status >= 0)
		return status;
	if (machine_folder(folder, sizeof folder, false))
		return CLI_ERROR;
	int count = scandir(folder, &entry, is_socket, by_name);
	if (!json)
		printf("%-20s %-8s %-6s %8s %8s %9s %9s %s\n", "NAME", "STATE", "ENGINE", "PID",
		       "MEMORY", "TOUCHED", "SINCE", "IMAGE");
	for (int i = 0; i < count; i++) {
		const char *body;
		entry[i]->d_name[strlen(entry[i]->d_name) - 5] = 0;
		int fd = machine_connect(entry[i]->d_name);
		if (fd >= 0 && !machine_ask(fd, "GET", "/v1/machine", "", -1) &&
		    machine_answer(fd, text, sizeof text, &body) == 200) {
			if (json)
				fputs(body, stdout);
			else
				show_row(body);
		} /* else it has ended meanwhile, or was killed and left its socket */
		if (fd >= 0)
			close(fd);
		free(entry[i]);
	}
	free(entry);
	return fflush(stdout) ? CLI_ERROR : CLI_OK;
}

/* Listens to the machine's events before it is asked, so that its end is not missed. */
static int end_machine(const struct cli_command *command, int argc, char **argv, const char *path)
{
	char text[1024];
	const char *name;
	int status = machine_operands(command, argc, argv, &name, 1, NULL);
	if (status >= 0)
		return status;
	int events = machine_connect(name);
	if (events < 0)
		return machine_missing(name, events);
	struct pollfd p = { .fd = events, .events = POLLIN };
	/* The head of the answer says that it is listened to. */
	if (machine_ask(events, "GET", "/v1/events", "", -1) ||
	    poll(&p, 1, MACHINE_ANSWER_MS) <= 0 || read(events, text, sizeof text) <= 0) {
		close(events);
		return machine_missing(name, -EPIPE);
	}
	status = request(name, "PUT", path, "", false);
	while (status == CLI_OK && poll(&p, 1, STOP_MS) > 0 && read(events, text, sizeof text) > 0)
		p.revents = 0;
	if (status == CLI_OK && !(p.revents & (POLLIN | POLLHUP))) {
		cli_error("%s: it has not ended (see: wherry kill)", name);
		status = CLI_ERROR;
	}
	close(events);
	return status;
}

static int cmd_stop(int argc, char **argv)
{
	return end_machine(&cli_command_stop, argc, argv, "/v1/machine/stop");
}

static int cmd_kill(int argc, char **argv)
{
	return end_machine(&cli_command_kill, argc, argv, "/v1/machine/kill");
}

static int cmd_pause(int argc, char **argv)
{
	return simple(&cli_command_pause, argc, argv, "PUT", "/v1/machine/pause", false);
}

static int cmd_resume(int argc, char **argv)
{
	return simple(&cli_command_resume, argc, argv, "PUT", "/v1/machine/resume", false);
}

static int cmd_inspect(int argc, char **argv)
{
	return simple(&cli_command_inspect, argc, argv, "GET", "/v1/machine/inspect", true);
}

static int cmd_stats(int argc, char **argv)
{
	return simple(&cli_command_stats, argc, argv, "GET", "/v1/metrics", true);
}

static int cmd_snapshot(int argc, char **argv)
{
	char path[PATH_MAX], escaped[2 * PATH_MAX], body[2 * PATH_MAX + 32], here[PATH_MAX];
	const char *names[2];
	int status = machine_operands(&cli_command_snapshot, argc, argv, names, 2, NULL);
	if (status >= 0)
		return status;
	bool absolute = names[1][0] == '/';
	if (!absolute && !getcwd(here, sizeof here)) {
		cli_error("the working directory has no name: give the whole path");
		return CLI_ERROR;
	}
	if (snprintf(path, sizeof path, "%s%s%s", absolute ? "" : here, absolute ? "" : "/",
		     names[1]) >= (int)sizeof path) {
		cli_error("%s: the path is too long", names[1]);
		return CLI_ERROR;
	}
	char *to = escaped;
	for (const char *from = path; *from; from++) {
		if (*from == '"' || *from == '\\')
			*to++ = '\\';
		*to++ = *from;
	}
	*to = 0;
	snprintf(body, sizeof body, "{\"file\":\"%s\"}", escaped);
	int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0) {
		if (errno == EEXIST)
			cli_error("%s exists already", path);
		else
			cli_error("%s cannot be made: %s", path, strerror(errno));
		return CLI_ERROR;
	}
	status = request_with(names[0], "PUT", "/v1/machine/snapshot", body, file, false);
	if (status)
		(void)unlink(path);
	close(file);
	return status;
}

static int cmd_events(int argc, char **argv)
{
	char text[4096];
	const char *name;
	int status = machine_operands(&cli_command_events, argc, argv, &name, 1, NULL);
	if (status >= 0)
		return status;
	int fd = machine_connect(name);
	if (fd < 0)
		return machine_missing(name, fd);
	if (machine_ask(fd, "GET", "/v1/events", "", -1)) {
		close(fd);
		return machine_missing(name, -EPIPE);
	}
	bool head = true; /* comes in one piece, and first */
	for (ssize_t n; (n = read(fd, text, sizeof text - 1)) > 0;) {
		text[n] = 0;
		const char *from = head ? strstr(text, "\r\n\r\n") : text;
		if (!from) {
			cli_error("%s: this is not the API of a machine", name);
			close(fd);
			return CLI_ERROR;
		}
		from += head ? 4 : 0;
		head = false;
		cli_write(STDOUT_FILENO, from, strlen(from));
	}
	close(fd);
	return CLI_OK;
}
