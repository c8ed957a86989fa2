"""What mixed-logit training costs: its head against plain and stacked logits, its step against SFT.

    python benchmarks/wmss_step.py            full: half an hour on two cores; 20 GB of memory
    python benchmarks/wmss_step.py --quick    ends within 50 s
    python benchmarks/wmss_step.py --head 4096 256 64      memory alone: tokens, width, chunk

Head: V = 151,936 rows (Qwen), d = 2,560 on both sides, fp32. `stacked` holds both logits, their
stack and their mix, as a training script that stacks outputs does; `plain` is
`mixed_cross_entropy(chunk=None)`. Memory is the most that a process held beyond its inputs, each
way in a process of its own: with the heads fixed, so that it is the logits' own, and with the heads
trained, where their gradients (2 x 1.5 GiB, the result) come on top in all ways. Time is with heads
and hidden states of both sides trained.

Step: the whole update of one batch, ways interleaved, median. The same model is trained by SFT,
jointly, with a frozen weak model run live, and with the cached states of a frozen one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from _machine import describe  # noqa: E402

LAM = 0.5
MEMORY_SHARE, TIME_RATIO = 15, 1.15
STEP_LIMITS = {"joint": 2.05, "frozen": 1.35, "cached": 1.05}


# --- the head


def head_inputs(
    tokens: int, vocabulary: int, width: int, *, heads: bool = True
) -> list[torch.Tensor]:
    """Hidden states and heads of two models, on one scale with real ones."""
    gen = torch.Generator().manual_seed(0)
    shapes = [(tokens, width), (vocabulary, width)] * 2
    return [
        torch.randn(shape, generator=gen).mul_(width**-0.25).requires_grad_(heads or i % 2 == 0)
        for i, shape in enumerate(shapes)
    ]


def stacked(strong, strong_head, weak, weak_head, targets):
    """Both logits, stacked and summed with weights, then cross-entropy: the reference way."""
    logits = torch.stack([weak @ weak_head.T, strong @ strong_head.T])
    shares = torch.tensor([1 - LAM, LAM]).view(2, 1, 1)
    mixed = (logits * shares).sum(dim=0)
    return torch.nn.functional.cross_entropy(mixed.float(), targets, reduction="none")


def head_way(name: str, chunk: int):
    """A function of (four inputs, targets) to per-token losses."""
    from rekindle.ops.heads import Head
    from rekindle.ops.mixing import mixed_cross_entropy

    if name == "stacked":
        return stacked
    rows = None if name == "plain" else chunk
    return lambda strong, strong_head, weak, weak_head, targets: mixed_cross_entropy(
        strong, Head(strong_head), weak, Head(weak_head), targets, lam=LAM, chunk=rows
    )


def measure_memory(
    name: str, tokens: int, vocabulary: int, width: int, chunk: int, heads: int
) -> float:
    """MiB beyond the inputs at the peak of one forward and backward pass."""
    four = head_inputs(tokens, vocabulary, width, heads=bool(heads))
    targets = torch.randint(vocabulary, (tokens,))
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begin a new high-water mark
    head_way(name, chunk)(*four, targets).mean().backward()
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """A line of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def head_memory(
    tokens: int, vocabulary: int, width: int, chunk: int, *, heads: bool
) -> dict[str, float]:
    """Each way in a process of its own."""
    found = {}
    for name in ("stacked", "plain", "chunked"):
        numbers = (tokens, vocabulary, width, chunk, int(heads))
        words = [name, *map(str, numbers)]
        ran = subprocess.run(
            [sys.executable, __file__, "--memory", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        found[name] = float(ran.stdout.split()[-1])
    return found


def head_time(
    tokens: int, vocabulary: int, width: int, chunk: int, rounds: int
) -> dict[str, float]:
    """Median seconds of forward and backward, interleaved."""
    four = head_inputs(tokens, vocabulary, width)
    targets = torch.randint(vocabulary, (tokens,))
    seconds: dict[str, list[float]] = {"plain": [], "chunked": []}
    for _ in range(rounds):
        for name, times in seconds.items():
            for x in four:
                x.grad = None
            began = time.perf_counter()
            head_way(name, chunk)(*four, targets).mean().backward()
            times.append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


# --- the step

SHAPES = {
    # name -> Llama settings (vocabulary None: the tokenizer's own); None: the shipped model
    "testbed 0.16M": None,
    "6M, small vocabulary": {"hidden": 256, "layers": 6, "vocabulary": None},
    "11M, 16k vocabulary": {"hidden": 256, "layers": 8, "vocabulary": 16_000},
}


def make_policy(name: str, seed: int):
    """A policy of one of the shapes; larger ones have random weights."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from rekindle import testbed
    from rekindle.engine.config import ModelConfig
    from rekindle.engine.policy import Policy

    config = ModelConfig(name="testbed/addition-s0", device="cpu")
    shape = SHAPES[name]
    if shape is None:
        return Policy.load(config)
    tokenizer = AutoTokenizer.from_pretrained(testbed.resolve(config.name))
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape["vocabulary"] or len(tokenizer),
            hidden_size=shape["hidden"],
            intermediate_size=3 * shape["hidden"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=160,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return Policy.of(model, tokenizer, config)


def step_ways(name: str, problems: int, scratch: Path):
    """Way -> a function that takes one whole update."""
    from rekindle.engine.batch import count, pack
    from rekindle.engine.config import OptimConfig
    from rekindle.engine.device import Group, micro_tokens
    from rekindle.engine.update import fresh_state, update
    from rekindle.methods.sft import sft_objective
    from rekindle.methods.wmss.weak_model import CachedWeak, LiveWeak
    from rekindle.methods.wmss.wmss import mixed_objective
    from rekindle.tasks import load_task

    task = load_task(name="addition")
    asked = task.problems("train", count=problems, seed=0, levels=("5",))
    optim = OptimConfig(lr=1e-6, problems=problems)
    weak = make_policy(name, 1)
    ways = {}
    for way in ("sft", *STEP_LIMITS):
        policy = make_policy(name, 0)
        prompts = [policy.encode_prompt(p) for p in asked]
        answers = [policy.encode_completion(p, p.solution) for p in asked]
        batch = pack(prompts, answers, reduction="token", total=count(answers))
        models = {"policy": policy.model}
        if way == "sft":
            objective = sft_objective(policy)
        else:
            if way == "cached":
                side = CachedWeak.load_or_compute(
                    scratch / "states",
                    weak.frozen_copy(),
                    batch,
                    micro_tokens=micro_tokens(None, weak.device),
                    group=Group(),
                )
            else:
                side = LiveWeak.of(weak, frozen=way == "frozen")
            models |= side.models()
            objective = mixed_objective(policy, side, lam=LAM)
        state = fresh_state(models, optim)

        def take(state=state, batch=batch, objective=objective, policy=policy):
            update(
                state,
                batch.split(micro_tokens(None, policy.device)),
                objective,
                clip=1.0,
                group=Group(),
                device=policy.device,
            )

        ways[way] = take
    return ways


def step_times(name: str, problems: int, rounds: int) -> dict[str, float]:
    """Median seconds of each way, interleaved, one round to warm up."""
    with tempfile.TemporaryDirectory() as scratch:
        ways = step_ways(name, problems, Path(scratch))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(rounds + 1):
            for way, take in ways.items():
                began = time.perf_counter()
                take()
                if turn:
                    seconds[way].append(time.perf_counter() - began)
    return {way: statistics.median(times) for way, times in seconds.items()}


def main() -> None:
    """Print the figures and the JSON object."""
    if "--memory" in sys.argv:
        name, *numbers = sys.argv[sys.argv.index("--memory") + 1 :]
        print(measure_memory(name, *map(int, numbers)))
        return
    if "--head" in sys.argv:
        tokens, width, chunk = map(int, sys.argv[sys.argv.index("--head") + 1 :])
        memory = head_memory(tokens, 151_936, width, chunk, heads=False)
        shape = {"tokens": tokens, "vocabulary": 151_936, "width": width, "chunk": chunk}
        facts = {"head_memory_mib": memory, **shape, "machine": describe()}
        ratio = memory["stacked"] / memory["chunked"] / MEMORY_SHARE
        print(json.dumps({"benchmark": "wmss_head", "ratio_memory": ratio, **facts}))
        return
    quick = "--quick" in sys.argv
    tokens, vocabulary, width = (256, 20_000, 256) if quick else (1024, 151_936, 2560)
    chunk = 16 if quick else 64
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"head, {tokens} tokens x {vocabulary} x {width}, chunk {chunk}: MiB beyond the inputs")
    memory = {}
    for kind in ("fixed", "trained"):
        memory[kind] = head_memory(tokens, vocabulary, width, chunk, heads=kind == "trained")
        share = memory[kind]["stacked"] / memory[kind]["chunked"]
        said = ", ".join(f"{k} {v:.0f}" for k, v in memory[kind].items())
        print(f"  heads {kind}: {said}: 1/{share:.1f}")
    share = memory["fixed"]["stacked"] / memory["fixed"]["chunked"]
    timed = {}
    for rows in (64, 256):
        seconds = head_time(256, vocabulary, width, rows, 3)
        ratio = seconds["chunked"] / seconds["plain"]
        timed[rows] = {**seconds, "ratio": ratio}
        print(
            f"  chunk {rows}: plain {seconds['plain']:.2f} s, chunked {seconds['chunked']:.2f} s, "
            f"{ratio:.2f} times (at most {TIME_RATIO})"
        )
    torch.set_num_threads(1)
    steps = {}
    for name in list(SHAPES)[: 1 if quick else None]:
        seconds = step_times(name, 16 if quick else 64, 9 if quick else 15)
        ratios = {way: seconds[way] / seconds["sft"] for way in STEP_LIMITS}
        steps[name] = {"seconds": seconds, "ratios": ratios}
        said = ", ".join(f"{way} {r:.2f} (at most {STEP_LIMITS[way]})" for way, r in ratios.items())
        print(f"step of {name}, SFT {1000 * seconds['sft']:.0f} ms: {said}")
    worst = {way: max(s["ratios"][way] for s in steps.values()) for way in STEP_LIMITS}
    best_time = min(t["ratio"] for t in timed.values())
    print(
        json.dumps(
            {
                "benchmark": "wmss_step",
                "ratio_memory": share / MEMORY_SHARE,
                "ratio_time": TIME_RATIO / best_time,
                **{f"ratio_{way}": STEP_LIMITS[way] / worst[way] for way in STEP_LIMITS},
                "head_memory_mib": memory,
                "head_seconds": timed,
                "steps": steps,
                "machine": describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
