"""The chips of Macs: their arithmetic, and the rate of their memory."""

from dataclasses import dataclass

from .device import has_metal
from .identity import Machine, Run, ask_system, is_mac, this_machine


@dataclass(frozen=True)
class Chip:
    """The peak of a chip with so many GPU cores: float32 TFLOPS and GB/s."""

    name: str
    gpu_cores: int
    tflops: float
    gigabytes_per_second: float
    estimated: bool = False


CHIPS = (
    Chip("M1", 8, 2.6, 68),
    Chip("M1 Pro", 16, 5.3, 200),
    Chip("M1 Max", 32, 10.6, 400),
    Chip("M1 Ultra", 64, 21.2, 800),
    Chip("M2", 10, 3.6, 100),
    Chip("M2 Pro", 19, 6.8, 200),
    Chip("M2 Max", 38, 13.6, 400),
    Chip("M2 Ultra", 76, 27.2, 800),
    Chip("M3", 10, 4.1, 100),
    Chip("M3 Pro", 18, 7.4, 150),
    Chip("M3 Max", 30, 12.3, 300),
    Chip("M3 Max", 40, 16.4, 400),
    Chip("M3 Ultra", 80, 32.8, 819),
    Chip("M4", 10, 4.3, 120),
    Chip("M4 Pro", 20, 9.2, 273),
    Chip("M4 Max", 32, 14.7, 410),
    Chip("M4 Max", 40, 18.4, 546),
    Chip("M5", 10, 16.0, 153, estimated=True),
    Chip("M5 Pro", 20, 33.0, 307, estimated=True),
    Chip("M5 Max", 32, 52.8, 460, estimated=True),
    Chip("M5 Max", 40, 66.0, 614, estimated=True),
)
"""The chips of Macs.

GB/s as Apple's technical specifications of the Macs with these chips state it. TFLOPS: GPU cores x
256 FLOPs a clock x the highest clock reported for the chip (M1 to M3: 1.28 to 1.6 GHz; M4: 1.68 to
1.8 GHz, other tables say 1.47 to 1.58, which makes the bound 14% longer). float16 and bfloat16
multiply at the rate of float32 up to M4. M5 counts the neural accelerators in its GPU cores; Apple
publishes no rate for them, so its TFLOPS are estimates.
"""


def find_chip(brand: str, gpu_cores: int | None = None) -> Chip | None:
    """The chip of a brand string such as "Apple M4 Pro"; None for one that the table lacks.

    A chip with other GPU cores than its row gets the nearest row's arithmetic in proportion.
    """
    name = brand.removeprefix("Apple ").strip()
    rows = [chip for chip in CHIPS if chip.name == name]
    if not rows:
        return None
    wanted = max(chip.gpu_cores for chip in rows) if gpu_cores is None else gpu_cores
    nearest = min(rows, key=lambda chip: abs(chip.gpu_cores - wanted))
    tflops = nearest.tflops * wanted / nearest.gpu_cores
    return Chip(name, wanted, tflops, nearest.gigabytes_per_second, nearest.estimated)


def chip_of(machine: Machine) -> Chip | None:
    """The chip of a machine that computes on its GPU; None on a CPU, or where no row has it."""
    if machine.device != "gpu" or machine.chip is None:
        return None
    return find_chip(machine.chip, machine.gpu_cores)


def this_chip(run: Run = ask_system) -> Chip | None:
    """The chip of this machine; None where nothing runs on a GPU of the table.

    It asks the system, which takes a second or two on a Mac and no time elsewhere.
    """
    return chip_of(this_machine(run)) if is_mac() and has_metal() else None
