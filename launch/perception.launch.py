"""Starts the perception node, and a camera node where `camera_source` is given.

ros2 launch face_mtl_ros perception.launch.py image_topic:=/camera/image_raw
ros2 launch face_mtl_ros perception.launch.py camera_source:=0
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "image_topic": ("image_raw", "Topic of the camera images."),
    "image_transport": ("", "raw (default), or compressed for CompressedImage on <image_topic>/compressed."),
    "model": ("", "Model bundle: a folder, or a name among installed and shipped models. Default: default."),
    "detector": ("", "auto (default), yunet or haar."),
    "engine": ("", "auto (default), tensorrt, openvino, onnxruntime or torch."),
    "namespace": ("", "Namespace of the nodes and their topics."),
    "camera_source": ("", "A picture, folder, video, device or demo, published raw on image_topic; empty: none."),
    "camera_rate": ("", "Frames a second of camera_source; 0: the source's own. Default: 30."),
    "autostart": ("", "Whether the nodes configure and activate themselves: true (default) or false."),
    "params_file": ("", "YAML file of parameters; empty for the package's config/perception.yaml."),
}

PARAMETERS = {"camera_source": "source", "camera_rate": "rate"}  # of the camera node; the others bear the same name


def nodes(context) -> list[Node]:
    argument = LaunchConfiguration
    default_file = PathJoinSubstitution([FindPackageShare("face_mtl_ros"), "config", "perception.yaml"])
    params_file = PythonExpression(["'", argument("params_file"), "' or '", default_file, "'"])

    def given(*names: str, value_type: type = str) -> dict[str, ParameterValue]:
        # An argument that was not given must not override params_file. Without the type, launch reads "0" as a number,
        # and the node wants a device's name.
        passed = [name for name in names if argument(name).perform(context)]
        return {PARAMETERS.get(name, name): ParameterValue(argument(name), value_type=value_type) for name in passed}

    perception = Node(
        package="face_mtl_ros",
        executable="perception_node",
        name="perception",
        namespace=argument("namespace"),
        output="screen",
        parameters=[
            params_file,
            given("image_transport", "model", "detector", "engine"),
            given("autostart", value_type=bool),
        ],
        remappings=[
            ("image_raw", argument("image_topic")),
            ("image_raw/compressed", [argument("image_topic"), "/compressed"]),
        ],
    )
    camera = Node(
        package="face_mtl_ros",
        executable="camera_node",
        name="camera",
        namespace=argument("namespace"),
        output="screen",
        condition=IfCondition(PythonExpression(["'", argument("camera_source"), "' != ''"])),
        parameters=[given("camera_source"), given("camera_rate", value_type=float)],
        remappings=[("image_raw", argument("image_topic"))],
    )
    return [perception, camera]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
