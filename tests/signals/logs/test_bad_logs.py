"""Logs that are broken, unfinished or of other types: each is told, what can be said is said."""

import json
import os
import random
import shutil

import numpy as np
import pytest

from rekindle.errors import DataError, RekindleError
from rekindle.signals.logs.formats import open_log
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from signals.logs import test_nemo_rl, test_open_instruct, test_prime_rl, test_skyrl, test_verl

COLUMNS = {"score": "score", "text": "text", "prompt": "prompt", "step": "step"}


def rows(groups=8, size=4, **more):
    return [
        {"step": g // 4, "prompt": f"p{g}", "text": f"t {g} {i}", "score": float(i % 2), **more}
        for g in range(groups)
        for i in range(size)
    ]


def text_of(made):
    return "".join(json.dumps(row) + "\n" for row in made).encode()


def diagnose(path, content, name="log.jsonl"):
    content = content if isinstance(content, bytes) else text_of(content)
    (path / name).write_bytes(content)
    diagnosis = diagnose_log(path, columns=COLUMNS)
    json.dumps(diagnosis.as_dict()).encode()
    diagnosis.frame()
    repr(diagnosis).encode()
    return diagnosis


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty or not written to its end"),
        (b"\n \n", "has no whole row"),
        (b'{"score": 1, "te', "has no whole row"),
        (text_of([rows()]), "1 of its 1 lines are not JSON objects"),
        (bytes(range(256)) * 10, "lines are not JSON objects"),
        (b'{"score":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "lines are not JSON objects"),
    ],
    ids=["empty", "blank", "half a line", "an array", "bytes", "nested"],
)
def test_what_is_no_log_is_told(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        diagnose(tmp_path, content)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_empty_tables_are_told(tmp_path, name):
    with pytest.raises(DataError, match="empty or not written to its end"):
        diagnose(tmp_path, b"", name)


@pytest.mark.parametrize(
    "tail", [b'{"step": 9, "prompt": "p", "te', b"\x00" * 100, b'{"step": 9, "score": tru']
)
def test_the_half_line_of_a_run_that_goes_on_is_left_out(tmp_path, tail):
    diagnosis = diagnose(tmp_path, text_of(rows()) + tail)
    assert len(diagnosis.log) == 32
    assert "not written to its end" in diagnosis.not_told[0]


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\n\n"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_marks_and_line_ends_of_other_systems(tmp_path, before, end):
    assert len(diagnose(tmp_path, before + text_of(rows()).replace(b"\n", end)).log) == 32


def test_a_line_of_gigabytes_is_refused(tmp_path, monkeypatch):
    """It is not read to its end: the limit stands for 256 MB."""
    monkeypatch.setattr("rekindle.signals.logs.lines.LONGEST", 1000)
    with pytest.raises(DataError, match=r"log\.jsonl:33 is too long a line"):
        diagnose(tmp_path, [*rows(), *rows(1, 1, more="x" * 2000)])


def test_a_long_log_of_short_lines_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("rekindle.signals.logs.lines.LONGEST", 1000)
    assert len(diagnose(tmp_path, rows(50)).log) == 200


def test_half_a_pair_of_surrogates_is_replaced(tmp_path):
    content = text_of(rows()).replace(b"t 0 0", b"\\ud83d t")
    assert diagnose(tmp_path, content).log.texts[0] == "? t"


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("1", 1), (True, 1), ([0.5], 0.5), ("nan", None), ("yes", None), ([1, 2], None),
        ({"a": 1}, None), (None, None), (10**400, None), (float("inf"), None),
    ],
)  # fmt: skip
def test_scores_of_other_types(tmp_path, given, read):
    made = rows()
    made[0]["score"] = given
    found = diagnose(tmp_path, made).log.score_N[0]
    assert np.isnan(found) if read is None else found == read


def test_without_any_score_nothing_is_said_of_groups(tmp_path):
    diagnosis = diagnose(tmp_path, [{**row, "score": None} for row in rows()])
    assert diagnosis.cause is None
    assert np.isnan(diagnosis.share["all_wrong"].value)
    assert any("no row has a score" in sentence for sentence in diagnosis.not_told)


@pytest.mark.parametrize(("score", "kind"), [(0.0, "all_wrong"), (1.0, "all_right"), (0.5, "tied")])
def test_scores_that_are_all_equal(tmp_path, score, kind):
    diagnosis = diagnose(tmp_path, rows(20, score=score))
    made = {name: estimate.value for name, estimate in diagnosis.share.items()}
    assert made == {**dict.fromkeys(made, 0), kind: 1}


def test_without_groups_there_is_no_share_and_no_cause(tmp_path):
    diagnosis = diagnose(tmp_path, rows(20, 1))
    assert diagnosis.cause is None
    assert all(np.isnan(estimate.value) for estimate in diagnosis.share.values())
    assert any("no groups of two or more answers" in one for one in diagnosis.not_told)


@pytest.mark.parametrize("step", ["abc", 1.5, 2**70, None, [1, 2], -1])
def test_steps_that_are_no_steps(tmp_path, step):
    diagnosis = diagnose(tmp_path, rows(step=step))
    assert diagnosis.steps_logged == 0
    assert any("no steps" in sentence for sentence in diagnosis.not_told)


@pytest.mark.parametrize("text", [None, 5, ["a", 1], {"a": 1}, ""])
def test_texts_of_other_types(tmp_path, text):
    assert len(diagnose(tmp_path, rows(text=text)).log) == 32


def test_columns_that_come_and_go(tmp_path):
    diagnosis = diagnose(tmp_path, [*rows(), {"other": 1}, {"score": 1.0}])
    assert np.isnan(diagnosis.log.score_N).sum() == 1


def test_files_that_are_not_written_yet_are_left_out(tmp_path):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(rows())
    parquet.write_table(table, tmp_path / "a1.parquet")
    whole = (tmp_path / "a1.parquet").read_bytes()
    (tmp_path / "a2.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "a3.parquet").touch()
    log = diagnose_log(tmp_path, columns=COLUMNS)
    assert len(log.log) == 32
    assert "left out: 2 files" in log.not_told[0]


@pytest.mark.parametrize("columns", [None, COLUMNS])
@pytest.mark.parametrize("name", ["batch.pt", "batch.pkl", "training_args.bin"])
def test_pickles_are_named_and_never_loaded(tmp_path, columns, name):
    """Loading this one would make a directory."""
    made = tmp_path / "made"
    (tmp_path / name).write_bytes(b"cos\nmkdir\n(V" + os.fsencode(made) + b"\ntR.")
    with pytest.raises(DataError, match=f"(?s)pickles alone, which are never loaded.*{name}"):
        open_log(tmp_path, columns=columns)
    assert not made.exists()


def test_an_empty_directory_is_told(tmp_path):
    with pytest.raises(DataError, match="no file"):
        open_log(tmp_path)


def test_ragged_rows_of_a_csv(tmp_path):
    content = b"score,text,prompt,step\n1,a\n0,b,p,1,x,y\n1,\xe9\x00,p,1\n"
    assert len(diagnose(tmp_path, content, "a.csv").log) == 3


def test_a_log_of_two_versions_of_verl(tmp_path):
    """Rows with a uid and rows without: groups are by order in both."""
    old = [
        {"input": p, "output": f"{p}{i}", "gts": "1", "score": float(i)}
        for p in "ab"
        for i in (0, 1)
    ]
    new = [{**row, "uid": f"{row['input']}_{i}_0", "acc": 1} for i, row in enumerate(old)]
    for step, made in ((1, old), (2, new)):
        (tmp_path / f"{step}.jsonl").write_bytes(text_of([{**row, "step": step} for row in made]))
    diagnosis = diagnose_log(tmp_path)
    assert diagnosis.log.group_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# --- any value of another type

OTHERS = [
    None, "x", 1, -1.5, True, [], [1], [None], {}, {"a": 1}, [[1, 2]], ["a", [1]], 10**30, "",
    float("nan"), float("inf"), 1e308,
]  # fmt: skip


def altered(value, rng, chance):
    """The same with some of its values of other types, and some of its keys gone."""
    if rng.random() < chance:
        return rng.choice(OTHERS)
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if rng.random() > chance / 2}
        return {key: altered(inner, rng, chance) for key, inner in kept.items()}
    return [altered(one, rng, chance) for one in value] if isinstance(value, list) else value


def nemo(path):
    for step in (1, 2):
        columns = test_nemo_rl.batch(["a", "a", "b", "b"], [1, 0, 0, 1], sync=step == 2)
        test_nemo_rl.write_batch(path / f"train_data_step{step}.jsonl", columns)


def prime(path):
    shutil.copytree(test_prime_rl.RUN / "rollouts", path / "rollouts")


def open_instruct(path):
    test_open_instruct.write(path, [*test_open_instruct.step_of(1), *test_open_instruct.step_of(2)])


def verl(path):
    test_verl.write(path, 1, test_verl.group("a", [1.0, 0.0, 1.0], acc=1, uid="1_2_3"))
    test_verl.write(path, 2, test_verl.group("b", [1.0, 0.0, 1.0], acc=1))


def skyrl(path):
    test_skyrl.write(path, 5, [test_skyrl.entry("a", f"x{i}", [1.0, 0.0]) for i in range(4)])


def metrics(path):
    names = (
        "reward", "frac_reward_zero_std", "reward_std", "grad_norm", "learning_rate", "entropy",
        "completions/clipped_ratio", "critic/score/max", "critic/score/min", "num_gen_batches",
    )  # fmt: skip
    made = [{"step": step, **dict.fromkeys(names, 0.5)} for step in range(1, 20)]
    (path / "metrics.jsonl").write_bytes(text_of(made))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("write", [nemo, prime, open_instruct, verl, skyrl, metrics])
def test_values_of_other_types_are_told_or_passed_over(tmp_path, write, seed):
    """No traceback, in any known layout: it is read, or refused in a sentence."""
    rng = random.Random(seed)
    write(tmp_path)
    chance = (0.003, 0.02, 0.1)[seed % 3]
    for path in tmp_path.rglob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_bytes(text_of([altered(line, rng, chance) for line in lines]))
    try:
        diagnosis = diagnose_log(tmp_path)
    except RekindleError:
        return
    json.dumps(diagnosis.as_dict())
    repr(diagnosis)
    diagnosis.frame()
