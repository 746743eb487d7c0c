/* SPDX-License-Identifier: ISC */
/*
 * From `_start` to main(). Unlike on Linux nobody can have closed descriptors 0 to
 * 2, or raised the process's rights: no calls are made before the program's.
 */
#include <elf.h>
#include <stdint.h>
#include <unistd.h>
#include "libc.h"
#include "pthread_impl.h"
#include <wherry/abi/boot.h>

#define AUX_COUNT 38

static void nothing(void)
{
}
weak_alias(nothing, _init);

extern weak hidden void (*const __init_array_start)(void), (*const __init_array_end)(void);

/* Built without stack protection: the canary changes in here. */
__attribute__((__noinline__)) void __init_libc(char **envp, char *name)
{
	size_t aux[AUX_COUNT] = { 0 }, *at;
	__environ = envp;
	while (*envp)
		envp++;
	libc.auxv = (size_t *)(envp + 1);
	for (at = libc.auxv; at[0]; at += 2)
		if (at[0] < AUX_COUNT)
			aux[at[0]] = at[1];
	__hwcap = aux[AT_HWCAP];
	libc.page_size = aux[AT_PAGESZ];
	__progname = __progname_full = name ? name : "";
	for (char *c = __progname; *c; c++)
		if (*c == '/')
			__progname = c + 1;
	__init_tls(aux);
	__init_ssp((void *)aux[AT_RANDOM]);
}

static void run_constructors(void)
{
	_init();
	for (uintptr_t at = (uintptr_t)&__init_array_start; at < (uintptr_t)&__init_array_end;
	     at += sizeof(void (*)(void)))
		(*(void (**)(void))at)();
}
weak_alias(run_constructors, __libc_start_init);

/* The kernel's kern_timeline_mark; archive members carry the prefix (sysroot/pack). */
void wh_kern_timeline_mark(enum wh_boot_stage stage);

__attribute__((__noinline__)) static int run(int (*main)(int, char **, char **), int argc,
					     char **argv)
{
	__libc_start_init();
	wh_kern_timeline_mark(WH_BOOT_STAGE_MAIN);
	exit(main(argc, argv, argv + argc + 1));
}

int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void),
		      void (*fini)(void), void (*loader)(void))
{
	int (*volatile stage)(int (*)(int, char **, char **), int, char **) = run;
	__init_libc(argv + argc + 1, argv[0]);
	/* The volatile pointer keeps code that trusts the canary from moving up. */
	return stage(main, argc, argv);
}
