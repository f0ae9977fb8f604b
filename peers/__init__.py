"""Published models, as their authors' packages have them, in an environment of their own: `./run_all.sh peers`."""
