"""The original fer2013.csv (Goodfellow et al. 2013), whose rows hold the 48x48 pixels of the pictures themselves."""

from pathlib import Path

import numpy as np

from .dataset import DatasetError

SIDE = 48  # pixels
HEADER = ["emotion", "pixels", "Usage"]


class Fer2013:
    """The rows of fer2013.csv, found once and read one at a time: the file has 300 MB.

    Attributes:
        usages: Training, PublicTest or PrivateTest, one a row.

    Raises:
        DatasetError: the header or a row is malformed.
    """

    def __init__(self, path: Path):
        self.path = path
        self.usages: list[str] = []
        self._starts: list[int] = []  # bytes from the file's beginning
        with path.open("rb") as file:
            if _fields(file.readline()) != HEADER:
                raise DatasetError(f"{path} line 1: expected the columns {','.join(HEADER)} of fer2013.csv")
            start = file.tell()
            for number, line in enumerate(file, start=2):
                fields = _fields(line)
                if len(fields) != 3 or fields[1].count(" ") != SIDE * SIDE - 1:
                    raise DatasetError(f"{path} line {number}: expected an emotion, {SIDE * SIDE} pixels and a usage")
                self.usages.append(fields[2])
                self._starts.append(start)
                start += len(line)

    def picture(self, row: int) -> np.ndarray:
        """The picture of a row (counted from 0), uint8 (48, 48) grey.

        Raises:
            DatasetError: a pixel is no number from 0 to 255.
        """
        with self.path.open("rb") as file:
            file.seek(self._starts[row])
            values = _fields(file.readline())[1].split(" ")
        wrong = [value for value in values if not value.isdecimal() or int(value) > 255]
        if wrong:
            raise DatasetError(f"{self.path} line {row + 2}: expected pixels from 0 to 255, found '{wrong[0]}'")
        return np.array(values, np.float32).astype(np.uint8).reshape(SIDE, SIDE)


def _fields(line: bytes) -> list[str]:
    return [field.strip() for field in line.decode("utf-8-sig", "replace").replace('"', "").split(",")]
