"""Starting a script as a reader does, alone or under torchrun, with an end to it whatever happens."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
# torchrun listens on this machine's loopback alone, and picks a free port.
TORCHRUN = [
    "-m",
    "torch.distributed.run",
    "--rdzv_backend=c10d",
    "--rdzv_endpoint=127.0.0.1:0",
    "--local_addr=127.0.0.1",
]


def start(*arguments: str, processes: int = 1) -> subprocess.Popen:
    """Python with these arguments, under torchrun if there are to be several processes; one thread each."""
    run = [] if processes == 1 else [*TORCHRUN, f"--nproc_per_node={processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK, "PYTHONPATH": str(ROOT)}
    environment |= {"HF_HUB_OFFLINE": "1"}  # a script that downloads something fails
    return subprocess.Popen(
        [sys.executable, *run, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what it starts can be ended with it
    )


def finish(process: subprocess.Popen, limit: float = 300) -> subprocess.CompletedProcess:
    """Wait for its end; after ``limit`` seconds it is ended with all that it has started, and the test fails."""
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"not ended after {limit} seconds:\n{process.communicate()[0][-4000:]}", pytrace=False)
    return subprocess.CompletedProcess(process.args, process.returncode, output)


def launch(*arguments: str, processes: int = 1) -> subprocess.CompletedProcess:
    """Run to the end and return the exit status and all that was printed."""
    return finish(start(*arguments, processes=processes))
