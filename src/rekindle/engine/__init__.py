"""Machinery that has never heard of any method: policy, sampler, batch, update, state, run."""
