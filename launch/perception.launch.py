"""Starts the perception node, and a camera node where `camera_source` is given.

ros2 launch face_mtl_ros perception.launch.py image_topic:=/camera/image_raw
ros2 launch face_mtl_ros perception.launch.py camera_source:=0
"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "image_topic": ("image_raw", "Topic of the camera images."),
    "image_transport": ("raw", "raw, or compressed for CompressedImage on <image_topic>/compressed."),
    "model": ("default", "Model bundle: a folder, or a name among installed and shipped models."),
    "detector": ("auto", "auto, yunet or haar."),
    "engine": ("auto", "auto, openvino or torch."),
    "namespace": ("", "Namespace of the nodes and their topics."),
    "camera_source": ("", "A picture, folder, video, device or demo, published raw on image_topic; empty: none."),
    "camera_rate": ("30.0", "Frames a second of camera_source."),
    "autostart": ("true", "Whether the perception node configures and activates itself."),
    "params_file": ("", "YAML file of parameters; empty for the package's config/perception.yaml."),
}


def generate_launch_description() -> LaunchDescription:
    argument = LaunchConfiguration
    default_file = PathJoinSubstitution([FindPackageShare("face_mtl_ros"), "config", "perception.yaml"])
    params_file = PythonExpression(["'", argument("params_file"), "' or '", default_file, "'"])

    def text(name: str) -> ParameterValue:
        # Without the type, launch reads "0" as a number, and the node wants a device's name.
        return ParameterValue(argument(name), value_type=str)

    perception = Node(
        package="face_mtl_ros",
        executable="perception_node",
        name="perception",
        namespace=argument("namespace"),
        output="screen",
        parameters=[
            params_file,
            {name: text(name) for name in ("image_transport", "model", "detector", "engine")},
            {"autostart": ParameterValue(argument("autostart"), value_type=bool)},
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
        parameters=[
            {"source": text("camera_source"), "rate": ParameterValue(argument("camera_rate"), value_type=float)}
        ],
        remappings=[("image_raw", argument("image_topic"))],
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, perception, camera])
