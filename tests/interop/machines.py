#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""`wherry net serve` with Linux machines in QEMU: Debian's cloud kernel and busybox, emulated, behind a
stream or datagram socket. A machine gets its address by DHCP and SLAAC, pings, fetches from the host
and is fetched from; a second one on the same switch reaches the first.

usage: machines.py WHERRY CACHE [CASE...]

77 = cannot run here, with the reason."""
import gzip
import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "nested"))
import nested  # noqa: E402

MODULES = ["drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
           "drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "net/core/failover.ko",
           "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"]
SIZE = 32 << 20
DATA = hashlib.sha256(b"wherry").digest() * (SIZE // 32)
GREETING = b"from inside\n" * 20000
# The kernel hands test=NAME, port=PORT and peer=ADDRESS on as variables.
INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for m in MODULES; do insmod /lib/$m || echo "@ FAILED insmod $m"; done
say() { echo "@ $*"; }
check() { what=$1; shift; if "$@" >/tmp/out 2>&1; then say ok $what; else cat /tmp/out; say FAILED $what; fi; }
ip link set lo up; ip link set eth0 up
check dhcp udhcpc -i eth0 -n -q -t 20 -T 1 -s /dhcp
say address $(ip -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p')
check ping ping -c 3 -W 5 10.0.2.2
check big-ping ping -c 2 -s 4000 -W 5 10.0.2.2
for i in 1 2 3 4 5 6 7 8 9 10; do ip -6 addr show eth0 scope global | grep -q tentative || break; sleep 1; done
check ping6 ping6 -c 2 -W 5 fd77:6865:7272:7900::2
if [ -n "$peer" ]; then
	check peer-ping ping -c 2 -W 5 $peer
	check peer-fetch wget -q -O /tmp/greeting http://$peer:8080/greeting
	check peer-same cmp /tmp/greeting /www/greeting
else
	begin=$(cut -d' ' -f1 /proc/uptime | tr -d .)
	check fetch wget -q -O /tmp/data http://10.0.2.2:$port/data
	say fetched $(( ($(cut -d' ' -f1 /proc/uptime | tr -d .) - begin) * 10 )) ms
	check digest sh -c "sha256sum /tmp/data | grep -q $digest"
	check put sh -c "wget -q -O - --post-file /tmp/data http://10.0.2.2:$port/put | grep -q $digest"
	httpd -p 8080 -h /www
	say listens
	while ! [ -e /tmp/end ]; do sleep 0.2; [ -e /www/cgi-bin/ended ] && break; done
fi
say end
poweroff -f
"""
DHCP = """#!/bin/busybox sh
[ "$1" = bound ] || exit 0
ip addr add $ip/$mask dev eth0 && ip route add default via $router && echo nameserver $dns >/etc/resolv.conf
"""
END = "#!/bin/busybox sh\n/bin/busybox touch /www/cgi-bin/ended; echo Content-type: text/plain; echo; echo bye\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(DATA)

    def do_POST(self):
        self.reply(hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest().encode())

    def log_message(self, *_):
        pass


def archive(modules, path):
    a = nested.Initramfs()
    for folder in ("proc", "sys", "dev", "tmp", "etc"):
        a.folder(folder)
    a.file("init", INIT.replace("MODULES", " ".join(os.path.basename(m) for m in modules)).encode())
    a.file("dhcp", DHCP.encode())
    a.file("www/greeting", GREETING, 0o644)
    a.file("www/cgi-bin/end", END.encode())
    for source, target in [("/bin/busybox", "bin/busybox")] + [(m, "lib/" + os.path.basename(m)) for m in modules]:
        with open(source, "rb") as f:
            a.file(target, f.read())
    with gzip.open(path, "wb", 1) as f:
        f.write(a.finish())


class Machine:
    """One QEMU; its console's lines that begin with "@ " are collected as they come."""

    def __init__(self, name, vmlinuz, initrd, netdev, mac, words):
        self.name, self.lines, self.text, self.changed = name, [], [], threading.Condition()
        self.over = False
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "256", "-nodefaults", "-display",
             "none", "-no-reboot", "-serial", "stdio", "-kernel", vmlinuz, "-initrd", initrd] + netdev + [
             "-device", "virtio-net-pci,netdev=n,romfile=,mac=" + mac, "-append",
             "console=ttyS0 quiet loglevel=0 reboot=t panic=-1 mitigations=off tsc=reliable nokaslr " + words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            with self.changed:
                self.text.append(line)
                if "@ " in line:
                    self.lines.append(line[line.index("@ ") + 2:])
                self.changed.notify_all()
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def wait(self, begin, timeout=90):
        """The line that begins so."""
        with self.changed:
            found = self.changed.wait_for(lambda: self.over or any(li.startswith(begin) for li in self.lines), timeout)
            for line in self.lines:
                if line.startswith(begin):
                    return line
        raise AssertionError(f"{self.name}: {begin!r} never came{'' if found else ' in time'}:\n" + "\n".join(self.text[-40:]))

    def check(self):
        self.wait("end")
        bad = [li for li in self.lines if li.startswith("FAILED")]
        if bad:
            raise AssertionError(f"{self.name}: {bad}\n" + "\n".join(self.text[-60:]))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Serve:
    def __init__(self, wherry, folder, protocol):
        self.path = os.path.join(folder, "wire")
        ready_in, ready_out = os.pipe()
        self.log = os.path.join(folder, "log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [wherry, "net", "serve", "--listen", "unix:" + self.path, "--protocol", protocol, "--host-loopback",
                 "--verbose", "-p", "0:8080", "--ready-fd", str(ready_out)] + os.environ.get("SERVE_OPTIONS", "").split(), pass_fds=[ready_out], stderr=log)
        os.close(ready_out)
        line = os.read(ready_in, 100)
        os.close(ready_in)
        if line != b"ready\n":
            raise AssertionError("serve did not start: " + open(self.log).read())
        self.port = int(re.search(r"published .* on .*[: ](\d+)\n", open(self.log).read()).group(1))

    def fetch(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30).read()

    def stop(self):
        self.process.terminate()
        status = self.process.wait(10)
        if status or os.path.exists(self.path):
            raise AssertionError(f"serve ended with {status}, socket there: {os.path.exists(self.path)}")
        return open(self.log).read().strip().split("\n")[-1]


def case(name, protocol, second, tools):
    wherry, vmlinuz, initrd, port = tools
    begin, machines = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        serve = Serve(wherry, folder, protocol)
        local = os.path.join(folder, "local")
        netdev = {
            "qemu": ["-netdev", f"stream,id=n,server=off,addr.type=unix,addr.path={serve.path}"],
            "qemu-dgram": ["-netdev", f"dgram,id=n,local.type=unix,local.path={local},remote.type=unix,remote.path={serve.path}"],
            # vectors=0: QEMU 7.2 without KVM trips over MSI-X here.
            "vhost-user": ["-global", "virtio-net-pci.vectors=0", "-object", "memory-backend-memfd,id=m,size=256M,share=on", "-machine", "memory-backend=m",
                           "-chardev", f"socket,id=c,path={serve.path}", "-netdev", "vhost-user,id=n,chardev=c"]}[protocol]
        words = f"port={port} digest={hashlib.sha256(DATA).hexdigest()}"
        try:
            # A MAC that the gateway was not told.
            first = Machine("first", vmlinuz, initrd, netdev, "52:54:00:ab:cd:01", words)
            machines.append(first)
            first.wait("listens")
            if serve.fetch("greeting") != GREETING:
                raise AssertionError("what was fetched from the machine is not what is there")
            if second:
                address = first.wait("address").split()[1]
                machines.append(Machine("second", vmlinuz, initrd, netdev, "52:54:00:ab:cd:02", "peer=" + address))
                machines[1].check()
            serve.fetch("cgi-bin/end")
            first.check()
            milliseconds = int(first.wait("fetched").split()[1])
        finally:
            for m in machines:
                m.stop()
            if sys.exc_info()[0]:
                serve.process.kill()
                print(open(serve.log).read(), *(f"{m.name}: {m.lines}" for m in machines), sep="\n")
        last = serve.stop()
    print(f"{name}: ok, {time.monotonic() - begin:.1f} s; {SIZE >> 20} MiB fetched in {milliseconds} ms; {last}", flush=True)


def main():
    wherry, cache, cases = sys.argv[1], sys.argv[2], sys.argv[3:]
    if not shutil.which("qemu-system-x86_64"):
        nested.skip("no qemu-system-x86_64 (Debian: qemu-system-x86)")
    backends = subprocess.run(["qemu-system-x86_64", "-machine", "none", "-netdev", "help"], stdout=subprocess.PIPE,
                              text=True).stdout.split()
    if "stream" not in backends or "dgram" not in backends:
        nested.skip("this QEMU has no -netdev stream (7.2 has)")
    if not os.path.exists("/bin/busybox") or b"ld-linux" in open("/bin/busybox", "rb").read(4096):
        nested.skip("no static busybox (Debian: busybox-static)")
    vmlinuz, modules = nested.kernel(cache, MODULES)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        initrd = os.path.join(folder, "initramfs")
        archive(modules, initrd)
        for name, protocol, second in (("stream", "qemu", True), ("dgram", "qemu-dgram", False),
                                       ("vhost-user", "vhost-user", True)):
            if not cases or name in cases:
                case(name, protocol, second, (wherry, vmlinuz, initrd, server.server_address[1]))


if __name__ == "__main__":
    main()
