#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Named machines: ps, pause, resume, stats, events, snapshot, copies of it, stop, kill; names that are taken or left
over; requests that are none.

usage: machines.py WHERRY FOLDER_OF_IMAGES SCHEMA"""
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


with open(sys.argv[3]) as f:
    schema = json.load(f)["$defs"]
TYPES = {"object": dict, "string": str, "integer": int}


def fits(value, rule):
    """What of JSON Schema the file uses; anything else in it is an error."""
    assert set(rule) <= {"type", "required", "additionalProperties", "properties", "enum", "minimum", "pattern", "description"}, rule
    return (("type" not in rule or type(value) is TYPES[rule["type"]])
            and ("enum" not in rule or value in rule["enum"])
            and ("minimum" not in rule or value >= rule["minimum"])
            and ("pattern" not in rule or re.search(rule["pattern"], value))
            and all(name in value for name in rule.get("required", ()))
            and all(name in rule["properties"] and fits(v, rule["properties"][name])
                    for name, v in (value.items() if isinstance(value, dict) else ())))


def parsed(text, what):
    value = json.loads(text)
    check(f"{text} is no {what} of the schema", fits(value, schema[what]))
    return value


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

    def api(name, request, fd=-1):
        with socket.socket(socket.AF_UNIX) as c:
            c.settimeout(30)
            c.connect(f"{env['WHERRY_MACHINES']}/{name}.sock")
            if fd < 0:
                c.sendall(request)
            else:
                socket.send_fds(c, [request], [fd])
                os.close(fd)
            text = b""
            while True:
                more = c.recv(65536)
                if not more:
                    return text
                text += more

    def state(name):
        rows = [parsed(line, "machine") for line in run("ps", "--json").splitlines()]
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
        check("it says how it is", parsed(events.stdout.readline(), "event")["event"] == "running")
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
            parsed(answer.split(b"\r\n\r\n", 1)[1], "error")
            check(f"{bad[:40]} got {answer[:60]}", re.match(rb"HTTP/1.1 40[0-9] .*\r\n\r\n\{\"error\":\".*\"\}\n$", answer, re.S))
        check("it still answers", state("web") == "running")
        # Out of order: what cannot be done now is refused or without effect, and nothing is lost.
        for path, after in (("resume", "running"), ("pause", "paused"), ("pause", "paused"), ("snapshot", "paused"), ("resume", "running")):
            body = b'{"file":"%s/order.snap"}' % folder.encode() if path == "snapshot" else b""
            check("a body of the schema", not body or fits(json.loads(body), schema["snapshot"]))
            sent = os.open(f"{folder}/order.snap", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if body else -1
            answer = api("web", b"PUT /v1/machine/%s HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body), sent)
            reply = parsed(answer.split(b"\r\n\r\n", 1)[1], "machine")
            check(f"{path}: {answer}", answer.startswith(b"HTTP/1.1 200") and reply["state"] == after)
        check("a snapshot of a paused guest is one", os.path.getsize(f"{folder}/order.snap") > 4096)

        run("stop", "web")
        check("it has ended", web.wait(30) == 0 or web.returncode == 128 + signal.SIGTERM)
        names = [parsed(line, "event")["event"] for line in events.stdout]
        check(f"events {names}", names == ["paused", "paused", "resumed", "snapshot", "resumed", "paused", "paused", "snapshot", "resumed", "stopping", "ended"])
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
