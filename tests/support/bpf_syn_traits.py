"""SYNs with and without each trait of enum syn_trait, and where the agent looks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from deckwire.fingerprints import p0f, scanners
from deckwire.tcp.syn_packet import SYN, SynPacket

DECKY, PORT = ip_address("198.51.100.7"), 443
SEQ = 0x0102_0304
MASSCAN_IP_ID = (int(DECKY) ^ PORT ^ SEQ) & 0xFFFF


@dataclass(frozen=True)
class SynCase:
    """One SYN to DECKY: what differs from an ordinary one, and the agent's look at it."""

    look: Callable[[SynPacket], bool]
    window: int = 1_000
    fields: dict[str, int] = field(default_factory=dict)

    def _numbers(self) -> dict[str, int]:
        numbers = {"seq": SEQ, "ack": 0, "ip_id": 0x1234, "flow_label": 0, "urgent": 0}
        return numbers | {"payload_len": 0} | self.fields

    @property
    def members(self) -> dict[str, int | str]:
        """The initialiser of a struct packet."""
        words = ", ".join(str(word) for word in (0, 0, 0xFFFF_0000, _network(int(DECKY), 4)))
        return {"daddr": f"{{ {words} }}", "dport": _network(PORT, 2), **self._numbers()}

    def seen_by_the_agent(self) -> bool:
        numbers = self._numbers()
        syn = SynPacket(
            time_ns=0,
            ip_version=6 if numbers["flow_label"] else 4,
            ttl=64,
            tos=0,
            df=False,
            ip_reserved=False,
            ip_options_len=0,
            flags=SYN,
            window=self.window,
            options=b"",
            **numbers,
        )
        return self.look(syn)


def _network(value: int, size: int) -> int:
    """A number whose bytes are in network order, as a little-endian machine reads it."""
    return int.from_bytes(value.to_bytes(size, "big"), "little")


def _tool(name: str) -> Callable[[SynPacket], bool]:
    def look(syn: SynPacket) -> bool:
        tool = scanners.by_relations(syn, DECKY.packed, PORT) or scanners.by_traits(syn)
        return tool is not None and tool.name == name

    return look


def _quirk(name: str) -> Callable[[SynPacket], bool]:
    return lambda syn: bool(p0f.observe(syn).quirks & p0f.QUIRKS[name])


def _cases(
    look: Callable[[SynPacket], bool], name: str, value: int, other: int, window: int = 1_000
) -> tuple[SynCase, SynCase]:
    return SynCase(look, window, {name: value}), SynCase(look, window, {name: other})


TRAITS = {
    "TRAIT_ZMAP_IP_ID": _cases(_tool("zmap"), "ip_id", 54_321, 54_320, window=65_535),
    "TRAIT_MASSCAN_IP_ID": _cases(_tool("masscan"), "ip_id", MASSCAN_IP_ID, MASSCAN_IP_ID ^ 1),
    "TRAIT_MIRAI_SEQ": _cases(_tool("mirai"), "seq", int(DECKY), int(DECKY) ^ 1),
    "TRAIT_ZERO_SEQ": _cases(_quirk("seq-"), "seq", 0, 1),
    "TRAIT_ACK_NUMBER": _cases(_quirk("ack+"), "ack", 1, 0),
    "TRAIT_IP_ID": _cases(lambda syn: not _quirk("id-")(syn), "ip_id", 5, 0),
    "TRAIT_FLOW_LABEL": _cases(_quirk("flow"), "flow_label", 1, 0),
    "TRAIT_URGENT": _cases(_quirk("uptr+"), "urgent", 1, 0),
    "TRAIT_PAYLOAD": _cases(lambda syn: p0f.observe(syn).payload, "payload_len", 1, 0),
    "TRAIT_SCAPY_IP_ID": _cases(_tool("scapy"), "ip_id", 1, 2, window=8_192),
}
"""By the name of the trait: a SYN that has it and one that lacks it."""
