"""What `kdutils.chunked_kd_loss` saves: seconds and memory of one step, in two ways.

    plain    kd_loss of the logits of all tokens
    chunked  chunked_kd_loss of the same hidden states and last layers

A step is the loss and its gradient for the student's hidden states, weight and bias.
Each way is a process of its own, so that its peak of memory is its own (Linux). At full
size the plain way needs about 18 GiB of free memory. What is measured is written to
book/results/bench-chunked.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from runlog import RESULTS
from safetensors.torch import load_file, save_file

from kdutils.chunked import chunked_kd_loss
from kdutils.losses import kd_loss
from kdutils.results import environment, save_results

WAYS = ("plain", "chunked")
SIZES = ("tokens", "classes", "width", "chunk_size")
GRADIENTS = ("hidden", "weight", "bias")


def memory(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def measure(way: str, options: argparse.Namespace, gradients: Path) -> dict:
    """One way, in this process; its gradients go to a file."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, options.tokens, options.width)
    student.requires_grad_()
    # Logits with a standard deviation of about 3.
    student_head, teacher_head = (
        torch.nn.Linear(options.width, options.classes) for _ in range(2)
    )
    for head in (student_head, teacher_head):
        torch.nn.init.normal_(head.weight, std=3 / options.width**0.5)

    bare = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    start = time.perf_counter()
    if way == "plain":
        loss = kd_loss(student_head(student), teacher_head(teacher).detach(), 1.0)
    else:
        heads = student_head, teacher_head
        loss = chunked_kd_loss(
            student, heads[0], teacher, heads[1], chunk_size=options.chunk_size
        )
    loss.backward()
    seconds = time.perf_counter() - start
    peak = memory("VmHWM") - bare
    found = (student.grad, student_head.weight.grad, student_head.bias.grad)
    save_file(dict(zip(GRADIENTS, found, strict=True)), gradients)
    return {
        "way": way,
        "loss": loss.item(),
        "seconds": seconds,
        "peak_bytes": peak,
        "bare_bytes": bare,
    }


def in_new_process(way: str, options: argparse.Namespace, gradients: Path) -> dict:
    """What this script prints when it is called for one way."""
    command = [sys.executable, __file__, "--way", way, "--gradients", str(gradients)]
    for name in SIZES:
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(options: argparse.Namespace) -> None:
    """Both ways, one after the other, and how far their gradients are apart."""
    runs, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            gradients = Path(folder) / f"{way}.safetensors"
            runs.append(in_new_process(way, options, gradients))
            print(runs[-1], flush=True)
            found.append(load_file(gradients))
    plain, chunked = found
    # Largest difference, as a share of the largest gradient.
    difference = {
        name: (
            (plain[name] - chunked[name]).abs().max() / plain[name].abs().max()
        ).item()
        for name in GRADIENTS
    }
    print(difference)
    record = {"machine": environment()}
    record |= {name: getattr(options, name) for name in SIZES}
    record |= {"runs": runs, "gradient_difference": difference}
    save_results(options.output, record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--classes", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--chunk-size", type=int, default=256)
    parser.add_argument("--output", type=Path, default=RESULTS / "bench-chunked.json")
    parser.add_argument("--way", choices=WAYS, help="measure this one in this process")
    parser.add_argument("--gradients", type=Path, help="where --way stores them")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options, options.gradients)))
    else:
        main(options)
