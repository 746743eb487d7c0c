#!/bin/sh
# SPDX-License-Identifier: ISC
# The options of a C compiler driver, one by one.
. "$(dirname "$0")/functions.sh"

cat >hello.c <<'END'
#include <stdio.h>
int main(void) { printf("hello\n"); return 7; }
END
cat >sum.c <<'END'
int sum(int a, int b) { return a + b; }
END
cat >main.c <<'END'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
int sum(int, int);
static void *run(void *a) { return a; }
int main(int argc, char **argv)
{
	pthread_t t;
	void *r;
	if (pthread_create(&t, 0, run, "joined") || pthread_join(t, &r))
		return 1;
	printf("%s %d %.0f %d\n", (char *)r, sum(40, 2), sqrt(argc * 16.0), argc);
	return 0;
}
END

# Every mode ends in an image that runs.
for options in -O0 "-O2 -flto" "-g -O3 -static" "-no-pie -fno-pie -Os" "-pthread -fPIC -pie" -static-pie "-O1 -s"; do
	ok "$options" $CC $options main.c sum.c -o main -lm -lpthread -ldl -lrt
	ok "run $options" "$WHERRY" run main
	says out "joined 42 4 1" "run $options"
done

# Steps on their own.
ok -c $CC -c sum.c
ok "-c -o" $CC -O2 -c -o m.o main.c
ok "link objects" $CC m.o sum.o -o linked -lm
ok "run objects" "$WHERRY" run linked
ok "archives" ar rcs libsum.a sum.o
ok "ranlib" ranlib libsum.a
ok "-L -l" $CC m.o -L. -lsum -lm -o archived
ok "run archived" "$WHERRY" run archived
ok -E $CC -E hello.c
says out "printf" -E
grep -q "gnu/stubs\|__GLIBC__" out && fail "-E: the host's headers"
ok -S $CC -S sum.c
says sum.s "sum:" -S
ok -MMD $CC -MMD -MF deps.d -MT target -c hello.c
says deps.d "target: hello.c" -MMD
ok -M $CC -M hello.c
says out "sysroot/include/stdio.h" -M
ok assembler $CC -c sum.s -o sum2.o
echo 'int main(void) { return 4; }' >four.c
ok "standard input" $CC -x c - -o four <four.c
status 4 "run standard input" "$WHERRY" run four
printf '%s\n' '-O2 -DNAME="a b"' "-o 'responded' hello.c" >arguments
ok "response file" $CC @arguments
status 7 "run response file" "$WHERRY" run responded
ok "no -o" $CC hello.c
status 7 "run a.out" "$WHERRY" run a.out
ok -fsyntax-only $CC -fsyntax-only hello.c
ok "-Wl,-Map" $CC hello.c -o mapped -Wl,-Map=mapped.map,--export-dynamic -rdynamic
[ -s mapped.map ] || fail "-Wl,-Map: no map"

# The compiler's own library: the unwinder, and arithmetic on 128 bits.
cat >unwind.c <<'END'
#include <stdio.h>
#include <unwind.h>
static _Unwind_Reason_Code frame(struct _Unwind_Context *c, void *n) { ++*(int *)n; return _URC_NO_REASON; }
__attribute__((noinline)) int depth(void) { int n = 0; _Unwind_Backtrace(frame, &n); return n; }
int main(int argc, char **argv)
{
	unsigned __int128 big = (unsigned __int128)argc << 100;
	return depth() < 2 || (int)(big / 3 >> 90) != 341;
}
END
ok libgcc $CC -O1 -fasynchronous-unwind-tables unwind.c -lgcc -lgcc_eh -o unwind
ok "run libgcc" "$WHERRY" run unwind

# Questions.
ok --version $CC --version
ok -v $CC -v
ok -dumpmachine $CC -dumpmachine
says out "x86_64" -dumpmachine
ok -print-file-name $CC -print-file-name=libc.a
[ -f "$(cat out)" ] || fail "-print-file-name=libc.a: $(cat out)"
ok -print-prog-name $CC -print-prog-name=ld

# What cannot be, is said.
status 1 -shared $CC -shared -fPIC sum.c -o libsum.so
says err "no dynamic linker" -shared
status 1 -m32 $CC -m32 hello.c
says err "64-bit" -m32
status 1 "host libraries" $CC hello.c -lc_nonshared -o x
status 1 "own option" $CC --wherry-nonsense hello.c
says err "--wherry-nonsense" "own option"
status 1 "bad size" $CC --wherry-memory=lots hello.c
status 1 "syntax error" $CC -c - -x c <<'END'
int main(
END
echo 'int main(void) { return no_such_function(); }' >undefined.c
status 1 "undefined function" $CC -w undefined.c -o x
WHERRY_SYSROOT=/nonexistent status 1 "no sysroot" $CC hello.c -o x
WHERRY_CC=/nonexistent/cc status 125 "no compiler" $CC hello.c -o x
says err "/nonexistent/cc" "no compiler"

# Figures and name of the manifest.
ok figures $CC --wherry-memory=8M --wherry-stack=128K --wherry-name=greeter hello.c -o named
ok image "$WHERRY" image named
says out "greeter" name
says out "8192 KiB" memory
says out "stack 128 KiB" stack

# Embedded files.
mkdir -p root/etc root/empty
echo inside >root/etc/file
ln -s etc/file root/link
cat >cat.c <<'END'
#include <stdio.h>
int main(void)
{
	char line[64] = "";
	FILE *f = fopen("/link", "r");
	return !f || !fgets(line, sizeof line, f) || puts(line) < 0;
}
END
ok --wherry-root $CC --wherry-root=root cat.c -o cat
ok "run --wherry-root" "$WHERRY" run cat
says out inside "run --wherry-root"
mkfifo root/pipe
status 125 "special file" $CC --wherry-root=root cat.c -o cat
says err "root/pipe" "special file"
end
