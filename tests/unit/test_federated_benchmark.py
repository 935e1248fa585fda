"""The benchmark of federations without its processes: grid, arithmetic, results, drawing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import draw_federated
from benchmarks.accuracy_results import Line, ResultsFile, read_results
from benchmarks.federated_accuracy import rounded
from benchmarks.federated_clients import FLOPS_FILE, Counted, counted
from benchmarks.federated_digits import write_digits
from benchmarks.federated_file import federation_file
from benchmarks.federated_formula import Sizes, published_bytes, sent_bytes
from benchmarks.federated_grid import (
    KEY_FIELDS,
    METHODS,
    SPLITS,
    Run,
    key_of,
    planned,
)
from benchmarks.federated_run import looked_at
from benchmarks.federated_table import Row, rows_from, summary, table
from benchmarks.federated_tally import tally
from sft_cloud.federation.file import read_federation
from sft_common.errors import DataError
from sft_common.federation.said import Attempt
from sft_common.model.sources import Source
from tests.models import save_tiny_model

MACHINE = {"cores": 2, "cpu": "a processor", "torch_threads": 2}


def made_up(method: str, accuracy: float, moved: float, flops: float, **fields: Any) -> Line:
    """Return a line as a run of a method leaves it; bytes and operations of a client in a round."""
    (run,) = planned(["sst2"], ["iid"], [method])
    line = dict(zip(KEY_FIELDS, run.key(), strict=True)) | fields
    if "error" in fields:
        return line
    return line | {
        "accuracy": accuracy,
        "accuracies": [
            {"round": 1, "accuracy": accuracy / 2},
            {"round": 2, "accuracy": accuracy},
        ],
        "commonest_class": 0.5,
        "client_round": {"up": moved / 4, "down": 3 * moved / 4, "flops": flops},
        "training_bytes": {"up": 5 * moved, "down": 15 * moved},
        "calibration_bytes": {"up": 10**6, "down": 0},
        "round_bytes": [2 * 10**6, 3 * 10**6],
        "formula": {"published": 2 * moved, "sent": moved / 2},
        "memory": {"largest": 500 * 10**6, "libraries": 300 * 10**6},
        "machine": MACHINE,
    }


RESULTS = [
    made_up("fedavg", 0.86, 200e6, 10e9),
    made_up("sfprompt", 0.80, 20e6, 5e9),
    made_up("sfprompt + stream", 0.79, 2e6, 5e9),
    made_up("splitfed", 0.0, 0, 0, error="a client failed"),
]


def row(lines: list[Line], method: str) -> Row:
    (found,) = (r for r in rows_from(lines) if r.method == method)
    return found


def write_lines(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class TestGrid:
    def test_a_split_of_a_data_set_is_complete_before_the_next(self) -> None:
        runs = planned(["sst2", "digits"], SPLITS, [*METHODS], seed=3, rounds=None)
        assert len({run.key() for run in runs}) == len(runs) == 36
        assert [run.method for run in runs[:6]] == [*METHODS]
        assert [(run.data, run.split) for run in runs[::6]] == [
            (data, split) for data in ("sst2", "digits") for split in SPLITS
        ]
        assert {run.seed for run in runs} == {3}
        assert {run.rounds for run in runs[:18]} == {8}
        assert [run.alpha for run in runs[::6]][:3] == [None, 0.1, 1.0]

    def test_methods_of_a_data_set_differ_in_what_they_must(self) -> None:
        """The same rounds, seed and examples: the same clients are drawn."""
        runs = planned(["sst2"], ["iid"], [*METHODS])
        shared = {(run.rounds, run.seed, run.examples, run.eval_examples) for run in runs}
        assert len(shared) == 1

    @pytest.mark.parametrize("method", METHODS)
    def test_the_cloud_reads_every_file(self, method: str, tmp_path: Path) -> None:
        model = tmp_path / "model"
        save_tiny_model(model, num_hidden_layers=6, hidden_size=64, num_attention_heads=4)
        (run,) = planned(["sst2"], ["iid"], [method])
        file = tmp_path / "federation.toml"
        file.write_text(federation_file(run, str(model)))
        plan = read_federation(file, lambda name, beside: Source(folder=model, name="m")).plan
        assert (plan.method, plan.rounds) == (METHODS[method], run.rounds)
        assert (plan.clients.per_round, plan.clients.minimum) == (5, 10)
        assert plan.training.evaluate_every == 0
        if plan.tail is not None:
            assert plan.tail.split.split_layer == (6 if "published" in method else 5)
            assert plan.training.keep == 0.5 and plan.first_row == ("published" in method)
            assert plan.training.epochs == (10 if "published" in method else 1)
            assert (plan.cut is not None and plan.cut.encoding) == (
                "int8" if "stream" in method else "float32"
            )


class TestFormulas:
    SIZES = Sizes(
        tokens=20,
        width=10,
        passes=0.5,
        trained=1000,
        given=100,
        whole=9999,
        up=80,
        down=80,
        first_row=False,
    )

    def test_as_published(self) -> None:
        # 4 * 0.5 * 8 * 20 * 10 * 4 + 2 * 1000
        assert published_bytes(self.SIZES, 8) == 14_800

    def test_all_rows_in_float32_cost_what_is_published_and_the_code(self) -> None:
        assert sent_bytes(self.SIZES, 8) == published_bytes(self.SIZES, 8) + 100

    def test_where_one_row_comes_down_it_costs_less(self) -> None:
        from dataclasses import replace

        # 0.5 * 8 * (20 * 80 + 80) + 2 * 1000 + 100
        assert sent_bytes(replace(self.SIZES, first_row=True), 8) == 8_820

    def test_the_whole_model_goes_down_and_up(self) -> None:
        from dataclasses import replace

        whole = replace(self.SIZES, trained=9999, given=0, up=0, down=0, passes=1.0)
        assert published_bytes(whole, 8) == sent_bytes(whole, 8) == 2 * 9999

    def test_averages_are_looked_at_after_powers_of_two_and_the_last(self) -> None:
        assert [looked_at(n) for n in (1, 8, 10)] == [[1], [1, 2, 4, 8], [1, 2, 4, 8, 10]]


class TestCounting:
    def test_products_count_forward_and_backward_and_change_nothing(self) -> None:
        def work() -> list[torch.Tensor]:
            torch.manual_seed(0)
            layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
            layers(torch.randn(32, 8)).square().sum().backward()
            return [p.grad for p in layers.parameters() if p.grad is not None]

        flops, found = counted(work)
        first, second = 2 * 32 * 8 * 16, 2 * 32 * 16 * 4
        assert flops == 2 * first + 3 * second  # the input has no gradient
        assert all(torch.equal(a, b) for a, b in zip(found, work(), strict=True))

    def test_attention_counts_with_dropout_and_without_and_stays_as_it_is(self) -> None:
        def attended(dropout: float) -> int:
            def work() -> torch.Tensor | None:
                torch.manual_seed(0)
                q = torch.randn(2, 3, 5, 8, requires_grad=True)
                attention = nn.functional.scaled_dot_product_attention
                attention(q, q, q, dropout_p=dropout).sum().backward()
                return q.grad

            flops, found = counted(work)
            uncounted = work()
            assert found is not None and uncounted is not None
            assert torch.equal(found, uncounted)
            return flops

        product = 2 * 2 * 3 * 5 * 5 * 8
        assert attended(0.5) == 6 * product
        assert attended(0.0) == 7 * product  # scores are computed anew

    def test_what_a_client_does_is_told_apart(self) -> None:
        class Method:
            shapes = {"w": torch.Size([2])}

            def train(self, at: Attempt, check: Any) -> str:
                return str(torch.ones(2, 3) @ torch.ones(3, 4))

            def evaluate(self, check: Any) -> str:
                return "nothing"

        tally: list[dict[str, Any]] = []
        method: Any = Counted(Method(), tally)  # type: ignore[arg-type]
        assert method.shapes == Method.shapes
        method.train(Attempt(7, 8, 9), None)
        method.evaluate(None)
        assert tally == [
            {"what": "train", "round": 7, "flops": 48},
            {"what": "evaluate", "round": 0, "flops": 0},
        ]


def leave_client(folder: Path, rounds: list[int], examples: int, flops: int) -> Path:
    """Write what a client of some rounds leaves behind a calibration."""
    folder.mkdir()
    metrics = {"bytes": {"up": 10, "down": 50}, "examples": examples, "peak_rss_bytes": flops}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    done = [{"what": "calibrate-cut", "round": 0, "flops": 11}]
    done += [{"what": "train", "round": n, "flops": flops} for n in rounds]
    counts = {"libraries_rss_bytes": 5, "done": [*done, {"what": "evaluate", "flops": 99}]}
    (folder / FLOPS_FILE).write_text(json.dumps(counts))
    return folder


def record(duty: str, number: int, received: int, **refused: str) -> dict[str, Any]:
    sent = 2 * received
    return {
        "duty": duty,
        "round": number,
        "received": received,
        "sent": sent,
        "refused": refused,
    }


def test_what_a_federation_cost_is_added_up(tmp_path: Path) -> None:
    clients = [
        leave_client(tmp_path / "a", [1, 2], examples=4, flops=1000),
        leave_client(tmp_path / "b", [2], examples=10, flops=4000),
    ]
    records = [
        record("calibrate-cut", 0, 7),
        record("train", 1, 100),
        record("train", 2, 200, b="late"),
        record("train", 2, 300),
        record("evaluate", 3, 5),
    ]
    found = tally(clients, records)
    assert found["bytes"] == {"up": 20, "down": 100}
    assert found["training_bytes"] == {"up": 600, "down": 1200}
    assert found["calibration_bytes"] == {"up": 7, "down": 14}
    assert found["ending_bytes"] == {"up": 5, "down": 10}
    assert found["round_bytes"] == [300, 1500]
    assert found["not_taken"] == 1
    assert found["client_round"] == {
        "count": 3,
        "up": 200,
        "down": 400,
        "examples": 6,
        "flops": 2000,
        "largest_flops": 4000,
    }
    assert found["calibration_flops"] == 22
    assert found["memory"] == {"largest": 4000, "mean": 2500, "libraries": 5}


def test_rows_are_rounded_as_they_would_travel() -> None:
    rows = torch.randn(2, 3, 8)
    assert torch.equal(rounded(rows, "float32"), rows)
    apart = (rounded(rows, "int8") - rows).abs().max()
    assert 0 < apart < 0.02 * rows.abs().max()
    assert rounded(rows[:, 0], "int4").shape == (2, 8)


def test_the_clients_digits_are_no_public_ones(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits", clients=20)
    parts = {
        part: [json.loads(x) for x in (tmp_path / f"digits/{part}.jsonl").read_text().splitlines()]
        for part in ("train", "validation")
    }
    assert [len(parts[part]) for part in parts] == [20, 397]
    image = parts["train"][0]["image"]
    assert len(image) == 8 and max(max(line) for line in image) == 255  # paper is white no more


class TestResults:
    def test_they_are_read_back_by_their_own_key(self, tmp_path: Path) -> None:
        path = write_lines(tmp_path / "results.jsonl", RESULTS)
        with ResultsFile(path, key_of) as results:
            assert results.done() == {key_of(line) for line in RESULTS[:3]}
        assert read_results(path, key_of) == RESULTS
        with pytest.raises(
            DataError, match=r"results\.jsonl:1 is not a line of results: no 'task'"
        ):
            read_results(path)

    def test_every_field_of_a_run_tells_it_apart(self) -> None:
        (run,) = planned(["mrpc"], ["dirichlet 0.1"], ["fedavg"])
        line = json.loads(json.dumps(dict(zip(KEY_FIELDS, run.key(), strict=True))))
        assert Run(**line) == run and key_of(line) == run.key()


class TestTable:
    def test_rows_stand_beside_fedavg(self) -> None:
        found = row(RESULTS, "sfprompt")
        assert found.gap == pytest.approx(-6)
        assert found.each == pytest.approx(20)
        assert found.less == pytest.approx(90)
        assert found.compute == pytest.approx(50)
        assert (found.memory, found.published, found.formula) == (200, 40, 10)

    def test_without_fedavg_of_the_same_clients_nothing_is_compared(self) -> None:
        for lines in (RESULTS[1:], [RESULTS[0] | {"seed": 1}, *RESULTS[1:]]):
            found = row(lines, "sfprompt")
            assert (found.gap, found.less, found.compute) == (None, None, None)
            assert "sfprompt" in table(lines)

    def test_it_has_a_line_for_each_run_and_each_published_figure(self) -> None:
        told = table(RESULTS).splitlines()
        assert told[2].startswith(
            "| SST-2, iid | sfprompt | 80.0 | -6.0 | 100 | 300 | 20 | 10 | 40 |"
        )
        assert "| local compute of FedAvg's | 0.46 % | 50.0 % | 50.0 % |" in told
        assert any(
            line.startswith("| less communication than FedAvg | 53 %") and "90.0 % | 99.0 %" in line
            for line in told
        )
        assert "| accuracy to FedAvg, points |  | -6.0 | -7.0 |" in told
        assert told[-1] == "Runs that failed and are missing above: 1."

    def test_the_summary_is_json_with_failures(self) -> None:
        told = json.loads(json.dumps(summary(RESULTS)))
        assert [r["method"] for r in told["rows"]] == ["sfprompt", "sfprompt + stream", "fedavg"]
        assert [line["error"] for line in told["failed"]] == ["a client failed"]


class TestDrawing:
    def test_accuracy_stands_above_all_bytes_before_it(self) -> None:
        assert draw_federated.points(RESULTS[1]) == [(3, 40), (6, 80)]

    def test_table_and_picture(self, tmp_path: Path) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS)
        draw_federated.draw_all(results, tmp_path / "drawn")
        files = {path.name: path for path in (tmp_path / "drawn").iterdir()}
        picture = draw_federated.PICTURE
        assert files.keys() == {"table.md", f"{picture}.png", f"{picture}.svg"}
        assert files["table.md"].read_text() == table(RESULTS)
        drawn = files[f"{picture}.svg"].read_text()
        for label in ("SST-2, iid", "sfprompt + stream", "fedavg", "commonest class"):
            assert f">{label}" in drawn
        assert ">splitfed" not in drawn

    def test_nothing_good_is_an_error(self, tmp_path: Path) -> None:
        results = write_lines(tmp_path / "results.jsonl", RESULTS[-1:])
        with pytest.raises(DataError, match="holds no run that came to a good end"):
            draw_federated.draw_all(results, tmp_path / "drawn")
