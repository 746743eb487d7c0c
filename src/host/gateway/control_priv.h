/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_CONTROL_PRIV_H
#define WHERRY_CONTROL_PRIV_H

/* Inside of the control: control.c has sockets and buffers, control_commands.c knows the commands. */

#include <wherry/gateway_control.h>

#include "gateway_priv.h"

#define CONTROL_WORDS_MAX 13u

struct control_client {
	struct wh_list node;
	struct wh_gateway_control *control;
	struct wh_loop_fd watch;
	int fd; /* that came with the request, -1 = none */
	bool at_end;
	bool ending; /* when the replies are out */
	/* A list that goes on when there is room: the next part, or NULL. */
	void (*more)(struct control_client *client);
	uint32_t position;
	struct wh_diag result; /* of the last request, when it failed */
	int error;
	uint32_t result_id;  /* of what the last request has made */
	bool watching, lost; /* events: it hears them; it did not read and missed some */
	struct wh_gateway_watcher watcher;
	uint32_t in_size, out_size, out_sent;
	char in[WH_CONTROL_LINE_SIZE];
	char out[WH_CONTROL_REPLY_SIZE];
};

struct wh_gateway_control {
	struct wh_gateway *gateway;
	struct wh_loop *loop;
	struct wh_list clients;
	uint32_t client_count;
	struct wh_loop_fd listener;
	struct wh_loop_timer resume;
	int pcap_fd; /* of a capture that a client began, -1 = none */
	uint64_t device, inode;
	char path[];
};

struct control_words {
	uint32_t count;
	const char *at[CONTROL_WORDS_MAX];
};

/* ---- control_commands.c ---- */

/* How a request went, which ends its reply. */
void control_done(struct control_client *client);
void control_failed(struct control_client *client, int error, const char *message);
void control_end(struct control_client *client, const char *key, const struct wh_net_end *end);
bool control_id_parse(const char *text, uint32_t *ret_id);

/* The request in client->in[0..size), without the line feed. There is room for a whole reply. */
void control_command(struct control_client *client, char *line, size_t size);

/* 64, 100K, 20M, 1G. */
bool control_number_parse(const char *text, uint64_t max, uint64_t *ret_number);
void control_events(struct control_client *client, const struct control_words *words);
/* wh_gateway_control_run, and the id of what was made. */
int control_run(struct wh_gateway_control *control, const char *request, uint32_t *ret_id,
		struct wh_diag *diag);

/* ---- control_settings.c ---- */

void control_dns(struct control_client *c, const struct control_words *w);
void control_policy(struct control_client *c, const struct control_words *w);
void control_limits(struct control_client *c, const struct control_words *w);
void control_leases(struct control_client *c, const struct control_words *w);
void control_forward(struct control_client *c, const struct control_words *w);
void control_unforward(struct control_client *c, const struct control_words *w);
void control_proxy(struct control_client *c, const struct control_words *w);
void control_forwards(struct control_client *c, const struct control_words *w);

/* ---- control.c ---- */

/* Appends to the replies. */
void control_print(struct control_client *client, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void control_string(struct control_client *client, const char *text); /* quoted for JSON */

#endif
