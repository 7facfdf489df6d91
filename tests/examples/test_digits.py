"""The digits: gradients of the network, what a run leaves behind, and a page that quotes it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from paths import ROOT
from processes import environment, run_python

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

EXAMPLES, DOCS = ROOT / "examples", ROOT / "docs"
sys.path.append(str(EXAMPLES))  # not the tree, which would hide what is installed
from digits_experiments import claims, data, network, pictures, report, training  # noqa: E402
from digits_experiments.network import Network, cross_entropy, population_statistics  # noqa: E402
from digits_experiments.training import Architecture, Setting  # noqa: E402


@pytest.fixture(scope="module")
def digits():
    return data.load_digits()


def make_weights(rng, networks=2, sizes=(5, 4, 4, 3)):
    return [rng.normal(size=(networks, inputs, outputs)) for inputs, outputs in pairwise(sizes)]


# -- the network -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_are_central_differences(batch_norm, activation):
    rng = np.random.default_rng(5)
    net = Network(make_weights(rng), batch_norm=batch_norm, activation=activation)
    for layer in net.layers:
        for parameter in layer.parameters:
            parameter += 0.3 * rng.normal(size=parameter.shape)
    x, labels = rng.normal(size=(7, 2, 5)), rng.integers(3, size=(7, 2))
    _, dscores = cross_entropy(net.forward(x), labels)
    dx = net.backward(dscores)
    pairs = [(x, dx)]
    for layer in net.layers:
        pairs += zip(layer.parameters, layer.gradients, strict=True)
    # Without batch norm 3 biases, with it gamma and beta of 2 hidden layers and 1 bias.
    assert len(pairs) == 1 + 3 + (5 if batch_norm else 3)
    step = 1e-5
    for values, gradient in pairs:
        assert gradient.shape == values.shape
        differences = np.empty_like(values)
        for position in np.ndindex(values.shape):
            kept = values[position]
            around = []
            for moved in (kept + step, kept - step):
                values[position] = moved
                around.append(cross_entropy(net.forward(x), labels)[0].sum())
            values[position] = kept
            differences[position] = (around[0] - around[1]) / (2 * step)
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-9)
        assert np.abs(differences).max() > 1e-3


def test_a_layer_before_batch_norm_has_no_bias():
    rng = np.random.default_rng(0)
    for batch_norm, biases in ((True, [False, False, True]), (False, [True] * 3)):
        net = Network(make_weights(rng), batch_norm=batch_norm)
        dense = [each for each in net.layers if isinstance(each, network.Dense)]
        assert [each.bias is not None for each in dense] == biases
    assert [type(each).__name__ for each in Network(make_weights(rng), batch_norm=True).layers] == [
        *("Dense", "BatchNorm", "Sigmoid") * 2,
        "Dense",
    ]


def test_dropout_keeps_means_and_passes_gradients_where_it_kept():
    layer = network.Dropout(0.25, np.random.default_rng(0))
    x = np.ones((400, 2, 100))
    y = layer.forward(x)
    assert set(np.unique(y)) == {0.0, np.float64(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_array_equal(layer.backward(x), y)
    layer.training = False
    assert layer.forward(x) is x
    assert layer.backward(y) is y


def test_population_statistics_are_those_of_algorithm_2():
    rng = np.random.default_rng(3)
    net = Network(make_weights(rng), batch_norm=True, dropout=0.5)
    batches = rng.normal(2.0, 3.0, size=(4, 6, 2, 5))
    net.forward(batches[0])  # running statistics of before are forgotten
    population_statistics(net, batches)
    first, second = net.batch_norms
    before = np.einsum("bski,kio->bsko", batches, net.layers[0].weights).reshape(4, 6, -1)
    np.testing.assert_allclose(first.running_mean, before.mean(axis=(0, 1)), rtol=1e-12)
    expected = 6 / 5 * before.var(axis=1).mean(axis=0)
    np.testing.assert_allclose(first.running_var, expected, rtol=1e-12)
    assert first.num_batches_tracked == second.num_batches_tracked == 4
    assert not any(layer.training for layer in net.layers)
    # One sample by itself: what comes out depends on no other.
    x = batches[1]
    np.testing.assert_allclose(net.forward(x)[:1], net.forward(x[:1]), rtol=1e-12)


def test_networks_side_by_side_are_alone(digits):
    """A network that diverges, or another one, changes nothing in its neighbours."""
    settings = [Setting(0), Setting(1, "minmax"), Setting(2, learning_rate=1e30)]
    for batch_norm in (False, True):
        architecture = Architecture(batch_norm, hidden_layers=2, activation="relu")
        together = training.train(digits, architecture, settings, [0, 15])
        for place, setting in enumerate(settings[:2]):
            alone = training.train(digits, architecture, [setting], [0, 15])
            np.testing.assert_allclose(
                together.percentiles[:, :, place], alone.percentiles[:, :, 0], rtol=1e-2, atol=1e-3
            )
            assert np.abs(together.accuracy[:, place] - alone.accuracy[:, 0]).max() <= 0.004
        assert together.accuracy[-1, 0] > 0.5
        assert together.accuracy[-1, 0] != together.accuracy[-1, 1]


def test_scalers_see_training_images_alone(digits):
    for seed in (0, 1):
        split = data.split(digits, seed, "standard", 1297)
        assert split.train.shape == (1297, 64)
        assert split.test.shape == (500, 64)
        np.testing.assert_allclose(split.train.mean(axis=0), 0, atol=1e-5)
        assert np.abs(split.test.mean(axis=0)).max() > 0.02
    raw = data.split(digits, 0, "none", 1297)
    pixels = np.concatenate([raw.train, raw.test])
    np.testing.assert_array_equal(np.sort(pixels, axis=0), np.sort(digits.images, axis=0))


def test_an_epoch_deals_each_image_once_and_no_short_batch():
    deal = data.mini_batches(0, 125, 60)
    epoch = np.concatenate([next(deal), next(deal)])
    assert len(np.unique(epoch)) == 120
    assert not np.array_equal(epoch, np.concatenate([next(deal), next(deal)]))


def test_identity_is_represented_to_rounding(digits):
    errors = claims.identity_errors(digits)
    assert set(errors) == {"float64", "float32"}
    assert all(error <= 2 for error in errors.values())
    # The same with another gamma is no identity.
    assert claims._identity({"float64": 1e6}).verdict == claims.NOT_HELD


# -- the command -------------------------------------------------------------------------


def command(*arguments, folder, check=True):
    """Run the example, in a folder, as `python` would."""
    return run_python(EXAMPLES / "digits.py", *arguments, cwd=folder, check=check)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, command("--quick", "--output", folder / "found", folder=folder)


def test_quick_run_leaves_pictures_page_and_numbers(quick):
    folder, done = quick
    assert done.stderr == ""  # no bar where there is no terminal
    assert [each.name for each in folder.iterdir()] == ["found"]
    found = folder / "found"
    assert {each.name for each in found.iterdir()} == {"digits.json", "digits.md", *pictures.NAMES}
    for name in pictures.NAMES:
        picture = (found / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert 10_000 < len(picture) < 200_000
    numbers = report.load(found / "digits.json")
    assert (found / "digits.md").read_text(encoding="utf-8") == report.page(numbers)
    for claim in numbers["claims"]:
        assert f"{claim['claim']} It {claim['verdict']}.\n{claim['numbers']}\n" in done.stdout


def test_quick_run_trains(quick):
    rows = report.load(quick[0] / "found" / "digits.json")["rows"]
    for scaler in ("none", "standard"):
        (plain,), (normed,) = claims._both(rows, experiment="scalers", scaler=scaler)
        assert claims.final(normed) > 0.9  # chance: 0.1
        assert claims.final(plain) > 0.6
        assert all(abs(each[0] - 0.1) < 0.1 for each in normed["accuracy"])  # untrained
    assert {row["experiment"] for row in rows} == {"scalers", "rates", "stds", "depths", "dropout"}
    assert all(0 <= each <= 1 for row in rows for run in row["accuracy"] for each in run)


def test_same_numbers_from_any_number_of_processes(tmp_path):
    texts = []
    for jobs in (1, 3):
        options = ("--quick", "--steps", 12, "--seeds", 1, "--jobs", jobs)
        command(*options, "--output", tmp_path / str(jobs), folder=tmp_path)
        texts.append((tmp_path / str(jobs) / "digits.json").read_text())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["effort"] == {"steps": 12, "seeds": 1, "quick": True}


def test_load_reports_on_an_earlier_run(quick, tmp_path):
    found = quick[0] / "found"
    command("--load", found / "digits.json", "--output", tmp_path, folder=tmp_path)
    for name in ("digits.json", "digits.md", *pictures.NAMES):
        assert (tmp_path / name).read_bytes() == (found / name).read_bytes()


@pytest.mark.parametrize("option", [("--steps", 0), ("--seeds", "x"), ("--load", "none.json")])
def test_bad_options(option, tmp_path):
    done = command(*option, "--output", tmp_path / "found", folder=tmp_path, check=False)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("options", [(), ("--no-progress",)])
def test_progress_bar_on_a_terminal(tmp_path, options):
    import pty

    arguments = ["--quick", "--steps", "2", "--seeds", "1", "--jobs", "1", *options]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "digits.py", *arguments, "--output", tmp_path],
        env=environment(TERM="xterm"),
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(master)
    assert process.wait(timeout=60) == 0
    assert (b"training" in seen) == (options == ())


# -- the page ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    return report.load(DOCS / "digits.json")


def test_page_quotes_the_run(published):
    assert (DOCS / "digits.md").read_text(encoding="utf-8") == report.page(published)
    assert published["effort"] == {"steps": 2000, "seeds": 10, "quick": False}


def test_claims_follow_from_the_rows(published, digits):
    examined = claims.examine(published["rows"], claims.identity_errors(digits))
    assert [each._asdict() for each in examined] == published["claims"]


def test_page_shows_every_number(published):
    """Not the program's own rendering: medians, taken here, stand in the tables."""
    page = report.page(published)
    for row in published["rows"]:
        if row["experiment"] in {"scalers", "depths", "dropout"}:
            assert f"{100 * np.median([each[-1] for each in row['accuracy']]):.1f}%" in page
    words = " ".join(page.split())
    for claim in published["claims"]:
        assert f"Here it **{claim['verdict']}**. {claim['numbers']}" in words
        assert f"| {claim['claim']} | {claim['verdict']} |" in page


def test_verdicts_may_fail(published):
    """With the two kinds of network exchanged, no comparison holds."""
    exchanged = [{**row, "batch_norm": not row["batch_norm"]} for row in published["rows"]]
    for claim, other in zip(
        published["claims"][:-1], claims.examine(exchanged, {"float64": 0.0}), strict=False
    ):
        if claim["verdict"] == claims.HELD:
            assert other.verdict != claims.HELD, claim["claim"]


def test_links_and_pictures_of_the_page():
    targets = re.findall(r"\]\(((?!http)[^)]+)\)", (DOCS / "digits.md").read_text(encoding="utf-8"))
    assert {*pictures.NAMES, "digits.json"} <= set(targets)
    for each in targets:
        assert (DOCS / each).exists()
    for name in pictures.NAMES:
        assert (DOCS / name).stat().st_size < 200_000


def test_settings_of_the_page_are_the_program_s():
    setting = Setting(0)
    assert replace(setting, seed=1) == Setting(1, "standard", 1.0, 0.1)
    text = (DOCS / "digits.md").read_text(encoding="utf-8")
    assert f"standard deviation {setting.std:g}, learning rate {setting.learning_rate:g},\n" in text
    assert f"batches of {training.BATCH_SIZE}" in text
    assert f"Three fully connected layers of {training.UNITS} sigmoids" in text
