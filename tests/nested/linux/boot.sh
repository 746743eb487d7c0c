# SPDX-License-Identifier: ISC
# Debian's kernel boots to a shell on `wherry run`, and turns the machine off.
# TIMEOUT=120
wherry run --memory 256M --initrd /linux/initrd --append "console=ttyS0 quiet case=hello" /linux/vmlinuz </dev/null >/tmp/o
status=$?
cat /tmp/o
[ $status = 0 ] && grep -q "@guest@ hello 0" /tmp/o
