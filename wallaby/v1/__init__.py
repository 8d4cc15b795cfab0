"""Generated from ``proto/wallaby/v1`` by ``make proto``; do not edit."""
