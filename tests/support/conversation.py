"""TCP connections as frames of a capture: both directions, on a clock of their own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from struct import pack

from deckwire.captures import Frame
from tests.support import bpf_frames as frames

CLIENT, DECKY, DECKY_B, STRANGER = "192.0.2.9", "198.51.100.7", "198.51.100.8", "203.0.113.5"
CLIENT6, DECKY6 = "2001:db8:1::9", "2001:db8:2::7"

START_NS = 1_790_000_000_000_000_000
MS = 1_000_000
SECOND = 1_000_000_000
MSS_BYTES = 1_400


class Conversation:
    """One connection. Each method adds frames; `now_ns` is the time of the next one.

    Time goes on by `step_ns` after each frame. Sequence numbers are counted for both ends, so
    that `send` and `answer` continue where the end's last data stopped.
    """

    def __init__(
        self,
        client: str = CLIENT,
        server: str = DECKY,
        client_port: int = 40_000,
        server_port: int = 443,
        *,
        start_ns: int = START_NS,
        step_ns: int = MS,
        client_ttl: int = 64,
        server_ttl: int = 128,
        client_iss: int = 1_000,
        server_iss: int = 5_000_000,
        options: bytes = frames.LINUX_OPTIONS,
    ) -> None:
        self.frames: list[Frame] = []
        self.now_ns = start_ns
        self.step_ns = step_ns
        self.options = options
        self._ends = (client, client_port, client_ttl), (server, server_port, server_ttl)
        self.iss = [client_iss, server_iss]
        self.sent = [1, 1]
        """Sequence numbers after the last data, counted from the iss."""

    def open(self) -> Conversation:
        """The three-way handshake."""
        return self.syn().synack().ack()

    def syn(self, *, flags: str = "S", data: bytes = b"") -> Conversation:
        return self.add(0, flags, 0, None, data, self.options)

    def synack(self) -> Conversation:
        return self.add(1, "SA", 0, 1, b"", self.options)

    def ack(self, sender: int = 0) -> Conversation:
        """A bare acknowledgement of everything."""
        return self.add(sender, "A", self.sent[sender], self.sent[1 - sender])

    def send(self, data: bytes, size: int = MSS_BYTES) -> Conversation:
        """Send the client's next bytes in segments of `size`."""
        return self._data(0, data, size)

    def answer(self, data: bytes, size: int = MSS_BYTES) -> Conversation:
        """Send the server's next bytes in the same manner."""
        return self._data(1, data, size)

    def close(self, first: int = 0) -> Conversation:
        """FINs of both ends and their acknowledgements."""
        for sender in (first, 1 - first):
            self.add(sender, "FA", self.sent[sender], self.sent[1 - sender])
            self.sent[sender] += 1
        return self.ack(first)

    def reset(self, sender: int = 0) -> Conversation:
        return self.add(sender, "R", self.sent[sender], None)

    def wait(self, seconds: float) -> Conversation:
        self.now_ns += round(seconds * SECOND)
        return self

    def add(
        self,
        sender: int,
        flags: str,
        seq: int,
        ack: int | None,
        data: bytes = b"",
        options: bytes = b"",
    ) -> Conversation:
        """Any frame; `seq` and `ack` count from each end's iss, without ack the field is 0."""
        (src, sport, ttl), (dst, dport, _) = self._ends[sender], self._ends[1 - sender]
        segment = frames.tcp(
            data,
            sport,
            dport,
            seq=self.iss[sender] + seq,
            ack=0 if ack is None else self.iss[1 - sender] + ack,
            flags=flags,
            options=options,
        )
        if ":" in src:
            packet = frames.ipv6(segment, src, dst, hop_limit=ttl)
        else:
            packet = frames.ipv4(segment, src, dst, ttl=ttl)
        return self.frame(frames.ethernet(packet))

    def frame(self, data: bytes) -> Conversation:
        """Add a frame made elsewhere."""
        self.frames.append(Frame(self.now_ns, 1, data, len(data)))
        self.now_ns += self.step_ns
        return self

    def _data(self, sender: int, data: bytes, size: int) -> Conversation:
        for at in range(0, len(data), size):
            part = data[at : at + size]
            self.add(sender, "PA", self.sent[sender], self.sent[1 - sender], part)
            self.sent[sender] += len(part)
        return self


def in_time(*conversations: Conversation) -> list[Frame]:
    """The frames of several conversations in the order of their times."""
    every: Iterable[Frame] = chain.from_iterable(talk.frames for talk in conversations)
    return sorted(every, key=lambda frame: frame.time_ns)


def pcap(frames: Iterable[Frame]) -> bytes:
    """Write a classic pcap file with nanoseconds."""
    content = pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)
    for frame in frames:
        seconds, rest = divmod(frame.time_ns, SECOND)
        content += pack("<IIII", seconds, rest, len(frame.data), frame.wire_len) + frame.data
    return content
