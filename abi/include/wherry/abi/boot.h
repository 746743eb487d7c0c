/* SPDX-License-Identifier: ISC */
#ifndef WHERRY_ABI_BOOT_H
#define WHERRY_ABI_BOOT_H

/*
 * The boot contract: what a machine gives to an image, version 1.
 *
 * An image is one static position-independent ELF. Its manifest note
 * (wherry/abi/manifest.h) names the entry points. Before the first guest
 * instruction the machine has
 *
 *  - mapped the image at `image_base` (the load bias; PT_LOAD addresses are
 *    added to it), text read+execute, constant data read-only, applied every
 *    R_X86_64_RELATIVE relocation (flag WH_BOOT_RELOCATED), and mapped
 *    PT_GNU_RELRO read-only;
 *  - mapped RAM: `ram_base`..`ram_base+ram_size` is one contiguous, writable,
 *    never executable range that begins with the page that holds the image's
 *    first writable (or RELRO) byte and goes on behind its .bss;
 *  - filled in struct wh_boot_info inside RAM and entered at the manifest's
 *    `boot_entry` with RDI = guest address of struct wh_boot_info,
 *    RSP = stack_top - 8 (as after a call), DF clear, interrupts off.
 *
 *    proc:  lo                                                        hi
 *           [ text R-X ][ rodata R ][ relro R ][ data, bss RW ][ free  ... ][boot, control, shm][gap][stack]
 *           ^image_base             ^ram_base                  ^heap_start ^heap_end
 *
 * Everything in this header is little-endian and naturally aligned. "IN" is
 * written by the machine before entry and only read by the guest; "OUT" is
 * written by the guest and must be treated as hostile by the machine; "SHARED" is
 * written by both.
 *
 * Guest addresses are wh_abi_gaddr: the host cannot dereference them, it has
 * to translate them through its checked accessor.
 */

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint64_t wh_abi_gaddr;

#define WH_BOOT_MAGIC 0x31544f4259525257ull /* "WRRYBOT1" */
#define WH_BOOT_VERSION 1u

/* Limits; both sides check them. */
#define WH_BOOT_DEVICES_MAX 32u
#define WH_BOOT_STRINGS_SIZE_MAX (256u << 10) /* bytes of argv+envp+mounts, as a small ARG_MAX */
#define WH_BOOT_NAME_SIZE 36u                 /* device name with NUL; 9P tags and block names */
#define WH_BOOT_PATH_SIZE 256u                /* mount point with NUL */
#define WH_BOOT_MOUNTS_MAX 16u

enum wh_boot_engine {
	WH_BOOT_ENGINE_PROC = 1, /* ring 3 of a confined host process */
	WH_BOOT_ENGINE_KVM = 2,  /* ring 0 of a virtual machine, booted by wherry */
	WH_BOOT_ENGINE_PVH =
		3, /* ring 0, booted by another monitor; the guest made this struct itself */
};

#define WH_BOOT_RELOCATED (1u << 0)   /* relative relocations are applied, RELRO is sealed */
#define WH_BOOT_FSGSBASE (1u << 1)    /* WRFSBASE may be executed */
#define WH_BOOT_CONSOLE_TTY (1u << 2) /* the host's standard output is a terminal */
#define WH_BOOT_NET_STATIC (1u << 3)  /* struct wh_boot_net is valid: no DHCP needed */
#define WH_BOOT_STDIN_TTY (1u << 5)   /* ... its standard input */
#define WH_BOOT_STDERR_TTY (1u << 6)  /* ... its standard error */
#define WH_BOOT_STDIN_EOF (1u << 4)   /* no standard input will ever come */

/* Addresses of the first network device, network byte order in the arrays. */
struct wh_boot_net {
	uint8_t ip4[4];    /* IN guest's address */
	uint8_t gw4[4];    /* IN gateway */
	uint8_t dns4[4];   /* IN DNS server; on the same network it has the gateway's MAC */
	uint8_t prefix4;   /* IN prefix length, 0 = no IPv4 */
	uint8_t prefix6;   /* IN prefix length, 0 = no IPv6 */
	uint8_t gw_mac[6]; /* IN gateway's MAC, so that the first packet needs no ARP */
	uint8_t ip6[16];   /* IN */
	uint8_t gw6[16];   /* IN */
	uint8_t dns6[16];  /* IN all zero = none */
};

/* One virtio device. `regs` points to a struct wh_shm_device (wherry/abi/shm.h)
 * when transport is WH_BOOT_TRANSPORT_SHM, to virtio-mmio registers (virtio 1.2,
 * 4.2) when it is WH_BOOT_TRANSPORT_MMIO. */
enum wh_boot_transport {
	WH_BOOT_TRANSPORT_SHM = 1,
	WH_BOOT_TRANSPORT_MMIO = 2,
	WH_BOOT_TRANSPORT_PCI =
		3 /* never in an image's table: other kernels find devices themselves */
};

struct wh_boot_device {
	uint32_t virtio_id; /* IN virtio 1.2, section 5: 1 net, 2 blk, 3 console, 4 rng, 9 9p */
	uint32_t transport; /* IN enum wh_boot_transport */
	uint32_t irq;       /* IN interrupt line (mmio) */
	uint32_t reserved;
	wh_abi_gaddr regs; /* IN */
	char name[WH_BOOT_NAME_SIZE +
		  4]; /* IN block: NAME of --disk (node /dev/NAME); 9p: mount tag */
};

struct wh_boot_mount {
	char tag[WH_BOOT_NAME_SIZE + 4]; /* IN name of a 9p device above */
	char path[WH_BOOT_PATH_SIZE];    /* IN absolute mount point */
	uint32_t flags;                  /* IN WH_BOOT_MOUNT_* */
	uint32_t reserved;
};
#define WH_BOOT_MOUNT_READONLY (1u << 0)

/* Where time went: time-stamp counter at each stage. The machine fills the
 * first ones, the guest the later ones; 0 = not reached. Names for printing:
 * wh_boot_stage_name(). */
enum wh_boot_stage {
	WH_BOOT_STAGE_START,   /* monitor's first instruction in main() */
	WH_BOOT_STAGE_IMAGE,   /* image opened and checked */
	WH_BOOT_STAGE_MACHINE, /* memory and devices ready */
	WH_BOOT_STAGE_SPAWN,   /* engine asked to start */
	WH_BOOT_STAGE_ENTRY,   /* OUT first guest instruction */
	WH_BOOT_STAGE_KERNEL,  /* OUT memory, drivers, file systems ready */
	WH_BOOT_STAGE_MAIN,    /* OUT before the program's main() */
	WH_BOOT_STAGE_LISTEN,  /* OUT first listen() */
	WH_BOOT_STAGE_ACCEPT,  /* OUT first accepted connection */
	WH_BOOT_STAGE_REPLY,   /* OUT first byte sent on a connection */
	WH_BOOT_STAGE_COUNT
};

static inline const char *wh_boot_stage_name(enum wh_boot_stage stage)
{
	static const char *const names[] = { "start",  "image", "machine", "spawn",  "entry",
					     "kernel", "main",  "listen",  "accept", "reply" };
#ifndef __cplusplus
	_Static_assert(sizeof names / sizeof names[0] == WH_BOOT_STAGE_COUNT, "one name a stage");
#endif
	return (unsigned)stage < WH_BOOT_STAGE_COUNT ? names[stage] : "?";
}

/* proc, images with WH_MANIFEST_PARKS: this host signal (SIGUSR1) makes the trap entry park the guest. The
 * kernel has saved every register in the signal's frame on the trap stack, so RAM then holds all there is
 * of the guest. It notes frame and FS base, sets control.parked and sleeps until control.park is 0, then
 * clears parked and returns through trap_return. A copy of that RAM in another process goes on
 * when that one sets FS base and signals, and enters the trap entry as the kernel did: RDI = the signal, RSI = 0,
 * RSP = park_frame - 8. It stamps timeline[ENTRY]. */
#define WH_BOOT_PARK_SIGNAL 10

/* proc, images with WH_MANIFEST_TICKS: the host's kernel sends this signal (SIGVTALRM) whenever the guest has used WH_BOOT_TICK_US of
 * processor time, by an interval timer that is set before the filter is. It comes to the trap entry; a guest that sleeps gets none. */
#define WH_BOOT_TICK_SIGNAL 26
#define WH_BOOT_TICK_US 10000

/* How the guest ended, in wh_boot_control.exit_kind, written last. On proc the guest then rings
 * the doorbell if control.host_sleeping and sleeps: the host ends it (exit_group does as well). */
enum wh_boot_exit {
	WH_BOOT_EXIT_NONE = 0,   /* still running, or killed without a word */
	WH_BOOT_EXIT_STATUS = 1, /* exit_group(exit_value) */
	WH_BOOT_EXIT_SIGNAL =
		2, /* ended by signal number exit_value (abort, raise, default action) */
	WH_BOOT_EXIT_FAULT = 3, /* processor fault; fault_* are valid */
	WH_BOOT_EXIT_PANIC = 4, /* the guest's kernel gave up; message is valid */
};

/* Lives in RAM; both sides use it while the guest runs. One cache line each for
 * what the guest and what the host writes often. */
struct wh_boot_control {
	/* Written by the host. */
	uint32_t
		host_events; /* SHARED futex word (proc): +1 for each event the guest should look at */
	uint32_t
		signals; /* SHARED bit n-1 = host asks for signal n (1..31); guest clears atomically */
	uint32_t host_sleeping; /* SHARED 1 = host needs a doorbell to notice kicks */
	uint32_t park;          /* SHARED proc: 1 = stay parked; see WH_BOOT_PARK_SIGNAL */
	uint32_t
		generation; /* SHARED +1 when a copy of the guest starts from a snapshot: boot.entropy
			      * is fresh and the clocks of the host have moved on */
	uint32_t reserved0[11];
	/* Written by the guest. */
	uint32_t guest_sleeping;    /* SHARED 1 = guest sleeps (or is about to) on host_events */
	uint32_t exit_kind;         /* OUT enum wh_boot_exit */
	int32_t exit_value;         /* OUT */
	uint32_t fault_vector;      /* OUT x86 exception number */
	uint64_t fault_address;     /* OUT CR2 where it applies */
	uint64_t fault_rip;         /* OUT runtime address (subtract image_base for the ELF's) */
	uint64_t fault_rsp;         /* OUT */
	uint64_t fault_rbp;         /* OUT */
	uint64_t fault_error;       /* OUT x86 error code: bit 0 present, 1 write, 4 fetch */
	uint32_t backtrace_count;   /* OUT */
	uint32_t parked;            /* OUT proc: 1 = the guest stands still, park_* are valid */
	uint64_t backtrace[16];     /* OUT return addresses, innermost first */
	uint64_t main_instructions; /* OUT reserved for counting harnesses */
	char message[160];          /* OUT NUL-terminated panic text */
	uint64_t timeline[16];      /* SHARED TSC by enum wh_boot_stage */
	uint64_t
		park_frame; /* OUT proc: guest address of the ucontext of the park signal's frame; with
			      * EXIT_FAULT, either engine: of the fault's, 0 = none */
	uint64_t park_fs_base; /* OUT proc */
};

struct wh_boot_info {
	uint64_t magic;              /* IN WH_BOOT_MAGIC */
	uint32_t version;            /* IN WH_BOOT_VERSION */
	uint32_t size;               /* IN bytes of this struct; grows at the end */
	uint32_t engine;             /* IN enum wh_boot_engine */
	uint32_t flags;              /* IN WH_BOOT_* */
	wh_abi_gaddr image_base;     /* IN load bias */
	wh_abi_gaddr image_start;    /* IN first mapped image byte */
	wh_abi_gaddr image_end;      /* IN end of .bss */
	wh_abi_gaddr ram_base;       /* IN */
	uint64_t ram_size;           /* IN bytes */
	wh_abi_gaddr heap_start;     /* IN page-aligned free RAM for the guest's allocator */
	wh_abi_gaddr heap_end;       /* IN */
	wh_abi_gaddr stack_low;      /* IN usable stack; the page below is not mapped (proc) */
	wh_abi_gaddr stack_top;      /* IN */
	wh_abi_gaddr trap_stack_top; /* IN alternate stack for the trap entry */
	wh_abi_gaddr control;        /* IN struct wh_boot_control */
	wh_abi_gaddr devices;        /* IN array of struct wh_boot_device */
	wh_abi_gaddr mounts;         /* IN array of struct wh_boot_mount */
	wh_abi_gaddr strings;        /* IN argv then envp, NUL-terminated, packed */
	uint32_t strings_size;       /* IN bytes */
	uint32_t argc;               /* IN */
	uint32_t envc;               /* IN */
	uint32_t device_count;       /* IN */
	uint32_t mount_count;        /* IN */
	int32_t doorbell_fd; /* IN proc: descriptor of an eventfd; write 8 bytes to wake the host */
	uint64_t tsc_hz;     /* IN 0 = unknown; then calibrate against clock_gettime */
	uint64_t realtime_ns;     /* IN CLOCK_REALTIME at tsc_at_realtime */
	uint64_t tsc_at_realtime; /* IN */
	uint8_t entropy[64];      /* IN fresh random bytes; the guest wipes them after use */
	struct wh_boot_net net;   /* IN valid with WH_BOOT_NET_STATIC */
	char hostname[64];        /* IN NUL-terminated */
	wh_abi_gaddr workdir;     /* IN where the program starts, NUL-terminated; 0 = in / */
	wh_abi_gaddr observe; /* IN struct wh_observe (wherry/abi/observe.h); 0 = nobody looks */
};

/* System calls that the proc engine's filter lets through, all others end the
 * guest: exit_group(any), futex(&control.host_events, FUTEX_WAIT, value,
 * timeout), write(doorbell_fd, any, 8), clock_gettime(0 or 1),
 * rt_sigreturn(), and arch_prctl(ARCH_SET_FS) without WH_BOOT_FSGSBASE. */

#ifdef __cplusplus
}
#endif
#endif
