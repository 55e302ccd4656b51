"""Compiles the hot modules for the Python that runs this: compile.py CHECKOUT FOLDER

pyproject.toml lists the modules. FOLDER is the `extension` of a package deckwire. It is made anew
if it does not fit the sources, which stay as they are. This needs mypy with mypyc, setuptools, a C
compiler and the header files of Python. Debian 12 has all of them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import tomllib
from importlib.util import source_hash
from pathlib import Path

from mypyc.build import mypycify
from setuptools import setup

# `make lint` checks the types, with a newer mypy than Debian's, which finds faults that are none.
CONFIG = "[mypy]\nignore_errors = True\nignore_missing_imports = True\n"


def main(checkout: Path, folder: Path) -> None:
    """Compile in a temporary folder, and copy at the end: half of the modules are of no use."""
    os.chdir(checkout / "agent")
    sys.path.insert(0, str(checkout / "agent"))
    from deckwire.compiled import MANIFEST, ROOT, Compiled  # noqa: PLC0415 - of this checkout

    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    names = project["tool"]["deckwire"]["compiled"]
    there = Compiled(ROOT, str(folder))
    if there.why_not() is None and set(there) == set(names):
        print(f"{folder} fits the sources")
        return
    shutil.rmtree(folder, ignore_errors=True)
    paths = [f"{name.replace('.', '/')}.py" for name in names]
    hashes = [source_hash(Path(path).read_bytes()).hex() for path in paths]
    with tempfile.TemporaryDirectory() as work:
        config, made = Path(work, "mypy.ini"), Path(work, "made")
        config.write_text(CONFIG)
        extensions = mypycify(
            [f"--config-file={config}", f"--cache-dir={work}/cache", *paths],
            opt_level="2",
            target_dir=f"{work}/c",
        )
        for extension in extensions:
            # Information for debuggers takes the compiler time, and the package leaves it out.
            extension.extra_compile_args.append("-g0")
        setup(
            name="deckwire",
            ext_modules=extensions,
            script_args=["-q", "build_ext", f"--build-lib={made}", f"--build-temp={work}/o"],
        )
        if hashes != [source_hash(Path(path).read_bytes()).hex() for path in paths]:
            sys.exit("compile.py: a source was edited meanwhile; compile again")
        # mypyc makes one library of all modules, and a small one for each that refers to it.
        library = extensions[0].name
        lines = [library, *(f"{name} {known}" for name, known in zip(names, hashes, strict=True))]
        (made / MANIFEST).write_text("".join(f"{line}\n" for line in lines))
        shutil.copytree(made, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
