"""The tables of nuScenes: JSON lists of records that refer to each other by tokens.

Source: the schema of nuScenes 1.0 (nuscenes.org). Only what LiDAR scans and their boxes need is
read, record by record: the full set's tables are some gigabytes of text.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geodistill.checks import InputError, shown
from geodistill.log import progress

CHANNEL = "LIDAR_TOP"
_CHUNK = 1 << 22  # characters; no record is as long
_BETWEEN = re.compile(r"[\s,]*")
_TABLES = (
    *("scene", "sample", "sensor", "calibrated_sensor", "sample_data", "ego_pose"),
    *("category", "instance", "attribute", "sample_annotation"),
)


@dataclass(frozen=True, eq=False)
class Sweeps:
    """L turns of the LiDAR, scene by scene and in the order of time.

    Attributes:
        files: below the data set's folder.
        scene: int64 [L], places among the scenes.
        sample: int64 [L], places among the samples.
        key: bool [L], the scan of its sample; the others are between samples.
        time_us: int64 [L], microseconds.
        global_from_vehicle: float64 [L, 7], where the vehicle is: x, y, z and a quaternion w, x,
            y, z.
        vehicle_from_lidar: float64 [L, 7], the same of the LiDAR on it.
    """

    files: tuple[str, ...]
    scene: np.ndarray
    sample: np.ndarray
    key: np.ndarray
    time_us: np.ndarray
    global_from_vehicle: np.ndarray
    vehicle_from_lidar: np.ndarray


@dataclass(frozen=True, eq=False)
class Annotations:
    """A boxes, in the order of their table.

    Attributes:
        sample: int64 [A], places among the samples.
        instance: int64 [A], which object it is: the same number in all its samples.
        categories: of the instances, their names.
        attribute: int64 [A], places among `attributes`, -1 for several.
        attributes: names, the first "" for none.
        boxes: float64 [A, 10], x, y, z in the global frame, width, length, height in metres, and a
            quaternion w, x, y, z.
        points: int64 [A, 2], of LiDAR and radar.
    """

    sample: np.ndarray
    instance: np.ndarray
    categories: tuple[str, ...]
    attribute: np.ndarray
    attributes: tuple[str, ...]
    boxes: np.ndarray
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class Tables:
    """Attributes:
    scenes: their names.
    samples: their tokens.
    sample_scene: int64 [S], places among the scenes.
    sample_time_us: int64 [S], microseconds.
    """

    scenes: tuple[str, ...]
    samples: tuple[str, ...]
    sample_scene: np.ndarray
    sample_time_us: np.ndarray
    sweeps: Sweeps
    annotations: Annotations


def read_tables(folder: Path) -> Tables:
    """Read the tables of a folder such as v1.0-mini.

    Raises InputError naming the table that is missing or damaged, the record and its field.
    """
    missing = [name for name in _TABLES if not (folder / f"{name}.json").is_file()]
    if missing:
        raise InputError(f"{folder} is no version of nuScenes: it has no {missing[0]}.json")
    with progress(3, f"tables of {folder.name}") as bar:
        scenes, scene_names = _named(folder / "scene.json", "name")
        path = folder / "sample.json"
        samples: dict[str, int] = {}
        numbers = array("q")
        for row, (token, scene, time) in _rows(path, "token", "scene_token", "timestamp"):
            _number(samples, token, path, row)
            place = _place(path, row, "scene_token", scene, scenes)
            numbers.extend((place, _whole(path, row, time)))
        table = np.array(numbers, np.int64).reshape(-1, 2)
        bar.advance()
        sweeps = _sweeps(folder, samples, table[:, 0])
        bar.advance()
        annotations = _annotations(folder, samples)
        bar.advance()
    return Tables(scene_names, (*samples,), table[:, 0], table[:, 1], sweeps, annotations)


def _sweeps(folder: Path, samples: dict[str, int], sample_scene: np.ndarray) -> Sweeps:
    sensors, channels = _named(folder / "sensor.json", "channel")
    path = folder / "calibrated_sensor.json"
    mounts: dict[str, int] = {}
    mounted = array("d")
    fields = ("token", "sensor_token", "translation", "rotation")
    for row, (token, sensor, translation, rotation) in _rows(path, *fields):
        if channels[_place(path, row, "sensor_token", sensor, sensors)] == CHANNEL:
            _number(mounts, token, path, row)
            _extend(mounted, path, row, (translation, 3, "translation"), (rotation, 4, "rotation"))
    path = folder / "sample_data.json"
    fields = ("calibrated_sensor_token", "sample_token", "ego_pose_token")
    files, numbers = [], []
    poses: dict[str, list[int]] = {}
    rest = ("timestamp", "is_key_frame", "filename")
    for row, (mount, sample, pose, time, key, file) in _rows(path, *fields, *rest):
        if mount not in mounts:
            continue  # of another sensor
        if not isinstance(file, str) or not isinstance(pose, str):
            raise InputError(f"{path}, record {row}: its filename and ego_pose_token must be texts")
        place = _place(path, row, "sample_token", sample, samples)
        numbers.append((place, mounts[mount], key is True, _whole(path, row, time)))
        poses.setdefault(pose, []).append(len(files))
        files.append(file)
    where = np.full((len(files), 7), np.nan)
    path = folder / "ego_pose.json"
    for row, (token, translation, rotation) in _rows(path, "token", "translation", "rotation"):
        if token in poses:
            values = array("d")
            _extend(values, path, row, (translation, 3, "translation"), (rotation, 4, "rotation"))
            where[poses[token]] = values
    lost = np.flatnonzero(np.isnan(where).any(1))
    if len(lost):
        raise InputError(f"{path} has no pose of {shown(files[lost[0]])}")
    table = np.array(numbers, np.int64).reshape(-1, 4)
    scene = sample_scene[table[:, 0]]
    order = np.lexsort((table[:, 3], scene))
    table, on = table[order], np.array(mounted).reshape(-1, 7)
    return Sweeps(
        tuple(files[k] for k in order.tolist()),
        scene[order],
        table[:, 0],
        table[:, 2] == 1,
        table[:, 3],
        where[order],
        on[table[:, 1]],
    )


def _annotations(folder: Path, samples: dict[str, int]) -> Annotations:
    kinds, names = _named(folder / "category.json", "name")
    path = folder / "instance.json"
    instances: dict[str, int] = {}
    categories = []
    for row, (token, category) in _rows(path, "token", "category_token"):
        _number(instances, token, path, row)
        categories.append(names[_place(path, row, "category_token", category, kinds)])
    attributes, attribute_names = _named(folder / "attribute.json", "name")
    path = folder / "sample_annotation.json"
    numbers, boxes = array("q"), array("d")
    fields = ("sample_token", "instance_token", "attribute_tokens", "translation", "size")
    rest = ("rotation", "num_lidar_pts", "num_radar_pts")
    for row, (sample, instance, own, at, size, turn, lidar, radar) in _rows(path, *fields, *rest):
        if not isinstance(own, list):
            raise InputError(f"{path}, record {row}: attribute_tokens is {shown(own)}, not a list")
        named = [_place(path, row, "attribute_tokens", token, attributes) + 1 for token in own]
        numbers.extend(
            (
                _place(path, row, "sample_token", sample, samples),
                _place(path, row, "instance_token", instance, instances),
                -1 if len(named) > 1 else sum(named),
                _whole(path, row, lidar),
                _whole(path, row, radar),
            )
        )
        _extend(boxes, path, row, (at, 3, "translation"), (size, 3, "size"), (turn, 4, "rotation"))
        if min(size) <= 0:
            raise InputError(f"{path}, record {row}: a size of {min(size):g}; all must be positive")
    table = np.array(numbers, np.int64).reshape(-1, 5)
    return Annotations(
        table[:, 0],
        table[:, 1],
        tuple(categories),
        table[:, 2],
        ("", *attribute_names),
        np.array(boxes).reshape(-1, 10),
        table[:, 3:],
    )


def _number(tokens: dict[str, int], token: str, path: Path, row: int) -> None:
    """Give a token the next place."""
    if token in tokens:
        raise InputError(f"{path}, record {row}: its token {token} is that of another record")
    tokens[token] = len(tokens)


def _named(path: Path, field: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Places of the tokens of a small table, and the names of its records."""
    tokens: dict[str, int] = {}
    names = []
    for row, (token, name) in _rows(path, "token", field):
        if not isinstance(name, str):
            raise InputError(f"{path}, record {row}: {field} is {shown(name)}, not a text")
        _number(tokens, token, path, row)
        names.append(name)
    return tokens, tuple(names)


def _rows(path: Path, *fields: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Number, from 1, and fields of each record."""
    for row, record in enumerate(records(path), 1):
        try:
            values = tuple(record[name] for name in fields)
        except KeyError as error:
            raise InputError(f"{path}, record {row} has no field {error.args[0]}") from None
        if "token" in fields and not isinstance(values[0], str):
            raise InputError(f"{path}, record {row}: its token is {shown(values[0])}, not a text")
        yield row, values


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after the other: never all in memory.

    Raises InputError for what is no such list, or is truncated.
    """
    decode = json.JSONDecoder().raw_decode
    count = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            text, at = file.read(_CHUNK).lstrip(), 1
            if not text.startswith("["):
                raise InputError(f"{path} is no JSON list of records")
            while True:
                at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
                if text.startswith("]", at):
                    return
                try:
                    record, at = decode(text, at)
                except ValueError:  # the record may go on in what is not read yet
                    more = file.read(_CHUNK) if len(text) - at < _CHUNK else ""
                    if not more:
                        raise InputError(
                            f"{path} is damaged or truncated behind record {count}: copy it again"
                        ) from None
                    text, at = text[at:] + more, 0
                    continue
                if not isinstance(record, dict):
                    raise InputError(f"{path}, record {count + 1} is {shown(record)}, no object")
                count += 1
                yield record
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text: copy it again") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply behind record {count}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _place(path: Path, row: int, field: str, token: Any, places: dict[str, int]) -> int:
    place = places.get(token) if isinstance(token, str) else None
    if place is None:
        raise InputError(f"{path}, record {row}: nothing has its {field} {shown(token)}")
    return place


def _whole(path: Path, row: int, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not abs(value) < 1 << 60:
        raise InputError(f"{path}, record {row}: {shown(value)} where a whole number is expected")
    return value


def _extend(numbers: array, path: Path, row: int, *parts: tuple[Any, int, str]) -> None:
    """Append lists of so many finite numbers."""
    for values, count, field in parts:
        if not _are_numbers(values, count) or (field == "rotation" and not any(values)):
            raise InputError(f"{path}, record {row}: {field} must be {count} finite numbers")
        numbers.extend(values)


def _are_numbers(values: Any, count: int) -> bool:
    # What is too large for a float, NaN and infinity are not between these.
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and -1e300 < value < 1e300 for value in values)
    )
