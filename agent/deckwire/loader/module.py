"""The compiled module of bpf/: its programs and maps, made and loaded with BCC."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import resource
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from threading import Thread
from typing import Any

from deckwire.kernel.maps import PERF_EVENT_ARRAY, Map, MapShape
from deckwire.kernel.names import SAMPLES_MAP, SETTINGS_MAP
from deckwire.kernel.programs import Program
from deckwire.kernel.rings import open_ring
from deckwire.loader.creation import RefusedError, create_map
from deckwire.loader.errors import LoaderError
from deckwire.loader.kernel_object import KernelObject, ProgramCode
from deckwire.loader.locks import LOCKED
from deckwire.loader.printed import Printed
from deckwire.loader.signatures import known_signatures

CFLAGS = (
    "-Wno-macro-redefined",
    "-Werror=implicit-function-declaration",
    "-fno-strict-aliasing",
    "-Xclang",
    "-disable-llvm-passes",
)
"""-fno-strict-aliasing: the kernel's own code has it too, and type analysis takes a twentieth of
the compiler's time. -disable-llvm-passes: BCC optimises the code of clang anyway, and doing it
twice takes 0.3 s of each start. Neither makes a packet slower."""

NO_LINES = "-g0"
"""No source lines and types, which take a sixth of the compiler's time."""

CAUSE_CHARACTERS = 300
"""Characters of a printed line that an error repeats."""

MISMATCH = "bpf/ and the agent are of different versions; install Deckwire again"
_KERNEL_SOURCE = "BCC_KERNEL_SOURCE"
"""The variable of the environment that BCC reads."""
_U32 = Struct("=I")


class CompilerMissingError(LoaderError):
    """BCC cannot be imported."""


def raise_memlock() -> None:
    """Before Linux 5.11 maps count against RLIMIT_MEMLOCK. _explain() reports if it is too low."""
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, infinite)


def flags(
    request: Mapping[str, Any], signatures: Mapping[str, bool] | None = None
) -> tuple[str, ...]:
    """The compiler's flags for a request, but for paths.

    Args:
        request: as kernel/loading.py makes it.
        signatures: as known_signatures() returns them; None: those of this kernel.
    """
    chosen = [f"-D{name}={int(value)}" for name, value in request["table_sizes"].items()]
    if request["xdp"] != "off":
        chosen.append("-DDECKWIRE_XDP")
    if request["replay_clock"]:
        chosen.append("-DDECKWIRE_REPLAY_CLOCK")
    else:
        # Whose traffic a capture has is not known: the newest kernel is meant.
        known = known_signatures() if signatures is None else signatures
        chosen += [f"-D{name}={int(value)}" for name, value in known.items()]
    return (*CFLAGS, *chosen)


def compile_module(
    request: Mapping[str, Any],
    *,
    signatures: Mapping[str, bool] | None = None,
    lines: bool = False,
) -> Any:
    """Compiles the module and makes its maps: a bcc.BPF.

    Args:
        request: as kernel/loading.py makes it.
        signatures: as for flags().
        lines: with the source lines, for a verifier's log.

    Raises:
        LoaderError: with one line for the user.
    """
    try:
        from bcc import BPF  # noqa: PLC0415 - 72 MB
    except ImportError as error:
        raise CompilerMissingError(
            "cannot compile: BCC's Python bindings are missing; install python3-bpfcc and use a "
            "virtual environment of /usr/bin/python3 with --system-site-packages"
        ) from error
    bpf_directory, source = request["bpf"], request["source"]
    cflags = [f"-I{bpf_directory}", *flags(request, signatures)]
    if not lines:
        cflags.append(NO_LINES)
    shim = f"{bpf_directory}/shim" if request["headers"] == "shim" else None
    # BCC looks for headers in the working directory first, which may be anybody's.
    with Printed() as printed, _kernel_source(shim), contextlib.chdir(bpf_directory):
        try:
            module = BPF(src_file=source, cflags=cflags)
        except Exception as error:  # bcc raises Exception itself for everything
            what = f"{os.path.basename(source)} does not compile"
            raise refusal(what, printed.text()) from error
    _give_locks(module)
    return module


def _give_locks(module: Any) -> None:
    """Puts maps with a lock in the place of those that BCC has made without."""
    for name, table in maps_of(module).items():
        if name not in LOCKED:
            continue
        try:
            # The programs refer to the descriptor, which stands for the new map from now on.
            with create_map(MapShape.of(table.fd)._replace(name=name)) as made:
                os.dup2(made.fd, table.fd, inheritable=False)
        except RefusedError as error:
            raise refusal(str(error), os.strerror(error.number), error.number) from error


@contextlib.contextmanager
def _kernel_source(path: str | None) -> Iterator[None]:
    """Gives BCC another source of kernel headers, if `path` is one, for the block alone."""
    before = os.environ.get(_KERNEL_SOURCE)
    if path is not None:
        os.environ[_KERNEL_SOURCE] = path
    try:
        yield
    finally:
        os.environ.pop(_KERNEL_SOURCE, None)
        if before is not None:
            os.environ[_KERNEL_SOURCE] = before


def load_programs(module: Any, kinds: Mapping[str, str]) -> dict[str, Program]:
    """Loads functions of the module as programs of these kinds, such as SCHED_CLS.

    Each in a thread of its own, because the two largest are then verified in half the time.

    Raises:
        LoaderError: the kernel refused one, with one line for the user.
    """
    loaded: dict[str, Program] = {}

    def load(name: str) -> None:
        function = module.load_func(name, getattr(module, kinds[name]))
        loaded[name] = Program(name, function.fd)

    def try_to_load(name: str) -> None:
        with contextlib.suppress(Exception):  # reported below
            load(name)

    threads = [Thread(target=try_to_load, args=(name,)) for name in kinds]
    with Printed():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in [name for name in kinds if name not in loaded]:
        # Once more, alone, so that its log is not mixed with that of another program.
        with Printed() as printed:
            ctypes.set_errno(0)
            try:
                load(name)
            except Exception as error:  # bcc raises Exception itself for everything
                what = f"the kernel refused the program {name}"
                log = printed.text() or str(error)
                raise refusal(what, log, ctypes.get_errno()) from error
    return {name: loaded[name] for name in kinds}


def maps_of(module: Any) -> dict[str, Map]:
    """All maps of the module, by name. It uses BCC's C functions, which parse no types."""
    from bcc import lib  # noqa: PLC0415 - 72 MB

    lib.bpf_table_name.restype = ctypes.c_char_p
    maps = {}
    for number in range(lib.bpf_num_tables(module.module)):
        name = lib.bpf_table_name(module.module, number).decode()
        maps[name] = Map(lib.bpf_table_fd_id(module.module, number))
    return maps


def settings_of(module: Any) -> dict[str, tuple[int, int]]:
    """Offset and size of each member of struct settings, in bytes; none without that map."""
    try:
        leaf = module[SETTINGS_MAP].Leaf
    except KeyError:
        return {}
    members = ((name, getattr(leaf, name)) for name, *_ in leaf._fields_)
    return {name: (member.offset, member.size) for name, member in members}


def object_of(module: Any, kinds: Mapping[str, str]) -> KernelObject:
    """What the module's functions and maps are, for programs of these kinds.

    Raises:
        MalformedObjectError: a function has something that an object cannot keep.
    """
    from bcc import __version__ as version  # noqa: PLC0415 - 72 MB
    from bcc import lib  # noqa: PLC0415 - 72 MB

    lib.bpf_module_license.restype = ctypes.c_char_p
    terms = lib.bpf_module_license(module.module).decode()
    maps = maps_of(module)
    numbers = {table.fd: number for number, table in enumerate(maps.values())}
    programs = [
        ProgramCode.of(name, getattr(module, kind), module.dump_func(name), numbers)
        for name, kind in kinds.items()
    ]
    shapes = [_shape_of(name, table) for name, table in maps.items()]
    return KernelObject(version, terms, settings_of(module), tuple(shapes), tuple(programs))


def _shape_of(name: str, table: Map) -> MapShape:
    shape = MapShape.of(table.fd)._replace(name=name)
    # BCC makes it for the possible CPUs of the machine that it runs on.
    return shape._replace(max_entries=0) if shape.kind == PERF_EVENT_ARRAY else shape


def open_rings(maps: Mapping[str, Map], online: Iterable[int], size: int) -> list[int]:
    """Opens a ring for each CPU that is online, and puts it into the map of samples.

    Raises:
        LoaderError: with one line for the user.
    """
    if SAMPLES_MAP not in maps:
        raise LoaderError(f"no perf event array is named {SAMPLES_MAP}: {MISMATCH}")
    rings = []
    for cpu in online:
        try:
            fd = open_ring(cpu, size)
        except OSError as error:
            raise LoaderError(
                f"no perf ring: {error.strerror}; if kernel.perf_event_paranoid is above 2, as on "
                "Debian, set it to 2 or grant CAP_SYS_ADMIN",
                passing=error.errno == errno.ENOMEM,
            ) from error
        maps[SAMPLES_MAP].update(_U32.pack(cpu), _U32.pack(fd))
        rings.append(fd)
    return rings


def refusal(what: str, printed: str, number: int = 0) -> LoaderError:
    """The error for `what`, with the output of compiler or verifier, and an errno.

    It can pass by itself if memory is short.
    """
    short = number in (errno.ENOMEM, errno.EAGAIN) or os.strerror(errno.ENOMEM) in printed
    return LoaderError(_explain(what, printed, number), passing=short)


def _explain(what: str, printed: str, number: int = 0) -> str:
    """`what` with its cause, picked from the output of bcc, clang and the kernel, and an errno."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if "Operation not permitted" in printed and soft != resource.RLIM_INFINITY:
        return (
            f"{what}: not permitted, and RLIMIT_MEMLOCK, against which maps count before Linux "
            f"5.11, is {soft // 1024} KB and cannot be raised; set LimitMEMLOCK=infinity"
        )
    compiler = re.search(r"^.*?([^/\n]+:\d+:\d+: (?:fatal )?error: .*)$", printed, re.MULTILINE)
    if compiler:
        return f"{what}: {compiler[1]}"
    # BCC prints the second line if the kernel's modules are installed, as they usually are.
    if re.search(r"Unable to find kernel headers|chdir\(/lib/modules/.*No such file", printed):
        return f"{what}: no kernel headers are installed; use the shim (the default)"
    # Linux 7 adds an explanation of many lines. It is in the log.
    said = printed.partition("\nVerification failed: ")[0]
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = [line for line in lines if not line.startswith(("processed ", "HINT", "Exception"))]
    cause = last[-1][:CAUSE_CHARACTERS] if last else "no message"
    if number:
        cause = f"{errno.errorcode.get(number, number)}, {cause}"
    return f"{what} on Linux {os.uname().release} (5.10 or newer is needed): {cause}"
