"""The groups of the sink contract; `wallaby.testing.sink_contract` puts them together."""
