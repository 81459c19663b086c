"""OpenRLHF: the ranked reward as a `reward_func`, with one window for all vLLM engines.

python -m openrlhf.cli.train_ppo_ray --reward.remote_url /path/to/openrlhf_reward.py \
    --data.label_key label ...

A label is a JSON text, {"split": "train", "solution": [...]}; in the evaluation set another split.
"""

import json
import threading
from functools import partial

import rankreward as rr
from rankreward.quantiles.ray import RayQuantileService

ROWS_A_STEP = 1024  # --rollout.batch_size times --rollout.n_samples_per_prompt
TURN, END = "<|im_start|>assistant\n", "<|im_end|>"  # of the policy's chat template

# Each engine's actor loads this file; by its name they find the same window.
window = partial(RayQuantileService, name="my-run")
scorer = rr.Scorer("dr_seg", quantiles=window)
one_at_a_time = threading.Lock()


def reward_func(queries, prompts, labels):
    """Called in a thread, with lists of one; never told of a step."""
    labels = [json.loads(label) for label in labels]
    completions = [answer(*pair) for pair in zip(queries, prompts, strict=True)]
    training = labels[0]["split"] == "train"
    batch = scorer.score(completions, [label["solution"] for label in labels], record=training)
    if training:
        with one_at_a_time:
            if scorer.quantiles.pending >= ROWS_A_STEP:  # the step's last rollout
                scorer.flush((scorer.quantiles.step or 0) + 1)
    # OpenRLHF wants the same names from every rollout: what does not apply is logged as NaN.
    logs = {f"rankreward/term/{name}": float(values[0]) for name, values in batch.terms.items()}
    logs |= {f"rankreward/raw/{name}": float(values[0]) for name, values in batch.raw.items()}
    logs["rankreward/failures"] = float(batch.failures[0] is not None)
    total = float(batch.total[0])
    return {"rewards": total, "scores": total, "extra_logs": logs}


def answer(query, prompt):
    """The completion: in the query an image's tokens are expanded, so lengths tell nothing."""
    turns = prompt.count(TURN)
    if turns == 0 or query.count(TURN) < turns:
        raise rr.InputError(f"expected a prompt and query with {TURN!r}, got {query[:80]!r}")
    return query.split(TURN, turns)[turns].removesuffix(END)
