"""What turns a cell into a vector: the same objects in training and in prediction."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hep2.data.cells import short_hash
from hep2.data.views import oriented, view_of
from hep2.features.fisher import FisherVectors, normalised

Matrix = NDArray[np.float32]


class Transform(nn.Module, ABC):
    """Cells to vectors, on the CPU; an encoder works on the device where it is.

    Shape:
        (B, 1, H, W) in its view, where it is `masked` (B, 2, H, W) with masks of 0 and 1 -> (B, D),
        of one orientation
    """

    view = "intensity"  # of the cells that it takes
    masked = False  # whether it takes masks as well; one of zeros says that there is none
    learned = True  # whether it has learned anything
    of_fold = False  # whether from a fold's own cells, so that it serves no other fold

    @property
    @abstractmethod
    def key(self) -> str:
        """Names it, with all that it has learned."""

    def finish(self, mean: Tensor) -> Tensor:
        """What is done to the mean over orientations."""
        return mean

    def averaged(self, image: Tensor, orientations: int) -> Tensor:
        """The vectors as heads take them: means over the first of the eight orientations."""
        mean: Tensor = self(image)
        for turn in range(1, orientations):
            mean = mean + self(oriented(image, turn))
        return self.finish(mean / orientations)


class Encoding(Transform):
    """The latents of an encoder, which is frozen here.

    `made_by` are its architecture and that network's arguments, by which it can be built again.
    """

    def __init__(
        self, encoder: nn.Module, view: str = "intensity", made_by: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.encoder: Any = encoder.eval().requires_grad_(False)
        self.view, self.made_by = view, made_by or {}

    @property
    def key(self) -> str:
        """The view and the weights."""
        return f"{self.view}-{digest(self.encoder.state_dict())}"

    def forward(self, image: Tensor) -> Tensor:
        """Encode."""
        where = next(self.encoder.parameters()).device
        latent: Tensor = self.encoder(image.to(where))
        return latent.float().cpu()


class FisherEncoding(Encoding):
    """Fisher vectors of a map of an encoder, in place of its latents."""

    of_fold = True

    def __init__(
        self,
        encoder: nn.Module,
        vectors: FisherVectors,
        view: str = "intensity",
        made_by: dict[str, Any] | None = None,
        masked: bool = False,
    ) -> None:
        super().__init__(encoder, view, made_by)
        self.vectors, self.masked = vectors, masked

    @property
    def key(self) -> str:
        """Settings, weights, and what was fitted."""
        asked = {name: getattr(self.vectors, name) for name in FisherVectors.__match_args__}
        fitted = {str(number): part for number, part in enumerate(self.vectors.fitted())}
        settings = short_hash(json.dumps([asked, self.masked]))
        return f"fisher-{settings}-{self.view}-{digest(self.encoder.state_dict() | fitted)}"

    def maps(self, image: Tensor) -> Tensor:
        """The encoder's maps of images, (B, 1, H, W), whose columns are described."""
        where = next(self.encoder.parameters()).device
        found: Tensor = self.encoder.maps(image.to(where), self.vectors.level)
        return found.float().cpu()

    def forward(self, image: Tensor) -> Tensor:
        """Gradients of both regions."""
        masks = image[:, 1:] if self.masked else None
        return self.vectors.gradients(self.maps(image[:, :1]), masks)

    def finish(self, mean: Tensor) -> Tensor:
        """Normalise."""
        return normalised(mean)


class Extractor(Protocol):
    """Turns images into feature vectors. No label is ever passed to one."""

    version: int  # of the code; raised with any change that moves a value, so that caches notice

    def transform(self, images: Matrix) -> Matrix:
        """Feature vectors: (B, H, W), in [0, 1] -> (B, D)."""
        ...


@runtime_checkable
class Learner(Protocol):
    """What an extractor has besides, if it learns from training images."""

    def fit(self, images: Matrix, seed: int) -> None:
        """Learn from training cells, shape (N, H, W), in [0, 1]."""

    def fitted(self) -> list[NDArray[Any]]:
        """The learned parameters."""
        ...


class Extraction(Transform):
    """The features of an extractor, fitted where it learns; `settings` are its configuration."""

    def __init__(self, extractor: Extractor, settings: dict[str, Any], masked: bool) -> None:
        super().__init__()
        self.extractor, self.settings, self.masked = extractor, settings, masked
        self.learned = self.of_fold = isinstance(extractor, Learner)

    @property
    def key(self) -> str:
        """Settings, and what was fitted."""
        asked = [self.settings, self.extractor.version]
        found = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
        for parameter in self.extractor.fitted() if isinstance(self.extractor, Learner) else []:
            found.update(np.ascontiguousarray(parameter).tobytes())
        return f"{found.hexdigest()[:16]}{'-masked' * self.masked}"

    def forward(self, image: Tensor) -> Tensor:
        """Extract; images, and masks where it takes them, as arguments."""
        return torch.from_numpy(self.extractor.transform(*image.numpy().swapaxes(0, 1)))


class Representation(nn.Module):
    """One transform or several, whose vectors stand side by side: what a method sees of a cell."""

    def __init__(self, transforms: Sequence[Transform], orientations: int) -> None:
        super().__init__()
        self.transforms: Sequence[Transform] = nn.ModuleList(transforms)  # type: ignore[assignment]
        self.orientations = orientations  # that heads have learned from, and were tested with

    @property
    def masked(self) -> bool:
        """Whether it has learned with masks, and takes them."""
        return any(transform.masked for transform in self.transforms)

    def forward(
        self, image: Tensor, orientations: int | None = None, masks: Tensor | None = None
    ) -> Tensor:
        """The vectors of cells; `orientations` None: as many as in training.

        Masks are 1 inside a cell and all 0 where there is none; None: no cell has one.

        Shape:
            (B, 1, H, W) in [0, 1], (B, 1, H, W) -> (B, D)
        """
        turns = self.orientations if orientations is None else orientations
        parts = []
        for transform in self.transforms:
            seen = view_of(transform.view)(image)
            if transform.masked:
                mask = torch.zeros_like(seen) if masks is None else masks.to(seen)
                seen = torch.cat([seen, mask], dim=1)
            parts.append(transform.averaged(seen, turns))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def digest(values: Mapping[str, Tensor]) -> str:
    """16 hex digits that change with any value or name."""
    found = hashlib.sha256()
    for name, value in sorted(values.items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
