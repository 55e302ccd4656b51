"""The software that `run` needs: Python packages, BCC, and a trial that loads the programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from deckwire.compiled import FORM
from deckwire.doctor.finding import Finding, State
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import LoadRequest, load
from deckwire.kernel.names import INGRESS
from deckwire.loader.kept_objects import NotLoadedError, find
from deckwire.loader.module import flags

_BCC_SECONDS = 30.0
_ASK_BCC = "import bcc; print(bcc.__version__)"


def examine_software() -> Iterator[Finding]:
    """The findings on what is installed."""
    yield Finding("ok", "python", f"{sys.version.split()[0]} at {sys.executable}")
    yield _form()
    yield from _packages()
    yield _bcc(needed=not _are_kept())
    yield _filter()
    headers = Path(f"/lib/modules/{os.uname().release}/build")
    found = f"those in {headers} are not needed" if headers.exists() else "none are installed"
    yield Finding("ok", "headers", f"Deckwire brings the few kernel headers that it needs; {found}")


def try_loading() -> Iterator[Finding]:
    """Loads the programs without attaching them, and finds out how they could be."""
    try:
        loaded = load(LoadRequest())
    except LoadError as error:
        yield Finding("missing", "trial", str(error))
        return
    try:
        done = "loaded, as kept at the installation," if loaded.kept else "compiled and loaded"
        yield Finding("ok", "trial", f"the programs were {done} in {loaded.load_ms} ms")
        known = loaded.programs[INGRESS].may_link()
    finally:
        loaded.close()
    if known:
        yield Finding("ok", "tcx", "the kernel detaches the programs, however the agent ends")
    else:
        yield Finding(
            "note",
            "tcx",
            "before Linux 6.6 there is none: clsact filters are used, which stay after a crash "
            "until the next start",
        )


def _form() -> Finding:
    why_not = FORM.why_not()
    if why_not is None:
        return Finding("ok", "modules", "the hot ones run compiled")
    text = f"all run from their sources, which takes more CPU time: {why_not}"
    if FORM.is_broken:
        return Finding("note", "modules", text, "install the package again")
    return Finding("ok", "modules", text)


def _packages() -> Iterator[Finding]:
    for requirement in requires("deckwire") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            yield Finding("ok", "package", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding(
                "missing", "package", name, f"{sys.executable} -m pip install '{requirement}'"
            )


def _filter() -> Finding:
    if find_spec("seccomp") is not None:
        return Finding("ok", "seccomp", "the agent refuses itself what only an intruder would call")
    return Finding(
        "note",
        "seccomp",
        "its bindings are missing: the agent runs without a filter of system calls of its own",
        "install python3-seccomp",
    )


def _are_kept() -> bool:
    """Whether a start loads what was compiled at the installation."""
    request = LoadRequest().body()
    try:
        return find(request, flags(request)) is not None
    except NotLoadedError:
        return False


def _bcc(*, needed: bool) -> Finding:
    """Imports BCC in another process, because that takes 70 MB, and seconds on a small machine.

    `needed`: a start compiles the programs.
    """
    state: State = "missing" if needed else "note"
    remedy = (
        "install python3-bpfcc, in a virtual environment of /usr/bin/python3 made with "
        "--system-site-packages"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_BCC],
            capture_output=True,
            text=True,
            timeout=_BCC_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(state, "bcc", f"importing it took longer than {_BCC_SECONDS:.0f} s")
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no message"]
        return Finding(state, "bcc", f"importing it failed: {words[-1]}", remedy)
    use = "used only by the loader process" if needed else "not used: what it compiled was kept"
    return Finding("ok", "bcc", f"{done.stdout.strip()}, {use}")
