"""All metrics together, with measured cells to hold predictions against."""

import anndata as ad

from lib.score.court import own
from lib.score.court.cells import normalised
from lib.score.court.packages import CellEval2, Judged, ScPertEval


class Judges:
    """Both packages and our definitions.

    measured: counts, with `LABEL`
    names: of the arms, in order
    protocols: of scPertEval, None for all
    options: of `CellEval2`
    """

    def __init__(self, measured: ad.AnnData, names: list[str], protocols=None, **options):
        logs = normalised(measured)
        self.scperteval = ScPertEval(logs, protocols)
        self.cell_eval2 = CellEval2(measured, **options)
        self.ours = own.Definitions(logs, names)

    def judge(self, counts: ad.AnnData, logs: ad.AnnData | None = None) -> Judged:
        """Scores of predicted cells.

        logs: what is handed in where log1p is asked for; None: that of the counts
        """
        logs = normalised(counts) if logs is None else logs
        found = self.scperteval.judge(logs).joined(self.ours.judge(logs))
        return found.joined(self.cell_eval2.judge(counts))
