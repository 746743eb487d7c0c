# SPDX-License-Identifier: ISC
# In a Linux guest whose kernel has 9P: a folder of the host's, read and written as programs do.
failed=0
check()
{
	what=$1
	shift
	if "$@" >/tmp/o 2>&1; then echo "ok $what"; else echo "FAIL $what: $(cat /tmp/o)"; failed=1; fi
}
try() { check "$1" sh -c "set -e; cd /mnt/d; $2"; }

mkdir -p /mnt/d
check mount mount -t 9p -o trans=virtio,version=9p2000.L,msize=131072 /share /mnt/d || exit 1
try "what the host wrote" '[ "$(cat from-host)" = "hello guest" ]'
try "a file of 3 MiB and odd size" 'dd if=/dev/urandom of=big bs=3145729 count=1; sync; a=$(md5sum <big); echo 3 >/proc/sys/vm/drop_caches; [ "$(md5sum <big)" = "$a" ]; md5sum big >big.sum'
try "append and truncate" 'echo one >f; echo two >>f; [ "$(wc -c <f)" = 8 ]; truncate -s 5 f; [ "$(wc -c <f)" = 5 ]; dd if=/dev/zero of=f bs=1 seek=1000 count=1 conv=notrunc; [ "$(wc -c <f)" = 1001 ]'
try "folders of many names" 'mkdir many; for i in $(seq 300); do echo $i >many/a-rather-long-name-so-that-a-listing-takes-several-messages-$i; done; [ "$(ls many | wc -l)" = 300 ]; rm -r many; [ ! -e many ]'
try "renames, over others and across folders" 'mkdir a b; echo x >a/x; echo y >b/y; mv a/x b/y; [ "$(cat b/y)" = x ]; mv b a/c; [ "$(cat a/c/y)" = x ]; rm -r a'
try "links" 'echo l >l1; ln l1 l2; [ "$(stat -c %h l1)" = 2 ]; ln -s l1 s; [ "$(readlink s)" = l1 ]; [ "$(cat s)" = l ]; rm l1; [ "$(cat l2)" = l ]'
try "an open file lives on without a name" 'exec 5<>gone; echo here >&5; rm gone; [ ! -e gone ]; exec 5>&-'
try "modes and times" 'touch m; chmod 640 m; [ "$(stat -c %a m)" = 640 ]; touch -d "2020-01-02 03:04:05" m; [ "$(stat -c %Y m)" = $(date -d "2020-01-02 03:04:05" +%s) ]'
try "errors" '! cat none; ! mkdir f; ! rmdir /mnt/d/..; ! ln f l2'
try "a name that is no ASCII" 'echo u >"n\303\244me"; [ "$(ls | grep -c me)" -ge 1 ]'
try "several at once" 'for i in 1 2 3 4 5; do dd if=/dev/zero of=p$i bs=64k count=16 & done; wait; [ "$(cat p1 p2 p3 p4 p5 | wc -c)" = 5242880 ]'
try "nothing outside" '! cat ../../../etc/passwd-of-host; ln -s /etc/passwd out; cat out | grep -q . || true; ! [ -e /mnt/d/../host ]'
echo "hello host" >/mnt/d/from-guest
check sync sync
check unmount umount /mnt/d
exit $failed
