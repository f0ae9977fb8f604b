"""One benchmark, or a part of one that needs a process of its own: see `benchmarks.cases`."""

import sys

from benchmarks.cases import CASES, data, networks, screens

name, *arguments = sys.argv[1:]
if name == "write_once":
    data.write_once(int(arguments[0]), arguments[1])
elif name == "write_network_once":
    screens.write_network_once(int(arguments[0]), arguments[1])
elif name == "train_once":
    networks.train_once(arguments[0])
else:
    CASES[name](float(arguments[0]))
