"""scratch"""

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.records import Problem, Rollout


def _mix(x):
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@runtime_checkable
class Sampler(Protocol):
    def sample(
        self, problems: Sequence[Problem], *, samples: int, config: SampleConfig, seed: int
    ) -> list[Rollout]: ...


class CachedSampler:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @torch.no_grad()
    def sample(self, problems, *, samples, config, seed):
        p = self.policy
        out = []
        per = max(1, config.batch_size // samples)
        for i in range(0, len(problems), per):
            out += self._batch(problems[i : i + per], samples, config, seed)
        return out

    def _batch(self, problems, G, config, seed):
        p = self.policy
        enc = [p.encode_prompt(q) for q in problems]
        S = max(map(len, enc))
        P = len(enc)
        tok = torch.zeros(P, S, dtype=torch.long)
        att = torch.zeros(P, S, dtype=torch.bool)
        for b, e in enumerate(enc):
            tok[b, S - len(e) :] = torch.tensor(e)
            att[b, S - len(e) :] = True
        logits, past = p.prefill(tok, att)
        past.batch_repeat_interleave(G)
        logits = logits.repeat_interleave(G, 0)
        att = att.repeat_interleave(G, 0)
        B = P * G
        T = min(config.max_new_tokens, p.context - S)
        keys = np.array(
            [
                int.from_bytes(
                    hashlib.blake2b(f"{seed}|{q.id}|{g}".encode(), digest_size=8).digest(), "big"
                )
                for q in problems
                for g in range(G)
            ],
            dtype=np.uint64,
        )
        with np.errstate(over="ignore"):
            u = (
                _mix(
                    keys[:, None]
                    + np.arange(T, dtype=np.uint64)[None] * np.uint64(0x9E3779B97F4A7C15)
                )
                >> np.uint64(11)
            ).astype(np.float64) / 2**53
        u = torch.from_numpy(u)
        toks = torch.full((B, T), -1)
        lps = torch.zeros(B, T, dtype=torch.float64)
        live = torch.arange(B)
        eos = torch.tensor(p.eos_ids)
        for t in range(T):
            if config.temperature == 0:
                nxt = logits.argmax(-1)
                lp = torch.log_softmax(logits.float(), -1)
            else:
                lp = torch.log_softmax(logits.float() / config.temperature, -1)
                cum = lp.double().exp().cumsum(-1)
                nxt = (
                    torch.searchsorted(cum, (u[live, t] * cum[:, -1])[:, None], right=True)
                    .squeeze(1)
                    .clamp(max=lp.shape[1] - 1)
                )
            toks[live, t] = nxt
            lps[live, t] = lp.gather(-1, nxt[:, None]).squeeze(1).double()
            go = ~torch.isin(nxt, eos)
            if not go.any() or t == T - 1:
                break
            if not go.all():
                idx = go.nonzero().squeeze(1)
                past.batch_select_indices(idx)
                live = live[idx]
                att = att[idx]
                nxt = nxt[idx]
            att = torch.cat([att, torch.ones(len(live), 1, dtype=torch.bool)], 1)
            logits = p.extend(past, nxt, att)
        res = []
        for b in range(B):
            row = toks[b].tolist()
            n = row.index(-1) if -1 in row else T
            row = row[:n]
            done = row[-1] in p.eos_ids
            res.append(
                Rollout(
                    problem=problems[b // G],
                    sample=b % G,
                    prompt_tokens=enc[b // G],
                    tokens=tuple(row),
                    sampled_logprobs=tuple(lps[b, :n].tolist()),
                    text=p.decode(row),
                    finish="eos" if done else "length",
                )
            )
        return res
