# SPDX-License-Identifier: ISC
# Debian's full kernel: a shared folder by its 9P client; random state that is renewed in a clone (VM generation identifier).
# TIMEOUT=500
failed=0
[ -e /linux/vmlinuz-full ] || { echo "skipped: no full kernel here"; exit 77; }
mkdir /tmp/9p
echo "hello guest" >/tmp/9p/from-host
wherry run --memory 192M --initrd /linux/initrd-full --append "console=ttyS0 quiet case=p9" --net none -v /tmp/9p:/share /linux/vmlinuz-full \
	</dev/null >/tmp/9po 2>&1
grep -q "@guest@ p9 0" /tmp/9po || { echo "FAIL 9P"; failed=1; }
cat /tmp/9po
[ "$(cat /tmp/9p/from-guest)" = "hello host" ] || { echo "FAIL what the guest wrote"; failed=1; }
(cd /tmp/9p && md5sum -c big.sum) || { echo "FAIL the file of 3 MiB"; failed=1; }
[ ! -e /tmp/9p/many ] && [ "$(wc -c </tmp/9p/p3)" = 1048576 ] || { echo "FAIL the host's view"; failed=1; }
rm -rf /tmp/9p
exit $failed
