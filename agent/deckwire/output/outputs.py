"""What the user can set for one output, and the outputs made of it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from deckwire.errors import plain, shown
from deckwire.options import FORMATS
from deckwire.output.filter import EventFilter, check_events, check_severity
from deckwire.output.formats import DECNET_JSON, SYSLOG, Formats, Headers
from deckwire.output.rate import EventRate, check_rate
from deckwire.output.sinks.acknowledged import PATH_SETTINGS
from deckwire.output.sinks.fanout import Output
from deckwire.output.sinks.opened_file import OpenedFile
from deckwire.output.sinks.owner import Creation
from deckwire.output.sinks.sink import Sink
from deckwire.output.sinks.spec import (
    NO_TWIN,
    OWN,
    Opener,
    file_path,
    from_folder,
    parse_output,
)
from deckwire.output.sinks.twin import twin_path
from deckwire.output.syslog import check_app_name, check_procid, check_sd_id

DECNET_FILES = "decnet*.json"
"""Names of the files that DECNET's ingester reads."""

_SETTING = re.compile(r",(?=([a-z_]+)=)")
"""Where the target or a setting ends and the next setting begins."""
_TO = "to"
_RATE = "max_events_per_second"
_NUMBERS = (_RATE, "spool_bytes", "min_severity")
_STDOUT = "/proc/self/fd/1"


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """One output as the user set it, checked. None: as the general setting says."""

    to: str
    """In the form that `deckwire.output.sinks.spec.parse_output` reads."""
    format: str | None = None
    """One of FORMATS."""
    events: tuple[str, ...] | None = None
    """Patterns of the events that it takes; None for all."""
    min_severity: int | None = None
    """The largest number of a severity that it takes; None for all."""
    max_events_per_second: int | None = None
    """None: no limit."""
    app_name: str | None = None
    sd_id: str | None = None
    procid: str | None = None
    own: tuple[tuple[str, str], ...] = ()
    """Settings of this kind of output alone, as they were written."""

    def opener(self) -> Opener:
        """What makes its sink; ValueError for the user if it cannot be one."""
        return parse_output(self.to, dict(self.own))

    @property
    def path(self) -> str | None:
        """The path of a ``file`` output; None for other outputs."""
        return file_path(self.to)

    @property
    def has_twin(self) -> bool:
        """Whether a record goes to a twin after each line."""
        return dict(self.own).get("twin", NO_TWIN) != NO_TWIN

    @property
    def files(self) -> tuple[str, ...]:
        """All paths that it writes."""
        if self.path is None:
            return ()
        return (self.path, twin_path(self.path)) if self.has_twin else (self.path,)

    @property
    def receiver(self) -> OutputSettings:
        """What of the settings makes the sink: outputs that agree in it can share one."""
        return OutputSettings(self.to, own=tuple(sorted(self.own)))

    def or_else(self, other: OutputSettings) -> OutputSettings:
        """These settings, and those of `other` where they set nothing.

        Raises ValueError with one line for the user if they do not go together.
        """
        both = replace(
            self,
            **{
                name: getattr(other, name)
                for name in (
                    "format",
                    "events",
                    "min_severity",
                    "max_events_per_second",
                    "app_name",
                    "sd_id",
                    "procid",
                )
                if getattr(self, name) is None
            },
            own=tuple({**dict(other.own), **dict(self.own)}.items()),
        )
        both.check()
        return both

    def check(self) -> None:
        """Raise ValueError with what is wrong if the settings do not go together."""
        if self.has_twin and self.format not in (None, SYSLOG):
            raise ValueError(
                f"output {shown(self.to)}: twin: its log has the format {SYSLOG}, not"
                f" {self.format}; leave the format out, or set twin={NO_TWIN}"
            )


_NO_SINKS: Mapping[OutputSettings, Sink] = {}


def read_outputs(values: Iterable[object], folder: str) -> tuple[OutputSettings, ...]:
    """Read outputs, each as text or as a table; relative paths start at `folder`.

    Raises ValueError with one line for the user.
    """
    outputs = tuple(_read(value, folder) for value in values)
    if not outputs:
        raise ValueError("the list is empty; use stdout or another output")
    need_distinct(outputs)
    return outputs


def make_outputs(
    outputs: Sequence[OutputSettings],
    form: str,
    headers: Headers,
    state_dir: str | None = None,
    sinks: Mapping[OutputSettings, Sink] = _NO_SINKS,
) -> tuple[Output, ...]:
    """Open the outputs. `form` and `headers` apply where an output sets none of its own.

    `state_dir` is the directory for spools. `sinks` are open already, by `OutputSettings.receiver`.

    Raises ValueError with one line for the user, or OSError for a file that cannot be opened. Then
    nothing new stays open.
    """
    formats = Formats()
    made = []
    for output in outputs:
        name = output.format or form
        _refuse_decnet_file(output, name)
        own = Headers(
            app_name=output.app_name or headers.app_name,
            sd_id=output.sd_id or headers.sd_id,
            procid=output.procid or headers.procid,
        )
        made.append((formats.get(SYSLOG if output.has_twin else name, own), output))
    # Nothing is opened before all of them are known to be right.
    openers = [output.opener() for output in outputs]
    opened: list[Output] = []
    try:
        for opener, (line_form, output) in zip(openers, made, strict=True):
            opened.append(
                Output(
                    sinks.get(output.receiver) or _opened(opener, output, state_dir),
                    line_form,
                    EventFilter(output.events, output.min_severity),
                    EventRate(output.max_events_per_second)
                    if output.max_events_per_second
                    else None,
                    frozenset(output.files or (output.to,)),
                )
            )
    except BaseException:
        discard(opened, sinks.values())
        raise
    return tuple(opened)


def output_faults(
    outputs: Iterable[OutputSettings], form: str, headers: Headers, state_dir: str
) -> Iterator[str]:
    """One line for each output that `make_outputs` could not open now. No file is made."""
    for output in outputs:
        try:
            _refuse_decnet_file(output, output.format or form)
            if output.path is None:
                _opened(output.opener(), output, state_dir).close(0)
            with _naming(output):
                for path in output.files:
                    _look_at(path)
        except ValueError as error:
            yield str(error)
        except OSError as error:
            yield f"{error.filename}: {error.strerror}"


def _look_at(path: str) -> None:
    """Raise OSError if a file output could not write there. It opens nothing."""
    OpenedFile(path, Creation())
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such directory; make it", folder)


def discard(outputs: Iterable[Output], keep: Collection[Sink] = ()) -> None:
    """Close what `make_outputs` opened and nobody has started, but not the sinks to `keep`."""
    for output in outputs:
        if output.sink not in keep:
            output.sink.close(0)


def _opened(opener: Opener, output: OutputSettings, state_dir: str | None) -> Sink:
    with _naming(output):
        return opener(state_dir)


@contextmanager
def _naming(output: OutputSettings) -> Iterator[None]:
    """Have an error name the output: a ValueError in its text, an OSError as its file."""
    name = f"output {shown(output.to)}"
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    except OSError as error:
        where = f"{plain(os.fsdecode(error.filename))}: " if error.filename else ""
        raise OSError(error.errno, f"{where}{error.strerror or error}", name) from error


def need_distinct(outputs: Iterable[OutputSettings]) -> None:
    """Raise ValueError for the user if two outputs write to the same place."""
    seen: set[str] = set()
    for output in outputs:
        # Two writers of one file would tear each other's lines.
        for place in output.files or (output.to,):
            if place in seen:
                raise ValueError(f"{shown(place)} is given twice; give it once")
            seen.add(place)


def _refuse_decnet_file(output: OutputSettings, form: str) -> None:
    """Refuse lines that DECNET's ingester would try to read again and again."""
    path = output.path
    if output.to == "stdout":
        # A shell may have sent it into a file.
        try:
            path = os.readlink(_STDOUT)
        except OSError:
            return
    if path is None:
        return
    # The twin of a log has another name than the log.
    if form == DECNET_JSON and not output.has_twin:
        return
    for name in (path, os.path.realpath(path)):
        if fnmatchcase(os.path.basename(name), DECNET_FILES):
            raise ValueError(
                f"output {shown(output.to)}: {plain(os.path.basename(name))} is read by DECNET,"
                f" which stops for ever at lines of the format {form}; use another file name, or"
                f" the format {DECNET_JSON}"
            )


# --- one output as it is written ---


def _read(value: object, folder: str) -> OutputSettings:
    if isinstance(value, str):
        to, given = _split(value)
    elif isinstance(value, Mapping):
        given = dict(value)
        to = _text(_TO, given.pop(_TO, None))
    else:
        raise ValueError(f"{shown(value)} is no output; use text, or a table with the key {_TO}")
    try:
        return _checked(to, given, folder)
    except ValueError as error:
        text = str(error)
        # The text of a wrong target already begins with the output.
        raise ValueError(
            text if text.startswith("output ") else f"output {shown(to)}: {text}"
        ) from None


def _split(text: str) -> tuple[str, dict[str, object]]:
    """``TARGET,key=value,key=value`` as its target and settings."""
    starts = list(_SETTING.finditer(text))
    if not starts:
        return text, {}
    settings: dict[str, object] = {}
    ends = [start.start() for start in starts[1:]] + [len(text)]
    for start, end in zip(starts, ends, strict=True):
        key, _, value = text[start.end() : end].partition("=")
        if key in settings:
            raise ValueError(f"output {shown(text)}: {key} is given twice; give it once")
        settings[key] = value
    return text[: starts[0].start()], settings


def _checked(to: str, given: Mapping[str, object], folder: str) -> OutputSettings:
    known = ("format", "events", "min_severity", _RATE, "app_name", "sd_id", "procid", *OWN)
    for key in given:
        if key not in known:
            raise ValueError(
                f"{shown(key)} is no setting; use {', '.join(known)}. A path that contains"
                " ',NAME=' can only be given in a table of the file"
            )
    texts = {
        # Numbers may be written as such.
        key: _text(key, str(value) if key in _NUMBERS and type(value) is int else value)
        for key, value in given.items()
        if key != "events"
    }
    texts |= {key: os.path.join(folder, texts[key]) for key in PATH_SETTINGS if texts.get(key)}
    form = texts.get("format")
    if form is not None and form not in FORMATS:
        raise ValueError(f"format: {shown(form)} is unknown; use {' or '.join(FORMATS)}")
    events = given.get("events")
    level = texts.get("min_severity")
    own = {key: value for key, value in texts.items() if key in OWN}
    whole = from_folder(to, folder)
    # First as it was written, because that is what a message should repeat.
    parse_output(to, own)
    output = OutputSettings(
        to=whole,
        format=form,
        events=None if events is None else check_events(_names(events)),
        min_severity=None if level is None else check_severity(level),
        max_events_per_second=check_rate(texts[_RATE]) if _RATE in texts else None,
        app_name=_header(texts, "app_name"),
        sd_id=_header(texts, "sd_id"),
        procid=_header(texts, "procid"),
        own=tuple(own.items()),
    )
    # A path that is short enough by itself may be too long after the file's directory.
    output.opener()
    output.check()
    return output


_HEADERS = {"app_name": check_app_name, "sd_id": check_sd_id, "procid": check_procid}


def _header(texts: Mapping[str, str], key: str) -> str | None:
    if key not in texts:
        return None
    try:
        return _HEADERS[key](texts[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [name.strip() for name in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ValueError(f"events: {shown(value)} is no list; use a list of names")
    return [_text("events", name) for name in value]


def _text(key: str, value: object) -> str:
    if value is None:
        raise ValueError(f"a table of output has no key {key}; add one, as in {key} = 'stdout'")
    if not isinstance(value, str):
        raise ValueError(f"{key}: {shown(value)} is no text; use a string")
    return value
