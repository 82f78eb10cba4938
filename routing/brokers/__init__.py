"""The brokers that carry parcels from the outbox to the workers."""
