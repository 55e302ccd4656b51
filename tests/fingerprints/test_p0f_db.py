"""Signature files are parsed, or rejected with path and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwire.fingerprints import p0f_db
from deckwire.fingerprints.p0f import QUIRKS, Direction
from deckwire.fingerprints.p0f_db import Label, SignatureError, parse
from deckwire.tcp.options import EOL, MSS, NOP, SACK, TIMESTAMPS, WSCALE
from tests.support.unpacked import P0F_FP, needs_p0f_fp

LINUX = "*:64:0:*:mss*20,10:mss,sok,ts,nop,ws:df,id+:0"
HEAD = "classes = win,unix\n[tcp:request]\n"


def test_a_file_is_parsed() -> None:
    text = f"""
    ; a comment
    classes = win,unix, other
    ua_os = Linux,iOS=[iPad]
    [mtu]
    label = Ethernet
    sig = 1500
    sig=576
    [tcp:request]
    label = s:unix:Linux:3.11 and newer
    sig   = {LINUX}
    label = g:win:Windows:
    sig = 6:128-:4:1460:%8192,*:ws,nop,mss,sack,?30,eol+3:ecn,flow:*
    label = s:!:NMap:SYN scan: fast
    sys = @unix,Windows
    sig = *:64-:0:1460:1024,0:mss::+
    [http:request]
    anything = at all
    [tcp:response]
    label = s:unix:BaiduSpider:
    sig = 4:61+3:0:0:mtu*2,0:::0
    """
    parsed = parse(text.encode(), "own.fp")
    assert parsed.links == {1500: "Ethernet", 576: "Ethernet"}
    linux, windows, nmap, spider = parsed.signatures

    assert str(linux.label) == "Linux 3.11 and newer"
    assert not linux.label.generic
    assert linux.direction is Direction.REQUEST
    assert (linux.ver, linux.ttl, linux.ttl_is_maximum, linux.mss) == (None, 64, False, None)
    assert (linux.window, linux.scale) == (("mss", 20), 10)
    assert linux.quirks == QUIRKS["df"] | QUIRKS["id+"]
    assert linux.payload is False

    assert windows.label == Label(generic=True, os_class="win", name="Windows", flavor="")
    assert str(windows.label) == "Windows"
    assert (windows.ver, windows.ttl, windows.ttl_is_maximum, windows.olen) == (6, 128, True, 4)
    assert (windows.window, windows.scale, windows.payload) == (("%", 8192), None, None)
    assert windows.layout == (WSCALE, NOP, MSS, SACK, 30, EOL)
    assert windows.padding == 3

    assert nmap.label.is_tool
    assert str(nmap.label) == "NMap SYN scan: fast"
    assert nmap.payload is True

    assert spider.direction is Direction.RESPONSE
    assert (spider.ttl, spider.ttl_is_maximum, spider.layout) == (64, False, ())
    assert [signature.line for signature in parsed.signatures] == [11, 13, 16, 21]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("nonsense", 1, "expected 'name = value', not 'nonsense'"),
        ("label = s:unix:x:", 1, "'label' before the first section"),
        ("[tcp:request", 1, "section '[tcp:request' is not closed"),
        ("[tcp:requests]", 1, "TCP section is one of request response, not 'requests'"),
        ("classes = a,,b", 1, "empty entry in 'a,,b'"),
        ("[mtu]\nsig = 1500", 2, "sig without a label"),
        ("[mtu]\nlabel =", 2, "label is empty"),
        ("[mtu]\nlabel = x\nsig = 70000", 3, "MTU is a number from 1 to 65535, not '70000'"),
        ("[mtu]\nsys = x", 2, "unknown name 'sys' in section 'mtu'"),
        (f"{HEAD}sig = {LINUX}", 3, "sig without a label"),
        (f"{HEAD}label = unix:x:", 3, "a label is 'type:class:name:flavor', not 'unix:x:'"),
        (f"{HEAD}label = x:unix:x:", 3, "label type is one of s g, not 'x'"),
        (f"{HEAD}label = s:other:x:", 3, "class 'other' is not in 'classes'"),
        (f"{HEAD}label = s:unix::", 3, "name of a label is empty"),
        (
            f"{HEAD}label = s:unix:x:\nsys = @unix",
            4,
            "sys is allowed only after the label of a tool",
        ),
        (f"{HEAD}label = s:!:x:\nsys = @other", 4, "class 'other' is not in 'classes'"),
        (f"{HEAD}label = s:!:x:\nsig = {LINUX}", 4, "the tool 'x' needs a sys line"),
        (f"{HEAD}colour = red", 3, "unknown name 'colour' in section 'tcp:request'"),
    ],
)
def test_a_wrong_line_is_reported_with_its_number(text: str, line: int, what: str) -> None:
    with pytest.raises(SignatureError) as error:
        parse(text.encode(), "some/where.fp")
    assert str(error.value).startswith(f"some/where.fp:{line}: {what}")


@pytest.mark.parametrize(
    ("signature", "what"),
    [
        ("*:64:0:*:*,*:mss:df", "a signature has 8 fields, this one 7"),
        ("5:64:0:*:*,*:mss:df:0", "IP version is one of 4 6, not '5'"),
        ("*:0:0:*:*,*:mss:df:0", "initial TTL is a number from 1 to 255, not '0'"),
        ("*:64+?:0:*:*,*:mss:df:0", "distance is a number from 0 to 254, not '?'"),
        ("*:250+9:0:*:*,*:mss:df:0", "initial TTL is a number from 1 to 255, not '259'"),
        ("*:64:256:*:*,*:mss:df:0", "IP option length is a number from 0 to 255, not '256'"),
        ("*:64:0:x:*,*:mss:df:0", "MSS is a number from 0 to 65535, not 'x'"),
        ("*:64:0:*:*:mss:df:0", "window and scale are joined with a comma, not '*'"),
        ("*:64:0:*:%1,*:mss:df:0", "window divisor is a number from 2 to 65535, not '1'"),
        ("*:64:0:*:rwin*4,*:mss:df:0", "window unit is one of mss mtu, not 'rwin'"),
        ("*:64:0:*:mss*0,*:mss:df:0", "window factor is a number from 1 to 1000, not '0'"),
        ("*:64:0:*:-1,*:mss:df:0", "window is a number from 0 to 65535, not '-1'"),
        ("*:64:0:*:*,²:mss:df:0", "window scale is a number from 0 to 255, not '²'"),
        ("*:64:0:*:*,*:msss:df:0", "unknown option 'msss'"),
        ("*:64:0:*:*,*:eol+1,mss:df:0", "eol must be the last option"),
        ("*:64:0:*:*,*:eol+40:df:0", "padding is a number from 0 to 39, not '40'"),
        ("*:64:0:*:*,*:?256:df:0", "option kind is a number from 0 to 255, not '256'"),
        ("*:64:0:*:*,*:mss:fd:0", "unknown quirk 'fd'"),
        ("6:64:0:*:*,*:mss:df:0", "a quirk of the other IP version in a signature of version 6"),
        ("4:64:0:*:*,*:mss:flow:0", "a quirk of the other IP version in a signature of version 4"),
        ("*:64:0:*:*,*:mss:df:1", "payload class is one of 0 +, not '1'"),
    ],
)
def test_a_wrong_field_is_reported(signature: str, what: str) -> None:
    with pytest.raises(SignatureError) as error:
        parse(f"{HEAD}label = s:unix:x:\nsig = {signature}".encode(), "f")
    assert str(error.value) == f"f:4: {what}"


def test_a_file_must_be_utf_8() -> None:
    with pytest.raises(SignatureError, match=r"^f:2: not UTF-8; save the file as UTF-8$"):
        parse(b"classes = unix\nlabel = \xff\n", "f")


@given(st.text(alphabet=";[]=:,*%+-?!@ \nsglabeiytcpqumrwnx0164", max_size=200))
def test_any_text_is_parsed_or_rejected_with_a_line_number(text: str) -> None:
    try:
        parse(text.encode(), "f")
    except SignatureError as error:
        _, line, what = str(error).split(":", 2)
        assert 1 <= int(line) <= text.count("\n") + 1
        assert what.strip()


def test_a_file_is_read_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.fp"
    path.write_text(f"{HEAD}label = s:unix:Linux:\nsig = {LINUX}\n")
    assert len(p0f_db.load(path).signatures) == 1
    path.write_text("oops")
    with pytest.raises(SignatureError, match=rf"^{path}:1: "):
        p0f_db.load(path)
    with pytest.raises(FileNotFoundError):
        p0f_db.load(tmp_path / "none.fp")


def test_the_included_file_has_todays_systems() -> None:
    own = p0f_db.load_own()
    assert {signature.direction for signature in own.signatures} == set(Direction)
    labels = {str(signature.label) for signature in own.signatures}
    assert {"Linux 5.x-6.x", "Windows 10/11", "FreeBSD 11-14", "OpenBSD 5.x-7.x"} <= labels
    assert own.links[1500] == "Ethernet or modem"


def test_the_included_file_has_no_signature_twice() -> None:
    seen = set()
    for signature in p0f_db.load_own().signatures:
        facts = tuple(
            getattr(signature, name)
            for name in signature.__slots__
            if name not in ("label", "line")
        )
        assert facts not in seen, f"line {signature.line}"
        seen.add(facts)


@needs_p0f_fp
def test_the_file_of_p0f_is_parsed() -> None:
    parsed = p0f_db.load(P0F_FP)
    labels = {str(signature.label) for signature in parsed.signatures}
    assert {"Linux 3.11 and newer", "Windows XP", "NMap SYN scan", "BaiduSpider"} <= labels
    assert parsed.links[1492] == "DSL"
    assert any(TIMESTAMPS in signature.layout for signature in parsed.signatures)
