"""Published models, by their authors' packages, in an environment of their own.

`./run_all.sh peers` installs it and runs them.
"""
