"""Pairs as the field writes them: TRL's columns, implicit prompts, UltraFeedback, HH-RLHF."""

import warnings
from collections import Counter
from pathlib import Path

import pytest
from test_formats import WRITERS, chat, jsonl

from rekindle.errors import DataError
from rekindle.tasks.pairs import each_pair, pairs_of_file, read_pairs
from rekindle.training.reward_data import read_contrasts


def said(text):
    return [{"role": "assistant", "content": text}]


USER = chat("Sky?")
FORMATS = {
    "TRL standard": ({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Green."}, None),
    "TRL conversational": (
        {"prompt": USER, "chosen": said("Blue."), "rejected": said("Green.")},
        1,
    ),
    "implicit, conversational": (
        {"chosen": USER + said("Blue."), "rejected": USER + said("Green.")},
        1,
    ),
    "UltraFeedback": (
        {
            "prompt": "Sky?",
            "prompt_id": "7",
            "chosen": USER + said("Blue."),
            "rejected": USER + said("Green."),
            "messages": USER + said("Blue."),
            "score_chosen": 8.5,
            "score_rejected": 4.0,
        },
        1,
    ),
    "a chat and texts": ({"prompt": USER, "chosen": "Blue.", "rejected": "Green."}, 1),
    "a text and messages": (
        {"prompt": "Sky?", "chosen": said("Blue."), "rejected": said("Green.")},
        None,
    ),
    "question": ({"question": "Sky?", "chosen": "Blue.", "rejected": "Green."}, None),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", FORMATS)
def test_columns_of_the_field(tmp_path, name, suffix):
    row, turns = FORMATS[name]
    WRITERS[suffix](tmp_path / f"p{suffix}", [row])
    [pair] = read_pairs(tmp_path / f"p{suffix}").pairs
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("Sky?", "Blue.", "Green.")
    assert len(pair.get("messages", ())) == (turns or 0)
    [contrast] = read_contrasts(tmp_path / f"p{suffix}")
    assert (contrast.problem.prompt, contrast.chosen) == ("Sky?", "Blue.")
    assert len(contrast.problem.messages or ()) == (turns or 0)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("The sky is blue.", "The sky is black.", "The sky is"),  # no word is cut
        (
            "\n\nHuman: Hi?\n\nAssistant: Yes, I am.",
            "\n\nHuman: Hi?\n\nAssistant: Yes, you are.",
            "\n\nHuman: Hi?\n\nAssistant:",
        ),
        (
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e",
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:",
        ),
    ],
)
def test_an_implicit_prompt_of_texts_is_how_both_begin(tmp_path, chosen, rejected, prompt):
    jsonl(tmp_path / "p.jsonl", [{"chosen": chosen, "rejected": rejected}])
    [pair] = read_pairs(tmp_path / "p.jsonl").pairs
    assert pair["prompt"] == prompt
    assert (prompt + pair["chosen"], prompt + pair["rejected"]) == (chosen, rejected)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "Blue.", "rejected": "Green."}, "p.jsonl:1 has no 'prompt'"),
        ({"chosen": "Blue", "rejected": "Black"}, "has no 'prompt'"),
        ({"chosen": said("a"), "rejected": said("b")}, "has no 'prompt'"),
        (
            {"chosen": USER + said("a"), "rejected": chat("Sea?") + said("b")},
            "part before the last",
        ),
        ({"chosen": USER, "rejected": USER + said("b")}, "'chosen' is not one answer"),
        (
            {"prompt": "Sea?", "chosen": USER + said("a"), "rejected": USER + said("b")},
            "there twice, and not the same",
        ),
        (
            {"question": "a", "instruction": "b", "chosen": "c", "rejected": "d"},
            "'question' or 'instruction'",
        ),
        ({"prompt": "a", "choosen": "c", "rejected": "d"}, "Did you mean 'choosen'"),
        ({"prompt": "a", "chosen": "\ud83d", "rejected": "d"}, "'chosen' has half of a character"),
    ],
)
def test_what_cannot_be_a_pair_is_named(tmp_path, row, words):
    jsonl(tmp_path / "p.jsonl", [row])
    for read in (read_pairs, read_contrasts):
        with pytest.raises(DataError, match=words):
            read(tmp_path / "p.jsonl")


def test_what_is_not_read_and_what_may_be_swapped_is_counted(tmp_path):
    row = FORMATS["UltraFeedback"][0]
    swapped = {**row, "score_chosen": 1.0}
    jsonl(tmp_path / "p.jsonl", [row, swapped])
    notes = read_pairs(tmp_path / "p.jsonl").notes
    assert notes == (
        "2 rows: chosen and rejected are whole conversations, the prompt is 'prompt'",
        "2 rows: not read: prompt_id, messages",
        "1 row: score_chosen is below score_rejected: the two may be swapped",
    )


def test_of_a_saved_dataset_train_is_read_and_other_splits_are_told(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    part = datasets.Dataset.from_list([FORMATS["TRL conversational"][0]] * 3)
    datasets.DatasetDict(train=part, test=part).save_to_disk(tmp_path / "saved")
    notes = Counter[str]()
    pairs = [pair for _, pair in each_pair(Path(tmp_path / "saved"), notes)]
    assert [pair["id"] for pair in pairs] == ["0", "1", "2"]
    assert notes["split test is not read"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pairs_of_file(tmp_path / "saved")) == 3
