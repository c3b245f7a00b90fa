from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import multiprocessing

from geodistill import config, dist
from geodistill.checks import InputError, UsageError
from geodistill.detect.augment import Augmentation, Paste
from geodistill.detect.datasets import open_dataset
from geodistill.detect.overlap import iou_bev
from geodistill.detect.scenes import Scene
from geodistill.fit.detector import job as jobs
from geodistill.fit.detector import training
from geodistill.fit.detector.batches import batch_of, census
from geodistill.fit.detector.recipe import Recipe
from geodistill.fit.detector.training import (
    cache_batches,
    make_feed,
    start_detector,
    train_detector,
    with_objects,
)
from geodistill.metrics.detectors import detect
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.detector_files import load_detector, save_detector
from geodistill.runs import Run, load_tensors, save_tensors
from geodistill.runs.lock import Lock
from geodistill.train.adamw import AdamW, OneCycle
from tests.detect.small_kitti import write_kitti
from tests.fit.small_recipe import GRID, POINTS, RECIPE

BOTH = pytest.mark.parametrize("recipe", [RECIPE, POINTS], ids=["pillars", "points"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 6, 3, reach_m=28)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "detector.safetensors")[0]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def trained(recipe: Recipe, root: Path, folder: Path, **more) -> dict[str, torch.Tensor]:
    with Run.open(folder, "train", {"seed": recipe.seed}) as run:
        train_detector(recipe, open_dataset(root), run, **more)
        run.finish({})
    return weights(folder)


def test_it_learns_to_find_boxes(tmp_path: Path) -> None:
    root = write_kitti(tmp_path / "kitti", 12, 1, seed=3, reach_m=24)
    recipe = replace(
        RECIPE,
        detector=replace(RECIPE.detector, compression=4, anchors=RECIPE.detector.anchors[2:]),
        epochs=20,
        augmentation=None,
        cycle=OneCycle(peak=0.01),
    )
    dataset = open_dataset(root)
    detector, _ = train_detector(recipe, dataset)
    frames = dataset.frames("train")
    cars, found = 0, 0
    for frame, one in zip(frames, detect(detector, dataset, frames), strict=True):
        scene = dataset.scene(frame)
        boxes = scene.boxes[scene.labels(("Car",)) == 0]
        best = one.boxes[: len(boxes) + 2]
        cars += len(boxes)
        found += int((iou_bev(boxes, best) > 0.5).any(1).sum())
    assert cars > 12 and found > 0.7 * cars


@BOTH
@pytest.mark.parametrize("mean", [0.0, 0.9])
def test_an_interrupted_run_ends_in_the_same_bits(
    root: Path, tmp_path: Path, recipe: Recipe, mean: float, monkeypatch
):
    recipe = replace(recipe, mean=mean, measure_every=1)
    whole = trained(recipe, root, tmp_path / "whole")
    monkeypatch.setattr("geodistill.train.CHECKPOINT_SECONDS", 0.0)
    real = jobs.DetectorJob.loss

    def fails(self, step, progress):
        if step == 4:
            raise KeyboardInterrupt
        return real(self, step, progress)

    with monkeypatch.context() as patch:
        patch.setattr(jobs.DetectorJob, "loss", fails)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, root, tmp_path / "parts")
    assert equal(trained(recipe, root, tmp_path / "parts"), whole)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "score" in line] == [3, 6]


def test_gradients_that_are_logged_are_their_steps_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.train.REPORT_EVERY", 1)
    norms: list[float] = []
    real = AdamW.step

    def noted(self: AdamW, lr_scale: float) -> None:
        grads = [p.grad for p in self._parameters if p.grad is not None]
        norms.append(float(torch.stack([grad.norm() for grad in grads]).norm()))
        real(self, lr_scale)

    monkeypatch.setattr(AdamW, "step", noted)
    trained(RECIPE, root, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    logged = [line["gradient"] for line in lines if "gradient" in line]
    assert len(norms) == 6 and logged == pytest.approx(norms, rel=1e-5)


def test_it_measures_where_a_batch_is_more_than_all_scans(root: Path, tmp_path: Path) -> None:
    trained(replace(RECIPE, batch=8, measure_every=1), root, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "score" in line] == [1, 2]


@BOTH
def test_a_cache_gives_the_same_bits(root: Path, tmp_path: Path, recipe: Recipe) -> None:
    dataset = open_dataset(root)
    assert cache_batches(recipe, dataset, tmp_path / "cache") == (6, 6)
    (tmp_path / "cache" / "000" / "000003.safetensors").unlink()
    assert cache_batches(recipe, dataset, tmp_path / "cache") == (6, 1)
    own = trained(recipe, root, tmp_path / "own")
    assert equal(trained(recipe, root, tmp_path / "shared", cache=tmp_path / "cache"), own)


def test_caches_of_something_else(root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(root)
    cache_batches(RECIPE, dataset, tmp_path / "cache")
    with pytest.raises(UsageError, match="holds the batches of other settings: the data"):
        train_detector(replace(RECIPE, seed=1), dataset, cache=tmp_path / "cache")
    with pytest.raises(InputError, match="is no cache: make it by geodistill cache"):
        train_detector(RECIPE, dataset, cache=tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds something that is no cache"):
        cache_batches(RECIPE, dataset, root)
    key = tmp_path / "cache" / "cache.json"
    known = key.read_text()
    for text in ("[]", known[:9]):
        key.write_text(text)
        with pytest.raises(InputError, match=r"cache\.json"):
            train_detector(RECIPE, dataset, cache=tmp_path / "cache")
    key.write_text(known)
    with pytest.raises(InputError, match=r"000006\.safetensors does not exist: the cache"):
        train_detector(replace(RECIPE, epochs=3), dataset, cache=tmp_path / "cache")
    path = tmp_path / "cache" / "000" / "000000.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"000000\.safetensors"):
        train_detector(RECIPE, dataset, cache=tmp_path / "cache")
    save_tensors(path, {"something": torch.zeros(1)}, {})
    with pytest.raises(InputError, match=r"000000\.safetensors is no batch, as it has no 'points'"):
        train_detector(RECIPE, dataset, cache=tmp_path / "cache")
    key.write_text(known.replace('"taps": []', '"taps": [5], "teachers": ["a"]'))
    with pytest.raises(InputError, match="does not say which outputs"):
        train_detector(RECIPE, dataset, cache=tmp_path / "cache")


def test_what_cannot_be_measured_is_refused_before_the_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(root, tmp_path / "kitti")
    frame = open_dataset(data).frames("val")[-1]
    (data / "training" / "label_2" / f"{frame}.txt").unlink()
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(InputError, match=rf"{frame}\.txt does not exist"):
        train_detector(RECIPE, open_dataset(data))


def test_classes_and_areas_that_the_labels_do_not_have(root: Path, capsys) -> None:
    dataset, (*others, car) = open_dataset(root), RECIPE.detector.anchors
    lower = replace(RECIPE.detector, anchors=(*others, replace(car, name="car")))
    with pytest.raises(UsageError, match=r"the class car is Car in labels of the 6 scans"):
        train_detector(replace(RECIPE, detector=lower, augmentation=Augmentation()), dataset)

    def mixed(frame: str) -> Scene:
        scene = dataset.scene(frame)
        names = ("car" if k == 0 else name for k, name in enumerate(scene.names))
        return replace(scene, names=tuple(names))

    both = Mock(wraps=dataset, scene=mixed)
    with pytest.raises(UsageError, match="the class Car is car in labels of the 6 scans"):
        with_objects(
            replace(make_feed(RECIPE, dataset, start_detector(RECIPE, "cpu")), dataset=both)
        )
    away = replace(GRID, low=(100.0, -15.36, -3.0), high=(130.72, 15.36, 1.0))
    with pytest.raises(InputError, match=r"none of the \d+ objects in .* x from 100 to 130.72 m"):
        train_detector(replace(RECIPE, detector=replace(RECIPE.detector, grid=away)), dataset)
    with pytest.raises(UsageError, match="a batch of 100 is more than 2 x 6 scans"):
        train_detector(replace(RECIPE, batch=100), dataset)
    for change in (None, Augmentation()):
        recipe = replace(RECIPE, augmentation=change)
        with_objects(make_feed(recipe, dataset, start_detector(RECIPE, "cpu")))
        assert "can be learnt" not in capsys.readouterr().err
    names = RECIPE.detector.classes
    seen = census(dataset, dataset.frames("train"), names, (-99, -99, 99, 99), pasted=())
    assert 0 < seen.scans < 6 and seen.inside == {*names}  # none more is needed
    more = replace(RECIPE.detector, anchors=(replace(car, name="Tram"), car))
    start = start_detector(replace(RECIPE, detector=more), "cpu")
    with_objects(make_feed(RECIPE, dataset, start))
    assert "no object of the class Tram can be learnt in the 6 scans" in capsys.readouterr().err


def test_a_cache_that_got_no_batch_may_become_another(root: Path, tmp_path: Path) -> None:
    data = shutil.copytree(root, tmp_path / "kitti")
    scan = sorted((data / "training" / "velodyne").iterdir())[0]
    whole = scan.read_bytes()
    scan.write_bytes(whole[:-3])
    with pytest.raises(InputError, match=scan.name):
        cache_batches(RECIPE, open_dataset(data), tmp_path / "cache")
    scan.write_bytes(whole)
    assert cache_batches(RECIPE, open_dataset(data), tmp_path / "cache") == (6, 6)


def test_a_cache_that_lacks_a_step_is_refused_before_the_training(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(root)
    cache_batches(RECIPE, dataset, tmp_path / "cache")
    (tmp_path / "cache" / "000" / "000005.safetensors").unlink()
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(InputError, match=r"000005\.safetensors does not exist"):
        train_detector(RECIPE, dataset, cache=tmp_path / "cache")


def test_one_process_at_a_time_makes_a_cache(root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(root)
    cache_batches(RECIPE, dataset, tmp_path / "cache")
    half = tmp_path / "cache" / "000" / ".000007.safetensors.tmp-dead"
    half.touch()
    lock = Lock(tmp_path / "cache" / ".lock")
    with pytest.raises(UsageError, match=r"another process \(pid \d+\) is working in .*cache"):
        cache_batches(RECIPE, dataset, tmp_path / "cache")
    lock.release()
    assert cache_batches(RECIPE, dataset, tmp_path / "cache") == (6, 0) and not half.exists()


def test_batches_are_functions_of_the_step(root: Path) -> None:
    dataset = open_dataset(root)
    detector = start_detector(RECIPE, "cpu").train()
    feed = with_objects(make_feed(RECIPE, dataset, detector))
    one, two = (batch_of(detector, feed, 3, feed.examples(3)) for _ in range(2))
    assert torch.equal(one.inputs.points, two.inputs.points)
    other = batch_of(detector, feed, 4, feed.examples(4))
    assert len(other.inputs.points) != len(one.inputs.points)
    seen = [feed._example(k) for k in range(6)]
    assert len({len(one.points) for one in seen}) > 1


def test_workers_prepare_the_same(root: Path, tmp_path: Path) -> None:
    own = trained(RECIPE, root, tmp_path / "own")
    assert equal(trained(replace(RECIPE, workers=2), root, tmp_path / "two"), own)


def test_no_object_to_learn_from(root: Path) -> None:
    other = replace(RECIPE.detector.anchors[0], name="Tram")
    detector = replace(RECIPE.detector, anchors=(other,))
    recipe = replace(RECIPE, detector=detector, augmentation=Augmentation())
    words = (
        r"no object of the classes Tram can be learnt in the 6 scans to .* labelled are Car, Cyc"
    )
    with pytest.raises(InputError, match=words):
        train_detector(recipe, open_dataset(root))


def test_what_is_pasted_by_default_is_each_class() -> None:
    anchors = RECIPE.detector.anchors
    own = tuple(replace(anchors[k], name=name) for k, name in enumerate(("forklift", "Car", "van")))
    for detector, names in (
        (RECIPE.detector, ("Pedestrian", "Cyclist", "Car")),
        (POINTS.detector, ("Car", "Pedestrian", "Cyclist")),
        (replace(RECIPE.detector, anchors=own), ("forklift", "Car", "van")),
    ):
        recipe = replace(RECIPE, detector=detector, augmentation=Augmentation())
        assert recipe.augmentation is not None
        assert recipe.augmentation.paste == tuple(Paste(name, 15) for name in names)
        assert config.from_dict(Recipe, config.to_dict(recipe)) == recipe
    said = "paste names 'car', which is no class of the detector (did you mean 'Car'?): name Ped"
    with pytest.raises(UsageError, match=re.escape(said)):
        replace(RECIPE, augmentation=Augmentation((Paste("car", 4),)))
    none = replace(RECIPE, augmentation=Augmentation(())).augmentation
    assert none is not None and none.paste == ()


def test_a_run_that_was_killed_after_its_last_measuring(root: Path, tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", "train", {"seed": RECIPE.seed}) as run:
        train_detector(RECIPE, open_dataset(root), run)  # and nothing is finished
    with pytest.raises(InputError, match="is a run that is not finished: give its command again"):
        load_detector(tmp_path / "run")
    trained(RECIPE, root, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["step"] for line in lines if "score" in line] == [6]


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    detector = start_detector(RECIPE, "cpu")
    next(iter(detector.parameters())).data.view(-1)[0] = torch.nan
    save_detector(tmp_path / "a.safetensors", detector)
    with pytest.raises(InputError, match="holds NaN or infinite weights: train it again"):
        load_detector(tmp_path / "a.safetensors")


# -- ranks --------------------------------------------------------------------------------------


def _gradients(recipe: Recipe, root: Path) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    detector = start_detector(recipe, "cpu").double().train()
    feed = with_objects(make_feed(recipe, open_dataset(root), detector))
    batch = batch_of(detector, feed, 0, [_double(one) for one in feed.examples(0)])
    parts = detector.losses(detector(batch.inputs), batch.targets)
    torch.stack(list(parts.values())).sum().backward()
    dist.sum_gradients(detector.parameters())
    found = {name: p.grad for name, p in detector.named_parameters()}
    return found | {f"buffer {name}": b for name, b in detector.named_buffers()}


def _double(one):
    return replace(one, points=one.points.double(), boxes=one.boxes.double())


def _rank(number: int, recipe: Recipe, root: Path, port: int, out: Path) -> None:
    os.environ.update(
        RANK=str(number), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    dist.start()
    found = _gradients(recipe, root)
    if number == 1:
        torch.save({name: value for name, value in found.items()}, out)
    dist.stop()


@pytest.mark.parametrize("normaliser", ["batch", "scan"])
def test_two_ranks_have_the_gradient_of_one(root: Path, tmp_path: Path, normaliser) -> None:
    recipe = replace(RECIPE, detector=replace(RECIPE.detector, normaliser=normaliser))
    alone = _gradients(recipe, root)
    port = 29500 + os.getpid() % 2000
    out = tmp_path / "gradients.pt"
    multiprocessing.spawn(_rank, (recipe, root, port, out), nprocs=2)
    together = torch.load(out, weights_only=True)
    for name, value in alone.items():
        scale = float(value.abs().max()) + 1e-12
        assert float((together[name] - value).abs().max()) < 1e-9 * scale + 1e-12, name


def test_a_detector_of_a_run(root: Path, tmp_path: Path) -> None:
    trained(RECIPE, root, tmp_path / "run")
    found = load_detector(tmp_path / "run")
    assert isinstance(found, AnchorDetector) and not found.training
    assert (tmp_path / "run" / "best.safetensors").is_file()
