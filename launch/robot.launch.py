"""Starts all of a robot that reads and learns faces: camera, perception and trainer. Arguments: those of the other two.

ros2 launch face_mtl_ros robot.launch.py camera_source:=0
ros2 launch face_mtl_ros robot.launch.py camera_source:=none image_topic:=/camera/image_raw
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, SetLaunchConfiguration
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CAMERA = ("0", "A picture, folder, video, device or demo as the camera; none: the robot has a camera node of its own.")


def generate_launch_description() -> LaunchDescription:
    def included(name: str) -> IncludeLaunchDescription:
        path = PathJoinSubstitution([FindPackageShare("face_mtl_ros"), "launch", name])
        return IncludeLaunchDescription(PythonLaunchDescriptionSource(path))

    no_camera = IfCondition(PythonExpression(["'", LaunchConfiguration("camera_source"), "' == 'none'"]))
    return LaunchDescription(
        [
            DeclareLaunchArgument("camera_source", default_value=CAMERA[0], description=CAMERA[1]),
            # What perception.launch.py takes for no camera is an empty text, which is awkward to give.
            SetLaunchConfiguration("camera_source", "", condition=no_camera),
            included("perception.launch.py"),
            included("trainer.launch.py"),
        ]
    )
