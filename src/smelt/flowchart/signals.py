"""Being asked to stop: SIGTERM, as Slurm sends it, Ctrl-C, and a terminal that is closed."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Signals:
    """Counts SIGTERM, SIGINT and SIGHUP while it is entered; outside the main thread it does nothing."""

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.name = signal.Signals(number).name
        self.count += 1
