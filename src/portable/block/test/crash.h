/* SPDX-License-Identifier: ISC */
#ifndef CRASH_H
#define CRASH_H

/*
 * Power cuts: a history of what was written and promised to an image whose files record each operation, and states of
 * the files as a crash at some tick of that record may leave them. What may be lost is what no flush
 * that was begun after its end has made durable; the rest is there whole, torn at sectors, or not at all.
 */

#include "../qcow2_priv.h"
#include "kit.h"

#define CRASH_SECTORS 2400u /* of the largest disk, twice over */
#define CRASH_EVENTS 60000u
#define CRASH_PROMISES 512u
#define CRASH_SNAPSHOTS 16u
#define CRASH_WINDOWS 128u

#define CRASH_NEVER SIZE_MAX

/* Sector `sector` may hold `value` from tick `begun` on. */
struct crash_event {
	uint32_t sector, value;
	size_t begun, answered; /* ticks; CRASH_NEVER = not yet */
	bool durable;           /* as soon as it is answered (FUA) */
	bool maybe;             /* or not (discards of what is shared with others in flight) */
};

/* At `made` a flush was answered that was asked for at `asked`. */
struct crash_promise {
	size_t asked, made;
};

struct crash_life {
	char name[12];
	size_t begun, made, ending, gone; /* ticks */
	uint32_t sectors, *value;
};

/* Maintenance under way: what is in between may need a repair in version 2. */
struct crash_window {
	size_t begun, ended, ops;
	uint32_t sectors;
};

struct crash {
	struct kit kit, state; /* what runs and records; what a crash left */
	struct mem_file before[2];
	struct crash_event *event;
	struct crash_promise promise[CRASH_PROMISES];
	struct crash_life life[CRASH_SNAPSHOTS];
	struct crash_window window[CRASH_WINDOWS];
	uint32_t event_count, promise_count, life_count, window_count;
	uint32_t now[CRASH_SECTORS], next_value, sectors;
	uint8_t buffer[CRASH_SECTORS * 512], below[CRASH_SECTORS * 512];
	unsigned long tried, states, dirty, qemu_every; /* qemu_every: 0 = never looks */
	/* What else must hold of the state's files, before anything opens them. */
	void (*extra)(size_t cut);
};
extern struct crash crash;

void crash_fill(uint8_t *sector, uint32_t value);
/* All of a sector is of one write, or it is torn (which no disk does to a sector). */
uint32_t crash_value(const uint8_t *sector);

/* A moment passes: what is begun or answered now comes behind what was. */
size_t crash_tick(void);
static inline size_t crash_ticks(void)
{
	return crash.kit.image.ticks;
}

/* An image of this kind, not open, no history. */
void crash_begin(uint64_t *seed, const struct kit_options *o);
/* From here on each operation is recorded; what was written until now is durable. Opens the image. leave_out: a
 * barrier that does nothing. */
void crash_record(unsigned leave_out);
/* Closes, if it is open, which is a promise as well. */
void crash_close(void);
void crash_end(void);

/* One request after the other. */
void crash_write(uint32_t sector, uint32_t count, uint32_t flags);
void crash_flush(void);
void crash_zero(uint32_t sector, uint32_t count, uint32_t flags);
void crash_discard(uint32_t sector, uint32_t count);
/* One event; its index. */
uint32_t crash_happened(uint32_t sector, uint32_t value, size_t begun, size_t answered);
void crash_promised(size_t asked);
/* Around maintenance. */
struct crash_window *crash_maintain(void);
void crash_maintained(struct crash_window *w);
bool crash_in_window(size_t cut);

/* Snapshots; false = the image cannot have one (more). */
bool crash_snapshot(void);
void crash_snapshot_delete(struct crash_life *l);
bool crash_snapshot_apply(struct crash_life *l);
void crash_resize(uint32_t sectors);
void crash_compact(unsigned steps, uint64_t bytes);

/* One state after a cut of the power at tick `cut`, chosen by the seed, must be good. */
void crash_random(uint64_t *seed, size_t cut);
/* All cuts; of what may be lost at each, every subset where it is small, else one lost, the last alone, some by
 * chance; each also torn. `verify` judges the files of crash.state (NULL = crash_verify). */
void crash_every(uint64_t *seed, void (*verify)(size_t cut, uint64_t *seed));
/* Tables, size, content, snapshots, going on. */
void crash_verify(size_t cut, uint64_t *seed);

/* Runs `fn` in a process of its own; did something fail there? An assertion is a failure, too. */
bool crash_noticed(void (*fn)(void *ctx), void *ctx);

#endif
