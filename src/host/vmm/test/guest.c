/* SPDX-License-Identifier: ISC */
/*
 * The test guest: a program on the bare boot contract, without the guest's kernel. argv[1]
 * says what to do; each attack ends by exit status 66 when it succeeded, or by what the machine
 * does about it. See test_machine.c and test_isolation.c.
 */
#include <wherry/abi/boot.h>
#include <wherry/abi/shm.h>

#define SUCCEEDED 66

static struct wh_boot_info *boot;
static struct wh_boot_control *control;
static long data_word = 5;
static long zero_word;
static long *const volatile relocated __attribute__((section(".data.rel.ro"), used)) = &data_word;
static const char constant[] = "constant";
void trap_return(void);
void guest_main(struct wh_boot_info *info);
void trap_entry(int signal, void *info, void *context);

__asm__(".section .text.entry, \"ax\"\n"
	".globl boot_entry\n"
	"boot_entry:\n"
	"	jmp guest_main\n"
	".globl trap_return\n"
	"trap_return:\n"
	"	mov $15, %eax\n"
	"	syscall\n"
	".text\n");

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

__attribute__((noreturn)) static void leave(enum wh_boot_exit kind, int value)
{
	control->exit_value = value;
	uint64_t one = 1;
	__atomic_store_n(&control->exit_kind, kind, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&control->host_sleeping, __ATOMIC_SEQ_CST))
		call(1, boot->doorbell_fd, (long)&one, 8, 0, 0, 0);
	for (;;)
		call(231, value, 0, 0, 0, 0, 0);
}

/* x86-64 ucontext: gregs begin at 40; RSP 15, RIP 16, ERR 19, TRAPNO 20, CR2 22. */
void trap_entry(int signal, void *info, void *context)
{
	const unsigned long *gregs = (const unsigned long *)((const char *)context + 40);
	control->fault_rip = gregs[16];
	control->fault_rsp = gregs[15];
	control->fault_error = gregs[19];
	control->fault_vector = (uint32_t)gregs[20];
	control->fault_address = gregs[22];
	leave(WH_BOOT_EXIT_FAULT, 0);
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

static long number(const char *s)
{
	long v = 0;
	for (; *s; s++)
		v = v * 10 + (*s - '0');
	return v;
}

static long overflow_stack(long depth)
{
	volatile char room[512];
	room[0] = (char)depth;
	return depth < 0 ? 0 : overflow_stack(depth + 1) + room[0];
}

static uint32_t events(void)
{
	return __atomic_load_n(&control->host_events, __ATOMIC_SEQ_CST);
}

/* `seen` was read before the guest looked for work: what came since ends the wait. */
static void wait_for_event(uint32_t seen)
{
	if (control->signals)
		return;
	__atomic_store_n(&control->guest_sleeping, 1, __ATOMIC_SEQ_CST);
	if (events() == seen)
		call(202, (long)&control->host_events, 0, seen, 0, 0, 0);
	__atomic_store_n(&control->guest_sleeping, 0, __ATOMIC_SEQ_CST);
}

static void kick(struct wh_shm_device *device, uint32_t bits)
{
	uint64_t one = 1;
	__atomic_fetch_or(&device->kick, bits, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&control->host_sleeping, __ATOMIC_SEQ_CST))
		call(1, boot->doorbell_fd, (long)&one, 8, 0, 0, 0);
}

/* Kicks the first device and waits for its interrupt, `count` times. */
static void echo(long count)
{
	const struct wh_boot_device *table = (const void *)boot->devices;
	struct wh_shm_device *device = (void *)table[0].regs;
	for (long i = 0; i < count; i++) {
		kick(device, 1);
		for (;;) {
			uint32_t seen = events();
			if (__atomic_exchange_n(&device->interrupt, 0, __ATOMIC_SEQ_CST))
				break;
			wait_for_event(seen);
		}
	}
}

static int check_boot(const char *const *argument)
{
	char on_stack;
	if (boot->magic != WH_BOOT_MAGIC || boot->size != sizeof *boot)
		return 10;
	if (*relocated != 5 || zero_word || constant[0] != 'c')
		return 11;
	if ((uint64_t)&on_stack < boot->stack_low || (uint64_t)&on_stack >= boot->stack_top)
		return 12;
	if (boot->argc != 2 || boot->envc != 1 || !same(argument[2], "KEY=value"))
		return 13;
	for (uint64_t p = boot->heap_start; p < boot->heap_end; p += 4096)
		if (*(volatile long *)p)
			return 14;
	return 42;
}

static int attack(const char *what, long value)
{
	static unsigned char code[] = { 0xc3 }; /* ret */
	if (same(what, "write-text"))
		*(volatile unsigned char *)(unsigned long)guest_main = 0;
	else if (same(what, "write-rodata"))
		*(volatile char *)(unsigned long)constant = 0;
	else if (same(what, "write-relro"))
		*(long *volatile *)(unsigned long)&relocated = &zero_word;
	else if (same(what, "execute-data"))
		((void (*)(void))(unsigned long)code)();
	else if (same(what, "execute-stack")) {
		volatile unsigned char here[1] = { 0xc3 };
		((void (*)(void))(unsigned long)here)();
	} else if (same(what, "execute-heap")) {
		*(unsigned char *)boot->heap_start = 0xc3;
		((void (*)(void))boot->heap_start)();
	} else if (same(what, "read-null"))
		(void)*(volatile long *)8;
	else if (same(what, "read-outside"))
		(void)*(volatile long *)(boot->stack_top + (1 << 20));
	else if (same(what, "read-below"))
		(void)*(volatile long *)(boot->image_start - 8192);
	else if (same(what, "overflow-stack"))
		overflow_stack(0);
	else if (same(what, "system-call"))
		call(value, 0, 0, 0, 0, 0, 0);
	else if (same(what, "system-call-32")) /* getpid through the other architecture's gate */
		__asm__ volatile("int $0x80" : : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	else if (same(what, "write-other"))
		call(1, boot->doorbell_fd, (long)constant, 1, 0, 0, 0);
	else if (same(what, "futex-other"))
		call(202, (long)&data_word, 0, 5, 0, 0, 0);
	else if (same(what, "futex-wake"))
		call(202, (long)&control->host_events, 1, 1, 0, 0, 0);
	else if (same(what, "clock-other"))
		call(228, 2, (long)&zero_word, 0, 0, 0, 0);
	else
		return 99;
	return SUCCEEDED;
}

void guest_main(struct wh_boot_info *info)
{
	const char *argument[3] = { "", "", "" };
	const char *text = (const char *)info->strings;
	boot = info;
	control = (struct wh_boot_control *)info->control;
	control->timeline[WH_BOOT_STAGE_ENTRY] = __builtin_ia32_rdtsc();
	for (uint32_t i = 0; i < info->argc + info->envc && i < 3; i++) {
		argument[i] = text;
		while (*text++)
			;
	}
	long value = number(argument[2]);
	if (same(argument[1], "exit"))
		leave(WH_BOOT_EXIT_STATUS, (int)value);
	if (same(argument[1], "check"))
		leave(WH_BOOT_EXIT_STATUS, check_boot(argument));
	if (same(argument[1], "signal"))
		leave(WH_BOOT_EXIT_SIGNAL, 6);
	if (same(argument[1], "liar"))
		leave((enum wh_boot_exit)77, -5);
	if (same(argument[1], "spin"))
		for (;;)
			__builtin_ia32_pause();
	if (same(argument[1], "wait")) {
		while (!control->signals)
			wait_for_event(events());
		leave(WH_BOOT_EXIT_SIGNAL, __builtin_ctz(control->signals) + 1);
	}
	if (same(argument[1], "echo")) {
		echo(value);
		leave(WH_BOOT_EXIT_STATUS, 7);
	}
	leave(WH_BOOT_EXIT_STATUS, attack(argument[1], value));
}
