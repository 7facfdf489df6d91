"""Training a stack of networks that differ in their numbers, not in their layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .data import Digits, mini_batches, split
from .network import Network, cross_entropy, population_statistics

__all__ = ["PERCENTILES", "Architecture", "Curves", "Setting", "train"]

UNITS, CLASSES, BATCH_SIZE = 100, 10, 60
#: Of the inputs to a sigmoid, as in Figure 1 (b, c) of the paper.
PERCENTILES = (15, 50, 85)
#: Beyond it a sigmoid is flat: within 0.018 of its limit, with a slope below 0.018.
SATURATION = 4.0
#: Training images of which the accuracy is taken.
NUM_JUDGED = 500


@dataclass(frozen=True)
class Architecture:
    """What networks of one stack have in common."""

    batch_norm: bool
    hidden_layers: int = 3
    activation: str = "sigmoid"
    dropout: float = 0.0
    num_train: int = 1297


@dataclass(frozen=True)
class Setting:
    """What they may differ in. The seed decides on split, initial weights and mini-batches."""

    seed: int
    scaler: str = "standard"
    learning_rate: float = 1.0
    std: float = 0.1


@dataclass(frozen=True)
class Curves:
    """What was seen after each of `steps`, for each network."""

    steps: np.ndarray
    train_accuracy: np.ndarray  # (looks, networks), of images that the network is trained on
    accuracy: np.ndarray  # (looks, networks), of the held-out images
    percentiles: np.ndarray  # (looks, 3, networks, units), of the last hidden layer's input
    saturated: np.ndarray  # (looks, networks), the part of that input beyond +-4


def initial_weights(architecture: Architecture, settings: Sequence[Setting]) -> list[np.ndarray]:
    """Draw small Gaussian weights, the same for a seed with batch norm and without."""
    sizes = [64, *[UNITS] * architecture.hidden_layers, CLASSES]
    rngs = [np.random.default_rng([each.seed, 2]) for each in settings]
    return [
        np.stack(
            [
                each.std * rng.standard_normal((inputs, outputs), dtype=np.float32)
                for each, rng in zip(settings, rngs, strict=True)
            ]
        )
        for inputs, outputs in pairwise(sizes)
    ]


def train(
    digits: Digits, architecture: Architecture, settings: Sequence[Setting], looks: Sequence[int]
) -> Curves:
    """Train by gradient descent up to the last of `looks`, the steps after which to look."""
    splits = [split(digits, each.seed, each.scaler, architecture.num_train) for each in settings]
    images, labels, test, test_labels = (
        np.stack(each, axis=1) for each in zip(*splits, strict=True)
    )
    deals = [mini_batches(each.seed, len(images), BATCH_SIZE) for each in settings]
    places = np.arange(len(settings))
    rest = len(images) % BATCH_SIZE
    population = np.split(images[: len(images) - rest], len(images) // BATCH_SIZE)
    network = Network(
        initial_weights(architecture, settings),
        batch_norm=architecture.batch_norm,
        activation=architecture.activation,
        dropout=architecture.dropout,
        rng=np.random.default_rng([settings[0].seed, 3]),
    )
    learning_rate = np.array([each.learning_rate for each in settings])
    seen = []
    with np.errstate(all="ignore"):  # some settings diverge, which is what they are there to show
        for step in range(max(looks) + 1):
            if step in looks:
                population_statistics(network, population)
                seen.append(
                    (
                        _accuracy(network.forward(images[:NUM_JUDGED]), labels[:NUM_JUDGED]),
                        *_look(network, test, test_labels),
                    )
                )
                network.train()
            rows = np.stack([next(each) for each in deals], axis=1)
            scores = network.forward(images[rows, places])
            _, dscores = cross_entropy(scores, labels[rows, places])
            network.backward(dscores)
            network.descend(learning_rate)
    return Curves(np.array(sorted(looks)), *map(np.array, zip(*seen, strict=True)))


def _look(network: Network, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return accuracy, and percentiles and saturation of what the last nonlinearity gets."""
    outputs: dict = {}
    accuracy = _accuracy(network.forward(x, seen=outputs), labels)
    inputs = outputs[network.before_activation[-1]]
    saturated = (np.abs(inputs) > SATURATION).mean(axis=(0, 2))
    return accuracy, np.percentile(inputs, PERCENTILES, axis=0), saturated


def _accuracy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the part of the images whose digit has the highest score."""
    return (scores.argmax(axis=2) == labels).mean(axis=0)
