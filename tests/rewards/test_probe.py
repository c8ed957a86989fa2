"""The probe: what it says of rewards whose faults are known, and how it survives bad ones."""

import time
from pathlib import Path

import pytest

from rekindle.errors import ConfigError
from rekindle.rewards.probing.battery import BATTERIES, read_battery, spread
from rekindle.rewards.probing.degenerate import (
    ANSWERS,
    FORMS,
    degenerate_rows,
    in_opened_thought,
    pairs,
)
from rekindle.rewards.probing.probe import GIVE_UP, probe, probe_rows
from rekindle.rewards.probing.probe_report import Plain, report, shortened
from rekindle.rewards.probing.reward_process import TIMEOUT, Outcome

REWARDS = Path(__file__).with_name("users_rewards.py")


def probed(name, **settings):
    return probe(f"{REWARDS}:{name}", **settings)


def faults(found):
    return {count.kind: (count.false_accepts, count.lost) for count in found.kinds}


# --- what is asked


def test_the_battery_is_large_and_balanced_and_every_row_has_a_reason():
    rows = [row for name in BATTERIES for row in read_battery(name)]
    assert len(rows) > 2900
    assert {row.answers for row in rows} == set(ANSWERS)
    for answers in ANSWERS:
        mine = [row.right for row in rows if row.answers == answers]
        assert 0.4 < 1 - sum(mine) / len(mine) < 0.65
    assert all(row.reason and row.gold for row in rows)
    assert len({(r.answers, r.gold, r.text, r.cut, r.thought_open) for r in rows}) == len(rows)


def test_a_gold_that_is_a_number_in_the_file_is_its_text():
    assert {"142.0", "64.0"} <= {row.gold for name in BATTERIES for row in read_battery(name)}


@pytest.mark.parametrize("answers", ANSWERS)
def test_degenerate_answers_deserve_nothing_but_for_plain_ones(answers):
    rows = degenerate_rows(answers, "box")
    kinds = {row.kind for row in rows}
    assert {"every value", "negated gold", "gold in the reasoning", "empty box"} < kinds
    assert {"question echoed", "filler", "to the grader", "format alone"} < kinds
    assert {"many boxes", "very long", "cut off"} < kinds
    assert {row.kind for row in rows if row.right} == {"plain", "very long"}


def test_rows_that_only_some_can_judge_are_kept_from_the_others():
    theirs, ours = probe_rows(ANSWERS, "box"), probe_rows(ANSWERS, "box", ours=True)
    assert not any(row.thought_open for row in theirs)
    assert not any(row.cut for row in theirs if row.kind != "cut off")
    assert len([row for row in ours if row.thought_open]) > 50
    assert len(ours) - len(theirs) > 80


def test_with_an_opened_thought_every_text_begins_inside_it():
    rows = probe_rows(["numeric"], "answer tag", thought_open=True)
    assert all(row.thought_open for row in rows)
    closed = in_opened_thought(pairs("numeric", "answer tag")[0][0])
    assert closed.text == "\nI work it out.\n</think>\n<answer>42</answer>"
    assert in_opened_thought(closed) is closed


def test_a_limit_keeps_rows_from_the_first_to_the_last():
    rows = probe_rows(["numeric"], "box")
    assert spread(rows, None) is rows
    few = spread(rows, 10)
    assert (len(few), few[0]) == (10, rows[0])
    assert rows.index(few[-1]) > 0.85 * len(rows)


# --- what is counted


def test_what_counts_as_accepted_lost_and_apart():
    [(right, wrong), *_] = pairs("numeric", "box")
    echo = next(row for row in degenerate_rows("numeric", "box") if row.echo)
    rows = [right, right, right, right, wrong, wrong, wrong, echo]
    outcomes = [
        Outcome(0.6),
        Outcome(0.5),
        Outcome(None),
        Outcome(None, "KeyError: 1"),
        Outcome(0.6),
        Outcome(0.5),
        Outcome(None, TIMEOUT),
        Outcome(1.0),
    ]
    found = report("f", "f(x)", Plain("box", ("numeric",), 0.5), rows, outcomes)
    assert (found.n, found.right, found.false_accepts, found.lost) == (7, 4, 1, 3)
    assert (found.raised, found.timeouts, found.missing, found.not_asked) == (1, 1, 1, 0)
    assert (found.echoes.n, found.echoes.accepted) == (1, 1)
    [kind] = found.kinds
    assert kind.example.fault == "false accept"
    assert (kind.example.gold, kind.example.score) == ("42", 0.6)


@pytest.mark.parametrize(("lost", "clean"), [(1, True), (2, False)])
def test_a_twentieth_of_the_right_answers_may_be_lost(lost, clean):
    row = pairs("numeric", "box")[0][0]
    outcomes = [Outcome(0.0)] * lost + [Outcome(1.0)] * (20 - lost)
    found = report("f", "f(x)", Plain("box", ("numeric",), 0.5), [row] * 20, outcomes)
    assert found.is_clean is clean


def test_an_example_is_short_and_shows_the_answer():
    for row in probe_rows(ANSWERS, "box"):
        text = shortened(row)
        assert len(text) <= 260
        assert text.strip("…") in row.text


# --- whole rewards


@pytest.mark.parametrize("name", ["numeric", "exact"])
@pytest.mark.parametrize("thought_open", [False, True])
def test_verifiers_of_ours_are_clean(name, thought_open):
    found = probe(name, thought_open=thought_open)
    assert (found.false_accepts, found.lost, found.raised) == (0, 0, 0)
    assert found.is_clean
    assert found.n > 650
    assert found.signature.startswith(f"rekindle: verifier {name}, version ")


def test_math_is_clean_and_works_answers_out():
    found = probe("math", limit=90)
    assert (found.false_accepts, found.lost) == (0, 0)
    assert found.echoes.accepted == found.echoes.n > 0


def test_a_verifier_asked_of_golds_that_are_not_its_own_is_told_so():
    found = probe("exact", answers=["math"])
    assert not found.blind
    assert found.lost > 0.05 * found.right


def test_the_last_number_of_a_text_pays_for_lists_and_mentions():
    found = probed("last_number")
    assert [part.answers for part in found.answers] == ["numeric"]
    assert not found.is_clean
    wrong = found.n - found.right
    assert found.false_accepts > 0.2 * wrong
    assert found.lost > 0.4 * found.right
    kinds = faults(found)
    assert kinds["negated gold"] == (3, 0)
    assert kinds["empty box"] == (6, 0)
    assert kinds["filler"] == kinds["to the grader"] == kinds["format alone"] == (0, 0)
    assert kinds["thousands"][1] > 0


def test_a_substring_pays_for_everything_that_holds_the_gold():
    found = probed("substring")
    assert [part.answers for part in found.answers] == list(ANSWERS)
    kinds = faults(found)
    assert kinds["every value"][0] == 18
    assert kinds["gold in the reasoning"][0] == 27
    assert kinds["very long"][0] == 9
    assert kinds["filler"][0] <= 3
    shown = next(count for count in found.kinds if count.kind == "negated gold").example
    assert shown.text == "The answer is not 42."
    assert shown.score == 1.0


def test_trls_accuracy_by_math_verify_errs_in_both_directions():
    found = probed("accuracy", limit=70)
    assert [part.answers for part in found.answers] == ["numeric", "math"]
    assert "texts as lists of messages" in found.signature
    assert "gold written $gold$" in found.signature
    assert found.false_accepts > 0
    assert found.lost > 0.05 * found.right
    assert found.false_accepts + found.lost < 0.3 * found.n


@pytest.mark.parametrize(
    ("name", "above"), [("with_bonus", 0.6), ("minus_one", 0.0), ("compute_score", 0.0)]
)
def test_other_scales_have_their_own_middle(name, above):
    found = probed(name, limit=60)
    assert found.accepted_above == pytest.approx(above)
    assert not found.blind


def test_a_reward_is_asked_of_the_golds_that_it_tells_apart_or_of_those_named():
    auto = probed("none_of_texts", limit=60)
    assert [part.answers for part in auto.answers] == ["numeric"]
    named = probed("none_of_texts", answers=ANSWERS, limit=60)
    assert [part.answers for part in named.answers] == list(ANSWERS)
    assert named.missing > 0
    assert probed("none_of_texts", answers=["exact"]).blind


def test_a_reward_that_looks_at_nothing_is_blind():
    found = probed("length")
    assert found.blind
    assert not found.is_clean
    assert (found.n, found.kinds, found.accepted_above) == (0, (), None)


def test_what_raises_on_a_row_is_lost_or_not_accepted_and_counted():
    found = probed("raises_on_empty", answers=["numeric"])
    assert found.raised == 3  # the empty text of each gold, which is wrong
    assert faults(found)["filler"] == (0, 0)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "KeyError: 'reference'"),
        ("text_back", "no number: str '1.0'"),
        ("ends_python", "its process ended on a plain answer"),
        ("equal_letters", "mystery, riddle"),
        ("nothing_told", "right and wrong answers have equal scores"),
        ("Scorer", "is a class"),
        ("nowhere", "has no 'nowhere'"),
    ],
)
def test_what_cannot_be_called_is_refused_with_the_reason(name, says):
    with pytest.raises(ConfigError) as caught:
        probed(name)
    assert says in str(caught.value)


def test_a_reward_that_hangs_is_ended_and_the_others_rows_are_scored():
    began = time.monotonic()
    found = probed("hangs_on_tags", answers=["numeric"], timeout=0.05, limit=60)
    assert time.monotonic() - began < 20
    assert 0 < found.timeouts <= GIVE_UP
    assert found.n + found.echoes.n > 30


def test_a_reward_that_hangs_on_plain_answers_is_refused():
    with pytest.raises(ConfigError, match="took more than 0"):
        probed("hangs", timeout=0.05)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere.py:f", "no file nowhere.py"),
        ("nowhere_at_all:f", "no module named 'nowhere_at_all'"),
        ("numerics", "does not name a reward"),
    ],
)
def test_a_target_that_is_not_there_is_refused(place, says):
    with pytest.raises(ConfigError) as caught:
        probe(place)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("raise SystemExit(3)", "its process ended"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_file_that_does_not_load_is_refused(tmp_path, source, says):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ConfigError) as caught:
        probe(f"{path}:f")
    assert says in str(caught.value)


def test_every_plain_form_is_read_by_ours():
    for form in FORMS:
        for answers in ("numeric", "exact"):
            for right, wrong in pairs(answers, form):
                assert (right.right, wrong.right) == (True, False)
                assert right.text != wrong.text
