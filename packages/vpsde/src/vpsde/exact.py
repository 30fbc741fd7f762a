"""The minimiser of the loss in closed form, for data sets of a few structures."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vpsde.linalg import rows_times
from vpsde.protocols import Graph
from vpsde.sde import SDE


@dataclass(frozen=True)
class ExactScore:
    """Compute the exact score of a data set of k structures: the ideal of a trained network.

    `structures` are the positions of their mobile atoms, in one order, Å; `weights` their shares of
    the data set. The minimiser of denoising score matching is the mean of the conditional scores
    over the posterior p(x_0 | x_t). Used to test samplers and to find the limit of a schedule.
    """

    sde: SDE
    structures: Float[Tensor, "k m 3"]
    weights: Float[Tensor, " k"]

    def __call__(self, graph: Graph, t: Float[Tensor, " b"]) -> Float[Tensor, "n 3"]:
        log_posterior, scores = [], []
        for structure, weight in zip(self.structures, self.weights, strict=True):
            positions_0 = graph.positions.clone()
            positions_0[graph.mobile_indices] = structure.repeat(graph.n_structures, 1).to(
                positions_0
            )
            log_posterior.append(weight.log() + self.sde.log_density(graph, positions_0, t))
            scores.append(self.sde.conditional_score(graph, positions_0, t))
        posterior = torch.stack(log_posterior).softmax(0).to(graph.positions)[:, graph.batch]
        score = (posterior.unsqueeze(-1) * torch.stack(scores)).sum(0)
        return rows_times(score, self.sde.scale(graph, t, power=-1)[graph.batch])
