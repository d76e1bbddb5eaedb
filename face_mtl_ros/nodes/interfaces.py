"""The interface package, or a clear word where it is missing. Nodes import their messages from here."""

BUILD_LINE = "colcon build --base-paths src/face_mtl_ros src/face_mtl_ros/face_mtl_msgs && source install/setup.bash"

try:
    from face_mtl_msgs.action import Train
    from face_mtl_msgs.msg import (
        ColumnInfo,
        FaceAttribute,
        FaceAttributes,
        FaceAttributesArray,
        FaceCrop,
        FaceCropArray,
        JobStatus,
        LabelCount,
        SampleInfo,
        TaskInfo,
    )
    from face_mtl_msgs.srv import (
        CancelTraining,
        CollectSamples,
        ForgetSamples,
        GetModel,
        ListColumns,
        ListSamples,
        MergeLabels,
        RemoveColumn,
        RenameLabel,
        Rollback,
        SetModel,
        TrainColumn,
        TrainingStatus,
    )
except ImportError as error:  # beside the sources, the folder of the .msg files is an empty package of this name
    if (error.name or "").split(".")[0] != "face_mtl_msgs":
        raise
    raise SystemExit(
        "face_mtl_msgs, the messages of this package, are not built or not sourced.\n"
        f"In a ROS 2 workspace:   {BUILD_LINE}\n"
        "In this repository:     make demo, then source tools/env.sh"
    ) from None

__all__ = [
    "CancelTraining",
    "CollectSamples",
    "ColumnInfo",
    "FaceAttribute",
    "FaceAttributes",
    "FaceAttributesArray",
    "FaceCrop",
    "FaceCropArray",
    "ForgetSamples",
    "GetModel",
    "JobStatus",
    "LabelCount",
    "ListColumns",
    "ListSamples",
    "MergeLabels",
    "RemoveColumn",
    "RenameLabel",
    "Rollback",
    "SampleInfo",
    "SetModel",
    "TaskInfo",
    "Train",
    "TrainColumn",
    "TrainingStatus",
]
