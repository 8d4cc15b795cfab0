"""The gRPC API: services over the control store, and the only reader of `wallaby.v1` besides the command line."""
