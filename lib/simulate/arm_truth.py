"""The exact law of an arm of a screen, over the cells that it would have in endless number."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from lib import checks
from lib.counts import CONTROL, SEPARATOR
from lib.laws.population import TAIL, Population, Rates, Tables, aligned, divergence, mixed
from lib.laws.tabulated import Tabulated
from lib.seeds import stream
from lib.simulate.additivity import classes, less
from lib.simulate.arm import AFFECTED, Arm
from lib.simulate.arms import IS_CONTROL, NOTHING, in_truth
from lib.simulate.latent import Latent
from lib.simulate.regulated import World, drawn

ADDITIVE = 0.1  # a deviation from additivity below this is none
N_CELLS = 4000  # in each of two computations
_INFLATION = 0.004  # square of a grid's step over the least squared coefficient of variation
_COLUMNS = "mean", "log_fold_change", "kl_nats", "mean_log1p", "error_nats"
_OWN = int.from_bytes(b"truth")  # ends seeds of cells: one that no one else would take
_COARSEST = 0.06  # step of a grid of logs


class Truth:
    """The truth about the arms of a screen in cells of one type, for more than one arm.

    screen: cells of `perturb.screen`, some of them, or their copy on disk, whose genes it is about
    cell_type: by default the only one; batches are as the controls', whichever cells are given
    capture: one for all cells; None: those of the controls
    fixed_capture: at which `mean_log1p` is; by default the median of the controls'
    n_cells: cells in each of two independent computations. The error falls as 1 / n_cells
    seed: of these computations, apart from all of the screen's own
    """

    senses = "as_intended", "as_labelled"

    def __init__(
        self,
        screen: ad.AnnData,
        cell_type: str | None = None,
        *,
        capture: float | None = None,
        fixed_capture: float | None = None,
        n_cells: int = N_CELLS,
        seed: int = 0,
    ):
        self.world = world = World.of(screen)
        self.network, self.screen = world.network, world.screen
        if self.screen is None:
            raise ValueError("screen: has no uns['screen']; must be cells of perturb.screen")
        types = [str(name) for name in self.network.cell_types]
        self.cell_type = types[0] if cell_type is None and len(types) == 1 else cell_type
        self._type = self.network.type_of(self.cell_type)
        known = list(self.network.places)
        self.names = checks.genes("genes of screen", list(screen.var_names), known)
        self._index = pd.Index(self.names, name="gene")
        self.places = np.array([self.network.places[name] for name in self.names])
        n_cells = checks.integer("n_cells", n_cells, low=100)
        self._seed = checks.integer("seed", seed, low=0)
        self._halves = [Latent(world, self._type, n_cells, (seed, half)) for half in (0, 1)]
        means = [half.cells.means(self.places) for half in self._halves]
        self._captures = self.screen.captures
        highest = min(1.0, float(1 / world.measurement.factors.max()))  # of capture times factors
        if capture is not None:
            capture = checks.number("capture", capture, 1e-6, highest)
            self._captures = np.full(len(self._captures), capture)
        usual = min(float(np.median(self.screen.captures)), highest)
        fixed_capture = usual if fixed_capture is None else fixed_capture
        self.fixed_capture = checks.number("fixed_capture", fixed_capture, 1e-6, highest)
        of_genes = self.network.theta[self.places, self._type], world.measurement.pi[self.places]
        most = np.mean(means, axis=(0, 2)) * np.median(self._captures)
        most *= self.screen.largest_folds(self.network)[self.places]
        self._step = np.minimum(np.sqrt(_INFLATION * _least(most, of_genes[0])), _COARSEST)
        self._unperturbed = [Rates.of(mu, self._step) for mu in means]
        self._tables = Tables(self._captured(self._captures), *of_genes)
        fixed = np.full(len(self._captures), self.fixed_capture)
        self._fixed = Tables(self._captured(fixed), *of_genes)
        self._seen: dict = {}
        self._of_control: dict = {}

    def arm(
        self,
        perturbation: str,
        *,
        perturbation_type: str | None = None,
        strength: float | None = None,
        sense: str = "as_intended",
    ) -> Arm:
        """The truth about an arm, or about "control".

        perturbation_type, strength: need be named only where there are several such arms
        sense: "as_intended", every cell perturbed by one of the arm's guides, against unperturbed
            cells; or "as_labelled", escapers and wrong guides included, against controls with
            their bias
        """
        checks.choice("sense", sense, self.senses)
        is_labelled = sense == "as_labelled"
        control = self._control(is_labelled)
        rates, is_reached = control, np.zeros(len(self.network.genes), dtype=bool)
        if perturbation != CONTROL:
            arm = self.screen.find(perturbation, perturbation_type, strength)
            is_reached = self.network.reached(self.screen.genes[arm], self.cell_type)
            rates = self._labelled(arm) if is_labelled else self._intended(arm)
        columns, pmf = self._columns(rates, is_labelled)
        table = pd.DataFrame(columns, index=self._index)
        table.insert(4, "reached", is_reached[self.places])
        table.insert(5, "affected", table["kl_nats"] > AFFECTED)

        def law():
            over_captures = mixed(rates, [0.5, 0.5]).times(self._tables.scale)
            return Population(over_captures, self._tables.theta, self._tables.pi)

        known = perturbation, self.cell_type, sense, table, self.fixed_capture
        return Arm(*known, Tabulated([_trimmed(row) for row in pmf]), law)

    def additivity(self, pair: str, *, scale: str = "log", threshold: float = ADDITIVE, **which):
        """How far a pair's effects are from the sum of those of its genes, as intended, unshifted.

        pair: GENE1+GENE2
        scale: of effects, all differences from control: "log" of the mean count, "count", the mean
            count, or "log1p", the mean of log(1 + count) at the fixed capture
        threshold: effects and deviations below it count as none
        which: perturbation_type and strength, as in `arm`

        Returns a row a gene: effects of the `first`, the `second` and `both` with the pair's own
        guides, `deviation` = both - first - second, and `class`: see `additivity.classes`, or
        "target", one of the pair's own genes, whose deviation is NaN.
        """
        checks.choice("scale", scale, ("log", "count", "log1p"))
        threshold = checks.number("threshold", threshold, 0)
        arm = self.screen.find(pair, **which)
        genes = self.screen.genes[arm]
        if len(genes) != 2:
            raise ValueError(f"pair = {pair!r}: must be GENE1{SEPARATOR}GENE2")
        control = self._on(scale, self._control(False))
        effects = [
            less(self._on(scale, self._perturbed(arm, only=only)), control) for only in (0, 1, None)
        ]
        table = pd.DataFrame(dict(zip(("first", "second", "both"), effects)), index=self._index)
        table["deviation"] = less(effects[2], effects[0] + effects[1])
        table["class"] = classes(*effects, threshold)
        table.loc[table.index.isin(genes), ["deviation", "class"]] = np.nan, "target"
        return table

    def log_normalised(
        self,
        perturbation: str,
        *,
        sense: str = "as_intended",
        target_sum: float = 1e4,
        n_cells: int = 5000,
        **which,
    ) -> pd.DataFrame:
        """Mean of log(1 + target_sum count / total) of each gene, as usual analyses have it.

        It needs all genes of a cell together, so it is the mean over `n_cells` new cells, whose
        standard error stands beside it: columns mean and error. Totals are over all genes of the
        network; a cell without a count has 0.

        which: perturbation_type and strength, as in `arm`
        """
        checks.choice("sense", sense, self.senses)
        target_sum = checks.number("target_sum", target_sum, 1e-9)
        n_cells = checks.integer("n_cells", n_cells, low=2)
        acting = np.full(n_cells, IS_CONTROL if sense == "as_labelled" else NOTHING)
        if perturbation != CONTROL:
            arm = self.screen.find(perturbation, **which)
            guides = self.screen.guides(arm)
            acting = guides[np.arange(n_cells) * len(guides) // n_cells]
            if sense == "as_labelled":
                acting = in_truth(self.screen, acting, (self._seed, _OWN))
        rng = stream((self._seed, _OWN), "like controls")
        like = rng.integers(len(self._captures), size=n_cells)
        cells = drawn(
            self.world,
            np.full(n_cells, self._type),
            acting,
            captures=self._captures[like],
            batch=self.screen.batches[like],
            seed=(self._seed, _OWN),
        )
        totals = np.maximum(cells.obs["total_counts"].to_numpy(), 1)[:, None]
        logs = np.log1p(cells.X[:, self.places].toarray() * (target_sum / totals))
        columns = {"mean": logs.mean(axis=0), "error": logs.std(axis=0, ddof=1) / n_cells**0.5}
        return pd.DataFrame(columns, index=self._index)

    def _captured(self, captures):
        """Distributions over controls of the share of molecules that is counted, a row a gene."""
        factors = self.world.measurement.factors[self.places]
        of_controls = (captures * row[self.screen.batches] for row in factors)
        return Rates.of(of_controls, self._step)

    def _control(self, is_labelled):
        """Distributions of means in controls, in each of the two computations."""
        if not (is_labelled and self.screen.control_bias.any()):
            return self._unperturbed
        if CONTROL not in self._seen:
            bias = np.exp(self.screen.control_bias)

            def change(genes, mu):
                mu *= bias[genes][:, None]

            everywhere = np.ones(len(bias), dtype=bool)
            self._seen[CONTROL] = self._changed(change, 0.0, everywhere)
        return self._seen[CONTROL]

    def _intended(self, arm):
        """Those in cells of an arm that one of its guides acts in."""
        if arm not in self._seen:
            self._seen[arm] = self._perturbed(arm, shift=self.screen.shift[arm])
        return self._seen[arm]

    def _perturbed(self, arm, *, shift: float = 0.0, only: int | None = None):
        """Those in cells of an arm with another shift, or with one of its two genes alone."""
        screen, network = self.screen, self.network
        guides = screen.guides(arm)
        guides = guides[np.arange(self._halves[0].cells.activities.shape[0]) % len(guides)]
        folds = {}
        for place, gene in enumerate(screen.genes[arm]):
            if only in (None, place):
                folds[network.places[gene]] = screen.folds[guides, place]

        def change(genes, mu):
            for row in np.flatnonzero(np.isin(genes, list(folds))):
                mu[row] *= folds[genes[row]]

        starts = np.isin(np.arange(len(network.genes)), list(folds))
        if shift:
            starts |= network.loadings[:, screen.program] != 0
        return self._changed(change, shift, network.downstream(starts, self._type))

    def _changed(self, change, shift, is_reached):
        found, genes = [], np.flatnonzero(is_reached[self.places])
        for half, before in zip(self._halves, self._unperturbed):
            if len(genes):
                after = half.perturbed(change, shift, is_reached)
                means = after.means(self.places[genes])
                before = before.put(genes, Rates.of(means, self._step[genes]))
            found.append(before)
        return found

    def _with_escapers(self, arm):
        """Those in cells that truly have a guide of the arm, whether or not it acts."""
        screen = self.screen
        acts = (1 - screen.escapers) * screen.works[screen.guides(arm)].mean()
        halves = zip(self._intended(arm), self._unperturbed)
        return [mixed(half, [acts, 1 - acts]) for half in halves]

    def _labelled(self, arm):
        """Those in cells that are labelled with the arm."""
        own, wrong = self._with_escapers(arm), self.screen.wrong_guides
        if not wrong:
            return own
        n_guides = np.bincount(self.screen.arm)
        if "every arm" not in self._seen:
            every = [self._with_escapers(other) for other in range(len(n_guides))]
            weights = n_guides / n_guides.sum()
            self._seen["every arm"] = [mixed(list(halves), weights) for halves in zip(*every)]
        share = n_guides[arm] / n_guides.sum()  # of the mean over all guides, which isn't wrong
        weights = [wrong / (1 - share), 1 - wrong - wrong * share / (1 - share)]
        return [mixed(list(halves), weights) for halves in zip(self._seen["every arm"], own)]

    def _columns(self, rates, is_labelled):
        """Columns of `Arm.genes`, and probabilities of counts, an array a gene.

        Where a gene's law is that of control, they are control's very numbers.
        """
        control = self._control(is_labelled)
        if rates is control and is_labelled in self._of_control:
            columns, pmf = self._of_control[is_labelled]
            return dict(columns), list(pmf)
        first, shares, none = aligned([*rates, *control])
        if rates is control:
            genes = np.arange(len(first))
            columns = {name: np.zeros(len(first)) for name in _COLUMNS}
            pmf = [None] * len(first)
        else:
            differs = (shares[:2] != shares[2:]).any(axis=(0, 1))
            genes = np.flatnonzero(differs | (none[:2] != none[2:]).any(axis=0))
            before, pmf = self._columns(control, is_labelled)
            columns = {name: values.copy() for name, values in before.items()}
        for gene in genes:
            points = np.flatnonzero(shares[:, :, gene].any(axis=0))
            points = slice(points[0], points[-1] + 1) if len(points) else slice(0, 1)
            given = first[gene] + points.start, shares[:, points, gene], none[:, gene]
            f, g, *of_control = self._tables.pmf(gene, *given)
            columns["error_nats"][gene] = divergence(f, g) / 4
            pmf[gene] = (f + g) / 2
            columns["kl_nats"][gene] = divergence(pmf[gene], sum(of_control) / 2)
            at_fixed = self._fixed.pmf(gene, given[0], given[1][:2], given[2][:2]).mean(axis=0)
            columns["mean_log1p"][gene] = at_fixed @ np.log1p(np.arange(len(at_fixed)))
        kept = (1 - self._tables.pi) * self._tables.scale.mean
        mean, usual = (np.mean([half.mean for half in r], axis=0) * kept for r in (rates, control))
        of_grid = self._step**2 / 2 / _least(mean, self._tables.theta)
        columns["error_nats"][genes] += of_grid[genes] ** 2 / 4
        with np.errstate(divide="ignore"):
            fold = less(np.log(mean), np.log(usual))
        columns |= {"mean": mean, "log_fold_change": fold}
        if rates is control:
            self._of_control[is_labelled] = dict(columns), list(pmf)
        return columns, pmf

    def _on(self, scale, rates):
        """An effect's scale: a number a gene."""
        columns, _ = self._columns(rates, False)
        if scale == "log1p":
            return columns["mean_log1p"]
        with np.errstate(divide="ignore"):
            return np.log(columns["mean"]) if scale == "log" else columns["mean"]


def arm(screen: ad.AnnData, perturbation: str, cell_type: str | None = None, **options) -> Arm:
    """The truth about one arm of a screen; for several, `Truth` computes once what they share.

    screen: cells of `perturb.screen`, some of them, or their copy on disk
    perturbation: GENE, GENE1+GENE2 or "control"
    options: those of `Truth` and of `Truth.arm`
    """
    of_arm = ("perturbation_type", "strength", "sense")
    which = {name: options.pop(name) for name in of_arm if name in options}
    return Truth(screen, cell_type, **options).arm(perturbation, **which)


def _trimmed(row):
    """Probabilities of counts up to where almost none is left."""
    return row[: max(1, int((row[::-1].cumsum() >= TAIL).sum()))]


def _least(mean, theta):
    """The least that a count's variance is over its squared mean, if nothing else varies."""
    return 1 / np.maximum(mean, 1e-9) + 1 / theta
