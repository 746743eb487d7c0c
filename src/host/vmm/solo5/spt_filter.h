/* SPDX-License-Identifier: ISC */
#ifndef VMM_SOLO5_SPT_FILTER_H
#define VMM_SOLO5_SPT_FILTER_H

/*
 * The filters of an spt guest's process.
 */

#include <linux/filter.h>
#include <stdint.h>

#include <wherry/solo5.h>

#define SPT_FILTER_MAX 1024u /* instructions: 63 disks take 950 */

struct spt_filter {
	int console_fd, epoll_fd, timer_fd;
	int net_first_fd;   /* network devices have numbers side by side */
	uint32_t net_count; /* 0 = none */
	uint32_t disk_count;
	struct spt_filter_disk {
		int fd;
		uint16_t block_size;
		uint64_t capacity; /* bytes, at least one block */
	} disk[WH_VMM_SOLO5_DEVICES_MAX];
};

/* The calls that the guest may make. Returns the length. */
uint32_t spt_filter_write(struct sock_filter *to, const struct spt_filter *what);
/* Has the monitor asked about reads and writes of disks whose number is at least `first`. */
uint32_t spt_asking_filter_write(struct sock_filter *to, uint32_t first);

#endif
