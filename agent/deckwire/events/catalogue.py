"""The one table of all events and their fields.

docs/events.md and docs/schema are written from it, and the ECS format reads the names there. The
events themselves are made without it, because that is quicker: tests compare them with it.
"""

from __future__ import annotations

from dataclasses import replace

from deckwire.events.decky_initiated import TRANSPORTS
from deckwire.events.decky_mismatch import Mismatch
from deckwire.events.declaration import Declared, DeclaredEvent, Type
from deckwire.events.event import INFORMATIONAL, WARNING
from deckwire.scans.tracker import Phase
from deckwire.tcp.anomaly import Technique

TEXT, INTEGER, NUMBER = Type.TEXT, Type.INTEGER, Type.NUMBER
BOOLEAN, LIST, INTEGER_OR_EMPTY = Type.BOOLEAN, Type.LIST, Type.INTEGER_OR_EMPTY

_US, _MS = "µs", "ms"
_SEQUENCE_CLASSES = ("zero", "constant", "incremental", "random")


def _field(
    name: str,
    type_: Type,
    meaning: str,
    *,
    ecs: str = "",
    unit: str = "",
    optional: bool = False,
    values: tuple[str, ...] = (),
    since: int = 1,
) -> Declared:
    return Declared(name, type_, meaning, ecs or f"deckwire.{name}", unit, optional, values, since)


def _maybe(
    name: str,
    type_: Type,
    meaning: str,
    *,
    ecs: str = "",
    unit: str = "",
    values: tuple[str, ...] = (),
) -> Declared:
    return _field(name, type_, meaning, ecs=ecs, unit=unit, values=values, optional=True)


def _since_2(fields: tuple[Declared, ...]) -> tuple[Declared, ...]:
    """The same fields, as those of an event that came with schema 2."""
    return tuple(replace(field, since=2) for field in fields)


def _new(name: str, type_: Type, meaning: str, *, ecs: str = "", unit: str = "") -> Declared:
    return _field(name, type_, meaning, ecs=ecs, unit=unit, optional=True, since=2)


def _optional(*fields: Declared) -> tuple[Declared, ...]:
    return tuple(replace(one, optional=True) for one in fields)


# --- fields of several events ---

_ADDRESSES = (
    _field("src_ip", TEXT, "address of the client", ecs="source.ip"),
    _field("src_port", INTEGER, "its port", ecs="source.port"),
    _field("dst_ip", TEXT, "address of the server", ecs="destination.ip"),
    _field("dst_port", INTEGER, "its port", ecs="destination.port"),
)
_UNSEEN = _maybe(
    "handshake",
    TEXT,
    "`unseen`: the handshake of the connection was not seen",
    values=("unseen",),
)
_DIRECTION = _field(
    "direction",
    TEXT,
    "who opened the connection",
    ecs="network.direction",
    values=("inbound", "outbound", "lateral"),
)
_CONN_ID = _field("conn_id", TEXT, "Community ID v1 of the connection", ecs="network.community_id")
_REDACTED = _maybe(
    "redacted", BOOLEAN, "`true`: credentials were [replaced](configuration.md#credentials)"
)
_FRAGMENTS = _maybe("fragments", INTEGER, "IP fragments in which the connection came so far")
_TAIL = (_DIRECTION, _CONN_ID, _FRAGMENTS)
_TLS_TAIL = (
    _maybe(
        "tls_client",
        TEXT,
        "`server` if the end that did not open the connection is the client of TLS, as in active"
        " FTPS",
        values=("server",),
    ),
    _UNSEEN,
    *_TAIL,
)

_RTT_SERVER = _maybe(
    "rtt_server_us",
    INTEGER,
    "from SYN to SYN-ACK. Left out if the SYN-ACK has the earlier stamp, or if a capture's clock"
    " jumped between them",
    unit=_US,
)
_RTT_CLIENT = _maybe(
    "rtt_client_us", INTEGER, "from SYN-ACK to ACK, left out for the same reasons", unit=_US
)
_JA4L_C = _maybe("ja4l_c", TEXT, "JA4L of the client")
_JA4L_S = _maybe("ja4l_s", TEXT, "JA4L of the server")
_JA4TS = _maybe("ja4ts", TEXT, "JA4TS of the SYN-ACK, short form")
_KEPT_LATENCY = (
    _maybe("ja4l_rtt_ms", NUMBER, "SYN to SYN-ACK, if rtt_server_us is known", unit=_MS),
    _maybe("ja4l_client_ttl", INTEGER, "TTL of the SYN, if the SYN-ACK was seen"),
)
_TOOL = (
    _maybe("tool", TEXT, "the scanner that sent it, if it is known"),
    _maybe("tool_evidence", TEXT, "the traits that show it"),
)
_LINK = (
    _new(
        "src_mac",
        TEXT,
        "MAC address that sent it: the client's, or that of the last router on its way. Left out if"
        " a capture's link has none",
    ),
    _new("vlan", INTEGER, "its outermost VLAN, if it has a tag"),
)
_QUALITY = _field(
    "quality",
    TEXT,
    "how the message was read: see [below](#quality)",
    values=(*("complete", "reassembled", "overlap", "contested", "truncated", "gap", "malformed"),),
)

_JA3 = _field(
    "ja3",
    TEXT,
    "JA3; empty if the hello was cut, because half a list has no fingerprint, and for SSL 2.0",
    ecs="tls.client.ja3",
)
_JA4 = _field("ja4", TEXT, "JA4; empty in the same cases", ecs="tls.client.ja4")
_JA4_STABLE = _maybe(
    "ja4_stable",
    TEXT,
    "JA4 without the extensions 0x0015, 0x0023, 0x0029 and 0x002a"
    " ([fingerprints](fingerprints.md))",
)
_SNI = _field(
    "sni",
    TEXT,
    "server name that the client asked for; empty if none",
    ecs="tls.client.server_name",
)
_OFFER = (
    _SNI,
    _field("alpn", LIST, "protocols offered"),
    _field(
        "raw_ciphers", TEXT, "cipher suites, decimal, wire order, without GREASE, joined with `-`"
    ),
    _field("raw_extensions", TEXT, "extensions, in the same form"),
    _maybe(
        "resumption",
        LIST,
        "which of `session_ticket`, `psk`, `early_data_0rtt`, `session_id` is offered",
    ),
)

EVERYWHERE = (
    _maybe("cut", BOOLEAN, "the line was too long: fields before it were left out"),
    _field("sensor", TEXT, "name of the agent", ecs="observer.name"),
    _field("event_id", TEXT, "128 bits in hexadecimal", ecs="event.id"),
    _field("schema", INTEGER, "version of docs/events.md"),
)
"""The last fields of every event."""

# --- the events ---

_SYN = (
    *_ADDRESSES,
    _field("ttl", INTEGER, "TTL or hop limit as it arrived"),
    _field("initial_ttl", INTEGER, "the next of 32, 64, 128, 255"),
    _field("hop_distance", INTEGER, "initial_ttl less ttl, 0 to 64"),
    _field("window", INTEGER, "raw window"),
    _field("mss", INTEGER, "`0` without MSS"),
    _field("wscale", INTEGER_OR_EMPTY, "empty without window scale"),
    _field(
        "options_sig",
        TEXT,
        "one letter for each option: M mss, W window scale, T timestamps, S SACK, N nop, E end,"
        " A alternate checksum, U user timeout, ? other",
    ),
    _field("has_sack", BOOLEAN, "SACK is permitted"),
    _field("has_timestamps", BOOLEAN, "it has timestamps"),
    _field(
        "os_guess",
        TEXT,
        "system by simple rules",
        values=(
            *("linux", "windows", "macos_ios", "freebsd", "openbsd", "embedded", "nmap"),
            "unknown",
        ),
    ),
    _maybe("ja4t", TEXT, "JA4T"),
    _field("p0f_sig", TEXT, "raw signature in p0f's syntax"),
    _maybe("os", TEXT, "the label that matched: [systems.md](systems.md#the-match)"),
    _maybe("os_class", TEXT, "the class of that label"),
    _maybe("link", TEXT, "kind of link, from the MTU that the MSS implies"),
    *_TOOL,
    _field("ip_version", INTEGER, "4 or 6"),
    _maybe("ip_id", INTEGER, "IPv4 only"),
    _maybe("df", BOOLEAN, "IPv4 only"),
    _field("dscp", INTEGER, "the upper six bits of tos"),
    _field("ecn", INTEGER, "the lower two bits of tos"),
    _field("tos", INTEGER, "type of service or traffic class"),
    _maybe(
        "ipid_class",
        TEXT,
        "how the source chose IP identifications (IPv4) in its last SYNs, eight at most: `zero`,"
        " `constant`, `incremental` (steps of 1 to 4,096) or `random`. Suppressed SYNs count. Left"
        " out for fewer than four SYNs, and for a SYN beyond its budget, which its handshake"
        " reports",
        values=_SEQUENCE_CLASSES,
    ),
    _maybe("ipid_samples", INTEGER, "how many SYNs show it"),
    _maybe(
        "isn_class",
        TEXT,
        "the same of initial sequence numbers",
        values=_SEQUENCE_CLASSES,
    ),
    _maybe("isn_samples", INTEGER, "how many SYNs show it"),
    _field("total_len", INTEGER, "bytes of the IP packet", since=2),
    _new("quirks", LIST, "the quirks in p0f_sig; left out if it has none"),
    _new(
        "uptime",
        INTEGER,
        "how long its source has been up, by the TCP timestamps of three SYNs or more in ten"
        " minutes. Only if SYNs to two addresses show one clock: most systems of today have"
        " another offset for each. Modulo the clock's range (49 days at 1,000 Hz)",
        unit="s",
    ),
    _new("uptime_hz", INTEGER, "ticks a second of that clock", unit="Hz"),
    *_LINK,
    *_TAIL,
)

_HANDSHAKE = (
    *_ADDRESSES,
    _JA4TS,
    _RTT_SERVER,
    _RTT_CLIENT,
    _JA4L_S,
    _JA4L_C,
    _maybe("client_ttl", INTEGER, "TTL of the SYN"),
    _maybe("server_ttl", INTEGER, "TTL of the SYN-ACK"),
    _maybe(
        "syn_retransmits",
        INTEGER,
        "if the SYN was seen. Round-trip times start at the first SYN and the first SYN-ACK. If a"
        " count is not 0, the times include the wait for the retransmission",
    ),
    _maybe("synack_retransmits", INTEGER, "if the SYN-ACK was seen"),
    _maybe(
        "server_p0f_sig",
        TEXT,
        "of the SYN-ACK: the decky's own system, or the peer of an outbound connection",
    ),
    _maybe("server_os", TEXT, "the label that matched it"),
    _maybe("server_os_class", TEXT, "the class of that label"),
    *_TAIL,
)

_HELLO = (
    *_ADDRESSES,
    _JA3,
    _JA4,
    _field(
        "tls_version",
        TEXT,
        "the highest offered; empty if the hello was cut before it",
        ecs="tls.version",
    ),
    *_OFFER,
    *_KEPT_LATENCY,
    _JA4_STABLE,
    _maybe("ja4_r", TEXT, "JA4 without hashes, with `--raw-fingerprints`"),
    _maybe("ja4_o", TEXT, "JA4 in wire order, with `--raw-fingerprints`"),
    _maybe("ja4_ro", TEXT, "both, with `--raw-fingerprints`"),
    _QUALITY,
    _maybe("ech", BOOLEAN, "`true` if Encrypted ClientHello is offered, GREASE included"),
    _maybe("pq", TEXT, "first post-quantum group offered"),
    _RTT_CLIENT,
    _RTT_SERVER,
    _JA4L_C,
    _JA4L_S,
    _maybe("starttls", BOOLEAN, "`true` if bytes came before TLS on this connection"),
    *_TLS_TAIL,
)

_SESSION = (
    *_ADDRESSES,
    _field("ja3s", TEXT, "JA3S", ecs="tls.server.ja3s"),
    _field("ja4s", TEXT, "JA4S", ecs="tls.server.ja4s"),
    _field("tls_version", TEXT, "the version chosen", ecs="tls.version"),
    *_optional(replace(_JA3, meaning="of the ClientHello, if it is known"), _JA4, *_OFFER),
    *_KEPT_LATENCY,
    _JA4_STABLE,
    _field("cipher", TEXT, "IANA name", ecs="tls.cipher"),
    _maybe(
        "alpn_selected",
        TEXT,
        "if it is in clear text, so never in TLS 1.3",
        ecs="tls.next_protocol",
    ),
    _maybe(
        "resumed",
        BOOLEAN,
        "whether an older session is resumed, if that can be seen",
        ecs="tls.resumed",
    ),
    _maybe(
        "hrr",
        BOOLEAN,
        "`true`: ja3s, ja4s and cipher are those of the HelloRetryRequest. The later ServerHello"
        " gives no second event",
    ),
    _maybe(
        "ja3s_after_retry",
        TEXT,
        "of the ServerHello after the HelloRetryRequest, if it was seen. The event waits for it",
    ),
    _maybe("ja4s_after_retry", TEXT, "the same"),
    _maybe("ja4s_r", TEXT, "JA4S without its hash"),
    _JA4L_C,
    _JA4L_S,
    _JA4TS,
    *_TLS_TAIL,
)

_CERTIFICATE = (
    *_ADDRESSES,
    _field("subject_cn", TEXT, "first common name", ecs="tls.server.x509.subject.common_name"),
    _field("issuer", TEXT, "with the escapes of RFC 4514", ecs="tls.server.issuer"),
    _maybe(
        "self_signed",
        BOOLEAN,
        "`true`: issuer and subject are the same name, and the certificate's own key made the"
        " signature. `false`: one of the two does not hold. Left out if the names are the same but"
        " the signature cannot be checked (SM2, unknown curves, very large keys), or if the names"
        " cannot be read",
    ),
    _field("not_before", TEXT, "ASN.1 text, unchanged", ecs="tls.server.not_before"),
    _field("not_after", TEXT, "ASN.1 text, unchanged", ecs="tls.server.not_after"),
    _maybe("sans", LIST, "all names that print", ecs="tls.server.x509.alternative_names"),
    replace(_SNI, meaning="of the ClientHello", optional=True),
    _maybe("subject", TEXT, "with the escapes of RFC 4514", ecs="tls.server.subject"),
    _maybe("ja4x", TEXT, "JA4X of the leaf. Left out if its names or extensions could not be read"),
    _maybe(
        "ja4x_chain",
        LIST,
        "JA4X of all certificates. Left out if one could not be read, or if the chain was cut",
    ),
    _field("cert_sha256", TEXT, "of the leaf in DER", ecs="tls.server.hash.sha256"),
    _maybe("serial", TEXT, "hexadecimal", ecs="tls.server.x509.serial_number"),
    _maybe("key", TEXT, "kind and size, such as `rsa2048` or `ec-p256`"),
    _maybe("signature_algorithm", TEXT, "its name", ecs="tls.server.x509.signature_algorithm"),
    _maybe("chain_length", INTEGER, "certificates in the message; not if the chain was cut"),
    _field("side", TEXT, "the end of TLS that sent it", values=("server", "client")),
    replace(
        _QUALITY,
        meaning="as in tls_client_hello; `malformed` also if the certificate violates RFC 5280",
    ),
    *_TLS_TAIL,
)

_FLOW = (
    *_ADDRESSES,
    _field("packets", INTEGER, "of both directions", ecs="network.packets"),
    _field("bytes", INTEGER, "TCP payload of both directions", ecs="network.bytes"),
    _maybe(
        "duration_s",
        NUMBER,
        "`0.0` for a single packet. Left out if a capture's clock jumped during the connection",
        ecs="event.duration",
        unit="s",
    ),
    _maybe(
        "mean_iat_ms",
        NUMBER,
        "inter-arrival time of consecutive packets in either direction, left out with duration_s."
        " A super-packet counts as its packets in the mean, and once in min and max",
        unit=_MS,
    ),
    _maybe(
        "min_iat_ms",
        NUMBER,
        "the least. Also left out if a packet is stamped more than 1 ms before the previous one",
        unit=_MS,
    ),
    _maybe("max_iat_ms", NUMBER, "the greatest, left out with min_iat_ms", unit=_MS),
    _maybe(
        "retransmits",
        INTEGER,
        "by the client, from sequence numbers, SYN included; left out if no packet of the client"
        " was seen",
    ),
    _maybe("retransmits_server", INTEGER, "by the server, if a packet of it was seen"),
    _maybe(
        "bytes_client", INTEGER, "payload, if a packet of the client was seen", ecs="source.bytes"
    ),
    _maybe(
        "bytes_server",
        INTEGER,
        "payload, if a packet of the server was seen",
        ecs="destination.bytes",
    ),
    _maybe(
        "bytes_accepted_client",
        INTEGER,
        "payload bytes that the other end's TCP has acknowledged, and that the decky accepted:"
        " without retransmissions and without what was refused. Urgent bytes do not count,"
        " because no socket reads them. Left out of mid-stream connections",
    ),
    _maybe("bytes_accepted_server", INTEGER, "the same of the server"),
    _field("packets_client", INTEGER, "of the client", ecs="source.packets"),
    _field("packets_server", INTEGER, "of the server", ecs="destination.packets"),
    _field(
        "close",
        TEXT,
        "how it ended; `fin` too if only the last ACK of a FIN was missing; `open` if a capture"
        " ended first, `shutdown` if the agent did",
        values=("fin", "rst", "idle", "evicted", "removed", "shutdown", "open"),
    ),
    _RTT_CLIENT,
    _RTT_SERVER,
    _maybe(
        "rtt_min_us",
        INTEGER,
        "the least time from the server's data to the client's ACK",
        unit=_US,
    ),
    replace(
        _TOOL[0],
        meaning="`nmap`, if the connection is part of a [connect scan](systems.md#connect-scans)",
    ),
    _TOOL[1],
    _UNSEEN,
    *_TAIL,
)

_SSH_OFFER = (
    _maybe("strict_kex", BOOLEAN, "`true` if strict key exchange is offered"),
    _maybe("ext_info", BOOLEAN, "`true` if EXT_INFO messages (RFC 8308) are taken"),
    _maybe(
        "role_reversed",
        BOOLEAN,
        "`true` if the SSH client is the end that did not open the connection",
    ),
    _UNSEEN,
    *_TAIL,
)
_SSH_VERSION = _field(
    "ssh_version",
    TEXT,
    "the banner as it was sent, without the line's end; 255 bytes at most",
)
_SSH_CLIENT = (
    *_ADDRESSES,
    _SSH_VERSION,
    _maybe("hassh", TEXT, "HASSH, if the whole KEXINIT was seen ([fingerprints](fingerprints.md))"),
    _maybe("hassh_algorithms", TEXT, "the lists that it is made of"),
    *_SSH_OFFER,
)
_SSH_SERVER = (
    *_ADDRESSES,
    _SSH_VERSION,
    _maybe("hassh_server", TEXT, "HASSHServer, if the whole KEXINIT was seen"),
    _maybe("hassh_server_algorithms", TEXT, "the lists that it is made of"),
    *_SSH_OFFER,
)

_HTTP = (
    *_ADDRESSES,
    _field("method", TEXT, "as it was sent, whatever it is", ecs="http.request.method"),
    _field(
        "path",
        TEXT,
        "the target as it was sent: a path with its query, a URL, or an authority (CONNECT)",
        ecs="url.original",
    ),
    _field("version", TEXT, "such as `1.1`; `0.9` if the request has none", ecs="http.version"),
    _maybe("host", TEXT, "the header Host"),
    _maybe("user_agent", TEXT, "the header User-Agent", ecs="user_agent.original"),
    _maybe("referer", TEXT, "the header Referer", ecs="http.request.referrer"),
    _maybe(
        "header_order",
        LIST,
        "the names of all headers as they were sent, in their order, if the whole head was seen",
    ),
    _maybe(
        "body_length",
        INTEGER,
        "as the head gives it; of chunks, counted if all were seen",
        unit="bytes",
        ecs="http.request.body.bytes",
    ),
    _maybe(
        "body",
        TEXT,
        "the first 512 bytes of the body in Base64, without the framing of chunks",
        ecs="http.request.body.content",
    ),
    _maybe("status", INTEGER, "of the answer", ecs="http.response.status_code"),
    _maybe("server", TEXT, "the header Server of the answer"),
    _maybe(
        "ja4h",
        TEXT,
        "JA4H, if the whole head was seen ([fingerprints](fingerprints.md)); not with"
        " `ja4plus = false`",
    ),
    _maybe(
        "role_reversed",
        BOOLEAN,
        "`true` if the client of HTTP is the end that did not open the connection",
    ),
    _REDACTED,
    _UNSEEN,
    *_TAIL,
)


def _of_protocol(name: str, type_: Type, meaning: str, *, ecs: str = "") -> Declared:
    return _maybe(name, type_, meaning, ecs=ecs or f"deckwire.payload.{name}")


def _bytes_of(name: str, path: str, end: str) -> tuple[Declared, ...]:
    return (
        _maybe(name, TEXT, f"first bytes of the {end}, in Base64", ecs=f"{path}.content"),
        _maybe(f"{name}_text", TEXT, "128 characters of them at most", ecs=f"{path}.text"),
        _maybe(
            f"{name}_length",
            INTEGER,
            "how many were kept, before credentials were replaced: 512 at most",
            ecs=f"{path}.length",
        ),
        _maybe(
            f"{name}_sha256",
            TEXT,
            "SHA-256 of the bytes in this event, in hexadecimal",
            ecs=f"{path}.sha256",
        ),
        _maybe(f"{name}_cut", BOOLEAN, f"`true`: the {end} sent more", ecs=f"{path}.cut"),
    )


_PAYLOAD = (
    *_ADDRESSES,
    _maybe("protocol", TEXT, "what the bytes show, see [below](#protocol)", ecs="network.protocol"),
    _of_protocol("login_user", TEXT, "user of the first login", ecs="user.name"),
    _of_protocol("login_password", TEXT, "its password, if it is in clear text"),
    _of_protocol("login_attempts", INTEGER, "passwords that were sent, if more than one"),
    _of_protocol("login_method", TEXT, "such as `plain`, `md5` or `simple`"),
    _of_protocol("database", TEXT, "name of the database: postgres, mysql"),
    _of_protocol("application", TEXT, "`application_name`: postgres"),
    _of_protocol("request_line", TEXT, "first line of the client: rtsp/sip"),
    _of_protocol("user_agent", TEXT, "User-Agent: rtsp/sip", ecs="user_agent.original"),
    _of_protocol("rdp_cookie", TEXT, "mstshash: a part of a user name"),
    _of_protocol("rdp_token", TEXT, "routing token"),
    _of_protocol(
        "rdp_protocols",
        LIST,
        "security that is asked for: `rdp`, `tls`, `credssp`, `rdstls`, `credssp_ex`, `rdsaad`",
    ),
    _of_protocol("smb_dialects", LIST, "dialects that are proposed"),
    _of_protocol("telnet_options", LIST, "such as `WILL 24`"),
    _of_protocol("telnet_terminal", TEXT, "type of terminal"),
    _of_protocol("redis_commands", LIST, "commands with their arguments"),
    _of_protocol("adb_banner", TEXT, "text of CNXN"),
    _of_protocol("adb_services", LIST, "services that are opened, such as `shell:id`"),
    _of_protocol("mqtt_version", TEXT, "`3.1`, `3.1.1` or `5`"),
    _of_protocol("mqtt_client_id", TEXT, "client identifier"),
    _of_protocol("postgres_request", TEXT, "what comes before a login: `ssl`, `gss`, `cancel`"),
    _of_protocol("mysql_version", TEXT, "version of the server"),
    _of_protocol("ldap_operations", LIST, "such as `bind`"),
    _of_protocol("vnc_version", TEXT, "version of the client"),
    _of_protocol("socks_command", TEXT, "`connect`, `bind`, `udp_associate` or a number"),
    _of_protocol("socks_target", TEXT, "host and port"),
    _of_protocol("rmi_protocol", TEXT, "`stream`, `single_op` or `multiplex`"),
    _of_protocol("t3_version", TEXT, "version of the client: WebLogic"),
    _of_protocol("java_objects", BOOLEAN, "`true`: serialized objects are in it: rmi, t3"),
    _of_protocol("modbus_unit", INTEGER, "unit identifier of the first request"),
    _of_protocol("modbus_functions", LIST, "function codes"),
    _of_protocol("s7_tsap", TEXT, "called TSAP in hexadecimal: rack and slot"),
    _of_protocol("s7_functions", LIST, "function codes; `userdata`"),
    *_bytes_of("payload", "deckwire.payload", "client"),
    *_bytes_of("server_payload", "deckwire.payload.server", "server"),
    _REDACTED,
    _UNSEEN,
    *_TAIL,
)

_ANOMALY = (
    replace(
        _ADDRESSES[0],
        meaning="of the connection; without ports, the sender of a packet whose ports were not"
        " read",
    ),
    *_optional(_ADDRESSES[1]),
    replace(_ADDRESSES[2], meaning="the same of the receiver"),
    *_optional(_ADDRESSES[3]),
    _field(
        "technique",
        TEXT,
        "see [below](#technique)",
        values=tuple(one.value for one in Technique),
    ),
    _field(
        "evidence",
        TEXT,
        "what shows it: flags, seq, ack and bytes of the segment, and the seq and ack that its"
        " receiver expects",
    ),
    _field("believed", TEXT, "what Deckwire believed instead"),
    _maybe("sender", TEXT, "who sent it, by its addresses", values=("client", "server")),
    _maybe("ja3", TEXT, "of a ClientHello that was not believed"),
    _maybe("ja4", TEXT, "of the same"),
    _maybe("sni", TEXT, "of the same"),
    replace(
        _UNSEEN,
        meaning="`unseen`: of no connection, or of one whose handshake was not seen. Anybody can"
        " forge such a packet",
    ),
    _DIRECTION,
    *_optional(_CONN_ID),
    _FRAGMENTS,
)

_INITIATED = (
    replace(_ADDRESSES[0], meaning="address of the decky", since=2),
    *_optional(replace(_ADDRESSES[1], meaning="its port, of the first datagram", since=2)),
    replace(_ADDRESSES[2], meaning="address of its peer", since=2),
    *_optional(replace(_ADDRESSES[3], meaning="the peer's port; ICMP has none", since=2)),
    _new("dst_decky", TEXT, "name of the peer, if it is a decky"),
    _field(
        "transport",
        TEXT,
        "protocol over IP",
        since=2,
        ecs="network.transport",
        values=TRANSPORTS,
    ),
    _new("ttl", INTEGER, "of the SYN, as are the fields down to ip_version: as there"),
    _new("ja4t", TEXT, "JA4T"),
    _new("p0f_sig", TEXT, "raw signature in p0f's syntax"),
    _new("os", TEXT, "the label that matched it"),
    _new("os_class", TEXT, "the class of that label"),
    *(replace(one, since=2) for one in _TOOL),
    _new("ip_version", INTEGER, "4 or 6"),
    *_LINK,
    replace(_DIRECTION, since=2),
    *_optional(replace(_CONN_ID, since=2)),
    replace(_FRAGMENTS, since=2),
)

_MISMATCH = tuple(
    replace(one, since=2)
    for one in (
        _field("dst_ip", TEXT, "address of the decky", ecs="destination.ip"),
        _maybe(
            "dst_port",
            INTEGER,
            "the port, of `port_open` and `port_closed`",
            ecs="destination.port",
        ),
        _field(
            "mismatch",
            TEXT,
            "what does not fit: see [below](#mismatch)",
            values=tuple(one.value for one in Mismatch),
        ),
        _maybe(
            "claimed",
            TEXT,
            "what the deckies file says: the system, or of ports the services",
        ),
        _field("evidence", TEXT, "what shows it, in words and numbers"),
        _maybe("shared_with", LIST, "names of the other deckies, the first 16"),
    )
)

_SCAN = tuple(
    replace(one, since=2)
    for one in (
        _field("src_ip", TEXT, "address of the source", ecs="source.ip"),
        _maybe("src_mac", TEXT, "its MAC address, as the frame that came last had it"),
        _field(
            "phase",
            TEXT,
            "`begun`: it has touched `scan_targets` targets; `grown`: ten times as many as before;"
            " `ended`: it was silent for `scan_idle`, or had to make room, or the capture ended",
            values=tuple(one.value for one in Phase),
        ),
        _field("scan_id", TEXT, "the same in all events of one scan: 64 bits in hexadecimal"),
        _field(
            "kinds",
            LIST,
            "kinds of its probes: see [below](#kinds)",
        ),
        _field("deckies", INTEGER, "on how many deckies"),
        _field("names", LIST, "names of these deckies, the first 16"),
        _maybe(
            "ports",
            TEXT,
            "touched ports as ranges, such as `22,80,443,8000-8100`. If they are of several"
            " protocols, nmap's letters say which (`T:22,80,U:53`). `...` at the end: there are"
            " more",
        ),
        _field(
            "targets",
            INTEGER,
            "how many targets: deckies, protocols and ports; an estimate unless `ports_exact`",
        ),
        _field("ports_exact", BOOLEAN, "whether every target is known"),
        _field("probes", INTEGER, "how many probes"),
        _field("first_seen", TEXT, "time of the first probe", ecs="event.start"),
        _field("last_seen", TEXT, "time of the last one", ecs="event.end"),
        _maybe("rate", NUMBER, "probes a second. Left out of a single probe", unit="1/s"),
        _maybe(
            "order",
            TEXT,
            "order of the ports of each decky, or of the deckies if each has one port. Left out if"
            " there are too few",
            values=("sequential", "random", "single"),
        ),
        _field("open", INTEGER, "targets that answered: with a SYN-ACK, or with data"),
        _field("closed", INTEGER, "targets that refused: with an RST, or as unreachable (ICMP)"),
        _field("silent", INTEGER, "targets of which no answer was seen"),
        _maybe("open_ports", TEXT, "the open ones, as `ports`"),
        replace(_TOOL[0], meaning="the scanner, if one of its probes shows it"),
        _TOOL[1],
        _maybe("os", TEXT, "system of the source, by its SYN packets"),
        _maybe("ja4t", TEXT, "JA4T of its first SYN packet, or of the first that shows the tool"),
        _maybe(
            "spread",
            TEXT,
            "over deckies, over the ports of a decky, or both. Left out of a single target",
            values=("horizontal", "vertical", "both"),
        ),
        _field(
            "spoofable",
            BOOLEAN,
            "`true`: the source completed no handshake, so its address may be forged",
        ),
    )
)

_SUMMARY = (
    _field("event", TEXT, "of the window"),
    _field("src_ip", TEXT, "of the window", ecs="source.ip"),
    _field("key", TEXT, "of the window; `*`: of keys beyond the bound, see below"),
    _field(
        "count",
        INTEGER,
        "suppressed events since the last summary of this key, so that a sum over summaries counts"
        " none twice",
    ),
    _maybe("deckies", INTEGER, "on how many deckies"),
    _field("first_seen", TEXT, "time of the first suppressed event", ecs="event.start"),
    _field("last_seen", TEXT, "time of the last one", ecs="event.end"),
    _maybe("packets", INTEGER, "sum over suppressed tcp_flow_timing"),
    _maybe("bytes", INTEGER, "the same"),
    _maybe("longest_s", NUMBER, "the longest duration of these", unit="s"),
    _maybe("largest_bytes", INTEGER, "the bytes of the largest connection"),
    replace(_UNSEEN, meaning="`unseen`: of events that anybody can have forged"),
    _maybe("names", LIST, "with key `*`: the first 32 new SNIs, tools, services or subjects"),
)

_STATS = (
    _maybe("part", INTEGER, "if the counters are in several events: which one it is, from 1"),
    _maybe("parts", INTEGER, "and how many there are"),
)

_LOSS = (
    _field("cause", TEXT, 'what was lost: a counter with the mark "loss" below'),
    _field("count", INTEGER, "since the last event of this cause"),
)

_BUDGET = (
    _field(
        "budget",
        TEXT,
        "its name",
        values=("syn_records", "handshakes", "fragments", "midstream", "anomalies"),
    ),
    _field(
        "state",
        TEXT,
        "it starts to suppress (`exhausted`), or has stopped (`normal`)",
        values=("exhausted", "normal"),
    ),
    _field("suppressed", INTEGER, "since the last event of this budget"),
)

_CONNECTION, _PROTOCOL, _INFO = ("connection",), ("connection", "protocol"), ("info",)
_BOTH = (WARNING, INFORMATIONAL)

CATALOGUE = {
    event.name: event
    for event in (
        DeclaredEvent("tcp_syn_fingerprint", _SYN, (INFORMATIONAL,), _CONNECTION),
        DeclaredEvent("tcp_handshake", _HANDSHAKE, (INFORMATIONAL,), (*_CONNECTION, "start")),
        DeclaredEvent("tls_client_hello", _HELLO, (INFORMATIONAL,), _PROTOCOL),
        DeclaredEvent("tls_session", _SESSION, _BOTH, _PROTOCOL),
        DeclaredEvent("tls_certificate", _CERTIFICATE, (INFORMATIONAL,), _PROTOCOL),
        DeclaredEvent("tcp_flow_timing", _FLOW, (INFORMATIONAL,), (*_CONNECTION, "end")),
        DeclaredEvent("ssh_client_banner", _SSH_CLIENT, _BOTH, _PROTOCOL),
        DeclaredEvent("ssh_server_banner", _SSH_SERVER, (INFORMATIONAL,), _PROTOCOL),
        DeclaredEvent("http_request", _since_2(_HTTP), (INFORMATIONAL,), _PROTOCOL),
        DeclaredEvent("tcp_payload", _since_2(_PAYLOAD), (INFORMATIONAL,), _PROTOCOL),
        DeclaredEvent("tcp_anomaly", _ANOMALY, _BOTH, _INFO),
        DeclaredEvent("decky_initiated", _INITIATED, (WARNING,), (*_CONNECTION, "start")),
        DeclaredEvent("decky_mismatch", _MISMATCH, (WARNING,), _INFO),
        DeclaredEvent("scan_summary", _SCAN, (WARNING,), _INFO),
        DeclaredEvent("dedup_summary", _SUMMARY, (INFORMATIONAL,), _INFO),
        DeclaredEvent("capture_stats", _STATS, (INFORMATIONAL,), _INFO, has_counters=True),
        DeclaredEvent("capture_loss", _LOSS, (WARNING,), _INFO),
        DeclaredEvent("capture_budget", _BUDGET, (WARNING,), _INFO),
    )
}
"""By name, in the order of docs/events.md."""
