"""The machine on which the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

from deckwire import __version__
from deckwire.compiled import FORM

QUIET = 0.5
"""Load average above which other programs disturb the figures."""


def describe() -> dict[str, object]:
    """Facts that a reader needs to judge the figures."""
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "virtual": _first_line(["systemd-detect-virt"]),
        "memory_mb": int(memory[1]) // 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": _first_line(["openssl", "version"]),
        "iperf3": _first_line(["iperf3", "--version"]),
        "deckwire": f"{__version__}, {'compiled' if FORM.why_not() is None else 'pure'} modules",
        "mitigations": _mitigations(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def warnings() -> list[str]:
    """Reasons why the figures of this run are worth less."""
    load = os.getloadavg()[0]
    return [f"the load is {load:.2f}: do not quote figures of this run"] if load > QUIET else []


def _processor() -> str:
    """The CPU's name with family and model: a virtual machine may name only the vendor."""
    found = dict(
        re.findall(r"^([^\t:]+)\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    )
    name = found.get("model name", platform.processor())
    more = [f"{key} {found[key]}" for key in ("cpu family", "model", "cpu MHz") if key in found]
    return f"{name} ({', '.join(more)})" if more else name


def _mitigations() -> str:
    """Mitigations of CPU flaws. Some make calls and returns slower, and BPF has many of those."""
    found = []
    for path in sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*")):
        state = path.read_text().strip()
        if state.startswith("Mitigation:"):
            found.append(f"{path.name}: {state.removeprefix('Mitigation: ')}")
    return "; ".join(found)


def _first_line(argv: list[str]) -> str:
    try:
        output = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return "not installed"
    return output.splitlines()[0] if output else ""
