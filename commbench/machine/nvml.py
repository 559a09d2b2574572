"""What is NVML asked, in SI units, and what does it leave unsaid?

NVML's units are converted where they are read: clocks MHz, power mW, PCIe rates KB/s, NVLink counters KiB. What is made of the
answers is in gpus.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

_ALL_LINKS = 0xFFFFFFFF  # as a counter's scope: the sum over links
_LINK_BYTES = (202, 204)  # NVML_FI_DEV_NVLINK_COUNT_XMIT_BYTES and _RCV_BYTES, of one link, since NVLink 5
_SM, _MEMORY = 1, 2  # nvmlClockType_t
_THROTTLE_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}


class Nvml:
    """NVML opened for reading; every question that it does not answer is None, with its reason in `absent`."""

    def __init__(self, module: Any = None) -> None:  # noqa: ANN401  the pynvml module, or a test's stand-in
        """Open NVML; raise OSError where there is no driver to ask."""
        self._module = import_module("pynvml") if module is None else module
        self.absent: dict[str, str] = {}
        try:
            self._module.nvmlInit()
        except self._module.NVMLError as error:
            raise OSError(f"NVML: {error}") from None

    def close(self) -> None:
        self._module.nvmlShutdown()

    def ask(self, field: str, function: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Return NVML's answer, or None."""
        call = getattr(self._module, function, None)
        if call is None:
            self.absent[field] = f"this nvidia-ml-py has no {function}"
            return None
        try:
            return call(*arguments)
        except self._module.NVMLError as error:
            self.absent[field] = f"NVML: {error}"
            return None

    def text(self, field: str, function: str, *arguments: Any) -> str | None:  # noqa: ANN401
        """Ask for text, which some versions of nvidia-ml-py return as bytes."""
        answer = self.ask(field, function, *arguments)
        return answer.decode(errors="replace") if isinstance(answer, bytes) else answer

    def scaled(self, field: str, scale: float, function: str, *arguments: Any) -> float | None:  # noqa: ANN401
        """Ask for a number in NVML's unit and return it in SI."""
        answer = self.ask(field, function, *arguments)
        return None if answer is None else answer * scale

    def handles(self) -> dict[int, Any]:
        """Return a handle for each GPU, by NVML's index; one that fell off the bus is absent."""
        count = self.ask("gpus", "nvmlDeviceGetCount") or 0
        found = {index: self.ask(f"gpu{index}", "nvmlDeviceGetHandleByIndex", index) for index in range(count)}
        return {index: handle for index, handle in found.items() if handle is not None}

    def clock_hz(self, field: str, handle: Any, *, memory: bool, most: bool = False) -> float | None:  # noqa: ANN401
        function = "nvmlDeviceGetMaxClockInfo" if most else "nvmlDeviceGetClockInfo"
        return self.scaled(field, 1e6, function, handle, _MEMORY if memory else _SM)

    def throttle_reasons(self, field: str, handle: Any) -> tuple[str, ...] | None:  # noqa: ANN401
        """Name what holds the clocks down now; drivers before 535 know the question by its older name."""
        bits = self.ask(field, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:
            reason = self.absent[field]
            bits = self.ask(field, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
            if bits is None:
                self.absent[field] = reason  # a missing older call says less than what the newer one was refused for
                return None
            del self.absent[field]
        named = [name for bit, name in _THROTTLE_REASONS.items() if bits & bit]
        unknown = bits & ~sum(_THROTTLE_REASONS)
        return tuple([*named, f"reasons {unknown:#x}"] if unknown else named)

    def nvlink_bytes(self, field: str, handle: Any) -> tuple[int | None, int | None]:  # noqa: ANN401
        """Return the bytes that all of a GPU's NVLinks sent and received since the driver was loaded.

        Payload up to NVLink 4. NVLink 5 has no such counter: there it is the sum of all bytes of each link.
        """
        module = self._module
        counters = (module.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, module.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX)
        payload = self._counted(field, handle, [(counter, _ALL_LINKS) for counter in counters])
        if None not in payload:
            return payload[0] * 1024, payload[1] * 1024
        links = range(self.max_links)
        each = self._counted(field, handle, [(counter, link) for counter in _LINK_BYTES for link in links])
        sent, received = ([count for count in way if count is not None] for way in (each[: len(links)], each[len(links) :]))
        if not sent or not received:
            return None, None
        self.absent.pop(field, None)
        return sum(sent), sum(received)

    def _counted(self, field: str, handle: Any, counters: Sequence[tuple[int, int]]) -> list[Any]:  # noqa: ANN401
        """Return each counter, None for one that the card does not have; the first reason is kept."""
        answers = self.ask(field, "nvmlDeviceGetFieldValues", handle, counters)
        if answers is None:
            return [None] * len(counters)
        refused = [answer.nvmlReturn for answer in answers if answer.nvmlReturn != 0]
        if refused:
            self.absent.setdefault(field, f"NVML: {self._module.NVMLError(refused[0])}")
        return [int(answer.value.ullVal) if answer.nvmlReturn == 0 else None for answer in answers]

    @property
    def max_links(self) -> int:
        return int(self._module.NVML_NVLINK_MAX_LINKS)
