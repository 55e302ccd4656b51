"""From ring records to lines: any records give lines that can be parsed."""

from __future__ import annotations

from deckwire.abi import structs as abi
from deckwire.abi.hashes import flow_id
from deckwire.abi.members import offset
from deckwire.abi.samples import MalformedSample, decode
from deckwire.output.json_lines import JsonFormat
from deckwire.output.syslog import SyslogFormat
from tests.fuzz.feed import Feed
from tests.fuzz.lines import check_harmless, read_json, read_syslog
from tests.fuzz.material import KEY, flow_values, ring_records
from tests.fuzz.recorder import Recorder

_SYSLOG, _JSON = SyslogFormat(), JsonFormat()
_RECORDS = ring_records()
_FLOW_CHANGES = len(_RECORDS)
_SWEEPS = len(_RECORDS) + 1
_FLOW = flow_values()[0]
_HEAD, _TOTALS = abi.SAMPLE_HEAD_BYTES, abi.FLOW_TOTALS_BYTES
_END_SENT = offset(abi.SCHEMAS["flow_totals"], "end_sent")


def seeds() -> list[bytes]:
    """Return inputs; each step has the number of a record, and an offset and bytes to overwrite."""
    one_of_each = b"".join(bytes([n]) + bytes(3) for n in range(len(_RECORDS)))
    changed = bytes([2, 0, _HEAD + 43, 5]) + b"\n\x1b[2J" + bytes([3, 0, _HEAD, 0])
    swept = bytes([_FLOW_CHANGES, 0, 10, 8]) + b"\xff" * 8 + bytes([_SWEEPS, 0, 0, 0])
    end_sent = bytes([_FLOW_CHANGES, 0, _END_SENT, 1, 1, _SWEEPS, 0xFF, 0xFF, 0])
    return [one_of_each, one_of_each[::-1], changed, swept, end_sent, one_of_each + swept]


def check(data: bytes) -> None:
    feed = Feed(data)
    recorder = Recorder()
    for _ in range(24):
        if not feed:
            break
        which, at, patch = feed.number(1) % (_SWEEPS + 1), feed.number(2), feed.counted()
        if which < len(_RECORDS):
            _take(recorder, _patched(_RECORDS[which], at, patch))
        elif which == _FLOW_CHANGES:
            # Only the totals change: the kernel copies the packets after them from half_open.
            totals = _patched(_FLOW[:_TOTALS], at, patch)[:_TOTALS]
            recorder.maps["flows"].update(flow_id(KEY, 0), totals + _FLOW[_TOTALS:])
        else:
            recorder.pipeline.sweep(at << 40)
            recorder.pipeline.emit_due(at << 40)
    recorder.pipeline.finish()
    assert len(recorder.pipeline.connections) == 0
    assert recorder.pipeline.connections.held == 0
    for event in recorder.events:
        line, document = _SYSLOG.line(event), _JSON.line(event)
        check_harmless(line)
        check_harmless(document)
        names = [name for name, _ in read_syslog(line).params]
        assert len(set(names)) == len(names)
        assert read_json(document)["event"] == event.name


def _take(recorder: Recorder, record: bytes) -> None:
    try:
        sample = decode(record)
    except MalformedSample:
        return
    recorder.pipeline.take(sample)


def _patched(record: bytes, at: int, patch: bytes) -> bytes:
    at %= len(record)
    return record[:at] + patch + record[at + len(patch) :]
