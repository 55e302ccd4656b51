"""kernel.rtnetlink: a datagram of any bytes is walked to its end or to the first nonsense."""

from __future__ import annotations

from deckwire.kernel import rtnetlink
from deckwire.limits import NETLINK_ATTRIBUTES


def seeds() -> list[bytes]:
    def attribute(kind: int, value: bytes) -> bytes:
        size = 4 + len(value)
        return size.to_bytes(2, "little") + kind.to_bytes(2, "little") + value + bytes(-size % 4)

    def message(kind: int, body: bytes) -> bytes:
        size = 16 + len(body)
        head = size.to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10)
        return head + body + bytes(-size % 4)

    info = attribute(1, b"macvlan\0") + attribute(2, attribute(1, b"\2\0\0\0"))
    link = (
        bytes(2) + b"\1\0" + b"\7\0\0\0" + bytes(8)
        + attribute(3, b"mv0\0") + attribute(5, b"\2\0\0\0")
        + attribute(37, b"\1\0\0\0") + attribute(18 | 0x8000, info)
    )  # fmt: skip
    new = message(rtnetlink.RTM_NEWLINK, link)
    gone = message(rtnetlink.RTM_DELLINK, link[:30])
    return [new + gone + message(rtnetlink.NLMSG_DONE, bytes(4)), new, gone, link, b"\xff" * 40]


def check(data: bytes) -> None:
    total = 0
    for _, _, payload in rtnetlink.messages(data):
        total += 16 + len(payload)
        _check_interface(payload)
    assert total <= len(data)
    _check_interface(data)
    found = rtnetlink.attributes(data, 0)
    assert len(found) <= NETLINK_ATTRIBUTES
    assert all(0 <= kind <= 0x3FFF for kind in found)
    assert sum(4 + len(value) for value in found.values()) <= len(data)


def _check_interface(payload: bytes) -> None:
    interface = rtnetlink.parse_interface(payload)
    if interface is None:
        return
    assert interface.ifindex > 0
    assert "\0" not in interface.name + interface.kind
    assert interface.parent != 0
    assert interface.macvlan_mode is None or interface.kind in ("macvlan", "macvtap")
