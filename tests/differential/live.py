"""What the TCP of a decky accepts, against the events of a live capture.

A peer that is made by hand plays the techniques of `tests/differential/techniques.py`: inbound,
outbound and between deckies, with and without super-packets and checksums in hardware. What the
sockets of the decky read decides what the events must say. It needs root.

    python -m tests.differential.live --seed 1 --count 2000
    python -m tests.differential.live --seed 1 --only 17     # one of them alone
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from deckwire.lab import Lab
from deckwire.lab.agent import AgentProcess, JsonEvent
from deckwire.lab.namespaces import PATIENCE_SECONDS, LabError
from tests.differential import comparison
from tests.differential.live_cases import (
    ANSWER,
    Case,
    Stage,
    hello,
    is_whole,
    mixed,
)
from tests.differential.techniques import TECHNIQUES, Copy
from tests.differential.wire import Exchange
from tests.support.watching import EVERYTHING, assert_conserved, final_sums

_BATCH = 400
"""Cases of one agent."""

Found = dict[str, list[JsonEvent]]
"""The events of a connection by name."""


def capture(
    stage: Stage, lab: Lab, cases: Sequence[Case], options: Sequence[str] = EVERYTHING
) -> tuple[dict[int, Found], dict[str, int]]:
    """Play the cases past an agent: the events of each case by its number, and the agent's sums."""
    agent = AgentProcess(lab, options=[*options, *stage.options(cases)])
    stage.play(cases)
    wanted = {(case.address, case.port): case.number for case in cases}
    ending = [case for case in cases if case.read.accepted]

    def ended() -> bool:
        flows = agent.find("tcp_flow_timing")
        return len({number_of(flow, wanted) for flow in flows} - {None}) >= len(ending)

    # Without it the last events may be missing, and then the verdict says so.
    with suppress(LabError):
        agent.wait(
            ended, "all connections have ended", PATIENCE_SECONDS if options == EVERYTHING else 2
        )
    assert agent.stop() == 0, agent.last_words()
    found: dict[int, Found] = {case.number: {} for case in cases}
    for event in agent.events:
        number = number_of(event, wanted)
        if number is not None:
            found[number].setdefault(event["event"], []).append(event)
    sums = final_sums(agent)
    assert_conserved(sums)
    assert sums["samples_lost"] == 0
    return found, sums


def number_of(event: JsonEvent, wanted: dict[tuple[str, int], int]) -> int | None:
    """The case that an event is of, by the peer's address and the client's port."""
    fields = event["fields"]
    ends = fields.get("src_ip"), fields.get("dst_ip")
    if "src_port" not in fields:
        # Of a packet without ports, whose sender has an address of its own.
        return next((number for (each, _), number in wanted.items() if each in ends), None)
    port = fields["src_port"]
    return wanted.get((ends[0], port), wanted.get((ends[1], port)))


def fingerprints(client: bytes, server: bytes) -> tuple[str, str]:
    """JA3 and JA3S of what was read; "" if there is none."""
    return comparison.md5s(comparison.ours(Exchange("read", client, server)))


def copy_read(case: Case) -> Copy:
    """Which copy the decky read."""
    true, decoy = case.message(), case.message(decoy=True)
    for copy, data in ((Copy.TRUE, true), (Copy.DECOY, decoy)):
        if case.read.data[: len(data)] == data:
            return copy
    return Copy.NONE


def copy_reported(case: Case, found: Found) -> Copy:
    """Which copy the events have."""
    if case.from_peer:
        hellos = [event["fields"] for event in found.get("tls_client_hello", [])]
        names = [fields["sni"] for fields in hellos if fields["ja3"]]
        by_name = {case.name(): Copy.TRUE, case.name(decoy=True): Copy.DECOY}
        return next((by_name[name] for name in names if name in by_name), Copy.NONE)
    made = {
        fingerprints(b"", case.message())[1]: Copy.TRUE,
        fingerprints(b"", case.message(decoy=True))[1]: Copy.DECOY,
    }
    sessions = [event["fields"]["ja3s"] for event in found.get("tls_session", [])]
    return next((made[one] for one in sessions if one in made), Copy.NONE)


def judge(case: Case, found: Found) -> set[str]:
    """What is wrong with the events of a case."""
    wrong: set[str] = set()
    if case.failure:
        wrong.add(f"the test itself: {case.failure}")
    read = case.read
    for events in found.values():
        wrong |= {"direction" for event in events if event["fields"]["direction"] != case.direction}
    if len(found.get("tcp_handshake", [])) != read.accepted:
        wrong.add("handshake")
    flows = found.get("tcp_flow_timing", [])
    if len(flows) != read.accepted:
        wrong.add("flow")
    elif flows:
        wrong |= _judge_flow(case, flows[0])
    if read.accepted:
        wrong |= judge_hello(case, found)
        wrong |= _judge_session(case, found)
    return wrong


def _judge_flow(case: Case, flow: JsonEvent) -> set[str]:
    fields, read = flow["fields"], case.read
    wrong = set()
    if read.close in ("fin", "rst") and fields["close"] != read.close:
        wrong.add(f"close {fields['close']}, not {read.close}")
    peer, own = ("client", "server") if case.from_peer else ("server", "client")
    # An end that is reset may not have acknowledged its last bytes.
    accepted = fields.get(f"bytes_accepted_{peer}")
    if read.close == "fin" and accepted not in (len(read.data), read.received):
        wrong.add(f"accepted of the peer {accepted}, not {len(read.data)}")
    # Linux counts the client's SYN as well.
    acked = read.acked - (not case.from_peer)
    accepted = fields.get(f"bytes_accepted_{own}")
    if accepted != acked:
        wrong.add(f"accepted of the decky {accepted}, not {acked}")
    return wrong


def judge_hello(case: Case, found: Found) -> set[str]:
    """Is the ClientHello of the decky's stream reported, and no other one?"""
    hellos = [event["fields"] for event in found.get("tls_client_hello", [])]
    data = case.read.data if case.from_peer else hello(case.name())
    if is_whole(data, 1):
        if not hellos:
            return {"hello missing"}
        if hellos[0]["ja3"] != fingerprints(data, b"")[0]:
            return {"another hello"}
    elif any(fields["ja3"] for fields in hellos):
        return {"hello invented"}
    return {"two hellos"} if len(hellos) > 1 else set()


def _judge_session(case: Case, found: Found) -> set[str]:
    sessions = [event["fields"]["ja3s"] for event in found.get("tls_session", [])]
    data = ANSWER if case.from_peer else case.read.data
    expected = case.read.answered and is_whole(data, 2)
    if sessions != [fingerprints(b"", data)[1]] * expected:
        return {f"session {len(sessions)}, not {int(expected)}"}
    return set()


def anomalies(found: Found) -> Counter[str]:
    """The techniques of the tcp_anomaly events of a case."""
    return Counter(event["fields"]["technique"] for event in found.get("tcp_anomaly", []))


def is_contested(found: Found) -> bool:
    return any(
        event["fields"]["quality"] == "contested" for event in found.get("tls_client_hello", [])
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1_000, help="connections")
    parser.add_argument("--only", type=int, help="the number of one connection")
    arguments = parser.parse_args()
    cases = list(mixed(arguments.seed, arguments.count, TECHNIQUES))
    if arguments.only is not None:
        cases = [cases[arguments.only]]
    wrong = contested = 0
    for at in range(0, len(cases), _BATCH):
        batch = cases[at : at + _BATCH]
        with Lab() as lab, Stage(lab) as stage:
            # Every second batch has receive offloads, so packets are merged on the way.
            if at // _BATCH % 2:
                lab.set_offloads(True)
            found, _ = capture(stage, lab, batch)
        for case in batch:
            reasons = judge(case, found[case.number])
            if reasons and is_contested(found[case.number]):
                contested += 1
            elif reasons:
                wrong += 1
                shown = f"IPv{case.family} {case.direction}{' offloads' * case.offloads}"
                print(f"wrong: {case.number}: {shown}: {case.names}: {', '.join(sorted(reasons))}")
    right = len(cases) - wrong
    print(f"seed {arguments.seed}: {right} of {len(cases)} right, {contested} of them contested")
    return int(right < len(cases) * 0.999)


if __name__ == "__main__":
    sys.exit(main())
