"""A network's arrays, its graph, and what it refuses."""

import dataclasses
from itertools import pairwise

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from lib import dataset
from lib.simulate.grn import GRN
from tests.agreement import one_line
from tests.simulate.networks import EDGES, GENES, TYPES, of_edges, six

network = six()


def graph_of(cell_type):
    """The graph of the edges as they are written by hand."""
    graph = nx.DiGraph()
    graph.add_nodes_from(GENES)
    place = None if cell_type is None else TYPES.index(cell_type)
    graph.add_edges_from(e[:2] for e in EDGES if place is None or e[5][place])
    return graph


@pytest.mark.parametrize("cell_type", [None, *TYPES])
def test_reached_are_a_gene_and_its_descendants(cell_type):
    graph = graph_of(cell_type)
    for genes in [[gene] for gene in GENES] + [["c d", "é"], ["e", "b+"]]:
        expected = set(genes).union(*(nx.descendants(graph, gene) for gene in genes))
        found = network.reached(genes, cell_type)
        assert {gene for gene, is_so in zip(GENES, found) if is_so} == expected


def test_reached_of_a_drawn_network_is_what_networkx_finds():
    drawn = dataset.grn.draw(60, 12, n_cell_types=2, divergence=0.5, seed=3)
    for name in (None, "A", "B"):
        graph = nx.DiGraph()
        graph.add_nodes_from(range(60))
        acts = drawn.acts.any(axis=1) if name is None else drawn.acts[:, "AB".index(name)]
        graph.add_edges_from(zip(drawn.regulator[acts], drawn.target[acts]))
        for place in drawn.regulators[::3].tolist():
            found = np.flatnonzero(drawn.reached([drawn.genes[place]], name)).tolist()
            assert set(found) == {place} | nx.descendants(graph, place)


def test_generations_are_those_of_networkx():
    expected = [sorted(generation) for generation in nx.topological_generations(graph_of(None))]
    places = [sorted(GENES[i] for i in generation) for generation in network.generations]
    assert places == expected
    depth = network.gene_table()["depth"]
    for gene in GENES:
        paths = (nx.all_simple_paths(graph_of(None), other, gene) for other in GENES)
        lengths = [len(path) - 1 for of_one in paths for path in of_one]
        assert depth[gene] == max(lengths, default=0)


@pytest.mark.parametrize("cell_type", [None, *TYPES])
def test_digraph_has_the_genes_edges_and_their_values(cell_type):
    graph = network.digraph(cell_type)
    assert nx.utils.graphs_equal(nx.DiGraph(graph_of(cell_type)), nx.DiGraph(bare(graph)))
    for regulator, target, *values, _ in EDGES:
        if graph.has_edge(regulator, target):
            names = ("effect", "half", "power")
            assert [graph.edges[regulator, target][name] for name in names] == values
    assert graph.nodes["d"]["logic"] == "sum" and graph.nodes["d"]["depth"] == 2
    assert graph.nodes["e"][f"base {TYPES[1]}"] == 9.0


def bare(graph):
    """The graph without attributes."""
    copy = nx.DiGraph()
    copy.add_nodes_from(graph)
    copy.add_edges_from(graph.edges)
    return copy


def test_arrays_can_not_be_written_to_and_are_no_ones_else():
    theta = np.full(6, 2.0)
    own = network.replace(theta=theta)
    theta[:] = 9.0
    assert own.theta.shape == (6, 2) and (own.theta == 2.0).all() and (network.theta != 2.0).any()
    for field in dataclasses.fields(GRN)[:-1]:
        with pytest.raises(ValueError, match="read-only"):
            getattr(network, field.name)[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.theta = theta


def test_arrays_give_the_network_back():
    entry = {"mechanism": "linear", "parameters": {"weights": np.array([0.5, 2.0])}}
    logic = ["product", "product", "product", "mechanism", "or", "product"]
    own = six(logic=logic, mechanisms={"d": entry})
    back = GRN.from_arrays(own.as_arrays())
    for field in dataclasses.fields(GRN)[:-1]:
        np.testing.assert_array_equal(getattr(back, field.name), getattr(own, field.name))
    assert back.mechanisms["d"]["mechanism"] == "linear"
    np.testing.assert_array_equal(back.mechanisms["d"]["parameters"]["weights"], [0.5, 2.0])


@pytest.mark.parametrize(
    "edges",
    [[("a", "a")], [("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]],
)
def test_a_cycle_is_refused_and_named_in_its_order(edges):
    with pytest.raises(ValueError) as error:
        of_edges([(*ends, 1.0) for ends in edges], dict.fromkeys("abcd", 5.0))
    one_line(error, "edges: have a cycle, ", "must have none")
    cycle = str(error.value).partition("cycle, ")[2].partition(";")[0].split(" -> ")
    assert cycle[0] == cycle[-1] and set(pairwise(cycle)) <= set(edges)


def test_a_cycle_over_two_cell_types_is_one_too():
    acts = np.eye(2, dtype=bool)
    two = {"cell_types": ["A", "B"], "acts": acts, "base": np.full((2, 2), 5.0)}
    with pytest.raises(ValueError) as error:
        of_edges([("a", "b", 1.0), ("b", "a", 1.0)], {"a": 5.0, "b": 5.0}, **two)
    one_line(error, "edges: have a cycle")


ENTRY = {"mechanism": "linear", "parameters": {}}
OWN = ["product", "product", "product", "mechanism", "or", "product"]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"theta": [1.0] * 5}, ("theta: shape (5, 2)", "must be (6, 2)")),
        ({"acts": np.ones((6, 3), bool)}, ("acts: shape (6, 3)", "(6, 2)")),
        ({"loadings": np.zeros((6, 2))}, ("loadings: shape (6, 2)", "(6, 3)")),
        ({"genes": ["a", "b", "c", "d", "e", "a"]}, ("genes: 'a' is there twice",)),
        ({"cell_types": ["A", "A"]}, ("cell_types: 'A' is there twice",)),
        ({"theta": [1, 2, 3, 0, 5, 6]}, ("theta = 0", "from 0.0001 to")),
        ({"half": [1, 2, 3, 4, 5, -1]}, ("half = -1", "from 1e-06 to")),
        ({"power": [1, 2, 3, np.inf, 5, 6]}, ("power = inf", "to 100")),
        ({"effect": [1, 2, 3, np.nan, 5, 6]}, ("effect = nan", "from -30 to 30")),
        ({"base": np.full((6, 2), -0.5)}, ("base = -0.5", "from 0 to")),
        ({"regulator": [0, 0, 1, 2, 3, 6]}, ("regulator", "0 to 5")),
        ({"target": [1, 2, 3, 3, 4, -1]}, ("target", "0 to 5")),
        ({"regulator": [0, 0, 1, 1, 3, 5]}, ("edges: b+ -> d", "twice")),
        ({"logic": ["xor"] * 6}, ("logic of HLA-A/B = 'xor'", "product, sum, and, or")),
        ({"logic": OWN}, ("logic of d = 'mechanism'", "where it has one")),
        ({"mechanisms": {"d": ENTRY}}, ("logic of d = 'sum'", "'mechanism'")),
        ({"mechanisms": {"z": ENTRY}}, ("mechanisms = 'z'", "HLA-A/B")),
        ({"logic": OWN, "mechanisms": {"d": ENTRY | {"mechanism": "no"}}}, ("mechanism = 'no'",)),
    ],
)
def test_arrays_that_can_not_be_are_refused_in_one_line(changes, parts):
    with pytest.raises(ValueError) as error:
        six(**changes)
    one_line(error, *parts)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: network.reached(["nope"]), ("'nope'", "HLA-A/B ... é")),
        (lambda: network.reached(["d"], "B"), ("cell_type = 'B'", "CD45RA")),
        (lambda: network.digraph("B"), ("cell_type = 'B'", "CD45RA")),
    ],
)
def test_names_that_it_has_not_are_refused_in_one_line(call, parts):
    with pytest.raises(ValueError) as error:
        call()
    one_line(error, *parts)


def test_edges_of_one_pair_may_differ_between_cell_types():
    two = {"cell_types": ["A", "B"], "acts": np.eye(2, dtype=bool), "base": np.full((2, 2), 5.0)}
    pair = of_edges([("a", "b", 1.0), ("a", "b", -1.0)], {"a": 5.0, "b": 5.0}, **two)
    effects = [pair.digraph(name).edges["a", "b"]["effect"] for name in "AB"]
    assert effects == [1.0, -1.0]
    assert isinstance(pair.edge_table(), pd.DataFrame) and len(pair.edge_table()) == 2
