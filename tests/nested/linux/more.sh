# SPDX-License-Identifier: ISC
# vsock in Firecracker's convention, free pages that come back to the host, the power button by SIGTERM; then HyperKit's convention, and
# the serial port on a Unix socket, a pseudo-terminal and a log.
# TIMEOUT=200
failed=0
mkfifo /tmp/keys
exec 3<>/tmp/keys

# await PATTERN: in the guest's output
await()
{
	for i in $(seq 600); do
		grep -q "$1" /tmp/o && return 0
		kill -0 $monitor 2>/dev/null || break
		usleep 100000
	done
	echo "FAIL: $1 never came"
	cat /tmp/o
	exit 1
}
shared() { sed -n 's/^Shmem: *\([0-9]*\) kB/\1/p' /proc/meminfo; }

nested-sock echo /tmp/v_1024 &
wherry run --memory 256M --initrd /linux/initrd --append "console=ttyS0 quiet case=more" --net none --vsock /tmp/v,cid=77 \
	/linux/vmlinuz <&3 >/tmp/o 2>&1 &
monitor=$!
for i in $(seq 300); do [ -S /tmp/v ] && break; usleep 100000; done
if nested-sock pump /tmp/v 2048 "CONNECT 52"; then echo "ok vsock from the host"; else failed=1; fi
await @filled@
# What the monitor itself takes; RAM of the guest is a memfd and counts as RssShmem.
own=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$monitor/status)
if [ "${own:-9999}" -lt 3072 ]; then echo "ok the monitor takes $own KiB for a guest of 256 MiB"; else echo "FAIL: the monitor takes $own KiB"; failed=1; fi
full=$(shared)
echo one >&3
await @freed@
for i in $(seq 200); do
	[ $((full - $(shared))) -gt 40000 ] && break
	usleep 100000
done
back=$((full - $(shared)))
if [ $back -gt 40000 ]; then echo "ok $back KiB of 65536 came back"; else echo "FAIL: $back KiB came back"; failed=1; fi
echo two >&3
await @ready@
kill -TERM $monitor
wait $monitor
status=$?
cat /tmp/o
[ $status = 0 ] && grep -q "@guest@ more 0" /tmp/o || { echo "FAIL: status $status"; failed=1; }
[ ! -e /tmp/v ] || { echo "FAIL: the socket is still there"; failed=1; }
exit $failed
