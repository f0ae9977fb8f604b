"""Networks from tables."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import dataset
from lib.simulate.grn import GRN, from_table
from tests.agreement import one_line
from tests.simulate.networks import six

CLEAN = {"regulator": ["a", "a", "b"], "target": ["b", "c", "c"], "effect": [1.0, -2.0, 0.5]}


def table(**columns):
    return pd.DataFrame(CLEAN | columns)


def assert_same(one, other, but=()):
    for field in dataclasses.fields(GRN):
        if field.name not in but:
            values = (getattr(network, field.name) for network in (one, other))
            np.testing.assert_array_equal(*values, err_msg=field.name)


@pytest.mark.parametrize("through", ["tables", "csv"])
@pytest.mark.parametrize("types", [["A", "CD4+/CD45RA+ T"], ["0", "1"], ["01", "1"]])
def test_tables_of_a_network_give_it_back(tmp_path, through, types):
    network = six(cell_types=types)
    edges, genes = network.edge_table(), network.gene_table()
    if through == "csv":
        edges.to_csv(tmp_path / "edges.csv", index=False)
        genes.to_csv(tmp_path / "genes.csv")
        edges, genes = tmp_path / "edges.csv", pd.read_csv(tmp_path / "genes.csv", index_col="gene")
    assert_same(from_table(edges, genes), network, but=("programs", "loadings"))


def test_tables_of_a_drawn_network_give_it_back():
    network = dataset.grn.draw(50, 10, n_cell_types=3, divergence=0.4, programs=False, seed=4)
    assert_same(from_table(network.edge_table(), network.gene_table()), network)


def test_a_published_table_of_three_columns_takes_the_defaults(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("regulator,target,effect,source\nTF2,g1,1.5,X\nTF1,TF2,-1,Y\nTF1,g1,2,\n")
    network = from_table(path, base=6.0, theta=3.0, logic="or")
    assert list(network.genes) == ["TF1", "TF2", "g1"] and list(network.cell_types) == ["A"]
    ends = [(network.genes[r], network.genes[t]) for r, t in zip(network.regulator, network.target)]
    assert ends == [("TF2", "g1"), ("TF1", "TF2"), ("TF1", "g1")]
    np.testing.assert_array_equal(network.effect, [1.5, -1, 2])
    for name, value in (("half", 6), ("power", 2), ("base", 6), ("theta", 3), ("logic", "or")):
        assert (getattr(network, name) == value).all()
    assert network.acts.all() and not len(network.programs)


def test_values_that_are_missing_are_the_defaults_and_others_are_kept():
    genes = pd.DataFrame({"base A": [4.0, 9.0, 1.0], "base B": [8.0, 3.0, 1.0]}, index=list("abc"))
    edges = table(half=[np.nan, 5.0, np.nan], power=[3.0, np.nan, np.nan], cell_type=["", "B", "A"])
    network = from_table(edges, genes)
    np.testing.assert_array_equal(network.half, [6.0, 5.0, 6.0])  # means of the regulator's bases
    np.testing.assert_array_equal(network.power, [3.0, 2.0, 2.0])
    np.testing.assert_array_equal(network.acts, [[True, True], [False, True], [True, False]])


def test_rows_of_two_cell_types_with_the_same_values_are_one_edge():
    edges = table(regulator=["a", "a", "a"], target=["b"] * 3, effect=[1.0, 1.0, 2.0])
    network = from_table(edges.assign(cell_type=["A", "C", "B"]))
    assert sorted(network.cell_types) == ["A", "B", "C"] and len(network.effect) == 2
    by_type = dict(zip(network.cell_types, network.acts.T.tolist()))
    assert by_type == {"A": [True, False], "C": [True, False], "B": [False, True]}


def test_mechanisms_are_the_logic_of_their_genes_whatever_the_table_says():
    entry = {"mechanism": "linear", "parameters": {"weights": np.array([1.0, 2.0])}}
    network = from_table(table(), pd.DataFrame(index=list("abc")), mechanisms={"c": entry})
    assert list(network.logic) == ["product", "product", "mechanism"]


GENES = pd.DataFrame({"base": [1.0, 2.0, 3.0]}, index=list("abc"))


@pytest.mark.parametrize(
    ("edges", "genes", "parts"),
    [
        (table(target=["b", "c", "a"]), None, ("cycle, ", "a -> b -> a")),
        (table(target=["b", "c", "z"]), GENES, ("target 'z'", "isn't in genes")),
        (table(regulator=["a", "z", "b"]), GENES, ("regulator 'z'", "isn't in genes")),
        (table(regulator=["a", "a", "a"]), GENES, ("a -> c is there twice",)),
        (table().iloc[[0, 1, 2, 1]], GENES, ("a -> c is there twice",)),
        (table(cell_type=["", "", ""]).iloc[[0, 0]], GENES, ("a -> b is there twice",)),
        (table(regulator=["a", None, "b"]), GENES, ("regulator is missing in row 1",)),
        (table(target=["b", "c", np.nan]), GENES, ("target is missing in row 2",)),
        (table(effect=[np.nan, 1, 2]), GENES, ("effect is missing in row 0",)),
        (table(effect=["strong", 1, 2]), GENES, ("effect = 'strong'", "number")),
        (table(effect=[1, np.inf, 2]), GENES, ("effect = inf", "from -30 to 30")),
        (table(half=["many", 1, 2]), GENES, ("half = 'many'", "number")),
        (table(half=[0, 1, 2]), GENES, ("half = 0", "from 1e-06 to")),
        (table(power=[1, "two", 2]), GENES, ("power = 'two'", "number")),
        (table(power=[1, -2, 2]), GENES, ("power = -2", "from 0.001 to")),
        (table().drop(columns="effect"), GENES, ("no column 'effect'", "regulator, target")),
        (table().drop(columns="target"), GENES, ("no column 'target'",)),
        (
            table(cell_type=["A", "B", "Z"]),
            pd.DataFrame({"base A": [1.0] * 3, "base B": [1.0] * 3}, index=list("abc")),
            ("cell_type of edges = 'Z'", "A, B"),
        ),
        (table(), GENES.assign(base=[1.0, np.nan, 2.0]), ("base", "nan")),
        (table(), GENES.assign(base=[1.0, "x", 2.0]), ("base", "'x'", "number")),
        (table(), GENES.assign(theta=[1.0, np.nan, 2.0]), ("theta", "nan")),
        (table(), GENES.assign(theta=["x", 1.0, 2.0]), ("theta", "'x'", "number")),
        (table(), GENES.assign(module=[0, np.nan, 2]), ("module", "nan")),
        (table(), GENES.assign(logic=["sum", np.nan, "or"]), ("logic of b = nan", "product")),
        (table(), GENES.assign(logic=["sum", "nor", "or"]), ("logic of b = 'nor'", "product")),
        (table(), GENES.set_axis(["a", "b", "b"]).set_axis([*"abc"]).iloc[[0, 1, 2, 2]],
         ("genes: 'c' is there twice",)),
        ("no such file.csv", None, ("no such file.csv", "no such file")),
        ("", None, ("edges = ''",)),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_in_one_line(edges, genes, parts):
    with pytest.raises(ValueError) as error:
        from_table(edges, genes)
    one_line(error, *parts)


def test_no_table_of_a_network_is_left_without_its_missing_row_in_a_csv(tmp_path):
    (tmp_path / "edges.csv").write_text("regulator,target,effect\na,b,1\na,,2\n")
    with pytest.raises(ValueError) as error:
        from_table(tmp_path / "edges.csv")
    one_line(error, "target is missing in row 1")


def test_published_names_of_columns_tabs_paths_and_no_edges_will_do(tmp_path):
    edges = pd.DataFrame({"source": ["01", "01"], "target": ["b", "c"], "weight": [1, -1]})
    edges.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    genes = pd.DataFrame({"gene": ["01", "b", "c", "d"], "base": [5.0, 6.0, 7.0, 8.0]})
    genes.to_csv(tmp_path / "genes.csv", index=False)
    network = from_table(tmp_path / "edges.tsv", str(tmp_path / "genes.csv"))
    assert list(network.genes) == ["01", "b", "c", "d"] and list(network.effect) == [1, -1]
    assert list(network.base[:, 0]) == [5, 6, 7, 8]
    none = from_table(edges.iloc[:0], genes.set_index("gene"))
    assert len(none.effect) == 0 and len(none.generations) == 1


def test_programs_are_loadings_by_gene():
    edges = pd.DataFrame({"regulator": ["a"], "target": ["b"], "effect": [1.0]})
    programs = pd.DataFrame([[0.3, 0.1, 0.0]], index=["b"], columns=["cycle", "cycle", "stress"])
    network = from_table(edges, programs=programs)
    np.testing.assert_array_equal(network.loadings, [[0, 0, 0], [0.3, 0.1, 0.0]])
    assert network.program_columns == {"cycle": [0, 1], "stress": [2]}
    with pytest.raises(ValueError) as error:
        from_table(edges, programs=programs.rename(index={"b": "z"}))
    one_line(error, "programs", "'z'")
