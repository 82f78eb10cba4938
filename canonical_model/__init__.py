"""What is said: the canonical model and the message envelope. No input or output happens here."""
