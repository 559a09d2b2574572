import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commprof.cli import main
from commprof.commbench.display.sheet import plain_text
from commprof.commbench.machine.hardware import host_info
from commprof.commbench.machine.text import describe
from tests.fake_nvml import A100_LINK, H100_LINK, Card, FakeNvml
from tests.forked import DEADLINE_S
from tests.unit.commbench.machine.test_network import net


def text(*cards: Card, driver: bool = True, sys_root: Path = Path("/nowhere"), **environ: str) -> str:
    shown = plain_text(describe(host_info(environ, FakeNvml(cards=cards, driver=driver), sys_root)))
    assert max(map(len, shown.splitlines())) <= 80
    return shown


def test_a_host_of_sixteen_gpus_fits_eighty_columns() -> None:
    shown = text(*[Card(links=[H100_LINK] * 18)] * 16, NCCL_DEBUG="INFO" * 40)
    assert "version 4; 18 of 18 links up" in shown
    assert "  gpu15" + "  NV18" * 3 + "     X" in shown
    assert "peer access  to all others" in shown


def test_what_is_wrong_or_unsaid_can_be_read_off() -> None:
    laptop = Card(generation=1, width=4, missing=("nvmlDeviceGetEnforcedPowerLimit",), throttle_bits=0x40)
    shown = text(laptop, Card(links=[A100_LINK] * 3 + [0], peers=False), Card(lost=True))
    assert "generation 1, at most 5; lanes 4, at most 16; an idle card may" in shown
    assert "power limit  not stated: NVML: Not Supported, at most 700 W" in shown
    assert "throttled    hardware thermal slowdown" in shown
    assert "version 3; 3 of 4 links up; down: 3" in shown
    assert "peer access  to none" in shown
    assert "gpu2           not stated: NVML: GPU is lost" in shown
    assert "GPUs           not stated: NVML: Driver Not Loaded" in text(driver=False)


def test_hostile_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    net(tmp_path, "eth\x1b[2J")
    shown = text(Card(name="GPU\x1b[31m\u202e\n"), sys_root=tmp_path, NCCL_ALGO="a\x07b")
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "GPU\\x1b[31m" in shown


def test_fields_without_a_reason_still_say_so() -> None:
    host = replace(host_info({}, FakeNvml(cards=[Card()]), Path("/nowhere")), absent={})
    assert "not stated: the machine gives no reason" in plain_text(describe(host))


@pytest.mark.processes
def test_the_verb_answers_without_torch_and_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_KEY", "hunter2")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    code = "import sys; from commprof.cli import main; main(['env', '--json']); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert done.stderr.strip() == "False"
    assert json.loads(done.stdout)["environ"]["NCCL_DEBUG"] == "WARN"
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    assert "  NCCL_DEBUG=WARN" in shown
    assert "hunter2" not in done.stdout + shown
    assert "MY_API_KEY" not in done.stdout + shown
