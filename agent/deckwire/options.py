"""The one table of all that an operator can set, for the command line and the file.

`deckwire.cli` makes options of it and `deckwire.config` keys. It imports nothing heavy, because
every start of the command line reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FORMATS = ("syslog", "json", "ecs", "decnet-json")
PROFILE_NAMES = ("decnet",)
"""Of the tables in deckwire.profiles."""
XDP_MODES = ("off", "generic", "native")
CHECKSUMS = ("auto", "off")
COMPATIBILITIES = ("decnet",)
OWN_HOST = ("report", "ignore")
OUTBOUND_SOURCES = ("decky", "peer")
LATERAL = ("emit", "hold", "drop")
HEADS = ("ssh", "http", "payload")
DIRECTIONS = ("inbound", "outbound", "lateral")
REDACT = ("outbound", "lateral")
"""The default: what the deckies themselves send is the operator's own."""


class Section(StrEnum):
    """A part of the help page."""

    WATCH = "What to watch"
    WRITE = "Where lines go"
    EVENTS = "What the events hold"
    OPERATION = "How it is operated"


@dataclass(frozen=True, slots=True)
class Option:
    """One key of the file and, with hyphens, one option of the command line."""

    key: str
    setting: str
    """The field of `deckwire.config.Settings` that it fills."""
    section: Section
    help: str
    metavar: str = ""
    """What its value is called; "" if it is a switch."""
    default: str = ""
    """As the help shows it; "" if there is none to show."""
    short: str = ""
    """A second name, such as ``-i``."""
    repeats: bool = False
    """It may be given several times; in the file it takes a list."""
    is_seconds: bool = False
    is_count: bool = False
    """It takes a whole number."""
    can_negate: bool = False
    """A switch that has a ``--no-`` form, so that it can override the file."""
    live_only: bool = False
    """It belongs to `run` and not to `replay`."""
    file_only: bool = False
    """It is a key of the file and no option."""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.key.replace("_", "-")


OPTIONS = (
    Option(
        *("interface", "interfaces", Section.WATCH),
        "Interface to watch: a MACVLAN interface, or the parent of one. Repeat it for more.",
        metavar="IFACE",
        short="-i",
        repeats=True,
        live_only=True,
    ),
    Option(
        *("netns", "netns", Section.WATCH),
        "Network namespace that has the interfaces, by its name in `ip netns list`.",
        metavar="NAME",
        default="the agent's own",
        live_only=True,
    ),
    Option(
        *("wait_interface", "wait_interface", Section.WATCH),
        "Wait for an interface that does not exist yet, instead of ending with status 2.",
        default="do not wait",
        can_negate=True,
        live_only=True,
    ),
    Option(
        *("xdp", "xdp", Section.WATCH),
        "Note SYN packets in XDP before TC sees them. This pays off only if the driver runs XDP.",
        metavar="|".join(XDP_MODES),
        default="off",
        live_only=True,
    ),
    Option(
        *("ring_kb", "ring_kb", Section.WATCH),
        "Size in KB of the ring in which each CPU's samples wait for the agent.",
        metavar="KB",
        default="1024",
        is_count=True,
        live_only=True,
    ),
    Option(
        *("decky", "deckies", Section.WATCH),
        "Address of a decky, and its name in the events. Repeat it for more.",
        metavar="ADDR[=NAME]",
        default="NAME is the address",
        repeats=True,
    ),
    Option(
        *("deckies", "deckies_file", Section.WATCH),
        "File of deckies: lines of ADDR NAME [OS], or JSON. `run` reads it again when it changes.",
        metavar="FILE",
    ),
    Option(
        *("decnet_state", "decnet_state", Section.WATCH),
        "The deckies file is DECNET's state: watch those of its deckies that are right. `run` waits"
        " for the file and takes the interface from it.",
        default="any fault refuses the file",
        can_negate=True,
    ),
    Option(
        *("own_host", "own_host", Section.WATCH),
        "Connections that this host opens to deckies itself: report them, or ignore and count"
        " them.",
        metavar="|".join(OWN_HOST),
        default="report",
        live_only=True,
    ),
    Option(
        *("profile", "profile", Section.WATCH),
        "Set many options for one purpose; each can be overridden. docs/configuration.md has the"
        " table.",
        metavar="|".join(PROFILE_NAMES),
        default="none of them",
    ),
    Option(
        *("checksums", "checksums", Section.WATCH),
        "Refuse what a decky drops for its checksum: auto judges who opened with right ones.",
        metavar="|".join(CHECKSUMS),
        default="auto",
    ),
    Option(
        *("output", "outputs", Section.WRITE),
        "Where lines go: stdout, file:PATH, unix:PATH, udp:HOST:PORT, tcp:HOST:PORT,"
        " tls:HOST:PORT, relp:HOST:PORT, http://HOST/PATH or https://HOST/PATH. Repeat it"
        " for more. Settings may follow, as in stdout,format=json,events=tls_*: see"
        " docs/outputs.md.",
        metavar="OUTPUT",
        default="stdout",
        repeats=True,
        live_only=True,
    ),
    Option(
        *("format", "format", Section.WRITE),
        "Form of a line: syslog is RFC 5424, json is one JSON object, ecs is one in Elastic Common"
        " Schema, decnet-json is what DECNET's ingester reads.",
        metavar="|".join(FORMATS),
        default="syslog",
    ),
    Option(
        *("app_name", "app_name", Section.WRITE),
        "APP-NAME of syslog lines: up to 48 characters.",
        metavar="NAME",
        default="sniffer",
    ),
    Option(
        *("sd_id", "sd_id", Section.WRITE),
        "SD-ID of syslog lines: NAME@NUMBER, up to 32 characters.",
        metavar="ID",
        default="decnet@55555",
    ),
    Option(
        *("bus", "bus", Section.WRITE),
        "DECNET's bus: the path of its socket, or decnet to find it as DECNET does.",
        metavar="decnet|PATH",
        default="no bus",
        live_only=True,
    ),
    Option(
        *("sensor", "sensor", Section.EVENTS),
        "Name of this agent in every event: up to 64 characters.",
        metavar="NAME",
        default="the host's name",
    ),
    Option(
        *("outbound_source", "outbound_source", Section.EVENTS),
        "Which end of a connection that a decky opened is src_ip.",
        metavar="|".join(OUTBOUND_SOURCES),
        default="decky",
    ),
    Option(
        *("lateral", "lateral", Section.EVENTS),
        "Events of connections between deckies: emit them, drop them, or hold them for 15 s and"
        " drop those that the bus announces.",
        metavar="|".join(LATERAL),
        default="emit",
    ),
    Option(
        *("procid", "procid", Section.WRITE),
        "PROCID of syslog lines: up to 128 characters.",
        metavar="ID",
        default="-",
    ),
    Option(
        *("dedup_ttl", "dedup_ttl", Section.EVENTS),
        "Suppress an event that repeats within so many seconds; 0 emits every event.",
        metavar="SECONDS",
        default="300",
        is_seconds=True,
    ),
    Option(
        *("dedup_keys", "dedup_keys", Section.EVENTS),
        "Different events of one kind that one source may have emitted within --dedup-ttl; beyond"
        " them one a second. 0 sets no bound.",
        metavar="COUNT",
        default="64",
        is_count=True,
    ),
    Option(
        *("stats_interval", "stats_interval", Section.EVENTS),
        "Seconds between two capture_stats events; 0 emits only the one at the end.",
        metavar="SECONDS",
        default="60",
        is_seconds=True,
        live_only=True,
    ),
    Option(
        *("idle_timeout", "idle_timeout", Section.EVENTS),
        "Seconds without a packet after which a connection ends, at least 1.",
        metavar="SECONDS",
        default="120",
        is_seconds=True,
        file_only=True,
    ),
    Option(
        *("raw_fingerprints", "raw_fingerprints", Section.EVENTS),
        "Add the JA4 fingerprints without hashes: ja4_r, ja4_o and ja4_ro.",
        default="leave them out",
    ),
    Option(
        *("sequences", "sequences", Section.EVENTS),
        "Report a source's SYN again when its IP ids or sequence numbers show another class.",
        default="a change of class opens no window",
        can_negate=True,
    ),
    Option(
        *("heads", "heads", Section.EVENTS),
        "List of what is read of first bytes, in addition to TLS; an empty list reads none.",
        metavar="LIST",
        default=", ".join(HEADS),
        file_only=True,
    ),
    Option(
        *("redact", "redact", Section.EVENTS),
        "List of the directions of connections in whose events keyed hashes stand for credentials;"
        " an empty list leaves all credentials in.",
        metavar="LIST",
        default=", ".join(REDACT),
        file_only=True,
    ),
    Option(
        *("redact_key", "redact_key", Section.EVENTS),
        "File with the key of these hashes: 32 bytes or more. Agents with the same key give equal"
        " hashes for equal credentials.",
        metavar="FILE",
        default="redact.key in the state directory, made at the first start",
        file_only=True,
    ),
    Option(
        *("ja4plus", "ja4plus", Section.EVENTS),
        "Emit JA4S, JA4X, JA4T, JA4TS, JA4L and JA4H, which have a licence of their own.",
        default="emit them",
        file_only=True,
    ),
    Option(
        *("compat", "compat", Section.EVENTS),
        "Calculate ja4 and ja4s as DECNET's old sniffer did, and suppress by its keys.",
        metavar="|".join(COMPATIBILITIES),
        default="as FoxIO defines them",
    ),
    Option(
        *("p0f_db", "p0f_db", Section.EVENTS),
        "Signatures to use instead of the built-in ones, in the format of p0f.fp.",
        metavar="FILE",
    ),
    Option(
        *("scan_targets", "scan_targets", Section.EVENTS),
        "Targets (decky, protocol and port) of one source that are reported at once as a scan; 0"
        " reports no scans.",
        metavar="COUNT",
        default="5",
        is_count=True,
    ),
    Option(
        *("scan_idle", "scan_idle", Section.EVENTS),
        "Seconds of silence after which a scan has ended, at least 1.",
        metavar="SECONDS",
        default="900",
        is_seconds=True,
        file_only=True,
    ),
    Option(
        *("ignore", "ignore", Section.EVENTS),
        "Tables of what is no attack: source, destination, port, protocol, direction and event.",
        metavar="TABLES",
        default="nothing is ignored",
        file_only=True,
    ),
    Option(
        *("budgets", "budgets", Section.EVENTS),
        "Table of rates beyond which the kernel side submits fewer samples: see"
        " docs/configuration.md.",
        metavar="TABLE",
        file_only=True,
    ),
    Option(
        *("state_dir", "state_dir", Section.OPERATION),
        "Directory that survives restarts: the spools of acknowledged outputs, redact's key, and"
        " the scans under way.",
        metavar="DIR",
        default="$STATE_DIRECTORY",
        live_only=True,
    ),
    Option(
        *("runtime_dir", "runtime_dir", Section.OPERATION),
        "Directory for status.json, which `deckwire status` reads.",
        metavar="DIR",
        default="$RUNTIME_DIRECTORY",
        live_only=True,
    ),
    Option(
        *("metrics", "metrics", Section.OPERATION),
        "File of all counters for node_exporter's textfile collector: FILE.prom.",
        metavar="FILE",
        default="write none",
        live_only=True,
    ),
    Option(
        *("user", "user", Section.OPERATION),
        "User to become after the start, if root starts it: it opens all files as this user.",
        metavar="NAME",
        default="stay who started it",
        live_only=True,
    ),
)

BUDGETS = {
    "syn_records_per_second": "SYN samples a second that the kernel side submits.  [default: 1000]",
    "syn_burst": "SYN samples that it submits at once after a quiet time.  [default: 2000]",
    "midstream_records_per_second": "Samples a second, of all sources together, of connections"
    " whose handshake was not seen.  [default: 500]",
    "handshakes_per_second_per_source": "Connections a second of one source whose TLS handshakes"
    " are read.  [default: 5000]",
}
"""What each key of the table `budgets` means."""

OUTPUT_SETTINGS = {
    "to": "The output itself, as after --output. A table needs it.",
    "format": f"Form of its lines: {', '.join(FORMATS)}.",
    "events": "Events that it takes: a list of names, which may have * and ?, or decnet.",
    "min_severity": "Least severity that it takes: emerg to debug, or 0 to 7.",
    "max_events_per_second": "Bound on its events. Half of it is for events of severity 4 and more"
    " severe alone.",
    "app_name": "APP-NAME of its syslog lines.",
    "sd_id": "SD-ID of its syslog lines.",
    "procid": "PROCID of its syslog lines.",
    "owner": "USER or USER:GROUP of files that it makes; file: only.",
    "mode": "Mode of files that it makes, such as 0640; file: only.",
    "twin": "decnet-json writes a record into a second file after each line; file: only.",
    "tls": "on runs relp: over TLS.",
    "ca": "File of certificates that may sign the receiver's, instead of the system's; TLS only.",
    "certificate": "File of the client's certificate; TLS only.",
    "key": "File of its private key, if that is another file; TLS only.",
    "name": "Name in the receiver's certificate, if it is not HOST; TLS only.",
    "token_file": "File with a token that each HTTP request carries.",
    "spool_bytes": "Largest spool of a relp: or http: output.  [default: 268435456]",
}
"""What each setting of one output means, by its key in a table of the file."""
