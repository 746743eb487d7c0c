# SPDX-License-Identifier: ISC
# A Linux guest is saved while it writes to its disk, goes on, and two clones of it go on, too, with the right clock.
# TIMEOUT=240
failed=0
truncate -s 4M /tmp/disk
mkfifo /tmp/keys
exec 3<>/tmp/keys
wherry run --memory 128M --initrd /linux/initrd --append "console=ttyS0 quiet case=count" --snapshot /tmp/saved \
	--disk data=/tmp/disk,format=raw /linux/vmlinuz <&3 >/tmp/o 2>&1 &
monitor=$!

# await FILE PATTERN
await()
{
	for i in $(seq 800); do
		grep -q "$2" $1 && return
		usleep 100000
	done
	echo "FAIL: $2 never came"
	cat $1
	exit 1
}

await /tmp/o @counting@
kill -USR1 $monitor
await /tmp/o "saved the machine"
cp /tmp/disk /tmp/disk2
echo now >&3
wait $monitor || failed=1
cat /tmp/o
grep -q "@guest@ count 0" /tmp/o || { echo "FAIL the saved one"; failed=1; }
ls -ls /tmp/saved
for clone in 1 2; do
	before=$(date +%s)
	(sleep 1; echo now) | wherry run --disk data=/tmp/disk2,format=raw /tmp/saved >/tmp/o$clone 2>&1
	status=$?
	cat /tmp/o$clone
	clock=$(sed -n 's/.*counted .*clock \([0-9]*\), cpus 1.*/\1/p' /tmp/o$clone)
	after=$(date +%s)
	if [ $status = 0 ] && grep -q "@guest@ count 0" /tmp/o$clone && [ ${clock:-0} -ge $before ] && [ $clock -le $after ]; then
		echo "ok clone $clone"
	else
		echo "FAIL clone $clone: status $status, clock ${clock:-none}, from $before to $after"
		failed=1
	fi
done
head -c 100000 /tmp/saved >/tmp/short
wherry run --disk data=/tmp/disk2,format=raw /tmp/short 2>/tmp/e
grep -q "damaged or cut off" /tmp/e || { echo "FAIL truncated: $(cat /tmp/e)"; failed=1; }
wherry run /tmp/saved 2>/tmp/e
grep -q "say the same options" /tmp/e || { echo "FAIL other devices: $(cat /tmp/e)"; failed=1; }
exit $failed
