#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""`wherry run --control`: a port is published while the guest runs, its connection is seen, and a rule closes it.

usage: control.py WHERRY FOLDER_OF_IMAGES"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

wherry, images = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])


def check(what, good):
    if not good:
        sys.exit(f"control: {what}")


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "control")

    def ask(*words):
        p = subprocess.run([wherry, "net", *words, "--json"], stdout=subprocess.PIPE, check=True, text=True, timeout=20,
                           env=dict(os.environ, WHERRY_CONTROL=path))
        return [json.loads(line) for line in p.stdout.splitlines()]

    def request(port, text):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as c:
            c.sendall(text)
            return c.recv(100)

    guest = subprocess.Popen([wherry, "run", "--control", path, os.path.join(images, "server")], cwd="/",
                             stdout=subprocess.PIPE, text=True)
    try:
        check("the guest started", "serving" in guest.stdout.readline())
        check("no ports yet", ask("rules") == [])
        rule = ask("expose", "0:80")[0]
        port = int(rule["host"].rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20):
            for _ in range(200):
                flows = [f for f in ask("flows") if f["direction"] == "in" and f["state"] == "ESTABLISHED"]
                if flows:
                    break
                time.sleep(0.02)
            check("the connection is seen", flows and flows[0]["guest"].endswith(":80"))
        check("the port serves", request(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1."))
        ask("policy", "deny", "in:127.0.0.0/8:80/tcp")
        try:
            check("a denied client was served", request(port, b"GET / HTTP/1.0\r\n\r\n") == b"")
        except ConnectionError:
            pass
        check("the rule counts", ask("policy")[0]["hits"] == 1 and ask("stats")[0]["policy_denied"] == 1)
    finally:
        guest.terminate()
        status = guest.wait(20)
    check(f"the socket is gone, status {status}", not os.path.exists(path))

    # The options of a gateway that `wherry net` has, too; some of them are in another program than the small one.
    settings, capture = os.path.join(folder, "settings"), os.path.join(folder, "frames.pcap")
    os.mkdir(settings)
    with open(os.path.join(settings, "ports"), "w") as f:
        f.write("expose 0:80\n")
    guest = subprocess.Popen([wherry, "run", "--control", path, "--settings", settings, "--forward", "9000=127.0.0.1:9",
                              "--limit", "connects 7", "--set", "dns add a.test 10.9.9.9", "--proxy", "http://localhost:1",
                              "--no-proxy", "*.test", "--dns", "127.0.0.9", "--pcap", capture, "--no-outbound", "--no-ipv6",
                              os.path.join(images, "server")], cwd="/", stdout=subprocess.PIPE, text=True)
    try:
        check("the guest started with all options", "serving" in guest.stdout.readline())
        check("--forward", ask("forwards")[0]["to"] == "127.0.0.1:9")
        check("--limit", ask("limits")[0]["connects"] == "7" or ask("limits")[0]["connects"] == 7)
        names = ask("dns")
        check("--dns", names[0]["resolver"].startswith("127.0.0.9"))
        check("--set", {"name": "a.test", "address": "10.9.9.9"} in names)
        proxy = ask("proxy")[0]
        check("--proxy", proxy["http"].endswith(":1") and proxy["except"] == "*.test")
        port = int(ask("rules")[0]["host"].rsplit(":", 1)[1])
        check("a port of --settings serves", request(port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1."))
        os.unlink(os.path.join(settings, "ports"))
        for _ in range(500):
            if not ask("rules"):
                break
            time.sleep(0.02)
        check("--settings is followed", not ask("rules"))
    finally:
        guest.terminate()
        guest.wait(20)
    check("--pcap", os.path.getsize(capture) > 200)

    for words, complaint in ((["--settings", "/nowhere"], "/nowhere"), (["--proxy", "http://no.such.host.invalid"], "no.such.host"),
                             (["--forward", "x"], "forward"), (["--limit", "up 3"], "limits"), (["--dns", "here"], "no address")):
        p = subprocess.run([wherry, "run", *words, os.path.join(images, "server")], stderr=subprocess.PIPE, text=True, timeout=60)
        check(f"{words} is refused in a line: {p.stderr!r}",
              p.returncode == 125 and complaint in p.stderr and p.stderr.count("\n") == 1)

p = subprocess.run([wherry, "run", "--control", "/tmp/none", os.path.join(images, "hello")], stderr=subprocess.PIPE, text=True)
check("an image without a network", p.returncode == 125 and "no network" in p.stderr)
