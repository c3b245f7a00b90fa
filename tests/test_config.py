from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from geodistill import config
from geodistill.checks import InputError, UsageError


@dataclass(frozen=True)
class Optimiser:
    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass(frozen=True)
class Recipe:
    steps: int = 100
    name: str = "plain"
    kind: Literal["ngp", "tensorf", 3] = "ngp"
    verbose: bool = False
    data: Path | None = None
    sizes: tuple[int, ...] = (1, 2)
    scale: float | str = 1.0
    optimiser: Optimiser = field(default_factory=Optimiser)
    other: Optimiser | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")


@dataclass(frozen=True)
class Needy:
    name: str
    inner: Optimiser = field(default_factory=lambda: Optimiser(lr=5.0))


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Free:
    losses: tuple[Any, ...] = ()


def test_lists_of_mappings_are_set_as_in_yaml() -> None:
    one = config.load(Free, None, ["losses=[{loss: hint, tap: neck}, {loss: kd, weight: 0.5}]"])
    assert one.losses == ({"loss": "hint", "tap": "neck"}, {"loss": "kd", "weight": 0.5})
    assert config.load(Free, None, ["losses=[]"], one) == Free()
    with pytest.raises(UsageError, match="'losses' must be a list, got 'hint'"):
        config.load(Free, None, ["losses=hint"])
    with pytest.raises(UsageError, match="'losses'"):
        config.load(Free, None, ["losses=[{"])


def test_precedence(tmp_path: Path) -> None:
    file = write(tmp_path, "steps: 7\noptimiser: {lr: 0.5}\n")
    base = Recipe(name="base", steps=5, optimiser=Optimiser(betas=(0.1, 0.2)))
    made = config.load(Recipe, file, ["optimiser.lr=1e-3", "data=some/where"], base)
    assert made == Recipe(
        steps=7, name="base", data=Path("some/where"), optimiser=Optimiser(1e-3, (0.1, 0.2))
    )


@dataclass(frozen=True)
class Round:
    shape: Literal["circle", "ellipse"] = "circle"
    radius: float = 1.0


@dataclass(frozen=True)
class Square:
    shape: Literal["square"] = "square"
    side: float = 2.0


@dataclass(frozen=True)
class Drawn:
    what: Round | Square = field(default_factory=Round)


def test_unions_are_told_apart_by_literals(tmp_path: Path) -> None:
    assert config.from_dict(Drawn, {"what": {"radius": 3.0}}) == Drawn(Round(radius=3.0))
    assert config.from_dict(Drawn, {"what": {"shape": "ellipse"}}) == Drawn(Round("ellipse"))
    square = Drawn(Square(side=5.0))
    assert config.load(Drawn, None, ["what.shape=square", "what.side=5"]) == square
    assert config.from_dict(Drawn, config.to_dict(square)) == square
    assert config.from_dict(Drawn, {"what": {"side": 4.0}}, base=square) == Drawn(Square(side=4.0))
    with pytest.raises(UsageError, match=r"'what\.shape' must be one of circle, ellipse, square"):
        config.from_dict(Drawn, {"what": {"shape": "cube"}})
    with pytest.raises(UsageError, match=r"unknown key 'what\.side'"):
        config.from_dict(Drawn, {"what": {"side": 4.0}})
    with pytest.raises(UsageError, match="'what' must be a mapping"):
        config.from_dict(Drawn, {"what": 3})


def test_nested_defaults_of_the_parent_survive() -> None:
    assert config.load(Needy, None, ["name=x", "inner.betas=0,1"]).inner == Optimiser(
        5.0, (0.0, 1.0)
    )


@pytest.mark.parametrize(
    "override, attribute, value",
    [
        ("steps=12", "steps", 12),
        ("steps=1e3", "steps", 1000),
        ("verbose=true", "verbose", True),
        ("verbose=no", "verbose", False),
        ("kind=tensorf", "kind", "tensorf"),
        ("kind=3", "kind", 3),
        ("data=none", "data", None),
        ("sizes=[4, 5,6]", "sizes", (4, 5, 6)),
        ("sizes=", "sizes", ()),
        ("name=a=b", "name", "a=b"),
        ("name=12", "name", "12"),
        ("scale=2", "scale", 2.0),
        ("scale=auto", "scale", "auto"),
        ("other.lr=3", "other", Optimiser(lr=3.0)),
    ],
)
def test_override(override: str, attribute: str, value: Any) -> None:
    made = getattr(config.load(Recipe, None, [override]), attribute)
    assert made == value and type(made) is type(value)


@pytest.mark.parametrize(
    "override, message",
    [
        ("stpes=1", "unknown key 'stpes' (did you mean 'steps'?); known: steps, name, kind"),
        ("optimiser.beta=1", "unknown key 'optimiser.beta' (did you mean 'betas'?)"),
        ("steps=many", "'steps' must be an integer, got 'many'"),
        ("steps=1.5", "'steps' must be an integer, got '1.5'"),
        ("steps=nan", "'steps' must be an integer, got 'nan'"),
        ("optimiser.lr=fast", "'optimiser.lr' must be a number, got 'fast'"),
        ("verbose=maybe", "'verbose' must be true or false, got 'maybe'"),
        ("kind=ngpp", "'kind' must be one of ngp, tensorf, 3, got 'ngpp' (did you mean 'ngp'?)"),
        ("sizes=1,x", "'sizes' must be an integer, got 'x'"),
        ("optimiser.betas=1", "'optimiser.betas' must have 2 values, got 1"),
        ("optimiser=3", "'optimiser' must be a mapping of keys, got '3'"),
        ("steps.x=3", "'steps' must be an integer, got {'x': '3'}"),
        ("steps", "'steps' is not of the form key=value"),
        ("steps=-1", "steps must not be negative, got -1"),
    ],
)
def test_bad_override(override: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.load(Recipe, None, [override])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, attribute, value",
    [
        ("steps: 1e4", "steps", 10000),
        ("optimiser: {lr: 1e-3}", "optimiser", Optimiser(1e-3)),
        ("name: on", "name", "on"),
        ("name: 'no'", "name", "no"),
        ("verbose: true", "verbose", True),
        ("sizes: [3, 4]", "sizes", (3, 4)),
        ("data: null", "data", None),
        ("", "steps", 100),
    ],
)
def test_yaml(tmp_path: Path, text: str, attribute: str, value: Any) -> None:
    assert getattr(config.load(Recipe, write(tmp_path, text)), attribute) == value


@pytest.mark.parametrize(
    "text, message",
    [
        ("steps: '5'", "'steps' must be an integer, got '5'"),
        ("steps: true", "'steps' must be an integer, got True"),
        ("name: 5", "'name' must be text, got 5"),
        ("verbose: yes", "'verbose' must be true or false, got 'yes'"),
        ("optimizer: {}", "unknown key 'optimizer' (did you mean 'optimiser'?)"),
        ("sizes: 3", "'sizes' must be a list, got 3"),
        ("optimiser: [1]", "'optimiser' must be a mapping of keys, got [1]"),
    ],
)
def test_bad_yaml_value(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        config.load(Recipe, file)
    assert str(caught.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: [1", "is not valid YAML"),
        ("steps: 1\nsteps: 2", "key 'steps' is repeated (line 2)"),
        ("- 1", "must hold a YAML mapping"),
        ("a: !!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config.load(Recipe, write(tmp_path, text))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_unreadable_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none\.yaml: No such file"):
        config.load(Recipe, tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        config.load(Recipe, binary)


def test_required() -> None:
    with pytest.raises(UsageError, match="'name' is required and was not given"):
        config.from_dict(Needy, {})


def test_round_trip(tmp_path: Path) -> None:
    made = Recipe(
        steps=3, name="ünï: #1", data=Path("a/b"), optimiser=Optimiser(1e-5, (0.1, 1 / 3)), kind=3
    )
    file = write(tmp_path, "")
    file.write_text(config.to_yaml(made), encoding="utf-8")
    assert config.load(Recipe, file) == made
    assert config.from_dict(Recipe, config.to_dict(made)) == made


def test_to_dict_refuses_what_yaml_cannot_hold() -> None:
    with pytest.raises(UsageError, match="cannot hold a object"):
        config.to_dict({"a": object()})


def test_differing_keys() -> None:
    a = {"x": 1, "same": float("nan"), "inner": {"lr": 1.0, "k": 2}}
    b = {"x": True, "same": float("nan"), "inner": {"lr": 1, "k": 2}, "new": None}
    assert config.differing_keys(a, b) == ["x", "inner.lr", "new"]
    assert config.differing_keys(a, a) == []


def test_unknown_field_type_is_the_programmers_error() -> None:
    with pytest.raises(TypeError, match="no configuration can hold"):
        config.convert(set, "x", "where")


def test_none_in_the_place_of_a_dataclass() -> None:
    base = Recipe(other=Optimiser())
    assert config.load(Recipe, None, ["other=none"], base).other is None
    assert config.load(Recipe, None, ["other.lr=2"], base).other == Optimiser(2.0)
    with pytest.raises(UsageError, match="'optimiser' must be a mapping of keys, got 'none'"):
        config.load(Recipe, None, ["optimiser=none"])


@dataclass(frozen=True)
class Several:
    all: tuple[Optimiser, ...] = (Optimiser(),)
    more: tuple[Optimiser, ...] | None = None


def test_tuples_of_dataclasses(tmp_path: Path) -> None:
    file = write(tmp_path, "all: [{lr: 1.0}, {betas: [0.1, 0.2]}]\n")
    made = config.load(Several, file)
    assert made == Several((Optimiser(1.0), Optimiser(betas=(0.1, 0.2))))
    assert config.from_dict(Several, config.to_dict(made)) == made
    one = config.load(Several, write(tmp_path, "more: [{lr: 1.0}]\n"))
    assert one == Several(more=(Optimiser(1.0),))
    assert config.load(Several, None, ["more=none"], one) == Several()
    assert config.load(Several, None, ["more=[{lr: 1.0}]"]) == one
    assert config.load(Several, None, ["all=[]"]) == Several(all=())
    with pytest.raises(UsageError, match="'all' is not valid YAML"):
        config.load(Several, None, ["all=["])
    for name in ("all", "more"):
        with pytest.raises(UsageError, match=rf"'{name}' must be a list of mappings, got 3"):
            config.from_dict(Several, {name: 3})
    with pytest.raises(UsageError, match=r"unknown key 'all.0.rl'"):
        config.from_dict(Several, {"all": [{"rl": 3}]})
