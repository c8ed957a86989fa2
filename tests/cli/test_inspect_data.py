"""`rekindle inspect-data`: how data is read, what is left out, and which tokens carry loss."""

import json

import pytest
from transformers import AutoTokenizer

import tiny

TEMPLATE = (
    "{% for m in messages %}{{ m['role'][0] + m['content'].strip() + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'a' }}{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("chat")
    tiny.policy().save(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    return str(directory)


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def turns(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]


def test_conversations_show_which_turn_carries_loss(rekindle, model, tmp_path):
    rows = [{"messages": turns(f"{i}1", "2", "3", "4"), "extra": 1} for i in range(9)]
    path = write(tmp_path / "d.jsonl", *rows)
    code, out, err = rekindle("inspect-data", "--task", path, "--model", model, "--count", "1")
    assert code == 0, err
    assert "assistant: 2" in out
    assert "assistant (loss): 4" in out
    assert "9 rows: not read: extra" in out
    code, out, err = rekindle(
        "inspect-data", "--task", path, "--model", model, "--count", "1", "--json"
    )
    assert code == 0, err
    view = json.loads(out)
    assert [turn["loss"] for turn in view["rows"][0]["turns"]] == [False, False, False, True]
    assert sum(view["splits"].values()) == 9
    assert view["with_solution"] == view["splits"]["train"]
    assert view["golds"]["unmatched"] == []


def test_pairs_that_the_template_makes_equal_are_counted_and_named(rekindle, model, tmp_path):
    pairs = [
        {"id": "a", "prompt": "1", "chosen": "2", "rejected": "3"},
        {"id": "b", "prompt": "1", "chosen": "2", "rejected": "2\n"},
        {"id": "c", "prompt": "1", "chosen": "2", "rejected": "2"},
    ]
    path = write(tmp_path / "p.jsonl", *pairs)
    code, out, err = rekindle("inspect-data", "--pairs", path, "--model", model)
    assert code == 0, err
    assert "left out: 1: chosen is rejected\n" in out
    assert "left out: 1: chosen is rejected after the chat template and tokenizer (b)" in out
    code, out, err = rekindle("inspect-data", "--pairs", path, "--model", model, "--json")
    view = json.loads(out)
    assert [(pair["id"], pair["same"]) for pair in view["pairs"]] == [("a", False), ("b", True)]
    assert sum(view["left_out"].values()) == 2


def test_one_of_task_and_pairs_is_needed(rekindle, tmp_path):
    for options in ([], ["--task", "chain", "--pairs", tmp_path / "p.jsonl"]):
        code, _, err = rekindle("inspect-data", *options)
        assert code == 2
        assert "needs --task or --pairs" in err
