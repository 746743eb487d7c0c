#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""wherry build: the same bytes in two folders, the bill of materials, running, a build command, bad descriptions.

usage: build.py WHERRY"""
import hashlib
import json
import os
import subprocess
import sys
import tempfile

wherry = os.path.abspath(sys.argv[1])
failures = 0
TOML = '''
name = "greeter"
[build]
sources = ["main.c", "sub/more.c"]
flags = ["-O2", "-g", "-Isub", '-DWORD="hello"']
[image]
root = "files"
memory = "16M"
memory-min = "3M"
[run]
engine = "proc"
env = { GREETED = "the world" }
mounts = ["./shared:/mnt:ro"]
workdir = "/etc"
arguments = ["one", "it's two"]
'''
MAIN = '''
#include <stdio.h>
#include <stdlib.h>
#include "more.h"
int main(int argc, char **argv)
{
	char line[64];
	printf(WORD " %s from %s, %d arguments, last %s\\n", getenv("GREETED"), __FILE__, argc - 1, argv[argc - 1]);
	for (const char *const *p = (const char *[]){ "motd", "/mnt/note", 0 }; *p; p++) {
		FILE *f = fopen(*p, "r");
		printf("%s", f && fgets(line, sizeof line, f) ? line : "none\\n");
	}
	return more();
}
'''


def check(name, condition, detail=""):
    global failures
    failures += not condition
    print(("ok " if condition else "not ok ") + name + ("" if condition else f": {detail}"), flush=True)


def put(path, text, mtime=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    if mtime:
        os.utime(path, (mtime, mtime))


def project(folder, mtime):
    put(f"{folder}/wherry.toml", TOML)
    put(f"{folder}/main.c", MAIN, mtime)
    put(f"{folder}/sub/more.c", '#include "more.h"\n#include <unistd.h>\nint more(void)\n{\n\treturn getpid() < 1;\n}\n', mtime)
    put(f"{folder}/sub/more.h", "int more(void);\n", mtime)
    put(f"{folder}/files/etc/motd", "a message\n", mtime)
    put(f"{folder}/files/etc/empty", "", mtime)
    put(f"{folder}/shared/note", "a note\n", mtime)


def run(args, cwd=None, **more):
    return subprocess.run([wherry] + args, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors="replace", timeout=120, **more)


def digest(path):
    return hashlib.sha256(open(path, "rb").read()).hexdigest()


def reproducible(work):
    folders = [f"{work}/a", f"{work}/quite another place/b"]
    for n, folder in enumerate(folders):
        project(folder, 1600000000 + n * 10000000)
        p = run(["build"], folder, env=dict(os.environ, TZ="Asia/Tokyo" if n else "UTC", HOME=work, LANG="C.UTF-8" if n else "C"))
        check(f"builds in {os.path.basename(folder)}", p.returncode == 0 and not p.stderr, p.stderr)
    for name in ("greeter", "greeter.cdx.json"):
        check(f"{name} is the same in both", digest(f"{folders[0]}/{name}") == digest(f"{folders[1]}/{name}"))
    put(f"{folders[1]}/files/etc/motd", "another\n")
    run(["build"], folders[1])
    check("another file makes another image", digest(f"{folders[0]}/greeter") != digest(f"{folders[1]}/greeter"))
    return folders[0]


def bill(folder):
    text = open(f"{folder}/greeter.cdx.json").read()
    sbom = json.loads(text)
    check("the bill is CycloneDX", sbom["bomFormat"] == "CycloneDX" and sbom["specVersion"] == "1.5")
    main = sbom["metadata"]["component"]
    check("the image's hash is right", main["hashes"] == [{"alg": "SHA-256", "content": digest(f"{folder}/greeter")}], main)
    parts = {c["name"]: c for c in sbom["components"]}
    for name, path in (("main.c", "main.c"), ("sub/more.c", "sub/more.c"), ("/etc/motd", "files/etc/motd"), ("/etc/empty", "files/etc/empty")):
        check(f"{name} is in the bill", parts.get(name, {}).get("hashes", [{}])[0].get("content") == digest(f"{folder}/{path}"))
    check("musl has a version", parts["musl"]["version"].count(".") == 2, parts["musl"])
    units = {u["name"]: u for u in parts["wherry-guest"]["components"]}
    check("kernel units are listed with hashes", "kern_start" in units and all(len(u["hashes"][0]["content"]) == 64 for u in units.values()),
          list(units)[:5])
    shown = json.loads(run(["image", "--json", f"{folder}/greeter"]).stdout)
    check("and they are those of wherry image", {u["name"] for u in shown["units"]} == set(units))
    check("no path of this machine is in it", folder not in text and folder.encode() not in open(f"{folder}/greeter", "rb").read())


def running(folder, work):
    p = run(["build", "--run", "-f", f"{folder}/wherry.toml"], work)
    check("runs as described", p.stdout == "hello the world from main.c, 2 arguments, last it's two\na message\na note\n" and p.returncode == 0,
          p.stdout + p.stderr)
    p = run(["build", "--run", "--", "three"], folder)
    check("arguments replace the description's", "1 arguments, last three" in p.stdout, p.stdout + p.stderr)
    p = run(["build", "--print-run"], folder)
    again = subprocess.run(["sh", "-c", p.stdout], cwd=folder, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    check("the printed command does the same", "last it's two" in again.stdout, p.stdout)
    p = run(["build", "-o", "other", "--sbom", "bill.json", "-f", f"{folder}/wherry.toml"], work)
    check("-o and --sbom are taken from where it is called", os.path.exists(f"{work}/other") and os.path.exists(f"{work}/bill.json"), p.stderr)
    text = run(["image", f"{work}/other"]).stdout
    check("[image] is in the manifest", "name: greeter" in text and "16384 KiB unless said, at least 3072 KiB" in text, text[:400])


def command(work):
    folder = f"{work}/made"
    put(f"{folder}/wherry.toml", '''name = "made"
[build]
command = """
$CC -O1 -c x.c -o x.o
$CC x.o -o out/x"""
output = "out/x"
includes = ["libfoo 1.2.3"]
''')
    put(f"{folder}/x.c", "int main(void)\n{\n\treturn 7;\n}\n")
    os.makedirs(f"{folder}/out")
    p = run(["build", "--run"], folder)
    check("a build command", p.returncode == 7, p.stderr)
    sbom = json.load(open(f"{folder}/out/x.cdx.json"))
    check("what it brings along is in the bill", {"type": "library", "name": "libfoo", "version": "1.2.3"} in sbom["components"])
    put(f"{folder}/x.c", "int main(void)\n{\n\treturn x;\n}\n")
    p = run(["build", "--run"], folder)
    check("its failure is ours", p.returncode not in (0, 7) and "x.c" in p.stderr, p.stderr)


def bad(work):
    folder = f"{work}/bad"
    os.makedirs(folder)
    build = '[build]\nsources = ["x.c"]\n'
    for name, text, words in (
            ("nothing", None, "No such file"),
            ("no TOML", "name = ", "line 1: not a value"),
            ("a misspelt key", f'name = "x"\n{build}[run]\npublisch = ["1:2"]\n', "line 5: publisch: no such key"),
            ("a misspelt table", f'name = "x"\n{build}[runn]\n', "line 4: runn: no such key"),
            ("a wrong type", 'name = 5\n', "line 1: name: must be a string"),
            ("a wrong element", 'name = "x"\n[build]\nsources = [1]\n', "line 3: sources: must be an array of strings"),
            ("no name", build, "no name"),
            ("a path as name", f'name = "../x"\n{build}', "must not hold a slash"),
            ("no build", 'name = "x"\n', "no table [build]"),
            ("nothing to build", 'name = "x"\n[build]\n', "needs sources or a command"),
            ("a command without output", 'name = "x"\n[build]\ncommand = "true"\n', "needs output"),
            ("a variable with =", f'name = "x"\n{build}[run.env]\n"A=B" = "c"\n', "is no name of a variable"),
            ("a command that makes nothing", 'name = "x"\n[build]\ncommand = "true"\noutput = "y"\n', "made no y"),
            ("a source that is not there", f'name = "x"\n{build}', "x.c"),
            ("a size that is none", 'name = "x"\n[build]\nsources = ["ok.c"]\n[image]\nmemory = "much"\n', "much"),
            ("a root that is not there", 'name = "x"\n[build]\nsources = ["ok.c"]\n[image]\nroot = "nowhere"\n', "nowhere")):
        for leftover in ("wherry.toml", "x", "x.cdx.json"):
            if os.path.exists(f"{folder}/{leftover}"):
                os.unlink(f"{folder}/{leftover}")
        put(f"{folder}/ok.c", "int main(void)\n{\n\treturn 0;\n}\n")
        if text is not None:
            put(f"{folder}/wherry.toml", text)
        p = run(["build"], folder)
        check(f"refuses {name}", p.returncode != 0 and words in p.stderr, f"{p.returncode} {p.stderr}")
        check(f"... and leaves no bill ({name})", not os.path.exists(f"{folder}/x.cdx.json"))
    p = run(["build", "--", "x"], folder)
    check("arguments without --run", p.returncode == 125 and "for --run" in p.stderr, p.stderr)


with tempfile.TemporaryDirectory(prefix="wherry-build-") as temporary:
    first = reproducible(temporary)
    bill(first)
    running(first, temporary)
    command(temporary)
    bad(temporary)
sys.exit(1 if failures else 0)
