# SPDX-License-Identifier: ISC
# The serial port on a Unix socket with a log, on a pseudo-terminal, on the virtio console.
# TIMEOUT=200
failed=0
hello()
{
	wherry run --memory 128M --initrd /linux/initrd --append "$1 quiet case=hello" --net none --serial "$2" /linux/vmlinuz </dev/null
}
check() { if grep -q "@guest@ hello 0" $2; then echo "ok $1"; else echo "FAIL $1"; cat $2; failed=1; fi; }

hello console=ttyS0 unix=/tmp/s,log=/tmp/log >/tmp/o 2>&1 &
nested-sock cat /tmp/s >/tmp/seen
wait $!
check "Unix socket" /tmp/seen
check "log" /tmp/log
[ "$(head -c 8 /tmp/log)" = WHERRYL1 ] || failed=1
hello console=ttyS0 pty=/tmp/tty >/tmp/o 2>&1 &
monitor=$!
for i in $(seq 100); do [ -e /tmp/tty ] && break; usleep 50000; done
cat /tmp/tty >/tmp/seen2 2>/dev/null &
wait $monitor
check "pseudo-terminal" /tmp/seen2
[ ! -L /tmp/tty ] || { echo "FAIL: the link is still there"; failed=1; }
hello console=ttyS0 hvc >/tmp/seen3 2>/tmp/o
check "virtio console" /tmp/seen3
exit $failed
