"""kernel.netlink and kernel.rtnetlink: any bytes are walked to their end, or are MalformedError."""

from __future__ import annotations

from deckwire.kernel import netlink, rtnetlink
from deckwire.limits import NETLINK_ATTRIBUTES
from tests.fuzz.lines import check_message


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
    return [new + gone + message(netlink.NLMSG_DONE, bytes(4)), new, gone, link, b"\xff" * 40]


def check(data: bytes) -> None:
    total = 0
    try:
        for message in netlink.messages(data):
            total += 16 + len(message.payload)
            _check_interface(message.payload)
    except netlink.MalformedError as error:
        check_message(str(error))
    assert total <= len(data)
    _check_interface(data)
    try:
        found = netlink.attributes(data, 0)
    except netlink.MalformedError:
        return
    assert len(found) <= NETLINK_ATTRIBUTES
    assert all(0 <= kind <= 0x3FFF for kind in found)
    assert sum(4 + len(value) for value in found.values()) <= len(data)


def _check_interface(payload: bytes) -> None:
    try:
        interface = rtnetlink.parse_interface(payload)
    except netlink.MalformedError:
        return
    if interface is None:
        return
    assert interface.ifindex > 0
    assert "\0" not in interface.name + interface.kind
    assert interface.parent != 0
    assert interface.macvlan_mode is None or interface.kind in ("macvlan", "macvtap")
