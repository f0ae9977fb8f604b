"""Members against their own cells, by many draws; exact risks against the true cells."""

import numpy as np
import pytest
import scipy.stats

from lib.predict.arms.answers import Means
from lib.score.court import zoo
from lib.score.court.panel import Panel
from tests.court import answers, members, panel, scores, task

KEYS = ["oracle", "no_change", "bilinear", *zoo.ROWS]
OF_LOGS = "log_scale"  # whose answer is what its logs would mean on the scale asked for


@pytest.fixture(scope="module")
def many():
    """A panel of two arms with many cells, and its zoo."""
    two = Panel(task(), scores(), task().asked[:2], 4000)
    answered = {key: given[:2] for key, given in answers().items()}
    told = {zoo.ORACLE: [exact.table for exact in two.exact]}
    models = [zoo.natural(key, given, two) for key, given in (told | answered).items()]
    made = [*models, *zoo.zoo(two, answered[zoo.MEAN])]
    return two, {member.key: member for member in made}


def law_of(member, place, panel):
    return panel.helper.as_law(member.answers[place])


def test_every_member_is_named_and_belongs_to_a_group(many):
    _, of_key = many
    assert {key for key, m in of_key.items() if m.group != zoo.NATURAL} == set(zoo.ROWS)
    assert {m.group for m in of_key.values()} == set(zoo.GROUPS)
    assert all(m.of in of_key or not m.of for m in of_key.values())


@pytest.mark.parametrize("key", [key for key in KEYS if key != OF_LOGS])
def test_cells_have_the_laws_that_a_member_is_scored_by(many, key):
    panel, of_key = many
    member = of_key[key]
    for place in (0, 1):
        counts, law = member.cells(place).counts, law_of(member, place, panel)
        n = len(counts)
        assert counts.shape == (4000, 60) and (counts == np.floor(counts)).all()
        table = law.pmf_table(int(counts.max()) + 2)
        variance = (table * np.arange(table.shape[1]) ** 2).sum(axis=1) - law.mean**2
        z = (counts.mean(axis=0) - law.mean) / np.sqrt(variance / n + 1e-12)
        assert np.abs(z).max() < 5, key
        zeros = (counts == 0).mean(axis=0)
        spread = np.sqrt(table[:, 0] * (1 - table[:, 0]) / n) + 1e-9
        assert (np.abs(zeros - table[:, 0]) / spread).max() < 5, key
        gene = int(np.argmax(law.mean))  # one gene's whole law
        expected = table[gene] * n
        seen = np.bincount(counts[:, gene].astype(int), minlength=table.shape[1])
        some = expected > 8
        chi = ((seen - expected)[some] ** 2 / expected[some]).sum()
        assert scipy.stats.chi2.sf(chi, some.sum()) > 1e-5, key


@pytest.mark.parametrize("key", ["no_change", "bilinear", *zoo.ROWS])
def test_the_exact_risk_is_that_over_true_cells(many, key):
    """KL is the mean over true cells of the log ratio of the laws."""
    panel, of_key = many
    member = of_key[key]
    for place, exact in enumerate(panel.exact):
        own, name = exact.sets["own"], exact.question.name
        table = scores().of({name: member.answers[place]}, doubt=False)
        part = table[(table["gene"] == "all") & (table["metric"] == "kl_nats")]
        law = law_of(member, place, panel)
        cells = panel.true[place]
        predicted = law.log_prob(cells)
        if not isinstance(member.answers[place], Means):  # a billionth is the controls' law
            usual = panel.helper.law.log_prob(cells) + np.log(1e-9)
            predicted = np.logaddexp(predicted, usual)
        each = (exact.table.log_prob(cells) - predicted)[:, ~own].mean(axis=1)
        error = each.std() / np.sqrt(len(each))
        assert part["value"].item() == pytest.approx(each.mean(), abs=5 * error + 1e-5), key


def test_members_are_as_far_from_the_truth_as_they_should_be():
    risk = {}
    for key, member in members().items():
        names = [question.name for question in panel().questions]
        table = scores().of(dict(zip(names, member.answers)), doubt=False)
        some = table[(table["gene"] == "all") & (table["metric"] == "kl_nats")]
        risk[key] = some["value"].mean()
    rising = ["oracle", "shrunk_25", "shrunk_50", "shrunk_75", "no_change"]
    assert [risk[key] for key in rising] == sorted(risk[key] for key in rising)
    for keys in (
        ["exact_means", "effects_150", "effects_200", "effects_300"],
        ["exact_means", "noise_03", "noise_10", "noise_30"],
        ["oracle", "collapsed_50", "collapsed_75", "perturbed_mean"],
        ["perturbed_mean", "mean_200", "mean_300"],
    ):
        assert [risk[key] for key in keys] == sorted(risk[key] for key in keys)
    assert risk["independent"] == risk["oracle"] == pytest.approx(0, abs=1e-9)
    for trick in ("mean_spiked", "mean_repeated", "exact_repeated", "random", "ambient"):
        assert risk[trick] > 2 * risk["perturbed_mean"]


def test_independent_genes_keep_each_gene_and_lose_what_they_share(many):
    panel, of_key = many
    as_measured, shuffled = (of_key[k].cells(0).counts for k in ("oracle", "independent"))
    assert (np.sort(shuffled, axis=0) == np.sort(as_measured, axis=0)).all()
    totals = [cells.sum(axis=1).var() for cells in (as_measured, shuffled)]
    assert totals[1] < 0.7 * totals[0]


def test_a_repeated_mean_is_one_profile_of_logs_and_rounded_counts(many):
    panel, of_key = many
    drawn = of_key["mean_repeated"].cells(1)
    assert (drawn.logs == drawn.logs[0]).all()
    assert np.ptp(drawn.counts, axis=0).max() <= 1
    mean = answers()[zoo.MEAN][1]
    assert isinstance(mean, Means)
    expected = panel.mean_logs(mean)
    assert np.allclose(drawn.logs[0], expected)


def test_cells_are_the_same_each_time_and_fewer_are_the_first(many):
    panel, of_key = many
    for key in ("no_change", "shrunk_50", "independent", "ambient", "mean_repeated"):
        first, again = (of_key[key].cells(0).counts for _ in range(2))
        assert (first == again).all()
    small = Panel(task(), scores(), task().asked[:2], 50)
    assert small.measured(50).shape == (600 + 100, 60)
    assert small.measured(20).shape == (600 + 40, 60)
