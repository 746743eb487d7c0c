#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Named machines: ps, pause, resume, stats, events, snapshot, copies of it, stop, kill; names that are taken or left
over; requests that are none.

usage: machines.py WHERRY FOLDER_OF_IMAGES"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

wherry, images = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
server = os.path.join(images, "server")


def check(what, good):
    if not good:
        sys.exit(f"not ok: {what}")


with tempfile.TemporaryDirectory() as folder:
    env = dict(os.environ, WHERRY_MACHINES=os.path.join(folder, "machines"))
    started = []

    def run(*words, status=0):
        p = subprocess.run([wherry, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, timeout=60)
        check(f"{words}: status {p.returncode}, not {status}: {p.stdout}{p.stderr}", p.returncode == status)
        return p.stdout if status == 0 else p.stderr

    def machine(*words):
        # The port is free when it is published: 0 chooses one, which is told with --verbose.
        p = subprocess.Popen([wherry, "run", "--verbose", "-p", "127.0.0.1:0:80", *words], cwd=folder, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=env)
        started.append(p)
        for line in p.stderr:
            port = re.search(r"published .* on [0-9.]+:(\d+)", line)
            if port:
                return p, int(port[1])
        sys.exit(f"not ok: no port from {words}")

    def get(port, path):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as c:
            c.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            text = b""
            while True:
                more = c.recv(65536)
                if not more:
                    return text.decode()
                text += more

    def api(name, request):
        with socket.socket(socket.AF_UNIX) as c:
            c.settimeout(30)
            c.connect(f"{env['WHERRY_MACHINES']}/{name}.sock")
            c.sendall(request)
            text = b""
            while True:
                more = c.recv(65536)
                if not more:
                    return text
                text += more

    def state(name):
        rows = [json.loads(line) for line in run("ps", "--json").splitlines()]
        return {r["name"]: r for r in rows}.get(name, {}).get("state")

    try:
        check("no machines yet", run("ps", "--json") == "")
        check("unknown machine", "there is no machine x" in run("pause", "x", status=125))
        web, port = machine("--name", "web", "--memory", "16M", server)
        check("the guest started", "serving" in web.stdout.readline())
        check("it is listed", state("web") == "running" and "web" in run("ps"))
        check("two of one name", "another machine has this name" in run("run", "--name", "web", server, status=125))
        check("it serves", get(port, "/").startswith("HTTP/1."))

        events = subprocess.Popen([wherry, "events", "web"], stdout=subprocess.PIPE, text=True, env=env)
        started.append(events)
        check("it says how it is", json.loads(events.stdout.readline())["event"] == "running")
        run("pause", "web")
        run("pause", "web")
        check("it stands still", state("web") == "paused")
        with socket.create_connection(("127.0.0.1", port), timeout=30) as c:
            c.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            c.settimeout(0.2)
            try:
                check("a paused guest answered", not c.recv(1))
            except TimeoutError:
                pass
            run("resume", "web")
            c.settimeout(30)
            check("it goes on", c.recv(4) == b"HTTP")
        check("it runs", state("web") == "running")
        metrics = run("stats", "web")
        check("metrics", 'wherry_machine_memory_bytes{machine="web"} 16777216' in metrics and metrics.endswith("# EOF\n"))

        run("snapshot", "web", os.path.join(folder, "web.snap"))
        check("an existing file", "exists already" in run("snapshot", "web", os.path.join(folder, "web.snap"), status=125))
        check("no folder", "cannot be made" in run("snapshot", "web", os.path.join(folder, "none/web.snap"), status=125))
        check("the original goes on", get(port, "/").startswith("HTTP/1."))
        copies = [machine("--name", f"copy{i}", "--from", os.path.join(folder, "web.snap")) for i in range(5)]
        for i, (p, copy_port) in enumerate(copies):
            check(f"copy {i} serves", get(copy_port, "/").startswith("HTTP/1."))
            check(f"copy {i} is listed", state(f"copy{i}") == "running")

        for bad in (b"\r\n\r\n", b"GET /\r\n\r\n", b"BREW /v1/machine HTTP/1.1\r\n\r\n", b"GET /v2 HTTP/1.1\r\n\r\n",
                    b"PUT /v1/machine/snapshot HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}}",
                    b"PUT /v1/machine/snapshot HTTP/1.1\r\nContent-Length: 20\r\n\r\n{\"file\":\"relative/p\"}",
                    b"PUT /v1/machine/snapshot HTTP/1.1\r\nContent-Length: 99999\r\n\r\n", b"x" * 4096,
                    b"GET /v1/machine HTTP/1.1\r\nContent-Length: -1\r\n\r\n"):
            answer = api("web", bad)
            check(f"{bad[:40]} got {answer[:60]}", re.match(rb"HTTP/1.1 40[0-9] .*\r\n\r\n\{\"error\":\".*\"\}\n$", answer, re.S))
        check("it still answers", state("web") == "running")

        run("stop", "web")
        check("it has ended", web.wait(30) == 0 or web.returncode == 128 + signal.SIGTERM)
        names = [json.loads(line)["event"] for line in events.stdout]
        check(f"events {names}", names == ["paused", "paused", "resumed", "snapshot", "stopping", "ended"])
        check("its name is free", state("web") is None and not os.path.exists(f"{env['WHERRY_MACHINES']}/web.sock"))
        run("kill", "copy0")
        check("killed", copies[0][0].wait(30) == 128 + signal.SIGKILL)
        copies[1][0].kill()  # leaves its socket behind
        copies[1][0].wait(30)
        check("one that was killed is not listed", state("copy1") is None)
        again, again_port = machine("--name", "copy1", "--from", os.path.join(folder, "web.snap"))
        check("its name can be taken again", state("copy1") == "running" and get(again_port, "/").startswith("HTTP/1."))

        snap = os.path.join(folder, "web.snap")
        for at in (0, 8, 100, 5000):
            with open(snap, "rb") as f:
                data = bytearray(f.read())
            data[at] ^= 1
            bad = os.path.join(folder, "bad.snap")
            with open(bad, "wb") as f:
                f.write(data)
            if at < 4096:
                check(f"damage at {at}", "snapshot" in run("run", "--from", bad, status=126))
        with open(bad, "wb") as f:
            f.write(data[:70000])
        check("truncated", "truncated" in run("run", "--from", bad, status=126))
        check("no snapshot", run("run", "--from", server, status=126))
        check("missing", "no such file" in run("run", "--from", os.path.join(folder, "none"), status=127))
        check("both", "already" in run("run", "--from", snap, server, status=125))
        check("shared folders", run("run", "--from", snap, "-v", f"{folder}:/x", status=125))
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
            p.wait()
print("ok")
