/* SPDX-License-Identifier: ISC */
#ifndef CPU_PAGING_H
#define CPU_PAGING_H

/*
 * Page tables of a virtual machine, built once at start: addresses stay what they
 * are (virtual = physical), only what is named is mapped, and never both writable
 * and executable. Pure memory work: it runs in a hosted test as well.
 */

#include <stdbool.h>
#include <stdint.h>

#define CPU_PAGE 4096ull

enum cpu_paging_access { CPU_PAGING_RX, CPU_PAGING_R, CPU_PAGING_RW, CPU_PAGING_IO };

/* Bits of a last-level entry for each access. Visible so that a test can find and change it. */
extern const uint64_t cpu_paging_rights[4];

struct cpu_paging {
	uint64_t *root;
	uint64_t next, end; /* memory for tables: pages left */
	bool clear;         /* it is not known to be zero */
	bool failed;        /* it was not enough, or a range was bad: the tables must not be used */
};

/* Tables come from [memory, memory+size), page-aligned, mapped one to one. */
void cpu_paging_init(struct cpu_paging *p, uint64_t memory, uint64_t size, bool clear);

/* Maps [start, end) to itself, page-aligned; the last call for a page counts. `small`: pages of
 * 4 KiB only, so that a later call may change some of them; over 2 MiB pages a later call fails. */
void cpu_paging_map(struct cpu_paging *p, uint64_t start, uint64_t end,
		    enum cpu_paging_access access, bool small);

#endif
