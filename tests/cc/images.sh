#!/bin/sh
# SPDX-License-Identifier: ISC
# What comes out: sizes, protection, the same bytes again, and what is said of missing calls.
. "$(dirname "$0")/functions.sh"

cat >hello.c <<'END'
#include <stdio.h>
int main(void) { printf("hello\n"); return 0; }
END
ok hello $CC -O2 hello.c -o hello
cp hello again
ok hello $CC -O2 hello.c -o hello
cmp hello again || fail "the same source gives another image"
ok "-g" $CC -g hello.c -o hello
cp hello again
ok "-g" $CC -g hello.c -o hello
cmp hello again || fail "the same source with -g gives another image"

ok strip strip -o small hello
size=$(wc -c <small)
[ "$size" -lt 65536 ] || fail "hello is $size bytes stripped: 64 KiB is the limit"
ok "run stripped" "$WHERRY" run small
says out hello "run stripped"
ok "image of stripped" "$WHERRY" image small
says out "posix_file_writev" "units survive strip"
ok "2 MiB" "$WHERRY" run --memory 2M small

# Writable and executable never meet, nothing is relocated in read-only memory.
ok readelf readelf -lWd small
grep -q "LOAD.* RWE " out && fail "a segment is writable and executable"
grep "GNU_STACK" out | grep -q "RWE" && fail "the stack is executable"
says out GNU_RELRO RELRO
grep -q TEXTREL out && fail "text relocations"
readelf -hW small | grep -q "DYN " || fail "not position-independent"
ok canary $CC -O2 -c -x c - -o canary.o <<'END'
void use(char *);
void f(void) { char b[64]; use(b); }
END
nm canary.o | grep -q __stack_chk_fail || fail "no stack protector"

# Direct execution becomes `wherry run`.
PATH=$(dirname "$WHERRY"):$PATH ok "direct" ./hello
says out hello "direct"
WHERRY=$WHERRY status 0 "direct, WHERRY" env PATH=/nonexistent ./hello
# Executed directly it has the working directory and the environment; run by name it has neither.
cat >here.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	char folder[4096];
	FILE *f = fopen("here.out", "w");
	printf("%s %s\n", getcwd(folder, sizeof folder), getenv("HERE") ? getenv("HERE") : "nothing");
	return !f || fputs("made", f) < 0 || fclose(f);
}
END
ok "here.c" "$WHERRY" cc -o here here.c
ok "run, not here" env HERE=set "$WHERRY" run ./here
says out "/ nothing" "run, not here"
[ ! -e here.out ] || fail "an image that was run wrote into the working directory"
HERE=set WHERRY=$WHERRY ok "here" ./here
says out "$PWD set" "here"
[ "$(cat here.out)" = made ] || fail "an image that was executed did not write into the working directory"
status 126 "direct, no command" env -u WHERRY PATH=/nonexistent ./hello
says err "wherry run" "direct, no command"

# A missing call: named with the place when linking, ENOSYS when running.
cat >forker.c <<'END'
#include <errno.h>
#include <unistd.h>
static int spawn(void) { return fork(); }
int main(void) { return spawn() == -1 && errno == ENOSYS ? 5 : 1; }
END
ok fork $CC -g forker.c -o forker
says err "fork is not implemented" "fork at link time"
says err "forker.c:3" "fork's place"
[ "$(grep -c "call fork is not implemented" err)" = 1 ] || fail "fork: said more than once"
status 5 "run fork" "$WHERRY" run forker
says err "system call fork is not implemented" "fork at run time"
ok "image of fork" "$WHERRY" image forker
says out "fork" "fork in the image's list"
ok quiet $CC hello.c -o hello
[ -s err ] && fail "warnings for hello: $(cat err)"

# The public syscall() reaches what is linked, and says ENOSYS to the rest.
cat >number.c <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void)
{
	if (syscall(SYS_gettid) != getpid())
		return 1;
	return syscall(SYS_kexec_load, 0, 0, 0, 0) == -1 && errno == ENOSYS ? 0 : 2;
}
END
ok "syscall()" $CC number.c -o number
[ -s err ] && fail "warnings for syscall(): $(cat err)"
ok "run syscall()" "$WHERRY" run number

# Nothing is left behind, not even when interrupted.
mkdir tmp
ok TMPDIR env TMPDIR="$work/tmp" $CC -g forker.c -o forker
printf '#!/bin/sh\nkill -TERM "$PPID"\nexec sleep 5\n' >slow
chmod +x slow
WHERRY_CC=$work/slow TMPDIR=$work/tmp status 143 interrupted $CC hello.o -o hello
[ -z "$(ls tmp)" ] || fail "left behind: $(ls tmp)"

# A program's own names never meet the kernel's.
cat >names.c <<'END'
#include <stdio.h>
int fs_open(void) { return 1; }
int kern_start(void) { return 2; }
int drv_console_write(void) { return 3; }
int main(void) { printf("%d\n", fs_open() + kern_start() + drv_console_write()); return 0; }
END
ok names $CC names.c -o names
ok "run names" "$WHERRY" run names
says out 6 names
end
