#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""A Linux machine with working KVM on any host: QEMU's TCG emulates a processor with SVM, Debian's
cloud kernel runs on it with kvm-amd, and what is tested runs in there. It is the reference for the
kvm engine: correct, only slow; a boot takes two seconds. No root, no virtualisation, no network
(but once for the kernel package, which is kept in the cache).

    nested.py --cache DIR [--file HOST[:GUEST]]... CASE.sh...

Each CASE.sh is run by busybox sh in one machine, in order, with /cases as its folder; its exit status
is its result (77: skipped). A case may set TIMEOUT=seconds in a comment. Exit status: 0, 1 = a case
failed, 77 = cannot run here, with the reason.
"""
import argparse
import glob
import lzma
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

MODULES = ["virt/lib/irqbypass.ko", "arch/x86/kvm/kvm.ko", "arch/x86/kvm/kvm-amd.ko", "drivers/net/tun.ko"]
# What a Linux guest inside loads, in this order; a kernel may have some of them built in.
GUEST_MODULES = ["drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
                 "drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "net/core/failover.ko",
                 "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko", "drivers/block/virtio_blk.ko",
                 "drivers/char/virtio_console.ko", "drivers/char/hw_random/virtio-rng.ko", "drivers/virtio/virtio_balloon.ko",
                 "net/vmw_vsock/vsock.ko", "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko",
                 "net/vmw_vsock/vmw_vsock_virtio_transport.ko", "drivers/input/evdev.ko", "drivers/acpi/button.ko"]
# What Debian's full kernel has besides.
FULL_MODULES = ["fs/netfs/netfs.ko", "fs/fscache/fscache.ko", "net/9p/9pnet.ko", "net/9p/9pnet_virtio.ko", "fs/9p/9p.ko"]
CONSOLE_MARK = "@nested@"
# One line a case on the console: "@nested@ name status milliseconds"; output comes before it.
INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /tmp; mount -t tmpfs tmp /tmp; mount -t devpts pts /dev/pts
ip link set lo up
for m in irqbypass kvm kvm-amd tun; do insmod /lib/$m.ko || echo "@nested@ insmod-$m 1 0"; done
export PATH=/bin HOME=/tmp WHERRY_NESTED=1
cd /cases
for c in $(cat /cases/list); do
	t=$(sed -n 's/^# TIMEOUT=//p' $c.sh); begin=$(cut -d. -f1,2 /proc/uptime | cut -d' ' -f1 | tr -d .)
	timeout ${t:-60} sh ./$c.sh </dev/null >/tmp/out 2>&1; status=$?
	end=$(cut -d' ' -f1 /proc/uptime | tr -d .)
	cat /tmp/out
	echo "@nested@ $c $status $(( (end - begin) * 10 ))"
done
echo "@nested@ end 0 0"
reboot -f
"""


# A Linux guest: the kernel's command line names the script in /cases that it runs ("case=NAME").
GUEST_INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /tmp; mount -t tmpfs tmp /tmp; mount -t devpts pts /dev/pts
ip link set lo up
export PATH=/bin HOME=/tmp
for m in $(cat /lib/order); do insmod /lib/$m || echo "@guest@ insmod-$m 1"; done
for w in $(cat /proc/cmdline); do case $w in case=*) c=${w#case=} ;; esac; done
if [ -n "$c" ]; then
	sh /cases/$c.sh </dev/ttyS0 2>&1
	echo "@guest@ $c $?"
	poweroff -f
fi
exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1
"""


def skip(why):
    print("SKIP: " + why)
    sys.exit(77)


def run(command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more).stdout


def unpack(deb, cache, modules, optional=()):
    """The kernel and its modules, wherever this release keeps them, not compressed."""
    source = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
    wanted = {"vmlinuz"} | {os.path.basename(m) for m in modules}
    modules = list(modules) + list(optional)
    with tarfile.open(fileobj=source.stdout, mode="r|") as tar:
        for member in tar:
            name = "vmlinuz" if member.name.startswith("./boot/vmlinuz") else next(
                (os.path.basename(m) for m in modules if re.search(re.escape("/kernel/" + m) + r"(\.xz)?$", member.name)), None)
            if name and member.isfile():
                data = tar.extractfile(member).read()
                with open(os.path.join(cache, name), "wb") as f:
                    f.write(lzma.decompress(data) if member.name.endswith(".xz") else data)
                wanted.discard(name)
    source.stdout.close()
    if source.wait() or wanted:
        raise OSError(f"the kernel package lacks {', '.join(sorted(wanted)) or 'its end'}")


def kernel(cache, modules=MODULES, optional=(), meta="linux-image-cloud-amd64"):
    """Paths of vmlinuz and the modules, fetched on first use; a cache is for one list of modules. What is there of the
    optional ones lies beside them."""
    done = os.path.join(cache, f"complete{len(optional) or ''}")
    result = os.path.join(cache, "vmlinuz"), [os.path.join(cache, os.path.basename(m)) for m in modules]
    if not all(map(os.path.exists, [done, result[0]] + result[1])):
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if not shutil.which(tool):
                skip(f"no {tool} here to get a kernel with")
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(cache)
        try:
            depends = run(["apt-cache", "depends", meta])
            package = re.search(r"Depends: (linux-image-\S+)", depends).group(1)
            run(["apt-get", "-o", "APT::Sandbox::User=", "download", package], cwd=cache)
            [deb] = glob.glob(os.path.join(cache, "*.deb"))
            unpack(deb, cache, modules, optional)
            os.unlink(deb)
        except (subprocess.CalledProcessError, OSError, ValueError, AttributeError) as e:
            skip(f"no {meta}: {getattr(e, 'stderr', '') or e}".strip())
        open(done, "w").close()
    return result


class Initramfs:
    """A cpio archive ("newc") in memory."""

    def __init__(self):
        self.data, self.count, self.folders = bytearray(), 0, set()

    def entry(self, name, mode, content=b""):
        self.count += 1
        raw = name.encode() + b"\0"
        head = "070701" + "".join(f"{v:08x}" for v in (
            self.count, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0))
        self.data += head.encode() + raw
        self.data += bytes(-len(self.data) % 4)
        self.data += content
        self.data += bytes(-len(self.data) % 4)

    def folder(self, path):
        if path and path not in self.folders:
            self.folder(os.path.dirname(path))
            self.folders.add(path)
            self.entry(path, 0o040755)

    def file(self, path, content, mode=0o755):
        path = path.lstrip("/")
        self.folder(os.path.dirname(path))
        self.entry(path, 0o100000 | mode, content)

    def finish(self):
        self.entry("TRAILER!!!", 0)
        return bytes(self.data)


def guest_initramfs(cache, files, cases):
    """What a Linux guest inside boots with."""
    a = Initramfs()
    for folder in ("proc", "sys", "dev", "tmp", "etc", "mnt"):
        a.folder(folder)
    a.file("init", GUEST_INIT.encode())
    order = [n for n in map(os.path.basename, GUEST_MODULES + FULL_MODULES) if os.path.exists(os.path.join(cache, n))]
    a.file("lib/order", "\n".join(order).encode())
    for source, target in [("/bin/busybox", "bin/busybox")] + [(os.path.join(cache, n), "lib/" + n) for n in order] + files:
        with open(source, "rb") as f:
            a.file(target, f.read())
    for case in cases:
        with open(case, "rb") as f:
            a.file("cases/" + os.path.basename(case), f.read())
    return a.finish()


def initramfs(modules, files, cases, more=()):
    a = Initramfs()
    for folder in ("proc", "sys", "dev", "tmp", "etc"):
        a.folder(folder)
    a.file("init", INIT.encode())
    a.file("etc/passwd", b"root::0:0::/tmp:/bin/sh\nnobody::65534:65534::/tmp:/bin/sh\n", 0o644)
    for source, target in [("/bin/busybox", "bin/busybox")] + [(m, "lib/" + os.path.basename(m)) for m in modules] + files:
        with open(source, "rb") as f:
            a.file(target, f.read())
    for target, content in more:
        a.file(target, content)
    for case in cases:
        with open(case, "rb") as f:
            a.file("cases/" + os.path.basename(case), f.read())
    names = [os.path.basename(c).removesuffix(".sh") for c in cases]
    a.file("cases/list", ("\n".join(names) + "\n").encode())
    return a.finish(), names


def boot(vmlinuz, archive, memory, timeout, more=()):
    """Console output of the whole life of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "initramfs")
        with gzip.open(path, "wb", 1) as f:
            f.write(archive)
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", str(memory),
                   "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
                   "-kernel", vmlinuz, "-initrd", path, "-append",
                   "console=ttyS0 quiet loglevel=0 reboot=t panic=-1 mitigations=off tsc=reliable nokaslr"] + list(more)
        qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output, _ = qemu.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            qemu.kill()
            output, _ = qemu.communicate()
            output += b"\nthe machine took too long\n"
    return output.decode(errors="replace").replace("\r", "")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cache", required=True)
    p.add_argument("--file", action="append", default=[])
    p.add_argument("--guest-file", action="append", default=[], help="HOST[:GUEST], for the Linux guest inside")
    p.add_argument("--guest-case", action="append", default=[], help="script that the Linux guest inside can run; "
                   "with any of them /linux/vmlinuz and /linux/initrd are there")
    p.add_argument("--full", action="store_true", help="the same with Debian's full kernel, as /linux/vmlinuz-full and "
                   "initrd-full; without them where it is not to be had")
    p.add_argument("--qemu", action="append", default=[], help="another argument for QEMU")
    p.add_argument("--memory", type=int, default=768)
    p.add_argument("--timeout", type=int, default=240)
    p.add_argument("-v", "--verbose", action="store_true")
    p.add_argument("cases", nargs="+")
    args = p.parse_args()
    if not shutil.which("qemu-system-x86_64"):
        skip("no qemu-system-x86_64 (Debian: qemu-system-x86)")
    if not os.path.exists("/bin/busybox") or b"ld-linux" in open("/bin/busybox", "rb").read(4096):
        skip("no static busybox (Debian: busybox-static)")
    vmlinuz, modules = kernel(args.cache, optional=GUEST_MODULES if args.guest_case else ())
    files, guest_files = ([(f.partition(":")[0], f.partition(":")[2] or "bin/" + os.path.basename(f)) for f in wanted]
                          for wanted in (args.file, args.guest_file))
    more = []
    if args.guest_case:
        files += [(vmlinuz, "linux/vmlinuz")]
        more += [("linux/initrd", guest_initramfs(args.cache, guest_files, args.guest_case))]
    if args.full:
        try:
            full, _ = kernel(args.cache + "-full", [], GUEST_MODULES + FULL_MODULES, "linux-image-amd64")
            files += [(full, "linux/vmlinuz-full")]
            more += [("linux/initrd-full", guest_initramfs(args.cache + "-full", guest_files, args.guest_case))]
        except SystemExit:
            pass  # it said why
    archive, names = initramfs(modules, files, args.cases, more)
    begin = time.monotonic()
    output = boot(vmlinuz, archive, args.memory, args.timeout, args.qemu)
    text, failed, seen = [], 0, set()
    for line in output.split("\n"):
        m = re.fullmatch(CONSOLE_MARK + r" (\S+) (\d+) (\d+)", line)
        if not m:
            text.append(line)
            continue
        name, status = m.group(1), int(m.group(2))
        seen.add(name)
        if name != "end":
            word = "ok" if status == 0 else "skip" if status == 77 else f"FAILED ({status})"
            print(f"{name}: {word}, {m.group(3)} ms")
        failed += status not in (0, 77)
        if args.verbose or status:
            print("\n".join("    " + t for t in text if t))
        text = []
    for name in names + ["end"]:
        if name not in seen:
            failed += 1
            print(f"{name}: never came")
    if "end" not in seen:
        print("\n".join("    " + t for t in text[-40:]))
    print(f"nested machine: {time.monotonic() - begin:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
