"""Classify sentences with a small BERT under accelerate, as its examples do: prepare, accumulate, a linear schedule."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim import AdamW
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

parser = argparse.ArgumentParser()
parser.add_argument("--num_steps", type=int, default=2000)
parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
args = parser.parse_args()

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
set_seed(42)
batch_size = 8
num_batches = args.num_steps * args.gradient_accumulation_steps
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=8000, hidden_size=192, num_hidden_layers=3, num_attention_heads=6, intermediate_size=768, num_labels=2
    )
)
examples = batch_size * num_batches * accelerator.num_processes
train_set = TensorDataset(torch.randint(8000, (examples, 48)), torch.randint(2, (examples,)))
train_dataloader = DataLoader(train_set, shuffle=True, batch_size=batch_size)
optimizer = AdamW(model.parameters(), lr=2e-5)
lr_scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=100, num_training_steps=args.num_steps)
model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(model, optimizer, train_dataloader, lr_scheduler)

model.train()
for input_ids, labels in train_dataloader:
    with accelerator.accumulate(model):
        loss = model(input_ids=input_ids, labels=labels).loss
        accelerator.backward(loss)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
accelerator.print("done")
