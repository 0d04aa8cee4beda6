"""Fits a head on features: one function from arrays to a trained, chosen, reproducible head."""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from facetl.backbones.photo_net import FeatureMap
from facetl.errors import DivergedError, FacetlWarning, RunError
from facetl.io.arrays import Rows
from facetl.io.files import stored_arrays, write_arrays
from facetl.io.json import parse_json
from facetl.metrics.baselines import Baselines, Raw
from facetl.samplers import SAMPLERS, Sampler
from facetl.training.callbacks import (
    CollapseGuard,
    EarlyStopping,
    RefreshNeighbours,
    VerifyPairs,
    learning_rates,
    remedies,
)
from facetl.training.head import build_trunk, embed, join
from facetl.training.model_selection import HeadChoice, choose, raw_head
from facetl.training.objectives import HeadTrainer, Objective, PairObjective, ProxyObjective, make_objective
from facetl.training.settings import FitSettings, TrainingSettings
from facetl.training.tensorboard import TensorBoardLog
from facetl.training.whitening import Whitening


@dataclass(frozen=True)
class FittedHead:
    """A trained head and how it came about.

    Attributes:
        head: features [batch, dim] → unit embeddings [batch, width], weights of the best epoch.
        untrained: the same layers at random weights, behind a front that has seen no labels.
        history: a row per epoch: loss, active, learning_rate, val_auc, val_accuracy, spread; of pairs also val_loss.
        best_epoch: counted from 1; 0 is the start, when no epoch was better.
        seconds: of this process, not of an interrupted one before it.
        choice: why the head is the trained one or, then `head` is that, the raw features; None where the settings ask
            for the trained one whatever it is worth.
    """

    head: keras.Model
    untrained: keras.Model
    history: pd.DataFrame
    best_epoch: int
    seconds: float
    choice: HeadChoice | None = None

    @property
    def fallback(self) -> bool:
        """True where the head is the raw features, the trained one not being better."""
        return self.choice is not None and self.choice.fallback


def fit_head(
    features: Rows,
    labels: np.ndarray,
    settings: TrainingSettings,
    *,
    validation: tuple[Rows, np.ndarray],
    layout: FeatureMap | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
    checkpoint: Path | None = None,
    resume: bool = False,
    logs: Path | None = None,
) -> FittedHead:
    """Train a head with the loss of the settings, and keep the epoch that verifies validation people best.

    Where the raw features separate people better than it, and the settings do not forbid it, they are the head.

    Args:
        features: [photos, dim] float; indexable by an integer array.
        labels: [photos] int, the person of each.
        settings: every choice.
        validation: features and labels of people who are not in `labels`.
        layout: of which maps a feature is made; without it, its regions are not known.
        on_epoch: called after each epoch with its number, from 0, and its logs.
        checkpoint: where the state is saved after each epoch; with `resume`, it is continued from there.
        logs: folder for TensorBoard.

    Raises:
        TrainingError: too few people or photos. CollapseError: the head maps everyone to one point.
    """
    began = time.monotonic()
    _make_deterministic(settings.seed)
    labels = np.asarray(labels)
    # It reads all features: those that are not finite are refused before any training.
    raw = Raw().fit(features)
    front = Whitening.fit(features, labels, layout=layout, **settings.whitening_options)
    front_model = front.model(features.shape[1])
    rows, held_out = front.reduce(features), front.reduce(validation[0])
    trunk = build_trunk(front_model.output_shape[-1], **settings.layer_options)
    head = join(front_model, trunk)
    objective = make_objective(settings, labels, width=head.output_shape[-1])
    fit = Fit(
        # Whitened once, the features are small: only the layers behind the projection run at every step.
        HeadTrainer(head if rows is None else trunk, objective),
        settings,
        validation=(validation[0] if held_out is None else held_out, validation[1]),
        remedies=remedies(settings),
    )
    taken = features if rows is None else rows
    if isinstance(objective, ProxyObjective):
        objective.imprint(embed(fit.trainer.head, taken), labels)
    fit.run(
        make_sampler(labels, settings),
        taken,
        on_epoch=on_epoch,
        logs=logs,
        plot=settings.plot_embeddings,
        checkpoint=checkpoint,
        resume=resume,
        data=_digest((features, labels), (validation[0], np.asarray(validation[1]))),
    )
    choice = None
    if settings.fallback:
        choice = choose(
            features,
            labels,
            settings.whitening_options,
            raw=raw,
            validation=validation,
            trained=embed(fit.trainer.head, fit.verify.features),
            pairs=fit.verify.pairs,
            layout=layout,
        )
        head = raw_head(raw) if choice.fallback else head
    return FittedHead(
        head=head,
        untrained=untrained_head(front, features.shape[1], settings),
        history=pd.DataFrame(fit.history),
        best_epoch=fit.stopping.best_epoch + 1,
        seconds=time.monotonic() - began,
        choice=choice,
    )


def fit_trunk(
    trunk: keras.Model,
    rows: Rows,
    labels: np.ndarray,
    settings: TrainingSettings,
    *,
    validation: tuple[Rows, np.ndarray],
    objective: Objective,
) -> None:
    """Train the layers behind a front from the weights they have, in place, and keep the best epoch.

    Args:
        trunk: [batch, dim] → [batch, width] unit vectors.
        rows, labels: [photos, dim] float as the front gives them, and [photos] int.
        settings: of the sampler and of the optimiser; those of the front and of the layers do not count.
        validation: rows and labels of other people; the start counts as an epoch to choose.
        objective: what is minimised.

    Raises TrainingError for too few people or photos, CollapseError.
    """
    _make_deterministic(settings.seed)
    fit = Fit(HeadTrainer(trunk, objective), settings, validation=validation, remedies=remedies(settings))
    if isinstance(objective, ProxyObjective):
        objective.imprint(embed(trunk, rows), labels)
    fit.run(make_sampler(labels, settings), rows)


def _make_deterministic(seed: int) -> None:
    # Sums in parallel must not depend on which thread ends first: same seed, same metrics.
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(seed)


def untrained_head(front: Whitening, dim: int, settings: TrainingSettings) -> keras.Model:
    """Build the baseline that has learnt nothing about people, on features of length `dim`."""
    plain = front.without_labels().model(dim)
    initialiser = "glorot" if settings.initialiser == "identity" else settings.initialiser
    options = {**settings.layer_options, "initialiser": initialiser}
    return join(plain, build_trunk(plain.output_shape[-1], **options))


@dataclass
class Checkpoint:
    """The state after some epochs.

    Attributes:
        epochs: how many are done.
        variables: of the model, with its dropout seeds, and of the optimiser, in Keras' order.
        best_weights: of the epoch with the best validation, or None before there is one.
        stopping: memory of the early stopping, without the weights.
        history: one dict of logs per epoch.
        settings: of the training, and a digest of its `data`; a resumed one must have the same.
    """

    epochs: int
    variables: list[np.ndarray]
    best_weights: list[np.ndarray] | None
    stopping: dict[str, Any]
    history: list[dict[str, float]]
    settings: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all; readable by its owner alone."""
        best = self.best_weights or []
        arrays = {f"variable_{i}": value for i, value in enumerate(self.variables)}
        arrays |= {f"best_{i}": value for i, value in enumerate(best)}
        facts = {
            "epochs": self.epochs,
            "variables": len(self.variables),
            "best": len(best),
            "stopping": self.stopping,
            "history": self.history,
            "settings": self.settings,
        }
        write_arrays(path, facts=np.array(json.dumps(facts)), **arrays)

    @classmethod
    def load(cls, path: Path, *, settings: dict[str, Any]) -> Checkpoint:
        """Read the state; RunError when it is damaged or of other settings."""
        with stored_arrays(path, "the checkpoint", "Train without --resume.") as stored:
            facts = parse_json(str(stored["facts"]), finite=False)
            variables = [stored[f"variable_{i}"] for i in range(facts["variables"])]
            best = [stored[f"best_{i}"] for i in range(facts["best"])]
            state = cls(
                int(facts["epochs"]),
                variables,
                best or None,
                dict(facts["stopping"]),
                list(facts["history"]),
                dict(facts["settings"]),
            )
        if state.settings != settings:
            changed = [key for key in settings if state.settings.get(key) != settings[key]]
            raise RunError(
                "--resume: settings and data must be those of the interrupted run; received others: "
                f"{', '.join(changed) or 'some'}. Give the same options and photos, or train without --resume."
            )
        return state


class Fit:
    """One call of Keras' `fit` with everything around it, for heads and for nets.

    Attributes:
        trainer: keeps the weights of the best epoch.
        verify: of the validation people, by whom that epoch is chosen.
        stopping: knows which one it is; −1 is the start.
        history: the logs of each epoch.
    """

    def __init__(
        self,
        trainer: HeadTrainer,
        settings: FitSettings,
        *,
        validation: tuple[Rows, np.ndarray],
        remedies: str,
    ) -> None:
        objective = trainer.objective
        self.trainer = trainer
        self.settings = settings
        self.remedies = remedies
        self.history: list[dict[str, float]] = []
        self.verify = VerifyPairs(
            validation,
            seed=settings.seed,
            loss=objective.of_distances if isinstance(objective, PairObjective) else None,
        )
        self.stopping = EarlyStopping(patience=settings.patience)
        optimizer = keras.optimizers.Adam(settings.learning_rate, weight_decay=settings.weight_decay or None)
        trainer.compile(optimizer=optimizer, jit_compile=False)
        optimizer.build(trainer.trainable_variables)

    def run(
        self,
        sampler: Sampler,
        features: Rows,
        *,
        dataset: tf.data.Dataset | None = None,
        on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
        logs: Path | None = None,
        plot: bool = False,
        checkpoint: Path | None = None,
        resume: bool = False,
        data: str = "",
    ) -> None:
        """Train to the last epoch, or until patience runs out.

        A training that diverges ends with the best epoch before and a FacetlWarning; with DivergedError where every
        epoch was worse than the start.

        Args:
            sampler, features: of the batches.
            dataset: the batches, where they are not the sampler's.
            on_epoch: called after each epoch with its number, from 0, and its logs.
            logs: folder for TensorBoard; with `plot`, embeddings of validation people, too.
            checkpoint, resume: see `fit_head`.
            data: a digest of what is trained on, which a resumed training must share with the interrupted one.
        """
        stated = {**self.settings.to_json(), "data": data}
        start = 0
        if checkpoint is not None and resume and checkpoint.is_file():
            start = self._restore(checkpoint, stated)
        if start >= self.settings.epochs or self.stopping.exhausted:
            # It was killed after its last epoch: nothing is left but to take the best weights.
            self.trainer.set_weights(self.stopping.best_weights)
            return
        if start == 0:
            # The start is an epoch to choose, too: a head that training makes worse on validation is not kept.
            self.stopping.begin_with(self.verify.auc_of(self.trainer.head), self.trainer.get_weights())

        def note(epoch: int, values: dict[str, float]) -> None:
            self.history.append({"epoch": float(epoch + 1), **values})
            if checkpoint is not None:
                self._save(checkpoint, epoch + 1, stated)
            on_epoch(epoch, values)

        callbacks: list[keras.callbacks.Callback] = [
            keras.callbacks.LearningRateScheduler(learning_rates(self.settings)),
            RefreshNeighbours(sampler),
            self.verify,
            CollapseGuard(
                collapsed_loss=self.trainer.objective.collapsed_loss, remedies=self.remedies, history=self.history
            ),
            self.stopping,
        ]
        if logs is not None:
            callbacks.append(TensorBoardLog(logs, self.verify, plotted=self.verify.labels if plot else None))
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=note))
        if dataset is None:
            size = self.settings.batch_size if sampler.sized else None
            dataset = sampler.dataset(features, batch_size=size, initial_epoch=start)
        try:
            self.trainer.fit(
                dataset,
                epochs=self.settings.epochs,
                initial_epoch=start,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        except DivergedError as error:
            best = self.stopping.best_epoch + 1
            if not any(logs["val_auc"] >= self.stopping.best for logs in self.history):
                raise
            # Keras puts the best weights back only where its own fit ends.
            self.trainer.set_weights(self.stopping.best_weights)
            kept = f"Epoch {best}, the best before, is kept." if best else "The start is kept: no epoch was better."
            warnings.warn(f"{error} {kept}", FacetlWarning, stacklevel=2)
        except tf.errors.OpError:
            if sampler.error is not None:
                raise sampler.error from None
            raise

    def _variables(self) -> list[Any]:
        # The head's with its dropout seeds, the objective's proxies and seeds, the optimiser's.
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def _save(self, path: Path, epochs: int, stated: dict[str, Any]) -> None:
        memory = self.stopping.memory()
        best_weights = memory.pop("best_weights")
        variables = [np.asarray(variable.value) for variable in self._variables()]
        Checkpoint(epochs, variables, best_weights, memory, self.history, stated).save(path)

    def _restore(self, path: Path, stated: dict[str, Any]) -> int:
        state = Checkpoint.load(path, settings=stated)
        variables = self._variables()
        if [tuple(one.shape) for one in variables] != [one.shape for one in state.variables]:
            raise RunError(f"{path}: the checkpoint is of a model of another shape. Train without --resume.")
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        memory = {**state.stopping, "best_weights": state.best_weights}
        self.stopping = EarlyStopping(patience=self.settings.patience, memory=memory)
        self.stopping.on_train_begin()
        self.history = list(state.history)
        return state.epochs


def make_sampler(labels: np.ndarray, settings: TrainingSettings) -> Sampler:
    """Return the sampler that the settings name, over photos of the given people ([n] int), with those it takes."""
    sampler = SAMPLERS[settings.sampler]
    taken = {name: getattr(settings, name) for name in inspect.signature(sampler).parameters if hasattr(settings, name)}
    return sampler(labels, **taken)


def _digest(*sides: tuple[Rows, np.ndarray]) -> str:
    """Return a digest of who is on which photo and of the first features: other photos or taps give another."""
    digest = hashlib.blake2b(digest_size=16)
    for features, labels in sides:
        first = np.asarray(features[np.arange(min(8, features.shape[0]))], np.float32)
        digest.update(
            repr((features.shape, labels.shape)).encode() + labels.astype(np.int64).tobytes() + first.tobytes()
        )
    return digest.hexdigest()


Embedder = Callable[[Rows], np.ndarray]


def embedders(baselines: Baselines, fitted: FittedHead) -> Mapping[str, Embedder]:
    """Return the four baselines and `trained`, each features [n, dim] → unit embeddings [n, width]."""
    return {
        "raw": baselines.raw.transform,
        "whitened": baselines.whitened.transform,
        "lda": baselines.lda.transform,
        "untrained": lambda rows: embed(fitted.untrained, rows),
        "trained": lambda rows: embed(fitted.head, rows),
    }
