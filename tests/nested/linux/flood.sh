# SPDX-License-Identifier: ISC
# A reader that does not read: the guest waits, the monitor does not, and nothing is lost.
# TIMEOUT=400
failed=0
mkdir -p /tmp/sm
chmod 700 /tmp/sm
export WHERRY_MACHINES=/tmp/sm
mkfifo /tmp/slow
exec 4<>/tmp/slow
wherry run --name slow --memory 128M --initrd /linux/initrd --append "console=ttyS0 quiet case=flood" --net none /linux/vmlinuz >&4 2>/tmp/o </dev/null &
monitor=$!
for i in $(seq 400); do wherry logs slow 2>/dev/null | grep -q "@flood@" && break; usleep 100000; done
sleep 3 # longer than it takes to fill a pipe
if timeout 10 wherry ps | grep -q "^slow  *running"; then echo "ok it answers"; else echo "FAIL: no answer"; failed=1; fi
timeout 10 wherry pause slow && timeout 10 wherry resume slow && echo "ok it can be paused" || failed=1
cat <&4 >/tmp/flooded &
reader=$!
wait $monitor || { echo "FAIL: status $?"; failed=1; }
usleep 300000
kill $reader
n=$(tr -d '\r' </tmp/flooded | grep -c "^line [0-9]* of the flood, which is long enough to fill buffers$")
if [ "$n" = 1500 ]; then echo "ok all of it came"; else echo "FAIL: $n lines of 1500"; failed=1; fi
exit $failed
