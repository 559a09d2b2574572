from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from commprof.commbench.errors import BadInput
from commprof.commbench.ranks.launched import RankContext
from commprof.commbench.records.training import TrainingSummary
from commprof.commbench.timing import host_wait
from commprof.train.config.flops import flops_per_token, peak_flops_per_s
from commprof.train.config.learning_rate import learning_rate
from commprof.train.config.schedule import count_steps, samples_per_part, steps_per_epoch
from commprof.train.config.types import TrainConfig, load_train_config
from commprof.train.evaluation import evaluate
from commprof.train.model import TextClassifier, count_parameters, gradient_bytes, sinusoids
from commprof.train.step import train_step
from commprof.train.text.batches import batches_of, endless
from commprof.train.text.dataset import NUM_CLASSES, EncodedText
from commprof.train.trainee import Trainee, build_trainee
from tests import ROOT
from tests.factory import Unrecorded

CONFIGS = ROOT / "configs"
CPU = torch.device("cpu")


def rank_of(rank: int, world_size: int) -> RankContext:
    return RankContext(rank=rank, local_rank=rank, world_size=world_size, local_world_size=world_size, launcher="test")


def configured(**training: object) -> TrainConfig:
    base = TrainConfig()
    return replace(base, training=replace(base.training, **training))  # type: ignore[arg-type]


def articles(count: int) -> EncodedText:
    tokens = np.tile(np.arange(1, 5, dtype=np.int32), (count, 1))
    tokens[:, 0] = np.arange(1, count + 1)  # the first word numbers the article
    return EncodedText(tokens=tokens, labels=np.arange(count, dtype=np.int64) % NUM_CLASSES)


@pytest.mark.parametrize(("name", "parameters"), [("small", 1_933_060), ("large", 10_072_068)])
def test_the_models_have_the_published_sizes(name: str, parameters: int) -> None:
    """1.93 M and 10.07 M; every parameter is float32 and has a gradient."""
    model = TextClassifier(load_train_config(CONFIGS / f"{name}.yaml").model, NUM_CLASSES)
    assert count_parameters(model) == parameters
    assert gradient_bytes(model) == 4 * parameters


@pytest.mark.parametrize(("name", "millions"), [("medium-25m", 25), ("gpt-124m", 124), ("gpt-350m", 350)])
def test_the_models_for_gpus_have_the_size_in_their_name(name: str, millions: int) -> None:
    with torch.device("meta"):
        model = TextClassifier(load_train_config(CONFIGS / f"{name}.yaml").model, NUM_CLASSES)
    assert count_parameters(model) == pytest.approx(millions * 1e6, rel=0.03)


def test_an_evaluation_waits_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as a rank is waited for, whose parameters a sharded model gathers."""
    trainee, since_s = build_trainee(configured(), CPU), []  # type: ignore[var-annotated]
    forward = trainee.module.forward

    def watched(batch: Tensor) -> object:
        since_s.append(host_wait.since_s)
        return forward(batch)

    monkeypatch.setattr(trainee.module, "forward", watched)
    evaluate(trainee, articles(6), 2, rank_of(0, 1))
    assert len(since_s) == len(set(since_s)) == 3
    assert None not in since_s
    assert host_wait.since_s is None


def test_padding_changes_nothing() -> None:
    model = TextClassifier(TrainConfig().model, NUM_CLASSES).eval()
    words = torch.randint(1, 12000, (2, 9))
    padded = torch.zeros(2, 128, dtype=torch.long)
    padded[:, :9] = words
    assert torch.allclose(model(words), model(padded), atol=1e-5)


def test_positions_are_sinusoids() -> None:
    table = sinusoids(10, 6)
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert table[3, 0].item() == pytest.approx(np.sin(3))
    assert table[3, 3].item() == pytest.approx(np.cos(3 / 10_000 ** (2 / 6)))


def test_ranks_share_the_articles_and_every_epoch_is_shuffled_anew() -> None:
    config = configured(batch_size=2)
    seen = []
    for rank in range(3):
        loader = batches_of(articles(12), config, rank_of(rank, 3), CPU)
        seen.append([tokens[:, 0].tolist() for tokens, _ in islice(endless(loader), 4)])
    first_epoch = [number for batches in seen for batch in batches[:2] for number in batch]
    assert sorted(first_epoch) == list(range(1, 13))
    assert seen[0][:2] != seen[0][2:]


def test_under_strong_scaling_any_number_of_ranks_takes_the_same_articles_each_step() -> None:
    config = configured(batch_size=6, scaling="strong")
    of_step = {}
    for world_size in (1, 2, 3):
        streams = [endless(batches_of(articles(25), config, rank_of(rank, world_size), CPU)) for rank in range(world_size)]
        batches = [[next(stream)[0][:, 0].tolist() for stream in streams] for _ in range(4)]
        assert {len(batch) for step in batches for batch in step} == {6 // world_size}
        of_step[world_size] = [sorted(number for batch in step for number in batch) for step in batches]
        assert count_steps(25, configured(batch_size=6, scaling="strong", epochs=5), world_size) == 20
    assert of_step[1] == of_step[2] == of_step[3]


class FirstWord(nn.Module):
    """Says that article n has class (n - 1) mod 4, which is right, but is wrong for articles beyond 10."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        numbers = tokens[:, 0]
        said = torch.where(numbers <= 10, (numbers - 1) % NUM_CLASSES, numbers % NUM_CLASSES)
        return torch.nn.functional.one_hot(said, NUM_CLASSES).float()


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_article_is_evaluated_once_whatever_the_remainder(world_size: int) -> None:
    model = FirstWord()
    trainee = Trainee(model=model, optimizer=torch.optim.SGD([nn.Parameter(torch.zeros(1))]), device=CPU)
    results = [evaluate(trainee, articles(13), 4, rank_of(rank, world_size)) for rank in range(world_size)]
    assert sum(count for _, _, count in results) == 13
    assert sum(accuracy * count for _, accuracy, count in results) == pytest.approx(10)


def test_the_seed_decides_the_model() -> None:
    first, second, other = (build_trainee(configured(seed=seed), CPU).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_steps_are_full_batches_up_to_the_limit() -> None:
    assert steps_per_epoch(1000, 32, 2) == 15
    assert count_steps(6600, configured(epochs=2), 2) == 206
    assert count_steps(6600, configured(max_steps=50), 1) == 50


@pytest.mark.parametrize(
    ("articles_given", "training", "message"),
    [(31, {}, "do not fill a batch of 32"), (6600, {"max_steps": 9}, "9 steps are too few"), (64, {}, "2 steps are too few")],
)
def test_a_run_with_nothing_to_measure_is_refused(articles_given: int, training: dict[str, int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        count_steps(articles_given, configured(**training), 1)


def test_a_batch_that_the_ranks_cannot_share_is_refused_with_both_numbers() -> None:
    with pytest.raises(BadInput, match=r"training.batch_size=32 .* 3 ranks cannot share it evenly; use a multiple of 3"):
        count_steps(6600, configured(scaling="strong"), 3)


def test_a_ranks_share_is_cut_into_equal_parts_or_refused() -> None:
    assert samples_per_part(configured(batch_size=32, accumulation=4).training, 2) == 8
    assert samples_per_part(configured(batch_size=32, accumulation=4, scaling="strong").training, 2) == 4
    with pytest.raises(BadInput, match=r"training.accumulation=3 cuts the 16 samples .* use a divisor of 16"):
        samples_per_part(configured(batch_size=32, accumulation=3, scaling="strong").training, 2)
    with pytest.raises(BadInput, match=r"training.accumulation=8 cuts the 4 samples"):
        count_steps(6600, configured(batch_size=4, accumulation=8), 1)


def test_the_rate_rises_in_equal_steps_and_falls_like_half_a_cosine() -> None:
    """Rate 8 after four steps of warm-up, down to zero at 12: half of it in the middle, cos(pi/4) above half before."""
    training = configured(learning_rate=8.0, schedule="cosine", warmup_updates=4).training
    rates = [learning_rate(training, update, 12) for update in range(13)]
    assert rates[:5] == [2.0, 4.0, 6.0, 8.0, 8.0]
    assert (rates[6], rates[8], rates[12]) == (pytest.approx(4 + 2 * 2**0.5), pytest.approx(4.0), 0.0)
    ends_early = replace(training, decay_updates=8)
    assert [learning_rate(ends_early, update, 12) for update in (6, 8, 11)] == [pytest.approx(4.0), 0.0, 0.0]
    assert learning_rate(replace(training, warmup_updates=40), 11, 12) == 2.4  # a short run just ends while it rises
    flat = replace(training, schedule="constant")
    assert [learning_rate(flat, update, 12) for update in (0, 4, 11)] == [2.0, 8.0, 8.0]


def test_a_tokens_arithmetic_by_hand() -> None:
    """6 (1000 - 10 x 8) + 12 x 2 x 8 x 16: a million-parameter model of two layers, its 10-word table looked up."""
    model = replace(TrainConfig().model, vocabulary=10, d_model=8, layers=2, sequence_length=16)
    assert flops_per_token(model, 1000) == 6 * 920 + 3072


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "float32", 19.5),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),
        ("NVIDIA H100 80GB HBM3", "float16", 989.4),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 NVL", "bfloat16", None),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
        ("NVIDIA A10", "float32", 31.2),
        ("NVIDIA A10G", "float32", None),
        ("AMD EPYC", "float32", None),
    ],
)
def test_a_peak_is_known_for_the_very_device_or_not_at_all(name: str, precision: str, tera: float | None) -> None:
    assert peak_flops_per_s(name, precision) == (None if tera is None else pytest.approx(tera * 1e12))


def test_utilisation_is_the_models_arithmetic_over_all_devices_peak() -> None:
    """32 samples of 100 tokens in half a second at 1 MFLOP each are 6.4 GFLOP/s, a fifth of what two devices give."""
    summary = TrainingSummary(
        num_steps=3, step_s=0.5, samples_per_step=32, tokens_per_sample=100, flops_per_token=1e6,
        peak_flops_per_s=2 * 16e9, peak_memory_bytes=(1, 2), memory_kind="allocated",
    )  # fmt: skip
    assert (summary.samples_per_s, summary.tokens_per_s, summary.model_flop_utilisation) == (64, 6400, pytest.approx(0.2))
    assert replace(summary, peak_flops_per_s=None).model_flop_utilisation is None


def test_a_clipped_step_has_that_norm_and_the_rate_asked_for() -> None:
    config = configured(clip_norm=0.01, accumulation=2)
    trainee = build_trainee(replace(config, model=replace(config.model, dropout=0.0)), CPU)
    norms = []
    trainee.optimizer.register_step_pre_hook(
        lambda *_: norms.append(torch.cat([p.grad.flatten() for p in trainee.model.parameters() if p.grad is not None]).norm())
    )
    tokens = torch.randint(1, 100, (4, 16), dtype=torch.int32)
    train_step(trainee, iter([(tokens, torch.arange(4))]), Unrecorded(), config, learning_rate=0.125)
    assert [float(norm) for norm in norms] == [pytest.approx(0.01, rel=1e-3)]
    assert {group["lr"] for group in trainee.optimizer.param_groups} == {0.125}
    assert all(parameter.grad is None for parameter in trainee.model.parameters())


def test_one_step_more_than_warmup_and_tracing_is_enough() -> None:
    assert count_steps(6600, configured(max_steps=10), 1) == 10
