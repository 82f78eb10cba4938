"""How a message travels: store, routes, brokers, relay, worker, retry and replay."""
