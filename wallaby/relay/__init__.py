"""The source's loop: replication stream in, windows out, receipts back, checkpoint, confirmation to the slot."""
