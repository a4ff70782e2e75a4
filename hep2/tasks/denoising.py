"""Stage 1, denoising: the clean cell is given back from one that was perturbed."""

from torch import Tensor

from hep2.data.views import standardised
from hep2.tasks.perturbation import keys_of, perturbed
from hep2.tasks.reconstruction import Reconstruction


class Denoising(Reconstruction):
    """Learns to take away what differs between microscopes (Vincent et al., JMLR 11 (2010) 3371).

    In training the batches hold intensities in [0, 1], which are perturbed and then standardised
    one by one (stage.view=standardised, as the cells are seen everywhere else); so the decoder
    must not end in a sigmoid (model.network.bounded=false).
    """

    perturbs = True

    def pair(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The perturbed cell and the clean one."""
        clean = batch["image"]
        return standardised(perturbed(clean, self.keys(batch))), standardised(clean)

    def displayed(self, image: Tensor) -> Tensor:
        """Standard deviations from -2 to 4 about a cell's mean, as grey from black to white."""
        return ((image + 2) / 6).clamp(0, 1)

    def keys(self, batch: dict[str, Tensor], draw: int = 0) -> Tensor:
        """What the `draw`-th random numbers of each cell in this epoch come from, shape (B,)."""
        seed = int(self.hparams["provenance"]["seed"])
        return keys_of(batch["index"], seed, self.current_epoch, draw)
