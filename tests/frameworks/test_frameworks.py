"""Trainings that a library's loop runs, recorded without a changed line and by a callback, on one gloo rank and on two.

They need transformers, accelerate and lightning (requirements.txt); FRAMEWORKS_PYTHON names an interpreter that has them.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from commprof.commbench.records.rundir import read_document, read_info, read_records
from commprof.commbench.records.training import GradientTimeline, StepMeasurement

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("FRAMEWORKS_PYTHON", sys.executable)
DEADLINE_S = 240
STEPS = 12

SCRIPTS = {
    "transformers": """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
config = BertConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=100, max_position_embeddings=16
)
data = [{"input_ids": torch.arange(8), "attention_mask": torch.ones(8, dtype=torch.long), "labels": torch.tensor(1)}] * 400
arguments = TrainingArguments(
    "out", per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=STEPS, use_cpu=True, report_to=[],
    save_steps=5, eval_strategy="steps", eval_steps=4, disable_tqdm=True,
)
callbacks = []
if CALLBACK:
    from commprof.integrations import HFCallback
    callbacks = [HFCallback(folder="run", experiment="bert")]
model = BertForSequenceClassification(config)
Trainer(model, arguments, train_dataset=data, eval_dataset=data[:8], callbacks=callbacks).train()
""",
    "accelerate": """
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
data = DataLoader(TensorDataset(torch.ones(4 * 2 * STEPS * accelerator.num_processes, 8)), batch_size=4)
model, optimizer, data = accelerator.prepare(model, torch.optim.AdamW(model.parameters()), data)
for (batch,) in data:
    with accelerator.accumulate(model):
        accelerator.backward(model(batch).square().mean())
        optimizer.step()
        optimizer.zero_grad()
""",
    "lightning": """
import os, torch
import lightning
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    def training_step(self, batch, number):
        return self.inside(batch[0]).square().mean()
    def validation_step(self, batch, number):
        self.inside(batch[0])
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())

ranks = int(os.environ.get("WORLD_SIZE", "1"))
callbacks = []
if CALLBACK:
    from commprof.integrations import LightningCallback
    callbacks = [LightningCallback(folder="run", experiment="mlp")]
data = DataLoader(TensorDataset(torch.ones(4 * 2 * STEPS * ranks, 8)), batch_size=4)
lightning.Trainer(
    max_steps=STEPS, accelerator="cpu", devices=ranks, strategy="ddp" if ranks > 1 else "auto", accumulate_grad_batches=2,
    val_check_interval=6, limit_val_batches=2, logger=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=callbacks,
).fit(Module(), data, data)
""",
}


@cache
def missing(library: str) -> bool:
    return subprocess.run([PYTHON, "-c", f"import {library}, msgspec"], capture_output=True, timeout=DEADLINE_S).returncode != 0


def run(folder: Path, library: str, ranks: int, *before: str | Path, callback: bool) -> None:
    """Run a library's script on so many ranks, behind the words that come before it."""
    if missing(library):
        pytest.skip(f"{library} is missing in {PYTHON}; tests/frameworks/requirements.txt says how to have it")
    text = SCRIPTS[library].replace("STEPS", str(STEPS)).replace("CALLBACK", str(callback))
    (folder / "mine.py").write_text(text)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    done = subprocess.run(
        [*map(str, before), PYTHON, *launcher, "mine.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def check(run_folder: Path, ranks: int) -> None:
    """Fail unless all optimizer steps but the first were recorded, in two micro-batches each, and DDP's bucket was seen."""
    info = read_info(run_folder)
    assert info.workload is not None
    assert (info.status, info.world_size, len(info.ranks)) == ("completed", ranks, ranks)
    assert (info.workload.kind, info.workload.accumulation) == ("none" if ranks == 1 else "ddp", 2)
    assert info.workload.samples_per_rank == 8
    assert info.unseen == ()
    for rank in range(ranks):
        steps = list(read_records(run_folder / f"steps.rank{rank:05d}.jsonl", StepMeasurement))
        assert len(steps) == STEPS - 1
        for step in steps:
            assert step.forward_s > 0
            assert step.data_s + step.forward_s + step.backward_s + step.optimizer_s == pytest.approx(step.step_s, abs=1e-9)
    timeline = read_document(run_folder / "gradients.json", GradientTimeline)
    assert sum(bucket.num_bytes for bucket in timeline.buckets) == (info.workload.gradient_bytes if ranks > 1 else 0)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("library", SCRIPTS)
def test_a_librarys_loop_is_recorded_as_it_is(tmp_path: Path, library: str, ranks: int) -> None:
    script = Path(sys.executable).parent / "commprof"
    run(tmp_path, library, ranks, script, "record", "--folder", tmp_path / "run", "--", callback=False)
    check(tmp_path / "run", ranks)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("library", ["transformers", "lightning"])
def test_a_callback_records_the_same(tmp_path: Path, library: str, ranks: int) -> None:
    run(tmp_path, library, ranks, callback=True)
    check(tmp_path / "run", ranks)
