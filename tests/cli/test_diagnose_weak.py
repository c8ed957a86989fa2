"""`--weak` that is the model itself is refused: nothing could be found beside itself."""

import pytest

from rekindle import testbed
from rekindle.engine.config import ModelConfig
from rekindle.engine.policy import Policy

SMALL = ("--task", "addition", "--levels", "2", "--problems", 4, "--samples", 2)
NAME = "testbed/addition-s0"


@pytest.fixture
def refused(rekindle):
    def run(weak, *words):
        code, out, err = rekindle("diagnose", "--model", NAME, "--weak", weak, *SMALL, *words)
        assert code == 2, out
        assert "--weak is the same model as --model" in err
        assert "accuracy" not in out  # nothing was measured
        return err

    return run


def test_the_same_name_is_refused(refused):
    assert "one place" in refused(NAME)


def test_another_name_of_the_same_place_is_refused(refused, tmp_path):
    place = testbed.resolve(NAME)
    assert "one place" in refused(place)
    (tmp_path / "link").symlink_to(place)
    assert "one place" in refused(tmp_path / "link")


def test_a_copy_of_the_weights_is_refused(refused, tmp_path):
    Policy.load(ModelConfig(name=NAME)).save(tmp_path / "copy")
    assert "equal weights" in refused(tmp_path / "copy", "--signals", "agreement")


def test_another_model_is_not_refused(rekindle):
    words = ("--model", NAME, "--weak", "testbed/addition-s1", *SMALL, "--signals", "sft")
    assert rekindle("diagnose", *words)[0] == 0
