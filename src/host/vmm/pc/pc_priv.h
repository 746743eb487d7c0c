/* SPDX-License-Identifier: ISC */
#ifndef VMM_PC_PRIV_H
#define VMM_PC_PRIV_H

/*
 * What the files of the PC share. pc.c has the theory of operation.
 */

#include <linux/kvm.h>
#include <pthread.h>
#include <wherry/pc.h>
#include <wherry/virtio_pci.h>

#include "../engine.h"

/*
 * Guest-physical addresses.
 *
 *	0x0500        GDT
 *	0x6000        PVH start info, or Multiboot info
 *	0x7000        Linux's zero page
 *	0x9000..      page tables: 4 GiB as they are
 *	0x20000       command line
 *	0xe0000       ACPI tables
 *	1 MiB..       the kernel; its initrd at the end of low RAM
 *	3 GiB         BARs, 16 KiB a device
 *	3.5 GiB       PCI configuration space of bus 0
 *	4 GiB         RAM that did not fit below 3 GiB
 */
#define PC_GDT 0x500ull
#define PC_START_INFO 0x6000ull
#define PC_ZERO_PAGE 0x7000ull
#define PC_STACK_TOP 0x8ff0ull
#define PC_PAGE_TABLES 0x9000ull
#define PC_COMMAND_LINE 0x20000ull
#define PC_LOW_END 0x9fc00ull
#define PC_ACPI 0xe0000ull
#define PC_ACPI_SIZE 0x10000ull
#define PC_GENERATION (PC_ACPI + PC_ACPI_SIZE) /* in the reserved page behind them */
#define PC_HIGH_START 0x100000ull
#define PC_BAR_BASE 0xc0000000ull
#define PC_BAR_END 0xe0000000ull
#define PC_ECAM 0xe0000000ull
#define PC_ECAM_SIZE 0x100000ull /* one bus */
#define PC_IOAPIC 0xfec00000ull
#define PC_LAPIC 0xfee00000ull
#define PC_IDENTITY_MAP 0xfffbc000ull /* Intel's, used by nobody */
#define PC_TSS 0xfffbd000ull
#define PC_ABOVE_4G 0x100000000ull

/* Ports. */
#define PC_PORT_PM 0x600u /* PM1 event, control, timer: acpi.c says the same to the guest */
#define PC_PORT_PM_SIZE 0x0cu
#define PC_PORT_GPE 0x60cu /* status, then enable: one byte each */
#define PC_PORT_GPE_SIZE 2u
#define PC_IRQ_SERIAL 4u
#define PC_IRQ_SCI 9u

#define PC_STOP_SIGNAL 10 /* SIGUSR1, blocked in the vCPUs' threads */
#define PC_CPUID_MAX 128u

#define PC_UART_INPUT 64u /* what the host may put in advance; a real one has 16 */
#define PC_UART_OUTPUT 4096u

enum pc_mail_state { PC_MAIL_NONE, PC_MAIL_ASKED, PC_MAIL_ASKED_ASLEEP, PC_MAIL_ANSWERED };
enum pc_mail_kind { PC_MAIL_READ, PC_MAIL_WRITE, PC_MAIL_SERIAL };

/* A question of a vCPU's thread to the loop's. */
struct pc_mail {
	uint32_t state; /* futex word */
	enum pc_mail_kind kind;
	uint32_t slot;
	uint64_t offset;
	uint32_t size;
	uint64_t value;
};

enum pc_end { PC_END_NONE, PC_END_OFF, PC_END_RESET, PC_END_KILLED, PC_END_TRIPLE, PC_END_ERROR };

enum pc_exit_cause {
	PC_EXIT_BAR,
	PC_EXIT_MSIX,
	PC_EXIT_PCI_CONFIG,
	PC_EXIT_SERIAL,
	PC_EXIT_CLOCK,
	PC_EXIT_POWER,
	PC_EXIT_PORT_OTHER,
	PC_EXIT_MEMORY_OTHER,
	PC_EXIT_SIGNAL,
	PC_EXIT_OTHER,
	PC_EXIT_CAUSES
};

struct pc_vcpu {
	struct pc *pc;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_started;
	struct pc_mail mail;
	uint32_t parked;                /* it stands still, for a snapshot */
	uint64_t exits[PC_EXIT_CAUSES]; /* written by its thread */
};

/* 16550 with an endless transmitter. */
struct pc_uart {
	uint8_t ier, lcr, mcr, scr, dll, dlm, fcr;
	bool thre; /* "transmitter empty" is to be told */
	bool line; /* state of the interrupt line */
	bool told; /* the loop was told of output */
	bool room; /* input was read since the loop last looked */
	uint8_t input[PC_UART_INPUT], output[PC_UART_OUTPUT];
	uint32_t input_count, output_count;
};

struct pc_msix_entry {
	uint32_t address, address_high, data, control;
};

#define PC_PCI_CONFIG_SIZE 256u

/* A function on bus 0: device 0 is the bridge to the host, slot n is device n + 1. */
struct pc_function {
	uint8_t config[PC_PCI_CONFIG_SIZE];
	uint8_t writable[PC_PCI_CONFIG_SIZE]; /* bits that a guest may change */
	uint64_t kicks_at;                    /* BAR for which ioeventfds are registered */
	struct pc_msix_entry *msix;
	uint32_t vector_count;
	uint64_t pending; /* bit per vector */
	struct wh_vmm_slot *slot;
};

struct pc_queue_watch {
	struct wh_loop_fd watch;
	struct wh_vmm_slot *slot;
	uint32_t queue;
};

/* Registers of vCPU 0 at the kernel's entry. */
struct pc_entry {
	bool long_mode;
	uint64_t rip, rsi, rbx, rax;
};

/* An opened snapshot: state.c. */
struct pc_snapshot {
	int fd;
	uint32_t cpus, devices;
	uint64_t ram_size, ram_offset;
	uint8_t *state;
	uint64_t state_size;
};

struct pc {
	struct wh_vmm_machine *machine;
	int dev, vm, event; /* event: vCPU threads -> loop */
	struct pc_vcpu *vcpu;
	uint32_t vcpu_count;
	size_t run_size;
	struct pc_entry entry;
	uint64_t low_size, high_size; /* bytes of RAM below 3 GiB, above 4 GiB */
	void (*serial_room)(void *ctx, struct wh_vmm_machine *machine);

	/* Under lock: platform devices, which any thread may touch. Nothing is called with it held
	 * that waits for another thread. */
	pthread_mutex_t lock;
	struct pc_uart uart;
	uint8_t cmos_index;
	uint16_t pm_status, pm_enable, pm_control;
	uint8_t gpe_status, gpe_enable; /* bit 0: the generation has changed */
	bool sci;
	uint32_t pci_address; /* port 0xcf8 */
	struct pc_function function[WH_BOOT_DEVICES_MAX + 1];
	uint32_t function_count;

	/* The loop's. */
	struct wh_loop_fd event_watch;
	struct wh_loop_hook hook;
	bool watching, serial_held;
	struct pc_queue_watch *queues;
	uint32_t queue_count;
	uint32_t loop_sleeping;

	bool stop;
	uint32_t pause;          /* futex word: vCPUs stand still */
	struct pc_snapshot from; /* cpus 0: none */
	struct pc_lazy *lazy;    /* NULL = RAM is mapped */
	bool wants_lazy;
	void (*fetcher_begins)(void *ctx);
	uint32_t end; /* enum pc_end: set once, by whoever is first */
	uint32_t threads_left;
	struct wh_boot_info info; /* what machine.c fills in for images */
	struct wh_boot_control control;
};

static inline struct pc *pc_of(const struct wh_vmm_machine *m)
{
	return m->engine_state;
}

/* Sets the level of a line of the interrupt controllers. Any thread. */
void pc_line(struct pc *pc, uint32_t irq, bool level);
/* The machine ends for this reason, unless it had another one before. Any thread. */
void pc_ends(struct pc *pc, enum pc_end why);
/* Tells the loop to look at outputs and ends. Any thread. */
void pc_tell_loop(struct pc *pc);
/* Asks the loop's thread and waits. false: the machine is being ended. */
bool pc_ask(struct pc_vcpu *v);

/* vcpu.c */
int pc_vcpu_prepare(struct pc_vcpu *v, struct wh_diag *diag);
void *pc_vcpu_main(void *vcpu);

/* pc.c: answers vCPUs that wait for the loop. */
void pc_answer_all(struct pc *pc);

/* state.c. A snapshot: open checks all but the contents of sections; map makes RAM of it. */
void pc_vcpu_park(struct pc_vcpu *v);
int pc_pause(struct wh_vmm_machine *m, bool on, struct wh_diag *diag);
int pc_save(struct wh_vmm_machine *m, int fd, struct wh_diag *diag);
int pc_snapshot_open(const char *path, struct pc_snapshot *s, struct wh_diag *diag);
int pc_snapshot_map(const struct pc_snapshot *s, struct wh_vmm_machine *m, struct wh_diag *diag);
int pc_state_restore(struct pc *pc, const struct pc_snapshot *s, struct wh_diag *diag);
void pc_snapshot_close(struct pc_snapshot *s);

/* lazy.c: RAM that is read when it is touched; m->ram is set. *ret_lazy is to be freed after an error, too, but after all threads
 * that touch RAM have ended. */
struct pc_lazy;
int pc_lazy_new(const struct pc_snapshot *s, struct wh_vmm_machine *m, struct pc_lazy **ret_lazy,
		struct wh_diag *diag);
void pc_lazy_free(struct pc_lazy *lazy);

/* cpuid.c: completes what kvm supports for one of `cpus` processors; returns the new count, at most
 * PC_CPUID_MAX. */
uint32_t pc_cpuid_make(struct kvm_cpuid_entry2 *entries, uint32_t count, uint32_t index,
		       uint32_t cpus);

/* ports.c: one access of 1, 2 or 4 bytes, from a vCPU's thread. */
enum pc_exit_cause pc_port_read(struct pc_vcpu *v, uint16_t port, uint32_t size,
				uint32_t *ret_value);
enum pc_exit_cause pc_port_write(struct pc_vcpu *v, uint16_t port, uint32_t size, uint32_t value);
void pc_power_button(struct pc *pc);
/* A generation identifier that no machine had; _changed tells the guest. */
void pc_generation_renew(struct pc *pc);
void pc_generation_changed(struct pc *pc);

/* uart.c, under lock. */
uint8_t pc_uart_read(struct pc *pc, uint32_t reg);
void pc_uart_write(struct pc *pc, uint32_t reg, uint8_t value); /* room in output was seen to */
void pc_uart_update(struct pc *pc);

/* pci.c, under lock but _add. */
void pc_pci_init(struct pc *pc);
void pc_pci_add(struct pc *pc, struct wh_vmm_slot *slot);
uint32_t pc_pci_read(struct pc *pc, uint32_t device_function, uint32_t offset, uint32_t size);
void pc_pci_write(struct pc *pc, uint32_t device_function, uint32_t offset, uint32_t size,
		  uint32_t value);
/* The function whose BAR an address lies in, or NULL. */
struct pc_function *pc_pci_at(struct pc *pc, uint64_t address, uint64_t *ret_offset);
uint64_t pc_msix_read(struct pc_function *f, uint64_t offset, uint32_t size);
void pc_msix_write(struct pc *pc, struct pc_function *f, uint64_t offset, uint32_t size,
		   uint64_t value);
void pc_msix_send(struct pc *pc, struct pc_function *f, uint32_t vector);
/* (Re)registers the ioeventfds of a function whose BAR moved. pc.c. */
void pc_kicks_move(struct pc *pc, struct pc_function *f, uint64_t bar);

/* acpi.c: writes all tables at PC_ACPI; `to` is PC_ACPI_SIZE bytes of zeros. Returns bytes used. */
uint32_t pc_acpi_write(uint8_t *to, uint32_t cpus);

/* kernel.c */
struct wh_vmm_kernel {
	int fd;
	struct wh_elf_input input;
	enum wh_vmm_kernel_kind kind;
	struct wh_elf elf; /* PVH, ELF */
	uint64_t entry;    /* physical; bzImage: offset from where it is loaded */
	/* bzImage */
	uint8_t setup[0x290];             /* the file's first bytes */
	uint64_t payload, payload_size;   /* protected-mode kernel in the file */
	uint64_t load_address, load_size; /* where, and how much it needs there */
	uint64_t initrd_max;              /* highest address of an initrd's last byte */
	uint32_t command_line_max;
	/* Multiboot */
	uint32_t segment_count;
	struct pc_segment {
		uint64_t offset, file_size, address, mem_size;
	} segment[WH_ELF_SEGMENTS_MAX];
};

/* boot.c: loads kernel, initrd and what the kernel is told into RAM; fills pc->entry. */
int pc_boot_load(struct pc *pc, const struct wh_vmm_kernel *kernel, const char *command_line,
		 const char *initrd, struct wh_diag *diag);
/* The host pointer of guest memory below 4 GiB, or NULL when it is not all RAM. */
void *pc_ram_at(const struct pc *pc, uint64_t address, uint64_t size);

#endif
