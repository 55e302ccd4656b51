#!/usr/bin/python3 -u
"""deckwire-acceptance: attack the deckies of this machine and check the events in rsyslog's file.

Prints one line for each check. Exits with status 0 if all passed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

LOG = Path("/var/log/deckwire.log")
UNIT = "deckwire.service"
SECONDS = 600.0
"""Longest wait for any condition: an emulated CPU of a busy machine is slow."""
EXPOSURE = 20
"""Highest exposure that `systemd-analyze security` may report, in tenths."""
CAPABILITIES = 1 << 12 | 1 << 38 | 1 << 39
"""CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF in <linux/capability.h>."""
HELPER_CAPABILITIES = 1 << 12
"""CAP_NET_ADMIN. Before Linux 6.6 a helper of the agent attaches."""

LINE = re.compile(r"<\d+>1 \S+ (?P<host>\S+) sniffer - (?P<event>\w+) \[\S+(?P<fields>.*)\]")
FIELD = re.compile(r' (\w+)="((?:\\.|[^"\\])*)"')

Fields = dict[str, str]


class CheckError(Exception):
    """A check failed. The message gives the reason."""


def run(*argv: str, namespace: str | None = None, given: str = "") -> str:
    """Run a command in a network namespace. Returns its output, also if it fails."""
    inside = () if namespace is None else ("ip", "netns", "exec", namespace)
    done = subprocess.run(
        [*inside, *argv], input=given, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return done.stdout + done.stderr


def events() -> list[Fields]:
    """The events in the log so far. Their fields include host and event."""
    found = []
    for line in LOG.read_text().splitlines() if LOG.exists() else []:
        match = LINE.fullmatch(line)
        if match is None:
            raise CheckError(f"not a line of Deckwire: {line[:200]}")
        fields = dict(FIELD.findall(match["fields"]))
        found.append({"host": match["host"], "event": match["event"], **fields})
    return found


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CheckError(f"{what}: not within {SECONDS:.0f} s")
        time.sleep(0.2)


def expect(event: str, **fields: str) -> None:
    """Wait for an event with these fields."""
    wanted = {"event": event, **fields}
    wait_for(f"an event with {wanted}", lambda: any(wanted.items() <= e.items() for e in events()))


def is_listening(namespace: str, port: int) -> bool:
    """Ask the kernel, because a trial connection would add events to the log."""
    return f":{port} " in run("ss", "-Htln", namespace=namespace)


def start_agent() -> None:
    """Start the agent and wait until it is ready."""
    since = f"@{time.time():.6f}"
    run("systemctl", "start", UNIT)
    wait_for(
        f"{UNIT} is ready",
        lambda: "ready" in run("journalctl", "-u", UNIT, "-o", "cat", f"--since={since}"),
    )


def everything_starts() -> None:
    """Network, services, log and agent restart."""
    run("systemctl", "stop", UNIT)
    LOG.write_text("")
    run(
        "systemctl",
        "restart",
        "rsyslog",
        "deckwire-fleet",
        "decky-web",
        "decky-shell",
        "decky-mail",
    )
    for decky, port in (("web-01", 443), ("shell-01", 22), ("mail-01", 25)):
        wait_for(f"{decky} listens on {port}", partial(is_listening, decky, port))
    start_agent()


def program_is_the_packages() -> None:
    """The agent runs from the Debian package, whose programs need no compiler."""
    status = run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "deckwire")
    print(f"     deckwire {status}")
    # A line for each file that differs. Those with a "c" are configuration.
    changed = [
        line for line in run("dpkg", "--verify", "deckwire").splitlines() if " c " not in line
    ]
    if not status.startswith("installed ") or changed:
        raise CheckError(f"{status}: {changed}")
    command = Path(f"/proc/{main_pid()}/cmdline").read_text().split("\0")
    if "/usr/bin/deckwire" not in command:
        raise CheckError(f"the service runs {command}")
    trial = [line for line in run("deckwire", "doctor").splitlines() if "trial" in line.split()]
    print(f"     {' '.join(' '.join(trial).split())}")
    if "as kept at the installation" not in " ".join(trial):
        raise CheckError(f"a start compiles: {trial}")


def main_pid() -> str:
    """The agent's process."""
    return run("systemctl", "show", "-P", "MainPID", UNIT).strip()


def service_is_confined() -> None:
    """The agent has its own user, no capability after its start, and filtered system calls."""
    if run("systemctl", "is-active", UNIT).strip() != "active":
        raise CheckError(run("journalctl", "-n", "20", "--no-pager", "-u", UNIT))
    main = main_pid()
    control_group = Path(
        "/sys/fs/cgroup" + run("systemctl", "show", "-P", "ControlGroup", UNIT).strip()
    )
    for pid in (control_group / "cgroup.procs").read_text().split():
        process_is_confined(pid, 0 if pid == main else HELPER_CAPABILITIES)
    for name in ("memory.current", "memory.peak"):
        path = control_group / name
        if path.exists():
            print(f"     {name} {int(path.read_text()) >> 20} MB")


def process_is_confined(pid: str, held: int) -> None:
    """Check a process of the service, which may have the capabilities `held`."""
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    if "0" in status["Uid"].split():
        raise CheckError(f"{status['Name']} runs as root")
    for kind in ("CapPrm", "CapEff", "CapAmb"):
        if int(status[kind], 16) & ~held:
            raise CheckError(f"{kind} of {status['Name']} is {status[kind]}")
    # The bounding set grants nothing, and nobody without CAP_SETPCAP can change it.
    if int(status["CapBnd"], 16) != CAPABILITIES:
        raise CheckError(f"CapBnd of {status['Name']} is {status['CapBnd']}")
    if (status["NoNewPrivs"], status["Seccomp"]) != ("1", "2"):
        raise CheckError(f"NoNewPrivs {status['NoNewPrivs']}, Seccomp {status['Seccomp']}")


def exposure_is_small() -> None:
    """systemd-analyze rates the exposure of the service as low."""
    argv = ["systemd-analyze", "security", "--no-pager", f"--threshold={EXPOSURE}", UNIT]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    last = (done.stdout + done.stderr).strip().splitlines()[-1]
    print(f"     {last}")
    if done.returncode:
        raise CheckError(last)


def web_by_tls13() -> None:
    """A TLS 1.3 connection has an event for every stage from SYN to end."""
    run(
        *("curl", "-sk", "--resolve", "bank.example.com:443:192.0.2.11"),
        "https://bank.example.com/",
        namespace="attacker",
    )
    expect("tcp_syn_fingerprint", host="web-01", src_ip="192.0.2.66", dst_port="443")
    expect("tcp_handshake", host="web-01", dst_ip="192.0.2.11", dst_port="443")
    expect("tls_client_hello", host="web-01", sni="bank.example.com", direction="inbound")
    expect("tls_session", host="web-01", sni="bank.example.com", tls_version="TLS 1.3")
    expect("tcp_flow_timing", host="web-01", dst_ip="192.0.2.11", dst_port="443", close="fin")


def web_by_tls12_over_ipv6() -> None:
    """TLS 1.2 over IPv6 shows the certificate."""
    run(
        *("openssl", "s_client", "-tls1_2", "-connect", "[2001:db8::11]:443"),
        *("-servername", "six.example.com"),
        namespace="attacker",
    )
    expect("tls_session", host="web-01", src_ip="2001:db8::66", tls_version="TLS 1.2")
    expect(
        "tls_certificate",
        host="web-01",
        src_ip="2001:db8::66",
        subject_cn="web-01.example.com",
        self_signed="true",
        sni="six.example.com",
    )


def mail_by_starttls() -> None:
    """TLS after STARTTLS in an SMTP session is reported."""
    run(
        *("openssl", "s_client", "-starttls", "smtp", "-connect", "192.0.2.13:25"),
        *("-servername", "mail-01.example.com"),
        namespace="attacker",
        given="QUIT\r\n",
    )
    expect("tls_client_hello", host="mail-01", sni="mail-01.example.com", starttls="true")
    expect("tls_session", host="mail-01", dst_port="25")


def shell_is_asked_for_its_key() -> None:
    """A connection without TLS has events for its handshake and its end."""
    run("ssh-keyscan", "-t", "ed25519", "192.0.2.12", namespace="attacker")
    expect("tcp_handshake", host="shell-01", dst_port="22")
    expect("tcp_flow_timing", host="shell-01", dst_port="22")


def scanner_is_recognised() -> None:
    """nmap is recognised by its SYNs."""
    run("nmap", "-n", "-Pn", "-sS", "-p", "22,25,80,443", "192.0.2.12", namespace="attacker")
    expect("tcp_syn_fingerprint", host="shell-01", tool="nmap", os_guess="nmap")


def lateral_movement_is_seen() -> None:
    """A decky that attacks another is reported as lateral."""
    run("curl", "-sk", "https://192.0.2.11/", namespace="mail-01")
    expect("tls_client_hello", host="web-01", src_ip="192.0.2.13", direction="lateral")


def end_is_clean() -> None:
    """A stop reports the counters without a loss, and detaches. Then it starts again."""
    run("systemctl", "stop", UNIT)
    expect("capture_stats")
    lost = [event for event in events() if event["event"] == "capture_loss"]
    if lost:
        raise CheckError(f"lost: {lost}")
    filters = [run("tc", "filter", "show", "dev", "fleet0", hook) for hook in ("ingress", "egress")]
    if any("deckwire" in shown for shown in filters):
        raise CheckError(f"still attached: {filters}")
    result = run("systemctl", "show", "-P", "Result", UNIT).strip()
    if result != "success":
        raise CheckError(f"the service ended with {result}")
    start_agent()


CHECKS: tuple[Callable[[], None], ...] = (
    everything_starts,
    program_is_the_packages,
    service_is_confined,
    exposure_is_small,
    web_by_tls13,
    web_by_tls12_over_ipv6,
    mail_by_starttls,
    shell_is_asked_for_its_key,
    scanner_is_recognised,
    lateral_movement_is_seen,
    end_is_clean,
)


def main() -> int:
    """Run all checks in order."""
    if os.geteuid():
        return subprocess.run(["sudo", *sys.argv], check=False).returncode
    started = time.monotonic()
    passed = 0
    for check in CHECKS:
        try:
            check()
        except CheckError as error:
            print(f"FAIL {check.__doc__} {error}")
            if check is everything_starts:
                break
        else:
            passed += 1
            print(f"ok   {check.__doc__}")
    kinds: dict[str, int] = {}
    for found in events():
        kinds[found["event"]] = kinds.get(found["event"], 0) + 1
    print(", ".join(f"{count} {event}" for event, count in sorted(kinds.items())))
    print(f"{passed} of {len(CHECKS)} passed in {time.monotonic() - started:.0f} s")
    return 0 if passed == len(CHECKS) else 1


if __name__ == "__main__":
    sys.exit(main())
