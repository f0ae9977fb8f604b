"""The figures of the notebooks: one file a figure, tables in, a matplotlib figure out."""
