#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Drives examples/netkit as two QEMU machines and a user would: frames in and out, rules that come and go,
counters.

usage: netkit.py NETKIT [LIBRARY_FOLDER]"""
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile

program = os.path.abspath(sys.argv[1])
work = tempfile.mkdtemp(prefix="wherry-netkit-")
path = work + "/net"
environment = dict(os.environ)
if len(sys.argv) > 2:
    environment["LD_LIBRARY_PATH"] = sys.argv[2]
GUEST, GATEWAY = bytes([10, 0, 2, 15]), bytes([10, 0, 2, 2])


def check(what, good):
    print(("ok " if good else "not ok ") + what, flush=True)
    if not good:
        kit.kill()
        sys.exit(1)


class Machine:
    def __init__(self, last):
        self.mac = bytes([0x52, 0x54, 0, 0, 0, last])
        self.ip = bytes([10, 0, 2, last])
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(20)
        self.s.connect(path)

    def send(self, frame):
        self.s.sendall(struct.pack(">I", len(frame)) + frame)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.s.recv(n - len(data))
            if not more:
                check("link is up", False)
            data += more
        return data

    def wait(self, kind, want):
        while True:
            frame = self.exactly(struct.unpack(">I", self.exactly(4))[0])
            if frame[12:14] == kind and want(frame):
                return frame

    def arp(self, target):
        head = b"\xff" * 6 + self.mac + b"\x08\x06"
        self.send(head + struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + self.mac + self.ip + bytes(6) + target)
        return self.wait(b"\x08\x06", lambda f: f[20:22] == b"\0\2" and f[28:32] == target)

    def answer_arp(self, of):
        f = self.wait(b"\x08\x06", lambda f: f[20:22] == b"\0\1" and f[38:42] == self.ip and f[28:32] == of)
        self.send(f[6:12] + self.mac + b"\x08\x06" + struct.pack(">HHBBH", 1, 0x800, 6, 4, 2) + self.mac + self.ip + f[22:32])


kit = subprocess.Popen([program, path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(line):
    kit.stdin.write(line + "\n")
    kit.stdin.flush()
    return kit.stdout.readline().strip()


check("starts", ask("?") == "0 TCP connections, 0 rules")
one, two = Machine(15), Machine(16)
check("the gateway answers", one.arp(GATEWAY)[22:28] == b"\x52\x55\x0a\0\2\2")
check("another machine, too", two.arp(GATEWAY)[22:28] == b"\x52\x55\x0a\0\2\2")
two.send(one.mac + two.mac + b"\x88\xb5hello" + bytes(50))
check("machines reach each other", b"hello" in one.wait(b"\x88\xb5", lambda f: True))
port = re.fullmatch(r"listens on port (\d+)", ask("0:80/tcp"))
check("a port is published", port)
check("and counted", ask("?").endswith(", 1 rules"))
client = socket.create_connection(("127.0.0.1", int(port[1])), timeout=20)
syn = one.wait(b"\x08\0", lambda f: f[23] == 6 and f[47] & 2)
check("its client's SYN arrives at the machine", syn[30:34] == GUEST and syn[36:38] == b"\0\x50")
check("the client's connection is counted", ask("?").startswith("1 TCP"))
check("the rule is taken back", ask("-") == "taken back")
check("once", ask("-") == "there is none")
try:
    socket.create_connection(("127.0.0.1", int(port[1])), timeout=20)
    check("nobody listens any more", False)
except ConnectionRefusedError:
    check("nobody listens any more", True)
check("a bad rule is explained", len(ask("80:no")) > 10)
two.s.close()
three = Machine(17)
check("a machine takes the place of one that left", three.arp(GATEWAY)[22:28] == b"\x52\x55\x0a\0\2\2")
kit.stdin.close()
check("ends", kit.wait(20) == 0 and not os.path.exists(path))
os.rmdir(work)
