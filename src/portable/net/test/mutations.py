#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""Takes each protection out of a copy of the stack, one at a time, and sees whether a test notices.

usage: mutations.py [NAME...]

Not part of the suites (minutes): run it when the stack or its tests change. A change that no longer applies is an
error, so the list follows the code. Prints the ones that no test notices, and ends with 1 if there are any."""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../../.."))
NET = "src/portable/net"
TESTS = ["scripts", "script", "ip", "stack", "tcp", "sim"]

# name: (file in stack/, text, what stands there instead)
MUTATIONS = {
    "rto-backoff": ("tcp_timer.c", "\t\ts->backoff++;", "\t\t(void)0;"),
    "rto-karn": ("tcp_ack.c", "\ts->backoff = 0;\n}", "}"),
    "rto-karn-sample": ("tcp_sent.c", "if (r->flags & TCP_AGAIN) {", "if (0) {"),
    "rto-restart": ("tcp_ack.c", "tcp_timer_set(s, TCP_TIMER_RETRANSMIT, tcp_rto_deadline(s));", "(void)0;"),
    "rto-after-syn": ("tcp_open.c", "s->rto = TCP_RTO_SYN_NS;", "(void)0;"),
    "rto-smoothing": ("tcp_ack.c", "s->srtt += (rtt >> 3) - (s->srtt >> 3);", "s->srtt = rtt;"),
    "initial-window-after-loss": ("tcp_open.c", "s->cc.cwnd = s->mss;", "(void)0;"),
    "gives-up": ("tcp_timer.c", "return s->tries >= tries_max;", "return false;"),
    "user-timeout": ("tcp_timer.c", "if (s->user_timeout_ms && s->net->now - s->progress_at >=", "if (0 && s->net->now - s->progress_at >="),
    "fast-retransmit": ("tcp_loss.c", "if (s->dup_acks < TCP_DUP_ACKS)\n\t\treturn;", "return;"),
    "partial-ack": ("tcp_loss.c", "tcp_sent_lost(s, s->snd_una, s->snd_una + s->mss);\n\ts->retransmit_now = true;", "(void)0;"),
    "limited-transmit": ("tcp_loss.c", "if (!s->sack_ok)\n\t\tgone +=", "if (0)\n\t\tgone +="),
    "rack-loss": ("tcp_loss.c", "if (left <= 0)\n", "if (0)\n"),
    "rack-timer": ("tcp_loss.c", "if (wait && control(s))", "if (0)"),
    "rack-reordering": ("tcp_sent.c", "s->reordering = true;", "(void)0;"),
    "rack-dupthresh": ("tcp_loss.c", "(s->recovery != TCP_OPEN || many_passed(s)))\n\t\treturn 0;", "0)\n\t\treturn 0;"),
    "rack-patience": ("tcp_loss.c", "\t\ts->reorder_steps++;", "\t\t(void)0;"),
    "tail-probe": ("tcp_loss.c", "tcp_timer_set(s, TCP_TIMER_PROBE, at);", "(void)at;"),
    "tail-probe-new-data": ("tcp_loss.c", "!tcp_send_new(s, s->mss);", "true;"),
    "tail-probe-judge": ("tcp_loss.c", "control(s)->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);\n\t}", "(void)0;\n\t}"),
    "tail-probe-dsack": ("tcp_loss.c", "!s->probe_again || twice || duplicate", "!s->probe_again || duplicate"),
    "frto": ("tcp_loss.c", "s->frto = first && s->sack_ok;", "s->frto = 0;"),
    "frto-new-data": ("tcp_loss.c", "s->frto = 2;", "s->frto = 0;"),
    "eifel": ("tcp_loss.c", "tcp_before(seg->t.timestamp_echo, s->again_ts)", "false"),
    "dsack-undo": ("tcp_loss.c", "return !s->undo_bytes;", "return false;"),
    "reneging": ("tcp_loss.c", "bool reneged = s->sent_count && (s->tries || (s->sent[0].flags & TCP_SACKED));", "bool reneged = false;"),
    "prr": ("tcp_loss.c", "return due > s->prr_out ? (uint32_t)(due - s->prr_out) : 0;", "return UINT32_MAX;"),
    "loss-window": ("tcp_loss.c", "control(s)->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);\n}", "(void)0;\n}"),
    "timeout-window": ("tcp_loss.c", "control(s)->timeout(&s->cc, flight, s->net->now);", "(void)flight;"),
    "sack-plausible": ("tcp_ack.c", "&& !tcp_before(s->snd_nxt, end);", ";"),
    "sack-sender": ("tcp_ack.c", "bool sack = s->sack_ok && seg->t.sack_count;", "bool sack = false;"),
    "sack-receiver": ("tcp_out.c", "sack_fill(s, &t, blocks);", "(void)blocks;"),
    "dsack-receiver": ("tcp_in.c", "s->dsack_pending = true;", "(void)0;"),
    "dsack-inside": ("tcp_data.c", "s->dsack_pending = s->sack_ok;", "(void)0;"),
    "ooo-limit": ("tcp_ring.c", "if (*count == max)\n\t\t\treturn false;", ""),
    "paws": ("tcp_in.c", "if (!tcp_before(seg->t.timestamp, s->ts_recent) ||", "if (1 ||"),
    "paws-missing": ("tcp_in.c", "return false; /* RFC 7323, 3.2", "return true; /* RFC 7323, 3.2"),
    "paws-idle": ("tcp_in.c", "s->net->now - s->ts_recent_at > TCP_PAWS_IDLE_NS", "0"),
    "ts-echo": ("tcp_in.c", "!tcp_before(s->ack_sent, seg->t.sequence) &&", ""),
    "challenge-rst": ("tcp_in.c", "if (seg->t.sequence != s->rcv_nxt) {", "if (0) {"),
    "challenge-syn": ("tcp_in.c", "tcp_challenge(s); /* RFC 5961, 4.2 */", "tcp_ended(s, WH_ECONNRESET);"),
    "challenge-ack": ("tcp_ack.c", "|| tcp_before(ack, s->snd_una - s->snd_wnd_max)", ""),
    "challenge-limit": ("tcp_in.c", "return s->answers_count++ < TCP_ANSWERS_PER_S;", "return true;"),
    "send-buffer-growth": ("tcp.c", "if (s->tx.size * 2 > s->send_max)", "if (1)"),
    "syn-cookies": ("tcp_open.c", "tcp_cookie_send(net, l, seg, tuple);", "(void)0;"),
    "cookie-check": ("tcp_cookie.c", "|| value != cookie(net, tuple, irs, now - age, size)", ""),
    "cookie-age": ("tcp_cookie.c", "age > PERIODS_OLD ||", "age > 30 ||"),
    "cookie-asked": ("tcp_cookie.c", "if (l->cookies_until <= net->now)", "if (0)"),
    "half-open-limit": ("tcp_open.c", "return l->opening_count < limit &&", "return limit &&"),
    "nagle": ("tcp_out.c", "bool small_out = tcp_before(s->snd_una, s->small_end);", "bool small_out = false;"),
    "nagle-minshall": ("tcp_out.c", "bool small_out = tcp_before(s->snd_una, s->small_end);", "bool small_out = s->snd_una != s->snd_nxt;"),
    "delayed-ack": ("tcp_data.c", "else if (s->deadline[TCP_TIMER_ACK] == WH_NET_NEVER)", "else if (0)"),
    "ack-every-second": ("tcp_data.c", "s->unacked >= 2u * s->mss_receive ||", ""),
    "persist": ("tcp_out.c", "tcp_timer_set(s, TCP_TIMER_PERSIST, s->net->now + s->rto);", "(void)0;"),
    "persist-backoff": ("tcp_timer.c", "s->persist_tries++;", "(void)0;"),
    "persist-orphan": ("tcp_timer.c", "if (orphan && s->persist_tries >= TCP_ORPHAN_TRIES)", "if (0 && orphan)"),
    "window-shrunk": ("tcp_out.c", "if (start != s->snd_una && tcp_before(edge, start + size))", "if (tcp_before(edge, start + size))"),
    "window-old": ("tcp_ack.c", "if (!tcp_before(s->snd_wl1, t->sequence) &&", "if (0 &&"),
    "silly-receiver": ("tcp_out.c", "if (s->rx.base && gain < step &&", "if (0 &&"),
    "silly-sender": ("tcp_out.c", "if (tail_ok || (s->fin_wanted && size == available))\n\t\treturn size;", "return size;"),
    "keep-alive": ("tcp_timer.c", "if (s->keep_sent >= s->keep_count) {", "if (0) {"),
    "fin-wait2-timer": ("tcp_ack.c", "tcp_timer_set(s, TCP_TIMER_CLOSE, s->net->now + TCP_FIN_WAIT2_NS);", "(void)0;"),
    "time-wait": ("tcp_data.c", "tcp_time_wait_enter(s);", "(void)0;"),
    "time-wait-limit": ("tcp_table.c", "tcp_time_wait_drop(net, oldest(tcp_state(net)));", "(void)0;"),
    "time-wait-reuse": ("tcp_table.c", "(tcp_before(w->rcv_nxt - 1, t->sequence) ||", "(0 ||"),
    "time-wait-timestamp": ("tcp_table.c", "(w->timestamps && t->has_timestamp && tcp_before(w->ts_recent, t->timestamp))", "false"),
    "time-wait-rst": ("tcp_table.c", "if (t->sequence == w->rcv_nxt)\n", "if (1)\n"),
    "unread-reset": ("tcp_data.c", "if (seg->size && !s->held && !s->listener) {", "if (0) {"),
    "pmtu": ("tcp_in.c", "tcp_sent_lost_all(s, false);", "(void)0;"),
    "pmtu-expires": ("tcp_ack.c", "if (s->mss_lowered)", "if (0)"),
    "pmtu-least": ("tcp_in.c", "error->mtu < least ? least : error->mtu", "error->mtu"),
    "icmp-sequence": ("tcp_in.c", "if (tcp_before(error->sequence, s->snd_una) || !tcp_before(error->sequence, s->snd_nxt))", "if (0)"),
    "soft-error": ("tcp_timer.c", "s->soft_error ? s->soft_error : WH_ETIMEDOUT", "WH_ETIMEDOUT"),
    "soft-error-forgotten": ("tcp_ack.c", "s->soft_error = 0;", "(void)0;"),
    "black-hole": ("tcp_timer.c", "if (!opening)\n\t\tblack_hole(s);", ""),
    "ecn-sender": ("tcp_ack.c", "s->net->config.cc->lost(&s->cc, s->snd_nxt - s->snd_una, s->net->now);", "(void)0;"),
    "ecn-once": ("tcp_ack.c", "s->ecn_recover = s->snd_nxt;", "(void)0;"),
    "ecn-cwr": ("tcp_ack.c", "s->ecn_cwr = true;", "(void)0;"),
    "ecn-receiver": ("tcp_in.c", "s->ecn_echo = true;", "(void)0;"),
    "ecn-repeat": ("tcp_out.c", "s->ecn_ok && fresh ? ECN_CAPABLE", "s->ecn_ok && size ? ECN_CAPABLE"),
    "ecn-fallback": ("tcp_out.c", "s->ecn_ok && !s->tries ?", "s->ecn_ok ?"),
    "listened-port": ("tcp.c", ": !tcp_find_listener(net, &t->local)))", ": true))"),
    "sockets-limit": ("tcp.c", "if (net->stats.tcp_sockets >= net->config.tcp_sockets_max) {", "if (0) {"),
    "fragments-timer": ("reassembly.c", "if (d->expires <= net->now) {", "if (0) {"),
    "fragments-limit": ("reassembly.c", "if (best->used) {", "if (0) {"),
    "fragments-told": ("reassembly.c", "net_icmp_late(net, &p);", "(void)p;"),
    "icmp-limit": ("icmp.c", "if (!net->icmp_tokens) {", "if (0) {"),
    "icmp-group": ("icmp.c", "if (p->group && (!group_too || wh_net_source(net, &p->from, &from)))\n\t\treturn;", ""),
    "duplicate-address": ("slaac.c", "(void)wh_net_address_remove(net, ip);", "(void)ip;"),
    "dad-window": ("slaac.c", "net->now >= p->tentative_until", "0"),
    "two-hours": ("slaac.c", "p->expires = least;", "p->expires = wanted;"),
    "arp-defend-limit": ("arp.c", "net->now - net->defended < DEFEND_NS", "0"),
    "neighbour-unicast": ("neighbour.c", "n->state == NET_NEIGHBOUR_KNOWN ? n->mac : 0", "0"),
    "neighbour-gives-up": ("neighbour.c", "n->state = NET_NEIGHBOUR_INCOMPLETE;\n\t\tif", "(void)0;\n\t\tif"),
    "neighbour-reachable": ("neighbour.c", "net->now - n->confirmed > REACHABLE_NS", "false"),
    "igmp-ttl": ("groups.c", "p->hop_limit != 1 ||", ""),
    "igmp-all-hosts": ("groups.c", "return memcmp(ip->bytes + 12, all_hosts, 4) != 0;", "return true;"),
    "igmp-older": ("groups.c", "net->igmp2_until = net->now + OLDER_PRESENT_NS;", "(void)0;"),
    "igmp-leave": ("groups.c", "if (!--g->users && reported(ip))", "if (--g->users, 0)"),
    "groups-limit": ("groups.c", "if (!unused && net->group_count == WH_NET_GROUPS_MAX)\n\t\treturn -WH_ENOBUFS;", "if (!unused && net->group_count == WH_NET_GROUPS_MAX)\n\t\treturn 0;"),
    "hop-limit-255": ("ndp.c", "if (p->hop_limit != 255) {", "if (0) {"),
    "martian": ("ip_in.c", "if (bad_source) {", "if (0) {"),
    "checksum": ("tcp_in.c", "if (!net_checksum_good(p)) {", "if (0) {"),
}


def build(folder, build_dir, flags):
    sources = [f"{NET}/wire/{f}" for f in sorted(os.listdir(f"{ROOT}/{NET}/wire"))]
    sources += [f"src/base/{f}" for f in sorted(os.listdir(f"{ROOT}/src/base")) if f.endswith(".c")]
    sources += [f"{NET}/test/sim.c", f"{NET}/test/ends.c", "tests/harness/test.c"]
    include = ["-I" + folder, f"-I{NET}/include", "-Isrc/base/include", "-Itests/harness/include", f"-I{NET}/test"]
    compile_ = ["gcc", "-O1", "-w", "-D_GNU_SOURCE", "-std=gnu11", *include, *flags]
    sources += [f"{NET}/test/test_net_{t}.c" for t in TESTS]
    sources += [f"{folder}/{f}" for f in sorted(os.listdir(folder)) if f.endswith(".c")]
    jobs, objects = [], []
    for f in sources:
        out = f"{build_dir}/" + "-".join(f.split("/")[-2:]) + ".o"
        if "/test_net_" not in f:
            objects.append(out)
        source = os.path.join(ROOT, f)
        if not os.path.exists(out) or os.path.getmtime(source) > os.path.getmtime(out):
            jobs.append(subprocess.Popen([*compile_, "-c", source, "-o", out], cwd=ROOT))
    if any([j.wait() for j in jobs]):
        raise SystemExit("does not compile")
    for t in TESTS:
        subprocess.run(["gcc", f"{build_dir}/test-test_net_{t}.c.o", *objects, "-o", f"{build_dir}/test-{t}"],
                       cwd=ROOT, check=True)


def noticed(build_dir):
    """The name of the test that fails, or None."""
    for t in TESTS:
        command = [f"{build_dir}/test-{t}"] + ([f"{ROOT}/{NET}/test/scripts"] if t == "scripts" else [])
        try:
            r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=120)
        except subprocess.TimeoutExpired:
            return f"{t} (does not end)"
        if r.returncode:
            first = [line for line in r.stdout.decode().splitlines() if line.startswith("not ok")]
            return t + (": " + first[0].split()[2].rstrip(":") if first else " (crash)")
    return None


def main():
    names = sys.argv[1:] or list(MUTATIONS)
    missed = []
    with tempfile.TemporaryDirectory() as w:
        folder, build_dir = f"{w}/stack", f"{w}/build"
        shutil.copytree(f"{ROOT}/{NET}/stack", folder)
        os.mkdir(build_dir)
        build(folder, build_dir, [])
        if (why := noticed(build_dir)):
            raise SystemExit(f"the stack as it is fails {why}")
        for name in names:
            file, old, new = MUTATIONS[name]
            path = f"{folder}/{file}"
            with open(path) as f:
                text = f.read()
            if old not in text:
                raise SystemExit(f"{name}: the text is not in {file} any more")
            with open(path, "w") as f:
                f.write(text.replace(old, new))
            build(folder, build_dir, [])
            why = noticed(build_dir)
            print(f"{name}: {why or 'NOBODY NOTICES'}", flush=True)
            if not why:
                missed.append(name)
            with open(path, "w") as f:
                f.write(text)
    print(f"{len(names)} taken out, {len(missed)} not noticed: {' '.join(missed)}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
