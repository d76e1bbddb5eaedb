"""Where training computes: on a GPU where torch sees one, else on the CPU. CUDA_VISIBLE_DEVICES says which it sees."""

import os

import torch


def best_device() -> torch.device:
    """The GPU, of several that train together this process's own (torchrun's LOCAL_RANK), or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; fp16 has none on CPUs."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def best_autocast(device: torch.device) -> torch.autocast:
    """bf16 where the device has instructions for it, else no lowering of precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
