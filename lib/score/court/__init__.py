"""The court: what published metrics say of predictions whose exact risk is known."""
