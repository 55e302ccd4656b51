"""`deckwire check-config`: finds what is wrong with a configuration file, and starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

from deckwire.config import ConfigError, Settings, lacking, merge, read_all
from deckwire.errors import UsageError, plain
from deckwire.output.formats import Headers
from deckwire.output.outputs import output_faults
from deckwire.resilience.report import report
from deckwire.runtime.failures import failing
from deckwire.runtime.preparation import deckies_file, identifier
from deckwire.runtime.redact_key import open_redactor

_STATE_DIR = "/var/lib/deckwire"
"""The unit's. Nothing is made there."""


def check_config(path: str) -> int:
    """Print one line, or one for each fault on stderr; return the exit status."""
    found = list(faults(path))
    for fault in found:
        report(fault)
    if found:
        return UsageError.status
    print(f"{plain(path)}: no fault found")
    sys.stdout.flush()
    return 0


def faults(path: str) -> Iterator[str]:
    """One line for each fault of the file, and of the files that it names.

    Faults of single keys come alone. Only without them the settings are looked at as a whole.
    """
    try:
        values, found = read_all(path)
        if found:
            yield from found
            return
        settings = merge(values, {})
    except ConfigError as error:
        yield str(error)
        return
    yield from lacking(settings)
    yield from _of_files(settings)
    headers = Headers(settings.app_name, settings.sd_id, settings.procid)
    state_dir = settings.state_dir or _STATE_DIR
    yield from output_faults(settings.outputs, settings.format, headers, state_dir)


def _of_files(settings: Settings) -> Iterator[str]:
    try:
        file = deckies_file(settings)
        if file is not None:
            file.read()
    except UsageError as error:
        yield str(error)
    for read in (identifier, partial(open_redactor, makes_key=False)):
        try:
            with failing():
                read(settings)
        except UsageError as error:
            yield str(error)
