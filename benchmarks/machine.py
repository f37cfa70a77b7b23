"""What every benchmark says of where and with what it was run: nothing that names the computer."""

import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe_surroundings(*packages: str) -> dict[str, object]:
    """Date, machine, how busy it was, and versions.

    Args:
        packages: Whose versions matter.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{_cpu()}, {os.cpu_count()} CPUs, {platform.system()}",
        "load_average": round(os.getloadavg()[0], 1),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def say(text: str) -> None:
    """Prints a line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
