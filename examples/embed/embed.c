/* SPDX-License-Identifier: ISC */
/* Ten guests in one process, which talks to each of them. The image is examples/embed/guest.c built with wherry cc.
 *	cc -o embed embed.c $(pkg-config --cflags --libs libwherry-vmm); ./embed IMAGE */
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wherry/dev_console.h>
#include <wherry/vmm.h>

#define GUESTS 10
#define ROUNDS 3

static struct wh_loop *loop;
static struct wh_vmm_image *image;
static int running;

struct guest {
	char name[16];
	int fd, input, output; /* our end; the guest's standard input and output */
	struct wh_vmm_machine *machine;
	struct wh_dev_console *console;
	struct wh_loop_fd watch;
	struct wh_vmm_exit how;
	int rounds;
} guests[GUESTS];

static void ask(struct guest *g)
{
	char line[32];
	int n = snprintf(line, sizeof line, "question %d\n", g->rounds++);
	if (write(g->fd, line, (size_t)n) != n)
		perror("write");
}

static void answered(struct wh_loop_fd *watch, uint32_t events)
{
	struct guest *g = watch->ctx;
	char text[256];
	ssize_t n = read(g->fd, text, sizeof text - 1);
	if (n > 0)
		printf("%.*s", (int)n, text);
	if (n > 0 && g->rounds < ROUNDS)
		ask(g);
	else if (n > 0)
		shutdown(g->fd, SHUT_WR); /* end of its input: the guest leaves */
}

static void ended(void *ctx, struct wh_vmm_machine *machine, const struct wh_vmm_exit *how)
{
	struct guest *g = ctx;
	g->how = *how;
	if (--running == 0)
		wh_loop_stop(loop, 0);
}

static int start(struct guest *g, struct wh_diag *diag)
{
	const char *const argv[] = { "guest", g->name, NULL }, *const env[] = { NULL };
	struct wh_vmm_config config = { .size = sizeof config,
					.engine = WH_VMM_ENGINE_PROC,
					.memory_size = 4 << 20 };
	int in[2];
	config.name = g->name;
	config.argv = argv;
	config.envp = env;
	config.exited = ended;
	config.ctx = g;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in))
		return wh_diag_set(diag, -1, "no socket pair");
	g->fd = in[0];
	g->input = g->output = in[1];
	struct wh_dev_console_config console = { .size = sizeof console };
	console.stdin_fd = console.stdout_fd = console.stderr_fd = in[1];
	g->watch = (struct wh_loop_fd){
		.fd = g->fd, .events = WH_LOOP_READ, .fn = answered, .ctx = g
	};
	int error = wh_vmm_machine_new(&config, image, loop, &g->machine, diag);
	if (error >= 0)
		error = wh_dev_console_new(&console, g->machine, loop, &g->console, diag);
	if (error >= 0)
		error = wh_loop_add(loop, &g->watch);
	return error < 0 ? error : wh_vmm_machine_start(g->machine, diag);
}

static void finish(struct guest *g)
{
	printf("%s ended with status %d\n", g->name, g->how.value);
	wh_loop_remove(loop, &g->watch);
	wh_vmm_machine_free(g->machine);
	wh_dev_console_free(g->console);
	close(g->input);
	close(g->fd);
}

int main(int argc, char **argv)
{
	struct wh_diag diag = { "" };
	signal(SIGPIPE, SIG_IGN);
	int error = argc == 2 ? wh_loop_new(&loop) : -1;
	if (error >= 0)
		error = wh_vmm_image_open(argv[1], &image, &diag);
	for (int i = 0; i < GUESTS && error >= 0; i++) {
		snprintf(guests[i].name, sizeof guests[i].name, "guest-%d", i);
		error = start(&guests[i], &diag);
		running++;
		ask(&guests[i]);
	}
	if (error >= 0)
		error = wh_loop_run(loop);
	if (error < 0)
		return fprintf(stderr, "embed: %s\n", diag.text), 1;
	for (int i = 0; i < GUESTS; i++)
		finish(&guests[i]);
	wh_vmm_image_close(image);
	wh_loop_free(loop);
	return 0;
}
