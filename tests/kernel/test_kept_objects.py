"""The objects that are kept are what the compiler makes, and nothing else is ever loaded."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from struct import Struct

import pytest

from deckwire.kernel import loader_process
from deckwire.kernel.loading import LoadRequest, bpf_directory
from deckwire.kernel.programs import Program
from deckwire.kernel.syscalls import Command, bpf
from deckwire.loader import kept_objects
from deckwire.loader.creation import create
from deckwire.loader.keep import MODE
from deckwire.loader.kept_objects import NotLoadedError, file_name, find
from deckwire.loader.making import kinds_of
from deckwire.loader.module import (
    compile_module,
    flags,
    load_programs,
    object_of,
    raise_memlock,
)

_INFO_ATTR = Struct("=IIQ")
_TAG_AT, _TAG_BYTES = 8, 8
"""Of struct bpf_prog_info."""

LIVE = LoadRequest()
BODY = LIVE.body()
FLAGS = flags(BODY)
NAME = file_name(BODY, FLAGS)
OBJECT = Path(kept_objects.DIRECTORY, NAME)

keeps = pytest.mark.skipif(
    not kept_objects.any_kept(), reason="no objects are kept here: make setup as root keeps them"
)


# --- what is kept ---


@pytest.mark.root
@keeps
@pytest.mark.parametrize(
    "changes", [{}, {"xdp": "generic"}, {"replay_clock": True}], ids=["live", "xdp", "replay"]
)
def test_an_object_is_what_the_compiler_makes(changes: dict[str, object]) -> None:
    """Byte for byte, so nobody has to trust the file; and the kernel sees the same programs."""
    raise_memlock()
    body = replace(LIVE, **changes).body()  # type: ignore[arg-type]
    kept = find(body, flags(body))
    module = compile_module(body)
    made = object_of(module, kinds_of(body))
    assert kept is not None
    if kept.compiler != made.compiler:
        pytest.skip(f"BCC {kept.compiler} made the object, and {made.compiler} is installed")
    assert kept == made
    maps, programs = create(kept)
    assert tags(programs.values()) == tags(load_programs(module, kinds_of(body)).values())
    for one in (*maps.values(), *programs.values()):
        one.close()


def tags(programs: Iterable[Program]) -> dict[str, bytes]:
    """The kernel's own hash of each program's instructions (prog_tag)."""
    found = {}
    for program in programs:
        info = ctypes.create_string_buffer(_TAG_AT + _TAG_BYTES)
        attr = ctypes.create_string_buffer(_INFO_ATTR.size)
        _INFO_ATTR.pack_into(attr, 0, program.fd, len(info), ctypes.addressof(info))
        bpf(Command.OBJ_GET_INFO_BY_FD, attr, program.name)
        found[program.name] = info.raw[_TAG_AT:]
    return found


# --- which request an object is for ---


def test_the_name_depends_on_all_that_the_compiler_reads(tmp_path: Path) -> None:
    sources = tmp_path / "bpf"
    shutil.copytree(bpf_directory(), sources)
    body = {**BODY, "bpf": str(sources), "source": str(sources / "capture.c")}
    assert file_name(body, FLAGS) == NAME

    others = {
        file_name(body, (*FLAGS, "-DMAX_DECKIES=2")),
        file_name(body, flags(body, {"KNOWS_MD5": False, "KNOWS_AO": True})),
        file_name({**body, "programs": ["tc_ingress"]}, FLAGS),
        file_name({**body, "jumps": body["jumps"][1:]}, FLAGS),
        file_name({**body, "source": str(sources / "abi.h")}, FLAGS),
    }
    for edited in ("capture.c", "limits.h", "shim/include/linux/kconfig.h"):
        with (sources / edited).open("a") as file:
            file.write("/* edited */\n")
        others.add(file_name(body, FLAGS))
    assert len(others) == 8
    assert NAME not in others


def test_with_kernel_headers_nothing_is_kept() -> None:
    assert find({**BODY, "headers": "headers"}, FLAGS) is None


# --- files that are not loaded ---


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept_objects, "DIRECTORY", str(tmp_path))
    return tmp_path


def test_no_file_is_no_object(objects: Path) -> None:
    assert not kept_objects.any_kept()
    assert find(BODY, FLAGS) is None


def test_a_damaged_file_is_not_loaded(objects: Path) -> None:
    (objects / NAME).write_text('{"compiler": ')
    with pytest.raises(NotLoadedError, match=f"{NAME} is damaged: "):
        find(BODY, FLAGS)


def test_a_file_that_cannot_be_read_is_not_loaded(objects: Path) -> None:
    (objects / NAME).mkdir()
    with pytest.raises(NotLoadedError, match=f"{NAME}: Is a directory"):
        find(BODY, FLAGS)


@pytest.mark.root
@keeps
@pytest.mark.parametrize(
    ("mode", "owner"), [(0o464, 0), (0o446, 0), (MODE, 65_534)], ids=["group", "others", "owner"]
)
def test_a_file_that_others_can_write_is_not_loaded(mode: int, owner: int, objects: Path) -> None:
    path = objects / NAME
    shutil.copy(OBJECT, path)
    find(BODY, FLAGS)
    os.chown(path, owner, 0)
    path.chmod(mode)
    with pytest.raises(NotLoadedError, match="others than root can write"):
        find(BODY, FLAGS)


# --- a start ---


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package whose object the kernel refuses, and whose BCC is missing."""
    copy = tmp_path / "deckwire"
    shutil.copytree(Path(kept_objects.__file__).parent.parent, copy)
    (tmp_path / "bcc.py").write_text("raise ImportError('No module named bcc')\n")
    return copy


def start(package: Path) -> str:
    """What a start that loads the programs of `package` says."""
    script = (
        "from deckwire.kernel import loader_process\n"
        "from deckwire.kernel.loading import LoadRequest, load\n"
        f"loader_process.LOADER_SECONDS = {loader_process.LOADER_SECONDS}\n"
        "try:\n"
        "    loaded = load(LoadRequest())\n"
        "except loader_process.LoadError as error:\n"
        "    print(error)\n"
        "else:\n"
        "    print('kept' if loaded.kept else 'compiled')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(package.parent), "LOGS_DIRECTORY": str(package)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.root
@keeps
def test_a_start_from_an_object_needs_no_compiler(package: Path) -> None:
    assert start(package) == "kept"


@pytest.mark.root
@keeps
def test_an_edited_source_is_compiled(package: Path) -> None:
    with (package / "bpf/limits.h").open("a") as file:
        file.write("/* edited */\n")
    assert start(package).startswith("cannot compile: BCC's Python bindings are missing")
    (package.parent / "bcc.py").unlink()
    assert start(package) == "compiled"


@pytest.mark.root
@keeps
def test_an_object_that_the_kernel_refuses_is_compiled(package: Path) -> None:
    path = package / "objects" / NAME
    kept = find(BODY, FLAGS)
    assert kept is not None
    first, *others = kept.programs
    broken = first._replace(instructions=first.instructions[:-8] + bytes(8))
    path.chmod(0o600)
    path.write_bytes(kept._replace(programs=(broken, *others)).to_json())
    # Its log has the line that says why, and that of BCC what to install.
    assert start(package).startswith("the kernel refused the program tc_ingress")
    (package.parent / "bcc.py").unlink()
    assert start(package) == "compiled"
