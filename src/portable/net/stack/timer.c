/* SPDX-License-Identifier: ISC */
/*
 * Pairing heap: insert and find-least are constant, removal is logarithmic
 * amortised, and it needs no memory but the nodes, so that a connection with five
 * timers and a stack with 65536 connections cost nothing that is not used.
 * `previous` is the left sibling, or the parent of the first child.
 */
#include "net_priv.h"

static struct net_timer *meld(struct net_timer *a, struct net_timer *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (b->deadline < a->deadline) {
		struct net_timer *swap = a;
		a = b;
		b = swap;
	}
	b->next = a->child;
	b->previous = a;
	if (a->child)
		a->child->previous = b;
	a->child = b;
	a->next = 0;
	return a;
}

/* Melds a list of siblings: in pairs from the left, then from the right. */
static struct net_timer *meld_siblings(struct net_timer *first)
{
	struct net_timer *pairs = 0;
	while (first) {
		struct net_timer *a = first, *b = a->next;
		first = b ? b->next : 0;
		a->next = 0;
		if (b)
			b->next = 0;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	struct net_timer *root = 0;
	while (pairs) {
		struct net_timer *rest = pairs->next;
		pairs->next = 0;
		root = meld(root, pairs);
		pairs = rest;
	}
	if (root)
		root->previous = 0;
	return root;
}

static void take_out(struct wh_net *net, struct net_timer *t)
{
	struct net_timer *rest = meld_siblings(t->child);
	t->child = 0;
	if (net->timers == t) {
		net->timers = rest;
	} else {
		wh_assert(t->previous);
		if (t->previous->child == t)
			t->previous->child = t->next;
		else
			t->previous->next = t->next;
		if (t->next)
			t->next->previous = t->previous;
		net->timers = meld(net->timers, rest);
		net->timers->previous = 0;
	}
	t->next = t->previous = 0;
	t->deadline = WH_NET_NEVER;
}

void net_timer_init(struct net_timer *t, void (*fn)(struct wh_net *, struct net_timer *))
{
	memset(t, 0, sizeof *t);
	t->deadline = WH_NET_NEVER;
	t->fn = fn;
}

void net_timer_stop(struct wh_net *net, struct net_timer *t)
{
	if (t->deadline != WH_NET_NEVER)
		take_out(net, t);
}

void net_timer_start(struct wh_net *net, struct net_timer *t, uint64_t deadline)
{
	wh_assert(t->fn);
	net_timer_stop(net, t);
	if (deadline == WH_NET_NEVER)
		return;
	t->deadline = deadline;
	net->timers = meld(net->timers, t);
	net->timers->previous = 0;
}

struct net_timer *net_timer_due(struct wh_net *net, uint64_t now)
{
	struct net_timer *t = net->timers;
	if (!t || t->deadline > now)
		return 0;
	take_out(net, t);
	return t;
}
