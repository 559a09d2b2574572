"""Two tiny files in AG News' format, and what is asked of them once they are encoded."""

import hashlib
from pathlib import Path

from commprof.train.config.types import DataConfig, ModelConfig
from commprof.train.text.dataset import EncodedText

MODEL = ModelConfig(vocabulary=13, sequence_length=9)
TRAIN_CSV = b'"3","The dog","the DOG barks."\n"1","A second\\team","""Yes"", the cat"\n'
EVAL_CSV = b'"4","The","bird."\n"2","[PAD] [UNK]","dog"\n'


def csv_data(folder: Path, training: bytes, evaluation: bytes = EVAL_CSV) -> DataConfig:
    (folder / "train.csv").write_bytes(training)
    (folder / "test.csv").write_bytes(evaluation)
    return DataConfig(
        source="csv",
        train_csv=str(folder / "train.csv"),
        eval_csv=str(folder / "test.csv"),
        cache_dir=str(folder / "cache"),
    )


def cache_files(data: DataConfig) -> list[Path]:
    return sorted(Path(data.cache_dir).iterdir())


def digest(parts: tuple[EncodedText, EncodedText]) -> str:
    return hashlib.sha256(b"".join(part.tokens.tobytes() + part.labels.tobytes() for part in parts)).hexdigest()
