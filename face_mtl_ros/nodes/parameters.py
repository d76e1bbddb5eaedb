"""Parameters declared once: a pydantic model gives name, type, default, range and description of each."""

from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node


def live(default: Any, **constraints) -> Any:
    """A field that may change while the node is active."""
    return Field(default, json_schema_extra={"live": True}, **constraints)


class Settings(BaseModel):
    """Base of a node's parameters."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, strict=True)


class SettingsError(ValueError):
    """A parameter has no valid value; the message names it, the value and what it must be."""


class PerceptionSettings(Settings):
    """The perception node's parameters."""

    autostart: bool = Field(True, description="Whether the node configures and activates itself at its start.")
    model: str = Field("default", description="Model bundle: a folder, or a name among installed and shipped models.")
    detector: Literal["auto", "yunet", "haar"] = Field("auto", description="Face detector; auto: yunet if installed.")
    engine: Literal["auto", "tensorrt", "openvino", "torch", "onnxruntime"] = Field(
        "auto",
        description="Inference engine; auto: the first that runs on an NVIDIA GPU, else the fastest on this CPU.",
    )
    device: str = Field("auto", description="Device of the engine: cpu, GPU (OpenVINO), or cuda:0 (the others).")
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field("auto", description="Arithmetic of the engine.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the engine; 0: its own choice.")
    image_transport: Literal["raw", "compressed"] = Field("raw", description="Which image topic is subscribed.")
    min_face: int = Field(48, ge=20, le=2000, description="Smallest face that is looked for, in pixels.")
    max_image_pixels: int = live(
        16_000_000, ge=1, le=200_000_000, description="Larger images are refused, in pixels (width x height)."
    )
    max_faces: int = live(32, ge=1, le=500, description="At most so many faces of a frame, the largest first.")
    smoothing_s: float = live(
        0.5, ge=0.0, le=60.0, description="Time constant over which probabilities are averaged, in seconds; 0: none."
    )
    naming_frames: int = live(
        5, ge=1, le=100, description="An identity is named when so many of a face's latest 2 n - 1 frames agree on it."
    )
    naming_confidence: float = live(
        0.5, ge=0.0, le=1.0, description="Probability that a frame must give an identity to speak for it."
    )
    naming_margin: float = live(
        0.2, ge=0.0, le=1.0, description="How far the identity's probability must be above the runner-up's."
    )
    max_age_s: float = live(1.0, ge=0.05, le=60.0, description="Seconds that an unseen face keeps its id.")
    detect_every: int = live(
        1, ge=1, le=100, description="Faces are looked for in every so manyth frame, and tracked in those between."
    )
    reads_per_frame: int = live(
        4, ge=0, le=500, description="So many of a crowd's faces are read in a frame, by turns, and new ones; 0: all."
    )
    descriptor_every: int = live(
        15, ge=1, le=10_000, description="Frames of a face after which a foreign descriptor describes it again."
    )
    publish_embedding: bool = live(False, description="Whether the messages carry the face descriptor.")
    explain_task: str = live(
        "", description="Column that face_attributes/explanation shows; empty: the first that can be explained."
    )
    explain_rate: float = live(
        1.0, ge=0.01, le=30.0, description="Explanations a second at most, made while somebody subscribes."
    )
    silence_warn_s: float = live(
        2.0, ge=0.1, le=3600.0, description="Seconds without an image until diagnostics turn to WARN; STALE at 5 times."
    )


class CameraSettings(Settings):
    """The camera node's parameters."""

    source: str = Field("demo", description="A picture, folder, video, device (0 or /dev/video0), or demo.")
    rate: float = Field(30.0, ge=0.0, le=1000.0, description="Frames a second; 0: the source's own.")
    loop: bool = Field(True, description="Whether to start again at the end of the source.")
    width: int = Field(0, ge=0, le=16384, description="Width of the frames in pixels; 0: the source's own.")
    height: int = Field(0, ge=0, le=16384, description="Height of the frames in pixels; 0: the source's own.")
    frame_id: str = Field("camera", description="frame_id of the image headers.")


SettingsT = TypeVar("SettingsT", bound=Settings)


class NodeParameters(Generic[SettingsT]):
    """Declares a Settings class on a node and reads it back.

    With `read_only`, for a node that reads its parameters once, no parameter can be set afterwards.

    A value from outside (command line, YAML file) that is of the wrong type or out of range does not stop the node:
    it is remembered, and `read` raises it until the parameter is set to a valid value.
    """

    def __init__(self, node: Node, settings: type[SettingsT], read_only: bool = False):
        self._node, self._settings = node, settings
        self._refused: dict[str, str] = {}
        for name, info in settings.model_fields.items():
            descriptor = _descriptor(name, info, read_only)
            try:
                node.declare_parameter(name, info.default, descriptor)
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                self._refused[name] = str(error)
                node.declare_parameter(name, info.default, descriptor, ignore_override=True)

    def read(self) -> SettingsT:
        """All parameters, validated; SettingsError names the first that is wrong."""
        if self._refused:
            raise SettingsError("; ".join(self._refused.values()))
        return self._validated({name: self._node.get_parameter(name).value for name in self._settings.model_fields})

    def check(self, changes: dict[str, Any], may_change_all: bool) -> None:
        """Refuse changes that are wrong in themselves: of two wrong parameters, either can be corrected first.

        Args:
            may_change_all: False where only the live ones may change.

        Raises:
            SettingsError: a value is not valid, or the parameter may not change now.
        """
        for name, value in changes.items():
            if not (_is_live(self._settings.model_fields[name]) or may_change_all) and value != self.value(name):
                raise SettingsError(
                    f"parameter '{name}' takes effect when the node is configured: deactivate and clean it up, "
                    "set it, then configure and activate"
                )
        self._validated(changes)
        for name in changes:
            self._refused.pop(name, None)

    def value(self, name: str) -> Any:
        """One parameter as it is."""
        return self._node.get_parameter(name).value

    def __contains__(self, name: str) -> bool:
        return name in self._settings.model_fields

    def _validated(self, values: dict[str, Any]) -> SettingsT:
        try:
            return self._settings.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(f"parameter '{first['loc'][0]}' is {first['input']!r}: {first['msg']}") from None


def _is_live(info: FieldInfo) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("live"))


def _descriptor(name: str, info: FieldInfo, read_only: bool) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(name=name, description=info.description or "", read_only=read_only)
    constraints = []
    if get_origin(info.annotation) is Literal:
        constraints.append("one of " + ", ".join(get_args(info.annotation)))
    if not (_is_live(info) or read_only):
        constraints.append("takes effect when the node is configured")
    descriptor.additional_constraints = "; ".join(constraints)
    bounds: dict[str, Any] = {}
    for item in info.metadata:
        bounds |= {bound: getattr(item, bound) for bound in ("ge", "gt", "le") if hasattr(item, bound)}
    low, high = bounds.get("ge"), bounds.get("le")
    if "gt" in bounds:
        # ROS's ranges include their ends; a float's end itself is refused when the value is validated.
        low = bounds["gt"] + (1 if info.annotation is int else 0)
    if low is not None and high is not None and info.annotation is int:
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    elif low is not None and high is not None and info.annotation is float:
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    return descriptor
