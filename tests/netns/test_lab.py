"""The lab carries traffic in all directions and leaves nothing, however it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deckwire.lab import Lab, LabError, Node, remove_stale
from deckwire.lab.certificates import make_certificate
from deckwire.lab.namespaces import MARK, NAMESPACES, PATIENCE_SECONDS, RUN, wait_until
from deckwire.lab.servers import http_server, openssl_server, serve, smtp_server, tls_server

pytestmark = pytest.mark.root

HOLDS_A_LAB = """
import sys, signal
from deckwire.lab import Lab
with Lab() as lab:
    lab.popen(lab.deckies[0], ["sleep", "600"])
    lab.popen(None, ["sleep", "600"])
    print(lab.host.netns, flush=True)
    sys.stdin.read()
"""


def links() -> str:
    """The interfaces of the machine, without counters."""
    return subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout


def leftovers(stem: str) -> list[str]:
    """The files and processes of the lab with this stem."""
    found = [str(path) for path in (*NAMESPACES.glob(f"{stem}*"), *RUN.glob(f"{stem}*"))]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"{MARK}={stem}".encode() in environment:
                found.append(f"process {entry.name}")
    return found


def stem_of(name: str) -> str:
    match = re.fullmatch(rf"(dwlab-{os.getpid()}-[0-9]+-[0-9]+|dwlab-[0-9-]+)-[a-z].*", name)
    assert match is not None
    return match[1]


def listen(lab: Lab, node: Node, port: int = 7) -> None:
    """Start a server that replies with the client's address and the line that it received."""

    def talk(connection: socket.socket) -> None:
        line = connection.recv(64)
        connection.sendall(f"{connection.getpeername()[0]} {line.decode()}".encode())

    serve(lab, node, port, talk)


def ask(node: Node, address: str, source: str | None = None) -> str:
    with node.connect(address, 7, source) as connection:
        connection.sendall(b"hello")
        return connection.recv(128).decode()


def addresses(node: Node) -> list[str]:
    return [*node.ipv4, *node.ipv6]


def same_family(mine: str, theirs: str) -> bool:
    return (":" in mine) == (":" in theirs)


def test_every_node_reaches_every_decky_by_every_address(lab: Lab) -> None:
    for decky in lab.deckies:
        listen(lab, decky)
    asked = 0
    for node in lab.nodes:
        for decky in lab.deckies:
            for mine in addresses(node):
                for theirs in addresses(decky):
                    if node is not decky and same_family(mine, theirs):
                        seen = ask(node, theirs, mine).removeprefix("::ffff:")
                        assert seen == f"{mine} hello"
                        asked += 1
    assert asked == 3 * (3 * 2) + 3 * 2 + 3 * 2 * 2


def test_deckies_reach_the_client_and_the_host(lab: Lab) -> None:
    for node in (lab.client, lab.host):
        listen(lab, node)
        for decky in lab.deckies:
            for theirs in (node.v4, node.v6):
                assert ask(decky, theirs).endswith("hello")


def test_the_deckies_file_names_every_address(lab: Lab) -> None:
    lines = lab.deckies_file().read_text().splitlines()
    assert [line.split() for line in lines] == [
        [address, decky.name] for decky in lab.deckies for address in addresses(decky)
    ]


def test_nothing_is_left_and_nothing_else_changed() -> None:
    before = sorted(os.listdir(NAMESPACES)) if NAMESPACES.exists() else []
    links_before = links()
    with Lab(clients=2, host_macvlan=True) as lab:
        stem = stem_of(lab.host.netns)
        listen(lab, lab.deckies[0])
        connection = lab.client.connect(lab.deckies[0].v4, 7)
        # Start a shell whose child outlives it, and a process that ignores SIGTERM.
        lab.run(lab.client, ["sh", "-c", "sleep 600 >/dev/null 2>&1 &"])
        deaf = lab.popen(
            lab.client, ["sh", "-c", "trap '' TERM; echo; read x < /dev/zero"], stdout=-1
        )
        assert deaf.stdout is not None
        with deaf.stdout:
            deaf.stdout.readline()
        lab.popen(lab.deckies[1], ["sleep", "600"])
        assert links() == links_before
        assert len([name for name in os.listdir(NAMESPACES) if name.startswith(stem)]) == 5
        assert leftovers(stem)
    connection.close()
    assert not leftovers(stem)
    assert links() == links_before
    ours = set(os.listdir(NAMESPACES)) - set(before)
    assert not [name for name in ours if name.startswith(f"dwlab-{os.getpid()}-")]


def test_nothing_is_left_after_an_exception() -> None:
    lab = Lab()
    with pytest.raises(ZeroDivisionError), lab:
        raise ZeroDivisionError
    assert not leftovers(stem_of(lab.host.netns))


def test_nothing_is_left_when_it_cannot_be_built() -> None:
    lab = Lab(mode="passthru")
    with pytest.raises(LabError, match="cannot be made"), lab:
        pytest.fail("such a parent carries one macvlan")
    assert not leftovers(stem_of(lab.host.netns))


def test_two_labs_do_not_disturb_each_other() -> None:
    with Lab(deckies=["a"]) as first, Lab(deckies=["a", "b"]) as second:
        listen(first, first.deckies[0])
        listen(second, second.deckies[1])
        assert ask(first.client, first.deckies[0].v4).endswith("hello")
        assert ask(second.client, second.deckies[1].v4).endswith("hello")
        with pytest.raises(OSError):  # noqa: PT011 - refused by the kernel of the same address
            ask(second.client, second.deckies[0].v4)


Holder = Callable[[], tuple[subprocess.Popen[str], str]]


@pytest.fixture
def holder() -> Iterator[Holder]:
    """A function that starts a process with a lab. Returns the process and the lab's stem."""
    started: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS_A_LAB],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        stem = stem_of(process.stdout.readline().strip())
        # A process has no environment for a moment while execve() replaces its memory.
        wait_until(lambda: len(leftovers(stem)) == 5 + 1 + 2, f"namespaces and processes of {stem}")
        return process, stem

    yield start
    for process in started:
        process.kill()
        process.wait()
    remove_stale()
    for process in started:
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
    ],
)
def test_nothing_is_left_after_a_signal(
    holder: Holder, number: signal.Signals, status: int
) -> None:
    process, stem = holder()
    process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) == status
    assert not leftovers(stem)


def test_a_killed_lab_is_stale_and_a_running_one_is_not(holder: Holder) -> None:
    killed, killed_stem = holder()
    living, living_stem = holder()
    standing = leftovers(living_stem)
    killed.kill()
    killed.wait()
    assert len(leftovers(killed_stem)) == 5 + 1 + 2
    assert killed_stem in remove_stale()
    assert not leftovers(killed_stem)
    assert leftovers(living_stem) == standing
    assert living.poll() is None


def test_a_lab_of_an_earlier_process_with_the_same_id_is_stale(holder: Holder) -> None:
    _, stem = holder()
    prefix, pid, start, number = stem.split("-")
    # Act as if an earlier process with the same id had been killed.
    other = f"{prefix}-{pid}-{int(start) - 1}-{number}"
    directory = RUN / other
    directory.mkdir()
    assert remove_stale() == [other]
    assert not directory.exists()
    assert leftovers(stem)


def test_a_directory_that_only_resembles_a_lab_is_left_alone() -> None:
    resembling = RUN / "dwlab-notes"
    resembling.mkdir()
    try:
        remove_stale()
        assert resembling.exists()
    finally:
        resembling.rmdir()


def frame_lengths(lab: Lab, sender: Node, receiver: Node) -> list[int]:
    """The lengths of the frames that carry 200 KB, as the MACVLAN parent sees them."""
    received = threading.Event()

    def talk(connection: socket.socket) -> None:
        while connection.recv(65_536):
            pass
        received.set()

    serve(lab, receiver, 9, talk)
    with lab.host.inside():
        # ETH_P_ALL: frames that arrive at the parent and frames that leave it.
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with tap, sender.connect(receiver.v4, 9) as connection:
        tap.bind(("parent0", 3))
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_388_608)
        connection.sendall(bytes(200_000))
        connection.shutdown(socket.SHUT_WR)
        assert received.wait(PATIENCE_SECONDS)
        tap.setblocking(False)
        lengths = []
        while True:
            try:
                lengths.append(len(tap.recv(100_000)))
            except BlockingIOError:
                return lengths


@pytest.mark.parametrize("lateral", [False, True], ids=["outside", "lateral"])
def test_offloads_make_super_packets_and_without_them_there_are_none(lateral: bool) -> None:
    with Lab() as lab:
        sender = lab.deckies[1] if lateral else lab.client
        assert max(frame_lengths(lab, sender, lab.deckies[0])) > 1_514
        lab.set_offloads(False)
        assert max(frame_lengths(lab, sender, lab.deckies[2])) == 1_514
    with Lab(offloads=False, mtu=1_400) as lab:
        sender = lab.deckies[1] if lateral else lab.client
        assert max(frame_lengths(lab, sender, lab.deckies[0])) == 1_414


def test_the_macvlans_have_the_requested_mode() -> None:
    with Lab(mode="vepa", host_macvlan=True) as lab:
        for node in (lab.host, *lab.deckies):
            shown = lab.run(node, ["ip", "-d", "link", "show", node.interface]).stdout
            assert "macvlan mode vepa" in shown


def test_a_process_runs_on_its_node(lab: Lab) -> None:
    own = os.stat("/proc/self/ns/net").st_ino
    done = lab.run(lab.deckies[0], ["readlink", "/proc/self/ns/net"])
    assert done.stdout != f"net:[{own}]\n"
    assert lab.run(None, ["readlink", "/proc/self/ns/net"]).stdout == f"net:[{own}]\n"
    assert os.stat("/proc/self/ns/net").st_ino == own
    assert lab.run(lab.client, ["cat"], input="typed").stdout == "typed"
    assert lab.run(lab.client, ["sh", "-c", "exit 7"]).returncode == 7
    with pytest.raises(subprocess.TimeoutExpired):
        lab.run(lab.client, ["sleep", "600"], seconds=0.1)


def secured(node: Node, address: str, port: int, version: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context.wrap_socket(node.connect(address, port), server_hostname="www.example.test")


def test_each_server_has_its_own_certificate(lab: Lab) -> None:
    web, mail, files = lab.deckies
    rsa = make_certificate(lab.directory, "www.example.test", names=["example.test"])
    ec = make_certificate(lab.directory, "mail.example.test", key="ec")
    openssl_server(lab, web, rsa)
    openssl_server(lab, web, rsa, 8443, ["-tls1_2"])
    tls_server(lab, files, ec, alpn=["http/1.1"])
    http_server(lab, files)
    smtp_server(lab, mail, ec)
    for address in (web.v4, web.v6):
        with secured(lab.client, address, 443, ssl.TLSVersion.TLSv1_3) as connection:
            assert connection.version() == "TLSv1.3"
            shown = connection.getpeercert(binary_form=True)
            assert shown == ssl.PEM_cert_to_DER_cert(rsa.certificate.read_text())
    with secured(lab.client, web.v4, 8443, ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        secured(lab.client, web.v4, 8443, ssl.TLSVersion.TLSv1_3)
    for url in (f"https://{files.v4}/", f"https://[{files.v6}]/", f"http://{files.v4}/"):
        done = lab.run(mail, ["curl", "-sk", url])
        assert (done.returncode, done.stdout) == (0, "It works\n")
    argv = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{mail.v4}:25"]
    done = lab.run(lab.client, argv, input="QUIT\n")
    assert done.returncode == 0
    assert "subject=CN = mail.example.test" in done.stdout
    assert rsa.key.stat().st_mode & 0o077 == 0


def test_without_root_there_is_one_line() -> None:
    program = "from deckwire.lab import Lab\nLab().__enter__()"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LabError: network namespaces cannot be made: only root can" in done.stderr


def test_a_condition_that_never_holds_is_an_error() -> None:
    with pytest.raises(LabError, match="the moon"):
        wait_until(lambda: False, "the moon", 0.01)
