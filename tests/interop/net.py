#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""`wherry net`: the gateway against the kernel's TCP/IP behind a tap, in namespaces.

usage: net.py WHERRY [CASE...]

The test makes a network namespace of its own first: that is the "host", so that ports, name server and
addresses are free and nothing of the machine is touched."""
import hashlib
import json
import os
import re
import select
import signal
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

GATEWAY4, GATEWAY6 = "10.0.2.2", "fd77:6865:7272:7900::2"
OUTSIDE4, OUTSIDE6 = "198.51.100.1", "2001:db8::1"  # on the host's loopback interface
NAME_ADDRESS = "192.0.2.77"
PORT = 7000


def fail(text):
    raise AssertionError(text)


def pattern(size):
    block = hashlib.sha256(b"wherry").digest() * 2048
    return (block * (size // len(block) + 1))[:size]


# ---- the host's servers ----

def tcp_serve(connection):
    """One letter and a number: e = echo, r = count and tell a digest at the end, s = send so many."""
    with connection as c, c.makefile("rb") as f:
        line = f.readline().split()
        if not line:
            return
        if line[0] == b"e":
            c.sendall(f.readline())
        elif line[0] == b"s":
            c.sendall(pattern(int(line[1])))
        elif line[0] == b"r":
            h = hashlib.sha256()
            while data := f.read1(1 << 20):
                h.update(data)
            c.sendall(h.hexdigest().encode())


def tcp_server(family):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("", PORT))
    s.listen(1024)
    while True:
        threading.Thread(target=tcp_serve, args=(s.accept()[0],), daemon=True).start()


def udp_server(family):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("", PORT))
    while True:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)


def name_server():
    """Answers every A question with NAME_ADDRESS, others with nothing."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 53))
    while True:
        q, peer = s.recvfrom(4096)
        end = 12
        while q[end]:
            end += q[end] + 1
        question = q[12:end + 5]
        is_a = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(NAME_ADDRESS) if is_a else b""
        s.sendto(q[:2] + b"\x81\x80\0\1" + struct.pack(">H", is_a) + b"\0\0\0\0" + question + answer, peer)


# ---- what runs inside ----

def connect(address):
    return socket.create_connection((address, PORT), timeout=20)


def in_ping(address):
    six = ":" in address
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM,
                      socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    s.settimeout(5)
    s.sendto(struct.pack(">BBHHH", 128 if six else 8, 0, 0, 0, 7) + b"x" * 1200, (address, 0))
    reply = s.recv(4096)
    if reply[0] != (129 if six else 0) or reply[8:] != b"x" * 1200:
        fail(f"ping {address}: {reply[:16]}")


def in_up(address, size):
    data = pattern(size)
    with connect(address) as c:
        c.sendall(b"r 0\n" + data)
        c.shutdown(socket.SHUT_WR)  # half-close: the answer comes on the other half
        if c.makefile("rb").read().decode() != hashlib.sha256(data).hexdigest():
            fail(f"{size} bytes to {address} came out otherwise")


def in_down(address, size):
    with connect(address) as c:
        c.sendall(b"s %d\n" % size)
        data = c.makefile("rb").read()
        if data != pattern(size):
            fail(f"{size} bytes from {address}: {len(data)} came, or others")


def in_many(address, count):
    errors = []

    def worker(n):
        try:
            for i in range(n):
                with connect(address) as c:
                    c.sendall(b"e\n%d\n" % i)
                    if c.makefile("rb").read() != b"%d\n" % i:
                        fail("another echo")
        except Exception as e:  # reported by the caller
            errors.append(e)
    threads = [threading.Thread(target=worker, args=(count // 16,)) for _ in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        fail(f"{len(errors)} of 16 clients: {errors[0]!r}")


def in_udp(address):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    for size in (0, 1, 1400, 1472, 1473, 8000, 60000):
        s.sendto(pattern(size), (address, PORT))
        if s.recv(65536) != pattern(size):
            fail(f"datagram of {size} bytes")
    # A burst goes on in fewer calls; every datagram keeps its bounds and its place.
    sent = [pattern(size)[n:] for n in range(12) for size in (500, 500, 500, 480, 700)]
    for d in sent:
        s.sendto(d, (address, PORT))
    if [s.recv(65536) for _ in sent] != sent:
        fail("a burst of datagrams")


def in_udp_bulk(address):
    """Many datagrams in one call (UDP_SEGMENT), which cross the tap in one frame; the answers come as they like."""
    def frames():
        with open("/proc/net/dev") as f:
            return next(int(line.split()[10]) for line in f if line.strip().startswith("eth0:"))
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((address, PORT))
    before, count = frames(), 0
    for size, segment in (12345, 1000), (40 * 1400, 1400), (1401, 1400), (999, 333), (20, 20):
        try:
            s.setsockopt(socket.IPPROTO_UDP, 103, segment)
        except OSError:
            print("skipped: udp_bulk: a kernel without UDP_SEGMENT")
            return
        data = pattern(size)
        want = [data[i:i + segment] for i in range(0, size, segment)]
        count += len(want)
        s.send(data)
        for datagram in want:
            if s.recv(65536) != datagram:
                fail(f"{size} bytes in datagrams of {segment} did not come back as they were")
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 2) and frames() - before >= count:
        fail(f"{count} datagrams crossed the tap as {frames() - before} frames")


def in_all(gateway4, gateway6):
    for address in gateway4, gateway6:
        in_ping(address)
    for address in gateway4, gateway6, OUTSIDE4, OUTSIDE6:
        in_udp(address)
        in_up(address, 16 << 20)
        in_down(address, 16 << 20)
    in_many(gateway4, 800)


def in_name():
    found = socket.getaddrinfo("some.name.test", 80, socket.AF_INET, socket.SOCK_STREAM)
    if found[0][4][0] != NAME_ADDRESS:
        fail(str(found))


def in_control(gateway, outside):
    """Goes on at each line of standard input."""
    threading.Thread(target=tcp_server, args=(socket.AF_INET,), daemon=True).start()
    print("denied" if socket.socket().connect_ex((outside, PORT)) == 111 else "?", flush=True)
    sys.stdin.readline()
    with connect(outside) as c:
        c.sendall(b"r 0\n")
        print("connected", flush=True)
        sys.stdin.readline()
        print(socket.gethostbyname("db.test"), flush=True)
        sys.stdin.read()


def in_name_rules(outside):
    """Only what was resolved by an allowed name is reached."""
    def reach():
        return socket.socket().connect_ex((outside, PORT))
    if reach() != 111:
        fail("reached without its name")
    for name in "web.test", "x.dev.test":
        if socket.gethostbyname(name) != outside:
            fail(name)
    if reach():
        fail("not reached")
    try:
        socket.gethostbyname("bad.dev.test")
        fail("a denied name was found")
    except socket.gaierror:
        pass
    if socket.gethostbyaddr("10.0.2.2")[0] != "gateway.internal":
        fail("the gateway's name")


def in_forwards(path_of_udp):
    """10.0.2.2 leads to the host where it was said, and nowhere else."""
    for port in 7001, 7002:
        with socket.create_connection((GATEWAY4, port), timeout=20) as c:
            c.sendall(b"e\nhello\n")
            if c.makefile("rb").read() != b"hello\n":
                fail(f"port {port}")
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((GATEWAY4, 7003))  # takes answers from there only
    s.send(b"x")
    if s.recv(10) != b"x" or socket.socket().connect_ex((GATEWAY4, PORT)) != 111:
        fail("UDP, or the host's loopback is open")


def in_proxy(address):
    """Requests to ports 80 and 443 outside come out at the proxy."""
    def get(port, text):
        with socket.create_connection((address, port), timeout=20) as c:
            c.sendall(text)
            return c.makefile("rb").read()
    socket.gethostbyname("web.test")
    if get(80, b"GET /x HTTP/1.0\r\n\r\n") != b"HTTP/1.0 200 OK\r\n\r\nGET http://web.test/x HTTP/1.0":
        fail("port 80")
    if get(443, b"e\nhello\n") != b"hello\n":
        fail("port 443")


def in_late(flag):
    """Listens only when the command of --activate has run."""
    print("up", flush=True)
    while not os.path.exists(flag):
        time.sleep(0.05)
    threading.Thread(target=tcp_server, args=(socket.AF_INET,), daemon=True).start()
    sys.stdin.read()


def in_loopback_server():
    """The TCP server, on 127.0.0.1 only."""
    s = socket.create_server(("127.0.0.1", PORT), backlog=1024)
    print("up", flush=True)
    while True:
        c, peer = s.accept()
        if peer[0] != "127.0.0.1":
            fail(f"a client from {peer}")
        threading.Thread(target=tcp_serve, args=(c,), daemon=True).start()


def in_server(sockets_ready):
    """For published ports: the same servers inside."""
    for f in tcp_server, udp_server:
        threading.Thread(target=f, args=(socket.AF_INET,), daemon=True).start()
    time.sleep(0.3)
    print(sockets_ready, flush=True)
    sys.stdin.read()


# ---- cases ----

class Net:
    def __init__(self, wherry):
        self.wherry = wherry
        self.me = [sys.executable, os.path.abspath(__file__)]

    def run(self, *options, command, timeout=100, prefix=()):
        p = subprocess.run([*prefix, self.wherry, "net", "run", *options, "--", *command], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        return p.returncode, p.stdout

    def inside(self, what, *options, prefix=(), fails=None):
        status, out = self.run(*options, command=[*self.me, "--inside", what], prefix=prefix)
        if fails and status and fails in out:
            return
        if status or fails:
            fail(f"status {status}: {out[-1500:]}")


def case_status(n):
    for want, command in ((0, ["true"]), (7, ["sh", "-c", "exit 7"]), (137, ["sh", "-c", "kill -9 $$"]),
                          (127, ["/nonexistent"]), (126, ["/etc/hostname"])):
        status, out = n.run(command=command)
        if status != want:
            fail(f"{command}: {status} instead of {want}: {out}")
    before = open("/etc/resolv.conf").read()
    status, out = n.run(command=["cat", "/etc/resolv.conf"])
    if "nameserver 10.0.2.3" not in out or open("/etc/resolv.conf").read() != before:
        fail(f"resolv.conf: {out}")


def case_refusals(n):
    for options, pattern_ in ((["--mtu", "9"], "mtu"), (["--netns", "1"], "attach"), (["-p", "x"], "-p x"),
                              (["--dns", "nobody"], "address"), (["-i", "a/b"], "a/b")):
        status, out = n.run(*options, command=["true"])
        if status != 125 or pattern_ not in out:
            fail(f"{options}: {status}: {out}")
    if n.run("-p", f"{PORT}:80", command=["true"])[0] != 125:
        fail("a taken port was published")


def case_traffic(n):
    n.inside(f"in_all({GATEWAY4!r}, {GATEWAY6!r})", "--host-loopback")


def case_udp_bulk(n):
    n.inside(f"in_udp_bulk({OUTSIDE4!r})")
    n.inside(f"in_udp_bulk({OUTSIDE6!r})")


def case_large_mtu(n):
    n.inside(f"in_all({GATEWAY4!r}, {GATEWAY6!r})", "--host-loopback", "--mtu", "65520")


def case_small_mtu(n):
    n.inside(f"in_all({GATEWAY4!r}, {GATEWAY6!r})", "--host-loopback", "--mtu", "1280")


def case_names(n):
    n.inside("in_name()", "--dns", "127.0.0.1")


def case_name_rules(n):
    n.inside(f"in_name_rules({OUTSIDE4!r})", "--name", f"web.test={OUTSIDE4}", "--name", f"*.dev.test={OUTSIDE4}",
             "--deny", "bad.dev.test", "--allow", f"web.test:{PORT}/tcp", "--deny", "*")


def case_dhcp(n):
    """A client of others: busybox's."""
    if subprocess.run(["busybox", "udhcpc", "--help"], capture_output=True).returncode not in (0, 1):
        return "no busybox with udhcpc"
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script")
        with open(script, "w") as f:
            f.write("#!/bin/sh\n[ $1 = bound ] && echo got $ip $router $dns $ntpsrv $mtu $lease / $search\nexit 0\n")
        os.chmod(script, 0o755)
        mac = ["sh", "-c", "ip link set eth0 address 02:00:00:00:00:77; "
               f"busybox udhcpc -f -n -q -i eth0 -s {script} -O search -O ntpsrv -O mtu"]
        status, out = n.run("-r", "--ntp", "192.0.2.123", "--search", "a.test b.test", "--lease",
                            "02:00:00:00:00:77=10.0.2.77", command=mac)
        if status or "got 10.0.2.77 10.0.2.2 10.0.2.3 192.0.2.123 1500 3600 / a.test b.test" not in out:
            fail(f"{status}: {out}")


def case_dhcp_clients(n):
    """Other clients, of both versions: ISC's dhclient, and dhcpcd."""
    os.environ["PATH"] += ":/sbin:/usr/sbin"
    tools = [t for t in ("dhclient", "dhcpcd") if shutil.which(t)]
    if not tools:
        return "neither dhclient nor dhcpcd"
    with tempfile.TemporaryDirectory() as folder:
        script = os.path.join(folder, "script")
        with open(script, "w") as f:
            f.write(f"#!/bin/sh\nenv | grep -E '^(reason|new_|nd)' >>{folder}/$reason\nexit 0\n")
        os.chmod(script, 0o755)
        with open(os.path.join(folder, "conf"), "w") as f:
            f.write("option domain_name_servers, domain_name, domain_search, ntp_servers\n"
                    "option dhcp6_name_servers, dhcp6_domain_search\nnoipv6rs\niaid 1\nia_na 1\n")
        for tool in tools:
            for version, want in (("4", ("new_ip_address=10.0.2.15", "new_routers=10.0.2.2", "new_domain_name_servers=10.0.2.3",
                                         "new_ntp_servers=192.0.2.123", "new_domain_search=a.test")),
                                  ("6", (f"fd77:6865:7272:7900::15", f"new_dhcp6_name_servers=fd77:6865:7272:7900::3", "new_dhcp6_domain_search=a.test"))):
                if tool == "dhclient":
                    command = f"dhclient -{version} -1 -sf {script} -lf {folder}/lease -pf {folder}/pid -cf /dev/null eth0; kill $(cat {folder}/pid)"
                else:
                    command = (f"mkdir -p {folder}/db {folder}/run; mount --bind {folder}/db /var/lib/dhcpcd && mount --bind {folder}/run /run && "
                               f"timeout 20 dhcpcd -{version} -1 -B -t 15 -f {folder}/conf -c {script} --noarp eth0")
                for name in os.listdir(folder):
                    if name.isupper() or name[:-1].isupper():
                        os.unlink(os.path.join(folder, name))
                # Duplicate address detection of the interface's own address is over when the client asks from it.
                settle = "ip addr flush dev eth0 scope global; while ip -6 addr show dev eth0 | grep -q tentative; do :; done; "
                status, out = n.run("-r", "--ntp", "192.0.2.123", "--search", "a.test", command=["sh", "-c", settle + command], timeout=60)
                said = ""
                for reason in ("BOUND", "BOUND6", "REBOOT"):
                    if os.path.exists(os.path.join(folder, reason)):
                        said += open(os.path.join(folder, reason)).read()
                if missing := [w for w in want if w not in said]:
                    fail(f"{tool} -{version}: {missing} is not in {said!r}; {status}: {out}")


def case_forwards(n):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "server")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(8)
        threading.Thread(target=lambda: tcp_serve(server.accept()[0]), daemon=True).start()
        n.inside("in_forwards(0)", "--forward", f"7001=127.0.0.1:{PORT}", "--forward", f"7002=unix:{path}",
                 "--forward", f"7003=127.0.0.1:{PORT}/udp")


def proxy_server(s):
    """An HTTP proxy of the simplest kind: echoes request lines, and CONNECT leads to our TCP server."""
    while True:
        c = s.accept()[0]
        line = c.makefile("rb", buffering=0).readline()
        rest = b""
        while b"\r\n\r\n" not in b"\r\n" + rest:
            rest += c.recv(1)
        if line.startswith(b"CONNECT web.test:443 "):
            c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=tcp_serve, args=(c,), daemon=True).start()
        else:
            c.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + line.strip())
            c.close()


def case_proxy(n):
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(8)
    threading.Thread(target=proxy_server, args=(s,), daemon=True).start()
    url = f"http://me:secret@localhost:{s.getsockname()[1]}/"
    n.inside("in_proxy('198.51.100.99')", "--proxy", url, "--name", "web.test=198.51.100.99")
    kept = dict(os.environ)
    try:
        os.environ.update(http_proxy=url, https_proxy=url, no_proxy="localhost, 198.51.100.0/24")
        n.inside(f"[fail('went through') for p in (80, 443) if socket.socket().connect_ex(({OUTSIDE4!r}, p)) != 111]",
                 "--proxy", "env")
        if n.run("--proxy", "https://a", command=["true"])[0] != 125:
            fail("a proxy with TLS was taken")
    finally:
        os.environ.clear()
        os.environ.update(kept)


def case_activate(n):
    """The first client starts what it wants to talk to, through a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path, flag = os.path.join(folder, "web"), os.path.join(folder, "flag")
        p = subprocess.Popen([n.wherry, "net", "run", "-p", f"unix:{path}:{PORT}", "--activate", f"touch {flag}", "--",
                              *n.me, "--inside", f"in_late({flag!r})"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            if p.stdout.readline() != b"up\n" or os.path.exists(flag):
                fail("it began too soon")
            with socket.socket(socket.AF_UNIX) as c:
                c.settimeout(30)
                c.connect(path)
                c.sendall(b"e\nhello\n")
                if c.makefile("rb").read() != b"hello\n":
                    fail("the first client was not served")
        finally:
            p.stdin.close()
            p.wait(20)
        if p.returncode or os.path.exists(path):
            fail(f"status {p.returncode}, or the socket is left")


def case_closed(n):
    """Loopback of the host and everything outside are closed when nothing else is said."""
    n.inside("[fail(a) for a in (GATEWAY4, GATEWAY6) if socket.socket(socket.AF_INET6 if ':' in a else "
             "socket.AF_INET).connect_ex((a, PORT)) != 111]")
    n.inside("[fail('out') for a in [OUTSIDE4] if not socket.socket().connect_ex((a, PORT))]", "--no-outbound")


def case_publish(n):
    p = subprocess.Popen([n.wherry, "net", "run", "--verbose", "-p", "0:7000", "-p", "*:0:7000/udp", "--",
                          *n.me, "--inside", "in_server('up')"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        ports = []
        while len(ports) < 2:
            line = p.stderr.readline() or fail("it ended early")
            ports += re.findall(r"published .* on .*[: ](\d+)\n", line)
        if p.stdout.readline().strip() != "up":
            fail("the server did not start")
        global PORT
        kept, PORT = PORT, int(ports[0])
        in_up("127.0.0.1", 16 << 20)
        in_down("127.0.0.1", 16 << 20)
        in_many("127.0.0.1", 320)
        PORT = int(ports[1])
        in_udp(OUTSIDE4)
        PORT = kept
    finally:
        p.stdin.close()
        if p.wait(10):
            fail(f"status {p.returncode}: {p.stderr.read()}")


def case_splice(n):
    """Loopback clients reach what listens on the namespace's loopback only, unless that is switched off."""
    global PORT
    for options, reached in ([], True), (["--no-splice"], False):
        p = subprocess.Popen([n.wherry, "net", "run", "--verbose", *options, "-p", "0:7000", "--", *n.me, "--inside",
                              "in_loopback_server()"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        kept = PORT
        try:
            while not (found := re.search(r"published .* on .*[: ](\d+)\n", p.stderr.readline() or fail("it ended early"))):
                pass
            if p.stdout.readline().strip() != "up":
                fail("the server did not start")
            PORT = int(found[1])
            if reached:
                in_up("127.0.0.1", 64 << 20)
                in_down("127.0.0.1", 64 << 20)
                in_many("127.0.0.1", 320)
            else:
                with connect("127.0.0.1") as c:  # accepted and held: nobody listens on its address yet
                    c.settimeout(0.5)
                    c.sendall(b"e 0\nx\n")
                    try:
                        if c.recv(10):
                            fail("answered without frames")
                    except (TimeoutError, ConnectionResetError):
                        pass
        finally:
            PORT = kept
            p.send_signal(signal.SIGTERM)
            p.wait(10)


def case_loopback_port(n):
    """The namespace's loopback leads to the host's, where it was said."""
    n.inside("(in_up('127.0.0.1', 16 << 20), in_down('127.0.0.1', 16 << 20), in_many('127.0.0.1', 320))", "--loopback-port", str(PORT))
    n.inside("[fail(p) for p, want in ((8000, 0), (8001, 111), (8002, 111)) if socket.socket().connect_ex(('127.0.0.1', p)) != want]",
             "--loopback-port", f"8000:{PORT}")
    # Nobody listens on the host, or it is denied: the connection is reset.
    for options in ["--loopback-port", "8000:9"], ["--loopback-port", f"8000:{PORT}", "--deny", f"127.0.0.1:{PORT}"]:
        n.inside("[fail('answered') for c in [socket.create_connection(('127.0.0.1', 8000))] if c.recv(1)]", *options, fails="reset by peer")
    for options in (["--loopback-port", "0"], ["--loopback-port", "1:x"], ["--loopback-port", "8000", "--no-splice"],
                    ["--loopback-port", "8000", "--loopback-port", "8000"]):
        if n.run(*options, command=["true"])[0] != 125:
            fail(f"{options} was taken")


def case_control(n):
    """A network that runs is looked into and changed."""
    with tempfile.TemporaryDirectory() as folder:
        path, capture = os.path.join(folder, "control"), os.path.join(folder, "pcap")

        def ask(*words, status=0):
            p = subprocess.run([n.wherry, "net", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=dict(os.environ, WHERRY_CONTROL=path), timeout=20)
            if p.returncode != status:
                fail(f"{words}: {p.returncode} {p.stdout} {p.stderr}")
            return p.stdout if not status else p.stderr

        ask("rules", status=125)  # nobody there
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(path)
        inside = f"in_control({GATEWAY4!r}, {OUTSIDE4!r})"
        p = subprocess.Popen([n.wherry, "net", "run", "--control", path, "--host-loopback", "--deny", f"{OUTSIDE4}:{PORT}/tcp",
                              "--", *n.me, "--inside", inside],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            if p.stdout.readline().strip() != "denied":
                fail("a denied address was reached")
            if stat.S_IMODE(os.stat(path).st_mode) != 0o600:
                fail("others may use the socket")
            if n.run("--control", path, command=["true"])[0] != 125:
                fail("two gateways at one socket")
            rules = [json.loads(line) for line in ask("policy", "--json").splitlines()]
            if [(r["action"], r["rule"], r["hits"]) for r in rules] != [("deny", f"{OUTSIDE4}:{PORT}/tcp", 1)]:
                fail(f"policy: {rules}")
            ask("policy", "allow", "*", str(rules[0]["id"]))
            watcher = subprocess.Popen([n.wherry, "net", "events", "--control", path], stdout=subprocess.PIPE, text=True)
            ask("pcap", "ring", "1M", "snap", "200")
            ask("pcap", "start", capture)
            ask("pcap", "start", os.path.join(folder, "second"), status=125)
            p.stdin.write("go\n")
            p.stdin.flush()
            if p.stdout.readline().strip() != "connected":
                fail("an allowed address was not reached")
            flows = [json.loads(line) for line in ask("flows", "--json").splitlines()]
            if not [f for f in flows if f["peer"] == f"{OUTSIDE4}:{PORT}" and f["host_peer"] == f["peer"] and
                    f["state"] == "ESTABLISHED" and f["bytes_out"] == 4 and f["guest"].startswith("10.0.2.15:")]:
                fail(f"flows: {flows}")
            if f"-> {OUTSIDE4}:{PORT}" not in ask("flows"):
                fail("flows as text")
            exposed = json.loads(ask("expose", "0:7000", "--json"))
            if "-> 7000" not in ask("rules", "--control", path):
                fail("rules")
            port = int(exposed["host"].rsplit(":", 1)[1])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
                c.sendall(b"e\nhello\n")
                if c.makefile("rb").read() != b"hello\n":
                    fail("the port that was exposed")
            ask("unexpose", str(exposed["id"]))
            if socket.socket().connect_ex(("127.0.0.1", port)) != 111:
                fail("the port is still there")
            if "no published port" not in ask("unexpose", str(exposed["id"]), status=125):
                fail("unexpose twice")
            ask("dns", "add", "db.test", "192.0.2.99")
            if "db.test 192.0.2.99" not in ask("dns"):
                fail("dns")
            p.stdin.write("go\n")
            p.stdin.flush()
            if p.stdout.readline().strip() != "192.0.2.99":
                fail("the name")
            ask("dns", "remove", "db.test")
            seen = [json.loads(watcher.stdout.readline())]
            while seen[-1]["event"] != "open" or seen[-1]["peer"] != f"{OUTSIDE4}:{PORT}":
                seen.append(json.loads(watcher.stdout.readline()))
            ask("pcap", "dump", capture + ".ring")
            if open(capture + ".ring", "rb").read(4) != b"\x4d\x3c\xb2\xa1":
                fail("the ring")
            metrics = ask("metrics")
            if not re.search(r"^wherry_net_tcp_out_opened_total [1-9]", metrics, re.M) or not metrics.endswith("# EOF\n"):
                fail("metrics")
            ask("pcap", "stop")
            size = os.path.getsize(capture)
            if size < 200 or open(capture, "rb").read(4) != b"\x4d\x3c\xb2\xa1":
                fail(f"capture of {size} bytes")
            if not re.search(r"^policy_denied +1$", ask("stats"), re.M):
                fail("stats")
        finally:
            p.stdin.close()
            p.wait(20)
        if p.returncode or os.path.exists(path):
            fail(f"status {p.returncode}, or the socket is left")
        if watcher.wait(20):
            fail("the watcher did not end with the gateway")


def in_settings():
    """A port is open or closed as the folder says; each line of input is a change."""
    while True:
        print(socket.socket().connect_ex((GATEWAY4, 9000)), flush=True)
        if not sys.stdin.readline():
            return


def small_hop(n, ip, router, end):
    """Behind the router packets of 1280 bytes go: what is sent to it arrives, by TCP and UDP, of both versions."""
    for pid, name in ((router, "r1"), (end, "e0")):
        ip(f"link set {name} mtu 1280", pid)
    # "Fragmentation needed" and "packet too big" come to the host's sockets, not to the guest; a late one costs a retry of UDP's.
    echo = ("import socket, threading\n"
            "def tcp(f, a):\n l = socket.create_server((a, 7), family=f)\n print('up', flush=True)\n while True:\n"
            "  c = l.accept()[0]; n = 0\n  while d := c.recv(65536): n += len(d)\n  c.sendall(b'%d' % n); c.close()\n"
            "def udp(f, a):\n s = socket.socket(f, socket.SOCK_DGRAM); s.bind((a, 7)); print('up', flush=True)\n"
            " while True:\n  d, p = s.recvfrom(65536); s.sendto(d, p)\n"
            "for f, a in ((socket.AF_INET, '203.0.113.2'), (socket.AF_INET6, '2001:db8:2::2')):\n"
            " for g in tcp, udp: threading.Thread(target=g, args=(f, a)).start()\n")
    p = subprocess.Popen(["nsenter", "-t", end, "-n", sys.executable, "-c", echo], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(4):
            p.stdout.readline() or fail("no server behind the router")
        n.inside("[small_hop_inside(a) for a in ('203.0.113.2', '2001:db8:2::2')]")
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def small_hop_inside(address):
    with socket.create_connection((address, 7), timeout=20) as c:
        c.sendall(pattern(1 << 20))
        c.shutdown(socket.SHUT_WR)
        if c.recv(100) != b"%d" % (1 << 20):
            fail(f"TCP to {address}")
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    for size in (1000, 1400, 8000):
        for attempt in range(4):
            s.sendto(pattern(size), (address, 7))
            try:
                if s.recv(65536) == pattern(size):
                    break
            except OSError as e:
                if attempt == 3:
                    fail(f"a datagram of {size} bytes to {address}: {e}")


def case_traceroute(n):
    """host - router - end, in namespaces; the gateway is the first hop."""
    if subprocess.run(["busybox", "traceroute", "--help"], capture_output=True).returncode not in (0, 1):
        return "no busybox with traceroute"
    ends = [subprocess.Popen(["unshare", "-n", "sleep", "1000"]) for _ in range(2)]
    try:
        router, end = (str(p.pid) for p in ends)
        while any(os.readlink(f"/proc/{p}/ns/net") == os.readlink("/proc/self/ns/net") for p in (router, end)):
            time.sleep(0.02)

        def ip(words, pid=None):
            enter = ["nsenter", "-t", pid, "-n"] if pid else []
            subprocess.run([*enter, "ip", *words.split()], check=True)
        if subprocess.run(["ip", "link", "add", "h0", "type", "veth", "peer", "name", "r0", "netns", router]).returncode:
            return "no veth devices here"
        ip(f"link add r1 type veth peer name e0 netns {end}", router)
        for pid, name, addresses in ((None, "h0", "192.0.2.1/24 2001:db8:1::1/64"), (router, "r0", "192.0.2.2/24 2001:db8:1::2/64"),
                                     (router, "r1", "203.0.113.1/24 2001:db8:2::1/64"), (end, "e0", "203.0.113.2/24 2001:db8:2::2/64")):
            for address in addresses.split():
                ip(f"addr add {address} dev {name}" + (" nodad" if ":" in address else ""), pid)
            ip(f"link set {name} up", pid)
        for pid, via4, via6 in ((None, "192.0.2.2", "2001:db8:1::2"), (end, "203.0.113.1", "2001:db8:2::1")):
            ip(f"route add {'203.0.113' if pid is None else '192.0.2'}.0/24 via {via4}", pid)
            ip(f"-6 route add 2001:db8:{2 if pid is None else 1}::/64 via {via6}", pid)
        subprocess.run(["nsenter", "-t", router, "-n", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; "
                        "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; echo 0 >/proc/sys/net/ipv4/icmp_ratelimit"], check=True)
        small_hop(n, ip, router, end)
        want = {"4": ["10.0.2.2", "192.0.2.2", "203.0.113.2"],
                "6": ["fd77:6865:7272:7900::2", "2001:db8:1::2", "2001:db8:2::2"]}
        kinds = [("traceroute", "4"), ("traceroute6", "6")]
        with open("/proc/sys/net/ipv4/ping_group_range", "w") as f:
            try:
                f.write("0 0")
                f.flush()
                kinds.append(("traceroute -I", "4"))
            except OSError:
                pass  # pings are not possible here; datagrams are
        for tool, version in kinds:
            command = f"busybox {tool} -n -q 1 -w 3 -m 5 {want[version][2]}"
            status, out = n.run("-r", command=["sh", "-c", command])
            hops = re.findall(r"^ *\d+ +(\S+)", out, re.M)
            if status or hops != want[version]:
                fail(f"{tool}: {status}: {out}")
    finally:
        for p in ends:
            p.kill()
            p.wait()


def case_settings(n):
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "ports")
        with open(file, "w") as f:
            f.write(f"# web\nforward 9000=127.0.0.1:{PORT}\nnonsense\n")
        p = subprocess.Popen([n.wherry, "net", "run", "--settings", folder, "--", *n.me, "--inside", "in_settings()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if "line 3: no such command" not in p.stderr.readline() or p.stdout.readline().strip() != "0":
                fail("the settings at the start")
            os.unlink(file)
            for _ in range(200):
                p.stdin.write("again\n")
                p.stdin.flush()
                if p.stdout.readline().strip() == "111":
                    break
                time.sleep(0.02)
            else:
                fail("what was taken out is still there")
        finally:
            p.stdin.close()
            p.wait(20)


def case_settings_from_store(n):
    """A branch of a store says what the network does: what is committed happens, and what is taken back is undone."""
    with tempfile.TemporaryDirectory() as folder:
        repo, out, control = (os.path.join(folder, name) for name in ("repo", "out", "control"))

        def store(*words, text=None):
            return subprocess.run([n.wherry, "store", *words], input=text, capture_output=True, text=True, check=True, timeout=60).stdout

        def ask(*words):
            answer = subprocess.run([n.wherry, "net", *words, "--control", control, "--json"], capture_output=True, text=True, check=True,
                                    timeout=20).stdout
            return [json.loads(line) for line in answer.splitlines()]
        if subprocess.run([n.wherry, "store", "init", repo], capture_output=True).returncode:
            return "no wherry store here"
        branch = repo + "@network"
        first = store("apply", branch, text="put names dns add a.test 192.0.2.1\n").strip()
        exporter = subprocess.Popen([n.wherry, "store", "export", "--follow", branch, out], stdout=subprocess.PIPE, text=True)
        p = None
        try:
            if exporter.stdout.readline() != "exported\n":
                fail("the branch was not exported")
            p = subprocess.Popen([n.wherry, "net", "run", "--settings", out, "--control", control, "--",
                                  *n.me, "--inside", "in_settings()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            if p.stdout.readline().strip() != "111":
                fail("a port is open that nobody said")
            def names():
                return sorted((a["name"], a.get("address") or a["data"]) for a in ask("dns") if "name" in a)
            if names() != [("a.test", "192.0.2.1")]:
                fail(f"the names at the start: {names()}")

            def settled(wanted):
                for _ in range(1000):
                    if names() == wanted:
                        return
                    time.sleep(0.02)
                fail(f"the names are {names()}, not {wanted}")
            store("apply", branch, text=f"put ports forward 9000=127.0.0.1:{PORT}\nput names dns add b.test 192.0.2.2\n"
                  f"put rules policy deny {OUTSIDE4}:1\nput records dns record _web._tcp.test srv 1 2 80 b.test\n")
            settled([("_web._tcp.test", "1 2 80 b.test"), ("b.test", "192.0.2.2")])
            if [r["rule"] for r in ask("policy")] != [f"{OUTSIDE4}:1"]:
                fail(f"what was committed: {ask('policy')}")
            p.stdin.write("again\n")
            p.stdin.flush()
            if p.stdout.readline().strip() != "0":
                fail("the committed port is closed")
            subprocess.run(["git", "-C", repo, "update-ref", "refs/heads/network", first], check=True)  # undo by Git's own means
            settled([("a.test", "192.0.2.1")])
            if ask("policy") or ask("forwards"):
                fail(f"what was undone: {ask('policy')} {ask('forwards')}")
        finally:
            for child in (p, exporter):
                if child:
                    child.terminate()
                    child.wait(20)
                    child.stdout.close()


def case_signals(n):
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    p = subprocess.Popen([n.wherry, "net", "run", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    if p.stdout.readline().strip() != "up":
        fail("the command did not start")
    p.send_signal(signal.SIGTERM)
    if p.wait(10) != 9:
        fail(f"SIGTERM: {p.returncode}")
    p = subprocess.Popen([n.wherry, "net", "run", "--", "sh", "-c", "echo $$; exec sleep 100"], stdout=subprocess.PIPE,
                         text=True)
    pid = int(p.stdout.readline())
    p.kill()
    p.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read().rsplit(")")[-1]:
            return
        time.sleep(0.05)
    fail("the command outlived its network")


def case_attach(n):
    holder = subprocess.Popen(["unshare", "-n", "--", "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "netns")
        open(name, "w").close()
        subprocess.run(["mount", "--bind", f"/proc/{holder.pid}/ns/net", name], check=True)
        for where in str(holder.pid), name:
            r, w = os.pipe()
            p = subprocess.Popen([n.wherry, "net", "attach", "--netns", where, "--host-loopback", "--ready-fd", str(w)],
                                 pass_fds=[w])
            os.close(w)
            if os.read(r, 100) != b"ready\n":
                fail(f"attach {where}: status {p.wait()}")
            subprocess.run(["nsenter", f"--net={name}", *n.me, "--inside", f"in_up({GATEWAY4!r}, 1 << 20)"], check=True)
            if where == name:
                subprocess.run(["umount", name], check=True)
                os.unlink(name)
            else:
                p.terminate()
            if p.wait(10):
                fail(f"attach {where} ended with {p.returncode}")
            os.close(r)
        p = subprocess.Popen([n.wherry, "net", "attach", "--netns", str(holder.pid)])
        time.sleep(0.2)
        holder.kill()
        holder.wait()
        if p.wait(10):
            fail("attach did not end with the process")


def case_interface(n):
    """The interface goes down and up, and is taken away."""
    holder = subprocess.Popen(["unshare", "-n", "--", "sh", "-c", "echo up; exec sleep 1000"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    r, w = os.pipe()
    p = subprocess.Popen([n.wherry, "net", "attach", "--netns", str(holder.pid), "--host-loopback", "--ready-fd", str(w)],
                         pass_fds=[w])
    os.close(w)
    try:
        if os.read(r, 100) != b"ready\n":
            fail(f"attach: status {p.wait()}")
        for _ in range(3):
            subprocess.run([*inside, *n.me, "--inside", f"in_up({GATEWAY4!r}, 1 << 20)"], check=True)
            subprocess.run([*inside, "ip", "link", "set", "eth0", "down"], check=True)
            if not subprocess.run([*inside, *n.me, "--inside", f"connect({GATEWAY4!r})"], stderr=subprocess.DEVNULL).returncode:
                fail("it is reached while the interface is down")
            subprocess.run([*inside, "ip", "link", "set", "eth0", "up"], check=True)
        subprocess.run([*inside, *n.me, "--inside", f"in_down({GATEWAY4!r}, 1 << 20)"], check=True)
        subprocess.run([*inside, "ip", "link", "delete", "eth0"], check=True)
        if p.wait(10):
            fail(f"attach ended with {p.returncode} when its interface was deleted")
    finally:
        os.close(r)
        p.kill()
        p.wait()
        holder.kill()
        holder.wait()
    # A command goes on without its network.
    status, out = n.run("--map-root", command=["sh", "-c", "ip link delete eth0 && sleep 0.2 && exit 3"], timeout=20)
    if status != 3:
        fail(f"run without its interface: {status}: {out}")


def case_user(n):
    """As an ordinary user: only where this is root's own machine, which can be one for a moment."""
    if os.environ.get("WHERRY_NET_ROOT") != "1":
        return "not started by root"
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = os.path.join(folder, "wherry")
        for name in "wherry", "wherry-net":
            with open(os.path.join(os.path.dirname(n.wherry), name), "rb") as f, \
                    open(os.path.join(folder, name), "wb") as to:
                to.write(f.read())
            os.chmod(os.path.join(folder, name), 0o755)
        script = os.path.join(folder, "net.py")
        with open(__file__) as f, open(script, "w") as to:
            to.write(f.read())
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        other = Net(copy)
        works = [p for p in (sys.executable, "/usr/bin/python3")
                 if not subprocess.run([*user, copy, "net", "run", p, "-c", ""], stderr=subprocess.DEVNULL).returncode]
        if not works:
            return "an ordinary user cannot start python here"
        other.me = [works[0], script]
        other.inside(f"[in_ping({GATEWAY4!r}), in_up({GATEWAY4!r}, 1 << 20), os.getuid() == 65534 or fail('uid'), "
                     "socket.socket().bind(('', 80))]", "--host-loopback", prefix=user)
        other.inside("os.getuid() == 0 or fail('uid')", "--map-root", prefix=user)
    return None


CASES = {k[5:]: v for k, v in list(globals().items()) if k.startswith("case_")}


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def namespace_enter():
    """Starts this script again as the host."""
    if not os.path.exists("/dev/net/tun"):
        skip("no /dev/net/tun")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        skip("/dev/net/tun is not open to this user")
    root = os.geteuid() == 0
    kinds = ["-nm"] if root else ["-Urnm"]
    if subprocess.run(["unshare", *kinds, "true"]).returncode or subprocess.run(["unshare", "-Urn", "true"]).returncode:
        skip("no user or network namespaces")
    env = dict(os.environ, WHERRY_NET_HOST="1", WHERRY_NET_ROOT="1" if root else "0")
    os.execvpe("unshare", ["unshare", *kinds, "--", sys.executable, *sys.argv], env)


def host_prepare():
    for words in ("link set lo up", f"addr add {OUTSIDE4}/32 dev lo", f"addr add {OUTSIDE6}/128 dev lo nodad"):
        if subprocess.run(["ip", *words.split()]).returncode:
            skip("no working ip command")
    if os.environ["WHERRY_NET_ROOT"] == "1" and not os.stat("/dev/net/tun").st_mode & stat.S_IWOTH:
        # What usual systems have: a tun device that is open to everyone. Only in this mount namespace.
        folder = tempfile.mkdtemp()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        node = os.path.join(folder, "tun")
        os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/net/tun").st_rdev)
        os.chmod(node, 0o666)
        subprocess.run(["mount", "--bind", node, "/dev/net/tun"], check=True)
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)
    for family in socket.AF_INET, socket.AF_INET6:
        for server in tcp_server, udp_server:
            threading.Thread(target=server, args=(family,), daemon=True).start()
    threading.Thread(target=name_server, daemon=True).start()
    time.sleep(0.2)


def main():
    if sys.argv[1] == "--inside":
        eval(sys.argv[2])  # a call of this file's own, from above
        return
    if os.environ.get("WHERRY_NET_HOST") != "1":
        namespace_enter()
    host_prepare()
    net = Net(os.path.abspath(sys.argv[1]))
    bad = 0
    for name in sys.argv[2:] or CASES:
        started = time.monotonic()
        try:
            note = CASES[name](net)
            print(f"{name}: {'skipped: ' + note if note else 'ok'} ({time.monotonic() - started:.1f} s)", flush=True)
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            print(f"{name}: FAILED: {e}", flush=True)
            bad += 1
    sys.exit(bad != 0)


main()
