"""What ten usual metrics say of a prediction, to stand beside its exact risk."""

from __future__ import annotations

import pandas as pd

from lib.predict.arms.answers import Answer
from lib.score.court import zoo
from lib.score.court.judges import Judges
from lib.score.court.metrics import CELL_EVAL2, SCPERTEVAL
from lib.score.court.panel import Panel
from lib.score.screen import Scores
from lib.tasks.screen import Task
from lib.tasks.splits import GENE, PAIRS

TEN = {  # key -> what a table calls it
    f"{SCPERTEVAL} mse": "MSE",
    f"{SCPERTEVAL} pearson_ctrl": "Pearson delta",
    f"{SCPERTEVAL} pearson_pert": "Pearson, vs mean",
    f"{SCPERTEVAL} wmse_exp2": "weighted MSE",
    f"{SCPERTEVAL} nir": "NIR",
    f"{SCPERTEVAL} energy_distance_pca_k": "energy, 50 PCs",
    f"{SCPERTEVAL} de_auprc": "DE AUPRC",
    f"{CELL_EVAL2} pds_cosine": "PDS cosine",
    f"{CELL_EVAL2} expr_mse_unbiased_capped_norm": "MSE, unbiased",
    f"{CELL_EVAL2} de_wilcoxon_sig_jaccard": "DE Jaccard",
}
N_CELLS = 100  # of each arm, measured and predicted
_LEAST = 3  # arms of a panel


def usual(task: Task, scores: Scores, answers: dict[str, dict[str, Answer]]) -> pd.DataFrame:
    """Scores of models by ten metrics, a row a panel and model; arms of which all have answers.

    answers: model -> name of a question -> answer
    """
    frames = []
    for name, splits in {GENE: [GENE], "pairs": list(PAIRS.values())}.items():
        asked = [q for q in task.asked if q.split in splits]
        asked = [q for q in asked if all(q.name in given for given in answers.values())]
        if len(asked) < _LEAST:
            continue
        panel = Panel(task, scores, asked, N_CELLS)
        measured = panel.measured(N_CELLS)
        judges = Judges(measured, panel.names, _of(SCPERTEVAL), metrics=_of(CELL_EVAL2))
        for key, given in answers.items():
            member = zoo.natural(key, [given[q.name] for q in asked], panel)
            drawn = member.drawn()
            counts = panel.measured(N_CELLS, cells=[each.counts for each in drawn])
            said = judges.judge(counts, panel.logs(N_CELLS, drawn))
            row = {label: said.means.get(key_of, float("nan")) for key_of, label in TEN.items()}
            frames.append(pd.DataFrame(row, index=pd.MultiIndex.from_tuples([(name, key)])))
    table = pd.concat(frames) if frames else pd.DataFrame(columns=list(TEN.values()))
    return table.rename_axis(index=["panel", "model"]) if frames else table


def _of(package):
    """Names of its metrics among the ten."""
    return [key.partition(" ")[2] for key in TEN if key.startswith(package)]
