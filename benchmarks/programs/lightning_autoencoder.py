"""Train a convolutional autoencoder in Lightning, with a validation epoch and a checkpoint now and then."""

import argparse
import os

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class AutoEncoder(L.LightningModule):
    def __init__(self, width=32, latent=256):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(2 * 64 * width, latent),
        )
        self.linear = nn.Linear(latent, 2 * 64 * width)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 3, output_padding=1, padding=1, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(width, 3, 3, output_padding=1, padding=1, stride=2),
            nn.Tanh(),
        )

    def forward(self, x):
        z = self.encoder(x)
        return self.decoder(self.linear(z).reshape(x.shape[0], -1, 8, 8))

    def _loss(self, batch):
        (x,) = batch
        return F.mse_loss(self(x), x)

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._loss(batch), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 10)}


parser = argparse.ArgumentParser()
parser.add_argument("--max-steps", type=int, default=1000)
parser.add_argument("--root", default="lightning_out")
args = parser.parse_args()
L.seed_everything(42)
distributed = "RANK" in os.environ
local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
images = DataLoader(TensorDataset(torch.rand(2048, 3, 32, 32) * 2 - 1), batch_size=16, shuffle=True)
held_out = DataLoader(TensorDataset(torch.rand(64, 3, 32, 32) * 2 - 1), batch_size=32)
trainer = L.Trainer(
    max_steps=args.max_steps,
    accelerator="cpu",
    devices=local,
    num_nodes=int(os.environ.get("WORLD_SIZE", "1")) // local,
    strategy="ddp" if distributed else "auto",
    plugins=[TorchElasticEnvironment()] if distributed else None,
    val_check_interval=25,
    enable_progress_bar=False,
    enable_model_summary=False,
    logger=False,
    default_root_dir=args.root,
    callbacks=[ModelCheckpoint(args.root, every_n_train_steps=30)],
)
trainer.fit(AutoEncoder(), images, held_out)
