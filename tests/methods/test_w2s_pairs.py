"""Stage I's filter and stage II's pairs, by hand-worked examples and by what must hold for all."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekindle.errors import DataError
from rekindle.methods.weak_to_strong import weak_to_strong
from rekindle.methods.weak_to_strong.pairs import (
    Answer,
    at_least,
    read_answer,
    read_question,
    vote,
)
from rekindle.methods.weak_to_strong.weak_to_strong import Config, consistent, explain_pairs


def rows(*answers, side="weak"):
    return [
        {"id": i, "prompt": f"q{i}", "text": f"{side} {i} {a}", "answer": a}
        for i, a in enumerate(answers)
    ]


def question(weak, *samples, name="q"):
    """Each text is its answer and its place, so that no two are the same."""
    return {
        "id": name,
        "prompt": "asked",
        "weak": {"text": f"weak {weak}", "answer": weak},
        "samples": [{"text": f"{a} #{i}", "answer": a} for i, a in enumerate(samples)],
    }


def make_pairs(row, *, equality="canonical", **settings):
    return weak_to_strong.make_pairs(read_question(row, equality=equality), **settings)


def kept_by(side, found):
    return [row for row in found.hybrid if row["side"] == side]


MOST = ["4.2"] * 8 + ["4", ""]

# --- stage I


def test_the_filter_keeps_answers_that_agree():
    found = consistent(rows("72", "5", "", "10"), rows("72", "6", "", "10", side="icl"))
    assert (
        [row["id"] for row in kept_by("weak", found)]
        == [row["id"] for row in kept_by("icl", found)]
        == [0, 3]
    )
    assert [row["text"] for row in found.hybrid] == [
        "weak 0 72",
        "icl 0 72",
        "weak 3 10",
        "icl 3 10",
    ]
    assert [row["side"] for row in found.hybrid] == ["weak", "icl"] * 2
    assert found.dropped == {"the answers differ": 1, "the weak model gives no answer": 1}


def test_answers_agree_by_value_not_by_text():
    found = consistent(rows("72.0", "1,000", "1/2", "74,39"), rows("$72", "1000", "0.5", "7439"))
    assert [row["id"] for row in kept_by("weak", found)] == [0, 1, 2]


def test_strict_answers_agree_as_they_are_written():
    ours, theirs = rows("72.0", " 5  m", "74,39", ""), rows("72", "5 m", "7439", "")
    assert [row["id"] for row in kept_by("weak", consistent(ours, theirs, equality="strict"))] == [
        1
    ]
    made = make_pairs(question("4.20", *["4.2"] * 10), equality="strict").pairs
    assert [pair["weak_side"] for pair in made] == ["rejected"]
    assert make_pairs(question("4.20", *["4.2"] * 10)).reason == "too easy"


def test_what_is_kept_is_filled_up_with_answers_that_differ():
    ours = rows("1", "2", "3", "4", "", "6")
    theirs = rows("1", "9", "9", "9", "9", "", side="icl")
    found = consistent(ours, theirs, pad_to=3, seed=1)
    ids = [row["id"] for row in kept_by("weak", found)]
    assert ids[0] == 0
    assert len(ids) == 3
    assert set(ids[1:]) <= {1, 2, 3}, "both models must have an answer"
    assert found.dropped["the answers differ"] == 2
    assert len(ids) + found.dropped.total() == 6
    assert found == consistent(ours, theirs, pad_to=3, seed=1)
    others = {
        tuple(r["id"] for r in kept_by("weak", consistent(ours, theirs, pad_to=3, seed=s)))
        for s in range(9)
    }
    assert len(others) > 1
    assert len(kept_by("weak", consistent(ours, theirs, pad_to=99))) == 4, "there are no more"
    assert len(kept_by("weak", consistent(ours, theirs, pad_to=1))) == 1


def test_texts_without_an_answer_need_not_be_rejected():
    agreed = question("4.2", *["4.2"] * 8, "", "")
    assert make_pairs(agreed).pairs[0]["rejected"] in (" #8", " #9")
    assert make_pairs(agreed, unreadable=False).reason == "too easy"
    silent = question("", *["4.2"] * 10)
    assert make_pairs(silent).pairs[0]["weak_side"] == "rejected"
    assert make_pairs(silent, unreadable=False).reason == "the weak model gives no answer"
    some = make_pairs(question("4.2", *MOST), max_pairs=3, unreadable=False).pairs
    assert [pair["rejected"] for pair in some] == ["4 #8"]


def test_the_filter_again_changes_nothing():
    once = consistent(rows("1", "2", "3"), rows("1", "5", "3", side="icl"))
    again = consistent(kept_by("weak", once), kept_by("icl", once))
    assert again.hybrid == once.hybrid
    assert not again.dropped


def test_a_model_agrees_with_itself_wherever_it_answers():
    found = consistent(rows("1", "", "x", None), rows("1", "", "x", None))
    assert [row["id"] for row in kept_by("weak", found)] == [0, 2]


def test_other_questions_are_refused():
    with pytest.raises(DataError, match="different questions"):
        consistent(rows("1", "2"), rows("1"))
    with pytest.raises(DataError, match="different questions"):
        consistent(rows("1"), [{**rows("1")[0], "prompt": "other"}])


# --- votes and thresholds


def test_the_first_of_equally_common_answers_wins():
    def votes(*answers):
        return vote([Answer(str(i), a) for i, a in enumerate(answers)])

    assert votes("2", "1", "1", "2").answer == "2"
    assert votes("2", "1", "1").answer == "1"
    assert votes(None, "1").answer is None
    found = votes("1", None, "1")
    assert (found.answer, found.votes, found.n) == ("1", 2, 3)
    assert [a.text for a in found.agree] == ["0", "2"]
    assert [a.text for a in found.differ] == ["1"]


@given(st.integers(1, 200), st.integers(1, 100), st.data())
def test_thresholds_are_exact(n, hundredths, data):
    count = data.draw(st.integers(0, n))
    share = float(Fraction(hundredths, 100))
    assert at_least(count, n, share) is (100 * count >= hundredths * n)


@pytest.mark.parametrize(("count", "n"), [(6, 10), (3, 5), (60, 100), (9, 15)])
def test_six_tenths_is_six_tenths(count, n):
    assert at_least(count, n, 0.6)
    assert not at_least(count - 1, n, 0.6)


@pytest.mark.parametrize("hundredths", [7, 14, 28, 55, 56])
def test_a_share_is_the_decimal_that_is_written(hundredths):
    """0.07 * 100 is 7.000000000000001 in floating point; 7 of 100 are 7 per cent all the same."""
    assert at_least(hundredths, 100, hundredths / 100)
    assert not at_least(hundredths - 1, 100, hundredths / 100)


# --- stage II, the spec's examples with n = 10


def test_weak_right_is_chosen_over_samples_that_say_otherwise():
    [pair] = make_pairs(question("4.2", *MOST)).pairs
    assert pair["chosen"] == "weak 4.2"
    assert pair["rejected"] in ("4 #8", " #9")
    assert pair["weak_side"] == "chosen"
    assert pair["confidence"] == 0.8
    many = make_pairs(question("4.2", *MOST), max_pairs=3).pairs
    assert {pair["rejected"] for pair in many} == {"4 #8", " #9"}


def test_weak_wrong_is_rejected_where_eight_of_ten_say_so():
    [pair] = make_pairs(question("5", *MOST)).pairs
    assert pair["rejected"] == "weak 5"
    assert pair["chosen"].startswith("4.2 #")
    assert pair["weak_side"] == "rejected"
    assert len(make_pairs(question("5", *MOST), max_pairs=3).pairs) == 3


@pytest.mark.parametrize(
    ("votes", "weak", "pairs", "reason"),
    [
        (7, "5", 0, "the weak model is outvoted by too few"),
        (7, "4.2", 1, None),
        (6, "4.2", 1, None),
        (5, "4.2", 0, "low confidence"),
        (5, "5", 0, "low confidence"),
        (10, "4.2", 0, "too easy"),
        (10, "7", 1, None),
        (8, "", 1, None),
        (8, None, 1, None),
    ],
)
def test_what_so_many_of_ten_make(votes, weak, pairs, reason):
    others = [str(i) for i in range(10, 20 - votes)]
    made = make_pairs(question(weak, *["4.2"] * votes, *others))
    assert len(made.pairs) == pairs
    assert made.reason == reason
    if pairs and weak in ("", None):
        assert made.pairs[0]["weak_side"] == "rejected"


def test_no_answer_can_win_and_then_nothing_is_made():
    assert make_pairs(question("5", *[""] * 10)).reason == "no answer wins the vote"
    assert make_pairs(question("", *[None] * 10)).reason == "no answer wins the vote"
    assert make_pairs(question("", *[None] * 6, *["1"] * 4)).reason == "no answer wins the vote"


def test_one_threshold_is_the_papers():
    row = question("5", *["4.2"] * 7, *["1"] * 3)
    assert make_pairs(row).pairs == []
    assert len(make_pairs(row, tau_chosen=0.7, tau_rejected=0.7).pairs) == 1


def test_three_pairs_have_three_texts():
    row = question("4.2", *["4.2"] * 6, "1", "2", "3", "")
    pairs = make_pairs(row, max_pairs=3).pairs
    assert len({pair["rejected"] for pair in pairs}) == 3
    same = question("5", *["4.2"] * 10)
    for sample in same["samples"]:
        sample["text"] = "one text"
    assert [p["chosen"] for p in make_pairs(same, max_pairs=3).pairs] == ["one text"]


def test_after_the_drawn_one_chosen_texts_follow_in_the_samples_order():
    row = question("5", *["4.2"] * 10)
    for seed in range(10):
        chosen = [p["chosen"] for p in make_pairs(row, max_pairs=3, seed=seed).pairs]
        rest = [sample["text"] for sample in row["samples"] if sample["text"] != chosen[0]]
        assert chosen[1:] == rest[:2]


def test_a_text_is_never_paired_with_itself():
    row = question("5", *["4.2"] * 10)
    for sample in row["samples"]:
        sample["text"] = "weak 5"  # read differently, yet the same text
    assert make_pairs(row).reason == "the texts are the same"
    row["samples"][7]["text"] = "another"
    assert [p["chosen"] for p in make_pairs(row, max_pairs=3).pairs] == ["another"]


def test_an_empty_text_is_never_chosen_and_costs_no_other_pair():
    row = question("5", *["4.2"] * 10)
    for sample in row["samples"][:6]:
        sample["text"] = " "
    for seed in range(10):
        pairs = make_pairs(row, max_pairs=9, seed=seed).pairs
        assert {pair["chosen"] for pair in pairs} == {f"4.2 #{i}" for i in range(6, 10)}
    for sample in row["samples"]:
        sample["text"] = ""
    assert make_pairs(row).reason == "the chosen text is empty"
    agreed = question("4.2", *MOST)
    agreed["weak"]["text"] = ""
    assert make_pairs(agreed).reason == "the chosen text is empty"


def test_answers_are_the_same_by_value():
    made = make_pairs(question("10.00", *["10"] * 5, *["$10"] * 3, "9", "9"))
    assert made.pairs[0]["weak_side"] == "chosen"
    assert made.pairs[0]["confidence"] == 0.8


# --- for all rows

answers = st.sampled_from(["1", "1.0", "2", "3", "", None])
questions = st.builds(
    lambda name, weak, samples: question(weak, *samples, name=name),
    st.integers(0, 10**6),
    answers,
    st.lists(answers, min_size=1, max_size=10),
)


@given(questions, st.integers(1, 3), st.integers(0, 5))
def test_what_every_pair_is(row, max_pairs, seed):
    pairs = make_pairs(row, max_pairs=max_pairs, seed=seed).pairs
    assert len(pairs) <= max_pairs
    winner = vote([read_answer(0, "s", s) for s in row["samples"]]).answer
    forms = {
        entry["text"]: read_answer(0, "s", entry).form for entry in [row["weak"], *row["samples"]]
    }
    for pair in pairs:
        weak = [side for side in ("chosen", "rejected") if pair[side] == row["weak"]["text"]]
        assert weak == [pair["weak_side"]]
        assert forms[pair["chosen"]] == winner
        assert forms[pair["rejected"]] != winner
    texts = [(pair["chosen"], pair["rejected"]) for pair in pairs]
    assert len(set(texts)) == len(texts)


@given(st.lists(questions, min_size=1, max_size=6, unique_by=lambda r: r["id"]), st.randoms())
def test_pairs_depend_on_no_other_row_and_no_order(many, rng):
    config = Config(tau_chosen=0.3, tau_rejected=0.4, max_pairs=2, seed=3)
    pairs, skipped = explain_pairs(many, config)
    shuffled = rng.sample(many, len(many))
    again, skipped_again = explain_pairs(shuffled, config)
    order = [row["id"] for row in many]
    assert sorted(again, key=lambda pair: order.index(pair["id"])) == pairs
    assert skipped == skipped_again
    assert len({pair["id"] for pair in pairs}) + skipped.total() == len(many)
    assert explain_pairs(many[:1], config)[0] == [p for p in pairs if p["id"] == order[0]]


def test_the_seed_and_the_id_draw():
    def drawn(name, seed):
        return make_pairs(question("5", *["1"] * 10, name=name), seed=seed).pairs[0]["chosen"]

    assert drawn("a", 0) == drawn("a", 0)
    assert len({drawn("a", seed) for seed in range(20)}) > 3
    assert len({drawn(name, 0) for name in range(20)}) > 3
    assert drawn("\ud800", 0).startswith("1 #"), "half a surrogate pair is legal in JSON"


# --- rows


def test_reasons_are_counted():
    many = [
        question("1", *["1"] * 10, name="easy"),
        question("1", *"1122334455", name="low"),
        question("2", *["1"] * 7, *"345", name="few"),
        question("2", *[""] * 10, name="none"),
        question("2", *["1"] * 10, name="pair"),
    ]
    pairs, skipped = explain_pairs(many, Config())
    assert [pair["id"] for pair in pairs] == ["pair"]
    assert set(pairs[0]) == {"id", "prompt", "chosen", "rejected", "weak_side", "confidence"}
    assert skipped == Counter(
        {
            "too easy": 1,
            "low confidence": 1,
            "the weak model is outvoted by too few": 1,
            "no answer wins the vote": 1,
        }
    )


def test_sources_and_chats_go_on_to_the_pairs():
    row = question("5", *["1"] * 10)
    row["weak"]["source"] = "w"
    for sample in row["samples"]:
        sample["source"] = "s"
    row["messages"] = [["user", "asked"]]
    [pair] = make_pairs(row).pairs
    assert (pair["chosen_source"], pair["rejected_source"]) == ("s", "w")
    assert pair["messages"] == [["user", "asked"]]


def test_an_answer_that_is_left_out_is_read_from_the_text():
    assert read_answer(1, "weak", {"text": "so\n#### 72"}).form == "72"
    assert read_answer(1, "weak", {"text": "so\n#### 72", "answer": None}).form is None
    assert read_answer(1, "weak", {"text": "so", "answer": 7.0}).form == "7"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": None}, "no 'id'"),
        ({"prompt": 3}, "row 'q' has no 'prompt'"),
        ({"weak": None}, "row 'q': 'weak' has no text"),
        ({"weak": {"answer": "1"}}, "row 'q': 'weak' has no text"),
        ({"weak": {"text": "x", "answer": True}}, "row 'q': 'weak' has no usable answer"),
        ({"weak": {"text": "x", "answer": ["1"]}}, "row 'q': 'weak' has no usable answer"),
        ({"weak": {"text": "x", "answer": float("nan")}}, "row 'q': 'weak' has no usable answer"),
        ({"samples": []}, "row 'q' has no 'samples'"),
        ({"samples": "x"}, "row 'q' has no 'samples'"),
        ({"samples": [{"text": 3}]}, "row 'q': 'samples' has no text"),
    ],
)
def test_bad_rows_are_named(change, words):
    with pytest.raises(DataError, match=words):
        explain_pairs([{**question("1", "1"), **change}], Config())


def test_an_id_that_is_there_twice_is_named():
    with pytest.raises(DataError, match="row 'q' is there twice"):
        explain_pairs([question("1", "1"), question("2", "1")], Config())
