"""Faces read by a robot: emotion, age, gender, and whatever the site teaches it."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # FaceAnalyzer brings OpenCV along, which the trainer and the networks do without.
    if name == "FaceAnalyzer":
        from .analyzer import FaceAnalyzer

        return FaceAnalyzer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
