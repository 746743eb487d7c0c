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

p = subprocess.run([wherry, "run", "--control", "/tmp/none", os.path.join(images, "hello")], stderr=subprocess.PIPE, text=True)
check("an image without a network", p.returncode == 125 and "no network" in p.stderr)
