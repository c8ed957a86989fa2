"""Evaluations written by hand: what a run has to leave behind for a study to read."""

RIGHT = {0: [1, 0, 1, 1, 0, 1, 0, 1], 1: [1, 1, 0, 1, 1, 0, 1, 1]}
BASES = ("base-0", "base-1", "base-2")


def evaluation(right, ids=None, **more):
    names = ids or [f"p{i}" for i in range(len(right))]
    return {
        "task": "toy", "split": "dev", "n_samples": 1, "metrics": {"pass@1": {}}, "levels": {},
        "problems": [{"id": name, "level": ""} for name in names],
        "outcomes": [[x] for x in right], **more,
    }  # fmt: skip


def usual(arm, base, seed):
    return evaluation(RIGHT[int(arm == "b")])
