#!/bin/sh
# SPDX-License-Identifier: ISC
# A package as they come: a tarball with a configure script and a makefile, built by
# CC="wherry cc" ./configure && make check. The probes are those that autoconf writes.
. "$(dirname "$0")/functions.sh"
command -v make >/dev/null || { echo "no make here"; exit 77; }

mkdir -p greet-1.0/src
cat >greet-1.0/configure <<'END'
#!/bin/sh
set -e
CC=${CC:-cc} AR=${AR:-ar} RANLIB=${RANLIB:-ranlib}
defines=
try() # NAME EXTRA PROGRAM: does it link?
{
	echo "$3" >conftest.c
	if $CC $CFLAGS -o conftest conftest.c $2 $LIBS >>config.log 2>&1; then
		echo "checking for $1... yes"
		defines="$defines -DHAVE_$1=1"
	else
		echo "checking for $1... no"
	fi
}
empty="int main(void) { return 0; }"
echo "int main(void) { return 0; }" >conftest.c
$CC $CFLAGS -o conftest conftest.c || { echo "C compiler cannot create executables"; exit 77; }
./conftest || { echo "cannot run C compiled programs"; exit 1; }
$CC -c conftest.c && test -f conftest.o
# AC_CHECK_FUNC declares the function by hand.
for f in strlcpy epoll_create1 arc4random_buf_no_such getline; do
	try $f -fno-builtin "char $f(); int main(void) { return $f(); }"
done
for l in m pthread; do
	try LIB_$l -l$l "$empty"
done
try LIB_no_such -lno_such "$empty"
for h in stdio.h sys/epoll.h linux/types.h gnu/libc-version.h no/such.h; do
	try "$(echo $h | tr './-' ___)" "" "#include <$h>
$empty"
done
# AC_CHECK_SIZEOF, when it can run what it built.
cat >conftest.c <<'EOF'
#include <stdio.h>
int main(void) { FILE *f = fopen("/dev/null", "r"); return !f || sizeof(long) != 8; }
EOF
$CC $CFLAGS -o conftest conftest.c && ./conftest && echo "checking size of long... 8"
# AC_COMPUTE_INT reads what the program wrote into the working directory.
cat >conftest.c <<'EOF'
#include <stdio.h>
int main(void) { FILE *f = fopen("conftest.val", "w"); return !f || fprintf(f, "%d", (int)sizeof(void *)) < 0 || fclose(f); }
EOF
$CC $CFLAGS -o conftest conftest.c && ./conftest
defines="$defines -DSIZEOF_VOID_P=$(cat conftest.val)"
sed "s|@CC@|$CC|; s|@DEFINES@|$defines|; s|@AR@|$AR|; s|@RANLIB@|$RANLIB|" Makefile.in >Makefile
END
cat >greet-1.0/Makefile.in <<'END'
CC = @CC@
CFLAGS = -g -O2 @DEFINES@ -Wall
greet: src/main.o libgreet.a
	$(CC) $(LDFLAGS) -o $@ src/main.o -L. -lgreet -lm
libgreet.a: src/greet.o
	@AR@ cr $@ src/greet.o
	@RANLIB@ $@
.c.o:
	$(CC) $(CFLAGS) -MD -c -o $@ $<
check: greet
	./greet
END
cat >greet-1.0/src/greet.c <<'END'
#include <string.h>
const char *greet(void)
{
#if SIZEOF_VOID_P == 8 && HAVE_strlcpy && HAVE_getline && HAVE_epoll_create1 && HAVE_LIB_m && HAVE_sys_epoll_h && HAVE_linux_types_h
#if !HAVE_arc4random_buf_no_such && !HAVE_LIB_no_such && !HAVE_no_such_h && !HAVE_gnu_libc_version_h
	return "found the truth";
#endif
#endif
	return "was lied to";
}
END
cat >greet-1.0/src/main.c <<'END'
#include <stdio.h>
const char *greet(void);
int main(void) { return printf("configure %s\n", greet()) < 0; }
END
chmod +x greet-1.0/configure
ok tar tar czf greet-1.0.tar.gz greet-1.0
rm -r greet-1.0
ok untar tar xzf greet-1.0.tar.gz
cd greet-1.0 || exit 1
PATH=$(dirname "$WHERRY"):$PATH
export PATH
ok configure env CC="wherry cc" ./configure
cp out ../configure.out
ok "make check" make check
says out "configure found the truth" "make check: $(cat ../configure.out)"
end
