#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""wherry image --html: what is in the page, and that hostile names stay text; opened in Chromium where there is one.

usage: page.py WHERRY IMAGE"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

wherry, image = map(os.path.abspath, sys.argv[1:])
failures = 0
EVIL = '</script><img/src=x/onerror=document.title="pwned">'


def check(name, condition, detail=""):
    global failures
    failures += not condition
    print(("ok " if condition else "not ok ") + name + ("" if condition else f": {detail}"), flush=True)


def run(args, **more):
    return subprocess.run([wherry] + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **more)


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(found.group(1))


def contents(page):
    data = data_of(page)
    parts = {p["name"]: p for p in data["parts"]}
    check("the kernel's units are there", parts["kern_start"]["of"] == "kernel: kern" and parts["kern_start"]["bytes"] > 100)
    check("the C library's members are there", any(p["of"] == "libc.a" for p in data["parts"]))
    check("the program is there", any(p["of"] == "program" and p["name"].endswith(".c") for p in data["parts"]), sorted(parts)[:20])
    check("who pulled a unit in", any(w["symbol"].startswith("wh_sys_") for p in data["parts"] for w in p["why"]))
    inside = {c["name"] for c in data["calls"] if c["inside"]}
    check("calls inside and left out", "writev" in inside and "socket" not in inside and len(data["calls"]) > 300, sorted(inside))
    check("refused calls say why", all(c["note"] for c in data["calls"] if c["status"] == "refused"))
    total = sum(p["bytes"] for p in data["parts"])
    check("the sum is of the file's order", 40000 < total < data["size"] * 4, (total, data["size"]))
    check("nothing is loaded from elsewhere", not re.search(r'(src|href)\s*=|url\(|@import|https?:', page))


def browser(folder, page, name):
    """The page's tree after its code ran."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        return None
    path = f"{folder}/{name}.html"
    open(path, "w").write(page)
    p = subprocess.run([program, "--headless", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile", "--window-size=1200,900",
                        "--virtual-time-budget=2000", "--dump-dom"] + (["--no-sandbox"] if os.geteuid() == 0 else []) + [f"file://{path}"],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120, env=dict(os.environ, HOME=folder))
    return p.stdout


def hostile(folder):
    """The image with a list of units whose names are HTML."""
    copy, units = f"{folder}/hostile", f"{folder}/units"
    shutil.copy(image, copy)
    open(units, "w").write(f"wherry-units 2\navailable 9\nunit {EVIL} 100 {EVIL} {EVIL}\npart {EVIL}(x) 50 - -\nmissing {EVIL} {EVIL} {EVIL}\n")
    subprocess.run(["objcopy", f"--update-section=.wherry.units={units}", copy], check=True)
    p = run(["image", "--html", "-", copy])
    check("a hostile image makes a page", p.returncode == 0, p.stderr)
    check("no name of it is markup", "<img" not in p.stdout and data_of(p.stdout)["parts"][0]["name"] == EVIL)
    return p.stdout


def main(folder):
    path = f"{folder}/page.html"
    p = run(["image", "--html", path, image])
    check("writes a page", p.returncode == 0 and not p.stderr and not p.stdout, p.stderr)
    page = open(path).read()
    contents(page)
    evil = hostile(folder)
    tree = browser(folder, page, "good")
    if tree is None:
        print("# no Chromium here: the page was not opened")
    else:
        check("a browser runs the page to its end", 'data-ready="yes"' in tree, tree[-300:])
        check("the treemap has boxes", tree.count('class="box"') > 20, tree.count('class="box"'))
        check("the table has rows", tree.count("<tr>") > 50)
        tree = browser(folder, evil, "evil")
        check("hostile names are shown as text", 'data-ready="yes"' in tree and "<img" not in tree and "<title>pwned" not in tree
              and EVIL.replace("<", "&lt;").replace(">", "&gt;") in tree, tree[-600:])
    shutil.copy(image, f"{folder}/bare")
    subprocess.run(["objcopy", "--remove-section=.wherry.units", f"{folder}/bare"], check=True)
    p = run(["image", "--html", path, f"{folder}/bare"])
    check("an image without a list is refused in a line", p.returncode == 125 and "no list of units" in p.stderr, p.stderr)
    p = run(["image", "--html", f"{folder}/no/where", image])
    check("so is a place that is none", p.returncode == 125 and "no/where" in p.stderr, p.stderr)


with tempfile.TemporaryDirectory(prefix="wherry-page-") as temporary:
    main(temporary)
sys.exit(1 if failures else 0)
