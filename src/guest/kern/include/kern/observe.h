/* SPDX-License-Identifier: ISC */
#ifndef KERN_OBSERVE_H
#define KERN_OBSERVE_H

/*
 * Telling the host about threads, memory and whatever registers (wherry/abi/observe.h). Lines of words: a kind, then
 * NAME=VALUE. Runs from kern_poll; must not wait.
 */

/* A subsystem that has something to tell; zero or more lines by kern_observe_put. Never removed. */
struct kern_observer {
	struct kern_observer *next;
	void (*tell)(void);
};
void kern_observer_add(struct kern_observer *o);

/* Appends to the text; what does not fit is cut. */
__attribute__((format(printf, 1, 2))) void kern_observe_put(const char *format, ...);

#endif
