"""From receipts of destinations to the position the source may forget."""
