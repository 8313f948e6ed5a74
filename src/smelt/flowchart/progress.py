"""What a run shows while it runs: bars where there is a terminal, a line now and then where there is none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

from smelt.errors import printable

EVERY_SECONDS = 10.0


class Progress:
    """Give it to `run` as `on_event`, as a context manager. A closed output silences it, no more."""

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, told: set[str] | None = None
    ) -> None:
        self.stream = stream or sys.stderr
        self.told = set() if told is None else told  # the warnings that were shown
        self.quiet = quiet
        self.total = 0
        self.done = 0
        self._seconds: dict[str, float] = {}
        self._latest: dict[str, Mapping[str, Any]] = {}
        self._next = 0.0
        self._closed = False
        self._bars = None if quiet or not _is_terminal(self.stream) else _Bars(self.stream)

    def __enter__(self) -> Progress:
        if self._bars:
            self._bars.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.bars.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._closed:
            return
        try:
            self._show(event)
        except (OSError, ValueError):  # closed terminal or pipe: the run goes on
            self._closed, self._bars = True, None

    def _show(self, event: Mapping[str, Any]) -> None:
        name, node = event["event"], str(event.get("id", ""))
        if name == "run_started":
            self.total, self.done = event["stages"], event["done"]
            done = f", {self.done} of them done before" if self.done else ""
            self._say(f"{self.total} stage{'s' * (self.total != 1)}{done}")
        elif name == "started":
            self._say(f"{node}: {'goes on' if event.get('resumed') else 'begins'}")
        elif name == "done":
            self.done += 1
            self._say(f"{node}: done in {_clock(event['seconds'])} ({self.done} of {self.total})")
            self._latest.pop(node, None)
        elif name == "failed":  # its first line; the whole is told at the end, which may be now
            if not event.get("last"):
                self._say(str(event.get("text", name)).partition("\n")[0], always=True)
        elif name in ("damaged", "warning", "stalled", "stopping"):
            self.done -= bool(event.get("undone"))
            self._say(f"{node + ': ' if node else ''}{event.get('text', name)}", always=name != "stopping")
        elif name == "note":
            self._say(f"{node}: {event.get('text', '')}")
        elif name == "progress":
            self._latest[node] = event
            self._tick()
        if self._bars:
            self._bars.update(name, node, event, self.done, self.total)

    def _tick(self) -> None:
        """Without a terminal: one line for all running stages, every now and then."""
        if self._bars or self.quiet or time.monotonic() < self._next:
            return
        if self._next:
            self._say("; ".join(f"{node}: {_fraction(event)}" for node, event in self._latest.items()))
        self._next = time.monotonic() + EVERY_SECONDS

    def _say(self, text: str, always: bool = False) -> None:
        if self.quiet and not always:
            return
        text = printable(text)
        if self._bars:
            self._bars.bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)


class _Bars:
    """rich's bars: one for the whole and one for each running stage."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self.bars = RichProgress(
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self.whole = self.bars.add_task("", name="all stages", text="", total=None)
        self.of: dict[str, Any] = {}

    def update(self, name: str, node: str, event: Mapping[str, Any], done: int, total: int) -> None:
        self.bars.update(self.whole, completed=done, total=total, text=f"{done} of {total}")
        if name == "started":
            self.of[node] = self.bars.add_task("", name=node, text="", total=None)
        elif name in ("done", "failed", "preempted") and node in self.of:
            self.bars.remove_task(self.of.pop(node))
        elif name == "progress" and node in self.of:
            self.bars.update(
                self.of[node], completed=event.get("done", 0), total=event.get("total"), text=_fraction(event)
            )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        return False


def _fraction(event: Mapping[str, Any]) -> str:
    done, total, unit = event.get("done"), event.get("total"), event.get("unit", "")
    parts = [] if done is None else [f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"]
    text = event.get("text")
    return ", ".join([*(part.strip() for part in parts), *([str(text)] if text else [])])


def _clock(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
