# SPDX-License-Identifier: ISC
# A Linux guest of two processors under load, by its name: ps, logs, console, pause, stats, snapshot, clones by --from, the power button.
# TIMEOUT=500
failed=0
truncate -s 4M /tmp/ndisk
mkdir -p /tmp/m
chmod 700 /tmp/m
export WHERRY_MACHINES=/tmp/m
say() { echo "FAIL: $*"; failed=1; }

# await COMMAND... prints PATTERN
await()
{
	pattern=$1
	shift
	for i in $(seq 900); do
		"$@" 2>/dev/null | grep -q "$pattern" && return 0
		usleep 100000
	done
	say "$pattern never came from $*"
	"$@" | tail -20
	cat /tmp/no*
	exit 1
}
mkfifo /tmp/nkeys
exec 3<>/tmp/nkeys
wherry run --name vm --memory 128M --cpus 2 --initrd /linux/initrd --append "console=ttyS0 quiet case=named" \
	--disk data=/tmp/ndisk,format=raw /linux/vmlinuz <&3 >/tmp/no 2>&1 &
vm=$!
await @loaded@ wherry logs vm
wherry ps | grep -q "^vm  *running  *kvm .* vmlinuz" || say "ps: $(wherry ps)"
wherry run --name vm /linux/vmlinuz 2>&1 | grep -q "another machine has this name" || say "two of one name"
wherry stats vm | grep -q 'wherry_machine_memory_bytes{machine="vm"} 134217728' || say "stats"
wherry events vm >/tmp/events &
await '"running"' cat /tmp/events

# It stands still: its threads take no time.
busy() { cat /proc/$vm/task/*/stat | awk '{ n += $14 + $15 } END { print n }'; }
wherry pause vm || failed=1
wherry pause vm || failed=1
wherry ps | grep -q "^vm  *paused" || say "not paused"
sleep 1
before=$(busy)
sleep 2
after=$(busy)
[ $((after - before)) -lt 30 ] || say "it took $((after - before)) ticks while paused"
wherry resume vm || failed=1
wherry ps | grep -q "^vm  *running" || say "not running"

wherry snapshot vm /tmp/nsaved && echo "ok saved under load: $(ls -s /tmp/nsaved)" || failed=1
wherry snapshot vm /tmp/nsaved 2>&1 | grep -q "exists already" || say "an existing file"
wherry pause vm && wherry snapshot vm /tmp/paused && wherry resume vm && echo "ok saved while paused" || failed=1
rm -f /tmp/paused
cp /tmp/ndisk /tmp/ndisk1
cp /tmp/ndisk /tmp/ndisk2
(echo now; sleep 1) | wherry console vm >/tmp/seen
wait $vm || say "the saved one: status $?"
grep -q "@guest@ named 0" /tmp/seen || say "the console: $(tail -5 /tmp/seen)"
own=$(sed -n 's/.*@loaded@ generation //p' /tmp/seen | tr -d '\r')
for e in running paused resumed snapshot ended; do grep -q "\"$e\"" /tmp/events || say "no event $e"; done

for clone in 1 2; do
	[ $clone = 1 ] && lazy= || lazy=--lazy
	wherry run --name clone$clone $lazy --from /tmp/nsaved --disk data=/tmp/ndisk$clone,format=raw <&3 >/tmp/no$clone 2>&1 &
	eval "clone$clone=$!"
	await "clone$clone  *running" wherry ps
done
begin=$(date +%s)
(echo now; sleep 1) | wherry console clone1 >/tmp/seen1
wait $clone1 || say "clone 1: status $?"
grep -q "@guest@ named 0" /tmp/seen1 || say "clone 1: $(cat /tmp/seen1 /tmp/no1)"
line=$(grep @clone@ /tmp/seen1 | tr -d '\r')
echo "$line"
case $line in *"generation $own "*) say "the clone has the generation of the original" ;; esac
echo "$line" | grep -Eq "generation 0x[0-9A-F]{16} event +[1-9][0-9]* .*enabled.* cpus 2 " || say "no event: $line"
clock=$(echo "$line" | sed 's/.*clock //')
[ ${clock:-0} -ge $begin ] && [ $clock -le $(date +%s) ] || say "clock $clock, begun $begin"
(echo button; sleep 1) | wherry console clone2 >/tmp/seen2 &
await @ready@ wherry logs clone2
wherry stop clone2 && echo "ok stopped by the power button" || failed=1
wait $clone2 || say "clone 2: status $?"
grep -q @button@ /tmp/no2 || say "no button: $(tail -3 /tmp/no2)"
wherry kill clone2 2>&1 | grep -q "there is no machine" || say "a name that is free"

# Files that are none.
bad() { wherry run --from /tmp/bad --disk data=/tmp/ndisk1,format=raw 2>&1 | grep -q "$2" || say "$1: $(wherry run --from /tmp/bad 2>&1)"; }
head -c 100000 /tmp/nsaved >/tmp/bad
bad "cut off" "damaged or cut off"
cp /tmp/nsaved /tmp/bad
printf '\143' | dd of=/tmp/bad bs=1 seek=8 conv=notrunc 2>/dev/null
bad "version" "is of version 99; only"
cp /tmp/nsaved /tmp/bad
printf '\377' | dd of=/tmp/bad bs=1 seek=200 conv=notrunc 2>/dev/null
bad "damaged" "checksum"
wherry run --from /tmp/nsaved 2>&1 | grep -q "say the same options" || say "other devices"
rm -f /tmp/n*
exit $failed
