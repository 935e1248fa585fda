"""States of a script's optimizer bring the cloud's half along."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sft_common.errors import (
    ConfigError,
    MismatchError,
    SessionLostError,
    SftError,
    SnapshotError,
)
from sft_common.optimizer import SFTOptimizer
from sft_edge.retrying import Retry
from tests.integration import resumed_script as scripts
from tests.integration.test_script import batches
from tests.processes import free_place, running_cloud
from tests.warm import Forge, Program, RestartedCloud

pytestmark = pytest.mark.usefixtures("one_thread")

FILE = Path(scripts.__file__)
SOON = Retry(for_seconds=20, first_seconds=0.1, most_seconds=0.2)


@pytest.fixture(scope="module")
def cloud(programs: Forge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestartedCloud]:
    running = RestartedCloud(programs, tmp_path_factory.mktemp("cloud"))
    yield running
    running.program.kill()


def restart(cloud: RestartedCloud) -> None:
    cloud.program.kill()
    cloud.start()


def take(model: Any, optimizer: Any, numbers: range, *, step: bool = True) -> list[float]:
    """Take steps with some of the batches; returns their losses."""
    losses = []
    for data, target in batches(numbers.stop)[numbers.start :]:
        loss = model(**data, labels=target).loss
        loss.backward()
        losses.append(loss.item())
        if step:
            optimizer.step()
            optimizer.zero_grad()
    return losses


def checkpoint(model: Any, optimizer: Any) -> Any:
    return copy.deepcopy((model.state_dict(), optimizer.state_dict(), torch.get_rng_state()))


def go_to(state: Any, model: Any, optimizer: Any) -> None:
    model.load_state_dict(state[0])
    optimizer.load_state_dict(copy.deepcopy(state[1]))
    torch.set_rng_state(state[2])


def net2_of(cloud: RestartedCloud, optimizer: Any) -> bytes:
    """Return the cloud's half of a session that has been closed."""
    return cloud.half(optimizer._half._session.session_id)


def same(mine: dict[str, Tensor], its: dict[str, Tensor]) -> bool:
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in its)


@pytest.mark.parametrize("name", scripts.SCRIPTS)
def test_a_script_that_is_started_again_ends_as_if_nothing_had_stopped_it(
    programs: Forge, cloud: RestartedCloud, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    """Its first program ended by an exception, which closes the session; the cloud was killed."""
    run = scripts.SCRIPTS[name]
    for place in ("whole", "broken"):
        (tmp_path / place).mkdir()
    model, optimizer = scripts.split(tiny_model, cloud.server)
    run(model, optimizer, tmp_path / "whole")
    optimizer.close()
    expected, half = model.state_dict(), net2_of(cloud, optimizer)
    model, optimizer = scripts.split(tiny_model, cloud.server)
    with pytest.raises(scripts.Stopped):
        run(model, optimizer, tmp_path / "broken", stop=5)
    optimizer.close()
    session = optimizer._half._session.session_id  # type: ignore[attr-defined]
    assert not same(model.state_dict(), expected) and cloud.half(session) != half
    restart(cloud)
    before = {path.name for path in cloud.sessions.iterdir()}
    programs.script(tmp_path / "broken", FILE, name, tiny_model, cloud.server, "edge").said()
    assert same(torch.load(tmp_path / "broken" / "net1.pt", weights_only=True), expected)
    assert cloud.half(session) == half
    assert {path.name for path in cloud.sessions.iterdir()} == before


def test_both_halves_go_back_as_often_as_one_likes(cloud: RestartedCloud, tiny_model: Path) -> None:
    """To states of two courses of things, in one of which both are of the same step."""
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(2))
    first = checkpoint(model, optimizer)
    there = take(model, optimizer, range(2, 4))
    second = checkpoint(model, optimizer)
    assert optimizer.state_dict()["sft_name"] == second[1]["sft_name"]  # nothing has changed
    end = take(model, optimizer, range(4, 6))
    go_to(first, model, optimizer)
    other = take(model, optimizer, range(3, 5))
    assert other != there
    third = checkpoint(model, optimizer)
    for state, number, expected in ((second, 4, end), (second, 4, end), (third, 4, None)):
        go_to(state, model, optimizer)
        again = take(model, optimizer, range(number, number + 2))
        assert (again == expected) == (expected is not None)
    optimizer.close()
    go_to(second, model, optimizer)  # the session goes on
    assert take(model, optimizer, range(4, 6)) == end
    with pytest.raises(SessionLostError, match=r"step 2 cannot be loaded: .* the newest 2"):
        optimizer.load_state_dict(first[1])
    optimizer.close()


def test_a_script_that_ends_waits_for_no_cloud_that_has_gone(
    programs: Forge, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would try for an hour while it goes on."""
    cloud = RestartedCloud(programs, tmp_path / "cloud")
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(1))
    cloud.program.kill()
    optimizer._half._leave()  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert "SFTOptimizer: the session" in said and "was not closed:" in said


def test_a_cloud_that_lost_steps_goes_back_to_a_state(
    cloud: RestartedCloud, tiny_model: Path
) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server, retry=SOON)
    take(model, optimizer, range(2))
    state = checkpoint(model, optimizer)
    expected = take(model, optimizer, range(2, 4))
    restart(cloud)
    with pytest.raises(SessionLostError, match=r"go back to a state that was saved \(load_state"):
        take(model, optimizer, range(4, 5))
    go_to(state, model, optimizer)
    assert take(model, optimizer, range(2, 4)) == expected
    optimizer.close()


@pytest.mark.parametrize("labels", ["cloud", "edge"])
def test_a_state_holds_no_gradients_but_all_else_there_is_in_midst_of_an_accumulation(
    cloud: RestartedCloud, tiny_model: Path, labels: str
) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server, labels=labels)
    take(model, optimizer, range(2))
    take(model, optimizer, range(2, 3), step=False)
    state = checkpoint(model, optimizer)
    optimizer.zero_grad()
    expected = take(model, optimizer, range(3, 6))
    go_to(state, model, optimizer)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert take(model, optimizer, range(3, 6)) == expected
    optimizer.close()


def test_nothing_trained_costs_the_cloud_nothing(cloud: RestartedCloud, tiny_model: Path) -> None:
    before = {path.name for path in cloud.sessions.iterdir()}
    model, optimizer = scripts.split(tiny_model, cloud.server)
    state = checkpoint(model, optimizer)
    assert state[1]["sft_session"] == "" and state[1]["sft_steps"] == 0
    go_to(state, model, optimizer)
    optimizer.close()
    assert {path.name for path in cloud.sessions.iterdir()} == before
    model, optimizer = scripts.split(tiny_model, cloud.server)
    go_to(state, model, optimizer)  # the same beginning
    take(model, optimizer, range(1))
    with pytest.raises(ConfigError, match="of step 0, of which the cloud keeps nothing"):
        optimizer.load_state_dict(state[1])
    take(model, optimizer, range(1, 2))
    optimizer.close()


def test_states_of_other_trainings_change_nothing(cloud: RestartedCloud, tiny_model: Path) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(1))
    state = checkpoint(model, optimizer)
    optimizer.close()

    def refused(error: type[SftError], text: str, changed: Any = state[1], **more: Any) -> None:
        model, optimizer = scripts.split(tiny_model, cloud.server, **more)
        twin, yardstick = scripts.split(tiny_model, cloud.server, **more)
        for each, trained in ((model, optimizer), (twin, yardstick)):
            torch.manual_seed(3)
            take(each, trained, range(2))
        with pytest.raises(error, match=text):
            optimizer.load_state_dict(changed)
        randomness = torch.get_rng_state()
        mine = take(model, optimizer, range(2, 4))
        torch.set_rng_state(randomness)
        assert mine == take(twin, yardstick, range(2, 4))
        optimizer.close()
        yardstick.close()

    refused(ConfigError, "of another model, split or optimizer: .* group", split_layer=3)
    refused(MismatchError, "has another split: .*'rank': 8.* there, .*'rank': 4.* asked", rank=4)
    refused(MismatchError, "another seed: 0 there, 9 asked", seed=9)
    unsplit = {name: each for name, each in state[1].items() if not name.startswith("sft_")}
    refused(ConfigError, "an optimizer that was not split wrote it", unsplit)
    strange = {**state[1], "sft_session": "0" * 16}
    refused(SessionLostError, "this cloud has no session 0000000000000000", strange)


def test_an_optimizer_of_another_kind_is_refused(cloud: RestartedCloud, tiny_model: Path) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(1))
    state = checkpoint(model, optimizer)
    optimizer.close()
    model = scripts.load(tiny_model)
    other = SFTOptimizer(
        torch.optim.SGD(model.parameters(), lr=0.1),
        model=model,
        role="edge",
        server=cloud.server,
        split_layer=2,
        cut="none",
    )
    with pytest.raises(MismatchError, match="another own_optimizer: .*AdamW.* there, .*SGD"):
        other.load_state_dict(state[1])
    assert not other.state and other.param_groups[0]["lr"] == 0.1
    other.close()


def test_halves_of_two_steps_do_not_meet(cloud: RestartedCloud, tiny_model: Path) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(1))
    state = checkpoint(model, optimizer)
    take(model, optimizer, range(1, 3))
    model.load_state_dict(state[0])
    with pytest.raises(ConfigError, match="model is of step 1, the cloud's half of step 3; load"):
        take(model, optimizer, range(1))
    optimizer.load_state_dict(state[1])
    take(model, optimizer, range(1, 2))
    optimizer.close()


def test_a_cloud_that_keeps_nothing_says_so(tiny_model: Path, tmp_path: Path) -> None:
    with running_cloud(tmp_path) as cloud:
        model, optimizer = scripts.split(tiny_model, cloud.server)
        optimizer.load_state_dict(optimizer.state_dict())
        take(model, optimizer, range(1))
        with pytest.warns(UserWarning, match="--no-save: it keeps nothing of its half"):
            state = checkpoint(model, optimizer)
        go_to(state, model, optimizer)  # where both are anyway
        take(model, optimizer, range(1, 2))
        with pytest.raises(
            ConfigError, match="step 1, of which the cloud kept nothing: .*--no-save"
        ):
            optimizer.load_state_dict(state[1])
        optimizer.close()


def test_a_full_disk_costs_the_state_alone(cloud: RestartedCloud, tiny_model: Path) -> None:
    model, optimizer = scripts.split(tiny_model, cloud.server)
    take(model, optimizer, range(1))
    session = optimizer._half._session.session_id  # type: ignore[attr-defined]
    (cloud.sessions / session).write_text("where a folder should be")
    with pytest.raises(SnapshotError, match="the cloud could not write its half of step 1: "):
        optimizer.state_dict()
    (cloud.sessions / session).unlink()
    take(model, optimizer, range(1, 2))
    assert optimizer.state_dict()["sft_steps"] == 2
    optimizer.close()


def test_the_same_script_as_the_cloud_goes_on_from_a_state(
    programs: Forge, cloud: RestartedCloud, tiny_model: Path, tmp_path: Path
) -> None:
    """Both are started again, the cloud after it was killed."""
    for place in ("whole", "broken"):
        (tmp_path / place).mkdir()
    whole, optimizer = scripts.split(tiny_model, cloud.server)
    scripts.plain(whole, optimizer, tmp_path / "whole")
    optimizer.close()
    server = free_place()

    def started_cloud() -> Program:
        started = programs.script(tmp_path / "broken", FILE, "plain", tiny_model, server, "cloud")
        started.wait_for("listening on")
        return started

    own = started_cloud()
    try:
        model, optimizer = scripts.split(tiny_model, server, retry=Retry(for_seconds=0))
        with pytest.raises(scripts.Stopped):
            scripts.plain(model, optimizer, tmp_path / "broken", stop=5)
        own.kill()
        with pytest.raises(SftError):
            optimizer.close()
        own = started_cloud()
        model, optimizer = scripts.split(tiny_model, server)
        scripts.plain(model, optimizer, tmp_path / "broken")
        optimizer.close()
        assert "sft-cloud stopped" in own.said()
    finally:
        own.kill()
    assert same(model.state_dict(), whole.state_dict())


@pytest.mark.parametrize("labels", ["cloud", "edge"])
def test_what_was_told_once_outlives_a_cloud_that_is_stopped(
    cloud: RestartedCloud, tiny_model: Path, labels: str
) -> None:
    """Settings that have changed, and gradients that are forgotten when the cloud is back."""
    ends = []
    (data, target), *_ = batches(1)
    for stopped in (False, True):
        model, optimizer = scripts.split(tiny_model, cloud.server, retry=SOON, labels=labels)
        torch.manual_seed(3)
        take(model, optimizer, range(1))
        optimizer.param_groups[0]["lr"] = 1e-4
        take(model, optimizer, range(1, 2))
        take(model, optimizer, range(2, 3), step=False)
        loss = model(**data, labels=target).loss
        if stopped:
            cloud.program.terminate()
            cloud.program.wait()
            cloud.start()
        optimizer.zero_grad()
        loss.backward()
        ends.append(take(model, optimizer, range(3, 6)))
        optimizer.close()
    assert ends[0] == ends[1]
