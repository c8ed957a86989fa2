"""From answers to claims: outcomes -> pass@k, maj@k, avg@k -> intervals, paired differences."""
