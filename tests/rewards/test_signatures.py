"""How a reward wants to be called: what its parameters say, and what the first working call is."""

import functools

import pytest
import users_rewards as users

from rekindle.errors import ConfigError
from rekindle.records import Problem
from rekindle.rewards.probing.signatures import (
    NOT_NAMED,
    Asked,
    Names,
    UnreadableScoreError,
    calls_of,
)

ASKED = Asked("What is 6 times 7?", "42", "It is 42.")


def first(function, names=NOT_NAMED):
    return calls_of(function, "f", names)[0]


def shown(function, names=NOT_NAMED):
    return first(function, names).describe("f")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("last_number", "plain: f(completion=text, answer=gold)"),
        ("substring", "plain: f(response=text, ground_truth=gold)"),
        ("in_time", "plain: async f(prediction=text, reference=gold)"),
        ("lists", "plain: f(predictions=[text], references=[gold])"),
        ("ours", "rekindle: f(problems=[problem], texts=[text])"),
        ("answer_first", "plain: f(answer=text, solution=gold), roles assumed"),
        ("no_names", "plain: f(a=text, b=gold), roles assumed"),
        ("asks_the_question", "plain: f(question=prompt, completion=text, reference=gold)"),
        ("scorer", "plain: f(completion=text, reference=gold)"),
        (
            "compute_score",
            "verl: f(data_source='openai/gsm8k', solution_str=text, ground_truth=gold, "
            "extra_info=...)",
        ),
    ],
)
def test_names_say_what_parameters_are(name, says):
    assert shown(vars(users)[name]) == says


def test_trl_is_called_by_keyword_with_the_gold_under_every_usual_column():
    call = first(users.tagged)
    arguments, keywords = call.arguments(ASKED)
    assert (call.style, arguments) == ("TRL", [])
    assert keywords["prompts"] == ["What is 6 times 7?"]
    assert keywords["completions"] == ["It is 42."]
    for column in ("answer", "solution", "ground_truth", "reference", "target", "label"):
        assert keywords[column] == ["42"]


def test_trl_is_tried_with_texts_first_and_with_messages_next():
    texts, messages, *_ = calls_of(users.accuracy, "f", NOT_NAMED)
    assert (texts.messages, messages.messages) == (False, True)
    _, keywords = messages.arguments(ASKED)
    assert keywords["completions"] == [[{"role": "assistant", "content": "It is 42."}]]
    assert keywords["prompts"] == [[{"role": "user", "content": "What is 6 times 7?"}]]
    assert keywords["solution"] == ["42"]


def test_a_gold_is_tried_bare_in_dollars_in_a_box_and_behind_four_hashes():
    forms = dict.fromkeys(call.gold_form for call in calls_of(users.accuracy, "f", NOT_NAMED))
    assert [form.format("42") for form in forms] == ["42", "$42$", "\\boxed{42}", "#### 42"]


def test_verls_batched_scorer_gets_lists():
    _, keywords = first(users.compute_scores).arguments(ASKED)
    assert keywords["solution_strs"] == ["It is 42."]
    assert keywords["data_sources"] == ["openai/gsm8k"]
    assert keywords["extra_infos"][0]["question"] == "What is 6 times 7?"


def test_ours_gets_a_problem_with_the_gold():
    _, keywords = first(users.ours).arguments(ASKED)
    [problem] = keywords["problems"]
    assert isinstance(problem, Problem)
    assert (problem.prompt, problem.answer) == ("What is 6 times 7?", "42")


def test_names_that_say_nothing_are_tried_in_both_orders_and_as_ours():
    calls = calls_of(users.no_names, "f", NOT_NAMED)
    assert all(call.assumed for call in calls)
    orders = list(dict.fromkeys(tuple(role for _, role in call.roles) for call in calls))
    assert orders == [("text", "gold"), ("gold", "text"), ("problems", "text")]


def test_the_user_may_name_what_a_parameter_is():
    def odd(mystery, riddle, enigma):
        return 0.0

    with pytest.raises(ConfigError, match="mystery, riddle, enigma"):
        calls_of(odd, "odd", NOT_NAMED)
    named = Names(text="riddle", gold="enigma", question="mystery")
    assert shown(odd, named) == "plain: f(mystery=prompt, riddle=text, enigma=gold)"
    with pytest.raises(ConfigError, match="no parameter 'secret'"):
        calls_of(odd, "odd", Names(gold="secret"))


def test_a_column_may_be_named_that_is_no_parameter():
    _, keywords = first(users.by_column, Names(gold="my_gold")).arguments(ASKED)
    assert keywords["my_gold"] == ["42"]


def test_what_has_a_default_and_no_role_is_left_alone():
    def scored(completion, reference, strict=True, weight=0.1):
        return 1.0

    assert shown(scored) == "plain: f(completion=text, reference=gold)"
    assert shown(functools.partial(scored, strict=False)) == shown(scored)


def test_positional_only_parameters_go_by_place():
    def scored(completion, reference, /):
        return 1.0

    assert first(scored).arguments(ASKED) == (["It is 42.", "42"], {})


def test_a_reward_without_a_gold_can_be_called():
    assert shown(lambda completion: 1.0) == "plain: f(completion=text)"
    assert shown(lambda whatever: 1.0) == "plain: f(whatever=text)"


def test_what_has_no_signature_is_refused():
    with pytest.raises(ConfigError, match="cannot be told"):
        calls_of(lambda *rows: 0.0, "f", NOT_NAMED)


@pytest.mark.parametrize(
    ("returned", "score"),
    [(1, 1.0), (True, 1.0), (0.5, 0.5), ({"score": 0.2, "acc": 1}, 0.2), (None, None)],
)
def test_a_score_is_a_number_or_a_mapping_with_score(returned, score):
    assert first(users.substring).score(returned) == score
    assert first(users.lists).score([returned]) == score


@pytest.mark.parametrize(
    "returned", ["1.0", b"1", [1.0], float("nan"), float("inf"), {"acc": 1}, object()]
)
def test_all_else_is_no_score(returned):
    with pytest.raises(UnreadableScoreError):
        first(users.substring).score(returned)


@pytest.mark.parametrize("returned", [1.0, [], [1.0, 2.0], "1", {"score": 1}, {1.0}])
def test_a_list_of_one_score_is_expected_of_what_takes_lists(returned):
    with pytest.raises(UnreadableScoreError):
        first(users.lists).score(returned)
