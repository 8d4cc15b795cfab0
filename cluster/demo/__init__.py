"""The demonstration: a small shop, a live workload on it, and the proof that every destination equals it."""
