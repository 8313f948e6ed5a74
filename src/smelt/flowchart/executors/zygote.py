"""A process that imports the heavy modules once and forks one child a stage, so that a stage starts in ms.

It stays single-threaded (a fork keeps only the thread that forks) and touches no accelerator. It ends when
its socket closes, and it and its children die with the run.

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
import sys
import traceback
from pathlib import Path
from typing import Any

from smelt.flowchart.executors import lifeline, worker

POLL_SECONDS = 0.02


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
