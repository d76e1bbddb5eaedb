"""Starts the trainer node beside a running perception node.

ros2 launch face_mtl_ros trainer.launch.py
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "model": ("", "Name of the model that gets the columns, as perception's argument. Default: default."),
    "namespace": ("", "Namespace of the node, that of the perception node."),
    "autostart": ("", "Whether the node configures and activates itself: true (default) or false."),
    "trainer_params_file": ("", "YAML file of parameters; empty for the package's config/trainer.yaml."),
}


def nodes(context) -> list[Node]:
    argument = LaunchConfiguration
    default_file = PathJoinSubstitution([FindPackageShare("face_mtl_ros"), "config", "trainer.yaml"])
    params_file = PythonExpression(["'", argument("trainer_params_file"), "' or '", default_file, "'"])
    types = {"model": str, "autostart": bool}
    # An argument that was not given must not override params_file.
    given = {
        name: ParameterValue(argument(name), value_type=kind)
        for name, kind in types.items()
        if argument(name).perform(context)
    }
    trainer = Node(
        package="face_mtl_ros",
        executable="trainer_node",
        name="trainer",
        namespace=argument("namespace"),
        output="screen",
        parameters=[params_file, given],
    )
    return [trainer]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
