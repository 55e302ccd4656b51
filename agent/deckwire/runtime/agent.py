"""The live agent: reads the rings and emits events until a signal stops it."""

from __future__ import annotations

import gc
import time
from operator import attrgetter

from deckwire.abi import structs as abi
from deckwire.abi.samples import FragmentSample, Sample
from deckwire.bus.messages import Announcement, StopRequest
from deckwire.clock import KernelClock
from deckwire.config import Settings
from deckwire.deckies import DeckiesError, DeckiesFile
from deckwire.errors import plain
from deckwire.events.capture import stats_events
from deckwire.kernel.link_watch import LinkOverrunError
from deckwire.kernel.loader_process import LoadError
from deckwire.kernel.loading import Loaded, detach, reattach
from deckwire.kernel.signals import Requests
from deckwire.output.emitter import Fate
from deckwire.resilience.containment import Where
from deckwire.resilience.report import report
from deckwire.runtime.assembly import Parts, expect_echoes
from deckwire.runtime.budgets import BudgetWatch
from deckwire.runtime.bus import BusService
from deckwire.runtime.health import MISSING, Health
from deckwire.runtime.losses import LossReport
from deckwire.runtime.own_host import OwnHostWatch
from deckwire.tables.deckies import DeckiesRefused

_ROUND_S = 1.0
"""Seconds between two looks at interfaces, deckies, losses and what is due."""
_SWEEP_S = 4.0
"""Seconds between two sweeps of an empty table of connections; fewer if it is fuller."""
_SWEEP_REST_S = 1.0
"""Seconds between two sweeps at least: samples and events have the CPU."""
_TOGETHER = 128
"""Samples taken between two writings of their events."""
_FLUSH_S = 5.0
"""Seconds that outputs have at most to write their lines at the end."""
_LEAVE_S = 1.0
"""The same for the bus."""
_REST_S = 0.1
"""Seconds to wait after the rings could not be read, so that a lasting fault takes no CPU."""


class Agent:
    """Runs a loaded and assembled capture; owns the loop."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        parts: Parts,
        clock: KernelClock,
        deckies_file: DeckiesFile | None,
        requests: Requests,
        bus: BusService | None = None,
        own_host: OwnHostWatch | None = None,
    ) -> None:
        self._settings = settings
        self._loaded = loaded
        self._parts = parts
        self._contained = parts.containment.during
        self._clock = clock
        self._deckies_file = deckies_file
        self._requests = requests
        self._bus = bus
        self._own_host = own_host
        self._own_host_due = False
        """An interface or the deckies changed since the host's own addresses were read."""
        self._ordering = parts.ordering
        self._losses = LossReport(parts.host)
        self._budgets = BudgetWatch(parts.host)
        self._health = Health(
            self._look,
            parts.stats.sums,
            lambda: parts.stats.losses(parts.tables.counters()),
            runtime_dir=settings.runtime_dir,
            metrics=settings.metrics,
        )
        self._awaited = set(loaded.absent)
        """Interfaces that have not appeared yet."""
        self._missing: set[str] = set(loaded.absent)
        """These, and interfaces that have gone and will be attached again."""
        self._complaints: dict[str, str] = {}
        """The last reason why such an interface could not be attached. Each is reported once."""

    def run(self) -> int:
        """Capture until SIGTERM or SIGINT; returns the exit status."""
        if not self._requests.stopping:
            self._announce()
            with self._contained(Where.STATS):
                self._health.started()
        # Objects made so far stay alive, so the collector need not scan them again and again.
        gc.collect()
        gc.freeze()
        try:
            self._loop()
        finally:
            status = self._shut_down()
        return status

    def _loop(self) -> None:
        interval = self._settings.stats_interval
        next_stats = time.monotonic() + interval if interval else float("inf")
        next_sweep = next_round = time.monotonic() + _ROUND_S
        while not self._requests.stopping:
            self._pass()
            now = time.monotonic()
            with self._contained(Where.STATS):
                self._health.round()
            if now >= next_sweep:
                fill = self._sweep()
                # A full table takes long to sweep, but its sources wait for the room.
                next_sweep = time.monotonic() + max(_SWEEP_S * (1 - fill), _SWEEP_REST_S)
            if now >= next_round:
                next_round = now + _ROUND_S
                self._serve_bus(now)
                self._emit_due()
                self._housekeeping()
            if now >= next_stats:
                next_stats = now + interval
                self._emit_stats()
            if self._requests.reloading:
                self._requests.reloading = False
                self._reload()

    # --- samples ---

    def _pass(self) -> None:
        """Wait for samples and take them."""
        try:
            self._loaded.rings.wait()
            self._take_all()
        except Exception as error:
            self._parts.containment.failed(Where.RINGS, error)
            time.sleep(_REST_S)

    def _take_all(self) -> None:
        """Make one pass over the rings; take the samples from before the previous one, in order."""
        start_ns = self._clock.now_ns()
        self._drain()
        samples = self._ordering.release(start_ns)
        for at in range(0, len(samples), _TOGETHER):
            self._parts.outputs.hold()
            for sample in samples[at : at + _TOGETHER]:
                self._take(sample)
            self._flush()

    def _flush(self) -> None:
        """Write the events held. One that cannot be written is counted with its sample."""
        while True:
            try:
                self._parts.outputs.flush()
            except Exception as error:
                # The event that failed is no longer held, so the loop ends.
                self._parts.containment.failed(Where.OUTPUT, error)
            else:
                return

    def _take(self, sample: Sample) -> None:
        try:
            self._parts.pipeline.take(sample)
        except Exception as error:
            # A mistake that one peer provokes must not end the capture of all others.
            self._parts.containment.failed(Where.SAMPLE, error)

    def _drain(self) -> None:
        fragments: list[FragmentSample] = []
        for _, data in self._loaded.rings.drain():
            try:
                sample = self._parts.intake.decode(data)
            except Exception as error:
                self._parts.containment.failed(Where.SAMPLE, error)
                continue
            if isinstance(sample, FragmentSample):
                fragments.append(sample)
            elif sample is not None:
                self._ordering.add(sample.time_ns, sample)
        # At once: the samples of the packets that they make are then in time for the next pass.
        for fragment in sorted(fragments, key=attrgetter("time_ns")):
            self._take_fragment(fragment)

    def _take_fragment(self, fragment: FragmentSample) -> None:
        try:
            self._parts.fragments.take(fragment)
        except Exception as error:
            self._parts.containment.failed(Where.SAMPLE, error)

    # --- from time to time ---

    def _sweep(self) -> float:
        """Sweep; return how full the table of connections is, from 0 to 1, or 0 if that failed."""
        fill = 0.0
        with self._contained(Where.SWEEP):
            self._parts.outputs.hold()
            fill = self._parts.pipeline.sweep(self._clock.now_ns())
        self._flush()
        return fill

    def _emit_due(self) -> None:
        with self._contained(Where.DUE):
            self._parts.outputs.hold()
            self._parts.pipeline.emit_due(self._clock.now_ns())
        self._flush()

    def _housekeeping(self) -> None:
        with self._contained(Where.STATS):
            self._clock.measure()
        with self._contained(Where.INTERFACES):
            self._watch_interfaces()
        with self._contained(Where.INTERFACES):
            self._look_at_own_host()
        with self._contained(Where.RELOAD):
            if self._deckies_file is not None and self._deckies_file.changed():
                self._reload_deckies()
        self._emit_losses()

    def _serve_bus(self, now: float) -> None:
        """Obey the bus, before events are emitted that it may have announced."""
        if self._bus is None:
            return
        with self._contained(Where.OUTPUT):
            for message in self._bus.take():
                match message:
                    case StopRequest():
                        report("stopping: the bus asks for it")
                        self._requests.stopping = True
                    case Announcement():
                        self._parts.pipeline.announce(message)
            self._bus.publish_health(now, self._figures)

    def _figures(self) -> dict[str, int]:
        """The figures for DECNET's panel."""
        kernel = self._parts.tables.counters()
        return {
            "frames": sum(kernel[name] for name in abi.FRAME_COUNTERS),
            "lost": sum(self._parts.stats.losses(kernel).values()),
            "deckies": len(self._parts.pipeline.registry),
        }

    def _emit_stats(self) -> None:
        with self._contained(Where.STATS):
            now_ns = self._clock.wall_ns(self._clock.now_ns())
            sums = self._parts.stats.sums()
            for event in stats_events(self._parts.host, now_ns, sums):
                self._parts.emitter.emit(event)

    def _emit_losses(self, *, at_the_end: bool = False) -> None:
        with self._contained(Where.STATS):
            self._emit_all_losses(at_the_end=at_the_end)

    def _emit_all_losses(self, *, at_the_end: bool) -> None:
        now_ns = self._clock.wall_ns(self._clock.now_ns())
        kernel = self._parts.tables.counters()
        lost = self._parts.stats.losses(kernel)
        for event in self._losses.due(lost, now_ns, at_the_end=at_the_end):
            if self._parts.emitter.emit(event) is not Fate.DROPPED:
                self._losses.emitted(event)
        for event in self._budgets.changes(kernel, now_ns):
            self._parts.emitter.emit(event)

    def _reload(self) -> None:
        with self._contained(Where.RELOAD):
            self._health.reloading()
            self._parts.outputs.reopen()
        self._reload_deckies()
        with self._contained(Where.STATS):
            self._health.started()

    def _reload_deckies(self) -> None:
        with self._contained(Where.RELOAD):
            self._read_deckies()

    def _read_deckies(self) -> None:
        if self._deckies_file is None:
            return
        try:
            registry = self._deckies_file.read()
        except DeckiesError as error:
            report(f"{error}; the {len(self._parts.pipeline.registry)} deckies before stay")
            return
        for note in self._deckies_file.notes:
            report(note)
        before = len(self._parts.pipeline.registry)
        try:
            self._parts.pipeline.replace_registry(registry)
        except DeckiesRefused as error:
            stay = f"the {before} deckies before stay"
            if error.missing:
                stay = f"{error.missing} of the {before} deckies before are not watched any more"
            path = plain(self._deckies_file.path)
            report(f"{path}: {error.strerror}; {stay}: send SIGHUP to try again")
            return
        except OSError as error:
            report(f"deckies: {error.strerror or error}")
            return
        self._own_host_due = True
        report(f"deckies read again: {len(registry)}")

    def _watch_interfaces(self) -> None:
        overrun = False
        gone: set[int] = set()
        try:
            changes = self._loaded.watch.read()
            gone = {change.ifindex for change in changes if not change.present}
            self._own_host_due |= bool(changes)
        except LinkOverrunError:
            overrun = self._own_host_due = True
        present = self._interfaces() if overrun or self._missing else None
        if present is not None:
            # The snapshot includes changes from meanwhile, which are not reported again.
            gone |= {attachment.ifindex for attachment in self._loaded.attachments} - present.keys()
        for attachment in list(self._loaded.attachments):
            if attachment.ifindex in gone:
                report(f"{attachment.target} is gone; it is attached again when it comes back")
                attachment.close()
                self._loaded.attachments.remove(attachment)
                self._missing.add(attachment.interface)
                self._health.changed()
        if present is not None:
            for interface in sorted(self._missing & set(present.values())):
                self._attach_again(interface)

    def _look_at_own_host(self) -> None:
        if self._own_host is None:
            return
        targets = {attachment.ifindex for attachment in self._loaded.attachments}
        self._own_host.look(time.monotonic(), targets, at_once=self._own_host_due)
        self._own_host_due = False

    def _interfaces(self) -> dict[int, str] | None:
        """All interfaces by index; None if the snapshot failed, and the next round tries again."""
        try:
            return self._loaded.watch.snapshot()
        except (LinkOverrunError, OSError):
            self._parts.pipeline.counts["interface_snapshots_failed"] += 1
            return None

    def _attach_again(self, interface: str) -> None:
        try:
            attachment = reattach(self._loaded, interface)
        except LoadError as error:
            complaint = f"{interface} is there, but: {error}; trying again"
            if self._complaints.get(interface) != complaint:
                self._complaints[interface] = complaint
                report(complaint)
            return
        self._complaints.pop(interface, None)
        self._missing.discard(interface)
        self._health.changed()
        again = "" if interface in self._awaited else " again"
        self._awaited.discard(interface)
        if attachment is None:
            report(f"ready: {interface} is there{again}; its parent is watched already")
            return
        expect_echoes(self._loaded)
        for note in attachment.notes:
            report(note)
        report(f"ready: {attachment.target} attached{again} ({attachment.method})")

    def _look(self) -> tuple[int, dict[str, str], dict[str, str]]:
        """What Health shows: see `deckwire.runtime.health.Look`."""
        interfaces = {a.target: f"attached ({a.method})" for a in self._loaded.attachments}
        interfaces |= dict.fromkeys(sorted(self._missing), MISSING)
        return len(self._parts.pipeline.registry), interfaces, self._parts.outputs.failures()

    # --- beginning and end ---

    def _announce(self) -> None:
        for note in self._deckies_file.notes if self._deckies_file is not None else ():
            report(note)
        for attachment in self._loaded.attachments:
            for note in attachment.notes:
                report(note)
        for line in self._loaded.absent.values():
            report(f"waiting: {line}; it is attached when it comes")
        if not self._loaded.attachments:
            return
        where = ", ".join(f"{a.target} ({a.method})" for a in self._loaded.attachments)
        count = len(self._parts.pipeline.registry)
        report(
            f"ready: watching {count} {'decky' if count == 1 else 'deckies'} on {where},"
            f" loaded in {self._loaded.load_ms} ms"
        )

    def _shut_down(self) -> int:
        """Detach, emit an event for all that is open, flush the outputs; return the exit status.

        Each step runs even if one before it failed.
        """
        status = 1
        with self._contained(Where.SHUTDOWN):
            self._health.stopping()
        with self._contained(Where.SHUTDOWN):
            try:
                detach(self._loaded)
                status = 0
            except LoadError as error:
                report(str(error))
        with self._contained(Where.RINGS):
            self._drain()
            # Fragments in the rings have made samples.
            self._drain()
        for sample in self._ordering.flush():
            self._take(sample)
        with self._contained(Where.SHUTDOWN):
            self._parts.pipeline.finish()
        self._flush()
        self._emit_losses(at_the_end=True)
        self._emit_stats()
        with self._contained(Where.OUTPUT):
            self._parts.outputs.close(_FLUSH_S)
            for cause, lines in sorted(self._parts.outputs.losses().items()):
                report(f"lost at the outputs: {lines} lines, {cause}")
        if self._bus is not None:
            with self._contained(Where.OUTPUT):
                self._bus.close(_LEAVE_S)
        with self._contained(Where.SHUTDOWN):
            if self._own_host is not None:
                self._own_host.close()
            self._loaded.close()
        return status
