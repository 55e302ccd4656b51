"""Connections between a hand-made end and a decky's TCP, and what the decky's sockets read.

Each case has an address of its own, because the budgets of anomalies are by source.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from struct import unpack_from
from typing import Self

from deckwire.lab import Lab, Node
from tests.differential.techniques import PLAIN, SEGMENTS, Kind, Play, Technique
from tests.support.bpf_frames import APPLICATION_DATA, CHANGE_CIPHER_SPEC
from tests.support.flights import client_hello, message, record, server_hello, u16, vector
from tests.support.raw_peer import Peer, Wire, on_cpu

PORT = 443
NETWORKS = "10.1.0.0/16", "2001:db8:c000::/48"
"""Where peers on the client's link have their addresses."""
LATERAL_NETWORKS = "10.2.0.0/16", "2001:db8:d000::/48"
"""Where peers on a decky's link have theirs: each one is a decky."""
ANSWER = (
    record(message(2, server_hello((43, u16(0x0304)), suite=0x1301)), version=0x0303)
    + CHANGE_CIPHER_SPEC
    + APPLICATION_DATA
)
_MESSAGE = 400
"""Bytes of the message in question."""
_ACKED_RECEIVED = struct.Struct("=120xQQ")
"""tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info of <linux/tcp.h>."""
_WORKERS = 12
_SECONDS = 20.0
_ANSWER_SECONDS = 0.5


class Direction(StrEnum):
    """The field `direction` of the events."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"
    LATERAL = "lateral"


@dataclass(slots=True)
class Read:
    """What a decky's socket says of its connection."""

    data: bytes = b""
    accepted: bool = False
    answered: bool = False
    """It replied to a ClientHello, or sent its own one."""
    close: str = "open"
    acked: int = 0
    """Its own bytes that its peer has acknowledged."""
    received: int = 0
    """Bytes of its peer that it has acknowledged, urgent ones among them."""
    played: threading.Event = field(default_factory=threading.Event)
    """Set when its peer sends nothing more."""
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Case:
    """One connection."""

    number: int
    direction: Direction
    family: int
    techniques: Sequence[Technique]
    offloads: bool = False
    """The peer leaves checksums to the hardware and sends super-packets."""
    source: int | None = None
    """Cases of one source have the same address. None: an address of its own."""
    again: int = 0
    """How often the same was played before: from another port each time."""
    known: bytes = b""
    """A hello that was emitted before, which is the decoy."""
    moment: float = 0.3
    """The share of the message that is delivered before the steps come."""
    port: int = 0
    """Of the peer, or of the decky if that is the client."""
    read: Read = field(default_factory=Read)
    failure: str = ""

    @property
    def from_peer(self) -> bool:
        """Whether the peer is the client."""
        if self.direction == Direction.OUTBOUND:
            return False
        return all(technique.client is not False for technique in self.techniques)

    @property
    def address(self) -> str:
        """The peer's address."""
        number = self.number if self.source is None else self.source
        lateral = self.direction == Direction.LATERAL
        if self.family == 6:
            return f"2001:db8:{'d' if lateral else 'c'}000:{number + 1:x}::1"
        return f"10.{2 if lateral else 1}.{number >> 8 & 255}.{number + 1 & 255}"

    @property
    def names(self) -> str:
        return " + ".join(technique.name for technique in self.techniques) or "nothing"

    def message(self, decoy: bool = False) -> bytes:
        """The message in question: a ClientHello, or a ServerHello if the decky is the client."""
        if not self.from_peer:
            return answer(decoy)
        return self.known if decoy and self.known else hello(self.name(decoy), decoy)

    def name(self, decoy: bool = False) -> str:
        return f"{'lies' if decoy else 'true'}-{self.number:05}.example"


def hello(name: str, decoy: bool = False) -> bytes:
    """A ClientHello of 400 bytes. Both copies differ at the start, in the middle and at the end."""
    suites = u16(0xC030, 0xC02C, 0x009D) if decoy else u16(0xC02F, 0xC02B, 0x009C)
    named = (0, vector(2, b"\0" + vector(2, name.encode())))
    extensions = [(10, vector(2, u16(29, 23))), (11, b"\x01\0"), (13, vector(2, u16(0x0403)))]

    def made(padding: bytes) -> bytes:
        body = client_hello(*extensions, (21, padding), named, suites=suites)
        return record(message(1, body))

    return made(bytes([0xAA if decoy else 0x55]) * (_MESSAGE - len(made(b""))))


def answer(decoy: bool = False) -> bytes:
    """A ServerHello of 400 bytes; the copies differ as those of a ClientHello do."""
    suite, last = (0xC030, 0x0023) if decoy else (0xC02F, 0xFF01)

    def made(padding: bytes) -> bytes:
        body = server_hello((0x4A4A, padding), (last, b"\0"), suite=suite)
        return record(message(2, body), version=0x0303)

    return made(bytes([0xAA if decoy else 0x55]) * (_MESSAGE - len(made(b""))))


class Stage(contextlib.ExitStack):
    """A lab where cases are played: wires for peers, listeners on deckies."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self._lab = lab
        self.web, self.mail, self.files = lab.deckies
        self._reads: dict[tuple[str, int], Read] = {}

    def __enter__(self) -> Self:
        with self.mail.inside(), open("/proc/sys/net/ipv4/tcp_fastopen", "w") as setting:
            # Every listener takes data of a SYN, and wants no cookie.
            setting.write(str(0x602))
        for decky in (self.web, self.mail):
            self._listen(decky)
        self._near = self.enter_context(Wire(self._lab, self._lab.client, NETWORKS))
        self._lateral = self.enter_context(Wire(self._lab, self.files, LATERAL_NETWORKS))
        return self

    def options(self, cases: Sequence[Case]) -> list[str]:
        """The peers that are deckies, as options of the agent."""
        lateral = {case.address for case in cases if case.direction == Direction.LATERAL}
        return [word for address in sorted(lateral) for word in ("--decky", f"{address}=ghost")]

    def play(self, cases: Sequence[Case]) -> None:
        """Play all cases, several at a time."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(self._play, cases))

    def decky(self, case: Case) -> Node:
        """The decky whose TCP is one end."""
        if not case.from_peer and case.direction == Direction.OUTBOUND:
            # The budget of anomalies is by client.
            return self._lab.deckies[case.number // 2 % 3]
        fast_open = any(technique.fast_open for technique in case.techniques)
        return self.mail if fast_open else self.web

    def _play(self, case: Case) -> None:
        cpus = os.sched_getaffinity(0)
        try:
            with on_cpu(case.number):
                if case.from_peer:
                    self._to_decky(case)
                else:
                    self._from_decky(case)
        except Exception as error:  # the case is the one that failed
            case.failure = repr(error)
        finally:
            os.sched_setaffinity(0, cpus)

    def _peer(self, case: Case, here: int, there: tuple[str, int]) -> Peer:
        wire = self._lateral if case.direction == Direction.LATERAL else self._near
        stamps = case.number % 3 != 0 or any(technique.stamps for technique in case.techniques)
        isn = random.Random(case.number).getrandbits(32)
        return Peer(wire, (case.address, here), there, isn, stamps=stamps, offloads=case.offloads)

    def _to_decky(self, case: Case) -> None:
        decky = self.decky(case)
        case.port = 20_000 + case.number % 40_000 - 1_000 * case.again
        self._reads[case.address, case.port] = case.read
        address = decky.v4 if case.family == 4 else decky.v6
        with self._peer(case, case.port, (address, PORT)) as peer:
            perform(case, peer)
            if case.read.accepted:
                case.read.over.wait(_SECONDS)

    def _from_decky(self, case: Case) -> None:
        decky = self.decky(case)
        address = decky.v4 if case.family == 4 else decky.v6
        family = socket.AF_INET if case.family == 4 else socket.AF_INET6
        with decky.inside():
            connection = socket.socket(family)
        connection.bind((address, 0))
        connection.settimeout(_SECONDS)
        case.port = connection.getsockname()[1]
        with self._peer(case, PORT, (address, case.port)) as peer:
            thread = threading.Thread(target=_connect, args=(connection, case))
            thread.start()
            if peer.wait(lambda: peer.opening):
                perform(case, peer)
            thread.join()

    def _listen(self, decky: Node) -> None:
        with decky.inside():
            listener = socket.create_server(
                ("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4_096
            )
        # Closing alone does not wake the thread.
        self.callback(listener.close)
        self.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, address = listener.accept()
                read = self._reads[address[0].removeprefix("::ffff:"), address[1]]
                read.accepted = True
                threading.Thread(target=_serve, args=(connection, read), daemon=True).start()


def _connect(connection: socket.socket, case: Case) -> None:
    """Be the client on a decky, until its server closes."""
    read = case.read
    with connection:
        try:
            connection.connect((case.address, PORT))
            read.accepted = read.answered = True
            connection.sendall(hello(case.name()))
        except OSError as error:
            read.close = type(error).__name__
        else:
            _read(connection, read, b"")
    read.over.set()


def _serve(connection: socket.socket, read: Read) -> None:
    """Be the server on a decky: reply to a whole ClientHello, and close when the client does."""
    connection.settimeout(_SECONDS)
    with connection:
        _read(connection, read, ANSWER)


def _read(connection: socket.socket, read: Read, reply: bytes) -> None:
    try:
        while data := connection.recv(65_536):
            read.data += data
            if reply and is_whole(read.data, 1):
                connection.sendall(reply)
                read.answered, reply = True, b""
        read.close = "fin"
    except ConnectionResetError:
        read.close = "rst"
    except OSError as error:
        read.close = type(error).__name__
    if read.close == "fin":
        _await_acks(connection, read)
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_RECEIVED.size)
    read.acked, read.received = _ACKED_RECEIVED.unpack(info)
    # The kernel counts the FIN too.
    read.received -= read.close == "fin"
    read.over.set()


def _await_acks(connection: socket.socket, read: Read) -> None:
    """Wait until the peer has acknowledged all that was sent, as far as it does."""
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if deadline is None and read.played.is_set():
            # Its last frame may still wait for a CPU.
            deadline = time.monotonic() + _ANSWER_SECONDS
        (waiting,) = unpack_from("=i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))
        if not waiting:
            return
        time.sleep(0.002)


def is_whole(data: bytes, kind: int) -> bool:
    """Whether a whole handshake message of this kind begins the stream, in one record."""
    return (
        data[:1] == b"\x16"
        and data[5:6] == bytes([kind])
        and len(data) >= 5 + int.from_bytes(data[3:5])
        and len(data) >= 9 + int.from_bytes(data[6:9])
    )


def perform(case: Case, peer: Peer) -> None:
    """Be the peer of a case, from the opening to the end."""
    try:
        _perform(case, peer)
    finally:
        case.read.played.set()


def _perform(case: Case, peer: Peer) -> None:
    """The life of the peer: opening, steps within the message, delivery, end."""
    play = Play(peer, case.message(), case.message(decoy=True), random.Random(case.number))
    by_kind: dict[Kind, list[Technique]] = {kind: [] for kind in Kind}
    for technique in case.techniques:
        by_kind[technique.kind].append(technique)
    (by_kind[Kind.OPENING] or [PLAIN])[0].play(play)
    if not peer.connected or peer.reset:
        return
    if not case.from_peer:
        peer.wait(lambda: len(peer.got) >= len(hello(case.name())))
        peer.accept()
    steps = by_kind[Kind.STEP]
    if steps and case.moment:
        play.push(int(play.left * case.moment))
        peer.wait(lambda: peer.acked >= len(peer.sent), _ANSWER_SECONDS)
    for technique in steps:
        if not peer.ended and not peer.reset:
            technique.play(play)
    if play.left > 16 and not peer.ended and not peer.reset:
        (by_kind[Kind.DELIVERY] or [SEGMENTS])[0].play(play)
    elif play.left and not peer.ended and not peer.reset:
        play.push(play.left)
    play.settle()
    if case.from_peer and not peer.reset and is_whole(peer.sent, 1):
        peer.wait(lambda: len(peer.got) >= len(ANSWER), _ANSWER_SECONDS)
        peer.accept()
    _end(case, peer)


def _end(case: Case, peer: Peer) -> None:
    if peer.reset:
        return
    if not peer.ended:
        peer.emit(flags="FA")
        peer.ended = True
    peer.wait(lambda: peer.finished, _ANSWER_SECONDS)
    if not peer.finished and not peer.reset:
        peer.emit(flags="FA", at=len(peer.sent))
        peer.wait(lambda: peer.finished, _ANSWER_SECONDS)
    if peer.finished:
        peer.accept()
    elif not peer.reset:
        peer.emit(flags="RA", at=max(peer.acked, 0))


def mixed(seed: int, count: int, techniques: Sequence[Technique]) -> Iterator[Case]:
    """Random cases: a third is honest, a third has one technique, a third has several.

    They have no technique of which docs/evasion.md says that it is reported in another way.
    """
    rng = random.Random(seed)
    techniques = [technique for technique in techniques if technique.reported is None]
    kinds = {kind: [each for each in techniques if each.kind == kind] for kind in Kind}
    for number in range(count):
        chosen: list[Technique] = []
        much = rng.choice(["honest", "one", "several"])
        if much == "one":
            chosen = [rng.choice(techniques)]
        elif much == "several":
            chosen = rng.sample(kinds[Kind.STEP], rng.randint(1, 3))
            chosen += rng.sample(kinds[Kind.OPENING], rng.random() < 0.4)
            chosen += rng.sample(kinds[Kind.DELIVERY], rng.random() < 0.6)
        yield _allowed(rng, number, chosen)


def _allowed(rng: random.Random, number: int, chosen: list[Technique]) -> Case:
    """A case with as many of the techniques as go together."""
    direction = rng.choice(list(Direction))
    family = rng.choice([4, 6])
    kept: list[Technique] = []
    for technique in chosen:
        if direction == Direction.LATERAL and not technique.lateral:
            continue
        needs = [each for each in (technique, *kept) if each.family]
        roles = {each.client for each in (technique, *kept)} - {None}
        if direction == Direction.OUTBOUND:
            roles |= {False}
        if direction == Direction.INBOUND:
            roles |= {True}
        if len({each.family for each in needs}) > 1 or len(roles) > 1:
            continue
        family = needs[0].family if needs else family
        kept.append(technique)
    return Case(
        number,
        direction,
        family,
        kept,
        offloads=rng.random() < 0.25 and not any(each.sums for each in kept),
        moment=rng.choice([0, 0, 0.1, 0.5, 1]),
    )
