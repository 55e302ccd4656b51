"""What somebody could do who runs code in the agent: the agent itself tries it, when asked.

SIGUSR1 is the request. Its handler runs in the agent's main thread, so with the rights of that
thread. It writes one line with the results to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from deckwire.kernel.capabilities import Capability

INTRUDER = """
import ctypes, errno, functools, json, os, signal, socket, struct, sys
from deckwire.kernel import loader_process, loading, syscalls
from deckwire.runtime import privileges

# An emulated CPU of a busy machine takes minutes. Whoever waits for the agent has the limit.
loader_process.LOADER_SECONDS = loading.DETACH_SECONDS = 86_400.0

if attach := sys.argv.pop(1):
    loading.LoadRequest = functools.partial(loading.LoadRequest, attach=attach)

held = []
give_up = privileges.give_up
privileges.give_up = lambda loaded, *more: (held.append(loaded), give_up(loaded, *more))

libc = ctypes.CDLL(None, use_errno=True)

def attribute(layout, *values):
    return ctypes.create_string_buffer(struct.pack(layout, *values).ljust(64, bytes(1)), 64)

def bpf(command, layout, *values):
    result = syscalls.call_bpf(command, attribute(layout, *values))
    if result < 0:
        raise OSError(-result, "bpf")
    os.close(result)

# r0 = 0; exit
code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
licence = ctypes.create_string_buffer(b"GPL")

def load_program(kind):
    bpf(5, "IIQQ", kind, 2, ctypes.addressof(code), ctypes.addressof(licence))

def called(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def perf_event():
    attr = ctypes.create_string_buffer(112)
    struct.pack_into("IIQ", attr, 0, 1, 112, 0)
    os.close(syscalls.perf_event_open(attr, 0, 0))

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)

def jump():
    jumps = held[0].maps["jumps"]
    program = next(iter(held[0].programs.values()))
    jumps.update(bytes(4), struct.pack("I", program.fd))

def execute():
    pid = os.posix_spawn("/bin/true", ["/bin/true"], {})
    os.waitpid(pid, 0)

ATTEMPTS = {
    "load a program": lambda: load_program(3),
    "load a socket filter": lambda: load_program(1),
    "make a map": lambda: bpf(0, "IIII", 2, 4, 8, 1),
    "get a program by its id": lambda: bpf(13, "I", 1),
    "change jumps": jump,
    "delete from jumps": lambda: held[0].maps["jumps"].delete(bytes(4)),
    "open a perf event": perf_event,
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6).close(),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "read /etc/shadow": lambda: open("/etc/shadow").close(),
    "write to /etc": lambda: write("/etc/deckwire-intruder"),
    "write to /usr/lib": lambda: write("/usr/lib/deckwire-intruder"),
    "write to /root": lambda: write("/root/deckwire-intruder"),
    "become root": lambda: os.setresuid(0, 0, 0),
    "enter a namespace": lambda: called("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "mount": lambda: called("mount", b"none", b"/mnt", b"tmpfs", 0, None),
    "trace process 1": lambda: called("ptrace", 16, 1, None, None),
    "end process 1": lambda: os.kill(1, 0),
    "raise a capability": lambda: called("capset", *MORE),
    "execute": execute,
}
MORE = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 1 << 12, 1 << 12, 0, 0, 0, 0)

def attempt(function):
    try:
        function()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "done"

def intrude(number, frame):
    # The thread may be between a system call and the reading of its errno.
    before = ctypes.get_errno()
    results = {name: attempt(function) for name, function in ATTEMPTS.items()}
    ctypes.set_errno(before)
    os.write(2, f"intruder: {json.dumps(results)}\\n".encode())

signal.signal(signal.SIGUSR1, intrude)
from deckwire.entry import main
main()
"""
"""A program for `deckwire` that is such an agent."""


def program(attach: str = "") -> tuple[str, ...]:
    """The command for it. `attach` is how it attaches; "" leaves the choice to it."""
    return (sys.executable, "-P", "-c", INTRUDER, attach)


_MARK = "intruder: "

RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])
FOR_MAPS = () if RELEASE >= (5, 19) else (Capability.CAP_BPF,)
"""What the kernel wants of somebody who has the descriptor of a map."""
FOR_FILTERS = (Capability.CAP_NET_ADMIN, *FOR_MAPS)
"""What a helper needs."""
IS_FILTERED = find_spec("seccomp") is not None
"""The agent has a filter of system calls."""
SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")

REFUSALS = ("EPERM", "EACCES", "EROFS", "EAFNOSUPPORT")


def attempts(
    send: Callable[[signal.Signals], None],
    lines: Callable[[], list[str]],
    wait: Callable[[Callable[[], object]], None],
) -> dict[str, str]:
    """Have the agent try everything: the errno of each attempt, or ``done``."""

    def found() -> list[str]:
        return [line for line in lines() if line.startswith(_MARK)]

    before = len(found())
    send(signal.SIGUSR1)
    wait(lambda: len(found()) > before)
    return dict(json.loads(found()[-1].removeprefix(_MARK)))


def statuses(pid: int, proc: Path = Path("/proc")) -> list[dict[str, str]]:
    """The status of each thread of a process and of all that it started: proc(5)."""
    found = []
    for task in (proc / str(pid) / "task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found.append(dict(line.split(":\t", 1) for line in lines if ":\t" in line))
        for child in (task / "children").read_text().split():
            found += statuses(int(child), proc)
    return found


def rights(threads: Sequence[Mapping[str, str]], main: int) -> tuple[set[int], set[int]]:
    """All sets of capabilities, but for the bounding set, of process `main` and of the others."""
    ours: set[int] = set()
    others: set[int] = set()
    for status in threads:
        found = ours if status["Tgid"] == str(main) else others
        found.update(int(status[name], 16) for name in SETS)
    return ours, others


def mask(*capabilities: Capability) -> int:
    """A set of capabilities as the kernel has it."""
    return sum(1 << one for one in capabilities)


def expected(*, filters: bool, kept: Sequence[Capability] = ()) -> tuple[set[int], set[int]]:
    """What `rights` should be if the agent attaches by filters, or not, and keeps some."""
    return {0, mask(*FOR_MAPS, *kept)}, {0, mask(*FOR_FILTERS)} if filters else set()


def done(results: Mapping[str, str]) -> set[str]:
    """The attempts of `attempts` that were not refused as they should be."""
    allowed = set()
    if not IS_FILTERED:
        allowed = {"execute", *(("load a socket filter", "make a map") if FOR_MAPS else ())}
    return {name for name, how in results.items() if how not in REFUSALS} - allowed
