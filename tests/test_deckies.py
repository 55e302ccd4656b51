"""The deckies file in its three forms, and the registry of what it names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire import deckies
from deckwire.deckies import (
    DeckiesError,
    DeckiesFile,
    Decky,
    Registry,
    parse_deckies,
    parse_option,
)


def decky(name: str, address: str, os_name: str | None = None) -> Decky:
    return Decky(name, ip_address(address), os_name)


WEB, DB = decky("web", "10.0.0.1"), decky("db", "fd00::2", "Windows 10")


def refused(content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    with pytest.raises(DeckiesError) as caught:
        parse_deckies(raw, "deckies.txt")
    message = str(caught.value)
    assert message.startswith("deckies.txt:")
    assert message.isprintable()
    assert message.isascii()
    return message.removeprefix("deckies.txt:")


def test_services_are_names_and_ports() -> None:
    content = b'{"10.0.0.1": {"name": "a", "services": ["ssh", 8080, "HTTPS"]}, "10.0.0.2": "b"}'
    registry = parse_deckies(content, "d")
    one, other = registry
    assert one.services == ("ssh", "8080", "HTTPS")
    assert registry.claims(one.packed) == one
    assert registry.claims(other.packed) is None
    assert registry.claims(bytes(16)) is None


# --- deckies and registries ---


def test_keys_are_16_bytes() -> None:
    assert WEB.packed == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert DB.packed == ip_address("fd00::2").packed


@pytest.mark.parametrize("name", ["", "a b", "ö", "a\n", "a\tb", "a\x7f", "x" * 256, "\ud800"])
def test_a_name_that_is_no_hostname_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        decky(name, "10.0.0.1")


@pytest.mark.parametrize(
    "address",
    ["224.0.0.1", "ff02::1", "0.0.0.0", "::", "::ffff:10.0.0.1", "fe80::1%eth0"],
)
def test_an_address_that_no_decky_has_is_rejected(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        decky("web", address)


def test_a_registry_maps_packed_addresses_to_deckies() -> None:
    registry = Registry([WEB, DB])
    assert registry.name_of(WEB.packed) == "web"
    assert registry.get(DB.packed) == DB
    assert registry.name_of(bytes(16)) is None
    assert DB.packed in registry
    assert len(registry) == 2
    assert list(registry) == [WEB, DB]
    assert registry == Registry([DB, WEB])
    assert hash(registry) == hash(Registry([DB, WEB]))
    assert registry != Registry([WEB])


def test_addresses_are_compared_without_their_names() -> None:
    old = Registry([WEB, DB])
    new = Registry([decky("renamed", "10.0.0.1"), decky("new", "10.0.0.9")])
    assert old.addresses - new.addresses == {DB.packed}
    assert new.addresses - old.addresses == {decky("new", "10.0.0.9").packed}


def test_an_address_has_one_name() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1 is named both web and other"):
        Registry([WEB, decky("other", "10.0.0.1")])
    assert list(Registry([WEB, WEB])) == [WEB]
    with pytest.raises(ValueError, match="two operating systems"):
        Registry([decky("web", "10.0.0.1", "linux"), decky("web", "10.0.0.1", "windows")])


def test_an_operating_system_that_stands_in_one_place_is_kept() -> None:
    known = decky("web", "10.0.0.1", "linux")
    assert list(Registry([WEB]).merged(Registry([known]))) == [known]
    assert list(Registry([known]).merged(Registry([WEB]))) == [known]


def test_a_registry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deckies, "DECKIES", 2)
    full = Registry([WEB, DB])
    assert len(Registry([*full, WEB])) == 2
    with pytest.raises(ValueError, match="more than 2 deckies"):
        Registry([*full, decky("third", "10.0.0.3")])
    assert "more than 2" in refused("10.0.0.1 a\n10.0.0.2 b\n10.0.0.3 c")


# --- the forms of the file ---


def test_the_form_of_lines() -> None:
    content = b"""\xef\xbb\xbf# fleet of the lab

10.0.0.1 web
  fd00::2\tdb  Windows 10   # the old one
10.0.0.3 a#b\r
# 10.0.0.4 off
"""
    assert list(parse_deckies(content, "f")) == [WEB, DB, decky("a#b", "10.0.0.3")]


def test_the_form_of_a_json_object() -> None:
    content = {"10.0.0.1": "web", "fd00::2": {"name": "db", "os": "Windows 10"}}
    assert list(parse_deckies(json.dumps(content, indent=1).encode(), "f")) == [WEB, DB]
    assert len(parse_deckies(b" {}", "f")) == 0


def test_the_form_of_decnets_state_file() -> None:
    entries = [
        {"name": "web", "ip": "10.0.0.1", "services": ["ssh"], "distro": "debian"},
        {"name": "db", "ip": "fd00::2", "nmap_os": "windows"},
    ]
    state = {"config": {"mode": "macvlan", "deckies": entries}, "compose_path": "/x"}
    registry = parse_deckies(json.dumps(state).encode(), "f")
    web = Decky("web", ip_address("10.0.0.1"), services=("ssh",))
    assert list(registry) == [web, decky("db", "fd00::2", "windows")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " empty file"),
        ("10.0.0.1 web\n\n10.0.0.2", "3: '10.0.0.2' stands alone"),
        ("10.0.0.1 web\n10.0.0.300 x", "2: '10.0.0.300' is not an IPv4 or IPv6 address"),
        ("10.0.0.1/24 web", "1: '10.0.0.1/24' is not"),
        ("010.0.0.1 web", "1: '010.0.0.1' is not"),
        ("# x\n10.0.0.1 w\u00f6b", "2: name 'w\\xf6b' cannot be a HOSTNAME"),
        ("10.0.0.1 a\x1b[31m", "1: name 'a\\x1b[31m' cannot"),
        ("10.0.0.1 web a\x07b", "1: operating system"),
        ("10.0.0.1 a\n10.0.0.1 b", "2: 10.0.0.1 is named both a and b"),
        ("::ffff:10.0.0.1 a", "1: address '::ffff:a00:1' is IPv4-mapped"),
        ("fd00::1%eth0 a", "1: address 'fd00::1%eth0' has a zone id"),
        ("fe80::1 a\nfe80::1%eth0 b", "2: fe80::1 is named both a and b"),
        (b"10.0.0.1 a\n10.0.0.2 \xff", "2: not UTF-8"),
        ('{\n"10.0.0.1": "a",\n}', "3: not JSON"),
        ('{"10.0.0.1": "a", "10.0.0.1": "b"}', "1: key '10.0.0.1' stands twice"),
        ('{"a": ' * 100_000, "1: JSON nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "1: "),
        ('{"10.0.0.1": 5}', "10.0.0.1: neither a name nor"),
        ('{"10.0.0.1": {"os": "linux"}}', "10.0.0.1: name is missing"),
        ('{"10.0.0.1": {"name": "a", "os": 1}}', "10.0.0.1: os is not text"),
        ('{"10.0.0.1": {"name": "a", "services": "ssh"}}', "10.0.0.1: services is not a list"),
        ('{"10.0.0.1": {"name": "a", "services": ["x"]}}', "10.0.0.1: service 'x' has no known"),
        ('{"10.0.0.1": {"name": "a", "services": [0]}}', "10.0.0.1: service '0' has no known"),
        ('{"10.0.0.1": {"name": "a", "services": [true]}}', "10.0.0.1: service 'True' has no"),
        ('{"10.0.0.1": {"name": "a", "ox": 1}}', "10.0.0.1: unknown key 'ox'"),
        ('{"10.0.0.1\\n": "a"}', "10.0.0.1\\n: "),
        ('{"config": {}}', "config.deckies: not a list"),
        ('{"config": []}', "config.deckies: not a list"),
        ('{"config": {"deckies": [{"name": "a", "ip": "10.0.0.1"}, 1]}}', "config.deckies[1]: "),
        ('{"config": {"deckies": [{"name": "a"}]}}', "config.deckies[0]: ip is missing"),
        ('{"config": {"deckies": [{"name": 1, "ip": "::1"}]}}', "config.deckies[0]: name is not"),
        ('["10.0.0.1"]', "1: "),
    ],
)
def test_a_single_fault_rejects_the_whole_file(content: str | bytes, message: str) -> None:
    assert refused(content).startswith(message)


@given(st.one_of(st.binary(max_size=200), st.text('{}[]":,#01.:af\n \\u', max_size=80)))
def test_any_content_is_a_registry_or_one_line(content: bytes | str) -> None:
    raw = content.encode() if isinstance(content, str) else content
    try:
        registry = parse_deckies(raw, "f")
    except DeckiesError as error:
        message = str(error)
    else:
        message = ""
        assert all(registry.name_of(one.packed) == one.name for one in registry)
    assert message == "" or message.isprintable()


addresses = st.ip_addresses().filter(
    lambda a: (
        not (
            a.is_multicast
            or a.is_unspecified
            or (isinstance(a, IPv6Address) and (a.ipv4_mapped or a.scope_id))
        )
    )
)
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@given(st.dictionaries(addresses, names.filter(lambda n: not n.startswith("#"))))
def test_every_form_gives_the_same_registry(by_address: dict[object, str]) -> None:
    if not by_address:
        return
    lines = "".join(f"{address} {name}\n" for address, name in by_address.items())
    as_map = json.dumps({str(address): name for address, name in by_address.items()})
    entries = [{"ip": str(address), "name": name} for address, name in by_address.items()]
    state = json.dumps({"config": {"deckies": entries}})
    registries = [parse_deckies(text.encode(), "f") for text in (lines, as_map, state)]
    assert registries[0] == registries[1] == registries[2]
    assert len(registries[0]) == len(by_address)


# --- options ---


def test_options_with_and_without_a_name() -> None:
    assert parse_option("10.0.0.1=web") == WEB
    assert parse_option("fd00::1=web") == decky("web", "fd00::1")
    assert parse_option("FD00::0:1") == decky("fd00::1", "fd00::1")
    assert parse_option("10.0.0.1=a=b").name == "a=b"
    assert parse_option("fe80::1%eth0=web") == decky("web", "fe80::1")
    assert parse_option("fe80::1%eth0").name == "fe80::1"


@pytest.mark.parametrize("value", ["", "web", "10.0.0.1=", "10.0.0.1=a b", "=web", "::=x"])
def test_a_wrong_option_is_repeated_in_its_message(value: str) -> None:
    with pytest.raises(ValueError, match=r"; write ADDR") as caught:
        parse_option(value)
    assert str(caught.value).startswith(repr(value))


# --- the file that changes ---


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "deckies"
    path.write_text("10.0.0.1 web\n")
    return path


def test_the_deckies_of_options_join_those_of_the_file(path: Path) -> None:
    assert list(DeckiesFile(path, Registry([DB])).read()) == [DB, WEB]
    with pytest.raises(DeckiesError, match=r"with --decky: 10\.0\.0\.1 is named both x and web"):
        DeckiesFile(path, Registry([decky("x", "10.0.0.1")])).read()


def rewrite(path: Path) -> None:
    path.write_text("10.0.0.2 web\n")
    later = os.stat(path).st_mtime_ns + 1
    os.utime(path, ns=(later, later))


def grow(path: Path) -> None:
    times = os.stat(path)
    path.write_text("10.0.0.1 web \n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replace(path: Path) -> None:
    times = os.stat(path)
    new = path.with_suffix(".new")
    new.write_text("10.0.0.2 web\n")
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.rename(path)


@pytest.mark.parametrize("change", [rewrite, grow, replace, Path.unlink])
def test_a_change_is_noticed_once(path: Path, change: Callable[[Path], None]) -> None:
    file = DeckiesFile(path)
    assert file.changed()
    file.read()
    assert not file.changed()
    change(path)
    assert file.changed()
    if path.exists():
        file.read()
    else:
        with pytest.raises(DeckiesError, match="No such file"):
            file.read()
    assert not file.changed()


def test_a_broken_file_is_read_once(path: Path) -> None:
    file = DeckiesFile(path)
    path.write_text("10.0.0.1\n")
    with pytest.raises(DeckiesError):
        file.read()
    assert not file.changed()
    path.write_text("10.0.0.1 web again\n")
    assert file.changed()


def test_a_file_that_comes_back_is_noticed(path: Path) -> None:
    file = DeckiesFile(path)
    path.unlink()
    with pytest.raises(DeckiesError):
        file.read()
    assert not file.changed()
    path.write_text("10.0.0.1 web\n")
    assert file.changed()


def test_only_a_regular_file_of_bounded_size_is_read(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeckiesError, match="not a regular file"):
        DeckiesFile(tmp_path).read()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DeckiesError, match="not a regular file"):
        DeckiesFile(tmp_path / "fifo").read()
    monkeypatch.setattr(deckies, "DECKIES_FILE_BYTES", 12)
    with pytest.raises(DeckiesError, match="larger than 12 bytes"):
        DeckiesFile(path).read()
