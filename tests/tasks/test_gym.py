"""reasoning-gym datasets as tasks: their problems, and what of a text their scorers see."""

import os
import sys
from pathlib import Path

import pytest

import tiny
from rekindle.engine.config import ModelConfig, TaskConfig
from rekindle.errors import ConfigError, DataError, MissingExtraError
from rekindle.records import Response
from rekindle.tasks import gym_generator, load_task
from rekindle.tasks.gym import INSTRUCTION, extract
from rekindle.tasks.task import grade_all
from rekindle.training.parts import open_task

pytestmark = pytest.mark.filterwarnings("ignore")


def entry_of(task):
    return task.problems("test", count=1, seed=0)[0]


def test_any_dataset_with_its_settings(gym):
    task = gym("chain_sum", min_terms=2, max_terms=3)
    problems = task.problems("test", count=10, seed=0)
    assert len({p.id for p in problems}) == 10
    assert task.grade(problems[0], problems[0].answer).value == 1.0
    assert task.grade(problems[0], "nonsense").value == 0.0
    assert 0.0 < task.grade(problems[0], f"it is {problems[0].answer}").value < 1.0
    assert task.problems("test", count=10, seed=0) == problems
    drawn = task.draw(step=0, count=300, seed=0)
    assert drawn == task.draw(step=0, count=300, seed=0)
    assert drawn != task.draw(step=1, count=300, seed=0)
    dev = task.problems("dev", count=100, seed=0)
    prompts = [{p.prompt for p in split} for split in (drawn, dev, problems)]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert not prompts[1] & prompts[2]
    assert gym("chain_sum").fingerprint() != task.fingerprint()


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "<answer>5</answer>",
        "I think <answer>4</answer>, no: <answer> 5\n</answer> it is",
        "<answer>4 <answer>5</answer>",
        "<answer>4</answer> <answer>5",
        "<answer>5",
        "5</answer>",
        "</answer>5<answer>",
        "<answer></answer>",
        "<answer>\n\n 5 \n 6 </answer>",
        r"<answer>\boxed{5}</answer>",
        "<Answer>5</Answer>",
        "<answer>a</answer></answer><answer>b",
        "",
    ],
)
def test_tags_are_read_as_the_library_reads_them(text):
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    from reasoning_gym.utils import extract_answer

    assert extract(text) == extract_answer(text)


def test_tags_are_read_in_linear_time():
    assert extract("<answer>" * 100_000) is None
    assert extract("<answer>" * 100_000 + "5</answer>").endswith(">5")


@pytest.mark.parametrize(
    ("instruction", "text", "seen"),
    [
        (False, "7", "7"),
        (False, "  7\n", "7"),
        (False, r"\boxed{7}", r"\boxed{7}"),
        (False, "<answer>7</answer>", "<answer>7</answer>"),
        (False, "<think>8</think>\n7", "7"),
        (False, "8, so</think> 7", "7"),
        (False, "<think>7", ""),
        (True, "7", None),
        (True, "so <answer>7</answer>.", "7"),
        (True, r"<answer>\boxed{7}</answer>", r"\boxed{7}"),
        (True, "<think><answer>8</answer></think>7", None),
        (True, "<think><answer>8</answer></think><answer>7</answer>", "7"),
        ("End with the sum.", "<answer>7</answer>", "<answer>7</answer>"),
        ("Use <answer> and </answer>.", "<answer>7</answer>", "7"),
    ],
)
def test_what_the_scorer_sees(gym, stand_in, instruction, text, seen):
    shown = []

    def score(answer, entry):
        shown.append(answer)
        return float(answer == entry["answer"])

    stand_in(score)
    task = gym("stand_in", instruction=instruction)
    problem = entry_of(task)
    shown.clear()
    assert task.grade(problem, text).value == float(seen == "7")
    assert shown == ([] if seen is None else [seen])
    assert task.answer_of(problem, text) == (seen or None)


def test_a_thought_that_the_template_opened(gym, stand_in):
    stand_in()
    task = gym("stand_in")
    problem = entry_of(task)
    texts = (("7", True), ("7", False), ("8</think>7", True))
    responses = [Response(problem, text, thought_open=opened) for text, opened in texts]
    assert [score.value for score in grade_all(task, responses)] == [0.0, 1.0, 1.0]


def test_the_question_asks_for_the_form_that_is_read(gym, stand_in):
    stand_in()
    bare, asked = gym("stand_in"), gym("stand_in", instruction=True)
    plain, told = entry_of(bare), entry_of(asked)
    assert (plain.prompt, plain.solution) == (plain.meta["entry"]["question"], "7")
    assert told.prompt == f"{plain.prompt}\n\n{INSTRUCTION}"
    assert (told.id, told.solution) == (plain.id, "<answer>7</answer>")
    assert asked.grade(told, told.solution).value == 1.0
    assert bare.grade(plain, plain.solution).value == 1.0
    assert bare.fingerprint() == gym("stand_in", instruction=False).fingerprint()
    assert bare.fingerprint() != asked.fingerprint()
    own = gym("stand_in", instruction="Say the sum.")
    assert entry_of(own).prompt == f"{plain.prompt}\n\nSay the sum."


def test_chat_models_are_asked_for_tags(stand_in, tmp_path):
    stand_in()
    chatting = tiny.tokenizer()
    chatting.chat_template = tiny.CHAT_TEMPLATE
    tiny.policy(tok=chatting).save(tmp_path / "chat")
    tiny.policy().save(tmp_path / "plain")

    def asked(model, **args):
        config = TaskConfig(name="gym", args={"dataset": "stand_in", **args})
        return open_task(config, model).instruction

    def named(name, **settings):
        return ModelConfig(name=str(tmp_path / name), **settings)

    assert asked(named("chat")) == asked(tiny.policy(tok=chatting)) == INSTRUCTION
    assert asked(named("chat"), instruction=False) == ""
    for model in (named("plain"), tiny.policy(), named("chat", chat_template="never"), None):
        assert asked(model) == ""
        assert asked(model, instruction=True) == INSTRUCTION


def test_problems_do_not_depend_on_the_hash_seed(monkeypatch):
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    names = ("isomorphic_strings", "polynomial_multiplication", "ransom_note", "word_ladder")
    listed = []
    for hash_seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", hash_seed)
        child = gym_generator._Generator()
        listed.append([child.ask((name, 5, 6, {})) for name in names])
        process = child._process
        child.close()
        assert process.poll() is not None
    assert [error for _, error in listed[0]] == [None] * len(names)
    assert listed[0] == listed[1]


def test_a_generator_that_is_killed_is_told_and_started_again():
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    child = gym_generator._generator(os.getpid())  # the one that all share
    ask = ("chain_sum", 5, 2, {})
    first = child.ask(ask)
    child._process.kill()
    with pytest.raises(DataError, match=r"ended(.|\n)*exit code -9"):
        child.ask(ask)
    assert child.ask(ask) == first


def test_composites_from_plain_settings(gym, tmp_path, monkeypatch):
    task = gym("composite", datasets=[{"name": "chain_sum"}, {"name": "n_queens", "weight": 2}])
    problems = task.problems("test", count=12, seed=0)
    assert {p.meta["entry"]["metadata"]["source_dataset"] for p in problems} == {
        "chain_sum",
        "n_queens",
    }
    assert all(task.grade(p, p.answer).value == 1.0 for p in problems)
    monkeypatch.chdir(tmp_path)  # by name alone: chain_sum pays in part for a sum that a path holds
    assert all(task.grade(p, "open('canary', 'w')").value == 0.0 for p in problems)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "chain_sums"}, "Did you mean 'chain_sum'"),
        ({"dataset": 3}, "no dataset '3'"),
        ({}, "needs a dataset"),
        ({"dataset": "chain_sum", "no_such": 1}, "refuses its settings"),
        ({"dataset": "chain_sum", "min_terms": "two"}, "refuses its settings"),
        ({"dataset": "composite"}, "at least one dataset"),
        ({"dataset": "composite", "datasets": [{"nam": "x"}]}, "refuses its settings"),
        ({"dataset": "composite", "datasets": [{"name": "x"}]}, "refuses its settings"),
        ({"dataset": "composite", "datasets": 3}, "refuses its settings"),
        ({"dataset": "chain_sum", "instruction": 3}, "instruction is no instruction"),
        ({"dataset": "chain_sum", "instruction": " "}, "instruction is no instruction"),
    ],
)
def test_mistakes(settings, message):
    pytest.importorskip("reasoning_gym", reason="extra [gym]")
    with pytest.raises(ConfigError, match=message):
        load_task(name="gym", args=settings)


def test_a_dataset_with_few_questions_says_so(gym):
    task = gym("chain_sum", min_terms=2, max_terms=2, min_digits=1, max_digits=1)
    with pytest.raises(DataError, match=r"too few test questions(.|\n)*at most about \d\d?"):
        task.problems("test", count=500, seed=0)


def test_without_the_extra_the_command_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rekindle\[gym\]'"):
        load_task(name="gym", args={"dataset": "chain_sum"})


def test_the_package_itself_needs_no_extra():
    source = Path(__file__).parents[2] / "src" / "rekindle" / "tasks"
    for name in (
        "__init__",
        "task",
        "rows",
        "stored",
        "text_files",
        "gym",
        "gym_scorer",
        "gym_generator",
        "gym_child",
    ):
        text = (source / f"{name}.py").read_text()
        assert "import datasets" not in text
        assert "import torch" not in text
