"""Is this the study that a folder holds? Told key by key, wherever the checkout and the folder lie by now.

study.yaml keeps the study as it was asked for, its paths relative to the study's own file. They were absolute once: of those
the last part is compared.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from commprof.commbench.errors import BadInput
from commprof.commbench.records.rundir import write_text
from commprof.study.config import ModelConfig, ScriptConfig, StudyConfig
from commprof.train.config.load import dump_config, read_yaml, to_container

STUDY_FILE = "study.yaml"


def write_identity(folder: Path, study: StudyConfig, source: Path) -> None:
    """Write down which study the folder holds; `source` is the study's file."""
    write_text(folder / STUDY_FILE, dump_config(_relative(study, source)))


def check_identity(folder: Path, study: StudyConfig, source: Path) -> None:
    """Raise BadInput naming the first key in which the folder's study differs from this one."""
    written = folder / STUDY_FILE
    if not written.exists():
        raise BadInput(
            f"{folder} is no study that can go on: it has no {STUDY_FILE}; give this one its own name, or another --out"
        )
    before = dict(_keys(OmegaConf.to_container(read_yaml(written), resolve=False)))
    now = dict(_keys(to_container(_relative(study, source))))
    trainings = StudyConfig(models=[ModelConfig() for _ in study.models], scripts=[ScriptConfig() for _ in study.scripts])
    defaults = dict(_keys(to_container(trainings)))
    for key in dict.fromkeys([*now, *before]):
        if not _same(before.get(key, defaults.get(key)), now.get(key)):  # a folder may be older than a key
            raise BadInput(
                f"{folder} holds another study: {key} was {before.get(key)!r} and is {now.get(key)!r} now (see {written}); "
                "set it back, give this one its own name, or another --out"
            )


def _relative(study: StudyConfig, source: Path) -> StudyConfig:
    home = source.resolve().parent
    models = [replace(model, config=os.path.relpath(model.config, home)) for model in study.models]
    return replace(study, models=models, slurm=replace(study.slurm, scripts=os.path.relpath(study.slurm.scripts, home)))


def _keys(value: Any, name: str = "") -> Iterator[tuple[str, object]]:  # noqa: ANN401  what YAML holds
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _keys(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _keys(inner, f"{name}[{index}]")
    else:
        yield name, value


def _same(before: object, now: object) -> bool:
    if isinstance(before, str) and isinstance(now, str) and Path(before).is_absolute():
        return Path(before).name == Path(now).name
    return before == now
