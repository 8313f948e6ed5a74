"""A warm process that imports the heavy modules once and forks one child a stage, so that one starts in ms.

`main` is the process, `Zygote` the run's end of it. It stays single-threaded (a fork keeps only the thread
that forks) and touches no accelerator. It ends when its socket closes, and it and its children die with the
run.

Protocol, one packet a message: the run sends JSON {task, key, threads, environment} with three descriptors
(log, events, life); the zygote answers {task, pid} and later {task, code}.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smelt.files.atomic import new_file
from smelt.flowchart.executors import lifeline, worker

POLL_SECONDS = 0.02
LOST = -1000  # the code of a child whose zygote went away, before or after it had started it
COMMON = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pyarrow starts one when it is loaded


class Zygote:
    """The run's end: asks for children and hears of their ends. `alive`: whether it still answers."""

    def __init__(self, work: Path, logs: Path, runner: str, preload: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self.alive = True
        self.pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        self.ended = ""  # why it was ended
        self._count = 0
        # one thread in every library while modules are loaded; each child sets its own number
        environment = os.environ | dict.fromkeys(worker.THREAD_VARIABLES, "1") | COMMON | _NO_THREADS
        arguments = [str(theirs.fileno()), str(os.getpid()), str(work.resolve()), runner, *preload]
        with new_file(logs / "zygote.log") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "smelt.flowchart.executors.zygote", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()

    def ask(self, key: str, threads: int, environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """Ask for a child; its number in `pids` and `codes`. `alive` is false after it if nobody listens."""
        self._count += 1
        request = {"task": self._count, "key": key, "threads": threads, "environment": dict(environment)}
        try:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(descriptors))
        except OSError:
            self.alive = False
        return self._count

    def receive(self) -> None:
        """Take in what the zygote has said. If it is gone, so are its children."""
        while self.alive:
            try:
                content = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                content = b""
            message = json.loads(content) if content else {}
            if not message:
                self.alive = False
            elif "pid" in message:
                self.pids[message["task"]] = message["pid"]
            elif "code" in message:
                self.codes[message["task"]] = message["code"]
        for task in range(1, self._count + 1):
            if task not in self.codes:
                if task in self.pids:
                    lifeline.kill_group(self.pids[task], signal.SIGKILL)
                self.codes[task] = LOST

    def end(self, why: str) -> None:
        """Kill it as it does not answer; its children die with it, and stages are started afresh."""
        if not self.ended:
            self.ended = f"the warm process {self.process.pid} that starts stages {why}: it was ended"
        self.process.kill()

    def close(self) -> None:
        """End it; its children, if any, die with it."""
        self._socket.close()
        self.process.kill()
        self.process.wait()


def main(arguments: list[str]) -> None:
    """`zygote SOCKET PARENT WORK RUNNER MODULE…`"""
    number, parent, work, runner_name, *modules = arguments
    lifeline.die_with_parent(int(parent))
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    connection = socket.socket(fileno=int(number))
    for module in modules:
        importlib.import_module(module)
    runner = worker.load_runner(runner_name)
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, the pages that all children share
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise SystemExit(f"an import started {threads - 1} threads: forking is not safe")
    connection.send(json.dumps({"ready": True}).encode())
    serve(connection, work, runner)


def serve(connection: socket.socket, work: str, runner: worker.Runner) -> None:
    """Fork children on request and report their ends, until the socket closes."""
    children: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([connection], [], [], POLL_SECONDS if children else None)
        if ready:
            content, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 3)
            if not content:
                return
            request = json.loads(content)
            pid = os.fork()
            if pid == 0:
                run_child(request, descriptors, connection, work, runner)
            for descriptor in descriptors:
                os.close(descriptor)
            children[pid] = request["task"]
            connection.send(json.dumps({"task": request["task"], "pid": pid}).encode())
        for pid in list(children):
            code = lifeline.reap(pid)
            if code is not None:
                connection.send(json.dumps({"task": children.pop(pid), "code": code}).encode())


def run_child(
    request: dict[str, Any],
    descriptors: list[int],
    connection: socket.socket,
    work: str,
    runner: worker.Runner,
) -> None:
    """The life of one forked child; never returns."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        zygote = os.getppid()
        os.setsid()
        lifeline.die_with_parent(zygote)
        connection.close()
        log, events, life = descriptors
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
        lifeline.watch(life)
        os.environ.update(request["environment"])
        worker.set_threads(request["threads"])
        gc.enable()
        code = worker.run_stage(work, request["key"], runner, None, worker.Reporter(events))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
