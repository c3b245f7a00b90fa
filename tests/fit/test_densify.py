"""Strategies against slow oracles: rows and moments, splits and clones, relocation, noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from geodistill.fit.densify.adaptive import SHRINK, Adaptive
from geodistill.fit.densify.change import Change, apply
from geodistill.fit.densify.mcmc import Mcmc, relocated
from geodistill.fit.densify.strategy import Now, Seen, State
from geodistill.fit.posed_splats import RATES
from geodistill.fit.trained_splats import NAMES, TrainedSplats
from geodistill.geometry.splats import Splats, covariances
from geodistill.render.splats import render_splats
from tests.fit.splat_worlds import known_splats, views

ADAPTIVE = Adaptive(start=0.0, steps=1, every=0.0, reset_steps=10**9)
MCMC = Mcmc(start=0.0, steps=1, every=0.0)


def trained(count: int = 12, seed: int = 0) -> TrainedSplats:
    """After three steps on random gradients, so that every row has moments of its own."""
    made = TrainedSplats(known_splats(count, seed), RATES)
    draw = torch.Generator().manual_seed(seed + 9)
    for _ in range(3):
        for p in made.parameters.values():
            p.grad = torch.randn(p.shape, generator=draw)
        made.optimiser.step(1.0)
    return made


def moments(made: TrainedSplats) -> dict[tuple[str, str], Tensor]:
    return {
        (name, kind): value.clone()
        for name in NAMES
        for kind, value in made.optimiser.moments(made.parameters[name]).items()
    }


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def changed(made: TrainedSplats, strategy, state: State, **now) -> Change:
    at = Now(**{"step": 10, "progress": 0.05, "most": 1000, **now})
    change = strategy.change(made, state, at, seed())
    assert change is not None
    return change


# Rows


def test_rows_and_moments_follow() -> None:
    made = trained()
    values = {name: p.detach().clone() for name, p in made.parameters.items()}
    before, steps = moments(made), made.optimiser.count
    source = torch.tensor([3, 0, 7, 7, 11])
    fresh = torch.tensor([False, False, False, True, False])
    means = torch.arange(15.0).view(5, 3)
    apply(Change(source, fresh, {"means": means}, ("opacity_logits",)), made)
    assert len(made) == 5 and made.optimiser.count == steps
    assert torch.equal(made.parameters["means"], means)
    for name in NAMES[1:]:
        assert torch.equal(made.parameters[name], values[name][source]), name
    for (name, kind), now in moments(made).items():
        old = before[name, kind]
        if kind == "steps":
            assert now == old == 3
            continue
        wanted = old[source].clone()
        assert wanted.numel() == 0 or bool(wanted.any())
        wanted[fresh | torch.tensor(name == "opacity_logits")] = 0
        assert torch.equal(now, wanted), (name, kind)


def test_a_change_of_nothing_changes_no_step() -> None:
    one, two = trained(), trained()
    rows = torch.arange(len(two))
    apply(Change(rows, torch.zeros(len(two), dtype=torch.bool)), two)
    for made in (one, two):
        for p in made.parameters.values():
            p.grad = torch.ones_like(p)
        made.optimiser.step(1.0)
    for name in NAMES:
        assert torch.equal(one.parameters[name], two.parameters[name])


# Adaptive density control


def noted(made: TrainedSplats, pulled: Tensor) -> State:
    """Two views of which one sees nothing: means are over the views that see a splat."""
    state = ADAPTIVE.begin(made)
    visible = torch.ones(len(made), dtype=torch.bool)
    high = torch.where(pulled, 1.5 * ADAPTIVE.gradient, 0.9 * ADAPTIVE.gradient)
    ADAPTIVE.note(state, Seen(high, visible))
    ADAPTIVE.note(state, Seen(torch.zeros_like(high), ~visible))
    return state


def test_small_splats_are_cloned_and_large_ones_split() -> None:
    made = trained()
    rows = torch.arange(12)
    size = made.parameters["log_scales"].detach().exp().amax(dim=1)
    strategy = replace(ADAPTIVE, small=float(size.median()) + 1e-6, large=100.0)
    pulled = rows % 3 != 0
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    change = changed(made, strategy, noted(made, pulled))
    large = size > strategy.small
    stay, again = rows[~(pulled & large)], rows[pulled & ~large]
    apart = rows[pulled & large]
    assert len(again) and len(apart)
    assert change.source.tolist() == [*stay, *again, *apart, *apart]
    assert change.fresh.tolist() == [False] * len(stay) + [True] * (len(again) + 2 * len(apart))
    apply(change, made)
    kept = len(stay) + len(again)
    for name in NAMES:
        new = made.parameters[name]
        assert torch.equal(new[:kept], before[name][change.source[:kept]]), name
        if name not in ("means", "log_scales"):
            assert torch.equal(new[kept:], before[name][change.source[kept:]])
    widths = made.parameters["log_scales"][kept:].exp() * SHRINK
    assert torch.allclose(widths, before["log_scales"][change.source[kept:]].exp())


def test_children_scatter_as_their_parent_did() -> None:
    """Their means are samples of the Gaussian that they replace, so that together they have its
    covariance and, added, their own."""
    many = 20_000
    one = known_splats(1, seed=4)
    made = TrainedSplats(one[torch.zeros(many, dtype=torch.long)], RATES)
    strategy = replace(ADAPTIVE, small=1e-6, large=100.0)
    state = strategy.begin(made)
    visible = torch.ones(many, dtype=torch.bool)
    strategy.note(state, Seen(torch.full((many,), 1.0), visible))
    apply(changed(made, strategy, state, most=10**6), made)
    assert len(made) == 2 * many
    offsets = (made.parameters["means"] - one.means).detach().double()
    found = offsets.T @ offsets / len(offsets)
    wanted = covariances(one)[0].double()
    assert float((found - wanted).norm() / wanted.norm()) < 0.03
    assert float(offsets.mean(0).norm()) < 0.02 * float(wanted.trace().sqrt())
    own = covariances(made.splats())[0].double()
    assert torch.allclose(own * SHRINK**2, wanted, rtol=1e-4, atol=1e-7)


def test_a_clone_lets_the_square_of_the_light_pass() -> None:
    one = known_splats(1)
    one = replace(one, opacity_logits=torch.full((1,), -0.5))
    made = TrainedSplats(one, RATES)
    strategy = replace(ADAPTIVE, small=100.0, large=100.0)
    state = strategy.begin(made)
    strategy.note(state, Seen(torch.ones(1), torch.ones(1, dtype=torch.bool)))
    apply(changed(made, strategy, state), made)
    camera = views(1, 32)[0]
    with torch.no_grad():
        single, double = (render_splats(s, camera).opacity for s in (one, made.splats()))
    shown = single > 0.01
    assert bool(shown.any()) and len(made) == 2
    assert torch.allclose(1 - double[shown], (1 - single[shown]) ** 2, atol=1e-5)


def test_the_strongest_grow_where_not_all_may() -> None:
    made = trained()
    state = ADAPTIVE.begin(made)
    visible = torch.ones(12, dtype=torch.bool)
    ADAPTIVE.note(state, Seen(torch.arange(1.0, 13.0), visible))
    change = changed(made, replace(ADAPTIVE, small=100.0, large=100.0), state, most=14)
    assert sorted(change.source[12:].tolist()) == [10, 11]
    made, state = trained(), noted(trained(), visible)
    change = changed(made, replace(ADAPTIVE, large=100.0), state, most=5)
    assert len(change.source) == 12  # more than may be at the start: none is added


def test_faint_and_huge_splats_go_and_one_stays() -> None:
    made = trained()
    with torch.no_grad():
        made.parameters["opacity_logits"][[2, 5]] = -6.0
        made.parameters["log_scales"][7, 1] = math.log(0.5)
    strategy = replace(ADAPTIVE, large=0.3, reset_every=0.2)
    still = torch.zeros(12, dtype=torch.bool)
    early = changed(made, strategy, noted(made, still), progress=0.1)
    assert early.source.tolist() == [i for i in range(12) if i not in (2, 5)]
    late = changed(made, strategy, noted(made, still), progress=0.3)
    assert late.source.tolist() == [i for i in range(12) if i not in (2, 5, 7)]
    with torch.no_grad():
        made.parameters["opacity_logits"].fill_(-8.0)
        made.parameters["opacity_logits"][4] = -7.0
    assert changed(made, strategy, noted(made, still)).source.tolist() == [4]


def test_a_reset_sets_opacities_down_and_forgets_their_moments() -> None:
    made = trained()
    with torch.no_grad():
        made.parameters["opacity_logits"][3] = math.log(0.007 / 0.993)
    strategy = replace(ADAPTIVE, large=100.0, reset_steps=5, reset_every=0.1)
    state = noted(made, torch.zeros(12, dtype=torch.bool))
    apply(changed(made, strategy, state, progress=0.2), made)
    opacities = made.parameters["opacity_logits"].sigmoid()
    wanted = torch.full((12,), 0.01)
    wanted[3] = 0.007
    assert torch.allclose(opacities, wanted, rtol=1e-4)
    remembered = moments(made)
    assert not remembered["opacity_logits", "m"].any() and remembered["means", "m"].any()
    assert state.marks["reset"] == (10, 0.2)
    again = changed(made, strategy, state, step=12, progress=0.29)
    assert "opacity_logits" not in again.values  # too early


@pytest.mark.parametrize("strategy", [Adaptive(), Mcmc()])
def test_changes_come_when_they_are_due(strategy: Adaptive | Mcmc) -> None:
    made = trained()

    def due(step: int, progress: float) -> bool:
        state = strategy.begin(made)
        return strategy.change(made, state, Now(step, progress, 100), seed()) is not None

    assert due(strategy.steps, 0.1) and due(500, 1 / 60)
    assert not due(strategy.steps - 1, 0.1)  # too few pictures
    assert not due(500, 0.01) and not due(5000, 0.9)  # before the first, after the last
    state = strategy.begin(made)
    assert strategy.change(made, state, Now(5000, 0.1, 100), seed()) is not None
    assert strategy.change(made, state, Now(5060, 0.102, 100), seed()) is None
    assert state.marks["changed"] == (5000, 0.1)


# MCMC


@pytest.mark.parametrize("copies", [1, 2, 3, 7, 20, 51])
@pytest.mark.parametrize("opacity", [0.006, 0.3, 0.9, 0.9999])
def test_copies_let_as_much_light_pass(opacity: float, copies: int) -> None:
    """By numerical integration along a line through the centre, with the alphas multiplied out."""
    each, factor = relocated(torch.tensor([opacity]), torch.tensor([copies]))
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    one = torch.tensor(opacity).double() * torch.exp(-0.5 * x**2)
    passing = torch.ones_like(x)
    for _ in range(copies):
        passing = passing * (1 - each * torch.exp(-0.5 * (x / factor) ** 2))
    area, wanted = torch.trapezoid(1 - passing, x), torch.trapezoid(one, x)
    assert float(area / wanted) == pytest.approx(1, abs=1e-6)
    assert float(1 - (1 - each) ** copies) == pytest.approx(opacity, abs=1e-6)


def test_dead_splats_are_moved_to_living_ones() -> None:
    made = trained()
    dead = torch.tensor([1, 4, 8])
    with torch.no_grad():
        made.parameters["opacity_logits"][dead] = -7.0
    before = {name: p.detach().clone() for name, p in made.parameters.items()}
    change = changed(made, MCMC, MCMC.begin(made), most=12)
    apply(change, made)
    assert len(made) == 12
    drawn = change.source[dead]
    assert not set(drawn.tolist()) & set(dead.tolist())
    for row in range(12):
        copies = int((change.source == row).sum())
        if row in dead.tolist() or copies == 1:
            continue
        each, factor = relocated(
            before["opacity_logits"][row].sigmoid()[None], torch.tensor([copies])
        )
        for other in (change.source == row).nonzero()[:, 0]:
            assert bool(change.fresh[other])
            assert float(made.parameters["opacity_logits"][other].sigmoid()) == pytest.approx(
                float(each), rel=1e-4
            )
            widths = made.parameters["log_scales"][other] - before["log_scales"][row]
            assert torch.allclose(widths, factor.log().float().expand(3), atol=1e-5)
            for name in ("means", "rotations", "base_sh"):
                assert torch.equal(made.parameters[name][other], before[name][row])
    untouched = ~change.fresh
    assert bool(untouched.any())
    for name in NAMES:
        assert torch.equal(made.parameters[name][untouched], before[name][untouched])


def test_growth_is_five_percent_up_to_the_most() -> None:
    made = TrainedSplats(known_splats(100), RATES)
    change = changed(made, MCMC, MCMC.begin(made))
    assert len(change.source) == 105 and bool(change.fresh[100:].all())
    assert len(changed(made, MCMC, MCMC.begin(made), most=102).source) == 102
    assert len(changed(made, MCMC, MCMC.begin(made), most=50).source) == 100


def test_growth_keeps_what_is_seen() -> None:
    """Between 3 and 10 % of splats are doubled, and the picture hardly moves."""
    made = TrainedSplats(known_splats(100), RATES)
    camera = views(1, 48)[0]
    with torch.no_grad():
        before = render_splats(made.splats(), camera, 1.0).image
        apply(changed(made, MCMC, MCMC.begin(made)), made)
        after = render_splats(made.splats(), camera, 1.0).image
        rows = torch.cat([torch.arange(100), torch.arange(20)])
        naive = render_splats(known_splats(100)[rows], camera, 1.0).image
    assert float((after - before).abs().max()) < 0.1
    assert float((after - before).abs().mean()) < 0.5 * float((naive - before).abs().mean())


def test_noise_goes_through_the_covariance_and_spares_the_opaque() -> None:
    many = 20_000
    one = known_splats(1, seed=4)
    splats = one[torch.zeros(many, dtype=torch.long)]
    faint = torch.cat([torch.full((many // 2,), -12.0), torch.full((many // 2,), 0.0)])
    made = TrainedSplats(replace(splats, opacity_logits=faint), RATES)
    Mcmc(noise=1.0 / RATES["means"]).stir(made, seed())
    moved = (made.parameters["means"] - splats.means).detach().double()
    assert float(moved[many // 2 :].norm()) < 1e-12
    found = moved[: many // 2].T @ moved[: many // 2] / (many // 2)
    spread = covariances(one)[0].double()
    passing = 1 / (1 + math.exp(-100 * 0.005))
    wanted = passing**2 * spread @ spread.T
    assert float((found - wanted).norm() / wanted.norm()) < 0.05


def test_penalty_by_hand() -> None:
    splats = Splats(
        torch.zeros(2, 3),
        torch.tensor([[1.0, 0, 0, 0]] * 2),
        torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]).log(),
        torch.tensor([0.0, math.log(3)]),
        torch.zeros(2, 1, 3),
    )
    made = TrainedSplats(splats, RATES)
    assert float(Mcmc().penalty(made)) == pytest.approx(0.01 * 0.625 + 0.01 * 0.35)
    assert Adaptive().penalty(made) == 0.0
