"""The accuracy benchmark without its trainings: grid, results file, arithmetic, drawing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks import accuracy, accuracy_runs, draw_accuracy
from benchmarks import programs as started
from benchmarks.accuracy_figures import FIGURES, _labels, _panel
from benchmarks.accuracy_results import Line, ResultsFile, latest, read_results
from benchmarks.accuracy_runs import Place, execute
from benchmarks.accuracy_summary import Row, rows_from, summary
from benchmarks.accuracy_table import table
from benchmarks.grid import KEY_FIELDS, Cut, Limit, Run, cheap_first, key_of, limits_of, plan
from benchmarks.grid_healed import healed_models
from benchmarks.grid_options import cut_from
from benchmarks.programs import LocalCloud, machine
from sft_common.config import ModelShape
from sft_common.errors import ConfigError, DataError, ModelError, UnreachableError

SHAPE = ModelShape(blocks=6, hidden=384, feed_forward=1536, positions=512, heads=12)
MACHINE = {"cores": 2, "cpu": "a processor", "torch_threads": 2}
METRICS = {"sst2": "accuracy", "cola": "matthews"}


def made_up(task: str, cut: str, seed: int, value: float, **fields: Any) -> Line:
    """Return a line as a run of the given cut ("sft:5:8") would leave it."""
    split = cut_from(cut)
    run = Run(
        task=task,
        model="tiny",
        cut=split.name,
        split_layer=split.layer or 5,
        rank=split.rank,
        seed=seed,
        train_examples=256,
        eval_examples=None,
        epochs=1,
    )
    line = dict(zip(KEY_FIELDS, run.key(), strict=True)) | fields
    if "error" in fields:
        return line
    width = run.wire_width(SHAPE)
    return line | {
        "wire_numbers_per_token": width,
        "metric": {"name": METRICS[task], "value": value},
        "bytes": {
            "up": 6 * width,
            "down": 4 * width,
            "split_learning_up": 3840,
            "split_learning_down": 1920,
        },
        "versions": {"sft": "0.1.0", "torch": "2.13.0"},
        "date": "2026-11-21T10:00:00+00:00",
        "machine": MACHINE,
    }


RESULTS = [
    made_up("sst2", "uncut", 0, 0.92),
    made_up("sst2", "uncut", 1, 0.94),
    made_up("sst2", "sft:5:8", 0, 0.90),
    made_up("sst2", "sft:5:8", 1, 0.91),
    made_up("sst2", "sft:5:8", 2, 0.95),
    made_up("sst2", "sft:5:16", 0, 0.91),
    made_up("sst2", "stream:5:8", 0, 0.93),
    made_up("sst2", "stream:2:8", 0, 0.89),
    made_up("sst2", "svd-residual:5:8", 0, 0.925),
    made_up("cola", "uncut", 0, 0.40),
    made_up("cola", "sft:5:8", 0, 0.35),
    made_up("cola", "stream:5:8", 0, 0.0, error="sft-edge: broken"),
]


def row(rows: list[Row], task: str, cut: str, rank: int | None = None, layer: int = 5) -> Row:
    found = [
        r
        for r in rows
        if (r.setting.task, *r.variant[:3])
        == (task, "none" if cut == "uncut" else cut, layer, rank)
    ]
    assert len(found) == 1
    return found[0]


def write_lines(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class TestGrid:
    def test_the_order_is_seeds_then_tasks_then_cuts(self) -> None:
        runs = plan(
            limits={"rte": Limit(None, 4), "sst2": Limit(100, 1)},
            cuts=[Cut(), Cut(name="sft", layer=2, rank=8), Cut()],
            seeds=[0, 1, 0],
            shape=SHAPE,
            model="tiny",
            eval_examples=7,
            extra="",
        )
        assert [(r.seed, r.task, r.cut, r.split_layer, r.rank) for r in runs] == [
            (seed, task, *cut)
            for seed in (0, 1)
            for task in ("rte", "sst2")
            for cut in (("none", 5, None), ("sft", 2, 8))
        ]
        assert {(r.edge, r.healed, r.encoding, r.eval_examples) for r in runs} == {
            ("trained", "", "float32", 7)
        }

    def test_a_run_names_its_options_and_leaves_out_what_is_not_limited(self) -> None:
        run = Run(
            task="rte",
            model="tiny",
            cut="none",
            split_layer=5,
            rank=None,
            seed=1,
            train_examples=None,
            eval_examples=9,
            epochs=4,
            extra="--batch-size 16",
        )
        assert " ".join(run.arguments()) == (
            "--task rte --cut none --split-layer 5 --encoding float32 --seed 1 --epochs 4 "
            "--eval-examples 9 --batch-size 16"
        )

    def test_an_edge_can_be_frozen(self) -> None:
        assert cut_from("sft:2:8:frozen") == Cut(name="sft", layer=2, rank=8, edge="frozen")
        assert cut_from("sft:2:8").edge == "trained"

    def test_healed_models_are_further_cuts(self, tmp_path: Path) -> None:
        split = {"cut": "stream", "split_layer": 2, "rank": 16, "decoder_layers": 3}
        recipe = {"local_steps": 7, "steps": 9, "batch_size": 4, "texts": 50}
        recipe |= {"learning_rate": 1e-3, "relative_error": 0.25}
        healing = {"model": "tiny", **recipe}
        (tmp_path / "split.json").write_text(json.dumps({**split, "healing": healing}))
        (tmp_path / "model.safetensors").write_bytes(b"one")
        how = (
            "7 + 9 steps of 4 at 0.001 on 50 texts, 3 decoder layers; error 0.25, weights 7692c3ad"
        )
        cut = Cut(name="stream", layer=2, rank=16, healed=how)
        frozen = dataclasses.replace(cut, edge="frozen")
        given = [str(tmp_path), f"{tmp_path}:frozen"]
        assert healed_models(given, "tiny") == {cut: tmp_path, frozen: tmp_path}
        with pytest.raises(ConfigError, match="was healed from tiny, the grid's model is big"):
            healed_models(given, "big")
        (tmp_path / "model.safetensors").write_bytes(b"two")  # another seed, all else the same
        assert not healed_models(given, "tiny").keys() & {cut, frozen}
        del healing["local_steps"]
        for facts, error, message in (
            (split, ConfigError, "is no model that sft-cloud prepare made"),
            ({**split, "healing": healing}, ConfigError, "not say how .*: KeyError.'local_steps'"),
            ({**split, "healing": "yes"}, ModelError, "split.json: healing is 'yes'"),
        ):
            (tmp_path / "split.json").write_text(json.dumps(facts))
            with pytest.raises(error, match=message):
                healed_models(given, "tiny")
        with pytest.raises(ConfigError, match="is no model that sft-cloud prepare made"):
            healed_models([str(tmp_path / "no")], "tiny")

    @pytest.mark.parametrize(
        ("cut", "message"), [("sft:7:8", "outside 1..6"), ("sft:5:0", "rank 0 is outside 1..384")]
    )
    def test_a_cut_that_does_not_fit_the_model_is_refused(self, cut: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            cut_from(cut).at(SHAPE)

    def test_limits_replace_the_default(self) -> None:
        given = [("sst2", Limit(10, 2))]
        assert limits_of(["sst2", "rte"], given, None) == {
            "sst2": Limit(10, 2),
            "rte": Limit(None, 4),
        }
        assert limits_of(["rte"], [], Limit(256, 1)) == {"rte": Limit(256, 1)}

    def test_limits_outside_the_grid_or_given_twice_are_refused(self) -> None:
        limit = Limit(10, 2)
        with pytest.raises(ConfigError, match="the tasks are rte"):
            limits_of(["rte"], [("sst2", limit)], None)
        with pytest.raises(ConfigError, match="twice"):
            limits_of(["rte"], [("rte", limit), ("rte", limit)], None)

    def test_cheap_tasks_come_first(self, tmp_path: Path) -> None:
        texts = {"sst2": {"sentence": "long " * 9}, "cola": {"sentence": "short"}}
        for task, values in texts.items():
            (tmp_path / task).mkdir()
            write_lines(tmp_path / task / "train.jsonl", [values | {"label": 0}] * 3)
        once = {"sst2": Limit(None, 1), "cola": Limit(None, 1)}
        assert [*cheap_first(once, tmp_path)] == ["cola", "sst2"]
        often = {"sst2": Limit(1, 1), "cola": Limit(3, 9)}
        assert [*cheap_first(often, tmp_path)] == ["sst2", "cola"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--tasks", "sst3"], "unknown task 'sst3'"),
            (["--cuts", "sft:5"], "'sft:5' is no cut; write uncut or CUT:LAYER:RANK"),
            (["--cuts", "sft:x:8"], "is no cut"),
            (["--cuts", "none:5:8"], "unknown cut in 'none:5:8'; choose uncut or one of: sft,"),
            (["--limit", "sst2=5"], "'sst2=5' is no limit; write TASK=EXAMPLES:EPOCHS"),
            (["--limit", "sst2=0:1"], "is no limit"),
            (["--seeds", "-1"], "-1 is outside 0.."),
            (["--extra=--epochs=3"], "--epochs=3 is set by this benchmark"),
            (["--extra=--name 'x"], "No closing quotation"),
        ],
    )
    def test_wrong_usage_is_one_line(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as end:
            accuracy.main([*arguments, "--out", "nowhere.jsonl"])
        said = capsys.readouterr().err
        assert end.value.code == 2
        assert len(said.splitlines()) == 1
        assert message in said

    def test_quick_fills_in_only_what_is_not_given(self, tmp_path: Path) -> None:
        (tmp_path / "cola").mkdir()
        write_lines(tmp_path / "cola" / "train.jsonl", [{"sentence": "a", "label": 0}])
        given = ["--quick", "--tasks", "cola", "--data", str(tmp_path), "--out", "x"]
        runs = accuracy.runs_of(accuracy.parser().parse_args(given), "tiny", SHAPE, [])
        assert [run.label() for run in runs] == [
            "cola uncut seed 0",
            "cola sft:5:8 seed 0",
            "cola stream:2:8 seed 0",
        ]
        assert {(r.train_examples, r.epochs, r.eval_examples) for r in runs} == {(256, 1, 100)}


class TestResultsFile:
    def test_what_is_appended_is_done_and_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "results.jsonl"
        with ResultsFile(path) as results:
            results.append(RESULTS[0])
        with ResultsFile(path) as again:
            assert again.lines == [RESULTS[0]]
            assert again.done() == {key_of(RESULTS[0])}

    def test_there_is_one_writer_at_a_time(self, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        with ResultsFile(path) as results:
            with pytest.raises(DataError, match=r"another benchmark is writing .*results\.jsonl"):
                ResultsFile(path)
            results.append(RESULTS[0])
        with ResultsFile(path) as again:
            assert again.lines == [RESULTS[0]]

    def test_a_failed_run_is_not_done_until_it_succeeds(self, tmp_path: Path) -> None:
        failed, good = RESULTS[-1], made_up("cola", "stream:5:8", 0, 0.3)
        with ResultsFile(tmp_path / "results.jsonl") as results:
            results.append(failed)
            assert results.done() == set()
            assert latest(results.lines) == ([], [failed])
            results.append(good)
            assert results.done() == {key_of(good)}
            assert latest(results.lines) == ([good], [])

    def test_every_field_of_the_key_tells_runs_apart(self) -> None:
        changes = {"extra": "--batch-size 8", "train_examples": None, "edge": "frozen", "epochs": 2}
        lines = [RESULTS[0], *(RESULTS[0] | {name: new} for name, new in changes.items())]
        assert len(latest(lines)[0]) == 1 + len(changes)

    @pytest.mark.parametrize("torn", ['{"task": "ss', '{"task": "ü'])
    def test_a_torn_last_line_is_dropped(self, torn: str, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "results.jsonl", RESULTS[:2])
        whole = path.read_bytes()
        path.write_bytes(whole + torn.encode()[:12])
        assert read_results(path) == RESULTS[:2]
        with ResultsFile(path) as results:
            results.append(RESULTS[2])
        assert path.read_bytes().startswith(whole)
        assert read_results(path) == RESULTS[:3]

    def test_a_whole_last_line_without_line_feed_is_kept(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "results.jsonl", RESULTS[:2])
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
        with ResultsFile(path) as results:
            results.append(RESULTS[2])
        assert read_results(path) == RESULTS[:3]

    @pytest.mark.parametrize("wrong", ["no JSON", '{"task": "sst2"}', "[1]", "3"])
    def test_a_wrong_line_elsewhere_is_named(self, wrong: str, tmp_path: Path) -> None:
        path = tmp_path / "results.jsonl"
        path.write_text(f"{json.dumps(RESULTS[0])}\n{wrong}\n")
        with pytest.raises(DataError, match=r"results\.jsonl:2 is not a line of results"):
            ResultsFile(path)


class TestSummary:
    def test_mean_spread_and_paired_gap(self) -> None:
        found = row(rows_from(RESULTS), "sst2", "sft", 8)
        # 90, 91, 95: mean 92, deviations -2, -1, 3, variance 14 / 2
        assert found.mean == pytest.approx(92.0)
        assert found.std == pytest.approx(7**0.5)
        assert found.seeds == 3
        # seeds 0 and 1 have an uncut run: (90 - 92 + 91 - 94) / 2
        assert found.gap == pytest.approx(-2.5)
        # gaps -2 and -3: variance 1 / 2, over two seeds
        assert found.gap_error == pytest.approx(0.5)
        assert found.gap_seeds == 2

    def test_one_seed_has_no_spread(self) -> None:
        found = row(rows_from(RESULTS), "cola", "sft", 8)
        assert (found.std, found.seeds) == (None, 1)
        assert (found.gap, found.gap_error) == (pytest.approx(-5.0), None)

    def test_without_uncut_there_is_no_gap(self) -> None:
        found = row(rows_from(RESULTS[2:5]), "sst2", "sft", 8)
        assert (found.gap, found.gap_seeds) == (None, 0)

    def test_other_settings_are_not_compared(self) -> None:
        longer = [line | {"epochs": 3} for line in RESULTS[:2]]
        found = row(rows_from([*longer, RESULTS[2]]), "sst2", "sft", 8)
        assert found.gap is None

    def test_traffic(self) -> None:
        rows = rows_from(RESULTS)
        widths = [
            row(rows, "sst2", cut, rank).wire_numbers_per_token
            for cut, rank in (("uncut", None), ("sft", 8), ("svd-residual", 8))
        ]
        assert widths == [384, 8, 392]
        # 10 bytes a number of width 8 against 3840 + 1920
        assert row(rows, "sst2", "sft", 8).bytes_ratio == pytest.approx(80 / 5760)

    def test_a_repeated_run_counts_once_by_its_last_line(self) -> None:
        found = row(rows_from([RESULTS[2], made_up("sst2", "sft:5:8", 0, 0.5)]), "sst2", "sft", 8)
        assert (found.mean, found.seeds) == (50.0, 1)

    def test_the_summary_is_json_with_failures(self) -> None:
        told = json.loads(json.dumps(summary(RESULTS)))
        assert told["runs"] == 11
        assert [line["error"] for line in told["failed"]] == ["sft-edge: broken"]
        entry = next(r for r in told["rows"] if (r["task"], r["cut"]) == ("cola", "sft"))
        assert entry["mean_percent"] == 35.0
        assert entry["gap_to_uncut_points"] == -5.0
        assert entry["gap_standard_error_points"] is None
        assert entry["wire_numbers_per_token"] == 8
        assert entry["bytes_ratio"] == pytest.approx(0.013889)


class TestTable:
    def test_numbers_and_bold(self) -> None:
        assert table(RESULTS).splitlines()[:9] == [
            "| cut | layer | rank | numbers per token | SST-2 accuracy | CoLA Matthews |",
            "| --- | --- | --- | --- | --- | --- |",
            "| uncut |  |  | 384 | 93.00 ± 1.41 (2) | 40.00 (1) |",
            "| sft | 5 | 8 | 8 | 92.00 ± 2.65 (3), -2.50 ± 0.50 | 35.00 (1), -5.00 |",
            "| sft | 5 | 16 | 16 | 91.00 (1), -1.00 |  |",
            "| svd-residual | 5 | 8 | 392 | 92.50 (1), +0.50 |  |",
            "| stream | 2 | 8 | 8 | 89.00 (1), -3.00 |  |",
            "| stream | 5 | 8 | 8 | **93.00** (1), +1.00 |  |",
            "",
        ]

    def test_it_says_what_was_trained_where_and_what_failed(self) -> None:
        told = table(RESULTS)
        assert "- SST-2: tiny, the first 256 training examples, 1 epoch, all evaluation" in told
        assert "- Measured 2026-11-21 on 2 cores (a processor), torch threads: 2, sft 0.1" in told
        assert "Runs that failed and are missing above: 1." in told

    def test_settings_of_one_task_have_columns_of_their_own(self) -> None:
        told = table([RESULTS[0], RESULTS[1] | {"train_examples": None, "epochs": 3}])
        assert "| SST-2 #1 accuracy | SST-2 #2 accuracy |" in told
        assert "- SST-2 #2: tiny, all training examples, 3 epochs" in told

    def test_variants_to_come_have_rows_of_their_own(self) -> None:
        frozen = made_up(
            "sst2", "sft:5:8", 0, 0.8, edge="frozen", healed="9 steps", encoding="int8"
        )
        told = table([*RESULTS, frozen])
        assert (
            "| sft, frozen edge, healed, int8 (9 steps) | 5 | 8 | 8 | 80.00 (1), -12.00 |  |"
            in told
        )


class TestDrawing:
    def test_table_and_figures(self, tmp_path: Path) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS)
        draw_accuracy.draw_all(results, tmp_path / "drawn")
        files = {path.name: path for path in (tmp_path / "drawn").iterdir()}
        assert files.keys() == {
            "table.md",
            *(f"figure{n}.{ending}" for n in (2, 3) for ending in ("png", "svg")),
        }
        assert files["table.md"].read_text() == table(RESULTS)
        assert files["figure2.png"].read_bytes().startswith(b"\x89PNG")
        against_rank, against_layer = (files[f"figure{n}.svg"].read_text() for n in (2, 3))
        for label in ("SST-2", "accuracy (%)", "rank R (", "uncut", "svd-residual, block 5"):
            assert f">{label}" in against_rank
        for label in ("SST-2", "split layer (", "uncut", "stream, rank 8", "sft, rank 8"):
            assert f">{label}" in against_layer
        assert "CoLA" not in against_rank + against_layer  # one point is nothing to compare

    def test_two_recipes_of_healing_are_two_lines(self, tmp_path: Path) -> None:
        """Ranks of one recipe are one line, whatever came of each."""
        lines = [
            made_up("sst2", f"stream:2:{rank}", 0, value, healed=f"{recipe} steps; error {value}")
            for recipe, rank, value in [(1, 8, 0.8), (1, 16, 0.9), (2, 8, 0.85), (2, 16, 0.95)]
        ]
        rows = rows_from(lines)
        assert len({row.variant for row in rows}) == 4
        figure = Figure()
        labels = _labels(FIGURES[0], rows)
        _panel(figure.add_subplot(), FIGURES[0], rows, [], {2: "-"}, labels)
        drawn = {c.get_label(): list(c[0].get_ydata()) for c in figure.axes[0].containers}
        name = "stream, healed, block 2"
        assert drawn == {f"{name} #1": [80.0, 90.0], f"{name} #2": [85.0, 95.0]}

    def test_the_same_results_give_the_same_svg(self, tmp_path: Path) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS)
        for name in ("one", "two"):
            draw_accuracy.draw_all(results, tmp_path / name)
        for figure in ("figure2.svg", "figure3.svg"):
            assert (tmp_path / "one" / figure).read_bytes() == (
                tmp_path / "two" / figure
            ).read_bytes()

    def test_a_figure_with_nothing_to_compare_is_left_out(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS[:3])
        draw_accuracy.draw_all(results, tmp_path / "drawn")
        assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["table.md"]
        assert "figure2: not drawn" in capsys.readouterr().out

    def test_nothing_good_is_an_error(self, tmp_path: Path) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS[-1:])
        with pytest.raises(DataError, match="holds no run that came to a good end"):
            draw_accuracy.draw_all(results, tmp_path / "drawn")


CLOUD = """
import pathlib, sys, time
port_file = pathlib.Path(sys.argv[sys.argv.index("--port-file") + 1])
port_file.with_suffix(".partial").write_text("4711\\n")
port_file.with_suffix(".partial").rename(port_file)
time.sleep(60)
"""

RUN = Run(
    task="sst2",
    model="tiny",
    cut="sft",
    split_layer=5,
    rank=8,
    seed=0,
    train_examples=256,
    eval_examples=None,
    epochs=1,
)


class Programs:
    """Stands in for the two programs: scripts that the test chooses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scripts = {"sft_cloud": CLOUD, "sft_edge": ""}
        for module in (accuracy_runs, started):
            monkeypatch.setattr(module, "command", self.command)

    def command(self, module: str, *arguments: object) -> list[str]:
        return [sys.executable, "-S", "-c", self.scripts[module], *map(str, arguments)]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(monkeypatch)


def place_in(folder: Path) -> Place:
    return Place(
        model="m",
        healed={"9 steps": "h"},
        shape=SHAPE,
        data=folder,
        runs=folder / "runs",
        machine=MACHINE,
    )


class TestRuns:
    def test_a_good_run_keeps_what_metrics_json_says(
        self, programs: Programs, tmp_path: Path
    ) -> None:
        metrics = {name: {} for name in accuracy_runs.KEPT} | {"steps": 8, "seconds": {"total": 1}}
        programs.scripts["sft_edge"] = (
            "import os, sys\n"
            "os.makedirs(sys.argv[sys.argv.index('--runs-dir') + 1] + '/run')\n"
            f"print({json.dumps(metrics)!r})"
        )
        with LocalCloud(tmp_path) as cloud:
            line = execute(RUN, cloud, place_in(tmp_path))
        assert key_of(line) == RUN.key()
        assert (line["steps"], line["wire_numbers_per_token"]) == (8, 8)
        assert line["seconds"].keys() == {"total", "process"}
        assert line["machine"] == MACHINE
        assert not (tmp_path / "runs").exists()

    def test_a_healed_model_and_a_frozen_edge_reach_the_program(
        self, programs: Programs, tmp_path: Path
    ) -> None:
        programs.scripts["sft_edge"] = "import sys; sys.exit(' '.join(sys.argv[1:]))"
        healed = dataclasses.replace(RUN, edge="frozen", healed="9 steps")
        with LocalCloud(tmp_path) as cloud:
            plain, other = (execute(r, cloud, place_in(tmp_path))["error"] for r in (RUN, healed))
        assert " --model m " in plain and "--edge" not in plain
        assert " --model h " in other and " --edge frozen " in other

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            ("import sys; sys.exit('noise\\nsft-edge: no such model\\n')", "no such model"),
            ("import os; os._exit(3)", "sft-edge ended with 3"),
            ("print('hello')", "sft-edge --json printed no JSON"),
        ],
    )
    def test_a_failed_run_becomes_a_line(
        self, programs: Programs, tmp_path: Path, script: str, message: str
    ) -> None:
        programs.scripts["sft_edge"] = script
        with LocalCloud(tmp_path) as cloud:
            line = execute(RUN, cloud, place_in(tmp_path))
        assert key_of(line) == RUN.key()
        assert message in line["error"]
        assert "\n" not in line["error"]

    def test_a_cloud_that_died_is_started_anew_and_the_last_one_ends(
        self, programs: Programs, tmp_path: Path
    ) -> None:
        cloud = LocalCloud(tmp_path)
        with cloud:
            assert cloud.address() == "127.0.0.1:4711"
            first = _process(cloud)
            assert cloud.address() == "127.0.0.1:4711"
            assert _process(cloud) is first
            first.kill()
            first.wait()
            assert cloud.address() == "127.0.0.1:4711"
            second = _process(cloud)
        assert second is not first
        assert second.poll() is not None

    def test_a_cloud_that_does_not_start_says_why(self, programs: Programs, tmp_path: Path) -> None:
        programs.scripts["sft_cloud"] = "import sys; sys.exit('sft-cloud: no room')"
        with LocalCloud(tmp_path) as cloud, pytest.raises(UnreachableError, match="no room"):
            cloud.address()

    def test_an_error_ends_the_cloud_too(self, programs: Programs, tmp_path: Path) -> None:
        cloud = LocalCloud(tmp_path)
        with pytest.raises(KeyboardInterrupt), cloud:
            cloud.address()
            raise KeyboardInterrupt
        assert _process(cloud).poll() is not None

    def test_the_machine_has_no_name(self) -> None:
        told = machine()
        assert told.keys() == {"cores", "cpu", "torch_threads"}
        assert os.uname().nodename not in json.dumps(told).split('"')


def _process(cloud: LocalCloud) -> subprocess.Popen[bytes]:
    assert cloud._process is not None
    return cloud._process
