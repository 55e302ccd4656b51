"""The run with the oldest packages: which versions it wants, and what it does not accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.oldest import CHECKOUT, Package, fault, lower_bounds

FOLDER = Path("/cache/dist-packages")
BOUNDS = {"click": "8.1.3", "rich": "13.3.1"}


def package(version: str, folder: Path = FOLDER, file: str = "x/__init__.py") -> Package:
    return Package(version, str(folder), str(FOLDER / file))


CLICK, RICH = package("8.1.3"), package("13.3.1")


def test_every_dependency_has_a_lower_bound() -> None:
    bounds = lower_bounds((CHECKOUT / "pyproject.toml").read_text())
    assert sorted(bounds) == ["click", "construct", "cryptography", "pyroute2", "rich"]
    with pytest.raises(ValueError, match="click: no lower bound"):
        lower_bounds('[project]\ndependencies = ["rich>=13.3.1", "click"]')


def test_the_versions_of_the_bounds_from_the_folder_are_right() -> None:
    assert fault({"click": CLICK, "rich": RICH}, BOUNDS, FOLDER) is None


@pytest.mark.parametrize(
    "click",
    [
        package("8.2.0"),
        package("8.1.3", folder=Path("/usr/lib")),
        CLICK._replace(file="/usr/lib/click/__init__.py"),
    ],
)
def test_others_are_not(click: Package) -> None:
    line = fault({"click": click, "rich": RICH}, BOUNDS, FOLDER)
    assert line is not None
    assert line.startswith("click ")
    assert "\n" not in line
