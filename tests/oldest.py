"""Run the tests of what uses packages, with the oldest ones that pyproject.toml allows.

These are the versions of Debian 12. Its packages are downloaded and unpacked into a folder of the
checkout. The folder comes first on the path of this process and of every process that the tests
start. Nothing is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".oldest"
PACKAGES = CACHE / "root/usr/lib/python3/dist-packages"
DEBS = (
    "python3-click",
    "python3-construct",
    "python3-cryptography",
    "python3-pyroute2",
    "python3-rich",
    # Their own dependencies: the first is for cryptography, the others are for rich.
    "python3-cffi-backend",
    "python3-markdown-it",
    "python3-mdurl",
    "python3-pygments",
)
# The tests of the modules that use these packages, and of the whole way from a capture to events.
TESTS = (
    # construct, and cryptography in x509
    "tests/abi",
    "tests/captures",
    "tests/corpus",
    "tests/tls",
    "tests/x509",
    # pyroute2
    "tests/doctor",
    "tests/kernel",
    "tests/netns/test_lab.py",
    # click and rich
    "tests/demo",
    "tests/runtime",
    "tests/test_cli.py",
    "tests/test_config.py",
)

_ASK = """
import importlib, importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    about = importlib.metadata.distribution(name)
    module = importlib.import_module(name)
    found[name] = about.version, str(about.locate_file("")), module.__file__
print(json.dumps(found))
"""


class Package(NamedTuple):
    """An imported package."""

    version: str
    metadata: str
    """The folder with the metadata that states the version."""
    file: str
    """The file that was imported."""


def lower_bounds(pyproject: str) -> dict[str, str]:
    """The oldest version of each dependency by name.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    bounds = {}
    for requirement in tomllib.loads(pyproject)["project"]["dependencies"]:
        parts = re.fullmatch(r"([\w-]+)>=([\d.]+)(,.*)?", requirement)
        if parts is None:
            raise ValueError(f"pyproject.toml: {requirement}: no lower bound")
        bounds[parts[1]] = parts[2]
    return bounds


def fault(found: Mapping[str, Package], bounds: Mapping[str, str], folder: Path) -> str | None:
    """The first package with another version or from another folder, as a message; else None."""
    for name, bound in bounds.items():
        package = found[name]
        if folder not in Path(package.file).parents or Path(package.metadata) != folder:
            return f"{name} was imported from {package.file}, not from {folder}"
        if package.version != bound:
            return f"{name} is {package.version}, the bound in pyproject.toml {bound}"
    return None


class Loaded:
    """A pytest plugin that checks that this process imported the packages from the folder."""

    def __init__(self, names: Mapping[str, str], folder: Path) -> None:
        self._names = names
        self._folder = folder

    def pytest_sessionfinish(self) -> None:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name.partition(".")[0] in self._names and file is not None:
                assert self._folder in Path(file).parents, f"{name} was imported from {file}"


def main() -> NoReturn:
    os.chdir(CHECKOUT)
    bounds = lower_bounds(Path("pyproject.toml").read_text())
    wanted = json.dumps([DEBS, bounds])
    complete = CACHE / "complete"
    if not complete.is_file() or complete.read_text() != wanted:
        _fetch()
    # First in this process and in every process that it starts.
    sys.path.insert(0, str(PACKAGES))
    os.environ["PYTHONPATH"] = str(PACKAGES)
    asked = _run(sys.executable, "-c", _ASK, *bounds)
    found = {name: Package(*package) for name, package in json.loads(asked).items()}
    wrong = fault(found, bounds, PACKAGES)
    if wrong is not None:
        _fail(f"{wrong}: the bounds are Debian 12's packages; run it there")
    complete.write_text(wanted)
    print("Imported:", ", ".join(f"{name} {package.version}" for name, package in found.items()))

    import pytest  # noqa: PLC0415 - its imports must come from the folder too

    arguments = ["-q", "-p", "no:cacheprovider", *TESTS, *sys.argv[1:]]
    sys.exit(pytest.main(arguments, plugins=[Loaded(bounds, PACKAGES)]))


def _fetch() -> None:
    """Download and unpack Debian's packages. Later the versions show if the release is wrong."""
    if shutil.which("apt-get") is None:
        _fail("no apt-get: the bounds are Debian 12's packages; run it there")
    shutil.rmtree(CACHE, ignore_errors=True)
    debs = CACHE / "debs"
    debs.mkdir(parents=True)
    download = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *DEBS)
    if subprocess.run(download, cwd=debs, capture_output=True, check=False).returncode:
        # A new machine has no package lists yet.
        _run("apt-get", "-qq", "update")
        _run(*download, cwd=debs)
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg", "-x", str(deb), str(CACHE / "root"))


def _run(*command: str, cwd: Path = CHECKOUT) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no message"]
        _fail(f"{command[0]} failed: {said[-1]}")
    return done.stdout


def _fail(line: str) -> NoReturn:
    print(f"test-oldest: {line}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
