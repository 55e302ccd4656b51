"""config.read_config: settings that are all valid, or an error of one line."""

from __future__ import annotations

from deckwire.config import ConfigError, merge, read_config
from deckwire.events.ignore import DIRECTIONS, IgnoreRules, Traffic
from deckwire.limits import IGNORE_RULES
from deckwire.options import FORMATS
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from tests.fuzz.files import MemoryFile
from tests.fuzz.lines import check_message

_FILE = MemoryFile()


def seeds() -> list[bytes]:
    return [
        b'interface = ["eth0", "mv0"]\nnetns = "lab"\ndecky = "192.0.2.1=web"\n',
        b'format = "json"\noutput = ["stdout", "file:log", "unix:/dev/log", "udp:[::1]:514"]\n',
        b'sd_id = "relay@55555"\napp_name = "sniffer"\ncompat = "decnet"\ndeckies = "d.json"\n',
        b"dedup_ttl = 0\nstats_interval = 1e3\nidle_timeout = 2.5\nja4plus = false\n",
        b"raw_fingerprints = true\np0f_db = 'p0f.fp'\n[budgets]\nsyn_burst = 10\n",
        b"dedup_ttl = nan\n",
        b"idle_timeout = inf\n",
        b"unknown = 1\n",
        b"x = " + b"[" * 60,
        b"dedup_ttl = " + b"9" * 40,
        b'[[output]]\nto = "file:a.log"\nevents = ["tls_*"]\nmin_severity = "info"\n',
        b'[[output]]\nto = "file:a.log"\nmode = "0600"\nowner = "0:0"\ntwin = "decnet-json"\n',
        b'output = ["stdout,format=json,events=decnet,procid=7"]\nprofile = "decnet"\n',
        b'[[ignore]]\nname = "a"\nsource = ["192.0.2.1", "2001:db8::/32"]\nport = [22, "1-9"]\n',
        b'[[ignore]]\nprotocol = "icmp"\n[[ignore]]\nevent = "tcp_*"\ndirection = ["lateral"]\n',
        b'scan_targets = 3\nscan_idle = 7.5\n[ignore]\ndestination = "192.0.2.0/24"\n',
        b'output = "tcp:host:1"\n[budgets]\nhandshakes_per_second_per_source = 1\n',
    ]


def check(data: bytes) -> None:
    path = _FILE.hold(data)
    try:
        settings = merge(read_config(path), {})
    except ConfigError as error:
        check_message(str(error))
        return
    assert settings.format in FORMATS
    for output in settings.outputs:
        output.opener()
    SyslogFormat(app_name=settings.app_name, sd_id=settings.sd_id)
    JsonFormat()
    assert settings.dedup_ttl >= 0
    assert settings.stats_interval >= 0
    assert settings.idle_timeout >= 1
    assert settings.budgets.syn_records_per_second >= 1
    assert settings.budgets.handshakes_per_second_per_source >= 1
    assert settings.scan_targets >= 0
    assert settings.scan_idle >= 1
    assert len(settings.ignore) <= IGNORE_RULES
    rules = IgnoreRules(settings.ignore)
    for direction in DIRECTIONS:
        counter = rules.counter(Traffic("tcp_flow_timing", bytes(16), bytes(16), 0, 6, direction))
        assert counter is None or counter.startswith("ignored_rule_")
    for name in settings.interfaces:
        assert 0 < len(name.encode()) <= 15
