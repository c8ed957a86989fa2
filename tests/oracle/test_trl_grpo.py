"""Our GRPO losses and gradients equal TRL's on the same batch: an independent oracle.

TRL's `_compute_loss` is fed tensors that we made; ours get the same tokens, old log-probs and
advantages. Drift in either direction is news.
"""

import math
import os

import pytest
import torch

import tiny

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.filterwarnings("ignore"),
]
trl = pytest.importorskip("trl", reason="extra [oracle]: pip install 'rekindle[oracle]'")

from rekindle.engine.batch import count, pack  # noqa: E402
from rekindle.engine.device import Group  # noqa: E402
from rekindle.engine.update import LossTerms, fresh_state, update  # noqa: E402
from rekindle.loops.group_step import objective  # noqa: E402
from rekindle.methods.grpo import PRESETS, credit  # noqa: E402
from rekindle.ops.groups import ScoredRows  # noqa: E402

GROUP, LIMIT = 4, 6
LOSS_TYPES = {"grpo": "grpo", "dr_grpo": "dr_grpo", "dapo": "dapo"}


@pytest.fixture(scope="module")
def datasets_module():
    return pytest.importorskip("datasets")


def trl_trainer(model, method, beta, tmp_path, datasets_module):
    from trl import GRPOConfig, GRPOTrainer

    os.environ["HF_HUB_OFFLINE"] = "1"
    saved = tmp_path / "model"
    model.save_pretrained(saved)
    tiny.tokenizer().save_pretrained(saved)
    from transformers import AutoModelForCausalLM

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32),
        processing_class=tiny.tokenizer(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=datasets_module.Dataset.from_dict({"prompt": ["1+2="] * 8}),
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            use_cpu=True,
            bf16=False,
            report_to="none",
            gradient_checkpointing=False,
            per_device_train_batch_size=2 * GROUP,
            num_generations=GROUP,
            max_completion_length=LIMIT,
            beta=beta,
            num_iterations=2,
            loss_type=LOSS_TYPES[method],
            epsilon=0.2,
            epsilon_high=PRESETS[method].clip_high,
            save_strategy="no",
            use_bias_correction_kl=False,  # TRL's default differs from the paper's loss, and ours
        ),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def make_rows(gen):
    prompts = [(1, *range(4, 4 + 2 + p)) for p in range(2) for _ in range(GROUP)]
    completions = [
        (*torch.randint(4, 30, (int(n) - 1,), generator=gen).tolist(), 2)
        for n in torch.randint(1, LIMIT + 1, (2 * GROUP,), generator=gen)
    ]
    return prompts, completions


def trl_inputs(prompts, completions, advantage_B, old_BT, ref_BT):
    widest = max(len(p) for p in prompts)
    prompt_ids = torch.tensor([[0] * (widest - len(p)) + list(p) for p in prompts])
    width = max(len(c) for c in completions)
    ids = torch.tensor([list(c) + [0] * (width - len(c)) for c in completions])
    mask = torch.tensor([[1] * len(c) + [0] * (width - len(c)) for c in completions])
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": advantage_B.float(),
        "old_per_token_logps": old_BT.nan_to_num().float(),
        "ref_per_token_logps": ref_BT.nan_to_num().float(),
        "num_items_in_batch": mask.sum(),
    }


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("method", list(LOSS_TYPES))
def test_loss_and_gradient_equal_trl(method, beta, gen, tmp_path, datasets_module):
    policy = tiny.policy(dtype="float32")
    prompts, completions = make_rows(gen)
    scores = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 1], dtype=torch.float64)
    blank = torch.full((8,), math.nan, dtype=torch.float64)
    config = PRESETS[method].model_copy(update={"beta": beta, "epochs": 2, "overlong": 0.0})
    advantage_B = credit(
        ScoredRows([i // GROUP for i in range(8)], scores, blank, blank, blank), config
    ).advantage_N
    batch = pack(
        prompts,
        completions,
        reduction=config.reduction,
        total=count(completions),
        budget=LIMIT,
        advantage_B=advantage_B,
    )
    from rekindle.engine.update import measure_batch

    now = measure_batch(policy, batch, micro_tokens=1000, temperature=1.0).logprobs_BT
    noise = torch.randn(now.shape, generator=gen, dtype=torch.float64)
    old_BT, ref_BT = now + 0.3 * noise, now - 0.2 * noise
    batch = batch.replace(old_logprobs_BT=old_BT, ref_logprobs_BT=ref_BT)

    trainer = trl_trainer(policy.model, method, beta, tmp_path, datasets_module)
    theirs = trainer._compute_loss(
        trainer.model, trl_inputs(prompts, completions, advantage_B, old_BT, ref_BT)
    )
    theirs.backward()
    want = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}

    grads = {}
    loss = objective(policy, config, temperature=1.0, kl=beta)

    class Keep(Group):
        def sum_gradients(self, parameters):
            grads.update({n: p.grad.clone() for n, p in policy.model.named_parameters()})

    state = fresh_state({"policy": policy.model}, _optim())
    metrics = update(state, batch.split(60), loss, clip=1e9, group=Keep(), device=policy.device)
    assert metrics["loss"] == pytest.approx(float(theirs), abs=2e-6)
    assert set(want) <= set(grads)
    for name, gradient in want.items():
        torch.testing.assert_close(grads[name], gradient, atol=1e-6, rtol=1e-4)


def _optim():
    from rekindle.engine.config import OptimConfig

    return OptimConfig(lr=1e-6)


def test_the_oracle_can_disagree(gen):
    """A changed coefficient must show: guards against a comparison that cannot fail."""
    policy = tiny.policy(dtype="float32")
    prompts, completions = make_rows(gen)
    batch = pack(
        prompts,
        completions,
        reduction="sequence",
        total=count(completions),
        advantage_B=torch.ones(8, dtype=torch.float64),
    )
    losses = []
    for factor in (1.0, 1.01):
        honest = objective(policy, PRESETS["grpo"], temperature=1.0)
        state = fresh_state({"policy": policy.model}, _optim())

        def scaled(micro, honest=honest, factor=factor):
            terms = honest(micro)
            return LossTerms(terms.loss_BT * factor, terms.stats)

        losses.append(
            update(state, batch.split(60), scaled, clip=1.0, group=Group(), device=policy.device)[
                "loss"
            ]
        )
    assert abs(losses[0] - losses[1]) > 1e-3
