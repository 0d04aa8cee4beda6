"""Which photos a training step sees: random or neighbour-weighted triplets, P people × K photos, or pairs.

Everything is vectorised and follows from (seed, epoch) alone, so that a resumed run draws what an
uninterrupted one would have drawn.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from facetl.errors import TrainingError
from facetl.training.pair_sampler import PairSampler
from facetl.training.schedules import linear
from facetl.training.settings import Schedule, TrainingSettings

# More positives than this per anchor are not weighed at once; a random run of them is.
MAX_POSITIVES = 64


class Sampler(Protocol):
    """Draws an epoch's triplets."""

    def __len__(self) -> int:
        """Triplets an epoch."""
        ...

    def needs_embeddings(self, epoch: int) -> bool:
        """Tell whether `triplets` of this epoch looks at the embeddings."""
        ...

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return [n, 3] int32 rows of anchor, positive, negative."""
        ...


class People:
    """Photos ordered by person, so that draws within and outside a person are index arithmetic.

    Attributes:
        order: [n] rows sorted by person.
        start, size, place: [n] per row: where its person begins in `order`, how many photos that person has,
            and the row's place among them.
        anchors: rows of people with at least two photos.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = np.asarray(labels)
        self.order = np.argsort(self.labels, kind="stable").astype(np.int32)
        _, inverse, counts = np.unique(self.labels, return_inverse=True, return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.counts, self.starts = counts, starts
        self.start, self.size = starts[inverse], counts[inverse]
        self.place = np.empty(len(self.labels), np.int64)
        self.place[self.order] = np.arange(len(self.labels)) - self.start[self.order]
        self.anchors = np.flatnonzero(self.size >= 2).astype(np.int32)
        if len(counts) < 2 or not len(self.anchors):
            raise TrainingError(
                f"training: expected at least 2 people, one of them with 2 photos, got {len(counts)} people with "
                f"{len(self.labels)} photos. Add photos."
            )

    def epoch_anchors(self, rounds: int, most: int, rng: np.random.Generator) -> np.ndarray:
        """Return `rounds` shuffled passes over the anchors, at most `most` photos of a person in each (0: all)."""
        return np.concatenate([rng.permutation(self._anchors_of_a_round(most, rng)) for _ in range(rounds)])

    def count_anchors(self, rounds: int, most: int) -> int:
        """Return the length of `epoch_anchors`."""
        able = self.counts[self.counts >= 2]
        return rounds * int(np.minimum(able, most or able).sum())

    def _anchors_of_a_round(self, most: int, rng: np.random.Generator) -> np.ndarray:
        if not most or self.counts.max() <= most:
            return self.anchors
        # Sorted by person, then by lot: the first `most` of each person.
        lot = rng.random(len(self.anchors))
        ordered = self.anchors[np.lexsort((lot, self.start[self.anchors]))]
        first = np.searchsorted(self.start[ordered], self.start[ordered])
        return ordered[np.arange(len(ordered)) - first < most]

    def uniform_positives(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw for each anchor another photo of the same person, all equally likely."""
        step = rng.integers(1, self.size[anchors])
        return self.order[self.start[anchors] + (self.place[anchors] + step) % self.size[anchors]]

    def uniform_negatives(self, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw for each anchor a photo of another person, all equally likely."""
        position = rng.integers(0, len(self.labels) - self.size[anchors])
        position += np.where(position >= self.start[anchors], self.size[anchors], 0)
        return self.order[position]


class RandomSampler:
    """Every anchor `rounds` times an epoch, with a random positive and a random negative.

    `anchors_per_person` above 0 bounds how many photos of a person are anchors in a round, drawn anew each time.
    """

    def __init__(self, labels: np.ndarray, *, rounds: int = 1, anchors_per_person: int = 0, seed: int = 0) -> None:
        self.people = People(labels)
        self.rounds = rounds
        self.anchors_per_person = anchors_per_person
        self.seed = seed

    def __len__(self) -> int:
        """Triplets an epoch."""
        return self.people.count_anchors(self.rounds, self.anchors_per_person)

    def needs_embeddings(self, epoch: int) -> bool:
        """Random draws look at no embeddings."""
        return False

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return [rounds · anchors, 3] int32 rows of anchor, positive, negative."""
        rng = np.random.default_rng([self.seed, epoch])
        anchors = self.people.epoch_anchors(self.rounds, self.anchors_per_person, rng)
        positives = self.people.uniform_positives(anchors, rng)
        return np.stack([anchors, positives, self.people.uniform_negatives(anchors, rng)], axis=1)


class NeighbourSampler:
    """Draws triplets that the current head finds hard.

    A positive p of anchor a has weight exp(d(a, p) / T) among the person's other photos; a negative n has weight
    exp(−d(a, n) / T) among the `candidates` nearest photos of other people. A share of triplets is uniform
    instead: all of them for `warmup` epochs, then falling over `ramp` epochs to `uniform_share`. T, the candidates and
    the uniform share may each run linearly from a first to a last value over all `epochs`.
    """

    def __init__(
        self,
        labels: np.ndarray,
        *,
        temperature: Schedule,
        candidates: Schedule,
        uniform_share: Schedule,
        warmup: int,
        ramp: int,
        epochs: int,
        rounds: int = 1,
        anchors_per_person: int = 0,
        seed: int = 0,
    ) -> None:
        self.people = People(labels)
        self.temperature = temperature
        self.candidates = candidates
        self.uniform_share = uniform_share
        self.warmup = warmup
        self.ramp = ramp
        self.epochs = epochs
        self.rounds = rounds
        self.anchors_per_person = anchors_per_person
        self.seed = seed

    def __len__(self) -> int:
        """Triplets an epoch."""
        return self.people.count_anchors(self.rounds, self.anchors_per_person)

    def share(self, epoch: int) -> float:
        """Return the share of triplets drawn by weight in this epoch, counted from 0."""
        if epoch < self.warmup:
            return 0.0
        grown = (epoch - self.warmup + 1) / max(self.ramp, 1)
        return (1 - linear(self.uniform_share, epoch, self.epochs)) * min(grown, 1.0)

    def candidates_of(self, epoch: int) -> int:
        """Return how many of the nearest photos of others are candidates: at most what everyone has."""
        wanted = max(round(linear(self.candidates, epoch, self.epochs)), 1)
        return min(wanted, len(self.people.labels) - int(self.people.counts.max()))

    def needs_embeddings(self, epoch: int) -> bool:
        """Tell whether this epoch draws by weight at all."""
        return self.share(epoch) > 0

    def triplets(self, epoch: int, embeddings: np.ndarray | None = None) -> np.ndarray:
        """Return [rounds · anchors, 3] int32 rows; `embeddings` are [n, dim] float32 unit vectors of this epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        anchors = self.people.epoch_anchors(self.rounds, self.anchors_per_person, rng)
        positives = self.people.uniform_positives(anchors, rng)
        negatives = self.people.uniform_negatives(anchors, rng)
        weighted = np.flatnonzero(rng.random(len(anchors)) < self.share(epoch))
        if len(weighted):
            if embeddings is None:
                raise TrainingError(f"neighbours: epoch {epoch} draws by distance and needs embeddings, got none.")
            temperature = linear(self.temperature, epoch, self.epochs)
            candidates = self.candidates_of(epoch)
            positives[weighted] = self._far_positives(anchors[weighted], embeddings, temperature, rng)
            negatives[weighted] = self._near_negatives(anchors[weighted], embeddings, temperature, candidates, rng)
        return np.stack([anchors, positives, negatives], axis=1)

    def _far_positives(
        self, anchors: np.ndarray, embeddings: np.ndarray, temperature: float, rng: np.random.Generator
    ) -> np.ndarray:
        people = self.people
        drawn = np.empty(len(anchors), np.int32)
        for part in _blocks(len(anchors)):
            block = anchors[part]
            others = people.size[block] - 1
            width = min(int(others.max()), MAX_POSITIVES)
            first = rng.integers(0, np.where(others > width, others, 1))
            step = 1 + (first[:, None] + np.arange(width)) % others[:, None]
            rows = people.order[
                people.start[block][:, None] + (people.place[block][:, None] + step) % people.size[block][:, None]
            ]
            distances = 2 - 2 * np.einsum("ad,akd->ak", embeddings[block], embeddings[rows])
            logits = np.where(np.arange(width) < others[:, None], distances / temperature, -np.inf)
            drawn[part] = np.take_along_axis(rows, _draw(logits, rng), axis=1)[:, 0]
        return drawn

    def _near_negatives(
        self,
        anchors: np.ndarray,
        embeddings: np.ndarray,
        temperature: float,
        candidates: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        from facetl.training.neighbours import nearest_others

        # Each anchor is looked up once, however many rounds it is drawn in.
        unique, inverse = np.unique(anchors, return_inverse=True)
        rows, distances = nearest_others(embeddings, self.people.labels, unique, candidates=candidates)
        drawn = np.empty(len(anchors), np.int32)
        for part in _blocks(len(anchors)):
            picked = _draw(-distances[inverse[part]] / temperature, rng)
            drawn[part] = np.take_along_axis(rows[inverse[part]], picked, axis=1)[:, 0]
        return drawn


class PKSampler:
    """Batches of P people with up to K photos each, for mining inside the batch.

    A person with fewer than K photos gives all of them, so that no photo stands twice in a batch.
    """

    def __init__(self, labels: np.ndarray, *, people: int, photos: int, seed: int = 0) -> None:
        self.people = People(labels)
        self.eligible = np.flatnonzero(self.people.counts >= 2)
        self.people_per_batch = min(people, len(self.eligible))
        self.photos = photos
        self.seed = seed
        if self.people_per_batch < 2:
            raise TrainingError(
                "pk: expected at least 2 people with 2 photos each. Add photos, or use --sampler random."
            )

    @property
    def steps(self) -> int:
        """Batches an epoch: enough to meet every person once, or to see as many photos as there are anchors."""
        size = self.people_per_batch * min(self.photos, int(self.people.counts.max()))
        return max(-(-len(self.eligible) // self.people_per_batch), -(-len(self.people.anchors) // size))

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Return this epoch's batches, each [photos] int32 rows."""
        rng = np.random.default_rng([self.seed, epoch])
        needed = self.steps * self.people_per_batch
        people = np.empty(0, np.int64)
        while len(people) < needed:
            turn = rng.permutation(self.eligible)
            # Those who stand in the batch where two turns meet come again only after it.
            begun = len(people) % self.people_per_batch
            twice = np.isin(turn, people[len(people) - begun :])
            people = np.concatenate([people, turn[~twice], turn[twice]])
        return [self._batch(chosen, rng) for chosen in people[:needed].reshape(self.steps, self.people_per_batch)]

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sizes = self.people.counts[chosen]
        keys = rng.random((len(chosen), int(sizes.max())))
        keys[np.arange(keys.shape[1]) >= sizes[:, None]] = np.inf
        places = np.argsort(keys, axis=1)[:, : self.photos]
        inside = np.arange(places.shape[1]) < np.minimum(sizes, self.photos)[:, None]
        return self.people.order[(self.people.starts[chosen][:, None] + places)[inside]]


def make_sampler(
    labels: np.ndarray, settings: TrainingSettings
) -> RandomSampler | NeighbourSampler | PKSampler | PairSampler:
    """Return the sampler that the settings name, over photos of the given people ([n] int)."""
    if settings.sampler == "pairs":
        anchors = People(labels).count_anchors(settings.rounds, settings.anchors_per_person)
        return PairSampler(labels, per_epoch=2 * anchors, most_pairs=settings.most_pairs, seed=settings.seed)
    if settings.sampler == "pk":
        return PKSampler(
            labels, people=settings.people_per_batch, photos=settings.photos_per_person, seed=settings.seed
        )
    if settings.sampler == "random":
        return RandomSampler(
            labels, rounds=settings.rounds, anchors_per_person=settings.anchors_per_person, seed=settings.seed
        )
    return NeighbourSampler(
        labels,
        temperature=settings.temperature,
        candidates=settings.candidates,
        uniform_share=settings.uniform_share,
        warmup=settings.warmup,
        ramp=settings.ramp,
        epochs=settings.epochs,
        rounds=settings.rounds,
        anchors_per_person=settings.anchors_per_person,
        seed=settings.seed,
    )


def _draw(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one column per row with probability softmax(logits), by the Gumbel-max trick; [n, k] → [n, 1]."""
    return np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)[:, None]


def _blocks(count: int, size: int = 2048) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
