/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_BASE_LIST_H
#define WHERRY_BASE_LIST_H

/* Intrusive doubly linked ring list. A node that is in no list points to itself. */

#include <stdbool.h>
#include <wherry/base/mem.h>

#ifdef __cplusplus
extern "C" {
#endif

struct wh_list {
	struct wh_list *next, *prev;
};

static inline void wh_list_init(struct wh_list *l)
{
	l->next = l->prev = l;
}

static inline bool wh_list_empty(const struct wh_list *l)
{
	return l->next == l;
}

static inline void wh_list_insert_after(struct wh_list *at, struct wh_list *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

static inline void wh_list_push_front(struct wh_list *head, struct wh_list *node)
{
	wh_list_insert_after(head, node);
}

static inline void wh_list_push_back(struct wh_list *head, struct wh_list *node)
{
	wh_list_insert_after(head->prev, node);
}

/* Harmless for a node that is in no list. */
static inline void wh_list_remove(struct wh_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	wh_list_init(node);
}

/* NULL when empty. */
static inline struct wh_list *wh_list_pop_front(struct wh_list *head)
{
	struct wh_list *node = head->next;
	if (node == head)
		return 0;
	wh_list_remove(node);
	return node;
}

#define WH_LIST_ENTRY(node, type, member) WH_CONTAINER_OF(node, type, member)

#define WH_LIST_FOR_EACH(it, head) \
	for (struct wh_list *it = (head)->next; it != (head); it = it->next)

/* The current node may be removed inside. */
#define WH_LIST_FOR_EACH_SAFE(it, head)                                              \
	for (struct wh_list *it = (head)->next, *it##_next = it->next; it != (head); \
	     it = it##_next, it##_next = it->next)

#ifdef __cplusplus
}
#endif
#endif
