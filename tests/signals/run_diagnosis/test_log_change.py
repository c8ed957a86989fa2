"""What --write writes: it parses, does what it says, and nothing of a log breaks out of it."""

import ast
import hashlib
import json
import shlex
import subprocess
import sys
import types
from dataclasses import replace

import pytest

from rekindle.signals.run_diagnosis.change import LEAST_ANSWERS, commented, find_change
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from rekindle.signals.run_diagnosis.remedies import WHERE_RIGHT, Remedy
from rekindle.signals.run_diagnosis.trl_change import trl_files
from rekindle.signals.run_diagnosis.verl_change import verl_files
from synthetic_logs import hard, make_trl, make_verl

EVERY = (
    "a longer token limit", "easier prompts", "groups of 8", "dapo", WHERE_RIGHT,
    "one log of each batch", "lens", "a stricter verifier",
)  # fmt: skip
HOSTILE = (
    'why\nimport os; os.system("x")\r\u2028"""\' `touch x` $(touch x) \x00 \ud800 ' + "y" * 200
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    place = tmp_path_factory.mktemp("logs")
    return {
        "trl": diagnose_log(make_trl(place / "trl", rate=hard, form=0.5)),
        "verl": diagnose_log(make_verl(place / "verl", rate=hard)),
    }


def with_remedies(diagnosis, methods, why="because"):
    return replace(diagnosis, remedies=[Remedy(method, True, why) for method in methods])


def files_of(tmp_path, diagnosis, methods, why="because", name="change"):
    told = with_remedies(diagnosis, methods, why)
    path = tmp_path / (name + {"trl": ".py", "verl": ".sh"}[diagnosis.log.about.format])
    write = {"trl": trl_files, "verl": verl_files}[diagnosis.log.about.format]
    files = write(path, find_change(tmp_path, told), told)
    for place, text in files.items():
        place.write_text(text, encoding="utf-8")
    return path, files


@pytest.fixture
def loaded(tmp_path, logs, monkeypatch):
    """The names of a Python file for TRL, with a `GRPOConfig` that keeps what it is given."""

    def load(methods, name="change"):
        path, _ = files_of(tmp_path, logs["trl"], methods, name=name)
        trl = types.ModuleType("trl")
        trl.GRPOConfig = dict
        monkeypatch.setitem(sys.modules, "trl", trl)
        names = {"__file__": str(path)}
        exec(compile(path.read_text(), str(path), "exec"), names)
        return names

    return load


@pytest.mark.parametrize("method", [*EVERY, EVERY])
def test_what_is_written_parses(tmp_path, logs, method):
    methods = [method] if isinstance(method, str) else method
    path, files = files_of(tmp_path, logs["trl"], methods)
    ast.parse(files[path])
    path, files = files_of(tmp_path, logs["verl"], methods)
    subprocess.run(["bash", "-n", path], check=True)
    for place, text in files.items():
        if place.suffix == ".py":
            ast.parse(text)


def test_nothing_of_a_log_breaks_out_of_a_comment(tmp_path, logs):
    calm, files = files_of(tmp_path, logs["trl"], EVERY)
    wild, more = files_of(tmp_path, logs["trl"], EVERY, HOSTILE)
    assert ast.dump(ast.parse(files[calm])) == ast.dump(ast.parse(more[wild]))
    code = [
        [line for line in told[place].splitlines() if line.strip() and line.strip()[0] != "#"]
        for why in ("because", HOSTILE)
        for place, told in [files_of(tmp_path, logs["verl"], EVERY, why)]
    ]
    assert code[0] == code[1]
    assert all(line.startswith("#") for line in commented([HOSTILE]).splitlines())


def test_the_settings_of_trl_are_changed_over_the_runs_own(loaded):
    names = loaded(["groups of 8", "a longer token limit", "one log of each batch"])
    own = {"num_generations": 4, "max_completion_length": 300, "steps_per_generation": 8,
           "num_iterations": 2, "gradient_accumulation_steps": 4, "beta": 0.1}  # fmt: skip
    assert names["changed"](**own) == own | {
        "log_completions": True, "num_generations": 8, "max_completion_length": 600,
        "logging_steps": 4,
    }  # fmt: skip
    assert names["changed"]()["max_completion_length"] == 1024  # TRL's 512, twice
    assert names["changed"]()["logging_steps"] == 1


class Rows(list):
    """What the file needs of a dataset."""

    def filter(self, keep):
        return Rows(row for row in self if keep(row))


def test_prompts_are_left_out_that_were_asked_often_and_never_solved(loaded, logs):
    names = loaded(["easier prompts"], name="a 'quoted\" name")
    diagnosis = logs["trl"]
    log = diagnosis.log
    often = [row for row in diagnosis.prompts
             if row.kind == "never" and row.answers >= LEAST_ANSWERS]  # fmt: skip
    dataset = Rows({"prompt": prompt} for prompt in log.prompts)
    kept = names["without_listed"](dataset)
    assert 0 < len(often) < sum(row.kind == "never" for row in diagnosis.prompts)
    assert {row["prompt"] for row in dataset} - {row["prompt"] for row in kept} == {
        log.prompts[row.prompt] for row in often
    }
    listed = names["LISTED"]["never"][0]
    assert listed["rate_low"] == 0 < listed["rate_high"] < 1


def test_a_chat_has_the_key_that_its_log_has(loaded):
    """As `mapped.as_text` makes a prompt of it: one message is its text, more are their JSON."""
    key = loaded(["easier prompts"])["prompt_key"]
    one = [{"role": "user", "content": "häh?"}]
    two = [{"role": "system", "content": "s"}, *one]

    def hashed(text):
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    assert key("häh?") == key(one) == hashed("häh?")
    assert key(two) == hashed(json.dumps(two, ensure_ascii=False))


def test_a_reward_counts_only_where_the_verifier_is_right(loaded):
    names = loaded([WHERE_RIGHT])

    def verifier(completions, **_):
        return [1.0, 0.0, 0.5, None, 0.0]

    def form(completions, prompts):
        return [0.3, 0.3, 0.3, 0.3, None]

    masked = names["where_right"](form, verifier)
    assert masked(prompts=[""] * 5, completions=[""] * 5) == [0.3, 0.0, 0.3, 0.3, None]
    assert masked.__name__ == "form"
    assert "reward_funcs=[verifier, where_right(format, verifier)]" in names_text(names)


def names_text(names):
    with open(names["__file__"], encoding="utf-8") as file:
        return file.read()


def test_what_trl_has_no_setting_for_is_said(loaded):
    text = names_text(loaded(["lens", "a stricter verifier", "dapo"]))
    assert "Without a setting in TRL:" in text
    assert "# lens: because" in text
    assert "TRL has no dynamic sampling." in text


def test_verl_gets_the_overrides_after_the_runs_own(tmp_path, logs):
    """The script runs another program in place of Python, which prints what it is given."""
    path, _ = files_of(tmp_path, logs["verl"], ["groups of 8", "a longer token limit", "dapo"])
    printer = tmp_path / "python3"
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printer.chmod(0o755)
    place = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    given = ["bash", str(path), "data.max_response_length=512"]
    run = subprocess.run(given, env={**place, "MAX_RESPONSE_LENGTH": "512"}, capture_output=True,
                         text=True, check=True)  # fmt: skip
    assert run.stdout.splitlines() == [
        "-m", "verl.trainer.main_ppo", "data.max_response_length=512",
        "actor_rollout_ref.rollout.n=8", "data.max_response_length=1024",
        "algorithm.filter_groups.enable=True", "algorithm.filter_groups.metric=acc",
        "trainer.use_v1=True",
    ]  # fmt: skip
    unset = subprocess.run(given, env=place, capture_output=True, text=True, check=False)
    assert unset.returncode != 0
    assert "set it to the data.max_response_length of the run" in unset.stderr


def test_a_reward_of_verl_is_0_where_its_verifier_is(tmp_path, logs, monkeypatch):
    diagnosis = replace(logs["verl"], log=replace(
        logs["verl"].log, parts={"acc": logs["verl"].log.score_N, "form": logs["verl"].log.score_N}
    ))  # fmt: skip
    diagnosis.verdicts.column, old = "acc", diagnosis.verdicts.column
    path, files = files_of(tmp_path, diagnosis, [WHERE_RIGHT])
    diagnosis.verdicts.column = old
    reward = tmp_path / "change_reward.py"
    assert shlex.quote(f"reward.custom_reward_function.path={reward}") in files[path]
    own = tmp_path / "own.py"
    own.write_text("def score(acc, **given): return {'acc': acc, 'score': acc + 0.3}\n")
    monkeypatch.setenv("OWN_REWARD", f"{own}:score")
    names = {}
    exec(compile(files[reward], str(reward), "exec"), names)
    assert names["compute_score"](acc=1.0, data_source="x") == {"acc": 1.0, "score": 1.3}
    assert names["compute_score"](acc=0.0, data_source="x") == {"acc": 0.0, "score": 0.0}
    own.write_text("def score(**given): return 1.0\n")
    with pytest.raises(TypeError, match="no dict with 'acc'"):
        names["compute_score"](acc=1.0)


def test_nothing_fits_nothing_is_written(logs, tmp_path):
    assert find_change(tmp_path, with_remedies(logs["trl"], [])) is None


@pytest.mark.oracle
def test_trl_has_the_fields_that_are_set():
    from trl import GRPOConfig

    fields = GRPOConfig.__dataclass_fields__
    assert {"num_generations", "max_completion_length", "log_completions", "logging_steps",
            "steps_per_generation", "num_iterations"} <= fields.keys()  # fmt: skip
    assert fields["max_completion_length"].default == 512
