"""The names of all events, for filters that are checked at the start."""

from __future__ import annotations

CONNECTION_EVENTS = (
    "tcp_syn_fingerprint",
    "tcp_handshake",
    "tls_client_hello",
    "tls_session",
    "tls_certificate",
    "tcp_flow_timing",
)
"""What one connection with TLS 1.2 emits, in its order."""
SSH_EVENTS = ("ssh_client_banner", "ssh_server_banner")

EVENTS = (
    *CONNECTION_EVENTS,
    *SSH_EVENTS,
    "http_request",
    "tcp_payload",
    "tcp_anomaly",
    "decky_initiated",
    "decky_mismatch",
    "scan_summary",
    "dedup_summary",
    "capture_stats",
    "capture_loss",
    "capture_budget",
)
"""In the order of docs/events.md. A test compares them with the source and with that page."""

IGNORABLE_EVENTS = tuple(
    name for name in EVENTS if name != "dedup_summary" and not name.startswith("capture_")
)
"""Events about what a peer does. The others are about Deckwire itself."""

DECNET_EVENTS = (
    "tcp_syn_fingerprint",
    "tls_client_hello",
    "tls_session",
    "tls_certificate",
    "tcp_flow_timing",
    "ssh_client_banner",
)
"""Events that DECNET's own sniffers emit. DECNET counts every other one as an act of a peer."""
