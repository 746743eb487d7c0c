# SPDX-License-Identifier: ISC
# A Linux guest with two processors uses each device; its checks are guest/devices.sh.
# TIMEOUT=150
printf hello >/tmp/disk
truncate -s 4M /tmp/disk
truncate -s 1M /tmp/disk2
mkdir -p /tmp/web
echo "from the host" >/tmp/web/hello
httpd -p 127.0.0.1:8000 -h /tmp/web
wherry run --memory 256M --cpus 2 --initrd /linux/initrd --host-loopback --trace-exits \
	--append "console=ttyS0 quiet cpus=2 case=devices" \
	--disk data=/tmp/disk,format=raw --disk other=/tmp/disk2,format=raw,ro /linux/vmlinuz </dev/null >/tmp/o
status=$?
cat /tmp/o
[ $status = 0 ] && grep -q "@guest@ devices 0" /tmp/o
