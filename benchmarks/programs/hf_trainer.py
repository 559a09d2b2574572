"""Fine-tune a small GPT-2 with the Trainer: accumulation, evaluation and checkpoints as its arguments ask for them."""

import argparse
import os

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


class Texts(torch.utils.data.Dataset):
    def __init__(self, examples, vocabulary, length=64):
        self.tokens = torch.randint(vocabulary, (examples, length), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-steps", type=int, default=1000)
    parser.add_argument("--output-dir", default="out")
    args = parser.parse_args()

    config = GPT2Config(n_layer=4, n_head=6, n_embd=192, vocab_size=4096, n_positions=64)
    model = GPT2LMHeadModel(config)
    training = TrainingArguments(
        args.output_dir,
        max_steps=args.max_steps,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=5e-4,
        warmup_steps=10,
        logging_steps=10,
        eval_strategy="steps",
        eval_steps=25,
        save_steps=40,
        use_cpu=True,
        ddp_backend="gloo" if "RANK" in os.environ else None,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=Texts(4096, config.vocab_size),
        eval_dataset=Texts(16, config.vocab_size),
    )
    trainer.train()


if __name__ == "__main__":
    main()
