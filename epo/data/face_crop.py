"""Cut the frames of a clip to the face, by an OpenCV detector that the user names."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from epo.data.dialogue import DataError

_MARGIN = 0.25  # of the box, on each side, so that chin and brows stay in (our choice)
_MIN_SCORE = 0.7  # of YuNet

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


def crop_to_face(frames: np.ndarray, detector: str) -> np.ndarray:
    """Cut all frames to one square, the median over the frames of the largest face in each.

    One square for all: a box that followed the face would take its movement away.

    Args:
        frames: uint8 (F, H, W, 3) RGB.
        detector: see `open_detector`.

    Returns:
        uint8 (F, S, S, 3); the frames as they were where no face is found in any.

    Raises:
        DataError: the detector cannot be used.
    """
    detect = open_detector(detector)
    boxes = [max(found, key=lambda box: box[2] * box[3]) for frame in frames if (found := detect(frame))]
    if not boxes:
        return frames
    left, top, width, height = np.median(np.array(boxes, dtype=np.float64), axis=0)
    side = min(round(max(width, height) * (1 + 2 * _MARGIN)), *frames.shape[1:3])
    x = int(np.clip(round(left + width / 2 - side / 2), 0, frames.shape[2] - side))
    y = int(np.clip(round(top + height / 2 - side / 2), 0, frames.shape[1] - side))
    return np.ascontiguousarray(frames[:, y : y + side, x : x + side])


def shows_face(frames: np.ndarray, detector: str) -> bool:
    """Tell whether a face is found in any of the frames, uint8 (F, H, W, 3) RGB; detector as of `open_detector`."""
    detect = open_detector(detector)
    return any(detect(frame) for frame in frames)


@lru_cache(maxsize=4)
def open_detector(name: str) -> Callable[[np.ndarray], list[Box]]:
    """Return what finds the faces in an RGB frame.

    Args:
        name: a YuNet model (`.onnx` file), a Haar cascade (`.xml` file), or the name of a cascade that comes with
            OpenCV, such as `haarcascade_frontalface_default`.

    Raises:
        DataError: OpenCV is not installed, or there is no such file.
    """
    try:
        import cv2
    except ImportError:
        raise DataError("face_detector needs OpenCV: pip install 'epo-trainer[faces]'") from None
    path = Path(name) if name.endswith((".onnx", ".xml")) else Path(vars(cv2)["data"].haarcascades) / f"{name}.xml"
    if not path.is_file():
        raise DataError(
            f"face_detector {name!r}: no file {path}; name a YuNet .onnx, a cascade .xml, or "
            "haarcascade_frontalface_default"
        )
    cv2.setNumThreads(1)  # ranks share the cores
    return _yunet(cv2, path) if path.suffix == ".onnx" else _cascade(cv2, path)


def _yunet(cv2: Any, path: Path) -> Callable[[np.ndarray], list[Box]]:
    model = cv2.FaceDetectorYN.create(str(path), "", (320, 320), _MIN_SCORE)

    def detect(frame: np.ndarray) -> list[Box]:
        model.setInputSize((frame.shape[1], frame.shape[0]))
        _, faces = model.detect(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        return [] if faces is None else [tuple(face[:4].tolist()) for face in faces]

    return detect


def _cascade(cv2: Any, path: Path) -> Callable[[np.ndarray], list[Box]]:
    cascade = cv2.CascadeClassifier(str(path))

    def detect(frame: np.ndarray) -> list[Box]:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        smallest = min(grey.shape) // 8
        faces = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(smallest, smallest))
        return [(float(x), float(y), float(width), float(height)) for x, y, width, height in faces]

    return detect
