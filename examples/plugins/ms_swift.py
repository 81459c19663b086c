"""ms-swift: the ranked reward as an ORM, and the trainer callback that ends its steps.

swift rlhf --rlhf_type grpo --external_plugins examples/plugins/ms_swift.py \
    --reward_funcs rankreward --callbacks rankreward ...

The dataset's column `solution` holds the reference.
"""

from pathlib import Path

import torch.distributed as dist
from swift.callbacks import TrainerCallback, callbacks_map
from swift.rewards import ORM, orms

import rankreward as rr
from rankreward.quantiles.distributed import DistributedQuantileService

WINDOW = "rankreward.npz"


class RankReward(ORM):
    def __init__(self, args, **kwargs):
        super().__init__(args, **kwargs)
        if "rankreward" not in args.callbacks:
            raise rr.StateError("expected --callbacks rankreward, which ends the steps, got none")
        many = dist.is_initialized() and dist.get_world_size() > 1
        window = DistributedQuantileService if many else rr.QuantileService
        self.scorer = rr.Scorer("dr_seg", quantiles=window)
        self.in_step = False

    def __call__(self, completions, solution, **columns):
        return self.scorer.score(completions, solution, record=self.in_step).total.tolist()


class EndStep(TrainerCallback):
    @property
    def reward(self):
        return next(each for each in self.trainer.reward_funcs if isinstance(each, RankReward))

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step > 0:
            self.reward.scorer.load(Path(args.resume_from_checkpoint) / WINDOW)

    def on_step_begin(self, args, state, control, **kwargs):
        self.reward.in_step = True

    def on_step_end(self, args, state, control, **kwargs):
        self.reward.in_step = False  # an evaluation comes between two steps
        self.reward.scorer.flush(state.global_step)

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.reward.scorer.save(folder / WINDOW)


orms["rankreward"] = RankReward
callbacks_map["rankreward"] = EndStep
