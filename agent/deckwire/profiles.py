"""Profiles: settings for one purpose under one name.

A profile is a table of rows. Each row is what an operator could write into the file, and each is
overridden by the same key of the file or by the option. It imports nothing, because every start of
the command line reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the file with the value that the profile sets."""

    key: str
    value: str | float | bool | tuple[str, ...]
    why: str
    """The reason, as docs/configuration.md has it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The rows of a profile, and what it sets for the files of its consumer."""

    rows: tuple[Row, ...]
    files: str = ""
    """Pattern for the names of ``file`` outputs that belong to the consumer; "" for none."""
    file_settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of these outputs, unless they set the same themselves."""


PROFILES = {
    "decnet": Profile(
        rows=(
            Row("format", "syslog", "DECNET reads RFC 5424 lines"),
            Row("sd_id", "relay@55555", "DECNET's collector reads no other element"),
            Row("app_name", "sniffer", "DECNET's name for this service"),
            Row("procid", "-", "DECNET's correlation engine accepts nothing else"),
            Row(
                "deckies",
                "decnet-state.json",
                "DECNET's state, in the directory where Deckwire starts",
            ),
            Row(
                "decnet_state",
                True,
                "another program writes it, so one bad decky must not refuse the rest",
            ),
            Row("wait_interface", True, "DECNET makes its macvlan when it deploys the deckies"),
            Row(
                "sequences",
                True,
                "DECNET's profiler reads the classes of IP ids and ISNs, so a change is an event",
            ),
            Row("own_host", "ignore", "DECNET's prober and its operators are no attackers"),
            Row(
                "outbound_source",
                "peer",
                "DECNET takes `src_ip` for the attacker, and its prober attacks that",
            ),
            Row("lateral", "hold", "the acts of DECNET's orchestrator are no attacks"),
            Row(
                "bus",
                "decnet",
                "DECNET's panel, its stop button and the orchestrator's announcements",
            ),
            Row(
                "output",
                ("file:/var/log/decnet/decnet.log", "stdout,events=capture_*"),
                "DECNET's log; losses and counters go to the journal",
            ),
        ),
        files="decnet*.log",
        file_settings={"events": "decnet", "twin": "decnet-json", "mode": "0640"},
    ),
}
