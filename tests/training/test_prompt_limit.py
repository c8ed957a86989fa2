"""`task.max_prompt_tokens`: long prompts are refused by their row, or left out and counted."""

import json

import pytest

import tiny
from rekindle.engine.config import ModelConfig, SampleConfig, TaskConfig
from rekindle.engine.prompt_limit import PromptLimit
from rekindle.errors import ConfigError, DataError, PromptTooLongError, RunDirectoryError
from rekindle.files import read_json, read_jsonl
from rekindle.records import Problem
from rekindle.signals.diagnose import diagnose
from rekindle.training.dry_run.architecture import Architecture
from rekindle.training.dry_run.data import measure_lengths
from rekindle.training.evaluation import evaluate
from rekindle.training.recipe import recipe_of
from rekindle.training.train import train

SHORT, LONG = 10, 30  # characters of prompts; a token each, and one more for <bos>
SPLITS = ("train", "dev", "test")


def rows(lengths, start=0):
    return [
        {
            "id": f"p{start + i}",
            "prompt": f"{start + i:0{length - 1}}=",
            "answer": str(i % 5),
            "solution": str(i % 5),
        }
        for i, length in enumerate(lengths)
    ]


def write(path, listed):
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


def directory(place, lengths=None):
    """Data of six rows a split, all short but where `lengths` say otherwise."""
    place.mkdir()
    for at, split in enumerate(SPLITS):
        sizes = (lengths or {}).get(split, [SHORT] * 6)
        write(place / f"{split}.jsonl", rows(sizes, start=100 * at))
    return place


def recipe(base, task, method="sft", *, sample=None, problems=2, **own):
    return {
        "method": method,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "task": {"name": str(task), "max_prompt_tokens": SHORT + 1, **own},
        "sample": {"max_new_tokens": 4, **(sample or {})},
        "optim": {"steps": 2, "problems": problems},
        "eval": {"problems": 4, "samples": 2},
    }


def numbers(out):
    """What a run computed, without its times."""
    kept = [
        {name: value for name, value in row.items() if not name.startswith("time")}
        for _, row in read_jsonl(out / "metrics.jsonl")
    ]
    return kept, read_json(out / "eval.json")["outcomes"]


def limit(tokens=None, drops="error", *, context=64, new=4, tok=None):
    policy = tiny.policy(tok=tok)
    policy.context = context
    task = TaskConfig(max_prompt_tokens=tokens, long_prompts=drops)
    return PromptLimit.of(policy, task, SampleConfig(max_new_tokens=new))


# --- the limit


@pytest.mark.parametrize(
    ("tokens", "context", "new", "most"),
    [(11, 64, 4, 11), (60, 64, 4, 60), (61, 64, 4, 60), (None, 64, 4, 60), (None, 64, 63, 1)],
)
def test_a_whole_answer_fits_behind_the_longest_prompt(tokens, context, new, most):
    bound = limit(tokens, "drop", context=context, new=new)
    for length, kept in ((most, True), (most + 1, False), (context + 9, False)):
        assert bound.is_kept(Problem(id="p", prompt="1" * (length - 1))) is kept


def test_an_answer_as_long_as_the_context_leaves_no_prompt():
    with pytest.raises(ConfigError, match=r"max_new_tokens leaves no room(.|\n)*64, of a context"):
        limit(11, new=64)


def test_without_the_settings_there_is_no_limit():
    assert limit() is None


def test_tokens_of_the_chat_template_count():
    tok = tiny.tokenizer(bos=False)
    tok.chat_template = tiny.CHAT_TEMPLATE  # u:...;a: is five more
    bound = limit(15, tok=tok)
    assert bound.is_kept(Problem(id="p", prompt="1" * 10))
    with pytest.raises(PromptTooLongError, match=r"16 tokens(.|\n)*at most 15"):
        bound.is_kept(Problem(id="p", prompt="1" * 11))


# --- training


@pytest.mark.parametrize("split", SPLITS)
def test_a_long_prompt_is_refused_by_its_row_before_anything_is_written(base, tmp_path, split):
    data = directory(tmp_path / "data", {split: [SHORT, SHORT, LONG, SHORT]})
    words = rf"{split}.jsonl:3: the prompt of .* is too long(.|\n)*31 tokens(.|\n)*at most 11"
    with pytest.raises(PromptTooLongError, match=words):
        train(recipe(base, data), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    train(recipe(base, data, max_prompt_tokens=LONG + 1), tmp_path / "run", quiet=True)


def test_what_is_left_out_is_told_and_the_rest_is_trained_as_if_it_were_all(base, tmp_path, capsys):
    uneven = {"train": [SHORT, LONG, SHORT, SHORT], "dev": [LONG, SHORT, SHORT]}
    long = directory(tmp_path / "long", uneven)
    short = directory(tmp_path / "short", uneven)
    for split in uneven:
        path = short / f"{split}.jsonl"
        write(path, [row for _, row in read_jsonl(path) if len(row["prompt"]) == SHORT])
    train(recipe(base, long, long_prompts="drop"), tmp_path / "a")
    said = capsys.readouterr().err
    train(recipe(base, short), tmp_path / "b", quiet=True)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    manifest = read_json(tmp_path / "a" / "manifest.json")
    for split, size in (("train", 4), ("dev", 3)):
        told = f"{split} problems: 1 of {size} left out, with prompts of more than 11 tokens"
        assert told in said
        for key in ("data", "remarks"):
            assert any(told in sentence for sentence in manifest[key])


def test_a_prompt_that_leaves_no_room_for_an_answer_is_one_that_is_too_long(base, tmp_path):
    data = directory(tmp_path / "data", {"train": [SHORT] * 4 + [45]})
    own = {"max_prompt_tokens": None, "long_prompts": "drop"}
    for new, left in ((18, None), (19, "the context of 64 less sample.max_new_tokens")):
        out = tmp_path / f"new-{new}"
        train(recipe(base, data, sample={"max_new_tokens": new}, **own), out, quiet=True)
        remarks = read_json(out / "manifest.json").get("remarks", [])
        assert (left is None and not remarks) or left in remarks[0]


@pytest.mark.parametrize(
    ("lengths", "problems", "words"),
    [
        ({"dev": [LONG, LONG]}, 2, r"few dev problems are left(.|\n)*2 of 2 left out"),
        (
            {"train": [SHORT, LONG, LONG]},
            2,
            r"few train problems are left(.|\n)*at least 2, a step",
        ),
        ({"train": [SHORT, SHORT, LONG]}, 2, None),
        ({"train": [SHORT, SHORT, LONG]}, 4, None),  # there were fewer than a step's before
    ],
)
def test_a_split_that_becomes_too_small_is_refused(base, tmp_path, lengths, problems, words):
    data = directory(tmp_path / "data", lengths)
    asked = recipe(base, data, problems=problems, long_prompts="drop")
    if words is None:
        train(asked, tmp_path / "run", quiet=True)
        return
    with pytest.raises(DataError, match=words):
        train(asked, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_generated_problem_that_is_too_long_is_refused(base, tmp_path):
    for tokens, fits in ((50, True), (3, False)):
        asked = recipe(base, "chain", "grpo", max_prompt_tokens=tokens, long_prompts="drop")
        asked |= {"grpo": {"group_size": 2}}
        if fits:
            train(asked, tmp_path / "run", quiet=True)
        else:
            with pytest.raises(PromptTooLongError, match="the prompt of problem 'chain-"):
                train(asked, tmp_path / "other", quiet=True)


def test_a_run_goes_on_under_the_same_limit_alone(base, tmp_path):
    data = directory(tmp_path / "data")
    train(recipe(base, data), tmp_path / "run", quiet=True)
    other = recipe(base, data, max_prompt_tokens=LONG)
    with pytest.raises(RunDirectoryError, match="max_prompt_tokens"):
        train(other, tmp_path / "run", mode="resume", quiet=True)


# --- pairs


def pair(i, length):
    return {"id": str(i), "prompt": f"{i:0{length - 1}}=", "chosen": "1", "rejected": "2"}


def on_pairs(base, tmp_path, name, lengths, **own):
    path = write(tmp_path / f"{name}.jsonl", [pair(i, n) for i, n in lengths])
    asked = recipe(base, directory(tmp_path / name), "dpo", **own)
    return {**asked, "dpo": {"pairs": str(path)}}


@pytest.mark.filterwarnings("ignore:pairs")
def test_pairs_are_within_the_limit_as_problems_are(base, tmp_path):
    lengths = list(enumerate([SHORT, LONG, SHORT, SHORT]))
    refused = on_pairs(base, tmp_path, "refused", lengths)
    with pytest.raises(PromptTooLongError, match=r"refused.jsonl:2: .*(.|\n)*31 tokens"):
        train(refused, tmp_path / "run", quiet=True)
    few = on_pairs(base, tmp_path, "few", lengths[:2], long_prompts="drop")
    with pytest.raises(DataError, match=r"few pairs are left(.|\n)*1 of 2 left out"):
        train(few, tmp_path / "run-few", quiet=True)
    dropped = on_pairs(base, tmp_path, "dropped", lengths, long_prompts="drop")
    train(dropped, tmp_path / "a", quiet=True)
    train(on_pairs(base, tmp_path, "short", [lengths[i] for i in (0, 2, 3)]), tmp_path / "b")
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    remarks = read_json(tmp_path / "a" / "manifest.json")["remarks"]
    assert any("pairs: 1 of 4 left out" in sentence for sentence in remarks)


# --- what is not training

SETTINGS = ["model.device=cpu", "model.dtype=float64", "sample.max_new_tokens=4"]
TOKENS, DROP = f"task.max_prompt_tokens={SHORT + 1}", "task.long_prompts=drop"


@pytest.fixture
def uneven(tmp_path):
    lengths = [SHORT, LONG, SHORT, SHORT]
    return directory(tmp_path / "data", dict.fromkeys(SPLITS, lengths))


def test_an_evaluation_asks_no_long_prompt_of_its_split(base, uneven, capsys):
    settings = [*SETTINGS, TOKENS]
    with pytest.raises(PromptTooLongError, match=r"test.jsonl:2"):
        evaluate(base, uneven, samples=2, overrides=settings)
    result = evaluate(base, uneven, samples=2, overrides=[*settings, DROP])
    assert [p["id"] for p in result["problems"]].count("p201") == 0
    assert result["n_problems"] == 3
    assert "test problems: 1 of 4 left out" in capsys.readouterr().err


def test_a_diagnosis_asks_no_long_prompt(base, uneven, tmp_path, capsys):
    pairs = write(tmp_path / "pairs.jsonl", [pair(i, SHORT + 20 * (i == 1)) for i in range(4)])
    asked = {"pairs": pairs, "signals": ("groups", "pairs"), "problems": 4, "samples": 2}
    with pytest.raises(PromptTooLongError, match=r"train.jsonl:2"):
        diagnose(str(base), uneven, overrides=[*SETTINGS, TOKENS], **asked)
    with pytest.warns(UserWarning, match="pairs: 1 of 4 left out"):
        diagnose(str(base), uneven, overrides=[*SETTINGS, TOKENS, DROP], **asked)
    assert "train problems: 1 of 4 left out" in capsys.readouterr().err


def test_data_is_shown_as_it_would_be_trained_on(base, uneven, rekindle):
    words = ("inspect-data", "--task", uneven, "--model", base, "--count", "4", "--json")
    sets = [word for one in (*SETTINGS, TOKENS) for word in ("--set", one)]
    assert rekindle(*words, *sets)[0] == 2
    code, out, _ = rekindle(*words, *sets, "--set", DROP)
    shown = json.loads(out)
    assert (code, shown["splits"]["train"], len(shown["rows"])) == (0, 3, 3)
    assert any("1 of 4 left out" in note for note in shown["notes"])


def test_a_dry_run_takes_the_prompts_that_are_trained_on(base, uneven, tmp_path):
    model = Architecture.read(ModelConfig(name=str(base), device="cpu"))
    pairs = write(tmp_path / "pairs.jsonl", [pair(i, SHORT + 20 * (i == 1)) for i in range(4)])

    def lengths(task, **own):
        asked = recipe_of(recipe(base, task, **own))
        return measure_lengths(asked, model, prompt_tokens=None, pairs=str(pairs))

    with pytest.raises(PromptTooLongError, match=r"train.jsonl:2"):
        lengths(uneven)
    with pytest.warns(UserWarning, match="pairs: 1 of 4 left out"):
        dropped = lengths(uneven, long_prompts="drop")
    whole = lengths(uneven, max_prompt_tokens=None)
    assert set(dropped.prompts) == {prompt for prompt, _, _ in dropped.pairs} == {SHORT + 1}
    assert set(whole.prompts) == {SHORT + 1, LONG + 1}
    assert any("1 of 4 left out" in sentence for sentence in dropped.assumed)
    absent = lengths(tmp_path / "none.jsonl", max_prompt_tokens=40)
    assert absent.prompts == [40]


def test_a_reward_model_has_no_such_limit(uneven, base, tmp_path, rekindle):
    words = ("reward", "train", "--model", base, "--task", uneven, "--out", tmp_path / "rm")
    code, _, err = rekindle(*words, "--set", TOKENS)
    assert (code, (tmp_path / "rm").exists()) == (2, False)
    assert "task.max_prompt_tokens and task.long_prompts have no effect here" in err
