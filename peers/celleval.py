"""The field's own benchmark of a prediction: scores by Arc Institute's cell-eval2.

It compares measured with predicted cells. It has no laws, so a prediction is sampled.
"""

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sparse

from lib import checks, dataset, perturb
from lib.counts import check_counts, dense, with_counts
from lib.predict import guard, registry
from lib.predict.guard import Guarded
from lib.score import distances, tables
from lib.score.court.packages import FULL, NON_TARGETING, TARGET, quiet
from lib.seeds import stream
from lib.simulate import mechanisms
from lib.tasks import conditional

# Left out: scores at the first 50 to 500 significant genes, which equal those of all of them where
# there are fewer genes
SKIPPED = [f"de_wilcoxon_{m}_top{n}" for m in ("overlap", "precision") for n in (50, 100, 200, 500)]

SEED = 2026
REPLICATES = 3
ARMS = 6
CELLS = 300  # in an arm, and among the controls
TRAINING = {"max_epochs": 100, "patience": 5, "learning_rate": 5e-3}


def predicted_cells(
    cells: ad.AnnData, predictor: Guarded, genes: list[str], *, seed: int | tuple[int, ...]
) -> ad.AnnData:
    """A copy of `cells` in which each of `genes` is drawn from the law that the predictor gives it.

    cells: cells after an intervention, but not the measured ones. Genes that aren't drawn would
        otherwise be predicted without error
    predictor: fitted model
    genes: names, parents before children; none that the intervention set
    """
    for gene in checks.genes("genes", genes, list(cells.var_names)):
        law = predictor.law(cells, gene)
        cells = with_counts(cells, {gene: law.sample(stream(seed, f"predicted counts of {gene}"))})
    return cells


def pair(
    control: ad.AnnData, arms: dict[str, tuple[ad.AnnData, ad.AnnData]]
) -> tuple[ad.AnnData, ad.AnnData]:
    """Measured and predicted cells, as cell-eval2 reads them.

    control: control cells, counts (n_cells, n_genes); the same cells are in both
    arms: name -> (true, predicted) cells, counts (n_cells, n_genes), of the same genes; the two may
        differ in their number of cells. An arm with the name of a gene is taken for an intervention
        on that gene, which some scores then leave out

    X is log1p of counts, which cell-eval2 takes as it is: of counts it would divide each cell by
    its sum. Simulated cells have no library size, so an effect on the sum would be lost. Raises
    ValueError for other genes, an empty arm, or a matrix that isn't counts.
    """
    genes = list(control.var_names)
    if not arms:
        raise ValueError("arms = {}: must have at least one")
    if NON_TARGETING in arms:
        reserved = f"{NON_TARGETING!r} is the name of the control cells"
        raise ValueError(f"arms: {reserved}; an arm needs another")
    check_counts(control, "control")
    for name, both in arms.items():
        for cells in both:
            check_counts(cells, f"arms[{name!r}]")
            if list(cells.var_names) != genes:
                must = "its genes must be those of control, in that order"
                raise ValueError(f"arms[{name!r}]: {must}")
    sides = [
        {NON_TARGETING: control} | {n: both[side] for n, both in arms.items()} for side in (0, 1)
    ]
    return _together(sides[0], genes), _together(sides[1], genes)


def _together(groups, genes):
    """Groups of cells in one AnnData."""
    parts = [sparse.csr_matrix(cells.X, dtype=np.float32) for cells in groups.values()]
    counts = sparse.vstack(parts, format="csr")
    labels = np.repeat(list(groups), [cells.n_obs for cells in groups.values()])
    names = [f"cell_{i}" for i in range(len(labels))]
    obs = pd.DataFrame({TARGET: pd.Categorical(labels)}, index=names)
    return ad.AnnData(counts.log1p(), obs=obs, var=pd.DataFrame(index=genes))


def run(measured: ad.AnnData, predicted: ad.AnnData) -> pd.DataFrame:
    """Scores of what `pair` gives by cell-eval2, at its defaults: tidy rows metric, value.

    A value is its mean over the arms. It is NaN where no arm has one: many scores ask for ten
    significant genes. Scores that compare arms with each other are trivial for fewer than three.
    """
    from cell_eval2 import EvalConfig, aggregate_metrics, compute_metrics

    config = EvalConfig(metrics=FULL, pert_col=TARGET, input_type="lognorm", num_threads=1)
    with quiet():
        table = compute_metrics(predicted, measured, config=config)
        means = aggregate_metrics(table)
    values = dict(zip(means["metric"], means["mean"]))
    kept = {name: float(value) for name, value in values.items() if name not in SKIPPED}
    return pd.DataFrame({"metric": kept.keys(), "value": kept.values()})


def compare() -> pd.DataFrame:
    """Scores of cell-eval2 for samples of predictions under do(), and the exact skill beside them.

    Returns a tidy table. The exact skill, `skill_kl`, is of the predictions in the same cells.
    """
    frames = []
    for replicate in range(REPLICATES):
        by_model = _replicate((SEED, replicate))
        keys = {"scenario": "cell_eval", "split": "do_inside", "replicate": replicate}
        frames += [scores.assign(model=key, **keys) for key, scores in by_model.items()]
        done = f"replicate {replicate + 1}/{REPLICATES}"
        print(f"{done}: cell-eval2 of {len(by_model)} models", flush=True)
    return tables.tidy(frames)


def _replicate(seed):
    """Scores of each model of the list "judged", in new cells: key -> rows of metric, value."""
    train = conditional.simulate(10_000, 20, 0.8, list(mechanisms.MECHANISMS), seed=seed)
    genes = list(train.var_names[train.var["mechanistic"]])
    base = list(train.var_names[~train.var["mechanistic"]])
    setting = {"inputs": base, "device": "auto", "seed": seed, "training_options": TRAINING}
    models = guard.models(registry.rows("judged"), "conditional", **setting)
    for model in models.values():
        model.fit(train)
    control = dataset.fresh_cells(train, CELLS, seed=(*seed, 5))
    arms = {}  # gene -> measured cells, and cells to ask the models about
    for number, gene in enumerate(base[:ARMS]):
        dose = round(float(np.percentile(dense(train[:, gene].X), 99)))
        arms[gene] = tuple(_cells_after(train, gene, dose, seed, (number, i)) for i in (0, 1))
    scores = {}
    for key, model in models.items():
        predicted = {}
        for number, (gene, (measured, asked)) in enumerate(arms.items()):
            drawn = predicted_cells(asked, model, genes, seed=(*seed, 8, number))
            predicted[gene] = (measured, drawn)
        scores[key] = run(*pair(control, predicted))
        asked_about = [asked for _, asked in arms.values()]
        exact = _exact_skill(model, models["marginal"], asked_about, genes)
        scores[key].loc[len(scores[key])] = {"metric": "skill_kl", "value": exact}
    return scores


def _cells_after(train, gene, dose, seed, own):
    """New cells after do(gene = dose), from streams of their own."""
    cells = dataset.fresh_cells(train, CELLS, seed=(*seed, 6, *own))
    return perturb.do(cells, {gene: dose}, seed=(*seed, 7, *own))


def _exact_skill(model, marginal, arms, genes):
    """Mean skill (KL) of a model over arms and genes."""
    skills = []
    for gene in genes:
        for cells in arms:
            laws = {"model": model.law(cells, gene), "marginal": marginal.law(cells, gene)}
            scores = distances.scores(dataset.law(cells, gene)[:, 0], laws)
            scores = scores.set_index(["model", "metric"])["value"]
            skills.append(scores["model", "skill_kl"])
    return np.mean(skills)
