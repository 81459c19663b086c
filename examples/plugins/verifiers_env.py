"""verifiers: a taskset whose tasks are paid the ranked reward.

Put this folder on PYTHONPATH; the taskset's id is the file's name. For training:

--env.taskset.id verifiers_env --env.taskset.rows train.jsonl \
    --env.taskset.task.rows-per-step 512 --serve.pool.type static --serve.pool.num-workers 1

A row of the file is {"prompt": a text or messages, "reference": a JSON text}.
"""

import json
from pathlib import Path

import numpy as np
import verifiers.v1 as vf

import rankreward as rr

__all__ = ["GroundingTaskset"]

scorer = rr.Scorer("dr_seg")  # one window a process, so one worker


class GroundingData(vf.TaskData):
    reference: str


class GroundingTaskConfig(vf.TaskConfig):
    rows_per_step: int = 0  # the trainer's rollouts a step; 0: an evaluation, which adds none


class GroundingTask(vf.Task[GroundingData, vf.State, GroundingTaskConfig]):
    @vf.reward
    async def rankreward(self, trace: vf.Trace) -> dict[str, float]:
        rows = self.config.rows_per_step
        reply = trace.assistant_messages[-1]
        thought = reply.reasoning_content  # some servers take the think block out of the text
        text = (f"<think>{thought}</think>" if thought else "") + (reply.content or "")
        batch = scorer.score([text], [self.data.reference], record=rows > 0)
        if 0 < rows <= scorer.quantiles.pending:
            scorer.flush((scorer.quantiles.step or 0) + 1)
        raw = {f"raw/{name}": float(values[0]) for name, values in batch.raw.items()}
        trace.record_metrics({name: value for name, value in raw.items() if not np.isnan(value)})
        return {name: float(values[0]) for name, values in batch.terms.items()}


class GroundingConfig(vf.TasksetConfig):
    rows: Path = Path("train.jsonl")
    task: GroundingTaskConfig = GroundingTaskConfig()


class GroundingTaskset(vf.Taskset[GroundingTask, GroundingConfig]):
    def load(self):
        for line in self.config.rows.read_text("utf-8").splitlines():
            yield GroundingTask(GroundingData(**json.loads(line)), self.config.task)
