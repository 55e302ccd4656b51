"""A TUN device in a network namespace of its own: whoever holds it is the link."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from struct import pack

from deckwire.kernel.namespaces import inside
from deckwire.lab import namespaces

DEVICE = "dwtun0"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


@contextmanager
def tun_device(suffix: str, commands: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Make the device, and run `commands` of ip(8); give its descriptor and the namespace's name.

    The name ends with `suffix`.
    """
    stem = namespaces.new_stem()
    name = f"{stem}-{suffix}"
    with ExitStack() as undo:
        undo.callback(namespaces.remove, stem)
        subprocess.run(["ip", "netns", "add", name], check=True)
        with inside(name):
            device = os.open("/dev/net/tun", os.O_RDWR)
            undo.callback(os.close, device)
            fcntl.ioctl(device, _TUNSETIFF, pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
            for command in commands:
                subprocess.run(["ip", *command.split()], check=True)
        yield device, name
