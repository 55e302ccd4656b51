"""Settings from the file and the command line: each value is checked, each fault is one line."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwire.config import (
    Budgets,
    ConfigError,
    Settings,
    merge,
    read_config,
)
from deckwire.deckies import Decky, Registry
from deckwire.events.ignore import read_rules
from deckwire.kernel.user import User
from deckwire.limits import CONFIG_FILE_BYTES
from deckwire.options import OPTIONS, Option
from deckwire.output.outputs import OutputSettings

WHOLE = """
profile = "decnet"
interface = ["eth0", "macvlan-1"]
xdp = "generic"
netns = "lab"
wait_interface = true
ring_kb = 4096
checksums = "off"
decky = ["10.0.0.1=web", "fd00::1"]
deckies = "deckies.txt"
decnet_state = true
own_host = "ignore"
bus = "bus.sock"
outbound_source = "peer"
lateral = "hold"
format = "json"
output = ["stdout", "file:out/log", "unix:/run/log.sock", "udp:[::1]:514", "tcp:logs.example:601"]
sd_id = "relay@55555"
app_name = "deckwire"
sensor = "sensor-7"
procid = "7"
compat = "decnet"
dedup_ttl = 0
dedup_keys = 128
stats_interval = 2.5
idle_timeout = 30
raw_fingerprints = true
sequences = true
heads = []
redact = ["inbound"]
redact_key = "key"
scan_targets = 10
scan_idle = 60
ja4plus = false
p0f_db = "/etc/p0f.fp"
state_dir = "/var/lib/deckwire"
runtime_dir = "run"
metrics = "/var/lib/node/deckwire.prom"
user = "nobody"

[budgets]
syn_records_per_second = 10
syn_burst = 20
handshakes_per_second_per_source = 30

[[ignore]]
name = "monitoring"
source = ["192.0.2.5", "2001:db8::/32"]
port = [22, "8000-8100"]

[[ignore]]
destination = "192.0.2.0/24"
protocol = "icmp"
direction = "lateral"
event = "scan_summary"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deckwire.toml"


def refused(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_every_key(path: Path, tmp_path: Path) -> None:
    path.write_text(WHOLE)
    assert merge(read_config(path), {}) == Settings(
        profile="decnet",
        interfaces=("eth0", "macvlan-1"),
        xdp="generic",
        netns="lab",
        wait_interface=True,
        ring_kb=4096,
        checksums="off",
        deckies=Registry(
            [Decky("web", ip_address("10.0.0.1")), Decky("fd00::1", ip_address("fd00::1"))]
        ),
        deckies_file=str(tmp_path / "deckies.txt"),
        decnet_state=True,
        own_host="ignore",
        bus=str(tmp_path / "bus.sock"),
        outbound_source="peer",
        lateral="hold",
        format="json",
        outputs=(
            OutputSettings("stdout"),
            OutputSettings(f"file:{tmp_path / 'out/log'}"),
            OutputSettings("unix:/run/log.sock"),
            OutputSettings("udp:[::1]:514"),
            OutputSettings("tcp:logs.example:601"),
        ),
        sd_id="relay@55555",
        app_name="deckwire",
        sensor="sensor-7",
        procid="7",
        compat="decnet",
        dedup_ttl=0.0,
        dedup_keys=128,
        stats_interval=2.5,
        idle_timeout=30.0,
        raw_fingerprints=True,
        sequences=True,
        heads=(),
        redact=("inbound",),
        redact_key=str(tmp_path / "key"),
        ja4plus=False,
        p0f_db="/etc/p0f.fp",
        scan_targets=10,
        scan_idle=60.0,
        ignore=read_rules(
            [
                {
                    "name": "monitoring",
                    "source": ["192.0.2.5", "2001:db8::/32"],
                    "port": [22, "8000-8100"],
                },
                {
                    "destination": "192.0.2.0/24",
                    "protocol": "icmp",
                    "direction": "lateral",
                    "event": "scan_summary",
                },
            ]
        ),
        budgets=Budgets(10, 20, 30),
        state_dir="/var/lib/deckwire",
        runtime_dir=str(tmp_path / "run"),
        metrics="/var/lib/node/deckwire.prom",
        user=User.named("nobody"),
    )


def test_every_setting_is_in_the_table_and_every_key_can_be_set() -> None:
    found = {"found_interface"}  # by the start, not by a key
    settings = {field.name for field in fields(Settings)} - found
    assert {option.setting for option in OPTIONS} == settings
    keys = [option.key for option in OPTIONS]
    assert len(set(keys)) == len(keys)
    assert all(f"\n{key} = " in WHOLE or f"[{key}]" in WHOLE for key in keys)


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS if one.default and one.metavar], ids=lambda one: one.key
)
def test_the_help_shows_the_default(option: Option) -> None:
    default = getattr(Settings(), option.setting)
    if isinstance(default, float | int) and not isinstance(default, bool):
        default = f"{default:g}"
    if option.repeats and option.key == "output":
        default = default[0].to
    if isinstance(default, tuple):
        default = ", ".join(default)
    if not default:
        # There is none: the help says what happens instead, or which variable systemd sets.
        assert " " in option.default or option.default.startswith("$")
    else:
        assert option.default == default


def test_defaults() -> None:
    defaults = merge({}, {})
    assert defaults == Settings()
    assert (defaults.sd_id, defaults.app_name) == ("decnet@55555", "sniffer")
    assert (defaults.dedup_ttl, defaults.stats_interval, defaults.idle_timeout) == (300, 60, 120)
    assert defaults.outputs == (OutputSettings("stdout"),)
    assert defaults.ja4plus
    assert defaults.budgets == Budgets(1_000, 2_000, 5_000)


def test_one_text_is_a_list_of_one(path: Path) -> None:
    path.write_text('interface = "eth0"\n')
    assert merge(read_config(path), {}).interfaces == ("eth0",)


def test_a_budget_alone_leaves_the_others(path: Path) -> None:
    path.write_text("[budgets]\nsyn_burst = 7\n")
    assert merge(read_config(path), {}).budgets == Budgets(syn_burst=7)


def test_options_replace_the_file(path: Path) -> None:
    path.write_text(WHOLE)
    options: dict[str, object] = {
        "interface": ("veth1",),
        "deckies": "fleet.json",
        "output": (),
        "format": None,
        "dedup_ttl": 12.5,
        "raw_fingerprints": False,
    }
    values = read_config(path)
    merged = merge(values, options)
    assert merged.interfaces == ("veth1",)
    assert merged.deckies_file == "fleet.json"
    assert merged.format == "json"
    assert len(merged.outputs) == 5
    assert merged.dedup_ttl == 12.5
    assert not merged.raw_fingerprints
    assert merge(values, {}) != merged


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("dedup-ttl = 3", "dedup-ttl: unknown key; use interface, netns,"),
        ("[run]\ninterface = 'x'", "run: unknown key"),
        ('"a\\nb" = 3', "a\\nb: unknown key"),
        ("interface = 3", "interface: 3 is no text"),
        ("interface = ['a', 3]", "interface: 3 is no text"),
        ("interface = ['a', 'a']", "interface: 'a' is given twice"),
        ("interface = ''", "interface: '' is no interface name; use 1 to 15 bytes"),
        ("interface = '1234567890123456'", "interface: '1234567890123456' is no"),
        ("interface = 'ääääääää'", "interface: "),
        ("interface = 'a/b'", "interface: 'a/b'"),
        ("interface = 'a b'", "interface: 'a b'"),
        ("interface = 'a:b'", "interface: 'a:b'"),
        ('interface = "a\\u0000"', "interface: 'a\\x00'"),
        ("interface = '..'", "interface: '..'"),
        ("netns = 'a/b'", "netns: 'a/b' is no name"),
        ("netns = ''", "netns: '' is no name"),
        ("decky = ['10.0.0.1=a', '10.0.0.1=b']", "decky: 10.0.0.1 is named both a and b"),
        ("decky = '10.0.0.1=a b'", "decky: '10.0.0.1=a b': name"),
        ("deckies = ''", "deckies: '' is no path"),
        ('p0f_db = "a\\u0000b"', "p0f_db: 'a\\x00b' is no path"),
        ("format = 'xml'", "format: 'xml' is unknown; use syslog or json"),
        ("format = ['json']", "format: ['json'] is unknown; use syslog or json"),
        ("compat = ''", "compat: '' is unknown; use decnet"),
        ("output = []", "output: the list is empty; use stdout"),
        ("output = 'stderr'", "output: output 'stderr': no such output; use stdout, file:PATH"),
        ("output = ['stdout', 'udp:host:0']", "output: output 'udp:host:0': "),
        ("sd_id = 'decnet'", "sd_id: 'decnet' is no SD-ID"),
        ("sd_id = 'a=b@1'", "sd_id: 'a=b@1' is no SD-ID"),
        ("sd_id = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@1'", "sd_id: "),
        ("app_name = 'a b'", "app_name: 'a b' is no APP-NAME"),
        ("dedup_ttl = -1", "dedup_ttl: -1 is out of range; use seconds from 0 to"),
        ("dedup_ttl = nan", "dedup_ttl: nan is out of range"),
        ("dedup_ttl = inf", "dedup_ttl: inf is out of range"),
        ("dedup_ttl = '5'", "dedup_ttl: '5' is no number"),
        ("dedup_keys = -1", "dedup_keys: -1 is out of range; use a whole number from 0 to"),
        ("dedup_keys = 1.5", "dedup_keys: 1.5 is no whole number; use a"),
        ("dedup_keys = true", "dedup_keys: True is no whole number"),
        ("dedup_ttl = true", "dedup_ttl: True is no number"),
        ("stats_interval = 1e9", "stats_interval: 1000000000.0 is out of range"),
        ("idle_timeout = 0", "idle_timeout: 0 is out of range; use seconds from 1"),
        ("raw_fingerprints = 1", "raw_fingerprints: 1 is neither; use true or false"),
        ("ja4plus = 'yes'", "ja4plus: 'yes' is neither; use true or false"),
        ("ring_kb = 127", "ring_kb: 127 is out of range; use a whole number from 128 to 65536"),
        ("ring_kb = 65537", "ring_kb: 65537 is out of range; use a whole number from 128 to"),
        ("scan_targets = -1", "scan_targets: -1 is out of range; use a whole number from 0 to"),
        ("scan_idle = 0", "scan_idle: 0 is out of range; use seconds from 1"),
        ("ignore = 3", "ignore: 3 is no table; use [[ignore]] with name, source,"),
        ("[[ignore]]\nname = 'a'", "ignore: a rule without conditions would ignore everything"),
        ("[[ignore]]\nsource = '10.0.0.300'", "ignore: source: '10.0.0.300' is no network; use"),
        ("budgets = 3", "budgets: 3 is no table"),
        ("[budgets]\nsyn = 3", "budgets: unknown key 'syn'; use syn_records_per_second,"),
        ("[budgets]\nsyn_burst = 0", "budgets: syn_burst: 0 is out of range; use a whole"),
        ("[budgets]\nsyn_burst = 1.5", "budgets: syn_burst: 1.5 is no whole number; use a"),
        ("[budgets]\nsyn_burst = true", "budgets: syn_burst: True is no whole number; use"),
        ("interface = \nnetns = 3", "not TOML: "),
        ("format = 'json'\nformat = 'json'", "not TOML: "),
        ("x = " + "[" * 50_000, "nested too deeply"),
        ("dedup_ttl = " + "9" * 5_000, "not TOML: "),
        (b"# \xff", "line 1: not UTF-8"),
        (b"format = 'json'\n# \xff", "line 2: not UTF-8"),
        ("#" * (CONFIG_FILE_BYTES + 1), "larger than"),
    ],
)
def test_wrong_files(path: Path, content: str | bytes, message: str) -> None:
    assert refused(path, content).startswith(message)


def test_missing_file(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("interface", ("a b",), "--interface: 'a b' is no interface name"),
        ("sd_id", "x", "--sd-id: 'x' is no SD-ID"),
        ("dedup_ttl", float("nan"), "--dedup-ttl: nan is out of range"),
        ("decky", ("x",), "--decky: 'x': 'x' is not an IPv4 or IPv6 address"),
    ],
)
def test_wrong_options(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merge({}, {key: value})
    assert str(caught.value).startswith(message)


@given(
    st.one_of(
        st.binary(max_size=100),
        st.sampled_from(sorted(option.key for option in OPTIONS)).flatmap(
            lambda key: st.text("'\"[]{}=.,0123456789abn\n-_", max_size=40).map(
                lambda value: f"{key} = {value}".encode()
            )
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_content_is_settings_or_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    message = ""
    try:
        merge(read_config(path), {})
    except ConfigError as error:
        message = str(error)
    assert message == "" or message.isprintable()
