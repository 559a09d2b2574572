"""The study files that ship can be loaded, and ask for what they say."""

from pathlib import Path

import pytest

from commprof.study.config import StudyConfig, load_study, train_config
from commprof.study.plan import make_plan
from tests import ROOT

CONFIGS = ROOT / "configs"
ARTICLES = CONFIGS.parents[1] / "shared" / "data" / "ag_news_csv" / "test.csv"


def load(name: str, tmp_path: Path, *overrides: str) -> StudyConfig:
    """Load a study with a cache of its own, the study's overrides replaced by these."""
    words = ",".join([f"data.cache_dir={tmp_path}", *overrides])
    return load_study(CONFIGS / name, [f"overrides=[{words}]"])


def test_the_demo_is_one_cell(tmp_path: Path) -> None:
    study = load("study-demo.yaml", tmp_path, "data.synthetic_articles=2000")
    assert not study.is_grid
    assert len(make_plan(study).stages) == 2 + 1 + 2 + 2


def test_the_testbeds_study_is_a_grid_of_two_models_and_three_wires_on_four_hosts(tmp_path: Path) -> None:
    study = load("study-testbed.yaml", tmp_path, "data.synthetic_articles=2000", "model.vocabulary=8000")
    assert (study.launcher, study.world_sizes, len(study.wires)) == ("testbed", (1, 2, 4), 3)
    plan = make_plan(study)
    assert len(plan.wires) == 2 * 2 * 3
    assert [(model.name, len(model.stages)) for model in plan.models] == [("small", 1 + 3 * 4), ("large", 1 + 3 * 4)]


@pytest.mark.field
@pytest.mark.skipif(not ARTICLES.exists(), reason="real AG News articles are not at ../shared/data/ag_news_csv")
def test_the_first_experiment_shares_one_batch_of_128_articles_among_four_gpus(tmp_path: Path) -> None:
    text = (CONFIGS / "study-ag-news.yaml").read_text()
    own = [line.removeprefix("  - ") for line in text[text.index("overrides:") :].splitlines()[1:]]
    local = [word for word in own if not word.startswith("data.download")]
    here = (f"data.train_csv={ARTICLES}", f"data.eval_csv={ARTICLES}", "model.vocabulary=8000")  # a part, with fewer words
    study = load("study-ag-news.yaml", tmp_path, *local, *here)
    assert study.world_sizes == (1, 4)
    config = train_config(study, study.models[1])
    assert (config.training.scaling, config.training.batch_size, config.distributed.backend) == ("strong", 128, "nccl")
    assert [model.name for model in study.models] == ["small", "large"]
