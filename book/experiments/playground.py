"""The four networks of the page to play with, small enough to download.

    python book/experiments/playground.py

Takes chapter 4's stored teacher, trains its two students once, from seed 0, and stores
the weights of a layer in 8 bits where that keeps the number of test errors, else in
float32. So the page shows the counts of the networks as they were trained. The smallest
network of chapter 6 is copied as it is. About a minute on two CPU cores. What is there
and fits together is not made again.

Weights and playground.json go to book/_static/playground, from where the page loads
them. book/results/playground-logits.json has what PyTorch answers to the examples, for
tests of the page's own code. playground_fallback.py draws the picture for readers
without JavaScript.
"""

import base64
import hashlib
import itertools
from collections.abc import Collection

import safetensors.torch
import torch
from runlog import RESULTS
from torch import Tensor, nn

from kdutils import (
    MLP,
    DigitData,
    TrainConfig,
    count_errors,
    count_multiply_adds,
    count_parameters,
    distill,
    environment,
    fit,
    load_dataset,
    load_model,
    load_results,
    predict_logits,
    save_results,
)
from kdutils.results import ARCHITECTURES, write_atomically

FOLDER = RESULTS.parent / "_static" / "playground"
RECORD = FOLDER / "playground.json"
LOGITS = RESULTS / "playground-logits.json"
TEACHER = RESULTS / "mnist-teacher.safetensors"
TINY = RESULTS / "hinton-2015-smallest.safetensors"

# As chapter 4 chose them on validation. One seed, the first: not the best of several.
SEED, EPOCHS = 0, 10
LABELS_LR, DISTILL_LR = 0.2, 0.1
TEMPERATURE, SOFT_WEIGHT = 3.0, 1.0

NAMES = {
    "teacher": "Teacher",
    "distilled": "Distilled student",
    "labels": "Label-trained student",
    "tiny": "Tiny network",
}
DISAGREEMENTS = 6
RULE = (
    "the first validation image of each digit, then the first validation images for"
    " which the two students name different digits"
)
KINDS = {
    nn.Conv2d: "conv",
    nn.BatchNorm2d: "norm",
    nn.ReLU: "relu",
    nn.MaxPool2d: "maxpool",
    nn.AvgPool2d: "avgpool",
    nn.AdaptiveAvgPool2d: "mean",
    nn.Flatten: "flatten",
    nn.Linear: "linear",
}


def new_student() -> MLP:
    """Chapter 4's student, with the same initial weights each time."""
    torch.manual_seed(SEED)
    return MLP((128,))


def trained(key: str, data: DigitData) -> nn.Module:
    """One of the networks in float32: a stored one, or a student that learns now."""
    if key in ("teacher", "tiny"):
        return load_model({"teacher": TEACHER, "tiny": TINY}[key])
    student = new_student()
    lr = {"labels": LABELS_LR, "distilled": DISTILL_LR}[key]
    config = TrainConfig(epochs=EPOCHS, lr=lr, seed=SEED, device="cpu")
    if key == "labels":
        fit(student, data.train, data.val, config)
    else:
        weights = {"temperature": TEMPERATURE, "soft_weight": SOFT_WEIGHT}
        teacher = load_model(TEACHER)
        distill(student, teacher, data.train, data.val, config, **weights)
    return student


def quantised(model: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """The named weights as whole numbers, -127 to 127, and one scale for each output.

    A unit or channel of its own scale loses less than a layer with one scale for all.
    """
    stored = {}
    for name, tensor in model.state_dict().items():
        stored[name] = tensor
        if name in names:
            rows = tensor.flatten(start_dim=1)
            scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo().tiny)
            whole = (rows / scale[:, None]).round().to(torch.int8)
            stored[name] = whole.reshape(tensor.shape)
            stored[f"{name}.scale"] = scale
    return stored


def smallest(model: nn.Module, data: DigitData) -> bytes:
    """The smallest file with which the network makes as many test errors as before."""
    weights = {n: w for n, w in model.state_dict().items() if n.endswith(".weight")}
    choices = [
        set(chosen)
        for count in range(len(weights) + 1)
        for chosen in itertools.combinations(weights, count)
    ]
    choices.sort(key=lambda chosen: -sum(weights[n].numel() for n in chosen))
    errors = count_errors(model, data.test)
    for chosen in choices:  # the last, nothing in 8 bits, keeps the count in any case
        content = safetensors.torch.save(quantised(model, chosen))
        smaller = rebuilt(type(model).__name__, model.config, content)
        if count_errors(smaller, data.test) == errors:
            break
    return content


def rebuilt(architecture: str, config: dict, content: bytes) -> nn.Module:
    """The network as the page computes it, from the content of its file."""
    stored = safetensors.torch.load(content)
    weights = {}
    for name, tensor in stored.items():
        if tensor.dtype == torch.int8:
            scale = stored[f"{name}.scale"]
            tensor = tensor * scale.reshape(-1, *[1] * (tensor.dim() - 1))
        if not name.endswith(".scale"):
            weights[name] = tensor
    model = ARCHITECTURES[architecture](**config)
    model.load_state_dict(weights)
    return model.eval()


def restored(network: dict) -> nn.Module:
    """A network of the record, from its file."""
    content = (FOLDER / network["file"]).read_bytes()
    return rebuilt(network["architecture"], network["config"], content)


def layers(model: nn.Module) -> list[dict]:
    """What the page has to compute, in order; the names are those of the weights."""
    return [
        {"kind": KINDS[type(layer)], "name": name, **details(layer)}
        for name, layer in model.named_children()
    ]


def details(layer: nn.Module) -> dict:
    """What the weights of a layer do not tell."""
    if isinstance(layer, nn.Conv2d):
        return {"padding": layer.padding[0], "bias": layer.bias is not None}
    if isinstance(layer, nn.BatchNorm2d):
        return {"epsilon": layer.eps}
    return {}


def measured(key: str, model: nn.Module, data: DigitData) -> dict:
    """Store one network and describe it, with its errors before and after."""
    # The tiny one is small enough as it is: chapter 6's file, byte for byte.
    content = TINY.read_bytes() if key == "tiny" else smallest(model, data)
    kinds = safetensors.torch.load(content)
    float32 = {name: w.contiguous() for name, w in model.state_dict().items()}
    network = {
        "name": NAMES[key],
        "file": f"{key}.safetensors",
        "architecture": type(model).__name__,
        "config": model.config,
        "layers": layers(model),
        "int8": [n for n, tensor in kinds.items() if tensor.dtype == torch.int8],
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model),
        "bytes": len(content),
        "float32_bytes": len(safetensors.torch.save(float32)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(FOLDER / network["file"], content)
    splits = {"val_errors": data.val, "test_errors": data.test}
    if key == "tiny":  # chapter 6's last runs train on the validation images too
        network["trained_on_examples"] = True
        del splits["val_errors"]
    for name, split in splits.items():
        network[name] = {
            "float32": count_errors(model, split),
            "stored": count_errors(restored(network), split),
        }
    return network


def examples(networks: dict[str, dict], data: DigitData) -> list[dict]:
    """Validation images by RULE, each as 784 bytes of grey."""
    images, labels = data.val.images, data.val.labels
    answers = {
        key: predict_logits(restored(network), images).argmax(dim=1)
        for key, network in networks.items()
    }
    first = [int((labels == digit).nonzero()[0, 0]) for digit in range(10)]
    apart = (answers["distilled"] != answers["labels"]).nonzero()[:, 0].tolist()
    chosen = [(i, False) for i in first] + [(i, True) for i in apart[:DISAGREEMENTS]]
    return [
        {
            "validation_index": i,
            "label": int(labels[i]),
            "students_disagree": disagree,
            "pixels": base64.b64encode(as_bytes(images[i])).decode(),
        }
        for i, disagree in chosen
    ]


def as_bytes(image: Tensor) -> bytes:
    """Grey levels from 0 to 255, as MNIST stores them."""
    return (image * 255).round().to(torch.uint8).numpy().tobytes()


def fits(network: dict) -> bool:
    """Whether the file that the record describes is there."""
    path = FOLDER / network["file"]
    if not path.exists():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == network["sha256"]


def example_logits(record: dict) -> dict[str, list[list[float]]]:
    """What PyTorch answers to the examples, for each network."""
    pixels = [[*base64.b64decode(e["pixels"])] for e in record["examples"]]
    images = torch.tensor(pixels).float().div(255).reshape(-1, 1, 28, 28)
    return {
        key: [
            [round(z, 5) for z in row]
            for row in predict_logits(restored(network), images).tolist()
        ]
        for key, network in record["networks"].items()
    }


def measure(known: dict[str, dict]) -> None:
    """Train, quantise, count, and write weights and record; take what is known."""
    data = load_dataset("mnist")
    FOLDER.mkdir(exist_ok=True)
    networks = {}
    for key in NAMES:
        networks[key] = known.get(key) or measured(key, trained(key, data), data)
    teacher = load_results(TEACHER.with_suffix(".json"))["notes"]
    tiny = load_results(TINY.with_suffix(".json"))["notes"]["run"]
    record = {
        "networks": networks,
        "test_images": len(data.test),
        "settings": {
            "teacher_seed": teacher["seed"],
            "student_seed": SEED,
            "tiny_seed": tiny["seed"],
            "epochs": EPOCHS,
            "labels_lr": LABELS_LR,
            "distill_lr": DISTILL_LR,
            "temperature": TEMPERATURE,
            "soft_weight": SOFT_WEIGHT,
        },
        "example_rule": RULE,
        "examples": examples(networks, data),
        "environment": environment(),
    }
    save_results(RECORD, record)
    save_results(LOGITS, example_logits(record))


def main() -> None:
    """Make what is missing."""
    found = load_results(RECORD)["networks"] if RECORD.exists() else {}
    known = {key: network for key, network in found.items() if fits(network)}
    if known.keys() != NAMES.keys():
        measure(known)
    for key, network in load_results(RECORD)["networks"].items():
        print(f"{key}: {network['bytes']:,} bytes, errors {network['test_errors']}")


if __name__ == "__main__":
    main()
