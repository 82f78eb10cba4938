"""What every payment rail shares: the contract, the driver that moves transfers, orders on their way into the ledger, amounts."""
