"""Cells whose true law is known: drawn, written, and asked for it."""
