"""What iterative models share whose parameters live in a network while it trains, and in arrays afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from recpipe.models.iterative import Batch, IterativeModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

    from recpipe.models.base import Items
    from recpipe.models.tables import Float32


class Network(Protocol):
    """The trainable side of a model."""

    parameters: Mapping[str, torch.nn.Parameter]

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch, penalties included."""
        ...


class NetworkModel(IterativeModel):
    """A model that sets `_network` in `prepare` and `_arrays` in `restore`, and reads `_parameter_arrays()`."""

    _network: Network | None = None
    _arrays: dict[str, np.ndarray] | None = None
    _catalogue: tuple[Items, Float32, Float32] | None = None
    """Items, and what was made of them from the parameters."""

    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        return self._trained().parameters

    def train_step(self, batch: Batch) -> torch.Tensor:
        return self._trained().loss(batch)

    def refresh(self) -> None:
        self._arrays = None
        self._catalogue = None

    def finish(self) -> None:
        self.refresh()
        # on the CPU the arrays share the parameters' memory, which goes with the network
        self._arrays = {name: array.copy() for name, array in self._parameter_arrays().items()}
        self._network = None

    def _trained(self) -> Network:
        if self._network is None:
            raise RuntimeError("prepare the model first")
        return self._network

    def _parameter_arrays(self) -> dict[str, np.ndarray]:
        """Return the parameters as arrays, made once after each change. RuntimeError before any."""
        if self._arrays is None:
            if self._network is None:
                raise RuntimeError("fit or load the model first")
            self._arrays = self._as_arrays()
        return self._arrays

    def _as_arrays(self) -> dict[str, np.ndarray]:
        """Read the parameters, and what follows from them."""
        from recpipe.models.learned import arrays_of

        return arrays_of(self.parameters())
