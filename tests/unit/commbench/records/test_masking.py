"""Credentials are in nothing that is written down; what is none stays as it was."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commprof.commbench.records.masking import is_secret, masked, masked_command, masked_variables

SECRET = "s3cr3t-V4lue"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123"


@pytest.mark.parametrize(
    "word",
    [
        f"https://user:{SECRET}@host/x",
        f"https://{SECRET}@host/x",
        f"data.url=https://user:{SECRET}@host:8080/x?y=1",
        f"git+ssh://git:{SECRET}@host/repository.git",
        f"https://user:a/b{SECRET}@host/x",
        f"https://user:a@b{SECRET}@host/x",
        f"postgresql+psycopg://u:{SECRET}@db/name",
        f"https://host/x?token={SECRET}&rows=3",
        f"data.url=https://host/x?a=1&token={SECRET}",
        f"https://host/x?X-Amz-Signature={SECRET}",
        f"--token={SECRET}",
        f"a=b=token={SECRET}",
        f"--token={'x' * 10_000}{SECRET}",
        f"--token='{'x y' * 10_000}{SECRET}'",
        f'--rdzv {{"a": 1, "password":"it\'s {SECRET}"}}',
        f"--hf_token={SECRET}",
        f"-api-key={SECRET}",
        f"logger.wandb.api_key={SECRET}",
        f"WANDB_API_KEY={SECRET}",
        f"AWS_SECRET_ACCESS_KEY={SECRET}",
        f"AWS_ACCESS_KEY_ID={SECRET}",
        f"dbPassword={SECRET}",
        f"password:{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET}",
        f"Cookie: session={SECRET}",
        f'{{"token": "{SECRET}", "rows": 3}}',
        f"{{'auth': {{'password': '{SECRET}'}}}}",
        f"['--token', '{SECRET}']",
        f"curl --token {SECRET} https://host",
        f"export HF_TOKEN={SECRET}; python train.py",
        f"AccountKey={SECRET};EndpointSuffix=core",
        f"-H 'X-Api-Key: {SECRET}'",
    ],
)
def test_a_credential_is_hidden(word: str) -> None:
    assert SECRET not in masked(word)
    assert masked(masked(word)) == masked(word)
    assert "***" in masked(word)


@pytest.mark.parametrize(
    "word",
    [
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "hf_" + "aB" * 16,
        "sk-" + "a1" * 20,
        "AKIA" + "A1" * 8,
        JWT,
        "glpat-" + "a1" * 10,
    ],
)
def test_a_credential_is_known_by_its_form(word: str) -> None:
    for said in (word, f"x {word} y", f"--name={word}", f"'{word}'"):
        assert word not in masked(said)


@pytest.mark.parametrize(
    "flag", ["--token", "--password", "--api-key", "-auth", "--secret", "--wandb.api_key", "--hf-token", "--client-secret"]
)
def test_the_word_after_its_flag_is_hidden(flag: str) -> None:
    assert masked_command(["python", "train.py", flag, SECRET, "--lr", "0.1"]) == (
        *("python", "train.py", flag, "***", "--lr", "0.1"),
    )
    assert masked_command([flag, f"-{SECRET}", flag]) == (flag, "***", flag)


@pytest.mark.parametrize(
    "words",
    [
        ["python", "train.py", "--max-tokens", "4096", "--lr", "1e-3"],
        ["--tokenizer", "bert", "--eos-token-id", "50256", "--pad-token", "<pad>", "--token-dropout=0.1"],
        ["commprof", "bench", "--nproc", "2", "-b", "8", "-e", "64M"],
        ["training.batch_size=64", "model.heads=8", "data.url=https://host:8080/path@v1/x?rows=3"],
        ["--num-keys", "4", "--keyboard=us", "--author", "me", "--passes", "3", "--monkey=1"],
        ["torchrun", "--rdzv-endpoint=host:29500", "--no-python", "a.py", "C:/x", "git@host:name/repository"],
        ["--config", "/data/keys/config.yaml", "--bypass", "x", "--assignment=1"],
    ],
    ids=" ".join,
)
def test_what_opens_nothing_stays(words: list[str]) -> None:
    assert list(masked_command(words)) == words


def test_variables_are_hidden_by_name_and_by_value() -> None:
    shown = masked_variables({"HF_TOKEN": SECRET, "NCCL_DEBUG": "INFO", "PROXY": f"http://u:{SECRET}@host", "API_KEY": ""})
    assert shown == {"HF_TOKEN": "***", "NCCL_DEBUG": "INFO", "PROXY": "http://***@host", "API_KEY": ""}


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=40), st.data())
def test_whatever_the_secret_is_it_does_not_come_through(secret: str, data: st.DataObject) -> None:
    secret = "Qz7" + secret  # in no name or address by itself
    form = data.draw(
        st.sampled_from(
            ["https://u:{}@h/x", "--token={}", "API_KEY={}", "token: {}", "x --password {} y", "Bearer {}", '"secret":"{}"']
        )
    )
    text = data.draw(st.text(max_size=20)).replace('"', "").replace("'", "") + " " + form.format(secret)
    assert secret not in masked(text)


def test_addresses_in_a_row_are_hidden_each_by_itself() -> None:
    text = "https://u:p=" * 200 + "https://u:a/b@host"
    assert masked(masked(text)) == masked(text) == "https://u:p=" * 200 + "https://***@host"
    assert masked("u://" * 200 + "u:p@h") == "u://" * 200 + "***@h"


@given(st.text(max_size=200))
def test_masking_twice_is_masking_once(text: str) -> None:
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize(
    "part",
    [
        "://:",
        "a",
        "token=",
        "--token ",
        "'",
        '"token":',
        "https://a:b",
        "Bearer ",
        "eyJ",
        "token '",
        "-",
        "a=",
        "a='",
        'a:"',
        'secret="',
    ],
)
def test_a_long_text_takes_no_longer_than_it_is(part: str) -> None:
    begun_s = time.process_time()  # others may have the core meanwhile
    masked(part * (200_000 // len(part)))
    assert time.process_time() - begun_s < 5


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("token", True),
        ("tokens", False),
        ("HF_TOKEN", True),
        ("hfToken", True),
        ("flops_per_token", False),
        ("KEYBOARD", False),
    ],
)
def test_names_decide_by_words(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_what_stands_before_a_host_is_hidden_whole_however_long_it_is() -> None:
    hidden = masked("url=https://" + "u:p@h" * 3000 + "/path")
    assert hidden == "url=https://***@h/path"
    assert masked(hidden) == hidden
