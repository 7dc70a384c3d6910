"""Many short-lived workers for the price of one: imports once, then forks a worker for each line.

A line is a JSON object of environment variables; the answer is the worker's pid. Each worker is a
process of its own, with its own loop, pools and end; it is waited for when it has ended.
"""

import json
import os
import signal
import sys

import uvloop
from tests.durability import worker_process

from chargehand import bootstrap


def born(environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environment)
    silent = os.open(os.devnull, os.O_RDWR)
    os.dup2(silent, 0)
    os.dup2(silent, 1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    bootstrap.configure_logs("info")
    uvloop.run(worker_process.main())
    os._exit(0)


if __name__ == "__main__":
    # Nobody asks how they ended: they leave no zombies, so that an ended pid is gone.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        print(born(json.loads(line)), flush=True)
