"""What the system says of its processor."""

import platform
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
# Of a processor's many, those that decide how fast bf16 and int8 are; Intel's and AMD's, and ARM's.
INSTRUCTIONS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16"),
)


def processor_name() -> str:
    """Such as "AMD EPYC 7763 64-Core Processor"; the architecture where the system does not tell."""
    return _told().get("model name") or platform.machine()


def instructions() -> list[str]:
    """Those of INSTRUCTIONS that it has; none where the system does not tell."""
    told = _told()
    flags = f"{told.get('flags', '')} {told.get('Features', '')}".split()
    return [name for name in INSTRUCTIONS if name in flags]


def lacks_avx512() -> bool:
    """Whether this is an x86 processor without AVX-512; others have no line of `flags`."""
    flags = _told().get("flags")
    return flags is not None and "avx512f" not in flags.split()


def _told() -> dict[str, str]:
    """The lines of the last core."""
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
