"""Which form runs. The package here is a small one: modules of Python itself stand for compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec, source_hash
from pathlib import Path

import pytest

from deckwire import compiled
from deckwire.compiled import MANIFEST, SUFFIX
from deckwire.doctor.software import examine_software

LIBRARY, MODULE = "_queue", "_json"
"""Extension modules of Python: one is loaded as the library, the other as deckwire._json."""
SOURCE = b"scanstring = None\n"
ASK = """
from deckwire.compiled import FORM
from deckwire import _json
print("compiled" if _json.scanstring else "pure", FORM.is_broken, FORM.why_not())
"""


def extension(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package deckwire with one module in both forms."""
    root = tmp_path / "deckwire"
    folder = root / "extension"
    (folder / "deckwire").mkdir(parents=True)
    source = Path(compiled.__file__)
    shutil.copy(source, root)
    shutil.copy(source.with_name("__init__.py"), root)
    (root / f"{MODULE}.py").write_bytes(SOURCE)
    shutil.copy(extension(LIBRARY), folder)
    shutil.copy(extension(MODULE), folder / "deckwire")
    known = source_hash(SOURCE).hex()
    (folder / MANIFEST).write_text(f"{LIBRARY}\ndeckwire.{MODULE} {known}\n")
    return root


def form(package: Path, environment: Mapping[str, str] = {}) -> str:
    """What runs, whether the compiled form is broken, and why it does not run."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env={"PYTHONPATH": str(package.parent), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip()


def test_compiled_modules_run_where_they_fit(package: Path) -> None:
    assert form(package) == "compiled False None"


def test_an_edited_source_wins(package: Path) -> None:
    (package / f"{MODULE}.py").write_bytes(SOURCE + b"# edited\n")
    assert form(package) == f"pure True deckwire.{MODULE} is not what was compiled"


def test_an_edit_that_keeps_size_and_time_wins(package: Path) -> None:
    path = package / f"{MODULE}.py"
    before = path.stat()
    path.write_bytes(SOURCE.replace(b"None", b"()  "))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert form(package).startswith("pure True ")


def test_another_python_runs_the_sources(package: Path) -> None:
    folder = package / "extension"
    for path in [*folder.rglob("*.so"), folder / MANIFEST]:
        path.rename(str(path).replace(SUFFIX.removesuffix(".so"), ".cpython-3-other"))
    assert form(package) == "pure False none are compiled for this Python"


def test_without_compiled_modules_the_sources_run(package: Path) -> None:
    shutil.rmtree(package / "extension")
    assert form(package) == "pure False none are compiled for this Python"


def test_a_library_that_cannot_be_loaded_leaves_the_sources(package: Path) -> None:
    path = package / "extension" / (LIBRARY + SUFFIX)
    path.write_bytes(b"no library")
    assert form(package).startswith(f"pure True {path}: ")
    path.unlink()
    assert form(package).startswith("pure True ")


@pytest.mark.parametrize("content", ["", "one two three\n", f"{LIBRARY}\nword\n", "\xff\n"])
def test_a_damaged_manifest_leaves_the_sources(package: Path, content: str) -> None:
    path = package / "extension" / MANIFEST
    path.write_text(content, encoding="latin-1")
    assert form(package).startswith("pure ")


def test_the_sources_run_if_the_environment_says_so(package: Path) -> None:
    assert form(package, {compiled.PURE: "1"}) == f"pure False {compiled.PURE} is set"


def test_the_doctor_names_the_form(monkeypatch: pytest.MonkeyPatch, package: Path) -> None:
    def finding() -> tuple[str, str]:
        return next((f.state, f.text) for f in examine_software() if f.subject == "modules")

    (package / f"{MODULE}.py").write_bytes(b"")
    parts = compiled.Compiled(str(package), str(package / "extension"))
    monkeypatch.setattr("deckwire.doctor.software.FORM", parts)
    state, text = finding()
    assert (state, text.endswith(f"deckwire.{MODULE} is not what was compiled")) == ("note", True)
    monkeypatch.setenv(compiled.PURE, "1")
    monkeypatch.setattr("deckwire.doctor.software.FORM", compiled.Compiled(str(package)))
    state, text = finding()
    assert (state, text.endswith("is set")) == ("ok", True)
