"""A transformer encoder that classifies text: the workload whose scaling is in question.

Positions are sinusoidal (Vaswani et al. 2017, section 3.5), so the embedding table is the only part that grows with
the vocabulary: in `small` it holds 79 % of all gradient bytes, and its gradient is the last one that backward yields.
"""

import math

import torch
from torch import Tensor, nn

from commprof.train.config.types import ModelConfig


class TextClassifier(nn.Module):
    """Token ids [batch, sequence] (0 is padding) -> class logits [batch, classes]."""

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.d_model, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(config.sequence_length, config.d_model), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        layer = nn.TransformerEncoderLayer(config.d_model, config.heads, config.feed_forward, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        for block in self.encoder.layers:
            # Dropout inside attention rules out the fused kernel: 209 ms instead of 113 ms forward (small, one core).
            assert isinstance(block, nn.TransformerEncoderLayer)
            block.self_attn.dropout = 0.0
        self.head = nn.Linear(config.d_model, num_classes)
        self.scale = math.sqrt(config.d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        features = self.dropout(self.embedding(tokens) * self.scale + self.positions[: tokens.shape[1]])
        features = self.encoder(features, src_key_padding_mask=padding)
        words = (~padding).unsqueeze(-1).to(features.dtype)
        mean: Tensor = (features * words).sum(1) / words.sum(1).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits


def sinusoids(length: int, width: int) -> Tensor:
    """Return position encodings [length, width]: sine in even features, cosine in odd, wavelengths 2 pi to 20,000 pi."""
    position = torch.arange(length).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: width // 2])
    return table


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def gradient_bytes(model: nn.Module) -> int:
    """Return what one synchronisation must carry: the bytes of all gradients."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
