"""What every run needs, loaded once by the process that workers are forked from.

Imported by that process alone. Without it each worker loads torch, transformers and what they load
at their first use: several seconds of a core for each worker. Nothing here may start a thread or
touch a device, for neither survives a fork.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module

from rekindle.engine.threads import calm_threads

# The first step of a run loads the last ones: the optimizer asks torch._dynamo whether it compiles.
MODULES = (
    "rekindle.training.train",
    "rekindle.methods.grpo",
    "rekindle.methods.sft",
    "scipy.stats",
    "accelerate.state",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.modeling_utils",
    "transformers.generation.utils",
    "transformers.models.llama.modeling_llama",
    "torch._dynamo",
)

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
calm_threads()
# Ctrl-C reaches the whole terminal, and the study that is told to stop ends this process: without
# this line a load that is cut short prints its traceback.
_before = signal.signal(signal.SIGINT, signal.SIG_IGN)
for _name in MODULES:
    import_module(_name)
signal.signal(signal.SIGINT, _before)
# A SIGTERM to the whole process group is the workers' business: without this process nobody could
# say how they ended.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
