#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""`wherry net serve` spoken to by hand: VPNKit's handshake and identities, addresses to listen on,
inherited sockets, and clients that do wrong.

usage: serve.py WHERRY"""
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile

WHERRY = sys.argv[1]
GATEWAY = bytes.fromhex("52550a000202")
UUID = b"01234567-89ab-cdef-0123-456789abcdef"
HELLO = b"VMN3T" + struct.pack("<I", 22) + b"c" * 40


def check(condition, text):
    if not condition:
        raise AssertionError(text)


class Serve:
    def __init__(self, listen, protocol, inherit=None):
        ready_in, ready_out = os.pipe()
        self.process = subprocess.Popen(
            [WHERRY, "net", "serve", "--listen", listen, "--protocol", protocol, "--no-outbound", "--ready-fd", str(ready_out)],
            stdin=inherit, stderr=subprocess.PIPE, pass_fds=[ready_out] + ([inherit] if inherit else []), text=True)
        os.close(ready_out)
        self.ready = os.read(ready_in, 10) == b"ready\n"
        os.close(ready_in)

    def end(self, expected=0, by=None):
        if by:
            self.process.send_signal(by)
        error = self.process.communicate(timeout=10)[1]
        check(self.process.returncode == expected, f"status {self.process.returncode}: {error}")
        return error


def exactly(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        check(more, f"cut after {len(data)} of {size} bytes")
        data += more
    return data


def vpnkit(s, command):
    """MAC, or the reason of a refusal."""
    s.settimeout(10)
    s.sendall(HELLO)
    check(exactly(s, 49)[:9] == HELLO[:9], "the hello is another one")
    s.sendall(command)
    answer = exactly(s, 258)
    if answer[0] == 2:
        return answer[2:2 + answer[1]].decode()
    check(answer[0] == 1 and struct.unpack("<HH", answer[1:5]) == (1500, 1550), f"answer {answer[:16]}")
    return answer[5:11]


def unix(path, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(path)
    return s


def discover(mac):
    bootp = struct.pack(">BBBBIHH16x6s10x192xI", 1, 1, 6, 0, 7, 0, 0x8000, mac, 0x63825363) + b"\x35\1\1\xff"
    udp = struct.pack(">HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack(">10H", ip))
    total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + ip[12:]
    return b"\xff" * 6 + mac + b"\x08\0" + ip + udp


def offered(receive):
    """The address in the next DHCP answer."""
    while True:
        frame = receive()
        if frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[34:36] == b"\0\x43":
            return socket.inet_ntoa(frame[58:62])


def vpnkit_address(s, mac):
    frame = discover(mac)
    s.sendall(struct.pack("<H", len(frame)) + frame)
    return offered(lambda: exactly(s, struct.unpack("<H", exactly(s, 2))[0]))


def vpnkit_case(folder):
    path = os.path.join(folder, "vpnkit")
    serve = Serve("unix:" + path, "vpnkit")
    check(stat.S_IMODE(os.stat(path).st_mode) & 0o77 == 0, "others may connect")
    a = unix(path)
    mac = vpnkit(a, b"\1" + UUID + bytes(4))
    check(vpnkit_address(a, mac) == "10.0.2.15", "the first machine has another address")
    check("UUID" in vpnkit(unix(path), b"\1" + UUID + bytes(4)), "two machines are one")
    check("binding" in vpnkit(unix(path), b"\6" + bytes(40)), "bind was allowed")
    check("unknown" in vpnkit(unix(path), b"\x63" + bytes(40)), "an unknown command was obeyed")
    b = unix(path)
    other = vpnkit(b, b"\x08" + b"f" + UUID[1:] + bytes([77, 2, 0, 10]))
    check(other != mac and vpnkit_address(b, other) == "10.0.2.77", "the preferred address was not given")
    check("in use" in vpnkit(unix(path), b"\x08" + b"e" + UUID[1:] + bytes([77, 2, 0, 10])), "two have one address")
    # From one machine to the other; then with the other's MAC, which goes nowhere; then again.
    frames = [other + mac + b"\x88\xb5" + bytes([n]) * 50 for n in range(3)]
    frames[1] = other + other + frames[1][12:]
    a.sendall(b"".join(struct.pack("<H", len(f)) + f for f in frames))
    seen = []
    while not seen or seen[-1] != frames[2]:
        seen.append(exactly(b, struct.unpack("<H", exactly(b, 2))[0]))
    check(frames[0] in seen and frames[1] not in seen, "the switch let the wrong frames through")
    a.close()
    b.close()
    a = unix(path)
    while (again := vpnkit(a, b"\1" + UUID.upper() + bytes(4))) == "a machine with this UUID is connected":
        a = unix(path)  # it has not seen yet that the first one left
    check(again == mac and vpnkit_address(a, mac) == "10.0.2.15", "a machine that came back is another one")
    serve.end(by=signal.SIGTERM)
    check(not os.path.exists(path), "the socket is still there")


def addresses_case(folder):
    path = os.path.join(folder, "wire")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    s.close()  # nobody listens any more
    serve = Serve("unix:" + path, "qemu")
    check(serve.ready, "a stale socket was not replaced")
    check("in use" in Serve("unix:" + path, "qemu").end(125).lower(), "two listen")
    check(os.path.exists(path), "the second one removed the first one's socket")
    many = [unix(path) for _ in range(15)]
    mac = bytes.fromhex("525400aabbcc")
    for s in many:
        s.settimeout(10)
    frame = discover(mac)
    many[14].sendall(struct.pack(">I", len(frame)) + frame)
    offered(lambda: exactly(many[14], struct.unpack(">I", exactly(many[14], 4))[0]))
    extra = unix(path)
    extra.settimeout(10)
    check(extra.recv(1) == b"", "a sixteenth was let in")
    many[0].sendall(b"\xff\xff\xff\xff")
    while many[0].recv(65536):
        pass  # what was broadcast before; then it is sent away
    serve.process.kill()
    serve.end(-9)
    serve = Serve("unix:" + path, "qemu")
    check(serve.ready, "what a killed one left was not replaced")
    serve.end(by=signal.SIGINT)
    with open(path, "w"):
        pass
    check("exists" in Serve("unix:" + path, "qemu").end(125).lower(), "a file was replaced")
    for bad in ("tcp:1", "fd:999", "fd:x", "unix:", "unix:" + "x" * 200, "unix:/nonexistent/x"):
        Serve(bad, "qemu").end(125)
    Serve("stdin", "none").end(125)


def inherited_case(folder):
    mac = bytes.fromhex("525400aabbcc")
    frame = discover(mac)
    for listen in ("fd:%d", "stdin"):
        ours, theirs = socket.socketpair()
        serve = Serve(listen % theirs.fileno() if "%" in listen else listen, "qemu", theirs.fileno())
        theirs.close()
        ours.settimeout(10)
        ours.sendall(struct.pack(">I", len(frame)) + frame)
        check(offered(lambda: exactly(ours, struct.unpack(">I", exactly(ours, 4))[0])) == "10.0.2.15", "no lease")
        ours.close()
        serve.end()  # with its machine
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    serve = Serve("stdin", "qemu-dgram", theirs.fileno())
    ours.settimeout(10)
    ours.send(frame)
    check(offered(lambda: ours.recv(65536)) == "10.0.2.15", "no lease")
    serve.end(by=signal.SIGTERM)
    serve = Serve("stdin", "qemu", theirs.fileno())  # of the wrong kind
    serve.end(125)


def several_case(folder):
    """Machines of three protocols on inherited socket pairs, on one switch."""
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    words = []
    for name, (_, theirs) in zip(("qemu", "vpnkit", "qemu-dgram"), pairs):
        words += ["--listen", f"{name}=fd:{theirs.fileno()}"]
    a, b, c = (ours for ours, _ in pairs)
    process = subprocess.Popen([WHERRY, "net", "serve", "--no-outbound"] + words, pass_fds=[theirs.fileno() for _, theirs in pairs])
    for ours, theirs in pairs:
        theirs.close()
        ours.settimeout(10)
    mac_a, mac_c = bytes.fromhex("525400000001"), bytes.fromhex("525400000003")
    mac_b = vpnkit(b, b"\1" + UUID + bytes(4))
    c.send(mac_b + mac_c + b"\x88\xb5" + b"c to b" + bytes(50))
    frame = mac_c + mac_a + b"\x88\xb5" + b"a to c" + bytes(50)
    check(b"c to b" in exactly(b, struct.unpack("<H", exactly(b, 2))[0]), "datagrams do not reach VPNKit's machine")
    a.sendall(struct.pack(">I", len(frame)) + frame)
    check(c.recv(2048) == frame, "a stream does not reach the datagram socket")
    a.close()
    b.close()
    c.send(mac_b + mac_c + b"\x88\xb5" + bytes(50))
    check(process.poll() is None, "it ended before its last machine")
    process.terminate()
    check(process.wait(10) == 0, "status")
    Serve("nonsense=fd:3", "qemu").end(125)


for case in (vpnkit_case, addresses_case, inherited_case, several_case):
    with tempfile.TemporaryDirectory() as scratch:
        case(scratch)
    print(case.__name__ + ": ok", flush=True)
