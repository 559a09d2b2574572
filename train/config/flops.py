"""What a training step must compute, and what a device can: their ratio over time is the model FLOP utilisation.

    FLOP per token = 6 N + 12 L d s     N parameters without the embedding's (a look-up multiplies nothing), L layers of
                                        width d, s tokens a sequence; forward and backward together
    utilisation    = tokens/s x FLOP per token / peak FLOP/s of all devices

Chowdhery et al. 2022 (PaLM), appendix B. What is computed twice on purpose does not count, padding does: it is computed.

Peaks are dense ones from NVIDIA's data sheets and white papers: float32 without tensor cores, as torch multiplies unless told
otherwise, and tensor cores that add in float32 for the others. Other boards of the same chip (A10G, H100 NVL, laptops')
have other peaks and are not guessed.
"""

import re

from commprof.train.config.types import ModelConfig

_TERA = 1e12
# A device's name without "NVIDIA" and "Tesla"; float32, bfloat16, float16 in TFLOP/s, None without such a tensor core.
_PEAKS: tuple[tuple[str, float, float | None, float], ...] = (
    (r"V100-SXM2-\d+GB", 15.7, None, 125.0),
    (r"V100-PCIE-\d+GB", 14.0, None, 112.0),
    (r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe", 19.5, 312.0, 312.0),
    (r"H100 80GB HBM3", 66.9, 989.4, 989.4),
    (r"H100 PCIe", 51.2, 756.0, 756.0),
    (r"H200", 66.9, 989.4, 989.4),
    (r"B200", 75.0, 2250.0, 2250.0),
    (r"L4", 30.3, 121.0, 121.0),
    (r"L40S", 91.6, 362.05, 362.05),
    (r"A10", 31.2, 125.0, 125.0),
    (r"T4", 8.1, None, 65.0),
    (r"(GeForce )?RTX 3090", 35.6, 71.0, 71.0),
    (r"(GeForce )?RTX 4090", 82.6, 165.2, 165.2),
)


def flops_per_token(model: ModelConfig, num_parameters: int) -> float:
    """Return the FLOP of one token's forward and backward pass."""
    multiplied = num_parameters - model.vocabulary * model.d_model
    return 6.0 * multiplied + 12.0 * model.layers * model.d_model * model.sequence_length


def peak_flops_per_s(device_name: str, precision: str) -> float | None:
    """Return a device's dense peak for a data type, None where it is not known."""
    name = re.sub(r"^(NVIDIA )?(Tesla )?", "", device_name.strip())
    for pattern, float32, bfloat16, float16 in _PEAKS:
        if re.fullmatch(pattern, name):
            peak = {"float32": float32, "bfloat16": bfloat16, "float16": float16}[precision]
            return None if peak is None else peak * _TERA
    return None
