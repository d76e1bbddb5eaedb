"""The perception node: camera images in, /face_attributes out."""

import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool

from ..analyzer import FaceAnalyzer
from ..bundle.files import BundleError
from ..bundle.locate import VERSIONS, model_name
from ..paths import models_dir
from ..runtime.engine import EngineError
from ..runtime.predictor import Predictor
from ..samples.store import SampleStore
from ..stream import FrameWorker, StreamClock, StreamStatistics
from ..vision.detectors import DetectorError
from ..vision.drawing import draw
from ..vision.encodings import ImageError
from . import diagnostics
from .background import Background
from .conversions import (
    array_to_image,
    crops_to_message,
    faces_to_message,
    image_to_array,
    stamp_seconds,
    task_info,
)
from .explanations import Explanations
from .interfaces import FaceAttributesArray, FaceCropArray, GetModel, SetModel
from .managed import ManagedNode
from .parameters import NodeParameters, PerceptionSettings, SettingsError
from .spinning import run

# Sensor data with a depth of one: of two frames that wait, the middleware keeps the newer.
NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

MAX_MODEL_TEXT = 1024  # characters of a model's name or path; longer ones make no answer that can be read


class PerceptionNode(ManagedNode):
    """Lifecycle: configure loads model and detector, activate subscribes to the images, deactivate and cleanup undo it.

    The executor's thread only takes messages; each image's bytes are handed to a worker thread, which converts, reads
    and publishes, so that a slow frame never makes a queue and services answer meanwhile.
    """

    def __init__(self) -> None:
        super().__init__("perception")
        self._declared = NodeParameters(self, PerceptionSettings)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._settings = PerceptionSettings()
        self._analyzer: FaceAnalyzer | None = None
        self._model = ""  # what an empty set_model loads
        self._enabled = True
        self._subscription: Subscription | None = None
        self._worker: FrameWorker | None = None
        self._stream_clock = StreamClock()
        self._statistics = StreamStatistics()
        self._loader = Background(self, 1, "model")
        self._faces = self.create_lifecycle_publisher(FaceAttributesArray, "face_attributes", 10)
        self._crops = self.create_lifecycle_publisher(FaceCropArray, "~/crops", 10)
        self._picture = self.create_lifecycle_publisher(Image, "face_attributes/image", 1)
        explained = self.create_lifecycle_publisher(Image, "face_attributes/explanation", 1)
        self._explanations = Explanations(self, explained)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(GetModel, "~/get_model", self._on_get_model)
        # A group of its own: while set_model awaits the new model, all other callbacks go on.
        alone = MutuallyExclusiveCallbackGroup()
        self.create_service(SetModel, "~/set_model", self._on_set_model, callback_group=alone)
        self.create_timer(1.0, self._publish_diagnostics)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            settings = self._declared.read()
            self._analyzer = FaceAnalyzer(
                model=settings.model,
                detector=settings.detector,
                engine=settings.engine,
                device=settings.device,
                precision=settings.precision,
                threads=settings.threads,
                min_face=settings.min_face,
            )
        except Exception as error:
            return self.not_configured(error, (SettingsError, BundleError, EngineError, DetectorError))
        self._problem = ""
        self._model = _lasting_name(settings.model, self._analyzer.predictor)
        self._apply(settings, self._analyzer)
        engine = self._analyzer.predictor.engine
        self.get_logger().info(
            f"model {self._analyzer.predictor.bundle.version}, engine {engine.name} on {engine.device} in "
            f"{engine.precision}, detector {self._analyzer.detector.name}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)  # the publishers first, for a frame may come at once
        if self._enabled:
            self._start()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._analyzer = None
        self._explanations.forget()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._analyzer = None
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, from where a corrected parameter can configure; the default would end the node."""
        self._stop()
        self._analyzer = None
        self._explanations.forget()
        return TransitionCallbackReturn.SUCCESS

    def close(self) -> None:
        """End the threads; the process is about to end."""
        self._stop()
        self._loader.close()
        self._explanations.close()

    # Images

    @property
    def _topic(self) -> str:
        return "image_raw/compressed" if self._settings.image_transport == "compressed" else "image_raw"

    def _start(self) -> None:
        kind = CompressedImage if self._settings.image_transport == "compressed" else Image
        self._stream_clock = StreamClock()
        self._statistics.begin()
        self._worker = FrameWorker(lambda frame: self._read(*frame))
        mailbox = self._worker.mailbox
        # raw: the bytes as they came, so that a frame that a newer one replaces is never even deserialised.
        self._subscription = self.create_subscription(
            kind, self._topic, lambda data: self._on_image(mailbox, data, kind), NEWEST, raw=True
        )

    def _stop(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _on_image(self, mailbox, data: bytes, kind: type) -> None:
        now = time.monotonic()
        self._statistics.arrived(now)
        self._statistics.dropped_frames += mailbox.put((data, kind, now))

    def _read(self, data: bytes, kind: type, arrival: float) -> None:
        """Worker thread: one image from its bytes to the published message."""
        taken = time.monotonic()
        try:
            message: Image | CompressedImage = deserialize_message(data, kind)
            image = image_to_array(message, self._settings.max_image_pixels)
            # A frame waits while the one before it is read.
            stages = {"wait": (taken - arrival) * 1e3, "convert": (time.monotonic() - taken) * 1e3}
            self._publish(image, message.header, arrival, stages)
        except ImageError as error:
            self._statistics.refused(str(error))
            self.get_logger().warning(f"image skipped: {error}", throttle_duration_sec=1.0)
        except Exception as error:
            if not self.context.ok():
                return  # the process is ending, and nothing can be published any more
            # Whatever one frame brings about, the node has to read the next one; the log says what it was.
            self._statistics.failed(f"{type(error).__name__}: {error}")
            self.get_logger().error(f"frame failed: {traceback.format_exc()}", throttle_duration_sec=1.0)

    def _publish(self, image, header, arrival: float, stages: dict[str, float]) -> None:
        analyzer, settings = self._analyzer, self._settings
        if analyzer is None:
            return  # the node was cleaned up since the frame came
        seconds, is_first = self._stream_clock.read(stamp_seconds(header), arrival)
        if is_first:
            analyzer.tracker.reset()
        bundle = analyzer.predictor.bundle
        faces, version = analyzer.track(image, seconds)
        height, width = image.shape[:2]
        message = faces_to_message(faces, header, width, height, version, settings.publish_embedding)
        message.latency_ms = (time.monotonic() - arrival) * 1e3
        self._faces.publish(message)
        stages |= analyzer.stage_ms
        if self._crops.get_subscription_count():
            begun = time.monotonic()
            self._crops.publish(crops_to_message(faces, header, version))
            stages["crops"] = (time.monotonic() - begun) * 1e3
        if self._picture.get_subscription_count():
            self._picture.publish(array_to_image(draw(image, faces), header))
        self._explanations.offer(bundle, faces, header, settings.explain_task, settings.explain_rate)
        now = time.monotonic()
        stages["total"] = (now - arrival) * 1e3
        self._statistics.processed(now, len(faces), stages)

    # Services and parameters

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if self._enabled and self._is_active and self._worker is None:
            self._start()
        elif not self._enabled:
            self._stop()
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: no image is looked at"
        return response

    def _on_get_model(self, request: GetModel.Request, response: GetModel.Response) -> GetModel.Response:
        if self._analyzer is None:
            response.message = self._problem or "no model is loaded: configure the node"
            return response
        predictor = self._analyzer.predictor
        response.success = True
        response.model_path = str(predictor.bundle.root)
        response.model_version = predictor.bundle.version
        response.preset = predictor.bundle.manifest.preset
        response.engine = predictor.engine.name
        response.device = predictor.engine.device
        response.precision = predictor.engine.precision
        response.detector = self._analyzer.detector.name
        names = SampleStore().display_names()  # of this machine's samples, in which the trainer keeps them
        response.tasks = [task_info(column, names) for column in predictor.bundle.manifest.columns]
        return response

    async def _on_set_model(self, request: SetModel.Request, response: SetModel.Response) -> SetModel.Response:
        """Load in a thread of its own while images go on, and swap between two frames."""
        analyzer = self._analyzer
        if analyzer is None:
            response.message = self._problem or "the node is not configured"
            return response
        model = request.model or self._model
        if len(model) > MAX_MODEL_TEXT or not model.isprintable():
            shown = f"{model[:40]!r}, {len(model)} characters long,"
            response.message = f"model is {shown} and no name or path; {analyzer.predictor.bundle.version} goes on"
            response.model_version = analyzer.predictor.bundle.version
            return response
        try:
            # At the priority of the rest: a thread of a lower one would hold Python's lock while others wait for it.
            predictor = await self._loader.run(lambda: analyzer.load_model(model))
        except (BundleError, EngineError) as error:
            response.message = f"{error}; {analyzer.predictor.bundle.version} goes on"
            self.get_logger().error(f"set_model: {response.message}")
        except Exception as error:
            # A defect. Raised on, it would end the process and with it the model that works.
            response.message = f"{type(error).__name__}: {error}; {analyzer.predictor.bundle.version} goes on"
            self.get_logger().error(f"set_model: {traceback.format_exc()}")
        else:
            if self._analyzer is not analyzer:
                response.message = "the node was cleaned up while the model was loading; configure it and set it again"
                return response
            analyzer.predictor = predictor
            self._model = _lasting_name(model, predictor)
            response.success = True
            response.message = f"{predictor.bundle.version} is in use"
            self.get_logger().info(f"set_model: {response.message}")
        response.model_version = analyzer.predictor.bundle.version
        return response

    def _on_set_parameters(self, parameters: list) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in self._declared}
        try:
            self._declared.check(changes, may_change_all=self._analyzer is None)
        except SettingsError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._analyzer is not None:
            self._apply(self._settings.model_copy(update=changes), self._analyzer)
        return SetParametersResult(successful=True)

    def _apply(self, settings: PerceptionSettings, analyzer: FaceAnalyzer) -> None:
        """Put the live parameters into effect."""
        self._settings = settings
        analyzer.max_faces = settings.max_faces
        analyzer.descriptor_every = settings.descriptor_every
        analyzer.detect_every = settings.detect_every
        analyzer.reads_per_frame = settings.reads_per_frame
        analyzer.smoother.time_constant_s = settings.smoothing_s
        analyzer.naming.frames = settings.naming_frames
        analyzer.naming.confidence = settings.naming_confidence
        analyzer.naming.margin = settings.naming_margin
        analyzer.tracker.max_age_s = settings.max_age_s

    # Diagnostics

    @property
    def _is_active(self) -> bool:
        return self._state_machine.current_state[1] == "active"

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        state = self._state_machine.current_state[1]
        topic = self.resolve_topic_name(self._topic)
        values = {
            "state": state,
            "frames per second": f"{self._statistics.rate(now):.1f}",
            "faces": self._statistics.faces,
            "frames": self._statistics.frames,
            "dropped frames": self._statistics.dropped_frames,
            "bad frames": self._statistics.bad_frames,
            "last bad frame": self._statistics.last_bad,
            "failed frames": self._statistics.failed_frames,
            "last failed frame": self._statistics.last_failed,
        }
        values |= {f"median ms {stage}": f"{ms:.1f}" for stage, ms in self._statistics.median_ms(now).items()}
        if self._analyzer is not None:
            predictor = self._analyzer.predictor
            values["model version"] = predictor.bundle.version
            values["engine"] = f"{predictor.engine.name} {predictor.engine.device} {predictor.engine.precision}"
            values["detector"] = self._analyzer.detector.name
        shown = "disabled" if state == "active" and not self._enabled else state
        entry = diagnostics.status(
            self.get_fully_qualified_name(),
            self._problem,
            shown,
            self._statistics,
            now,
            self._settings.silence_warn_s,
            topic,
            values,
        )
        self._diagnostics.publish(diagnostics.array(self.get_clock().now().to_msg(), entry))


def _lasting_name(model: str, predictor: Predictor) -> str:
    """What to ask for to get the model that is active then: of an installed version its model's name, else the same."""
    root = predictor.bundle.root
    name = model_name(root)
    return name if root == models_dir() / name / VERSIONS / root.name else model


def main(args: list[str] | None = None) -> None:
    run(PerceptionNode, args)


if __name__ == "__main__":
    main()
