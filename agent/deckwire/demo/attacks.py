"""The demo's attacks: real programs against real servers."""

from __future__ import annotations

import shutil
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deckwire.lab import Lab, Node
from deckwire.lab.agent import AgentProcess
from deckwire.lab.certificates import make_certificate
from deckwire.lab.servers import http_server, openssl_server, smtp_server, tls_server

WEB, MAIL, FILES = "www.example.com", "mail.example.com", "files.example.com"

_TLS = ("tcp_handshake", "tls_client_hello", "tls_session", "tcp_flow_timing")


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that an attacker does, and the events that it must cause."""

    title: str
    program: str
    """The attacker's program: a command that may not be installed, or ``Python``."""
    source: str
    """The attacker's address."""
    act: Callable[[], object]
    expected: tuple[str, ...]
    """Names of the expected events from that address, each as often as it is expected."""
    tool: str | None = None
    """The scanner's name in the field ``tool``, if it is one."""

    def missing_program(self) -> bool:
        """Whether the command is not installed."""
        return self.program != "Python" and shutil.which(self.program) is None

    def seen(self, agent: AgentProcess) -> bool:
        """Whether the agent has emitted all expected events."""
        fields = {"src_ip": self.source} | ({"tool": self.tool} if self.tool else {})
        return all(
            len(agent.find(name, **fields)) >= count
            for name, count in Counter(self.expected).items()
        )


def start_servers(lab: Lab) -> None:
    """Starts the deckies' servers, each with a certificate of its own."""
    web, mail, files = lab.deckies
    openssl_server(lab, web, make_certificate(lab.directory, WEB, names=["example.com"]))
    http_server(lab, web)
    smtp_server(lab, mail, make_certificate(lab.directory, MAIL, key="ec"))
    tls_server(lab, files, make_certificate(lab.directory, FILES, key="ec"), alpn=["http/1.1"])


def attacks(lab: Lab) -> Iterator[Attack]:
    """All attacks, in the order of the demo."""
    client = lab.client
    web, mail, files = lab.deckies
    # A program that has no option for its address gets the first one from the kernel.
    first, second, third, fourth, fifth, sixth, *_ = client.ipv4

    def run(node: Node, *argv: str) -> Callable[[], object]:
        return lambda: lab.run(node, argv)

    yield Attack(
        f"nmap scans {web.name} and {mail.name} half-open (-sS)",
        "nmap",
        second,
        run(
            client,
            *("nmap", "-sS", "-n", "-Pn", "--top-ports", "100", "-S", second, "-e"),
            *(client.interface, web.v4, mail.v4),
        ),
        ("tcp_syn_fingerprint",),
        "nmap",
    )
    yield Attack(
        f"nmap connects (-sT) to a few ports of {web.name}",
        "nmap",
        first,
        run(client, "nmap", "-sT", "-n", "-Pn", "-p", "22,80,443", web.v4),
        # Two of the ports are open, and each connection causes events.
        ("tcp_syn_fingerprint", *2 * ("tcp_handshake", "tcp_flow_timing")),
    )
    yield Attack(
        f"curl fetches a page from {web.name} over TLS 1.3",
        "curl",
        third,
        run(
            client,
            *("curl", "-sk", "--interface", third, "--resolve", f"{WEB}:443:{web.v4}"),
            f"https://{WEB}/",
        ),
        _TLS,
    )
    yield Attack(
        f"openssl s_client talks TLS 1.2 with {web.name}: the certificate is in the clear",
        "openssl",
        fourth,
        run(
            client,
            *("openssl", "s_client", "-tls1_2", "-connect", f"{web.v4}:443"),
            *("-bind", fourth, "-servername", WEB),
        ),
        (*_TLS, "tls_certificate"),
    )
    yield Attack(
        f"openssl s_client talks TLS 1.3 with {files.name}, over IPv6",
        "openssl",
        client.ipv6[0],
        run(
            client,
            *("openssl", "s_client", "-tls1_3", "-connect", f"[{files.v6}]:443"),
            *("-bind", f"[{client.ipv6[0]}]:0", "-servername", FILES),
        ),
        _TLS,
    )
    yield Attack(
        f"A Python script asks {files.name} for a page over TLS 1.2",
        "Python",
        fifth,
        lambda: _ask(client, files, fifth),
        (*_TLS, "tls_certificate"),
    )
    yield Attack(
        f"openssl s_client speaks SMTP with {mail.name}, then STARTTLS",
        "openssl",
        sixth,
        run(
            client,
            *("openssl", "s_client", "-starttls", "smtp", "-connect", f"{mail.v4}:25"),
            *("-bind", sixth, "-servername", MAIL),
        ),
        _TLS,
    )
    yield Attack(
        f"Lateral movement: somebody on {web.name} attacks {files.name} with curl",
        "curl",
        web.v4,
        run(web, "curl", "-sk", f"https://{files.v4}/"),
        ("tcp_syn_fingerprint", *_TLS),
    )


def _ask(client: Node, decky: Node, source: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with context.wrap_socket(
        client.connect(decky.v4, 443, source), server_hostname=FILES
    ) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while connection.recv(4096):
            pass
