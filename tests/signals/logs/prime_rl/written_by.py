"""Writes the files beside it with verifiers' own classes: `pip install verifiers==0.4.0` first.

As prime-rl's file monitor does (559b44772, `monitors/file.py`): an episode goes into
`all/traces.jsonl` of the batch that is being collected when it arrives, before it has advantages,
and into `effective/traces.jsonl` of the batch that is trained on, where its group is admitted.
"""

import json
import shutil
import sys
from pathlib import Path

import verifiers.v1 as vf
from verifiers.v1.configs.agent import WireAgentConfig
from verifiers.v1.episode import EnvInfo, EvalWorkInfo, GroupInfo, TrainRunInfo, TrainWorkInfo
from verifiers.v1.graph import MessageNode
from verifiers.v1.task import WireTaskData
from verifiers.v1.trace import AgentInfo, Error, ModelCall, Reward, Trace, TraceTask
from verifiers.v1.types import AssistantMessage, Usage, UserMessage

HERE = Path(__file__).parent


def write(episode, step, kind, subset):
    path = HERE / "rollouts" / f"step_{step + 1}" / kind / subset / "traces.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(episode.to_record(), separators=(",", ":"), default=str) + "\n")


def task_of(prompt):
    data = WireTaskData(idx=len(prompt), prompt=prompt, answer="7")
    return TraceTask(type="MathTask", data=data, key=prompt, hash=prompt)


def nodes_of(prompt, text, logprobs):
    asked, said = [11, 12, 13], list(range(100, 100 + len(logprobs)))
    return [
        MessageNode(message=UserMessage(content=prompt), token_ids=asked, mask=[False] * 3),
        MessageNode(
            parent=0,
            message=AssistantMessage(content=text),
            sampled=True,
            token_ids=[14, *said],
            mask=[False] + [True] * len(said),
            logprobs=logprobs,
        ),
    ]


def trace_of(prompt, text, rewards, *, cut=False, agent="solver", logprobs=(-0.5, -0.25)):
    usage = Usage(prompt_tokens=3, completion_tokens=len(logprobs))
    reason = "length" if cut else "stop"
    return Trace(
        task=task_of(prompt),
        agent=AgentInfo(config=WireAgentConfig(), name=agent, trainable=agent == "solver"),
        nodes=nodes_of(prompt, text, list(logprobs)),
        calls=[ModelCall(node=1, model="m", finish_reason=reason, usage=usage)],
        rewards=rewards,
        metrics={"num_turns": 1.0},
        is_completed=True,
        ok=True,
        stop_condition="agent_completed",
    )


def episode_of(prompt, group, traces, *, step, kind="train", ok=True, errors=()):
    work = TrainWorkInfo(step=step + 1) if kind == "train" else EvalWorkInfo(step=step + 1)
    return vf.Episode(
        env=EnvInfo(id="math", name="math"),
        task=task_of(prompt),
        group=GroupInfo(id=group),
        run=TrainRunInfo(id="run", work=work),
        ok=ok,
        errors=list(errors),
        traces=list(traces),
    )


def rewards_of(right, length):
    """`correct` counts once, `brevity` a tenth, `seen` is only logged."""
    return {
        "correct": Reward(score=right),
        "brevity": Reward(score=length, weight=0.1),
        "seen": Reward(score=5.0, weight=0.0),
    }


def main():
    shutil.rmtree(HERE / "rollouts", ignore_errors=True)
    groups = {
        "a": [1.0, 0.0, 1.0, 0.0],  # arrives in two batch windows
        "b": [0.0, 0.0, 0.0, 0.0],  # rejected: no advantage
        "c": [1.0, 1.0, 1.0, 0.0],  # one of them failed
    }
    made = {
        (name, i): episode_of(
            f"What is {name}?",
            f"group-{name}",
            [
                trace_of(
                    f"What is {name}?",
                    f"{name} answer {i}",
                    rewards_of(right, 0.5),
                    cut=name == "b" and i == 0,
                )
            ],
            step=0,
        )
        for name, scores in groups.items()
        for i, right in enumerate(scores)
    }
    failed = made["c", 3]
    failed.ok, failed.errors = False, [Error(type="SandboxError", message="gone")]
    failed.traces[0].rewards = {"correct": Reward(score=1.0), "brevity": None, "seen": None}
    failed.traces[0].ok = False
    gone = episode_of(
        "What is c?", "group-c", [], step=0, ok=False,
        errors=[Error(type="TimeoutError", message="no trace")],
    )  # fmt: skip
    order = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("b", 3)]
    for key in order:  # groups arrive as they end, not in order
        write(made[key], 0, "train", "all")
    for key in [("a", 3), ("c", 0), ("c", 1), ("c", 2), ("c", 3)]:
        write(made[key], 1, "train", "all")
    write(gone, 1, "train", "all")
    for (name, _), episode in made.items():  # advantages come when the group is whole
        whole = [e for key, e in made.items() if key[0] == name]
        scores = [trace.reward for e in whole for trace in e.traces if trace.ok]
        for trace in episode.traces:
            mean = sum(scores) / len(scores)
            trace.nodes[1].advantages = [trace.reward - mean] * 2
    for i in range(4):
        write(made["a", i], 1, "train", "effective")
    for i in range(3):
        write(made["c", i], 1, "train", "effective")
    judge = {"agreed": Reward(score=1.0)}
    both = episode_of(
        "What is d?",
        "group-d",
        [
            trace_of("What is d?", "d answer", rewards_of(1.0, 0.0), logprobs=(-1e-6, -2e-6)),
            trace_of("What is d?", "d judged", judge, agent="judge"),
        ],
        step=1,
    )
    write(both, 2, "train", "all")
    for i, right in enumerate((1.0, 0.0)):
        asked = [trace_of("Eval?", f"eval answer {i}", rewards_of(right, 0.0))]
        write(episode_of("Eval?", "eval", asked, step=2, kind="eval"), 2, "eval", "all")


if __name__ == "__main__":
    sys.exit(main())
