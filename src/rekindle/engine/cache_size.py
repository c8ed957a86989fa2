"""How many rows to decode at once: what a row's keys and values take, against what is free."""

import torch

from rekindle.engine.config import SampleConfig
from rekindle.engine.contrast import ContrastPolicy
from rekindle.engine.device import free_bytes
from rekindle.engine.policy import Policy

SHARE = 0.5  # of the free memory: the rest is for prompts, activations and what comes after
MOST_ROWS = 1024  # beyond, a step takes as long for each row as before
_LOGITS_BYTES = 3 * 4  # of a row, for each id: fp32 logits of two steps and what makes them


def rows_at_once(policy: Policy, config: SampleConfig, *, longest: int) -> int:
    """`config.batch_size`, or for "auto" the rows whose cache fits in half of the free memory.

    The draws do not depend on it, up to the rounding of logits; what is free may differ from one
    run to the next, and their last bits with it.

    Args:
        longest: tokens of the longest prompt.
    """
    if config.batch_size != "auto":
        return config.batch_size
    slots = min(longest + config.max_new_tokens, policy.context)
    both = (policy, policy.weak) if isinstance(policy, ContrastPolicy) else (policy,)
    row = sum(_row_bytes(one, slots) for one in both)
    return max(1, min(MOST_ROWS, int(SHARE * free_bytes(policy.device) / row)))


@torch.inference_mode()
def _row_bytes(policy: Policy, slots: int) -> int:
    """Measured on the cache of one token: no config says it for every family."""
    from rekindle.engine.cache import row_bytes  # transformers takes seconds to import

    past = policy.fresh_cache()
    one_BS = torch.tensor([[policy.eos_id]], device=policy.device)
    logits_BV = policy.extend(past, one_BS, torch.ones_like(one_BS, dtype=torch.bool))
    return row_bytes(past, slots) + _LOGITS_BYTES * logits_BV.shape[1]
