"""Networks of counts, and what trains them."""
