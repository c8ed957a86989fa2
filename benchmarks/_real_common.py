"""What the rows of `real_models.py` share: models, prompts, clocks, and a row's form."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

SMOLLM, GEMMA = "smollm2-135m", "gemma3-270m"
PAD = "<|endoftext|>"  # of SmolLM2, whose own pad token is its end token
AGREE = 1e-5  # relative difference that losses and gradients of the two sides may have
_WORDS = [
    *("one", "two", "three", "and", "four", "five", "of", "six", "seven", "to", "eight"),
    *("nine", "in", "ten", "the", "number"),
]
_OPENINGS = ["Sum", "If", "The", "How many", "Maria has", "A train", "Each", "What is"]


@dataclass(frozen=True)
class Row:
    """A line of the table: `ratio` is ours / peer.

    Attributes:
        work: what is measured.
        ours, peer: of both sides, in `unit`; None: not measured, `note` says why.
        limit: what the ratio is to be at most; None: it is told, and no target.
        n: measurements of each side, of which the medians are given.
    """

    work: str
    unit: str
    ours: float | None
    peer: float | None
    ratio: float | None
    limit: float | None
    n: int
    note: str = ""

    def as_dict(self) -> dict[str, object]:
        """The row with `met`, whether the ratio is within the limit."""
        told = self.ratio is not None and self.limit is not None
        met = self.ratio <= self.limit if told else None
        return {**asdict(self), "met": met}


def compared(
    work: str, ours: list[float], peer: list[float], limit: float | None, *, note: str = ""
) -> Row:
    """A row of CPU seconds; the ratio is the median of the ratios of neighbours in time."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return Row(
        work,
        "CPU seconds",
        round(statistics.median(ours), 4),
        round(statistics.median(peer), 4),
        round(statistics.median(ratios), 3),
        limit,
        len(ours),
        note or f"ratios {min(ratios):.3f} to {max(ratios):.3f}",
    )


def alternate(
    ours: Callable[[int], object], peer: Callable[[int], object], n: int
) -> tuple[list[float], list[float]]:
    """CPU seconds of `n` calls of each side, in turns, after one of each that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(n + 1):
        for side, run in ((1, peer), (0, ours)):
            began = time.process_time()
            run(turn)
            times[side].append(time.process_time() - began)
    return times[0][1:], times[1][1:]


def model_directory(name: str, models: Path | None) -> Path:
    """Where a fetched model lies: `models/name`, or the cache of `rekindle testbed fetch`."""
    from rekindle import testbed

    return testbed.resolve(f"testbed/{name}") if models is None else models / name


def texts(source: Path, count: int, tokens: int, *, first: int = 0) -> list[str]:
    """Texts of exactly so many tokens each, all different."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    found = []
    for number in range(first, first + count):
        text, word = f"{_OPENINGS[number % len(_OPENINGS)]} {number}", number
        while (length := len(tokenizer(text)["input_ids"])) < tokens:
            text, word = f"{text} {_WORDS[word % len(_WORDS)]}", word + 1
        if length != tokens:
            raise SystemExit(f"no text of {tokens} tokens: {length} of {text!r}")
        found.append(text)
    return found


def problems_of(prompts: Iterable[str]) -> list:
    """Problems with these texts as prompts."""
    from rekindle.records import Problem

    return [Problem(id=f"p{i}", prompt=prompt) for i, prompt in enumerate(prompts)]


def endless_policy(source: Path, dtype: str = "float32"):
    """The model without an end token: answers are as long as the limit."""
    import dataclasses

    from rekindle.engine.config import ModelConfig
    from rekindle.engine.policy import Policy

    config = ModelConfig(
        name=str(source), dtype=dtype, device="cpu", chat_template="never", pad_token=PAD
    )
    return dataclasses.replace(Policy.load(config), eos_ids=())


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the gradients, by the parameters' names."""
    found = {name: p.grad for name, p in model.named_parameters()}
    return {name: grad.detach().clone() for name, grad in found.items() if grad is not None}


def closeness(
    losses: tuple[float, float], ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]
) -> tuple[float, float]:
    """Relative difference of both sides' losses and gradients."""
    missing = set(theirs) ^ set(ours)
    if missing:
        raise SystemExit(f"only one side has gradients of {sorted(missing)[:3]}")
    apart = sum(float((ours[name] - theirs[name]).double().square().sum()) for name in ours)
    size = sum(float(grad.double().square().sum()) for grad in theirs.values())
    return abs(losses[0] - losses[1]) / max(1.0, abs(losses[1])), (apart / size) ** 0.5


def check_equal(what: str, loss: float, gradient: float, dtype: str = "float64") -> str:
    """Stop unless loss and gradient of both sides are equal; says how close they are.

    In fp32 plain transformers is 3e-4 away from its own fp64 gradient here (SmolLM2's activations
    reach 23,000): there, 1e-3 is asked of the gradient, and 1e-5 in fp64.
    """
    if not (loss <= AGREE and gradient <= (AGREE if dtype == "float64" else 1e-3)):
        raise SystemExit(f"{what}: loss differs by {loss:.1e}, gradient by {gradient:.1e}")
    return f"in {dtype} loss within {loss:.0e}, gradient within {gradient:.0e}"


def resident(what: str = "VmHWM") -> float:
    """Bytes of this process: VmRSS now, VmHWM at most since it began or `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(what)).split()[1]) * 1024


def forget_peak() -> None:
    """Begin a new high-water mark of resident memory."""
    Path("/proc/self/clear_refs").write_text("5")
