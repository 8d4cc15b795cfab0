"""Schema changes of the source: what becomes of one between its capture and the destinations."""
