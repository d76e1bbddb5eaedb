"""Draws what is known of the faces into a copy of the image."""

import math
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

# BGR; told apart on skin, and by people who see red and green alike.
PALETTE = (
    (255, 196, 64),
    (80, 200, 255),
    (160, 230, 80),
    (210, 130, 255),
    (90, 130, 255),
    (220, 220, 90),
    (255, 140, 140),
    (120, 240, 220),
)
TEXT_COLOUR = (255, 255, 255)
PANEL_COLOUR = (28, 24, 20)
PANEL_OPACITY = 0.66
FONT = cv2.FONT_HERSHEY_DUPLEX
# Hershey letters are drawn this much larger and reduced, which smooths their strokes in small images.
OVERSAMPLING = 4

# left, top, right, bottom in pixels.
Area = tuple[int, int, int, int]


class DrawnAttribute(Protocol):
    """One attribute of a face: `value` is the expectation of an ordered task such as years, NaN otherwise."""

    @property
    def task(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def confidence(self) -> float: ...

    @property
    def value(self) -> float: ...


class DrawnFace(Protocol):
    """One face: `box` (4,) x, y, width, height and `landmarks` (n, 2) in pixels; FaceAnalyzer's faces are such."""

    @property
    def face_id(self) -> str: ...

    @property
    def box(self) -> np.ndarray: ...

    @property
    def landmarks(self) -> np.ndarray: ...

    @property
    def attributes(self) -> Sequence[DrawnAttribute]: ...


def draw(image: np.ndarray, faces: Sequence[DrawnFace]) -> np.ndarray:
    """Draw each face's box, landmarks and a panel with its id and one line for each attribute.

    Sizes follow the image's and the faces'. Panels stay inside the image, and keep off faces and each other as far as
    there is room: they lose their last lines where they would cover each other, and are left out of tiny images.

    Args:
        image: uint8 (height, width, 3) BGR or (height, width) grey; not changed.
        faces: in any order; a box may reach over the image's edge.

    Returns:
        uint8 (height, width, 3) BGR, a new array.
    """
    canvas = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    unit = _unit(canvas)
    for face in faces:
        _draw_box(canvas, face, unit)
    boxes = [_corners(face.box) for face in faces]
    panels: list[Area] = []
    for face, box in zip(faces, boxes, strict=True):
        panel = _Panel(face, unit, canvas.shape)
        if not panel.lines:
            continue
        area = _place(panel, box, boxes, panels, canvas.shape, unit)
        # In a crowd, a few lines that can be read are worth more than all of them in a heap.
        while len(panel.lines) > 1 and any(_overlap(area, other) for other in panels):
            panel.lines.pop()
            area = _place(panel, box, boxes, panels, canvas.shape, unit)
        panel.draw(canvas, area[0], area[1])
        panels.append(area)
    return canvas


def attribute_text(attribute: DrawnAttribute) -> str:
    """One line, such as "happiness 0.93", or "34 y (25-32 0.41)" for an ordered task."""
    text = f"{attribute.label} {attribute.confidence:.2f}"
    if math.isnan(attribute.value):
        return text
    number = f"{attribute.value:.0f} y" if attribute.task == "age" else f"{attribute.value:.1f}"
    return f"{number} ({text})"


def colour_of(face_id: str) -> tuple[int, int, int]:
    """BGR colour of a face, the same as long as its id is."""
    return PALETTE[zlib.crc32(face_id.encode()) % len(PALETTE)]


def write_line(canvas: np.ndarray, text: str, x: int, y: int, letter: int) -> None:
    """Write on uint8 (h, w, 3), in place: white, from the left and upper end, cut short with dots at the right edge.

    Args:
        letter: height of a capital, in pixels.
    """
    line = _fit(text, letter, canvas.shape[1] - x)
    if line is not None:
        height, width = line.shape
        _blend(canvas[y : y + height, x : x + width], TEXT_COLOUR, line[: canvas.shape[0] - y])


class _Panel:
    """The text beside a face: as many lines as fit into the image, each as long as fits."""

    def __init__(self, face: DrawnFace, unit: float, image_shape: tuple[int, ...]):
        self.colour = colour_of(face.face_id)
        # Small faces stand close together, so their panels must be small, as far as one can still read them.
        letter = max(7, round(min(max(0.075 * float(max(face.box[2:])), 7.5 * unit), 12 * unit)))
        self.pad = max(3, letter // 2)
        self.line_height = round(letter * 1.5)
        room_x, room_y = image_shape[1] - 3 * self.pad, image_shape[0] - 2 * self.pad
        texts = [face.face_id, *(attribute_text(attribute) for attribute in face.attributes)]
        texts = texts[: max(0, room_y // self.line_height)]
        # The id is there to be looked up, the attributes to be read.
        lines = [_fit(text, letter if i else max(6, round(letter * 0.8)), room_x) for i, text in enumerate(texts)]
        self.lines = [line for line in lines if line is not None]

    @property
    def width(self) -> int:
        return max(line.shape[1] for line in self.lines) + 3 * self.pad

    @property
    def height(self) -> int:
        return len(self.lines) * self.line_height + 2 * self.pad

    def draw(self, canvas: np.ndarray, x: int, y: int) -> None:
        area = canvas[y : y + self.height, x : x + self.width]
        shape = np.zeros(area.shape[:2], np.float32)
        _fill_rounded(shape, self.pad)
        _blend(area, PANEL_COLOUR, shape * PANEL_OPACITY)
        cv2.rectangle(
            area,
            (self.pad // 2, self.pad),
            (self.pad // 2 + max(1, self.pad // 3), self.height - self.pad),
            self.colour,
            cv2.FILLED,
        )
        for i, line in enumerate(self.lines):
            top = self.pad + i * self.line_height + (self.line_height - line.shape[0]) // 2
            target = area[top : top + line.shape[0], 2 * self.pad : 2 * self.pad + line.shape[1]]
            _blend(target, self.colour if i == 0 else TEXT_COLOUR, line)


def _unit(canvas: np.ndarray) -> float:
    """1 in an image of 640 x 480, more in larger ones, but less than in proportion: text needs pixels, not area."""
    return max(0.4, (min(canvas.shape[0] / 480, canvas.shape[1] / 640)) ** 0.75)


def _corners(box: np.ndarray) -> Area:
    x, y, width, height = (round(float(value)) for value in box)
    return x, y, x + width, y + height


def _draw_box(canvas: np.ndarray, face: DrawnFace, unit: float) -> None:
    """A thin frame with strong corners, dark around, so that it shows on any ground; and the landmarks."""
    left, top, right, bottom = _corners(face.box)
    colour = colour_of(face.face_id)
    arm = max(3, round(min(right - left, bottom - top) * 0.22))
    thick = max(1, round(2.5 * unit))
    corners = []
    for x, y, dx, dy in ((left, top, 1, 1), (right, top, -1, 1), (right, bottom, -1, -1), (left, bottom, 1, -1)):
        corners.append(np.array([(x, y + dy * arm), (x, y), (x + dx * arm, y)], np.int32))
    cv2.polylines(canvas, corners, False, PANEL_COLOUR, thick + 2, cv2.LINE_AA)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, 1, cv2.LINE_AA)
    cv2.polylines(canvas, corners, False, colour, thick, cv2.LINE_AA)
    radius = max(1, round(min(right - left, bottom - top) * 0.018))
    for x, y in np.asarray(face.landmarks, np.float64).reshape(-1, 2).round().astype(int).tolist():
        cv2.circle(canvas, (x, y), radius + 1, PANEL_COLOUR, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)


def _place(
    panel: _Panel, box: Area, boxes: list[Area], panels: list[Area], image_shape: tuple[int, ...], unit: float
) -> Area:
    """Where the panel goes: of the places around its face's box, the one that covers the least."""
    left, top, right, bottom = box
    width, height, gap = panel.width, panel.height, max(2, round(4 * unit))
    below, above = bottom + gap, top - gap - height
    beside_right, beside_left = right + gap, left - gap - width
    middle = (left + right - width) // 2
    places = [(x, y) for x in (left, right - width, middle) for y in (below, above)]
    places += [(x, y) for y in (top, bottom - height) for x in (beside_right, beside_left)]
    places.append((left, bottom - height))

    def inside(x: int, y: int) -> Area:
        x = min(max(0, x), image_shape[1] - width)
        y = min(max(0, y), image_shape[0] - height)
        return x, y, x + width, y + height

    def covered(area: Area) -> int:
        # Unreadable text is worse than a covered face.
        return sum(_overlap(area, other) for other in boxes) + 3 * sum(_overlap(area, other) for other in panels)

    return min((inside(x, y) for x, y in places), key=covered)


def _overlap(a: Area, b: Area) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def _fill_rounded(mask: np.ndarray, radius: int) -> None:
    height, width = mask.shape
    radius = min(radius, height // 2, width // 2)
    cv2.rectangle(mask, (radius, 0), (width - 1 - radius, height - 1), 1.0, cv2.FILLED)
    cv2.rectangle(mask, (0, radius), (width - 1, height - 1 - radius), 1.0, cv2.FILLED)
    for x in (radius, width - 1 - radius):
        for y in (radius, height - 1 - radius):
            cv2.circle(mask, (x, y), radius, 1.0, cv2.FILLED)


def _blend(area: np.ndarray, colour: tuple[int, int, int], opacity: np.ndarray) -> None:
    """Lay a colour over an area in place; opacity float32 of the area's height and width, 0 to 1."""
    layer = np.empty_like(area)
    layer[:] = colour
    area[:] = cv2.blendLinear(area, layer, 1 - opacity, opacity)


def _fit(text: str, letter: int, room: int) -> np.ndarray | None:
    """The text's opacity, cut short with dots where it is wider than the room; None where not a letter fits."""
    text = _printable(text)
    line = _text_mask(text, letter)
    while line.shape[1] > room and len(text) > 1:
        text = text[:-1]
        line = _text_mask(text + "..", letter)
    return line if line.shape[1] <= room else None


def _printable(text: str) -> str:
    """OpenCV's letters are ASCII: accents are dropped, and what is left of other scripts is question marks."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode()


@lru_cache(maxsize=512)
def _text_mask(text: str, letter: int) -> np.ndarray:
    """float32 (height, width), 0 to 1: the text with capitals `letter` pixels high."""
    scale = cv2.getFontScaleFromHeight(FONT, letter * OVERSAMPLING, 1)
    thickness = max(1, round(letter * OVERSAMPLING / 9))
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, thickness)
    rows = math.ceil((height + baseline + thickness) / OVERSAMPLING)
    columns = math.ceil((width + thickness) / OVERSAMPLING)
    large = np.zeros((rows * OVERSAMPLING, columns * OVERSAMPLING), np.uint8)
    cv2.putText(large, text, (0, height + thickness // 2), FONT, scale, 255, thickness, cv2.LINE_AA)
    mask = cv2.resize(large, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    mask.setflags(write=False)
    return mask
