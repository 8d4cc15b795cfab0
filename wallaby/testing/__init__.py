"""What somebody who writes a sink, or tests a flow, needs: the sink contract, test data, and a reference sink."""
