"""What is done to changes between the stream and a destination's tables; pure functions over Arrow tables."""
