"""wallaby: PostgreSQL change data capture on Ray, in Arrow, exactly once."""
