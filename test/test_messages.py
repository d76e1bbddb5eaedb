"""The interfaces as others see them: the promised fields with their exact types, and nothing lost on the wire."""

import math

import pytest

serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2: source tools/env.sh")
msg = pytest.importorskip("face_mtl_msgs.msg", reason="needs the built face_mtl_msgs: source tools/env.sh")
srv = pytest.importorskip("face_mtl_msgs.srv")
action = pytest.importorskip("face_mtl_msgs.action")

pytestmark = pytest.mark.ros

CONTRACTS = {
    "FaceAttributesArray": {
        "header": "std_msgs/Header",
        "image_width": "uint32",
        "image_height": "uint32",
        "faces": "sequence<face_mtl_msgs/FaceAttributes>",
        "model_version": "string",
        "latency_ms": "float",
    },
    "FaceAttributes": {
        "face_id": "string",
        "roi": "sensor_msgs/RegionOfInterest",
        "detection_confidence": "float",
        "landmarks": "sequence<geometry_msgs/Point32>",
        "attributes": "sequence<face_mtl_msgs/FaceAttribute>",
        "embedding": "sequence<float>",
    },
    "FaceAttribute": {
        "task": "string",
        "label": "string",
        "confidence": "float",
        "labels": "sequence<string>",
        "probabilities": "sequence<float>",
        "value": "float",
    },
}

SERVICES = [
    "CancelTraining",
    "CollectSamples",
    "ForgetSamples",
    "GetModel",
    "ListColumns",
    "ListSamples",
    "MergeLabels",
    "RemoveColumn",
    "RenameLabel",
    "Rollback",
    "SetModel",
    "TrainColumn",
    "TrainingStatus",
]


@pytest.mark.parametrize("name", CONTRACTS)
def test_contract(name):
    assert getattr(msg, name).get_fields_and_field_types() == CONTRACTS[name]


@pytest.mark.parametrize("name", SERVICES)
def test_services_answer_alike(name):
    answer = getattr(srv, name).Response.get_fields_and_field_types()
    assert answer["success"] == "boolean"
    assert answer["message"] == "string"


def test_the_action_takes_what_the_service_takes():
    goal = action.Train.Goal
    assert goal.get_fields_and_field_types() == srv.TrainColumn.Request.get_fields_and_field_types()
    assert goal().activate is True


def there_and_back(message):
    return serialization.deserialize_message(serialization.serialize_message(message), type(message))


def test_faces_survive_the_wire():
    from geometry_msgs.msg import Point32

    age = msg.FaceAttribute(
        task="age", label="25-32", confidence=0.5, labels=["25-32", "38-43"], probabilities=[0.5, 0.25], value=31.5
    )
    identity = msg.FaceAttribute(task="identity", label="Zoë 王", confidence=0.75, value=math.nan)
    face = msg.FaceAttributes(face_id="7", detection_confidence=0.5, attributes=[age, identity], embedding=[0.25, -1.0])
    face.roi.x_offset, face.roi.width = 12, 80
    face.landmarks = [Point32(x=1.5, y=2.5)]
    sent = msg.FaceAttributesArray(
        image_width=640, image_height=480, faces=[face], model_version="default-1", latency_ms=12.5
    )
    sent.header.frame_id = "camera"

    got = there_and_back(sent)

    # A NaN equals nothing, itself included.
    assert math.isnan(got.faces[0].attributes[1].value)
    for array in (sent, got):
        array.faces[0].attributes[1].value = 0.0
    assert got == sent


def test_crops_survive_the_wire():
    crop = msg.FaceCrop(face_id="7", quality=0.5, sharpness=100.0)
    crop.image.height = crop.image.width = crop.image.step = 128
    crop.image.encoding = "mono8"
    crop.image.data = bytes(range(128)) * 128
    sent = msg.FaceCropArray(faces=[crop], model_version="default-1")
    assert there_and_back(sent) == sent


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_survives_the_wire(name):
    service = getattr(srv, name)
    for part in (service.Request(), service.Response(success=True, message="größer als 0")):
        assert there_and_back(part) == part
