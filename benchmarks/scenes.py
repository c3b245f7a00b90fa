"""Render the benchmark scenes: real meshes under real light, in the NeRF-synthetic layout.

    pip install mitsuba==3.9.1 trimesh pycollada pillow
    python benchmarks/scenes.py [--scene NAME] [--out DIR] [--size 200] [--train 100] [--test 20]

Three scenes, path-traced with Mitsuba 3, each normalised to a ball of radius 1, Z up:

* ``dragon``      matte and textured;
* ``controller``  glossy, with base colour and roughness maps, under a light full of highlights;
* ``robot``       thin parts: legs, antenna and the cage around its lidar.

``DIR/NAME/`` gets ``{train,test,val}/r_%d.png`` (RGBA, 8 bit sRGB, straight alpha),
``transforms_{train,test,val}.json`` (each written when its images are complete), ``mesh.ply`` (the
true geometry, in the frame of the cameras) and ``scene.json`` (what was used, licences, measured
noise). A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assets import ASSETS, AssetError, cache_root, fetch

Array = np.ndarray

CAMERA_ANGLE_X_RAD = 0.6911112070083618  # NeRF-synthetic's horizontal field of view
CAMERA_DISTANCE = 3.2  # a ball of radius 1 then spans 91 % of the image's width
ELEVATION_DEG = (-10.0, 85.0)
IMAGES = {"train": 100, "test": 20, "val": 5}
SPLITS = tuple(IMAGES)
SAMPLES_PER_PIXEL = {"train": 256, "test": 1024, "val": 256}
SAMPLES_PER_PASS = 128  # bounds the renderer's memory
MAX_DEPTH = 5
MAX_TEXTURE_PX = 1024


class SceneError(RuntimeError):
    """A scene cannot be rendered; the message is one sentence that says why."""


@dataclass(frozen=True)
class SceneSpec:
    """What is rendered: where the mesh and the light come from, and how they are used."""

    asset: str
    mesh: str
    up: str  # the mesh file's up axis, "y" or "z"
    light: str  # an environment map of @pmndrs/assets
    exposure: float  # mean radiance of the light
    light_clamp: float = 40.0  # brightest light texel, in units of the mean: no fireflies
    roughness: float = 0.8  # where the material names none


SCENES: dict[str, SceneSpec] = {
    "dragon": SceneSpec(
        "genesis-world", "genesis/assets/meshes/dragon/dragon.obj", "y", "city", 0.8
    ),
    "controller": SceneSpec(
        "webxr-input-profiles", "package/dist/profiles/htc-vive-cosmos/left.glb", "y", "bridge", 0.6
    ),
    "robot": SceneSpec(
        "genesis-world", "genesis/assets/urdf/anymal_c/urdf/anymal_c.urdf", "z", "sunset", 0.55
    ),
}


# ---------------------------------------------------------------------------------- cameras


def world_from_camera(azimuth_rad: float, elevation_rad: float, distance: float) -> Array:
    """Camera-to-world matrix [4, 4] that looks at the origin, OpenGL axes, world Z up."""
    horizontal = np.cos(elevation_rad)
    back = np.array(
        [
            horizontal * np.cos(azimuth_rad),
            horizontal * np.sin(azimuth_rad),
            np.sin(elevation_rad),
        ]
    )
    right = np.array([-np.sin(azimuth_rad), np.cos(azimuth_rad), 0.0])
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, distance * back], axis=1)
    return matrix


def random_cameras(count: int, rng: np.random.Generator) -> Array:
    """Cameras [count, 4, 4], uniform over the sphere's band of `ELEVATION_DEG`."""
    sines = np.sin(np.deg2rad(ELEVATION_DEG))
    elevations = np.arcsin(rng.uniform(sines[0], sines[1], count))
    azimuths = rng.uniform(0.0, 2.0 * np.pi, count)
    cameras = [
        world_from_camera(a, e, CAMERA_DISTANCE) for a, e in zip(azimuths, elevations, strict=True)
    ]
    return np.stack(cameras)


def spiral_cameras(count: int, turns: float = 3.0) -> Array:
    """Cameras [count, 4, 4] on a spiral that rises through the band of `ELEVATION_DEG`."""
    along = (np.arange(count) + 0.5) / count
    low, high = np.deg2rad(ELEVATION_DEG)
    cameras = [
        world_from_camera(2.0 * np.pi * turns * t, low + (high - low) * t, CAMERA_DISTANCE)
        for t in along
    ]
    return np.stack(cameras)


def cameras_of(split: str, count: int, seed: int) -> Array:
    """The cameras [count, 4, 4] of a split; train and val are random, test is a spiral."""
    if split == "test":
        return spiral_cameras(count)
    return random_cameras(count, np.random.default_rng([seed, SPLITS.index(split)]))


def transforms(split: str, cameras: Array) -> dict[str, Any]:
    """The content of ``transforms_SPLIT.json``."""
    frames = [
        {"file_path": f"./{split}/r_{i}", "transform_matrix": camera.tolist()}
        for i, camera in enumerate(cameras)
    ]
    return {"camera_angle_x": CAMERA_ANGLE_X_RAD, "frames": frames}


# ---------------------------------------------------------------------------------- meshes


@dataclass(frozen=True)
class Part:
    """A triangle mesh with one material."""

    vertices: Array  # [V, 3]
    normals: Array  # [V, 3]
    faces: Array  # [F, 3]
    uv: Array | None  # [V, 2], origin at the image's lower left
    material: Any  # a trimesh material; parts that share it share the object

    def moved(self, matrix: Array) -> Part:
        """The part under a similarity [4, 4]."""
        linear = matrix[:3, :3]
        vertices = self.vertices @ linear.T + matrix[:3, 3]
        normals = self.normals @ linear.T / np.cbrt(np.linalg.det(linear))
        return Part(vertices, normals, self.faces, self.uv, self.material)


def load_parts(path: Path, up: str) -> list[Part]:
    """Read a mesh file or URDF; the union fits the unit ball around the origin, Z up."""
    parts = _load_urdf(path) if path.suffix == ".urdf" else _load_mesh(path)
    if up == "y":
        z_from_y = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
        parts = [part.moved(z_from_y) for part in parts]
    points = np.concatenate([part.vertices for part in parts])
    centre = (points.min(0) + points.max(0)) / 2
    scale = 1.0 / np.linalg.norm(points - centre, axis=1).max()
    normalise = np.diag([scale, scale, scale, 1.0])
    normalise[:3, 3] = -scale * centre
    return [part.moved(normalise) for part in parts]


def _load_mesh(path: Path) -> list[Part]:
    import trimesh

    parts = []
    for mesh in trimesh.load_scene(path).dump():
        uv = getattr(mesh.visual, "uv", None)
        parts.append(
            Part(
                np.array(mesh.vertices),
                np.array(mesh.vertex_normals),
                np.array(mesh.faces),
                None if uv is None else np.array(uv),
                getattr(mesh.visual, "material", None),
            )
        )
    return parts


def _load_urdf(path: Path) -> list[Part]:
    """The visual meshes of a robot, every joint at zero."""
    robot = ElementTree.parse(path).getroot()
    parent_joint = {_child(joint, "child").attrib["link"]: joint for joint in robot.iter("joint")}
    files: dict[Path, list[Part]] = {}

    def world_from_link(link: str) -> Array:
        if link not in parent_joint:
            return np.eye(4)
        joint = parent_joint[link]
        return world_from_link(_child(joint, "parent").attrib["link"]) @ _origin(joint)

    parts = []
    for link in robot.iter("link"):
        for visual in link.iter("visual"):
            mesh = visual.find("geometry/mesh")
            if mesh is None:
                continue
            file = (path.parent / mesh.attrib["filename"]).resolve()
            if file not in files:
                files[file] = _load_mesh(file)
            world_from_visual = world_from_link(link.attrib["name"]) @ _origin(visual)
            parts += [part.moved(world_from_visual) for part in files[file]]
    return parts


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    found = element.find(name)
    if found is None:
        raise SceneError(f"the URDF's <{element.tag} {element.attrib}> has no <{name}>")
    return found


def _origin(element: ElementTree.Element) -> Array:
    """The rigid transform [4, 4] of a URDF ``<origin xyz rpy>``: fixed axes, roll first."""
    origin = element.find("origin")
    attributes = {} if origin is None else origin.attrib
    matrix = np.eye(4)
    matrix[:3, 3] = [float(x) for x in attributes.get("xyz", "0 0 0").split()]
    for axis, angle in enumerate(float(x) for x in attributes.get("rpy", "0 0 0").split()):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
        matrix[:3, :3] = turn @ matrix[:3, :3]
    return matrix


def save_mesh(parts: list[Part], path: Path) -> None:
    """Write the union of the parts as one PLY."""
    import trimesh

    meshes = [trimesh.Trimesh(part.vertices, part.faces, process=False) for part in parts]
    write_atomically(path, trimesh.util.concatenate(meshes).export(file_type="ply"))


# ---------------------------------------------------------------------------------- renderer


_PROBE = """
import mitsuba as mi
mi.set_variant("llvm_ad_rgb")
scene = {"type": "scene", "integrator": {"type": "path"}, "light": {"type": "constant"},
         "ball": {"type": "sphere", "bsdf": {"type": "principled", "roughness": 0.5}},
         "sensor": {"type": "perspective", "film": {"type": "hdrfilm", "width": 4, "height": 4}}}
assert float(mi.render(mi.load_dict(scene), spp=4).array[0]) >= 0
"""


def load_mitsuba() -> Any:
    """Import Mitsuba with its fast LLVM variant if that works here, else with the scalar one.

    Some LLVM versions abort the whole process, so each is tried in a process of its own.
    """
    import mitsuba

    named = os.environ.get("DRJIT_LIBLLVM_PATH")
    found = sorted(Path("/usr/lib").glob("*/libLLVM.so.[1-9][0-9].*"), reverse=True)
    for library in [named] if named else [*map(str, found), None]:
        environment = dict(os.environ, DRJIT_LIBLLVM_PATH=library) if library else dict(os.environ)
        probe = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True)
        if probe.returncode == 0:
            os.environ.update(environment)
            mitsuba.set_variant("llvm_ad_rgb")
            return mitsuba
    mitsuba.set_variant("scalar_rgb")
    return mitsuba


def load_light(name: str, exposure: float, clamp: float) -> Array:
    """Environment map [H, W, 3] of mean radiance ``exposure``, no texel above ``clamp`` means."""
    import mitsuba as mi

    path = fetch("pmndrs-assets") / "package" / "hdri" / f"{name}.exr.js"
    encoded = re.search(r"base64,([A-Za-z0-9+/=]+)", path.read_text())
    if encoded is None:
        raise SceneError(f"{path} holds no base64 data")
    stream = mi.MemoryStream()
    stream.write(base64.b64decode(encoded.group(1)))
    stream.seek(0)
    bitmap = mi.Bitmap(stream)
    light = np.array(bitmap.convert(mi.Bitmap.PixelFormat.RGB, mi.Struct.Type.Float32, False))
    light = np.maximum(light, 0.0)  # lossy EXR compression leaves negative values
    solid_angle = np.sin(np.pi * (np.arange(len(light)) + 0.5) / len(light))[:, None, None]
    solid_angle = np.broadcast_to(solid_angle, light.shape)
    light = np.minimum(light, clamp * np.average(light, weights=solid_angle))
    return light * np.float32(exposure / np.average(light, weights=solid_angle))


def build_scene(parts: list[Part], light: Array, spec: SceneSpec) -> Any:
    """The Mitsuba scene of the parts under an environment map, Z up."""
    import mitsuba as mi

    z_from_y = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
    scene: dict[str, Any] = {
        "type": "scene",
        "integrator": {"type": "path", "max_depth": MAX_DEPTH, "hide_emitters": True},
        "light": {"type": "envmap", "bitmap": mi.Bitmap(light), "to_world": z_from_y},
    }
    bsdfs: dict[int, Any] = {}
    for i, part in enumerate(parts):
        key = id(part.material)
        if key not in bsdfs:
            bsdfs[key] = mi.load_dict(_bsdf(part.material, spec.roughness))
        scene[f"part_{i}"] = _shape(part, bsdfs[key])
    return mi.load_dict(scene)


def _bsdf(material: Any, roughness: float) -> dict[str, Any]:
    """A glTF or OBJ material as Mitsuba's two-sided principled BSDF."""

    def get(name: str, default: Any = None) -> Any:
        value = getattr(material, name, None)
        return default if value is None else value

    bsdf: dict[str, Any] = {"type": "principled", "roughness": roughness, "metallic": 0.0}
    image = get("baseColorTexture", get("image"))
    if image is not None:
        bsdf["base_color"] = _texture(image, raw=False)
    else:
        color = np.asarray(get("baseColorFactor", get("diffuse", [128, 128, 128])))[:3] / 255.0
        bsdf["base_color"] = {"type": "rgb", "value": color.tolist()}
    maps = get("metallicRoughnessTexture")
    if maps is not None:
        _, green, blue = maps.convert("RGB").split()
        bsdf["roughness"] = _texture(green, raw=True)
        bsdf["metallic"] = _texture(blue, raw=True)
    elif get("roughnessFactor") is not None:
        bsdf["roughness"] = float(get("roughnessFactor"))
        bsdf["metallic"] = float(get("metallicFactor", 0.0))
    normals = get("normalTexture")
    if normals is not None:
        bsdf = {"type": "normalmap", "normalmap": _texture(normals, raw=True), "bsdf": bsdf}
    return {"type": "twosided", "bsdf": bsdf}


def _texture(image: Any, raw: bool) -> dict[str, Any]:
    import mitsuba as mi

    image = image if image.mode == "L" else image.convert("RGB")
    image = image.reduce(max(1, max(image.size) // MAX_TEXTURE_PX))
    pixels = np.array(image).reshape(image.height, image.width, -1)
    return {"type": "bitmap", "bitmap": mi.Bitmap(pixels), "raw": raw}


def _shape(part: Part, bsdf: Any) -> Any:
    import mitsuba as mi

    properties = mi.Properties()
    properties["bsdf"] = bsdf
    mesh = mi.Mesh(
        "part",
        len(part.vertices),
        len(part.faces),
        has_vertex_normals=True,
        has_vertex_texcoords=part.uv is not None,
        props=properties,
    )
    buffers = mi.traverse(mesh)
    buffers["vertex_positions"] = part.vertices.astype(np.float32).ravel()
    buffers["vertex_normals"] = part.normals.astype(np.float32).ravel()
    buffers["faces"] = part.faces.astype(np.uint32).ravel()
    if part.uv is not None:  # Mitsuba's v counts rows from the top
        buffers["vertex_texcoords"] = (
            np.stack([part.uv[:, 0], 1.0 - part.uv[:, 1]], axis=1).astype(np.float32).ravel()
        )
    buffers.update()
    return mesh


def render(scene: Any, camera: Array, size_px: int, spp: int, seed: list[int]) -> Array:
    """One view as RGBA [size, size, 4], uint8, sRGB, straight alpha."""
    import mitsuba as mi

    sensor = mi.load_dict(
        {
            "type": "perspective",
            "fov": float(np.rad2deg(CAMERA_ANGLE_X_RAD)),
            "fov_axis": "x",
            "to_world": mi.ScalarTransform4f(camera @ np.diag([-1.0, 1.0, -1.0, 1.0])),
            "film": {
                "type": "hdrfilm",
                "width": size_px,
                "height": size_px,
                "pixel_format": "rgba",
                "rfilter": {"type": "box"},
            },
        }
    )
    passes = -(-spp // SAMPLES_PER_PASS)
    linear = np.zeros((size_px, size_px, 4))
    for pass_seed in np.random.SeedSequence(seed).generate_state(passes):
        image = mi.render(scene, sensor=sensor, spp=spp // passes, seed=int(pass_seed))
        linear += np.array(image) / passes
    return to_srgb8(linear)


def to_srgb8(linear: Array) -> Array:
    """Premultiplied linear RGBA [H, W, 4] → straight sRGB RGBA, uint8; empty pixels are 0."""
    alpha = np.clip(linear[..., 3:], 0.0, 1.0)
    rgb = np.clip(linear[..., :3] / np.maximum(alpha, 1e-6), 0.0, 1.0)
    srgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    alpha8 = np.round(255.0 * alpha)
    return np.concatenate([np.round(255.0 * srgb) * (alpha8 > 0), alpha8], -1).astype(np.uint8)


def psnr_on_white(a: Array, b: Array) -> float:
    """PSNR in dB between two RGBA uint8 images [H, W, 4] composited on white."""

    def composite(image: Array) -> Array:
        rgba = image / 255.0
        return rgba[..., :3] * rgba[..., 3:] + 1.0 - rgba[..., 3:]

    error = np.mean((composite(a) - composite(b)) ** 2)
    return float(-10.0 * np.log10(max(error, 1e-12)))


# ---------------------------------------------------------------------------------- data set


def write_atomically(path: Path, data: bytes) -> None:
    """Write to a temporary name, sync, rename: a file that exists is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def describe(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that decide the images; two runs may share a folder if they agree."""
    spec = SCENES[name]
    return {
        "scene": name,
        "mesh": spec.mesh,
        "mesh_source": f"{ASSETS[spec.asset].package} {ASSETS[spec.asset].version}",
        "light": spec.light,
        "light_source": f"{ASSETS['pmndrs-assets'].package} {ASSETS['pmndrs-assets'].version}",
        "light_clamp": spec.light_clamp,
        "exposure": spec.exposure,
        "max_depth": MAX_DEPTH,
        "size_px": arguments.size,
        "images": {split: getattr(arguments, split) for split in SPLITS},
        "samples_per_pixel": SAMPLES_PER_PIXEL,
        "seed": arguments.seed,
        "color_space": "srgb",
        "camera_distance": CAMERA_DISTANCE,
        "elevation_deg": list(ELEVATION_DEG),
    }


def licences(name: str) -> dict[str, str]:
    """What the packages say of the mesh and of the light."""
    mesh, light = ASSETS[SCENES[name].asset], ASSETS["pmndrs-assets"]
    return {"mesh_licence": mesh.licence, "light_licence": light.licence}


def make_scene(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Render what is missing of one scene into ``folder``."""
    from PIL import Image

    record, settings = folder / "scene.json", describe(name, arguments)
    known = json.loads(record.read_text()) if record.exists() else settings
    changed = [key for key in settings if known.get(key) != settings[key]]
    if changed:
        raise SceneError(
            f"{folder} was made with another {', '.join(changed)}: remove it or change --out"
        )
    missing = [s for s in SPLITS if not (folder / f"transforms_{s}.json").exists()]
    if not missing and "noise_psnr_db" in known:
        print(f"{name}: complete", flush=True)
        return
    mitsuba = load_mitsuba()
    spec = SCENES[name]
    parts = load_parts(fetch(spec.asset) / spec.mesh, spec.up)
    scene = build_scene(parts, load_light(spec.light, spec.exposure, spec.light_clamp), spec)
    facts = {**settings, **licences(name)}
    write_json(record, facts)
    save_mesh(parts, folder / "mesh.ply")
    faces = sum(len(part.faces) for part in parts)
    print(f"{name}: {faces} faces, Mitsuba {mitsuba.__version__} {mitsuba.variant()}", flush=True)
    for split in missing:
        cameras = cameras_of(split, getattr(arguments, split), arguments.seed)
        for i, camera in enumerate(cameras):
            path = folder / split / f"r_{i}.png"
            if path.exists():
                continue
            start = time.perf_counter()
            seed = [arguments.seed, SPLITS.index(split), i]
            image = render(scene, camera, arguments.size, SAMPLES_PER_PIXEL[split], seed)
            save_png(path, image)
            seconds = time.perf_counter() - start
            print(f"{name}: {split} {i + 1}/{len(cameras)} {seconds:.1f} s", flush=True)
        write_json(folder / f"transforms_{split}.json", transforms(split, cameras))
    camera = cameras_of("test", arguments.test, arguments.seed)[0]
    other_seed = [arguments.seed, len(SPLITS)]
    other = render(scene, camera, arguments.size, SAMPLES_PER_PIXEL["test"], other_seed)
    first = np.array(Image.open(folder / "test" / "r_0.png"))
    noise = round(psnr_on_white(first, other), 2)
    renderer = f"mitsuba {mitsuba.__version__} {mitsuba.variant()}"
    write_json(record, {**facts, "noise_psnr_db": noise, "renderer": renderer})
    print(f"{name}: complete, two renders of test view 0 agree to {noise} dB", flush=True)


def save_png(path: Path, image: Array) -> None:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scene", choices=SCENES, help="one scene instead of all")
    parser.add_argument("--out", type=Path, default=cache_root() / "scenes")
    parser.add_argument("--size", type=_positive, default=200, help="image size in pixels")
    for split, count in IMAGES.items():
        parser.add_argument(f"--{split}", type=_positive, default=count, help="number of images")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        for name in [arguments.scene] if arguments.scene else SCENES:
            make_scene(name, arguments.out / name, arguments)
    except (AssetError, SceneError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")


if __name__ == "__main__":
    main()
